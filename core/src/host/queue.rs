//! The queue every language pulls from (A2).
//!
//! Bounds (R17): the engine keeps at most one call per instance in flight, `Run` and the immediate ones apart, so
//! calls are bounded by the instances; `Handle` calls that find [`MAX_WAITING_CALLS`] waiting are answered
//! `overloaded` without reaching the host. Decisions for strategies overtake all other calls: each is one for many
//! children, and has a short deadline; beyond [`MAX_WAITING_DECISIONS`] they are answered likewise. Hooks have a bound
//! of their own, [`MAX_WAITING_HOOKS`]: above it events are dropped and counted, so observers never delay calls.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, TryRecvError, TrySendError};
use parking_lot::Mutex;

use super::call::{HostAnswer, HostCall, HostDecision, HostFailure, HostRequest, InstanceEvent};
use crate::engine::Input;
use crate::error::ErrorKind;
use crate::hub::inputs::Inputs;
use crate::hub::now;
use crate::hub::pending::Answer;
use crate::hub::turns::Role;
use crate::ids::{CallNumber, InstanceId, RequestId};
use crate::observe::HookEvent;
use crate::sync;
use crate::time::Timestamp;

/// Most calls that may wait for the host before messages to children are refused.
pub const MAX_WAITING_CALLS: usize = 65_536;
/// Most decisions that may wait for the host.
pub const MAX_WAITING_DECISIONS: usize = 1_024;
/// Most hook events that may wait for the host.
pub const MAX_WAITING_HOOKS: usize = 4_096;
/// After so many calls in a row a hook event is served first, so that a busy hub still tells.
const HOOK_EVERY: u64 = 64;

/// One thing for the host to do or to know.
#[derive(Clone, Debug)]
pub enum HostItem {
    /// Do this, then [`HostQueue::complete`] it.
    Call(HostCall),
    /// Decide this, then [`HostQueue::complete`] it.
    Decide(HostDecision),
    /// The answer of an operation begun with [`crate::hub::Hub::request_notify`].
    Completed(RequestId, Answer),
    /// A hook fired.
    Hook(HookEvent),
    /// Run this; see [`crate::hub::Hub::run_on_host`].
    Task(HostTask),
    /// The hub ended; nothing comes any more. Every pulling thread gets it.
    Closed,
}

/// Something to run once, on a thread of the host.
#[derive(Clone)]
pub struct HostTask(Arc<Mutex<Option<Job>>>);

type Job = Box<dyn FnOnce() + Send>;

impl HostTask {
    /// Wraps what is to run.
    pub fn new(task: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(task)))))
    }

    /// Runs it, unless it ran before.
    pub fn run(&self) {
        let task = self.0.lock().take();
        if let Some(task) = task {
            task();
        }
    }
}

impl std::fmt::Debug for HostTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostTask").finish_non_exhaustive()
    }
}

/// Called when something was queued: wakes a host that waits for more than this queue. On any thread, so it must
/// only pass the word on.
pub type Doorbell = Box<dyn Fn() + Send + Sync>;

struct Shared {
    calls: sync::Receiver<HostItem>,
    calls_sender: sync::Sender<HostItem>,
    decisions: sync::Receiver<HostItem>,
    decisions_sender: sync::Sender<HostItem>,
    hooks: Receiver<HostItem>,
    hooks_sender: Sender<HostItem>,
    hooks_dropped: AtomicU64,
    served: AtomicU64,
    pulled: AtomicU64,
    /// Items of the last batch, which the host may not have come to yet.
    held: AtomicUsize,
    doorbell: OnceLock<Doorbell>,
    /// Until when the host may call children, in microseconds of the drivers' clock (R11).
    lease: AtomicU64,
    /// Calls up to this number are not made any more.
    fenced: AtomicU64,
    inputs: Inputs,
}

/// Whether a call lets a child work: what ends it, or only tells of it, needs no lease.
const fn calls_a_child(request: &HostRequest) -> bool {
    match request {
        HostRequest::Start(_)
        | HostRequest::Run
        | HostRequest::Handle { .. }
        | HostRequest::PrepareState
        | HostRequest::AlterState(_)
        | HostRequest::ResolveConflict(_)
        | HostRequest::RedundancySignal(_)
        | HostRequest::HandoverStart(_) => true,
        HostRequest::CancelRun
        | HostRequest::SetRole(..)
        | HostRequest::Stop(_)
        | HostRequest::Discard
        | HostRequest::AlterSpec { .. } => false,
    }
}

