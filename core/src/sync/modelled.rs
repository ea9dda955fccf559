//! Loom's kind of each, and a clock that the models set.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam_channel::{SendError, TryRecvError};
pub(crate) use loom::sync::atomic;
use loom::sync::atomic::{AtomicIsize, Ordering};
pub(crate) use loom::thread_local;

use crate::time::Timestamp;

/// Runs a model. `LOOM_MAX_PREEMPTIONS` says how often a thread may be stopped between two steps of its own.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 10_000;
    builder.check(body);
}

/// A lock with the interface of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

const HELD: &str = "a guard holds its lock but while it waits";

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(HELD)
    }
}

/// A lock that is always free.
#[derive(Debug)]
pub(crate) struct Sole<T>(loom::sync::Mutex<T>);

impl<T> Sole<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.try_lock().expect("two threads at once have what one has alone")
    }
}

/// A condition variable with the interface of `parking_lot`, on which no wait ends by time.
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

pub(crate) struct NotTimedOut;

impl NotTimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> NotTimedOut {
        let held = guard.0.take().expect(HELD);
        guard.0 = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        NotTimedOut
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Not `loom::thread::park`: a thread of loom that waits for a lock must not be unparked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parker(Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>);

impl Parker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn park_until(&self, deadline: Timestamp) {
        if deadline != Timestamp::NEVER && !wake_at(deadline, self) {
            return;
        }
        let mut is_woken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_woken {
            is_woken = self.0.1.wait(is_woken).unwrap_or_else(PoisonError::into_inner);
        }
        *is_woken = false;
    }

    pub(crate) fn unpark(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
    }
}

#[derive(Default)]
struct Clock {
    now: Timestamp,
    sleepers: Vec<Parker>,
}

loom::lazy_static! {
    static ref CLOCK: Mutex<Clock> = Mutex::default();
}

/// Wakes the thread at this time; false when the time has come.
fn wake_at(deadline: Timestamp, parker: &Parker) -> bool {
    let mut clock = CLOCK.lock();
    let is_ahead = clock.now < deadline;
    if is_ahead {
        clock.sleepers.push(parker.clone());
    }
    is_ahead
}

/// The time of the model; it stands still until it is set.
pub(crate) fn now() -> Timestamp {
    CLOCK.lock().now
}

/// Sets the time of the model and wakes whoever waits for a time, as the operating system may at any moment.
pub(crate) fn set_time(now: Timestamp) {
    let mut clock = CLOCK.lock();
    clock.now = now;
    let sleepers = std::mem::take(&mut clock.sleepers);
    drop(clock);
    for sleeper in sleepers {
        sleeper.unpark();
    }
}

/// A channel that promises less than crossbeam's: that an item was sent is seen by others when the memory model says so.
pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let count = Arc::new(AtomicIsize::new(0));
    (Sender { sender, count: Arc::clone(&count) }, Receiver { receiver, count })
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    sender: crossbeam_channel::Sender<T>,
    count: Arc<AtomicIsize>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), count: Arc::clone(&self.count) }
    }
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.sender.send(item)?;
        self.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) <= 0
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    receiver: crossbeam_channel::Receiver<T>,
    count: Arc<AtomicIsize>,
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.is_empty() {
            return Err(TryRecvError::Empty);
        }
        let item = self.receiver.try_recv()?;
        self.count.fetch_sub(1, Ordering::AcqRel);
        Ok(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) <= 0
    }
}

/// What the models do not reach.
impl<T> Deref for Receiver<T> {
    type Target = crossbeam_channel::Receiver<T>;

    fn deref(&self) -> &Self::Target {
        &self.receiver
    }
}
