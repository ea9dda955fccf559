//! Host calls in flight: what each is for, and what its end means.

use std::time::Duration;

use super::local::{IncomingStep, Phase};
use super::{Effect, Engine, TimerKey};
use crate::error::ErrorKind;
use crate::host::call::{HostAnswer, HostCall, HostFailure, HostRequest};
use crate::ids::{CallNumber, ChildId, InstanceId, NodeRef, Token};
use crate::payload::{MAX_MESSAGE_BYTES, MAX_STATE_BYTES, Payload};
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
    Resolve { from: NodeRef, loser: Token },
    /// A notice: its answer does not matter.
    Notice,
    /// The body.
    Run,
    /// The last call of an instance.
    Stop,
    /// A spec shown to the interceptors; no instance.
    Alter { request: u64 },
}

/// One host call in flight.
#[derive(Clone, Debug)]
pub(super) struct OpenCall {
    pub(super) child: ChildId,
    pub(super) instance: InstanceId,
    pub(super) purpose: Purpose,
    pub(super) callback: &'static str,
    /// Its deadline is over and its effect is given up, but the instance is still busy with it.
    pub(super) is_overdue: bool,
}

impl Engine {
    /// Queues a host call and answers its number.
    pub(super) fn call_host(
        &mut self,
        child: &ChildId,
        instance: InstanceId,
        request: HostRequest,
        limit: Option<Duration>,
        purpose: Purpose,
    ) -> CallNumber {
        self.numbers.call += 1;
        self.counters.host_calls += 1;
        let number = CallNumber(self.numbers.call);
        let deadline = limit.map_or(Timestamp::NEVER, |limit| self.now + limit);
        let callback = request.callback();
        let open = OpenCall { child: child.clone(), instance, purpose, callback, is_overdue: false };
        self.calls.insert(number, open);
        if limit.is_some() {
            self.timers.arm(TimerKey::HostCall(number), deadline);
        }
        let call = HostCall { number, instance, child: child.clone(), deadline, request };
        self.effects.push(Effect::Host(call));
        number
    }

    /// Tells the host something that needs no answer: the answer is ignored.
    pub(super) fn tell_host(&mut self, child: &ChildId, instance: InstanceId, request: HostRequest) {
        self.numbers.call += 1;
        let number = CallNumber(self.numbers.call);
        let deadline = self.now + SHORT_CALLBACK;
        self.effects.push(Effect::Host(HostCall { number, instance, child: child.clone(), deadline, request }));
    }

    /// Makes a call that occupies the instance: at most one is in flight per child.
    pub(super) fn occupy(&mut self, child: &ChildId, request: HostRequest, limit: Duration, purpose: Purpose) {
        let Some(instance) = self.locals.get(child).map(|local| local.instance) else {
            return;
        };
        let number = self.call_host(child, instance, request, Some(limit), purpose);
        if let Some(local) = self.locals.get_mut(child) {
            local.call = Some(number);
        }
    }

    /// The host completed a call.
    pub(super) fn host_done(&mut self, number: CallNumber, answer: HostAnswer) {
        let Some(open) = self.calls.swap_remove(&number) else {
            self.counters.late_completions += 1;
            return;
        };
        self.timers.disarm(&TimerKey::HostCall(number));
        if let Purpose::Alter { request } = open.purpose {
            self.spec_altered(request, &open.child, answer);
            return;
        }
        if self.endings.contains(open.instance) {
            let never_began = matches!((&open.purpose, &answer), (Purpose::Start, HostAnswer::Failed(_)));
            self.answer_abandoned(&open, answer);
            if never_began {
                self.ended(open.instance, true);
            } else {
                self.ending_call_done(open.instance, number);
            }
            return;
        }
        let is_current = self.locals.get(&open.child).is_some_and(|local| local.instance == open.instance);
        if !is_current {
            self.counters.late_completions += 1;
            return;
        }
        if let Some(local) = self.locals.get_mut(&open.child) {
            if local.call == Some(number) {
                local.call = None;
            }
            if local.body == Some(number) {
                local.body = None;
            }
        }
        if open.is_overdue {
            self.counters.late_completions += 1;
            self.instance_free(&open.child);
            return;
        }
        let answer = check_size(&open.purpose, answer);
        self.call_ended(open, answer);
    }

