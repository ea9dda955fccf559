//! The bounded pool of threads that run host code (R18).
//!
//! The pool keeps one thread idle until it has its full size, so that a call never waits for one that blocks. A
//! thread whose call is past its deadline is written off: another takes its place, up to a cap, and it joins
//! again if it ever returns to a pool that lacks it. A thread that waits for an answer of the hub gives its place
//! away while it waits. A pool without threads is polled: the program's own threads do the work.

use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Condvar, Mutex};

use super::blocked::Blocked;
use super::call::{HostCall, HostDecision};
use super::queue::{HostItem, HostQueue};
use crate::hub::Flag;
use crate::observe::HookEvent;
use crate::time::Timestamp;

/// Most threads that may be written off at once; the pool shrinks beyond it.
pub(crate) const MAX_WRITTEN_OFF: usize = 64;
/// How often calls are compared with their deadlines while some run.
const WATCH_BUSY: Duration = Duration::from_millis(100);
/// How often when none does.
const WATCH_IDLE: Duration = Duration::from_secs(1);
/// How long a task may hold its thread before it is replaced.
const TASK_LIMIT: Duration = Duration::from_secs(60);
/// A wait for the next call; the end of the queue cuts it short.
const PULL: Duration = Duration::from_secs(3600);

/// What the threads do with a call.
pub(crate) trait Work: Send + Sync {
    /// Runs host code and completes the call.
    fn perform(&self, call: HostCall, worker: &Worker);

    /// Has a strategy of the host decide.
    fn decide(&self, decision: &HostDecision);

    /// Tells the observers of a hook; only polled pools pull hooks.
    fn observe(&self, event: HookEvent);

    /// Tells that a call is past its deadline and holds its thread for so long already.
    fn tell_blocked(&self, blocked: Duration);
}

/// What became of a poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    /// Something was done.
    Worked,
    /// Nothing came in time.
    Nothing,
    /// The hub ended; nothing comes any more.
    Closed,
}

/// Not in host code.
const RESTING: u64 = 0;
/// Past its deadline.
const WRITTEN_OFF: u64 = 1;
/// Waiting for the hub, on nobody's place.
const BLOCKED: u64 = 2;

/// One thread of the pool. Its state is one of the numbers above, or the deadline of its call.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    state: AtomicU64,
    /// Counts the calls, to tell one long call from many short ones.
    turns: AtomicU64,
}

impl Worker {
    /// The thread enters host code that should return by `deadline`. One that was written off stays so.
    pub(crate) fn begin(&self, deadline: Timestamp) {
        let deadline = deadline.0.max(BLOCKED + 1);
        self.turns.fetch_add(1, Ordering::Relaxed);
        let _ = (self.state)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state != WRITTEN_OFF).then_some(deadline));
    }

    fn is_in_host_code(&self) -> bool {
        self.state.load(Ordering::Acquire) > BLOCKED
    }

    pub(crate) fn is_written_off(&self) -> bool {
        self.state.load(Ordering::Acquire) == WRITTEN_OFF
    }

    /// The number of the call it is in, unless it rests.
    pub(crate) fn turn(&self) -> Option<u64> {
        let is_in_call = self.is_in_host_code() || self.is_written_off();
        is_in_call.then(|| self.turns.load(Ordering::Relaxed))
    }

    /// Writes the thread off if it is past its deadline.
    pub(super) fn write_off(&self, now: Timestamp) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state > BLOCKED
            && state < now.0
            && (self.state).compare_exchange(state, WRITTEN_OFF, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// Threads that hold one of the pool's places: idle or in host code.
    active: usize,
    written_off: usize,
    /// Threads that have not ended.
    live: usize,
    is_closing: bool,
}

/// The pool. Its threads share it.
pub(crate) struct Pool {
    queue: HostQueue,
    work: Arc<dyn Work>,
    places: usize,
    idle: AtomicUsize,
    /// More active threads than places: so many end after their calls.
    surplus: AtomicUsize,
    counts: Mutex<Counts>,
    ended: Condvar,
    workers: Mutex<Vec<Arc<Worker>>>,
    closing: Flag,
}

