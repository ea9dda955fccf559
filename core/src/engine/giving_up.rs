//! The giving end when a move does not go through: who may act for the child then, and from which state (R5).

use super::calls::Purpose;
use super::children::Slot;
use super::conflict::conflict_plan;
use super::local::{Phase, Work};
use super::outgoing::{Aim, STEP_AGAIN, Step};
use super::{Engine, TimerKey};
use crate::host::call::{HandoverTarget, HostRequest, StartReason};
use crate::ids::{NodeName, NodeRef, Token};
use crate::observe::HookName;
use crate::payload::Payload;
use crate::swim::Evidence;
use crate::wire::Message;

impl Engine {
    /// Another member's instance is the child under a higher token, and it is not the target of this move.
    pub(super) fn superior(&self, child: Slot) -> Option<(NodeRef, Token)> {
        let local = self.children.local(child)?;
        let holder = self.children[child].entry.active_holder()?;
        let is_target = match &local.phase {
            Phase::Outgoing(outgoing) => outgoing.is_taken_by(&holder.node, holder.row.token),
            Phase::Starting { .. }
            | Phase::Active
            | Phase::Resting { .. }
            | Phase::Quarantined { .. }
            | Phase::Incoming(_)
            | Phase::Ending => false,
        };
        let is_superior = holder.node != self.me && holder.row.token > local.token && !is_target;
        is_superior.then(|| (holder.node.clone(), holder.row.token))
    }

    /// A move finds that the child is another node's by now: what this node holds is shown to it (R12), and nothing
    /// goes on here.
    fn lose_to(&mut self, child: Slot, winner: NodeRef, token: Token, why: &str) {
        let (now, budget) = (self.now, self.settings.move_budget);
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let has_state = local.has_state;
        let Phase::Outgoing(outgoing) = &mut local.phase else {
            return;
        };
        let (was_move, target) = (outgoing.aim == Aim::Move, outgoing.to.clone());
        outgoing.aim = Aim::Conflict;
        outgoing.to = winner;
        outgoing.token = token;
        outgoing.plan = conflict_plan(has_state);
        outgoing.step = Step::Transferring;
        outgoing.why_aborted.clear();
        self.timers.arm(TimerKey::MoveBudget(child), now + budget);
        if was_move {
            self.counters.handovers_aborted += 1;
            let from = self.me.name.clone();
            self.fire_of(
                HookName::HandoverFailed,
                child,
                |id| serde_json::json!({"child_id": id, "from": from, "to": target.name, "why": why}),
            );
            self.send_step(child);
        } else {
            self.timers.arm(TimerKey::Move(child), now + STEP_AGAIN * 2);
        }
    }

    /// The target refuses, or has forgotten: it will never be active under this token.
    pub(super) fn refused_received(
        &mut self,
        from: &NodeRef,
        child: Slot,
        token: Token,
        is_transient: bool,
        why: &str,
    ) {
        let Some(outgoing) = self.outgoing_with(child, token) else {
            return;
        };
        if outgoing.to != *from || outgoing.aim != Aim::Move {
            return;
        }
        match outgoing.step {
            Step::Committed if !is_transient => {
                // It was never active and will not be: all that was given is still here.
                let held = std::mem::take(&mut outgoing.held);
                let now = self.now;
                self.give_up(child, why);
                if let Some(local) = self.children.local_mut(child) {
                    for message in held.into_iter().rev() {
                        local.inbox.push_front(Work::from_held(message, now));
                    }
                }
                self.instance_free(child);
            }
            Step::Committed => {
                // It may have been active; its log, which we have, says that it is not any more.
                if self.has_forgotten(from, child) {
                    self.give_up(child, why);
                    if self.outgoing(child).is_none() {
                        self.report_own_loss(child);
                    }
                }
            }
            Step::Preparing | Step::Freezing | Step::Snapshotting | Step::ColdStopping | Step::Transferring => {
                if !is_transient {
                    self.tell_target_failed(child, why);
                }
                self.give_up(child, why);
            }
            Step::Aborting { .. } => self.resume(child),
        }
    }

    /// Whether we know all that a member wrote, and it has nothing of the child.
    fn has_forgotten(&self, node: &NodeRef, child: Slot) -> bool {
        let is_up_to_date = self
            .membership
            .member(node)
            .is_some_and(|peer| peer.status.as_ref().is_some_and(|status| peer.known_seq >= status.seq));
        let has_row = self.children[child].entry.holders.iter().any(|holder| holder.node == *node);
        is_up_to_date && !has_row
    }

