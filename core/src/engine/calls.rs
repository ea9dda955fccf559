//! Host calls in flight: what each is for, and what its end means.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::children::Slot;
use super::decisions::{DECISION_LIMIT, Decision};
use super::hash::FixedHash;
use super::local::{IncomingStep, Phase};
use super::{Effect, Engine, KEPT_CAPACITY};
use crate::error::ErrorKind;
use crate::host::call::{HostAnswer, HostCall, HostDecision, HostFailure, HostRequest};
use crate::ids::{CallNumber, ChildId, InstanceId, NodeName, NodeRef, Token};
use crate::payload::{MAX_MESSAGE_BYTES, MAX_STATE_BYTES, Payload};
use crate::spec::ChildSpec;
use crate::strategy::Question;
use crate::time::Timestamp;

/// A callback that takes longer counts as a crash (R5).
pub(super) const CALLBACK_LIMIT: Duration = Duration::from_secs(60);
/// `alter_handover_state`, `resolve_conflict`, `redundancy_signal` and the notices (R5).
pub(super) const SHORT_CALLBACK: Duration = Duration::from_secs(5);

/// What a host call is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// The first call of an instance.
    Start,
    /// The state a restarted or moved instance begins with.
    Restore,
    /// A message.
    Handle { origin: NodeRef, id: u64, wants_reply: bool },
    /// The state an outgoing instance gives.
    Prepare,
    /// A loser's state, on the winner.
    Resolve(Box<(NodeRef, Token)>),
    /// A notice: its answer does not matter.
    Notice,
    /// The role, told to the instance: its answer does not matter.
    Signal,
    /// The body.
    Run,
    /// The last call of an instance.
    Stop,
    /// A spec shown to the interceptors: that of this item of the request. No child yet, and no instance.
    Alter { request: u64, item: u32 },
    /// A decision of the host's. No child.
    Decide(Decision),
}

impl Purpose {
    /// The callback that is called, for hooks and errors.
    const fn callback(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restore => "alter_handover_state",
            Self::Handle { .. } => "handle",
            Self::Prepare => "prepare_handover_state",
            Self::Resolve(_) => "resolve_conflict",
            Self::Notice => "handover_start",
            Self::Signal => "redundancy_signal",
            Self::Run => "run",
            Self::Stop => "stop",
            Self::Alter { .. } => "child_data_alter",
            Self::Decide(_) => "decide",
        }
    }
}

/// One host call in flight.
#[derive(Clone, Debug)]
pub(super) struct OpenCall {
    /// The child; `None` for a spec that is shown, and for a decision.
    pub(super) child: Option<Slot>,
    pub(super) instance: InstanceId,
    pub(super) purpose: Purpose,
    deadline: Timestamp,
    /// Its deadline is over and its effect is given up, but the instance is still busy with it.
    is_overdue: bool,
}

/// The host calls in flight and their deadlines. Deadlines of calls that ended stay in the heap until they come to
/// its top or are the larger part of it.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: IndexMap<CallNumber, OpenCall, FixedHash>,
    deadlines: BinaryHeap<Reverse<(Timestamp, CallNumber)>>,
}

impl Calls {
    fn begin(&mut self, number: CallNumber, call: OpenCall) {
        if call.deadline != Timestamp::NEVER {
            self.deadlines.push(Reverse((call.deadline, number)));
        }
        self.open.insert(number, call);
    }

    /// Forgets a call.
    pub(super) fn end(&mut self, number: CallNumber) -> Option<OpenCall> {
        let call = self.open.swap_remove(&number)?;
        if self.deadlines.peek() == Some(&Reverse((call.deadline, number))) {
            self.tidy_top();
        }
        if self.deadlines.len() > KEPT_CAPACITY.max(2 * self.open.len()) {
            let open = &self.open;
            self.deadlines.retain(|entry| counts(open, entry));
        }
        Some(call)
    }

