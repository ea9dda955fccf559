//! The turns of a hub: take inputs, let the engine decide, carry out what it decided. `turns` says on which thread.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use super::clock::now;
use super::host_watch::HostWatch;
use super::inputs::{DriverInput, InputReceiver};
use super::load::LoadMeter;
use super::pending::{Answer, Sink, closed};
use super::statics::StaticChildren;
use super::turns::TakeTurns;
use super::view::{Publisher, TextHash};
use crate::engine::{Effect, Engine, Input};
use crate::error::{Error, ErrorKind};
use crate::host::call::{HostCall, HostRequest, StopReason};
use crate::host::local::panic_text;
use crate::ids::{CallNumber, ChildId, InstanceId, RequestId};
use crate::net::Channel;
use crate::observe::{HookEvent, HookName};
use crate::spec::DrainReport;
use crate::time::Timestamp;

/// Most inputs of one turn: what waited is answered together, and frames to one peer share a flush.
const MAX_TURN_INPUTS: usize = 1024;
/// Effects a driver keeps room for between turns.
const KEPT_EFFECTS: usize = 8 * MAX_TURN_INPUTS;
/// The numbers of calls the driver makes itself begin here; the engine counts from below.
const OWN_CALLS: u64 = 1 << 63;
/// How long a hub's own node may take to leave: the members' acknowledgement, then what the transport has queued.
const ORDERLY_LEAVE: Duration = Duration::from_secs(5);
/// How long the node of a fenced hub may take to leave.
const FENCED_LEAVE: Duration = Duration::from_secs(2);

/// What a driver drives: the engine, or a test's stand-in for it.
pub(crate) trait Machine: Send {
    fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>);
    fn flush(&mut self, now: Timestamp, effects: &mut Vec<Effect>);
    fn next_deadline(&self) -> Timestamp;
}

impl Machine for Engine {
    fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        Self::handle(self, now, input, effects);
    }

    fn flush(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        Self::flush(self, now, effects);
    }

    fn next_deadline(&self) -> Timestamp {
        Self::next_deadline(self)
    }
}

/// How a driver ended.
enum End {
    /// The engine is done.
    Stopped,
    /// The hub fences itself.
    Failed(Error),
    /// Nobody waits any more.
    Halted,
}

pub(crate) struct Driver {
    engine: Box<dyn Machine>,
    inputs: InputReceiver,
    shared: Arc<Shared>,
    channel: Channel,
    sinks: HashMap<RequestId, Sink, TextHash>,
    statics: StaticChildren,
    meter: LoadMeter,
    host_watch: HostWatch,
    /// The engine told of a lease: the hub has a quorum strategy.
    has_leases: bool,
    effects: Vec<Effect>,
    /// The instances the host has, for a fence that cannot ask the engine.
    instances: BTreeMap<InstanceId, ChildId>,
    /// Calls that this turn queued for the host.
    calls_queued: usize,
    report: DrainReport,
    end: Option<End>,
}

impl Driver {
    pub(crate) fn new(
        engine: Box<dyn Machine>,
        inputs: InputReceiver,
        shared: Arc<Shared>,
        statics: StaticChildren,
        meter: LoadMeter,
    ) -> Self {
        Self {
            engine,
            inputs,
            channel: Channel::Hub(shared.id.clone()),
            shared,
            sinks: HashMap::with_hasher(TextHash::new(0)),
            statics,
            meter,
            host_watch: HostWatch::new(),
            has_leases: false,
            effects: Vec::new(),
            instances: BTreeMap::new(),
            calls_queued: 0,
            report: DrainReport::default(),
            end: None,
        }
    }

    /// Runs until the hub ends, on this thread and on others that stand by.
    pub(crate) fn run(self) {
        let inputs = self.shared.requests.inputs().clone();
        inputs.turns().run(self);
    }

