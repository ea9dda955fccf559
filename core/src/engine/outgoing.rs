//! The giving end of a move, and of a heal: freeze, snapshot, send, commit, let go (A6, R5, R6).
//!
//! Up to `Transferring` the target cannot act for the child, so giving up is immediate. From then on until the
//! commit the target may become active by itself when it believes this node gone; so this node goes on only after
//! the target has acknowledged the abort, or is certainly dead, or its readiness has expired by our own clock. After
//! the commit the child is the target's; only when the target is gone is it taken back, and the loss is told.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::calls::{Purpose, split};
use super::ending::After;
use super::hooks::MovedState;
use super::local::{Phase, Work};
use super::{Engine, Lane, TimerKey};
use crate::host::call::{HandoverTarget, HostAnswer, HostRequest, StartReason, StopReason};
use crate::ids::{ChildId, NodeName, NodeRef, Token};
use crate::observe::HookName;
use crate::payload::Payload;
use crate::strategy::MovePlan;
use crate::swim::Evidence;
use crate::time::Timestamp;
use crate::wire::{HeldMessage, Message};

/// Between two sends of the same step.
pub(super) const STEP_AGAIN: Duration = Duration::from_millis(250);

/// Why an instance gives its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// The target becomes the child.
    Move,
    /// The target is the child already: it sees what the loser had (R12).
    Conflict,
}

/// How far the giving end is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// `Prepare` is sent.
    Preparing,
    /// Frozen; waits for the call and the body in flight.
    Freezing,
    /// `prepare_handover_state` is under way.
    Snapshotting,
    /// Cold: `stop` is under way.
    ColdStopping,
    /// The state is sent; waits for `Ready`.
    Transferring,
    /// `Commit` is sent; waits for `Activated`.
    Committed,
    /// Given up, but the target may still believe otherwise until then.
    Aborting { until: Timestamp },
}

/// The giving end of one move.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) aim: Aim,
    pub(super) to: NodeRef,
    /// The target's token.
    pub(super) token: Token,
    pub(super) plan: MovePlan,
    pub(super) step: Step,
    pub(super) snapshot: Option<Payload>,
    /// The old instance still exists.
    has_instance: bool,
    /// The state was sent at this time last.
    sent_at: Timestamp,
    held: Vec<HeldMessage>,
    why_aborted: String,
}

impl Outgoing {
    pub(super) fn has_instance(&self) -> bool {
        self.has_instance && self.step != Step::ColdStopping
    }

    /// The instance's state is taken: what happens to the instance does not matter any more.
    pub(super) fn is_past_freeze(&self) -> bool {
        match self.step {
            Step::Preparing | Step::Freezing | Step::Snapshotting => false,
            Step::ColdStopping | Step::Transferring | Step::Committed | Step::Aborting { .. } => true,
        }
    }

    /// Messages that come now are for the target.
    pub(super) fn is_given(&self) -> bool {
        self.step == Step::Committed
    }
}

impl Engine {
    fn outgoing(&mut self, child: &ChildId) -> Option<&mut Outgoing> {
        match &mut self.locals.get_mut(child)?.phase {
            Phase::Outgoing(outgoing) => Some(outgoing),
            Phase::Starting { .. }
            | Phase::Active
            | Phase::Resting { .. }
            | Phase::Quarantined { .. }
            | Phase::Incoming(_)
            | Phase::Ending => None,
        }
    }

    /// The move under this token.
    fn outgoing_with(&mut self, child: &ChildId, token: Token) -> Option<&mut Outgoing> {
        self.outgoing(child).filter(|outgoing| outgoing.token == token)
    }