    /// Makes room for more calls at once.
    pub(super) fn reserve(&mut self, additional: usize) {
        self.open.reserve(additional);
        self.deadlines.reserve(additional);
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Timestamp {
        self.deadlines.peek().map_or(Timestamp::NEVER, |Reverse((at, _))| *at)
    }

    /// A call whose deadline is over. It is told once.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<CallNumber> {
        if self.next() > now {
            return None;
        }
        let Reverse((_, number)) = self.deadlines.pop()?;
        self.tidy_top();
        Some(number)
    }

    fn tidy_top(&mut self) {
        while self.deadlines.peek().is_some_and(|top| !counts(&self.open, top)) {
            self.deadlines.pop();
        }
    }

    /// Gives back what a burst of calls needed.
    pub(super) fn shrink(&mut self) {
        if self.open.is_empty() && self.open.capacity() > KEPT_CAPACITY {
            self.open.shrink_to(KEPT_CAPACITY);
            self.deadlines.shrink_to(KEPT_CAPACITY);
        }
    }
}

/// Whether a deadline is the present one of a call that is open.
fn counts(
    open: &IndexMap<CallNumber, OpenCall, FixedHash>,
    Reverse((at, number)): &Reverse<(Timestamp, CallNumber)>,
) -> bool {
    open.get(number).is_some_and(|call| call.deadline == *at)
}

impl Engine {
    /// Queues a call of an instance and answers its number.
    pub(super) fn call_host(
        &mut self,
        child: Slot,
        instance: InstanceId,
        request: HostRequest,
        limit: Option<Duration>,
        purpose: Purpose,
    ) -> CallNumber {
        let deadline = limit.map_or(Timestamp::NEVER, |limit| self.now + limit);
        let call = OpenCall { child: Some(child), instance, purpose, deadline, is_overdue: false };
        self.begin_call(self.children[child].id.clone(), call, request)
    }

    /// Shows a spec to the interceptors.
    pub(super) fn call_interceptors(&mut self, request: u64, item: u32, spec: Arc<ChildSpec>, nodes: Vec<NodeName>) {
        let (instance, deadline) = (InstanceId::default(), self.now + SHORT_CALLBACK);
        let purpose = Purpose::Alter { request, item };
        let call = OpenCall { child: None, instance, purpose, deadline, is_overdue: false };
        self.begin_call(spec.id.clone(), call, HostRequest::AlterSpec { spec, nodes });
    }

    /// Asks the host to decide.
    pub(super) fn call_decider(&mut self, decision: Decision, question: Arc<Question>) {
        let (instance, deadline) = (InstanceId::default(), self.now + DECISION_LIMIT);
        let call = OpenCall { child: None, instance, purpose: Purpose::Decide(decision), deadline, is_overdue: false };
        let number = self.open_call(call);
        self.effects.push(Effect::Decide(HostDecision { number, deadline, question }));
    }

    fn open_call(&mut self, call: OpenCall) -> CallNumber {
        self.numbers.call += 1;
        self.counters.host_calls += 1;
        let number = CallNumber(self.numbers.call);
        self.calls.begin(number, call);
        number
    }

    fn begin_call(&mut self, child: ChildId, call: OpenCall, request: HostRequest) -> CallNumber {
        let (instance, deadline) = (call.instance, call.deadline);
        let number = self.open_call(call);
        self.effects.push(Effect::Host(HostCall { number, instance, child, deadline, request }));
        number
    }

    /// Tells the host something that needs no answer: the answer is ignored.
    pub(super) fn tell_host(&mut self, child: Slot, instance: InstanceId, request: HostRequest) {
        self.numbers.call += 1;
        let number = CallNumber(self.numbers.call);
        let deadline = self.now + SHORT_CALLBACK;
        let child = self.children[child].id.clone();
        self.effects.push(Effect::Host(HostCall { number, instance, child, deadline, request }));
    }