    fn call_ended(&mut self, open: OpenCall, answer: HostAnswer) {
        let OpenCall { child, purpose, callback, .. } = open;
        if let HostAnswer::Failed(failure) = &answer {
            let message = failure.message.clone();
            self.tell_failure(&child, callback, &message);
        }
        match purpose {
            Purpose::Start => self.start_ended(&child, answer),
            Purpose::Restore => self.restore_ended(&child, answer),
            Purpose::Handle { origin, id, wants_reply } => {
                self.handle_ended(&child, &origin, id, wants_reply, answer);
            }
            Purpose::Prepare => self.prepare_ended(&child, answer),
            Purpose::Resolve { from, loser } => self.resolve_ended(&child, &from, loser),
            Purpose::Notice => self.instance_free(&child),
            Purpose::Run => self.body_ended(&child, answer),
            // Only an ending instance is stopped, and those were told apart above.
            Purpose::Stop | Purpose::Alter { .. } => {}
        }
    }

    /// A message that was being handled when its instance began to end still gets its reply.
    fn answer_abandoned(&mut self, open: &OpenCall, answer: HostAnswer) {
        if let Purpose::Handle { origin, id, wants_reply } = &open.purpose {
            self.answer_message(&open.child, origin, *id, *wants_reply, answer);
        }
    }

    /// A host call's deadline is over.
    pub(super) fn host_call_late(&mut self, number: CallNumber) {
        let Some(open) = self.calls.get_mut(&number) else {
            return;
        };
        let failure = HostFailure {
            message: format!("`{}` did not end in time", open.callback),
            trace: None,
            kind: Some(ErrorKind::HostTimeout),
        };
        let may_go_on = match open.purpose {
            Purpose::Prepare | Purpose::Resolve { .. } | Purpose::Notice => true,
            Purpose::Start
            | Purpose::Restore
            | Purpose::Handle { .. }
            | Purpose::Run
            | Purpose::Stop
            | Purpose::Alter { .. } => false,
        };
        if may_go_on && !open.is_overdue {
            open.is_overdue = true;
            let open = open.clone();
            self.timers.arm(TimerKey::HostCall(number), self.now + CALLBACK_LIMIT);
            if self.is_instance_of(&open.child, open.instance) {
                self.call_ended(open, HostAnswer::Failed(failure));
            }
            return;
        }
        let Some(open) = self.calls.swap_remove(&number) else {
            return;
        };
        if let Purpose::Alter { request } = open.purpose {
            self.spec_altered(request, &open.child, HostAnswer::Failed(failure));
            return;
        }
        if self.endings.contains(open.instance) {
            // It hangs in host code: nothing more can be called on it.
            self.answer_abandoned(&open, HostAnswer::Failed(failure));
            self.ended(open.instance, true);
        } else if self.is_instance_of(&open.child, open.instance) {
            self.written_off(open, failure);
        }
    }

    fn is_instance_of(&self, child: &ChildId, instance: InstanceId) -> bool {
        self.locals.get(child).is_some_and(|local| local.instance == instance)
    }

    /// The instance hangs in host code: it is given up, whatever it was doing.
    fn written_off(&mut self, open: OpenCall, failure: HostFailure) {
        let child = open.child.clone();
        if let Some(local) = self.locals.get_mut(&child) {
            local.call = None;
        }
        let is_starting = match self.locals.get(&child).map(|local| &local.phase) {
            Some(Phase::Starting { .. }) => true,
            Some(Phase::Incoming(incoming)) => !matches!(incoming.step, IncomingStep::Ready { .. }),
            Some(
                Phase::Active | Phase::Resting { .. } | Phase::Quarantined { .. } | Phase::Outgoing(_) | Phase::Ending,
            )
            | None => false,
        };
        if is_starting {
            if self.locals.get(&child).is_some_and(|local| matches!(local.phase, Phase::Incoming(_))) {
                self.discard_instance(&child);
            }
            self.call_ended(open, HostAnswer::Failed(failure));
            return;
        }
        self.answer_abandoned(&open, HostAnswer::Failed(failure.clone()));
        self.tell_failure(&child, open.callback, &failure.message);
        self.crashed(&child, &failure.message);
    }
}

/// Refuses what is larger than the limits, before it goes anywhere.
fn check_size(purpose: &Purpose, answer: HostAnswer) -> HostAnswer {
    let limit = match purpose {
        Purpose::Prepare => MAX_STATE_BYTES,
        Purpose::Handle { .. } => MAX_MESSAGE_BYTES,
        Purpose::Start
        | Purpose::Restore
        | Purpose::Resolve { .. }
        | Purpose::Notice
        | Purpose::Run
        | Purpose::Stop
        | Purpose::Alter { .. } => {
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