/// The host's end of a hub: pull, do, complete. Any number of threads may pull at once; clones share the queue.
#[derive(Clone)]
pub struct HostQueue(Arc<Shared>);

impl std::fmt::Debug for HostQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostQueue").field("calls", &self.len()).finish_non_exhaustive()
    }
}

impl HostQueue {
    pub(crate) fn new(inputs: Inputs) -> Self {
        let (calls_sender, calls) = sync::unbounded();
        let (decisions_sender, decisions) = sync::unbounded();
        let (hooks_sender, hooks) = crossbeam_channel::bounded(MAX_WAITING_HOOKS);
        Self(Arc::new(Shared {
            calls,
            calls_sender,
            decisions,
            decisions_sender,
            hooks,
            hooks_sender,
            hooks_dropped: AtomicU64::new(0),
            served: AtomicU64::new(0),
            pulled: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            doorbell: OnceLock::new(),
            lease: AtomicU64::new(Timestamp::NEVER.0),
            fenced: AtomicU64::new(0),
            inputs,
        }))
    }

    /// Says until when children may be called, and which calls are not made any more.
    pub(crate) fn set_lease(&self, until: Timestamp, fenced: CallNumber) {
        self.0.fenced.fetch_max(fenced.0, Ordering::Release);
        self.0.lease.store(until.0, Ordering::Release);
    }

    /// Until when children may be called, if that depends on a lease at all.
    fn lease(&self) -> Option<Timestamp> {
        let lease = Timestamp(self.0.lease.load(Ordering::Acquire));
        (lease != Timestamp::NEVER).then_some(lease)
    }

    /// Whether the host may make a call now: a hub without a lease calls no child (R11).
    fn may_make(&self, call: &HostCall) -> bool {
        if !calls_a_child(&call.request) {
            return true;
        }
        self.lease().is_none_or(|until| now() < until) && call.number.0 > self.0.fenced.load(Ordering::Acquire)
    }

    /// The next call that the host may make: what waited for longer than the lease lasted is answered without it.
    fn take_call(&self) -> Result<HostItem, TryRecvError> {
        loop {
            let item = self.0.decisions.try_recv().or_else(|_| self.0.calls.try_recv())?;
            match item {
                HostItem::Call(call) if !self.may_make(&call) => {
                    let failure = HostFailure {
                        kind: Some(ErrorKind::Partitioned),
                        ..HostFailure::new("this node has no lease of a quorum")
                    };
                    self.complete(call.number, HostAnswer::Failed(failure));
                }
                HostItem::Call(_)
                | HostItem::Decide(_)
                | HostItem::Completed(..)
                | HostItem::Hook(_)
                | HostItem::Task(_)
                | HostItem::Closed => return Ok(item),
            }
        }
    }

    /// Rings from now on whenever something is queued. Only the first doorbell of a queue counts.
    pub fn set_doorbell(&self, doorbell: Doorbell) {
        let _ = self.0.doorbell.set(doorbell);
    }

    /// The next item, waiting for it at most `timeout`. Calls and answers come in order, hooks among themselves.
    #[must_use]
    pub fn next(&self, timeout: Duration) -> Option<HostItem> {
        self.next_unless(timeout, &crossbeam_channel::never())
    }

    /// Like [`Self::next`]; gives up as soon as the other end of `gone` is dropped.
    #[must_use]
    pub fn next_unless(&self, timeout: Duration, gone: &Receiver<Infallible>) -> Option<HostItem> {
        if let Some(item) = self.try_next() {
            return Some(item);
        }
        let until = Instant::now().checked_add(timeout);
        loop {
            let mut select = Select::new();
            select.recv(&self.0.decisions);
            select.recv(&self.0.calls);
            select.recv(&self.0.hooks);
            let ended = select.recv(gone);
            let ready = match until {
                Some(until) => select.ready_deadline(until).ok()?,
                None => select.ready(),
            };
            if ready == ended {
                return None;
            }
            // Another thread may have been quicker.
            if let Some(item) = self.try_next() {
                return Some(item);
            }
        }
    }