    fn tell_target_failed(&mut self, child: Slot, why: &str) {
        let is_free = self.children.local(child).is_some_and(|local| local.call.is_none());
        let has_instance =
            self.outgoing(child).is_some_and(|outgoing| outgoing.has_instance() && outgoing.plan.handover);
        if is_free && has_instance {
            let request = HostRequest::HandoverStart(HandoverTarget::Error(why.to_owned()));
            self.occupy(child, request, super::calls::SHORT_CALLBACK, Purpose::Notice);
        }
    }

    pub(super) fn aborted_received(&mut self, child: Slot, token: Token) {
        let is_aborting =
            self.outgoing_with(child, token).is_some_and(|outgoing| matches!(outgoing.step, Step::Aborting { .. }));
        if is_aborting {
            self.resume(child);
        }
    }

    /// One child's budget is over.
    pub(super) fn move_budget_over(&mut self, child: Slot) {
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        match outgoing.step {
            // The target has promised; it is asked until it answers or is gone.
            Step::Committed | Step::Aborting { .. } => {}
            Step::Preparing | Step::Freezing | Step::Snapshotting | Step::ColdStopping | Step::Transferring => {
                self.abort_move(child, "the move took longer than migration_base_timeout_ms");
            }
        }
    }

    /// Gives a move up while the target lives.
    pub(super) fn abort_move(&mut self, child: Slot, why: &str) {
        let (now, readiness) = (self.now, self.settings.readiness);
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let (to, token, aim) = (outgoing.to.clone(), outgoing.token, outgoing.aim);
        let is_sent = matches!(outgoing.step, Step::Transferring | Step::Aborting { .. });
        let is_committed = outgoing.step == Step::Committed;
        if aim == Aim::Move
            && (is_sent || is_committed)
            && let Some((winner, higher)) = self.superior(child)
            && (is_sent || higher > token)
        {
            // Nothing will go on here, so there is nothing to wait for.
            self.send_ctl(&to, &Message::Abort(self.id(child), token));
            return self.lose_to(child, winner, higher, why);
        }
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        match outgoing.step {
            Step::Committed | Step::Aborting { .. } => {}
            Step::Transferring if aim == Aim::Move => {
                outgoing.why_aborted = why.to_owned();
                // Twice the readiness by our clock is longer than once by any clock of the cluster.
                outgoing.step = Step::Aborting { until: outgoing.sent_at.max(now) + readiness * 2 };
                self.send_step(child);
            }
            Step::Preparing | Step::Freezing | Step::Snapshotting | Step::ColdStopping | Step::Transferring => {
                if aim == Aim::Move {
                    self.send_ctl(&to, &Message::Abort(self.id(child), token));
                }
                self.give_up(child, why);
            }
        }
    }

    /// The target will never act for the child: the old instance goes on.
    fn give_up(&mut self, child: Slot, why: &str) {
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        outgoing.why_aborted = why.to_owned();
        if outgoing.step == Step::ColdStopping {
            // `stop` is under way and cannot be taken back; the child starts again after it.
            return;
        }
        self.resume(child);
    }

    /// The old instance goes on, or starts again from its snapshot (R5).
    pub(super) fn resume(&mut self, child: Slot) {
        let epoch = self.next_epoch(child);
        let transfer = self.next_transfer();
        let incarnation = self.me.incarnation;
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        if outgoing.is_past_freeze() {
            let why = std::mem::take(&mut outgoing.why_aborted);
            if let Some((winner, token)) = self.superior(child) {
                return self.lose_to(child, winner, token, &why);
            }
            if let Some(outgoing) = self.outgoing(child) {
                outgoing.why_aborted = why;
            }
        }
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let (aim, to) = (outgoing.aim, outgoing.to.clone());
        let (was_sent, has_instance) = (outgoing.is_past_freeze(), outgoing.has_instance);
        let (snapshot, why) = (outgoing.snapshot.take(), std::mem::take(&mut outgoing.why_aborted));
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.failed_moves += 1;
        local.failed_target = (aim == Aim::Move).then(|| Box::new(to.clone()));
        if was_sent {
            // The target, or the winner, may have published a higher token: go on above it.
            local.token = Token { epoch, incarnation, transfer };
            local.highest_epoch = epoch;
        }
        if aim == Aim::Move {
            self.counters.handovers_aborted += 1;
            let from = self.me.name.clone();
            self.fire_of(
                HookName::HandoverFailed,
                child,
                |id| serde_json::json!({"child_id": id, "from": from, "to": to.name, "why": why}),
            );
        }
        self.close_timers(child);
        if has_instance {
            self.unfreeze(child, was_sent);
        } else {
            self.start_again(child, snapshot);
        }
        self.move_closed(child);
    }