    /// Begins to move a child to its owner.
    pub(super) fn begin_move(&mut self, child: &ChildId, to: &NodeRef) {
        let epoch = self.next_epoch(child);
        let transfer = self.next_transfer();
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        let (has_instance, snapshot) = match &mut local.phase {
            Phase::Active => (true, None),
            Phase::Resting { restore } => (false, restore.take()),
            Phase::Starting { .. }
            | Phase::Quarantined { .. }
            | Phase::Outgoing(_)
            | Phase::Incoming(_)
            | Phase::Ending => {
                return;
            }
        };
        local.highest_epoch = epoch;
        let plan = self.strategies.migration.plan(&local.spec, local.has_state);
        let token = Token { epoch, incarnation: to.incarnation, transfer };
        local.phase = Phase::Outgoing(Box::new(Outgoing {
            aim: Aim::Move,
            to: to.clone(),
            token,
            plan,
            step: Step::Preparing,
            snapshot,
            has_instance,
            sent_at: self.now,
            held: Vec::new(),
            why_aborted: String::new(),
        }));
        self.timers.disarm(&TimerKey::Restart(child.clone()));
        self.counters.handovers_started += 1;
        self.moves.open += 1;
        self.timers.arm(TimerKey::MoveBudget(child.clone()), self.now + self.settings.move_budget);
        self.timers.arm_earlier(TimerKey::DeadlockRecovery, self.now + self.settings.deadlock_recovery);
        self.send_step(child);
    }

    /// Begins to give the state of an instance that lost after a heal to the winner.
    pub(super) fn begin_conflict(&mut self, child: &ChildId, winner: &NodeRef, token: Token) {
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        let plan = conflict_plan(local.has_state);
        local.phase = Phase::Outgoing(Box::new(Outgoing {
            aim: Aim::Conflict,
            to: winner.clone(),
            token,
            plan,
            step: Step::Freezing,
            snapshot: None,
            has_instance: true,
            sent_at: self.now,
            held: Vec::new(),
            why_aborted: String::new(),
        }));
        self.moves.open += 1;
        self.timers.arm(TimerKey::MoveBudget(child.clone()), self.now + self.settings.move_budget);
        self.freeze(child);
    }