    /// The next item, if one is there.
    #[must_use]
    pub fn try_next(&self) -> Option<HostItem> {
        if !self.0.hooks.is_empty() {
            let turn = self.0.served.fetch_add(1, Ordering::Relaxed);
            if turn.is_multiple_of(HOOK_EVERY)
                && let Ok(item) = self.0.hooks.try_recv()
            {
                return Some(item);
            }
        }
        match self.take_call() {
            Ok(item) => Some(self.pass_on(item)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => self.0.hooks.try_recv().ok(),
        }
    }

    /// Like [`Self::next`], without hooks: for hosts that serve hooks on a thread of their own. While it waits, the
    /// hub may use the thread for a turn.
    #[must_use]
    pub fn next_call(&self, timeout: Duration) -> Option<HostItem> {
        // Most calls find the next one waiting, and the clock takes longer to read.
        if let Ok(item) = self.take_call() {
            return Some(self.pass_on(item));
        }
        if timeout.is_zero() {
            return None;
        }
        let until = now() + timeout;
        let take = |_: &Waker| self.take_call().ok();
        self.0.inputs.turns().stand_by(Role::Host, until, take).map(|item| self.pass_on(item))
    }

    /// Waits at most `timeout` until a call or an answer is there, and leaves it there: for hosts that can do nothing
    /// without a lock of their own. What waits for that lock still counts as waiting. Says whether something came;
    /// another thread may be quicker to take it.
    #[must_use]
    pub fn await_call(&self, timeout: Duration) -> bool {
        let until = now() + timeout;
        let is_there = |_: &Waker| (!self.is_empty()).then_some(());
        self.0.inputs.turns().stand_by(Role::Host, until, is_there).is_some()
    }

    /// Takes what is there, at most `max` items, without waiting: for a host with an event loop. Where there is less,
    /// `arm` is called and what came meanwhile is taken too; a doorbell that is armed by it misses nothing.
    ///
    /// The items count as waiting until the next batch is taken, so that a loop they block is noticed. Where children may
    /// be called under a lease only, a batch ends with the first such call: nothing is called by a lease that was looked
    /// at before something else ran. So only an empty batch says that nothing is left.
    #[must_use]
    pub fn next_batch(&self, max: usize, arm: impl Fn()) -> Vec<HostItem> {
        self.0.held.store(0, Ordering::Relaxed);
        let mut items = Vec::new();
        while items.len() < max {
            let next = self.try_next().or_else(|| {
                arm();
                self.try_next()
            });
            let Some(item) = next else { break };
            if matches!(item, HostItem::Closed) {
                // Nothing is pulled behind it, so what the hub told at its end goes before it.
                items.extend(self.0.hooks.try_iter());
                items.push(item);
                break;
            }
            let is_last =
                matches!(&item, HostItem::Call(call) if calls_a_child(&call.request)) && self.lease().is_some();
            items.push(item);
            if is_last {
                break;
            }
        }
        self.0.held.store(items.len(), Ordering::Relaxed);
        items
    }

    /// The next hook only.
    #[must_use]
    pub fn next_hook(&self, timeout: Duration) -> Option<HookEvent> {
        match self.0.hooks.recv_timeout(timeout) {
            Ok(HostItem::Hook(event)) => Some(event),
            Ok(
                HostItem::Call(_)
                | HostItem::Decide(_)
                | HostItem::Completed(..)
                | HostItem::Task(_)
                | HostItem::Closed,
            )
            | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Completes a call, once. A late or unknown completion is counted and ignored.
    pub fn complete(&self, number: CallNumber, answer: HostAnswer) {
        self.0.inputs.send(Input::HostDone(number, answer));
    }

    /// Like [`Self::complete`], on a thread that asks for its next call right afterwards, or says that it does not by
    /// [`Self::leave_to_others`]. If nothing waits for the host, the hub may use the thread for a turn at once, and
    /// wakes no other thread for the first call that this turn brings.
    pub fn complete_last(&self, number: CallNumber, answer: HostAnswer) {
        let input = Input::HostDone(number, answer);
        match self.is_empty() {
            true => self.0.inputs.run(input, || !self.is_empty()),
            false => self.0.inputs.send(input),
        }
    }

    /// Wakes another thread for what waits: this one asks for no call.
    pub fn leave_to_others(&self) {
        if !self.is_empty() {
            self.0.inputs.turns().wake_hosts(1);
        }
    }

    /// Tells what an instance did of its own accord.
    pub fn instance_event(&self, instance: InstanceId, event: InstanceEvent) {
        self.0.inputs.send(Input::Instance(instance, event));
    }

    /// How many calls and answers wait to be pulled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.decisions.len() + self.0.calls.len()
    }

    /// Whether no call and no answer waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.decisions.is_empty() && self.0.calls.is_empty()
    }

    /// How many hook events were dropped because the host did not pull them.
    #[must_use]
    pub fn hooks_dropped(&self) -> u64 {
        self.0.hooks_dropped.load(Ordering::Relaxed)
    }

    /// How many calls and answers the host has not come to, as far as can be known.
    pub(crate) fn waiting(&self) -> usize {
        self.len() + self.0.held.load(Ordering::Relaxed)
    }

    /// How many calls and answers were pulled since the start.
    pub(crate) fn pulled(&self) -> u64 {
        self.0.pulled.load(Ordering::Relaxed)
    }

    /// Closing is one item that every taker puts back, so that each pulling thread sees it.
    fn pass_on(&self, item: HostItem) -> HostItem {
        self.0.pulled.fetch_add(1, Ordering::Relaxed);
        if matches!(item, HostItem::Closed) {
            self.push(HostItem::Closed);
        }
        item
    }

    /// Queues a call and wakes a thread that waits for one.
    pub(crate) fn push_call(&self, call: HostCall) {
        self.queue_call(call);
        self.0.inputs.turns().wake_hosts(1);
    }

    /// Queues a decision and wakes a thread that waits for one.
    #[cfg(test)]
    pub(crate) fn push_decision(&self, decision: HostDecision) {
        self.queue_decision(decision);
        self.0.inputs.turns().wake_hosts(1);
    }

    /// Queues what is no call and wakes a thread that waits for something.
    pub(crate) fn push(&self, item: HostItem) {
        let _ = self.0.calls_sender.send(item);
        self.ring();
        self.0.inputs.turns().wake_hosts(1);
    }

    fn ring(&self) {
        if let Some(doorbell) = self.0.doorbell.get() {
            doorbell();
        }
    }

    /// Queues a call, or answers it when the host pulls too slowly. Who runs the turn wakes the host.
    pub(crate) fn queue_call(&self, call: HostCall) {
        let is_message = matches!(call.request, HostRequest::Handle { .. });
        if is_message && self.0.calls.len() >= MAX_WAITING_CALLS {
            return self.refuse(call.number, MAX_WAITING_CALLS);
        }
        let _ = self.0.calls_sender.send(HostItem::Call(call));
        self.ring();
    }

    /// Queues a decision likewise.
    pub(crate) fn queue_decision(&self, decision: HostDecision) {
        if self.0.decisions.len() >= MAX_WAITING_DECISIONS {
            return self.refuse(decision.number, MAX_WAITING_DECISIONS);
        }
        let _ = self.0.decisions_sender.send(HostItem::Decide(decision));
        self.ring();
    }

    /// Answers what finds so many waiting already.
    fn refuse(&self, number: CallNumber, waiting: usize) {
        let failure = HostFailure {
            kind: Some(ErrorKind::Overloaded),
            ..HostFailure::new(format!("{waiting} of its kind wait for the host already"))
        };
        self.complete(number, HostAnswer::Failed(failure));
    }

    /// Queues a hook event, or drops and counts it.
    pub(crate) fn push_hook(&self, event: HookEvent) {
        match self.0.hooks_sender.try_send(HostItem::Hook(event)) {
            Ok(()) => self.ring(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.0.hooks_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Ends the queue behind what is in it.
    pub(crate) fn close(&self) {
        self.push(HostItem::Closed);
    }
}

#[cfg(test)]
#[cfg(feature = "loom")]
mod models;
#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;