    fn unfreeze(&mut self, child: Slot, has_new_epoch: bool) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.phase = Phase::Active;
        let needs_run = local.has_run && local.body.is_none();
        self.publish_local(child);
        if has_new_epoch {
            self.tell_role(child);
        }
        if needs_run {
            self.run_body(child);
        }
        self.instance_free(child);
    }

    /// Starts the child here again, with a state if there is one.
    fn start_again(&mut self, child: Slot, restore: Option<Payload>) {
        self.numbers.instance += 1;
        let instance = crate::ids::InstanceId(self.numbers.instance);
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.instance = instance;
        local.told_mode = None;
        local.phase = Phase::Starting { restore: restore.map(Box::new), is_first: false };
        self.instances.insert(instance, child);
        self.publish_local(child);
        self.start_instance(child, StartReason::Restart, super::calls::CALLBACK_LIMIT);
    }

    /// The target is not in the view any more.
    pub(super) fn outgoing_lost_target(&mut self, child: Slot, evidence: Evidence) {
        let readiness = self.settings.readiness;
        let now = self.now;
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let is_certain = match evidence {
            Evidence::Refused | Evidence::Left | Evidence::Replaced => true,
            Evidence::Suspected => false,
        };
        let why = format!("{} is gone", outgoing.to);
        match outgoing.step {
            Step::Preparing | Step::Freezing | Step::Snapshotting | Step::ColdStopping => self.give_up(child, &why),
            Step::Transferring | Step::Aborting { .. } if is_certain || outgoing.aim == Aim::Conflict => {
                self.give_up(child, &why);
            }
            Step::Transferring => {
                // It may be alive and go on in doubt; wait until it cannot any more.
                outgoing.why_aborted = why;
                outgoing.step = Step::Aborting { until: outgoing.sent_at.max(now) + readiness * 2 };
                self.timers.arm(TimerKey::Move(child), now + readiness * 2);
            }
            Step::Aborting { .. } => {}
            Step::Committed => {
                // It may have been active and have worked (R5): what it did is lost, and that is told.
                outgoing.why_aborted = why;
                self.resume(child);
                if self.outgoing(child).is_none() {
                    self.report_own_loss(child);
                }
            }
        }
    }

    /// Ends the part of a child in a move because the child itself ends here. An incoming instance still runs: its
    /// source may know only after its end, and is returned.
    pub(super) fn leave_move(&mut self, child: Slot) -> Option<(NodeRef, Token)> {
        let local = self.children.local(child)?;
        match &local.phase {
            Phase::Outgoing(outgoing) => {
                let (to, token, is_move) = (outgoing.to.clone(), outgoing.token, outgoing.aim == Aim::Move);
                if is_move {
                    self.send_ctl(&to, &Message::Abort(self.id(child), token));
                }
                self.close_timers(child);
                self.move_closed(child);
                None
            }
            Phase::Incoming(incoming) => {
                let (from, token) = (incoming.from.clone(), local.token);
                if incoming.has_instance() {
                    self.remember_refused(child, token);
                    return Some((from, token));
                }
                self.refuse_move(&from, child, token, true, "the child ends");
                None
            }
            Phase::Starting { .. }
            | Phase::Active
            | Phase::Resting { .. }
            | Phase::Quarantined { .. }
            | Phase::Ending => None,
        }
    }

    fn close_timers(&mut self, child: Slot) {
        self.timers.disarm(&TimerKey::Move(child));
        self.timers.disarm(&TimerKey::MoveBudget(child));
    }

    /// Tells that the child of this node goes on without all of its state (R8).
    pub(super) fn report_own_loss(&mut self, child: Slot) {
        let version = self.children[child].entry.version().counter;
        let node = self.me.name.clone();
        let Some(local) = self.children.local_mut(child).filter(|local| local.has_state && !local.is_replica) else {
            return;
        };
        let lost = crate::spec::StateLost { epoch: local.token.epoch, version, node };
        local.lost = Some(std::sync::Arc::new(lost));
        self.counters.states_lost += 1;
        self.publish_local(child);
    }

    /// Goes on above a gone node that was the child after this one: it was there while this node was cut off or did
    /// not run, and what it did is lost (R8).
    pub(super) fn outlive(&mut self, child: Slot, gone: NodeName) {
        let epoch = self.next_epoch(child);
        let transfer = self.next_transfer();
        let incarnation = self.me.incarnation;
        let version = self.children[child].entry.version().counter;
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.token = Token { epoch, incarnation, transfer };
        local.highest_epoch = epoch;
        if local.has_state {
            let lost = crate::spec::StateLost { epoch, version, node: gone };
            local.lost = Some(std::sync::Arc::new(lost));
            self.counters.states_lost += 1;
        }
        self.publish_local(child);
        self.tell_role(child);
        self.children.mark_dirty(child);
    }
}
