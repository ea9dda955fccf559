//! The in-process host of Rust children: pulls the same queue as every language (A2).

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam_channel::Receiver;
use parking_lot::RwLock;

use super::call::{HostAnswer, HostCall, HostDecision, HostFailure, HostRequest, StartContext};
use super::cell::{Cell, Services};
use super::child::{Child, Kind};
use super::context::{Chain, Context, Reply};
use super::decide::Decide;
use super::pool::{Polled, Pool, Work, Worker};
use super::queue::HostQueue;
use crate::error::ErrorKind;
use crate::hub::{Handle, Observers, Requests};
use crate::ids::{CallNumber, InstanceId, KindName};
use crate::observe::HookEvent;
use crate::payload::Payload;
use crate::strategy::Family;

/// The kinds, instances and threads of one hub's Rust children.
#[derive(Debug)]
pub(crate) struct LocalHost {
    children: Arc<Children>,
    pool: Arc<Pool>,
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        self.close();
    }
}

struct Children {
    services: Arc<Services>,
    observers: Arc<Observers>,
    kinds: RwLock<BTreeMap<KindName, Arc<dyn Kind>>>,
    strategies: RwLock<Strategies>,
    instances: papaya::HashMap<InstanceId, Arc<Cell>>,
    /// For the threads of bodies; the pool holds the children, not the other way round.
    pool: OnceLock<Weak<Pool>>,
}

/// What decides, by family and name.
pub(crate) type Strategies = BTreeMap<(Family, String), Arc<dyn Decide>>;

impl LocalHost {
    /// Starts the pool; without threads it is polled.
    pub(crate) fn start(
        queue: HostQueue,
        requests: Arc<Requests>,
        observers: Arc<Observers>,
        strategies: Strategies,
        threads: usize,
    ) -> Self {
        let services = Arc::new(Services { queue: queue.clone(), requests, hub: OnceLock::new() });
        let children = Arc::new(Children {
            services,
            observers,
            kinds: RwLock::default(),
            strategies: RwLock::new(strategies),
            instances: papaya::HashMap::new(),
            pool: OnceLock::new(),
        });
        let work: Arc<dyn Work> = Arc::clone(&children) as _;
        let pool = Pool::start(queue, threads, work);
        let _ = children.pool.set(Arc::downgrade(&pool));
        Self { children, pool }
    }

    /// Adds or replaces the code of a kind.
    pub(crate) fn register(&self, name: KindName, kind: Arc<dyn Kind>) {
        self.children.kinds.write().insert(name, kind);
    }

    /// Lets contexts find the hub.
    pub(crate) fn set_hub(&self, hub: Weak<Handle>) {
        let _ = self.children.services.hub.set(hub);
    }

    pub(crate) fn instance_count(&self) -> usize {
        self.children.instances.len()
    }

    /// Takes no calls any more and asks every body to return.
    pub(crate) fn close(&self) {
        let instances = self.children.instances.pin();
        for cell in instances.values() {
            cell.cancel(CallNumber(u64::MAX));
        }
        self.pool.close();
    }

    /// Does the next thing on the calling thread; see [`crate::hub::Hub::poll`].
    pub(crate) fn poll(&self, timeout: Duration, gone: &Receiver<Infallible>) -> Polled {
        self.pool.poll(timeout, gone)
    }

    /// Waits until the threads ended, at most `timeout`, and forgets the instances, the kinds and the
    /// strategies. What a thread still runs is dropped when it returns.
    pub(crate) fn join(&self, timeout: Duration) -> bool {
        let ended = self.pool.join(timeout);
        let cells: Vec<Arc<Cell>> = self.children.instances.pin().values().map(Arc::clone).collect();
        for cell in cells {
            self.children.forget(&cell);
        }
        let kinds = std::mem::take(&mut *self.children.kinds.write());
        let strategies = std::mem::take(&mut *self.children.strategies.write());
        drop((kinds, strategies));
        ended
    }
}

impl Work for Children {
    fn observe(&self, event: HookEvent) {
        self.observers.observe(&event);
    }

    fn tell_blocked(&self, blocked: Duration) {
        self.observers.fire(HookEvent::host_unresponsive(blocked));
    }

    fn decide(&self, decision: &HostDecision) {
        let reply = Reply::new(self.services.queue.clone(), decision.number, None);
        let question = &decision.question;
        // A configured name is registered; only a hub that ended has forgotten it.
        let registered = (question.family, question.strategy.clone());
        let strategy = self.strategies.read().get(&registered).map(Arc::clone);
        let Some(strategy) = strategy else { return };
        let decided = guarded(|| {
            strategy.decide(question, reply);
            Ok(())
        });
        if decided.is_err() {
            tracing::warn!(target: "process_hub::host", strategy = question.strategy, "a strategy panicked");
        }
    }

