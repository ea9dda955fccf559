//! Observers and interceptors written in Rust.
//!
//! Observers run on one thread of their own (of a polled hub: on the threads that poll), in order of priority and then of registration, each isolated: a
//! panic is logged and the next one runs. Events wait in a bounded queue; above its bound they are dropped and
//! counted (R17), so a slow observer delays nobody but the observers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Mutex, RwLock};

use super::Flag;
use crate::error::{Error, ErrorKind};
use crate::host::call::HostFailure;
use crate::ids::NodeName;
use crate::observe::{HookEvent, HookName};
use crate::spec::ChildSpec;

/// Most events that may wait for the observers.
const MAX_WAITING_EVENTS: usize = 4_096;

/// Called with each firing of the hook it was registered for.
pub type Observer = Arc<dyn Fn(&HookEvent) + Send + Sync>;
/// May change a spec before its start, given where it will be started.
pub type Interceptor = Arc<dyn Fn(ChildSpec, &[NodeName]) -> Result<ChildSpec, HostFailure> + Send + Sync>;

struct Entry<H> {
    hook: HookName,
    id: String,
    priority: i32,
    handler: H,
}

/// Keeps the order: higher priority first, then the order of registration. The same id replaces.
fn insert<H>(entries: &mut Vec<Entry<H>>, entry: Entry<H>) {
    entries.retain(|other| other.hook != entry.hook || other.id != entry.id);
    let at = entries.partition_point(|other| other.priority >= entry.priority);
    entries.insert(at, entry);
}

#[derive(Default)]
struct Handlers {
    observers: RwLock<Vec<Entry<Observer>>>,
    interceptors: RwLock<Vec<Entry<Interceptor>>>,
}

impl Handlers {
    fn observe(&self, event: &HookEvent) {
        let observers: Vec<Observer> = (self.observers.read().iter())
            .filter(|entry| entry.hook == event.name)
            .map(|entry| Arc::clone(&entry.handler))
            .collect();
        for observer in observers {
            if catch_unwind(AssertUnwindSafe(|| observer(event))).is_err() {
                tracing::warn!(target: "process_hub::hooks", hook = %event.name, "an observer panicked");
            }
        }
    }
}

/// The handlers of one hub.
#[derive(Default)]
pub(crate) struct Observers {
    /// Has no thread: the host queue delivers the events.
    is_polled: bool,
    handlers: Arc<Handlers>,
    events: Mutex<Option<Sender<HookEvent>>>,
    /// Set when the thread ended; none without one.
    ended: Mutex<Option<Flag>>,
    dropped: AtomicU64,
}

impl Observers {
    /// Handlers without a thread.
    pub(crate) fn polled() -> Self {
        Self { is_polled: true, ..Self::default() }
    }

    /// Tells the handlers of an event, on the calling thread.
    pub(crate) fn observe(&self, event: &HookEvent) {
        self.handlers.observe(event);
    }

    /// The hooks the host queue shall deliver, as bits.
    pub(crate) fn polled_bits(&self) -> u64 {
        if self.is_polled { self.bits() } else { 0 }
    }

    /// Adds an observer; the first one starts the thread.
    pub(crate) fn on(&self, hook: HookName, id: String, priority: i32, handler: Observer) -> Result<(), Error> {
        let mut events = self.events.lock();
        if events.is_none() && !self.is_polled {
            let (sender, receiver) = bounded::<HookEvent>(MAX_WAITING_EVENTS);
            let handlers = Arc::clone(&self.handlers);
            let ended = Flag::default();
            let end = ended.clone();
            std::thread::Builder::new()
                .name("process-hub-hooks".into())
                .spawn(move || {
                    for event in receiver {
                        handlers.observe(&event);
                    }
                    drop(handlers);
                    end.set();
                })
                .map_err(|error| {
                    let message = format!("the thread of the observers did not start: {error}");
                    Error::new(ErrorKind::Internal, "on", message)
                })?;
            *events = Some(sender);
            *self.ended.lock() = Some(ended);
        }
        drop(events);
        let entry = Entry { hook, id, priority, handler };
        insert(&mut self.handlers.observers.write(), entry);
        Ok(())
    }

    /// Adds an interceptor of `child_data_alter`.
    pub(crate) fn intercept(&self, id: String, priority: i32, handler: Interceptor) {
        let entry = Entry { hook: HookName::ChildDataAlter, id, priority, handler };
        insert(&mut self.handlers.interceptors.write(), entry);
    }

    /// Removes a handler; says whether there was one.
    pub(crate) fn off(&self, hook: HookName, id: &str) -> bool {
        let mut count = 0;
        let mut observers = self.handlers.observers.write();
        observers.retain(|entry| {
            let is_it = entry.hook == hook && entry.id == id;
            count += usize::from(is_it);
            !is_it
        });
        drop(observers);
        let mut interceptors = self.handlers.interceptors.write();
        interceptors.retain(|entry| {
            let is_it = entry.hook == hook && entry.id == id;
            count += usize::from(is_it);
            !is_it
        });
        count > 0
    }

    /// The hooks that have handlers, as bits.
    pub(crate) fn bits(&self) -> u64 {
        let observers = self.handlers.observers.read();
        let interceptors = self.handlers.interceptors.read();
        (observers.iter().map(|entry| entry.hook))
            .chain(interceptors.iter().map(|entry| entry.hook))
            .fold(0, |bits, hook| bits | hook.bit())
    }

    /// Passes an event to the observers' thread.
    pub(crate) fn fire(&self, event: HookEvent) {
        let events = self.events.lock();
        let refused = events.as_ref().is_some_and(|sender| sender.try_send(event).is_err());
        if refused {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events dropped because the observers were too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Runs the interceptors, each on what the one before made of the spec.
    pub(crate) fn alter(&self, spec: ChildSpec, nodes: &[NodeName]) -> Result<ChildSpec, HostFailure> {
        let interceptors: Vec<Interceptor> =
            (self.handlers.interceptors.read().iter()).map(|entry| Arc::clone(&entry.handler)).collect();
        (interceptors.iter()).try_fold(spec, |spec, interceptor| interceptor(spec, nodes))
    }

    /// Ends the observers' thread once it told what waits.
    pub(crate) fn close(&self) {
        *self.events.lock() = None;
    }

    /// Waits until the thread ended, at most `timeout`, and forgets the handlers. One that still runs is dropped
    /// when it returns.
    pub(crate) fn join(&self, timeout: Duration) {
        self.close();
        let ended = self.ended.lock().clone();
        if let Some(ended) = ended {
            ended.wait(timeout);
        }
        let observers = std::mem::take(&mut *self.handlers.observers.write());
        let interceptors = std::mem::take(&mut *self.handlers.interceptors.write());
        drop((observers, interceptors));
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}
