//! Instances on their way out: wait for what is in flight, call `stop`, forget.

use std::collections::BTreeMap;
use std::time::Duration;

use super::calls::Purpose;
use super::children::{Children, Slot};
use super::local::{Local, Phase};
use super::{Engine, TimerKey};
use crate::host::call::{HostRequest, StopReason};
use crate::ids::{CallNumber, InstanceId, NodeRef, Token};
use crate::time::Timestamp;
use crate::wire::Message;

/// What follows the end of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Nothing: the child is elsewhere.
    Nothing,
    /// The child ends here: its row goes.
    Stopped,
    /// The outgoing instance of a cold swap is gone, its state may travel.
    ColdStopped,
    /// The incoming instance of a move is gone, and the source may know.
    Aborted(NodeRef, Token),
    /// The same, and the source is told why.
    Refused(NodeRef, Token, String),
}

/// One instance on its way out.
#[derive(Debug)]
pub(super) struct Ending {
    child: Slot,
    reason: StopReason,
    call: Option<CallNumber>,
    body: Option<CallNumber>,
    is_stop_called: bool,
    shutdown: Duration,
    /// Lives on until then, or until `retention_handled`.
    retained_until: Option<Timestamp>,
    after: After,
}

/// The instances of this node on their way out. The record of a child counts those that are not retained: a bulk stop
/// ends many at a time, and each of its children asks.
#[derive(Debug, Default)]
pub(super) struct Endings {
    by_instance: BTreeMap<InstanceId, Ending>,
}

impl Endings {
    pub(super) fn is_empty(&self) -> bool {
        self.by_instance.is_empty()
    }

    pub(super) fn contains(&self, instance: InstanceId) -> bool {
        self.by_instance.contains_key(&instance)
    }

    fn get_mut(&mut self, instance: InstanceId) -> Option<&mut Ending> {
        self.by_instance.get_mut(&instance)
    }

    fn insert(&mut self, children: &mut Children, instance: InstanceId, ending: Ending) {
        if ending.retained_until.is_none() {
            children[ending.child].ending_count += 1;
        }
        self.by_instance.insert(instance, ending);
    }

    /// Ends the retention of an instance; says whether it had one.
    fn release(&mut self, children: &mut Children, instance: InstanceId) -> bool {
        let Some(ending) = self.by_instance.get_mut(&instance).filter(|ending| ending.retained_until.is_some()) else {
            return false;
        };
        ending.retained_until = None;
        children[ending.child].ending_count += 1;
        true
    }

    fn remove(&mut self, children: &mut Children, instance: InstanceId) -> Option<Ending> {
        let ending = self.by_instance.remove(&instance)?;
        if ending.retained_until.is_none() {
            children[ending.child].ending_count -= 1;
            children.mark_changed(ending.child);
        }
        Some(ending)
    }
}