    fn perform(&self, call: HostCall, worker: &Worker) {
        match &call.request {
            HostRequest::Start(start) => {
                let start = Arc::clone(start);
                self.start(call, &start, worker);
            }
            HostRequest::SetRole(epoch, mode) => {
                if let Some(cell) = self.cell(call.instance) {
                    cell.raise_epoch(*epoch);
                    cell.set_mode(*mode);
                }
                self.complete(call.number, HostAnswer::Done(None));
            }
            HostRequest::CancelRun => {
                if let Some(cell) = self.cell(call.instance) {
                    cell.cancel(call.number);
                }
                self.complete(call.number, HostAnswer::Done(None));
            }
            HostRequest::Discard => {
                self.discard(&call);
                self.complete(call.number, HostAnswer::Done(None));
            }
            HostRequest::AlterSpec { spec, nodes } => {
                let altered = guarded(|| self.observers.alter((**spec).clone(), nodes));
                let answer = match altered {
                    Ok(spec) => HostAnswer::Done(Some(Payload::from_value(&spec.to_json()))),
                    Err(failure) => HostAnswer::Failed(failure),
                };
                self.complete(call.number, answer);
            }
            HostRequest::Run
            | HostRequest::Handle { .. }
            | HostRequest::PrepareState
            | HostRequest::AlterState(_)
            | HostRequest::ResolveConflict(_)
            | HostRequest::RedundancySignal(_)
            | HostRequest::HandoverStart(_)
            | HostRequest::Stop(_) => match self.cell(call.instance) {
                Some(cell) => self.enter(&cell, call, worker),
                None => self.refuse(&call, "this host has no such instance"),
            },
        }
    }
}

impl Children {
    fn cell(&self, id: InstanceId) -> Option<Arc<Cell>> {
        self.instances.pin().get(&id).map(Arc::clone)
    }

    /// On a thread of the pool, which asks for its next call afterwards.
    fn complete(&self, number: CallNumber, answer: HostAnswer) {
        self.services.queue.complete_last(number, answer);
    }

    fn refuse(&self, call: &HostCall, why: &str) {
        let failure = HostFailure::new(format!("{}: {why}", call.request.callback()));
        self.complete(call.number, HostAnswer::Failed(failure));
    }

    fn start(&self, call: HostCall, start: &Arc<StartContext>, worker: &Worker) {
        let kind = self.kinds.read().get(&start.spec.kind).map(Arc::clone);
        let Some(kind) = kind else {
            let failure = HostFailure {
                kind: Some(ErrorKind::UnknownKind),
                ..HostFailure::new(format!("this host has no kind {}", start.spec.kind))
            };
            self.complete(call.number, HostAnswer::Failed(failure));
            return;
        };
        let cell = Cell::new(call.instance, Arc::clone(start), Arc::clone(&self.services));
        let cell = Arc::new(cell);
        // Known before its start ends, so that it can be discarded when the start never does.
        self.instances.pin().insert(call.instance, Arc::clone(&cell));
        match guarded(|| Ok(kind.create())) {
            Ok(child) => self.work_off(&cell, child, call, worker),
            Err(failure) => {
                self.instances.pin().remove(&call.instance);
                self.complete(call.number, HostAnswer::Failed(failure));
            }
        }
    }

    /// Performs a call on the child. A child that another thread has gets the call from that thread.
    fn enter(&self, cell: &Arc<Cell>, call: HostCall, worker: &Worker) {
        let mut slot = cell.slot.lock();
        if slot.is_gone {
            drop(slot);
            self.refuse(&call, "the instance ended");
            return;
        }
        match slot.child.take() {
            Some(child) => {
                drop(slot);
                self.work_off(cell, child, call, worker);
            }
            None => slot.waiting.push_back(call),
        }
    }

    /// Performs a call, and then those that came for the child meanwhile.
    fn work_off(&self, cell: &Arc<Cell>, mut child: Box<dyn Child>, mut call: HostCall, worker: &Worker) {
        loop {
            worker.begin(call.deadline);
            let answer = self.call_child(cell, child.as_mut(), &call);
            let mut slot = cell.slot.lock();
            if slot.is_gone || is_last(&call, answer.as_ref()) {
                slot.is_gone = true;
                let left = std::mem::take(&mut slot.waiting);
                drop(slot);
                self.instances.pin().remove(&call.instance);
                drop_quietly(child);
                self.complete_now(call.number, answer);
                for call in left {
                    self.refuse(&call, "the instance ended");
                }
                return;
            }
            let next = slot.waiting.pop_front();
            let Some(next) = next else {
                slot.child = Some(child);
                drop(slot);
                self.complete_now(call.number, answer);
                return;
            };
            drop(slot);
            // Not the last: this thread has more to do before it pulls.
            if let Some(answer) = answer {
                self.services.queue.complete(call.number, answer);
            }
            call = next;
        }
    }