    /// Makes a call that occupies the instance: at most one is in flight per child.
    pub(super) fn occupy(&mut self, child: Slot, request: HostRequest, limit: Duration, purpose: Purpose) {
        let Some(instance) = self.children.local(child).map(|local| local.instance) else {
            return;
        };
        let number = self.call_host(child, instance, request, Some(limit), purpose);
        if let Some(local) = self.children.local_mut(child) {
            local.call = Some(number);
        }
    }

    /// The host completed a call.
    pub(super) fn host_done(&mut self, number: CallNumber, answer: HostAnswer) {
        if matches!(&answer, HostAnswer::Failed(HostFailure { kind: Some(ErrorKind::Partitioned), .. }))
            && self.calls.open.get(&number).is_some_and(|open| matches!(open.purpose, Purpose::Start | Purpose::Run))
        {
            // The queue saw that the lease is over before this turn began.
            self.lose_quorum();
        }
        let Some(open) = self.calls.end(number) else {
            self.counters.late_completions += 1;
            return;
        };
        let child = match (&open.purpose, open.child) {
            (Purpose::Alter { request, item }, _) => return self.spec_altered(*request, *item, answer),
            (Purpose::Decide(decision), _) => return self.decided(*decision, answer),
            (_, Some(child)) => child,
            (_, None) => return,
        };
        if self.endings.contains(open.instance) {
            let never_began = matches!((&open.purpose, &answer), (Purpose::Start, HostAnswer::Failed(_)));
            self.answer_abandoned(child, &open, answer);
            if never_began {
                self.ended(open.instance, true);
            } else {
                self.ending_call_done(open.instance, number);
            }
            return;
        }
        let Some(local) = self.children.local_mut(child).filter(|local| local.instance == open.instance) else {
            self.counters.late_completions += 1;
            return;
        };
        if local.call == Some(number) {
            local.call = None;
        }
        if local.body == Some(number) {
            local.body = None;
        }
        if open.is_overdue {
            self.counters.late_completions += 1;
            self.instance_free(child);
            return;
        }
        let answer = check_size(&open.purpose, answer);
        self.call_ended(child, open, answer);
    }

    fn call_ended(&mut self, child: Slot, open: OpenCall, answer: HostAnswer) {
        if let HostAnswer::Failed(failure) = &answer {
            self.tell_failure(child, open.purpose.callback(), &failure.message);
        }
        match open.purpose {
            Purpose::Start => self.start_ended(child, answer),
            Purpose::Restore => self.restore_ended(child, answer),
            Purpose::Handle { origin, id, wants_reply } => {
                self.handle_ended(child, &origin, id, wants_reply, answer);
            }
            Purpose::Prepare => self.prepare_ended(child, answer),
            Purpose::Resolve(shown) => self.resolve_ended(child, &shown.0, shown.1),
            Purpose::Notice | Purpose::Signal => self.instance_free(child),
            Purpose::Run => self.body_ended(child, answer),
            // Only an ending instance is stopped, and those were told apart above.
            Purpose::Stop | Purpose::Alter { .. } | Purpose::Decide(_) => {}
        }
    }

    /// A message that was being handled when its instance began to end still gets its reply.
    fn answer_abandoned(&mut self, child: Slot, open: &OpenCall, answer: HostAnswer) {
        if let Purpose::Handle { origin, id, wants_reply } = &open.purpose {
            self.answer_message(child, origin, *id, *wants_reply, answer);
        }
    }