impl Engine {
    /// Ends the instance of a child. The child's `Local` is left to the caller, who marks or removes it.
    pub(super) fn end_instance(&mut self, child: Slot, reason: StopReason, retention: Duration, after: After) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let (instance, body) = (local.instance, local.body.take());
        let ending = Ending {
            child,
            reason,
            call: local.call.take(),
            body,
            is_stop_called: false,
            shutdown: Duration::from_millis(u64::from(local.spec.shutdown_ms)),
            retained_until: (!retention.is_zero()).then_some(self.now + retention),
            after,
        };
        let limit = if retention.is_zero() { ending.shutdown } else { retention };
        self.instances.insert(instance, child);
        self.endings.insert(&mut self.children, instance, ending);
        if body.is_some() {
            self.tell_host(child, instance, HostRequest::CancelRun);
        }
        self.timers.arm(TimerKey::Ending(instance), self.now + limit);
        self.ending_progress(instance);
    }

    /// Forgets an instance without calling it: it crashed, or hangs.
    pub(super) fn discard_instance(&mut self, child: Slot) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let instance = local.instance;
        let calls = [local.call.take(), local.body.take()];
        for number in calls.into_iter().flatten() {
            if let Some(open) = self.calls.end(number)
                && let Purpose::Handle { origin, id, wants_reply } = open.purpose
            {
                self.message_lost(child, &origin, id, wants_reply);
            }
        }
        self.instances.swap_remove(&instance);
        self.tell_host(child, instance, HostRequest::Discard);
    }

    /// Whether an earlier instance of the child still ends here.
    pub(super) fn is_ending(&self, child: Slot) -> bool {
        self.children[child].ending_count > 0
    }

    fn ending_progress(&mut self, instance: InstanceId) {
        let Some(ending) = self.endings.get_mut(instance) else {
            return;
        };
        if ending.retained_until.is_some() || ending.call.is_some() || ending.body.is_some() || ending.is_stop_called {
            return;
        }
        ending.is_stop_called = true;
        let (child, reason, limit) = (ending.child, ending.reason, ending.shutdown);
        let number = self.call_host(child, instance, HostRequest::Stop(reason), Some(limit), Purpose::Stop);
        if let Some(ending) = self.endings.get_mut(instance) {
            ending.call = Some(number);
        }
        self.timers.disarm(&TimerKey::Ending(instance));
    }

    pub(super) fn ending_call_done(&mut self, instance: InstanceId, number: CallNumber) {
        let Some(ending) = self.endings.get_mut(instance) else {
            return;
        };
        if ending.call == Some(number) {
            ending.call = None;
        }
        if ending.body == Some(number) {
            ending.body = None;
        }
        if ending.is_stop_called && ending.call.is_none() {
            self.ended(instance, false);
        } else {
            self.ending_progress(instance);
        }
    }

    pub(super) fn retention_handled(&mut self, instance: InstanceId) {
        self.endings.release(&mut self.children, instance);
        self.ending_progress(instance);
    }

    /// The hub ends: old instances that live on for their retention go now.
    pub(super) fn end_retentions(&mut self) {
        let retained = self.endings.by_instance.iter().filter(|(_, ending)| ending.retained_until.is_some());
        let instances: Vec<InstanceId> = retained.map(|(instance, _)| *instance).collect();
        for instance in instances {
            self.retention_handled(instance);
        }
    }

    /// The retention is over, or host code hangs and is written off.
    pub(super) fn ending_late(&mut self, instance: InstanceId) {
        if self.endings.release(&mut self.children, instance) {
            let limit = self.endings.get_mut(instance).map_or(Duration::ZERO, |ending| ending.shutdown);
            self.timers.arm(TimerKey::Ending(instance), self.now + limit);
            self.ending_progress(instance);
            return;
        }
        self.ended(instance, true);
    }

    /// The hub ends: what has not ended by now is written off.
    pub(super) fn write_off_endings(&mut self) {
        while let Some((&instance, _)) = self.endings.by_instance.first_key_value() {
            self.ended(instance, true);
        }
    }

    pub(super) fn ended(&mut self, instance: InstanceId, is_written_off: bool) {
        let Some(ending) = self.endings.remove(&mut self.children, instance) else {
            return;
        };
        self.timers.disarm(&TimerKey::Ending(instance));
        self.instances.swap_remove(&instance);
        for number in [ending.call, ending.body].into_iter().flatten() {
            self.calls.end(number);
        }
        let child = ending.child;
        if is_written_off {
            self.tell_host(child, instance, HostRequest::Discard);
        }
        match ending.after {
            After::Nothing | After::ColdStopped => self.children.mark_dirty(child),
            After::Stopped | After::Aborted(..) | After::Refused(..) => self.local_ended(child, instance),
        }
        self.after_ended(child, ending.after);
        self.drain_progress();
    }

    /// Tells whoever waits for the end of an instance.
    pub(super) fn after_ended(&mut self, child: Slot, after: After) {
        match after {
            After::Nothing | After::Stopped => {}
            After::ColdStopped => self.cold_stopped(child),
            After::Aborted(to, token) => self.send_ctl(&to, &Message::Aborted(self.id(child), token)),
            After::Refused(to, token, why) => {
                let child = self.id(child);
                self.send_ctl(&to, &Message::Refused { child, token, is_transient: false, why });
            }
        }
    }

    /// The child's instance has ended, and with it the child on this node.
    fn local_ended(&mut self, child: Slot, instance: InstanceId) {
        if self.children.local(child).is_some_and(|local| local.instance == instance) {
            self.remove_local(child);
            self.drop_row(child, None);
        }
        self.children.mark_dirty(child);
    }

    /// Removes the record of an instance; what waited in it is sent back unhandled.
    pub(super) fn remove_local(&mut self, child: Slot) -> Option<Box<Local>> {
        let local = self.children.take_local(child)?;
        if !self.endings.contains(local.instance) {
            self.instances.swap_remove(&local.instance);
        }
        for key in [TimerKey::Move(child), TimerKey::MoveBudget(child), TimerKey::Restart(child)] {
            self.timers.disarm(&key);
        }
        Some(local)
    }

    /// Stops the child on this node for good.
    pub(super) fn stop_local(&mut self, child: Slot, reason: StopReason) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let has_instance = match &local.phase {
            Phase::Ending => return,
            Phase::Resting { .. } | Phase::Quarantined { .. } => false,
            Phase::Starting { .. } | Phase::Active => true,
            Phase::Outgoing(outgoing) => outgoing.has_instance(),
            Phase::Incoming(incoming) => incoming.has_instance(),
        };
        let source = self.leave_move(child);
        self.return_inbox(child, None);
        self.answer_waiters_stopped(child);
        if !has_instance {
            self.remove_local(child);
            self.drop_row(child, None);
            self.children.mark_dirty(child);
            return;
        }
        let after = source.map_or(After::Stopped, |(from, token)| After::Refused(from, token, "it ends".to_owned()));
        self.end_instance(child, reason, Duration::ZERO, after);
        if let Some(local) = self.children.local_mut(child) {
            local.phase = Phase::Ending;
        }
    }
}