    /// Completes a call that has an answer now; a body has none before it returns.
    fn complete_now(&self, number: CallNumber, answer: Option<HostAnswer>) {
        if let Some(answer) = answer {
            self.complete(number, answer);
        }
    }

    fn call_child(&self, cell: &Arc<Cell>, child: &mut dyn Child, call: &HostCall) -> Option<HostAnswer> {
        let mut chain = Chain::Callback;
        match &call.request {
            HostRequest::Handle { chain: waiting, .. } => chain = Chain::Handling(Arc::clone(waiting)),
            HostRequest::RedundancySignal(mode) => cell.set_mode(*mode),
            HostRequest::Stop(_) => cell.cancel(call.number),
            HostRequest::Run => return self.run(cell, child, call.number),
            HostRequest::Start(_)
            | HostRequest::PrepareState
            | HostRequest::AlterState(_)
            | HostRequest::ResolveConflict(_)
            | HostRequest::HandoverStart(_)
            | HostRequest::CancelRun
            | HostRequest::SetRole(..)
            | HostRequest::Discard
            | HostRequest::AlterSpec { .. } => {}
        }
        let context = Context::new(Arc::clone(cell), chain);
        guarded(|| Ok(child.perform(&context, call))).unwrap_or_else(|failure| Some(HostAnswer::Failed(failure)))
    }

    /// Runs the body on a thread of its own, which completes the call when the body returned. A child without a
    /// body returned from it.
    fn run(&self, cell: &Arc<Cell>, child: &mut dyn Child, number: CallNumber) -> Option<HostAnswer> {
        cell.begin_run(number);
        let body = match guarded(|| Ok(child.body())) {
            Ok(Some(body)) => body,
            Ok(None) => return Some(HostAnswer::Done(None)),
            Err(failure) => return Some(HostAnswer::Failed(failure)),
        };
        let context = Context::new(Arc::clone(cell), Chain::Body(number));
        let queue = self.services.queue.clone();
        let began = self.pool.get().and_then(Weak::upgrade).is_some_and(|pool| {
            pool.spawn_counted("process-hub-run", move |_| {
                let answer = match guarded(|| body(context)) {
                    Ok(()) => HostAnswer::Done(None),
                    Err(failure) => HostAnswer::Failed(failure),
                };
                queue.complete(number, answer);
            })
        });
        let refused = || HostAnswer::Failed(HostFailure::new("run: no thread could be started"));
        (!began).then(refused)
    }

    fn discard(&self, call: &HostCall) {
        if let Some(cell) = self.cell(call.instance) {
            cell.cancel(call.number);
            self.forget(&cell);
        }
    }

    fn forget(&self, cell: &Cell) {
        self.instances.pin().remove(&cell.id());
        let mut slot = cell.slot.lock();
        slot.is_gone = true;
        let child = slot.child.take();
        slot.waiting.clear();
        drop(slot);
        if let Some(child) = child {
            drop_quietly(child);
        }
    }
}

/// Whether the instance ends with this call.
fn is_last(call: &HostCall, answer: Option<&HostAnswer>) -> bool {
    let is_failed_start = matches!((&call.request, answer), (HostRequest::Start(_), Some(HostAnswer::Failed(_))));
    is_failed_start || matches!(call.request, HostRequest::Stop(_))
}

/// Runs host code; a panic becomes a failure.
pub(super) fn guarded<T>(code: impl FnOnce() -> Result<T, HostFailure>) -> Result<T, HostFailure> {
    // The child may be left half changed: what follows is the engine's to decide, as for any other failure.
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        Err(HostFailure {
            kind: Some(ErrorKind::Panic),
            ..HostFailure::new(format!("panicked: {}", panic_text(&*panic)))
        })
    })
}

/// The message of a panic, where it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Dropping a child runs host code too.
fn drop_quietly(child: Box<dyn Child>) {
    if catch_unwind(AssertUnwindSafe(|| drop(child))).is_err() {
        tracing::warn!(target: "process_hub::host", "a child panicked while it was dropped");
    }
}

impl std::fmt::Debug for Children {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Children").field("instances", &self.instances.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