    /// Another member's instance is the child under a higher token, and it is not the target of this move.
    fn superior(&self, child: &ChildId) -> Option<(NodeRef, Token)> {
        let local = self.locals.get(child)?;
        let holder = self.registry.get(child.as_str())?.active_holder()?;
        let is_target = match &local.phase {
            Phase::Outgoing(outgoing) => {
                outgoing.aim == Aim::Move && outgoing.to == holder.node && outgoing.token == holder.row.token
            }
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
    fn lose_to(&mut self, child: &ChildId, winner: NodeRef, token: Token, why: &str) {
        let (now, budget) = (self.now, self.settings.move_budget);
        let Some(local) = self.locals.get_mut(child) else {
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
        self.timers.arm(TimerKey::MoveBudget(child.clone()), now + budget);
        if was_move {
            self.counters.handovers_aborted += 1;
            let from = self.me.name.clone();
            self.fire(
                HookName::HandoverFailed,
                || serde_json::json!({"child_id": child, "from": from, "to": target.name, "why": why}),
            );
            self.send_step(child);
        } else {
            self.timers.arm(TimerKey::Move(child.clone()), now + STEP_AGAIN * 2);
        }
    }

    /// Sends the message of the present step, again if need be.
    fn send_step(&mut self, child: &ChildId) {
        let (view_hash, now) = (self.membership.view.hash, self.now);
        let version = self.registry.get(child.as_str()).map(super::registry::Entry::version).unwrap_or_default();
        let lost = self.locals.get(child).and_then(|local| local.lost.clone());
        let own_token = self.locals.get(child).map(|local| local.token).unwrap_or_default();
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let (to, token, child) = (outgoing.to.clone(), outgoing.token, child.clone());
        let key = TimerKey::Move(child.clone());
        let mut again = STEP_AGAIN;
        let mut lane = Lane::Ctl;
        let message = match (&outgoing.step, outgoing.aim) {
            (Step::Preparing, _) => Message::Prepare { child, token, view_hash, version, is_hot: outgoing.plan.hot },
            (Step::Transferring, aim) => {
                outgoing.sent_at = now;
                let state = outgoing.snapshot.clone();
                let length = state.as_ref().map_or(0, Payload::len);
                if length > crate::wire::MAX_CTL_FRAME_BYTES / 2 {
                    lane = Lane::Bulk;
                    // Ten megabytes a second is slow; what is slower is sent twice.
                    again += Duration::from_micros(length as u64 / 10);
                }
                match aim {
                    Aim::Move => {
                        let hash = hash_of(state.as_ref());
                        Message::State { child, token, state, hash }
                    }
                    Aim::Conflict => Message::Conflict { child, loser: own_token, winner: token, state },
                }
            }
            (Step::Committed, _) => Message::Commit { child, token, held: outgoing.held.clone(), lost },
            (Step::Aborting { .. }, _) => Message::Abort(child, token),
            (Step::Freezing | Step::Snapshotting | Step::ColdStopping, _) => return,
        };
        self.send(&to, lane, &message);
        self.timers.arm(key, self.now + again);
    }

    /// A step's time is over: at the giving end it is sent again or given up, at the receiving end see `incoming`.
    pub(super) fn move_step_late(&mut self, child: &ChildId) {
        let now = self.now;
        let Some(outgoing) = self.outgoing(child) else {
            return self.incoming_late(child);
        };
        match outgoing.step {
            Step::Preparing | Step::Transferring | Step::Committed => self.send_step(child),
            Step::Aborting { until } if until <= now => self.resume(child),
            Step::Aborting { .. } => self.send_step(child),
            Step::Freezing | Step::Snapshotting => {
                self.abort_move(child, "the child did not come to rest and give its state in time");
            }
            Step::ColdStopping => {}
        }
    }

    /// H3: the target is ready to receive.
    pub(super) fn prepared_received(&mut self, from: &NodeRef, child: &ChildId, token: Token) {
        // Without room the step is asked for again, and the target answers again.
        let has_room = self.moves.has_room();
        let Some(outgoing) = self.outgoing_with(child, token) else {
            return;
        };
        if outgoing.step != Step::Preparing || outgoing.to != *from || !has_room {
            return;
        }
        outgoing.step = Step::Freezing;
        if outgoing.plan.handover && outgoing.has_instance {
            let target = HandoverTarget::Node { node: from.name.clone(), epoch: token.epoch };
            let is_free = self.locals.get(child).is_some_and(|local| local.call.is_none());
            if is_free {
                let limit = super::calls::SHORT_CALLBACK;
                self.occupy(child, HostRequest::HandoverStart(target), limit, Purpose::Notice);
            }
        }
        self.freeze(child);
    }

    /// R6: no further message; the body shall return.
    fn freeze(&mut self, child: &ChildId) {
        let Some(local) = self.locals.get(child) else {
            return;
        };
        let (instance, has_body) = (local.instance, local.body.is_some());
        if has_body {
            self.tell_host(child, instance, HostRequest::CancelRun);
        }
        if let Some(wait) = self.outgoing(child).map(|outgoing| outgoing.plan.handover_data_wait) {
            self.timers.arm(TimerKey::Move(child.clone()), self.now + wait);
        }
        self.outgoing_progress(child);
    }

    /// Something the freeze waits for has ended.
    pub(super) fn outgoing_progress(&mut self, child: &ChildId) {
        let Some(local) = self.locals.get(child) else {
            return;
        };
        let is_busy = local.call.is_some() || local.body.is_some();
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        if outgoing.step != Step::Freezing || is_busy {
            return;
        }
        if outgoing.plan.handover && outgoing.has_instance {
            outgoing.step = Step::Snapshotting;
            let limit = outgoing.plan.handover_data_wait.max(Duration::from_millis(1));
            self.occupy(child, HostRequest::PrepareState, limit, Purpose::Prepare);
        } else {
            self.snapshot_taken(child);
        }
    }

    /// `prepare_handover_state` ended.
    pub(super) fn prepare_ended(&mut self, child: &ChildId, answer: HostAnswer) {
        let Some(outgoing) = self.outgoing(child) else {
            return self.instance_free(child);
        };
        if outgoing.step != Step::Snapshotting {
            return;
        }
        match split(answer) {
            Ok(state) => {
                let bytes = state.as_ref().map_or(0, Payload::len);
                outgoing.snapshot = state;
                self.moves.hold_state(child, bytes);
                self.snapshot_taken(child);
            }
            // A loser without a state to show still has to go.
            Err(_) if outgoing.aim == Aim::Conflict => self.snapshot_taken(child),
            Err(failure) => self.abort_move(child, &failure.message),
        }
    }

    fn snapshot_taken(&mut self, child: &ChildId) {
        self.timers.disarm(&TimerKey::Move(child.clone()));
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        if outgoing.aim == Aim::Move && !outgoing.plan.hot && outgoing.has_instance {
            outgoing.step = Step::ColdStopping;
            self.end_instance(child, StopReason::Migrated, Duration::ZERO, After::ColdStopped);
            return;
        }
        outgoing.step = Step::Transferring;
        self.send_step(child);
    }

    /// Cold: the old instance is gone, its state may travel.
    pub(super) fn cold_stopped(&mut self, child: &ChildId) {
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        if outgoing.step != Step::ColdStopping {
            return;
        }
        outgoing.has_instance = false;
        outgoing.step = Step::Transferring;
        let is_given_up = !outgoing.why_aborted.is_empty();
        if is_given_up {
            self.resume(child);
        } else {
            self.send_step(child);
        }
    }

    /// H7 and H8: the target has the state; from here on it is the child.
    pub(super) fn ready_received(&mut self, from: &NodeRef, child: &ChildId, token: Token, hash: u64) {
        let Some(outgoing) = self.outgoing_with(child, token) else {
            return self.disown(from, child, token);
        };
        if outgoing.step != Step::Transferring || hash != hash_of(outgoing.snapshot.as_ref()) {
            return;
        }
        let to = outgoing.to.clone();
        outgoing.step = Step::Committed;
        let now = self.now;
        let inbox = self.locals.get_mut(child).map(|local| std::mem::take(&mut local.inbox)).unwrap_or_default();
        let held: Vec<HeldMessage> = inbox.into_iter().filter_map(|work| work.into_held(now)).collect();
        for message in &held {
            self.reroute(&message.origin.clone(), message.id, &to);
        }
        if let Some(outgoing) = self.outgoing(child) {
            outgoing.held = held;
        }
        self.send_step(child);
    }

    /// A target asks about a move this node knows nothing of: it must not become active.
    fn disown(&mut self, from: &NodeRef, child: &ChildId, token: Token) {
        let is_past = self
            .registry
            .get(child.as_str())
            .and_then(super::registry::Entry::active_holder)
            .is_none_or(|holder| holder.row.token != token);
        if is_past {
            self.send_ctl(from, &Message::Abort(child.clone(), token));
        }
    }

    /// H10: the target is the child.
    pub(super) fn activated_received(&mut self, from: &NodeRef, child: &ChildId, token: Token, seq: u64) {
        let Some(outgoing) = self.outgoing_with(child, token) else {
            return;
        };
        if outgoing.to == *from {
            self.given(child, seq);
        }
    }

    /// The child is the target's. The old instance goes.
    pub(super) fn given(&mut self, child: &ChildId, seq: u64) {
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let (to, plan, has_instance) = (outgoing.to.clone(), outgoing.plan, outgoing.has_instance());
        let has_state = outgoing.snapshot.is_some();
        // A target that went on in doubt never heard the commit: what waited here goes back to the senders.
        self.counters.handovers_done += 1;
        self.return_inbox(child, Some(&to));
        let needs_state = self.locals.get(child).is_some_and(|local| local.has_state);
        if has_instance {
            // Without a delivered state the old instance lives on for a while, fenced and unlisted (R5).
            let retention = if has_state { Duration::ZERO } else { plan.retention };
            self.end_instance(child, StopReason::Migrated, retention, After::Nothing);
        }
        self.remove_local(child);
        self.drop_row(child, Some((to.clone(), seq)));
        let state = if has_state { MovedState::HandedOver } else { MovedState::None };
        self.hooks.migrated.entry(to.name.clone()).or_default().push((child.clone(), state));
        let from = self.me.name.clone();
        if plan.handover {
            self.fire(
                HookName::HandoverConfirmed,
                || serde_json::json!({"child_id": child, "from": from, "to": to.name}),
            );
        }
        self.moves.remember(child, self.now, &self.me.name, &to.name);
        self.drain_moved(child, has_state || !needs_state);
        self.move_closed(child);
    }

    /// The target refuses, or has forgotten: it will never be active under this token.
    pub(super) fn refused_received(
        &mut self,
        from: &NodeRef,
        child: &ChildId,
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
                if let Some(local) = self.locals.get_mut(child) {
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
    fn has_forgotten(&self, node: &NodeRef, child: &ChildId) -> bool {
        let is_up_to_date = self
            .membership
            .member(node)
            .is_some_and(|peer| peer.status.as_ref().is_some_and(|status| peer.known_seq >= status.seq));
        let has_row = self
            .registry
            .get(child.as_str())
            .is_some_and(|entry| entry.holders.iter().any(|holder| holder.node == *node));
        is_up_to_date && !has_row
    }

    fn tell_target_failed(&mut self, child: &ChildId, why: &str) {
        let is_free = self.locals.get(child).is_some_and(|local| local.call.is_none());
        let has_instance =
            self.outgoing(child).is_some_and(|outgoing| outgoing.has_instance() && outgoing.plan.handover);
        if is_free && has_instance {
            let request = HostRequest::HandoverStart(HandoverTarget::Error(why.to_owned()));
            self.occupy(child, request, super::calls::SHORT_CALLBACK, Purpose::Notice);
        }
    }

    pub(super) fn aborted_received(&mut self, child: &ChildId, token: Token) {
        let is_aborting =
            self.outgoing_with(child, token).is_some_and(|outgoing| matches!(outgoing.step, Step::Aborting { .. }));
        if is_aborting {
            self.resume(child);
        }
    }

    /// One child's budget is over.
    pub(super) fn move_budget_over(&mut self, child: &ChildId) {
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
    pub(super) fn abort_move(&mut self, child: &ChildId, why: &str) {
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
            self.send_ctl(&to, &Message::Abort(child.clone(), token));
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
                    self.send_ctl(&to, &Message::Abort(child.clone(), token));
                }
                self.give_up(child, why);
            }
        }
    }

    /// The target will never act for the child: the old instance goes on.
    fn give_up(&mut self, child: &ChildId, why: &str) {
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
    fn resume(&mut self, child: &ChildId) {
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
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        local.failed_moves += 1;
        if was_sent {
            // The target, or the winner, may have published a higher token: go on above it.
            local.token = Token { epoch, incarnation, transfer };
            local.highest_epoch = epoch;
        }
        if aim == Aim::Move {
            self.counters.handovers_aborted += 1;
            let from = self.me.name.clone();
            self.fire(
                HookName::HandoverFailed,
                || serde_json::json!({"child_id": child, "from": from, "to": to.name, "why": why}),
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

    fn unfreeze(&mut self, child: &ChildId, has_new_epoch: bool) {
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        local.phase = Phase::Active;
        let (instance, epoch, is_free) = (local.instance, local.token.epoch, local.call.is_none());
        let needs_run = local.has_run && local.body.is_none();
        self.publish_local(child);
        if has_new_epoch && is_free {
            let request = HostRequest::SetEpoch(epoch);
            self.occupy(child, request, super::calls::SHORT_CALLBACK, Purpose::Notice);
        }
        if needs_run {
            let number = self.call_host(child, instance, HostRequest::Run, None, Purpose::Run);
            if let Some(local) = self.locals.get_mut(child) {
                local.body = Some(number);
            }
        }
        self.instance_free(child);
    }

    /// Starts the child here again, with a state if there is one.
    fn start_again(&mut self, child: &ChildId, restore: Option<Payload>) {
        self.numbers.instance += 1;
        let instance = crate::ids::InstanceId(self.numbers.instance);
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        local.instance = instance;
        local.phase = Phase::Starting { restore, is_first: false };
        self.instances.insert(instance, child.clone());
        self.publish_local(child);
        self.start_instance(child, StartReason::Restart, super::calls::CALLBACK_LIMIT);
    }

    /// The target is not in the view any more.
    pub(super) fn outgoing_lost_target(&mut self, child: &ChildId, evidence: Evidence) {
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
                self.timers.arm(TimerKey::Move(child.clone()), now + readiness * 2);
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

    /// Ends the part of a child in a move because the child itself ends here.
    pub(super) fn leave_move(&mut self, child: &ChildId) {
        let Some(local) = self.locals.get(child) else {
            return;
        };
        match &local.phase {
            Phase::Outgoing(outgoing) => {
                let (to, token, is_move) = (outgoing.to.clone(), outgoing.token, outgoing.aim == Aim::Move);
                if is_move {
                    self.send_ctl(&to, &Message::Abort(child.clone(), token));
                }
                self.close_timers(child);
                self.move_closed(child);
            }
            Phase::Incoming(incoming) => {
                let (from, token) = (incoming.from.clone(), local.token);
                self.refuse_move(&from, child, token, true, "the child ends");
            }
            Phase::Starting { .. }
            | Phase::Active
            | Phase::Resting { .. }
            | Phase::Quarantined { .. }
            | Phase::Ending => {}
        }
    }

    fn close_timers(&mut self, child: &ChildId) {
        self.timers.disarm(&TimerKey::Move(child.clone()));
        self.timers.disarm(&TimerKey::MoveBudget(child.clone()));
    }

    /// Tells that the child of this node goes on without all of its state (R8).
    pub(super) fn report_own_loss(&mut self, child: &ChildId) {
        let version = self.registry.get(child.as_str()).map_or(0, |entry| entry.version().counter);
        let node = self.me.name.clone();
        let Some(local) = self.locals.get_mut(child).filter(|local| local.has_state) else {
            return;
        };
        let lost = crate::spec::StateLost { epoch: local.token.epoch, version, node };
        local.lost = Some(std::sync::Arc::new(lost));
        self.counters.states_lost += 1;
        self.publish_local(child);
    }

    /// Goes on above a gone node that was the child after this one: it was there while this node was cut off or did
    /// not run, and what it did is lost (R8).
    pub(super) fn outlive(&mut self, child: &ChildId, gone: NodeName) {
        let epoch = self.next_epoch(child);
        let transfer = self.next_transfer();
        let incarnation = self.me.incarnation;
        let version = self.registry.get(child.as_str()).map_or(0, |entry| entry.version().counter);
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        local.token = Token { epoch, incarnation, transfer };
        local.highest_epoch = epoch;
        let instance = local.instance;
        if local.has_state {
            let lost = crate::spec::StateLost { epoch, version, node: gone };
            local.lost = Some(std::sync::Arc::new(lost));
            self.counters.states_lost += 1;
        }
        self.publish_local(child);
        self.tell_host(child, instance, HostRequest::SetEpoch(epoch));
        self.mark_dirty(child);
    }

    /// Sends back what waits for an instance that will not handle it.
    pub(super) fn return_inbox(&mut self, child: &ChildId, hint: Option<&NodeRef>) {
        let Some(local) = self.locals.get_mut(child) else {
            return;
        };
        let mut waiting = std::mem::take(&mut local.inbox);
        if let Phase::Incoming(incoming) = &mut local.phase {
            waiting.extend(std::mem::take(&mut incoming.held));
        }
        for work in waiting {
            match work {
                Work::Message { origin, id, .. } => self.bounce(&origin, id, hint),
                Work::Conflict { from, loser, .. } => {
                    self.send_ctl(&from, &Message::ConflictSeen(child.clone(), loser, false));
                }
            }
        }
    }
}

/// How a loser gives its state to the winner.
fn conflict_plan(has_state: bool) -> MovePlan {
    let wait = Duration::from_secs(3);
    MovePlan {
        hot: true,
        handover: has_state,
        retention: Duration::ZERO,
        handover_data_wait: wait,
        start_timeout: wait,
        confirm: false,
    }
}

/// What `Ready` proves: which state was taken.
pub(super) fn hash_of(state: Option<&Payload>) -> u64 {
    state.map_or(0, |state| xxh3_64(&state.data) | 1)
}
