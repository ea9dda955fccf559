//! Answers that are still to come.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::clock::now;
use super::turns::{Role, Turns};
use crate::engine::Outcome;
use crate::error::{Error, ErrorKind};
use crate::host::pool::while_blocked;
use crate::host::queue::{HostItem, HostQueue};
use crate::ids::RequestId;
use crate::sync::Mutex;

/// How much later than its own deadline an answer may come before a wait for it gives up: the engine answers
/// `timeout` itself, unless its thread does not get to run.
const GRACE: Duration = Duration::from_secs(5);

/// No wait is longer; keeps sums of times in range.
const FOREVER: Duration = Duration::from_secs(86_400 * 365);

/// What an operation of the engine answered.
pub type Answer = Result<Outcome, Error>;

#[derive(Debug)]
enum SlotState {
    Open(Option<Waker>),
    Answered(Answer),
    Taken,
}

#[derive(Debug)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
}

impl Slot {
    fn is_open(&self) -> bool {
        matches!(*self.state.lock(), SlotState::Open(_))
    }

    /// Whether the answer is there; if not, `waker` is told when it is.
    pub(super) fn is_answered(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let is_open = matches!(*state, SlotState::Open(_));
        if is_open {
            *state = SlotState::Open(Some(waker.clone()));
        }
        !is_open
    }

    fn answer(&self, answer: Answer) {
        let before = std::mem::replace(&mut *self.state.lock(), SlotState::Answered(answer));
        if let SlotState::Open(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// Where an answer goes. Dropped unanswered, it answers `closed`.
#[derive(Debug)]
pub(crate) struct Sink {
    operation: &'static str,
    target: Option<Target>,
}

#[derive(Debug)]
enum Target {
    Slot(Arc<Slot>),
    Queue(RequestId, HostQueue),
    /// Nobody wants to know.
    Nobody,
}

impl Sink {
    /// Where an answer comes, and where it goes.
    pub(super) fn slot(operation: &'static str) -> (Arc<Slot>, Self) {
        let slot = Arc::new(Slot { state: Mutex::new(SlotState::Open(None)) });
        let sink = Self { operation, target: Some(Target::Slot(Arc::clone(&slot))) };
        (slot, sink)
    }

    pub(crate) fn queue(operation: &'static str, id: RequestId, queue: HostQueue) -> Self {
        Self { operation, target: Some(Target::Queue(id, queue)) }
    }

    pub(crate) fn nobody(operation: &'static str) -> Self {
        Self { operation, target: Some(Target::Nobody) }
    }

    /// The operation that waits.
    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    pub(crate) fn answer(mut self, answer: Answer) {
        self.deliver(answer);
    }

    /// Answers nothing: the caller was told in another way.
    pub(crate) fn forget(mut self) {
        self.target = None;
    }

    fn deliver(&mut self, answer: Answer) {
        match self.target.take() {
            Some(Target::Slot(slot)) => slot.answer(answer),
            Some(Target::Queue(id, queue)) => queue.push(HostItem::Completed(id, answer)),
            Some(Target::Nobody) | None => {}
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.target.is_some() {
            self.deliver(Err(closed(self.operation)));
        }
    }
}

/// The error of an operation on a hub that was stopped.
pub(crate) fn closed(operation: &str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the hub was stopped")
}

/// An answer that is still to come.
///
/// It can be waited for from any thread ([`Pending::wait`]), or awaited: it is a [`Future`] and needs no
/// particular runtime. Dropping it leaves the operation running and its answer unread.
#[must_use = "the answer tells whether the operation worked; drop it on purpose if that does not matter"]
pub struct Pending<T> {
    slot: Arc<Slot>,
    /// Where to stand by meanwhile; none when the answer is there from the beginning.
    turns: Option<Arc<Turns>>,
    id: RequestId,
    operation: &'static str,
    deadline: Instant,
    convert: fn(Outcome) -> Option<Result<T, Error>>,
    result: PhantomData<fn() -> T>,
}

impl<T> Pending<T> {
    /// An open answer and the sink it comes from.
    pub(crate) fn open(
        id: RequestId,
        operation: &'static str,
        timeout: Duration,
        convert: fn(Outcome) -> Option<Result<T, Error>>,
        turns: &Arc<Turns>,
    ) -> (Self, Sink) {
        let (slot, sink) = Sink::slot(operation);
        let pending = Self {
            slot,
            turns: Some(Arc::clone(turns)),
            id,
            operation,
            deadline: Instant::now() + timeout.saturating_add(GRACE).min(FOREVER),
            convert,
            result: PhantomData,
        };
        (pending, sink)
    }

    /// An answer that is there already: a refusal.
    pub(crate) fn refused(operation: &'static str, error: Error) -> Self {
        Self {
            slot: Arc::new(Slot { state: Mutex::new(SlotState::Answered(Err(error))) }),
            turns: None,
            id: RequestId(0),
            operation,
            deadline: Instant::now(),
            convert: |_| None,
            result: PhantomData,
        }
    }

    /// The number of the operation, for [`crate::hub::Hub::cancel`].
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// The operation's own; `timeout` when no answer came within the operation's timeout and a grace of 5 s.
    pub fn wait(mut self) -> Result<T, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (kind, operation) = (ErrorKind::Timeout, self.operation);
        self.wait_timeout(left).unwrap_or_else(|| {
            let message = "the hub's engine gave no answer in time";
            Err(Error::new(kind, operation, message).with_maybe_executed(true))
        })
    }

    /// Blocks until the answer is there, at most this long; `None` when it is not there yet, or was taken before.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T, Error>> {
        if self.slot.is_open()
            && let Some(turns) = &self.turns
        {
            let until = now() + timeout;
            let answered = |waker: &Waker| self.slot.is_answered(waker).then_some(());
            while_blocked(|| turns.stand_by(Role::Caller, until, answered));
        }
        let mut state = self.slot.state.lock();
        if matches!(*state, SlotState::Open(_)) {
            return None;
        }
        let before = std::mem::replace(&mut *state, SlotState::Taken);
        drop(state);
        match before {
            SlotState::Answered(answer) => Some(self.read(answer)),
            SlotState::Open(_) | SlotState::Taken => None,
        }
    }

    fn read(&self, answer: Answer) -> Result<T, Error> {
        let shape = || Error::new(ErrorKind::Internal, self.operation, "an answer of another shape");
        answer.and_then(|outcome| (self.convert)(outcome).unwrap_or_else(|| Err(shape())))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state.lock();
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Open(_) => {
                *state = SlotState::Open(Some(context.waker().clone()));
                Poll::Pending
            }
            SlotState::Answered(answer) => {
                drop(state);
                Poll::Ready(self.read(answer))
            }
            SlotState::Taken => {
                Poll::Ready(Err(Error::new(ErrorKind::Internal, self.operation, "the answer was taken before")))
            }
        }
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("id", &self.id).field("operation", &self.operation).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "loom")]
mod models;
#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;