thread_local! {
    static CURRENT: RefCell<Option<(Arc<Pool>, Arc<Worker>)>> = const { RefCell::new(None) };
}

/// Runs `wait`, which blocks for an answer of the hub; if this is a thread of a pool, another one may take its
/// place meanwhile.
pub fn while_blocked<T>(wait: impl FnOnce() -> T) -> T {
    let Some((pool, worker)) = CURRENT.with(|current| current.borrow().clone()) else {
        return wait();
    };
    let before = worker.state.load(Ordering::Acquire);
    let has_place = before > BLOCKED
        && (worker.state).compare_exchange(before, BLOCKED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if !has_place {
        return wait();
    }
    pool.give_place();
    let result = wait();
    pool.take_place();
    worker.state.store(before, Ordering::Release);
    result
}

impl Pool {
    /// Starts the first thread and the watch; neither, if there are no places: such a pool is polled.
    pub(crate) fn start(queue: HostQueue, places: usize, work: Arc<dyn Work>) -> Arc<Self> {
        let pool = Arc::new(Self {
            queue,
            work,
            places,
            idle: AtomicUsize::new(0),
            surplus: AtomicUsize::new(0),
            counts: Mutex::default(),
            ended: Condvar::new(),
            workers: Mutex::default(),
            closing: Flag::default(),
        });
        if places > 0 {
            pool.grow();
            pool.spawn_counted("process-hub-watch", Self::watch);
        }
        pool
    }

    /// Does the next thing on the calling thread, waiting for it at most `timeout`, or until the other end of
    /// `gone` is dropped.
    pub(crate) fn poll(&self, timeout: Duration, gone: &Receiver<Infallible>) -> Polled {
        match self.queue.next_unless(timeout, gone) {
            Some(HostItem::Closed) => Polled::Closed,
            Some(item) => {
                self.serve(item, &Worker::default());
                Polled::Worked
            }
            None => Polled::Nothing,
        }
    }

    fn serve(&self, item: HostItem, worker: &Worker) {
        match item {
            HostItem::Call(call) => {
                worker.begin(call.deadline);
                self.work.perform(call, worker);
            }
            HostItem::Decide(decision) => {
                worker.begin(decision.deadline);
                self.work.decide(&decision);
            }
            HostItem::Task(task) => {
                worker.begin(crate::hub::now() + TASK_LIMIT);
                if catch_unwind(AssertUnwindSafe(|| task.run())).is_err() {
                    tracing::warn!(target: "process_hub::host", "a task panicked");
                }
            }
            HostItem::Hook(event) => self.work.observe(event),
            // This host begins no operation by `request_notify`.
            HostItem::Completed(..) | HostItem::Closed => {}
        }
    }

    /// Threads that have not ended.
    #[cfg(test)]
    pub(crate) fn live(&self) -> usize {
        self.counts.lock().live
    }

    /// Threads that are written off.
    #[cfg(test)]
    pub(crate) fn written_off(&self) -> usize {
        self.counts.lock().written_off
    }

    /// Runs `body` on a thread of its own that the end of the pool waits for. Says whether it began.
    pub(crate) fn spawn_counted(self: &Arc<Self>, name: &str, body: impl FnOnce(&Arc<Self>) + Send + 'static) -> bool {
        self.counts.lock().live += 1;
        let pool = Arc::clone(self);
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
            body(&pool);
            pool.counts.lock().live -= 1;
            pool.ended.notify_all();
        });
        if let Err(error) = &spawned {
            self.counts.lock().live -= 1;
            tracing::error!(target: "process_hub::host", %error, thread = name, "a thread did not start");
        }
        spawned.is_ok()
    }

    /// Ends the idle threads, and the others after their calls.
    pub(crate) fn close(&self) {
        self.counts.lock().is_closing = true;
        self.closing.set();
        self.queue.close();
    }

    /// Waits until every thread ended, at most `timeout`; says whether they did. One that is written off may never end
    /// and is not waited for.
    pub(crate) fn join(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let mut counts = self.counts.lock();
        while counts.live > counts.written_off {
            if self.ended.wait_until(&mut counts, until).timed_out() {
                break;
            }
        }
        counts.live == 0
    }

    /// Adds a thread if there is a place for it.
    fn grow(self: &Arc<Self>) {
        {
            let mut counts = self.counts.lock();
            let is_full = counts.active >= self.places || counts.written_off > MAX_WRITTEN_OFF;
            if is_full || counts.is_closing {
                return;
            }
            counts.active += 1;
        }
        let worker = Arc::new(Worker::default());
        self.workers.lock().push(Arc::clone(&worker));
        // Counted before it runs, so that two calls in a row do not both find nobody idle.
        self.idle.fetch_add(1, Ordering::AcqRel);
        let own = Arc::clone(&worker);
        if !self.spawn_counted("process-hub-host", move |pool| pool.work(&own)) {
            self.idle.fetch_sub(1, Ordering::AcqRel);
            self.counts.lock().active -= 1;
            self.forget(&worker);
        }
    }

    fn forget(&self, worker: &Arc<Worker>) {
        self.workers.lock().retain(|other| !Arc::ptr_eq(other, worker));
    }

    fn work(self: &Arc<Self>, worker: &Arc<Worker>) {
        CURRENT.set(Some((Arc::clone(self), Arc::clone(worker))));
        loop {
            let item = self.queue.next_call(PULL);
            let others_idle = self.idle.fetch_sub(1, Ordering::AcqRel) - 1;
            match item {
                Some(HostItem::Closed) => {
                    self.counts.lock().active -= 1;
                    break;
                }
                Some(item) => {
                    if others_idle == 0 {
                        self.grow();
                    }
                    self.serve(item, worker);
                    if !self.has_place_after_call(worker) {
                        self.queue.leave_to_others();
                        break;
                    }
                }
                None => {}
            }
            self.idle.fetch_add(1, Ordering::AcqRel);
        }
        self.forget(worker);
        CURRENT.set(None);
    }

    /// Whether the thread goes on: a written-off one only if its place was not filled.
    fn has_place_after_call(&self, worker: &Worker) -> bool {
        let was_written_off = worker.state.swap(RESTING, Ordering::AcqRel) == WRITTEN_OFF;
        if !was_written_off && self.surplus.load(Ordering::Acquire) == 0 {
            return true;
        }
        let mut counts = self.counts.lock();
        if was_written_off {
            counts.written_off -= 1;
            counts.active += 1;
        }
        let goes_on = counts.active <= self.places;
        if !goes_on {
            counts.active -= 1;
        }
        self.note_surplus(&counts);
        goes_on
    }

    fn note_surplus(&self, counts: &Counts) {
        let surplus = counts.active.saturating_sub(self.places);
        self.surplus.store(surplus, Ordering::Release);
    }

    fn give_place(self: &Arc<Self>) {
        let mut counts = self.counts.lock();
        counts.active -= 1;
        self.note_surplus(&counts);
        drop(counts);
        if self.idle.load(Ordering::Acquire) == 0 {
            self.grow();
        }
    }

    fn take_place(&self) {
        let mut counts = self.counts.lock();
        counts.active += 1;
        self.note_surplus(&counts);
    }

    fn watch(self: &Arc<Self>) {
        let mut blocked = Blocked::default();
        loop {
            let is_busy = self.workers.lock().iter().any(|worker| worker.is_in_host_code());
            if self.closing.wait(if is_busy { WATCH_BUSY } else { WATCH_IDLE }) {
                return;
            }
            let now = crate::hub::now();
            self.write_off_overdue(now);
            let workers = self.workers.lock().clone();
            for time in blocked.look(now, &workers) {
                self.work.tell_blocked(time);
            }
        }
    }

    fn write_off_overdue(self: &Arc<Self>, now: Timestamp) {
        let overdue = {
            // The counts are locked first, so that a thread that returns meanwhile finds itself counted.
            let mut counts = self.counts.lock();
            let workers = self.workers.lock();
            let overdue = workers.iter().filter(|worker| worker.write_off(now)).count();
            counts.written_off += overdue;
            counts.active -= overdue;
            overdue
        };
        for _ in 0..overdue {
            tracing::warn!(target: "process_hub::host", "a callback did not return in time; its thread is replaced");
            self.grow();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("places", &self.places).field("counts", &self.counts).finish_non_exhaustive()
    }
}
