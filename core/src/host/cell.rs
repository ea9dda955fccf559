//! One instance of a Rust child: the child itself, and what its context reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::call::{HostCall, InstanceEvent, StartContext};
use super::child::Child;
use super::queue::HostQueue;
use crate::hub::{Handle, Hub, Requests};
use crate::ids::{CallNumber, Epoch, InstanceId};
use crate::spec::Mode;

/// What every instance of a hub may use.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) queue: HostQueue,
    pub(crate) requests: Arc<Requests>,
    pub(crate) hub: OnceLock<Weak<Handle>>,
}

/// The child, while no thread has it, and the calls that came while one had it.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) child: Option<Box<dyn Child>>,
    pub(crate) waiting: VecDeque<HostCall>,
    /// The instance ended: nothing is put back.
    pub(crate) is_gone: bool,
}

/// One instance.
pub(crate) struct Cell {
    id: InstanceId,
    start: Arc<StartContext>,
    services: Arc<Services>,
    epoch: AtomicU64,
    is_active: AtomicBool,
    last_run: AtomicU64,
    /// The highest cancellation, by the number of its call. Calls may be performed out of order by two threads;
    /// their numbers keep the order in which they were issued.
    last_cancel: Mutex<u64>,
    cancelled: Condvar,
    pub(crate) slot: Mutex<Slot>,
}

impl Cell {
    pub(crate) fn new(id: InstanceId, start: Arc<StartContext>, services: Arc<Services>) -> Self {
        Self {
            id,
            epoch: AtomicU64::new(start.epoch.0),
            is_active: AtomicBool::new(start.mode == Mode::Active),
            last_run: AtomicU64::new(0),
            last_cancel: Mutex::new(0),
            cancelled: Condvar::new(),
            slot: Mutex::default(),
            start,
            services,
        }
    }

    pub(crate) fn id(&self) -> InstanceId {
        self.id
    }

    pub(crate) fn start(&self) -> &StartContext {
        &self.start
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.services.requests
    }

    pub(crate) fn queue(&self) -> &HostQueue {
        &self.services.queue
    }

    pub(crate) fn hub(&self) -> Option<Hub> {
        let handle = self.services.hub.get()?.upgrade()?;
        Some(Hub { handle })
    }

    pub(crate) fn tell(&self, event: InstanceEvent) {
        self.services.queue.instance_event(self.id, event);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Epochs only rise.
    pub(crate) fn raise_epoch(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }

    pub(crate) fn mode(&self) -> Mode {
        if self.is_active.load(Ordering::Acquire) { Mode::Active } else { Mode::Passive }
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.is_active.store(mode == Mode::Active, Ordering::Release);
    }

    pub(crate) fn begin_run(&self, run: CallNumber) {
        self.last_run.fetch_max(run.0, Ordering::AcqRel);
    }

    /// Asks every body begun before this call to return.
    pub(crate) fn cancel(&self, by: CallNumber) {
        let mut last = self.last_cancel.lock();
        *last = by.0.max(*last);
        drop(last);
        self.cancelled.notify_all();
    }

    /// Whether the body begun by `run` shall return; of any body when `None`.
    pub(crate) fn is_cancelled(&self, run: Option<CallNumber>) -> bool {
        *self.last_cancel.lock() > self.run_number(run)
    }

    pub(crate) fn wait_cancelled(&self, run: Option<CallNumber>, timeout: Duration) -> bool {
        let until = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let run = self.run_number(run);
        let mut last = self.last_cancel.lock();
        while *last <= run {
            if self.cancelled.wait_until(&mut last, until).timed_out() {
                break;
            }
        }
        *last > run
    }

    fn run_number(&self, run: Option<CallNumber>) -> u64 {
        run.map_or_else(|| self.last_run.load(Ordering::Acquire), |run| run.0)
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell").field("id", &self.id).field("child", &self.start.spec.id).finish_non_exhaustive()
    }
}