    /// A host call's deadline is over.
    pub(super) fn host_call_late(&mut self, number: CallNumber) {
        let Some(open) = self.calls.open.get(&number) else {
            return;
        };
        let failure = HostFailure {
            message: format!("`{}` did not end in time", open.purpose.callback()),
            trace: None,
            kind: Some(ErrorKind::HostTimeout),
        };
        let may_go_on = match open.purpose {
            Purpose::Prepare | Purpose::Resolve(_) | Purpose::Notice | Purpose::Signal => true,
            Purpose::Start
            | Purpose::Restore
            | Purpose::Handle { .. }
            | Purpose::Run
            | Purpose::Stop
            | Purpose::Alter { .. }
            | Purpose::Decide(_) => false,
        };
        if may_go_on && !open.is_overdue {
            let open = open.clone();
            let deadline = self.now + CALLBACK_LIMIT;
            self.calls.begin(number, OpenCall { deadline, is_overdue: true, ..open.clone() });
            if let Some(child) = open.child.filter(|child| self.is_instance_of(*child, open.instance)) {
                self.call_ended(child, open, HostAnswer::Failed(failure));
            }
            return;
        }
        let Some(open) = self.calls.end(number) else {
            return;
        };
        let child = match (&open.purpose, open.child) {
            (Purpose::Alter { request, item }, _) => {
                return self.spec_altered(*request, *item, HostAnswer::Failed(failure));
            }
            (Purpose::Decide(decision), _) => return self.decided(*decision, HostAnswer::Failed(failure)),
            (_, Some(child)) => child,
            (_, None) => return,
        };
        if self.endings.contains(open.instance) {
            // It hangs in host code: nothing more can be called on it.
            self.answer_abandoned(child, &open, HostAnswer::Failed(failure));
            self.ended(open.instance, true);
        } else if self.is_instance_of(child, open.instance) {
            self.written_off(child, open, failure);
        }
    }

    fn is_instance_of(&self, child: Slot, instance: InstanceId) -> bool {
        self.children.local(child).is_some_and(|local| local.instance == instance)
    }

    /// The instance hangs in host code: it is given up, whatever it was doing.
    fn written_off(&mut self, child: Slot, open: OpenCall, failure: HostFailure) {
        self.give_back(child, &failure.message);
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.call = None;
        let is_starting = match &local.phase {
            Phase::Starting { .. } => true,
            Phase::Incoming(incoming) => !matches!(incoming.step, IncomingStep::Ready { .. }),
            Phase::Active | Phase::Resting { .. } | Phase::Quarantined { .. } | Phase::Outgoing(_) | Phase::Ending => {
                false
            }
        };
        if is_starting {
            if matches!(local.phase, Phase::Incoming(_)) {
                self.discard_instance(child);
            }
            self.call_ended(child, open, HostAnswer::Failed(failure));
            return;
        }
        self.answer_abandoned(child, &open, HostAnswer::Failed(failure.clone()));
        self.tell_failure(child, open.purpose.callback(), &failure.message);
        self.crashed(child, &failure.message);
    }
}

/// Refuses what is larger than the limits, before it goes anywhere.
fn check_size(purpose: &Purpose, answer: HostAnswer) -> HostAnswer {
    let limit = match purpose {
        Purpose::Prepare => MAX_STATE_BYTES,
        Purpose::Handle { .. } => MAX_MESSAGE_BYTES,
        Purpose::Start
        | Purpose::Restore
        | Purpose::Resolve(_)
        | Purpose::Notice
        | Purpose::Signal
        | Purpose::Run
        | Purpose::Stop
        | Purpose::Alter { .. }
        | Purpose::Decide(_) => {
            return answer;
        }
    };
    match &answer {
        HostAnswer::Done(Some(payload)) if payload.len() > limit => HostAnswer::Failed(HostFailure {
            message: format!("{} bytes are more than the limit of {limit}", payload.len()),
            trace: None,
            kind: Some(ErrorKind::PayloadTooLarge),
        }),
        HostAnswer::Done(_) | HostAnswer::Failed(_) => answer,
    }
}

/// The payload of a successful answer, or the failure.
pub(super) fn split(answer: HostAnswer) -> Result<Option<Payload>, HostFailure> {
    match answer {
        HostAnswer::Done(payload) => Ok(payload),
        HostAnswer::Failed(failure) => Err(failure),
    }
}