    fn step(&mut self, first: Option<DriverInput>) {
        let time = now();
        let mut count = 0;
        let mut next = first.or_else(|| self.inputs.receiver.try_recv().ok());
        while let Some(input) = next.take() {
            self.take(time, input);
            count += 1;
            if self.end.is_some() {
                return;
            }
            if count < MAX_TURN_INPUTS {
                next = self.inputs.receiver.try_recv().ok();
            }
        }
        self.statics.begin_due(time, |id, command| {
            let input = Input::Command(id, command);
            self.engine.handle(time, input, &mut self.effects);
        });
        if self.engine.next_deadline() <= time {
            self.engine.handle(time, Input::Tick, &mut self.effects);
        }
        // A grant counts from when it is given, and the turn may have been held up since it began (R11).
        let time = if self.has_leases { now() } else { time };
        self.engine.flush(time, &mut self.effects);
        let metrics = &self.shared.metrics;
        metrics.turns.inc();
        metrics.inputs.inc_by(u64::try_from(count).unwrap_or(0));
        let mut effects = std::mem::take(&mut self.effects);
        let shared = Arc::clone(&self.shared);
        let publisher = shared.view.publisher();
        for effect in effects.drain(..) {
            self.carry_out(effect, &publisher);
        }
        // What one large turn needed is not kept for ever; what every busy turn needs is.
        if effects.capacity() > KEPT_EFFECTS {
            effects.shrink_to(KEPT_EFFECTS);
        }
        self.effects = effects;
        self.watch_host(time);
    }

    fn watch_host(&mut self, time: Timestamp) {
        let queue = &self.shared.queue;
        if let Some(blocked) = self.host_watch.look(time, queue.waiting(), queue.pulled()) {
            tracing::warn!(target: "process_hub::host", hub = %self.shared.id, ?blocked, "the host does not pull its calls");
            self.fire(HookEvent::host_unresponsive(blocked));
        }
    }

    fn take(&mut self, time: Timestamp, input: DriverInput) {
        self.inputs.taken(&input);
        let input = match input {
            DriverInput::Engine(input) => input,
            DriverInput::Frame(from, frame) => {
                self.shared.metrics.frames_received.inc();
                Input::Frame(from, frame)
            }
            DriverInput::Command(id, command, sink) => {
                self.sinks.insert(id, sink);
                Input::Command(id, command)
            }
            DriverInput::Fail(reason) => {
                self.end = Some(End::Failed(*reason));
                return;
            }
            DriverInput::Halt => {
                self.end = Some(End::Halted);
                return;
            }
        };
        self.engine.handle(time, input, &mut self.effects);
    }

    fn carry_out(&mut self, effect: Effect, publisher: &Publisher<'_>) {
        let shared = &self.shared;
        match effect {
            Effect::Send { to, lane, frame } => {
                match shared.node.send(&to, lane, &self.channel, frame) {
                    Ok(()) => {
                        shared.metrics.frames_sent.inc();
                    }
                    Err(error) => {
                        // The engine's digests and deadlines repair what is missing (R17).
                        shared.metrics.frames_refused.inc();
                        tracing::debug!(target: "process_hub::hub", hub = %shared.id, %to, %error, "a frame was not taken");
                    }
                }
            }
            Effect::Host(call) => {
                self.note_instance(&call);
                self.shared.metrics.host_calls.inc();
                self.calls_queued += 1;
                self.shared.queue.queue_call(call);
            }
            Effect::Decide(decision) => {
                self.shared.metrics.host_calls.inc();
                self.calls_queued += 1;
                self.shared.queue.queue_decision(decision);
            }
            Effect::Reply(id, answer) => self.reply(id, answer),
            Effect::MeasureLoad => {
                let sample = self.meter.sample(now(), shared.queue.waiting());
                shared.requests.inputs().send(Input::Load(sample));
            }
            Effect::Publish(child, row) => publisher.publish(child, row),
            Effect::Lease { until, fenced } => {
                shared.queue.set_lease(until, fenced);
                self.has_leases = true;
            }
            Effect::Status(status) => shared.view.set_status(status),
            Effect::Hook(event) => self.fire(event),
            Effect::Stopped => self.end = Some(End::Stopped),
            Effect::Refused(error) => self.end = Some(End::Failed(error)),
            Effect::Failed(reason) => self.end = Some(End::Failed(failed(&reason))),
        }
    }

    fn note_instance(&mut self, call: &HostCall) {
        if matches!(call.request, HostRequest::Start(_)) {
            self.instances.insert(call.instance, call.child.clone());
        } else if matches!(call.request, HostRequest::Stop(_) | HostRequest::Discard) {
            self.instances.remove(&call.instance);
        }
    }

    fn reply(&mut self, id: RequestId, answer: Answer) {
        if self.statics.is_own(id) {
            self.statics.answered(now(), answer);
            return;
        }
        let Some(sink) = self.sinks.remove(&id) else {
            return;
        };
        if sink.operation() == "stop"
            && let Ok(crate::engine::Outcome::Drained(report)) = &answer
        {
            self.report = report.clone();
        }
        sink.answer(answer);
    }

    fn fire(&self, event: HookEvent) {
        let shared = &self.shared;
        shared.metrics.hooks.inc();
        if shared.host_hooks.load(Ordering::Acquire) & event.name.bit() != 0 {
            shared.queue.push_hook(event.clone());
        }
        if shared.observers.bits() & event.name.bit() != 0 {
            shared.observers.fire(event);
        }
    }

    /// Stops what the host runs without asking the engine.
    fn stop_instances(&mut self) {
        let instances = std::mem::take(&mut self.instances);
        let deadline = now() + FENCED_LEAVE;
        for (index, (instance, child)) in (OWN_CALLS..).zip(instances) {
            self.shared.queue.push_call(HostCall {
                number: CallNumber(index),
                instance,
                child,
                deadline,
                request: HostRequest::Stop(StopReason::LostOwnership),
            });
        }
    }
}

impl TakeTurns for Driver {
    type Input = DriverInput;

    fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    fn next_deadline(&self) -> Timestamp {
        self.engine.next_deadline().min(self.statics.next_deadline()).min(self.host_watch.next_deadline())
    }

    /// No operation may be open beside a new one.
    fn is_at_rest_for(&self, input: &DriverInput) -> bool {
        self.end.is_none() && (self.sinks.is_empty() || !matches!(input, DriverInput::Command(..)))
    }

    fn turn(&mut self, first: Option<DriverInput>) -> usize {
        self.calls_queued = 0;
        if self.end.is_none() {
            // A panic is a broken invariant of ours: the hub fences itself and the process lives (R20).
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.step(first))) {
                self.effects.clear();
                self.end = Some(End::Failed(failed(panic_text(&*panic))));
            }
        }
        self.calls_queued
    }

    /// In the order of R19.
    fn finish(mut self) {
        let shared = Arc::clone(&self.shared);
        let end = self.end.take().unwrap_or(End::Halted);
        let (reason, report, leave) = match end {
            End::Stopped => (closed("stop"), Ok(std::mem::take(&mut self.report)), ORDERLY_LEAVE),
            End::Failed(error) => {
                tracing::error!(target: "process_hub::hub", hub = %shared.id, %error, "the hub fences itself");
                (error.clone(), Err(error), FENCED_LEAVE)
            }
            End::Halted => {
                let message = "the children did not end in time and were abandoned";
                let report = Err(Error::new(ErrorKind::Timeout, "stop", message));
                (closed("stop"), report, FENCED_LEAVE)
            }
        };
        shared.requests.end(reason.clone());
        *shared.report.lock() = Some(report.clone());
        if report.is_err() {
            self.stop_instances();
            self.fire(HookEvent {
                name: HookName::HubShutdown,
                payload: serde_json::json!({ "reason": reason.message }),
            });
        }
        for (_, sink) in self.sinks.drain() {
            let operation = sink.operation().to_owned();
            sink.answer(Err(Error { operation, ..reason.clone() }));
        }
        shared.node.detach(&shared.id);
        if shared.owns_node {
            shared.node.stop(leave);
        }
        match &shared.local {
            Some(local) => local.close(),
            None => shared.queue.close(),
        }
        shared.observers.close();
        // What still waits in the channel is answered by its sinks.
        drop(self);
        shared.ended.set();
    }
}

fn failed(reason: &str) -> Error {
    let message = format!("an invariant of the hub is broken: {reason}");
    Error::new(ErrorKind::HubFailed, "engine", message)
}

#[cfg(test)]
mod tests;
