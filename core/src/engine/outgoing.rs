//! The giving end of a move, and of a heal: freeze, snapshot, send, commit, let go (A6, R5, R6).
//!
//! Up to `Transferring` the target cannot act for the child, so giving up is immediate. From then on until the
//! commit the target may become active by itself when it believes this node gone; so this node goes on only after
//! the target has acknowledged the abort, or is certainly dead, or its readiness has expired by our own clock. After
//! the commit the child is the target's; only when the target is gone is it taken back, and the loss is told.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::calls::{Purpose, split};
use super::children::Slot;
use super::ending::After;
use super::hooks::MovedState;
use super::local::{Phase, Work};
use super::{Engine, Lane, TimerKey};
use crate::host::call::{HandoverTarget, HostAnswer, HostRequest, StopReason};
use crate::ids::{NodeRef, Token};
use crate::observe::HookName;
use crate::payload::Payload;
use crate::spec::Mode;
use crate::strategy::MovePlan;
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
    /// The target runs a replica, which becomes the child.
    pub(super) is_to_replica: bool,
    pub(super) step: Step,
    pub(super) snapshot: Option<Payload>,
    /// The old instance still exists.
    pub(super) has_instance: bool,
    /// The state was sent at this time last.
    pub(super) sent_at: Timestamp,
    pub(super) held: Vec<HeldMessage>,
    pub(super) why_aborted: String,
    /// `children_migrated` tells of it.
    pub(super) is_told: bool,
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

    /// An active instance is what this move made of the child, or was restarted since.
    pub(super) fn is_taken_by(&self, node: &NodeRef, token: Token) -> bool {
        self.aim == Aim::Move && self.to == *node && token.is_restart_of(self.token)
    }

    /// Messages that come now are for the target.
    pub(super) fn is_given(&self) -> bool {
        self.step == Step::Committed
    }
}

impl Engine {
    pub(super) fn outgoing(&mut self, child: Slot) -> Option<&mut Outgoing> {
        match &mut self.children.local_mut(child)?.phase {
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
    pub(super) fn outgoing_with(&mut self, child: Slot, token: Token) -> Option<&mut Outgoing> {
        self.outgoing(child).filter(|outgoing| outgoing.token == token)
    }

    /// Begins to move a child to its owner.
    pub(super) fn begin_move(&mut self, child: Slot, to: &NodeRef) {
        let epoch = self.next_epoch(child);
        let transfer = self.next_transfer();
        let at_target = self.children[child].entry.holder(to).filter(|holder| holder.row.stage.is_replica());
        let (is_to_replica, is_to_active) =
            (at_target.is_some(), at_target.is_some_and(|holder| holder.row.mode == Mode::Active));
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let (has_instance, snapshot) = match &mut local.phase {
            Phase::Active => (true, None),
            Phase::Resting { restore } => (false, restore.take().map(|state| *state)),
            Phase::Starting { .. }
            | Phase::Quarantined { .. }
            | Phase::Outgoing(_)
            | Phase::Incoming(_)
            | Phase::Ending => {
                return;
            }
        };
        local.highest_epoch = epoch;
        let is_forwarded = local.failed_target.take().is_some_and(|target| *target != *to);
        let mut plan = self.strategies.migration.plan(&local.spec, local.has_state);
        // One of several active instances has worked on its own: it keeps what it has.
        plan.handover &= !(is_to_replica && is_to_active);
        let token = Token { epoch, incarnation: to.incarnation, transfer };
        local.phase = Phase::Outgoing(Box::new(Outgoing {
            aim: Aim::Move,
            to: to.clone(),
            token,
            plan,
            is_to_replica,
            step: Step::Preparing,
            snapshot,
            has_instance,
            sent_at: self.now,
            held: Vec::new(),
            why_aborted: String::new(),
            is_told: false,
        }));
        if is_forwarded {
            self.note_forwarded(&self.id(child), to);
        }
        self.timers.disarm(&TimerKey::Restart(child));
        self.counters.handovers_started += 1;
        self.moves.open += 1;
        self.timers.arm(TimerKey::MoveBudget(child), self.now + self.settings.move_budget);
        self.timers.arm_earlier(TimerKey::DeadlockRecovery, self.now + self.settings.deadlock_recovery);
        self.send_step(child);
    }

    /// Sends the message of the present step, again if need be.
    pub(super) fn send_step(&mut self, child: Slot) {
        let (view_hash, now) = (self.membership.view.hash, self.now);
        let version = self.children[child].entry.version();
        let id = self.id(child);
        let lost = self.children.local(child).and_then(|local| local.lost.clone());
        let own_token = self.children.local(child).map(|local| local.token).unwrap_or_default();
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let (to, token) = (outgoing.to.clone(), outgoing.token);
        let key = TimerKey::Move(child);
        let mut again = STEP_AGAIN;
        let mut lane = Lane::Ctl;
        let message = match (&outgoing.step, outgoing.aim) {
            (Step::Preparing, _) => {
                Message::Prepare { child: id, token, view_hash, version, is_hot: outgoing.plan.hot }
            }
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
                        Message::State { child: id, token, state, hash }
                    }
                    Aim::Conflict => Message::Conflict { child: id, loser: own_token, winner: token, state },
                }
            }
            (Step::Committed, _) => Message::Commit { child: id, token, held: outgoing.held.clone(), lost },
            (Step::Aborting { .. }, _) => Message::Abort(id, token),
            (Step::Freezing | Step::Snapshotting | Step::ColdStopping, _) => return,
        };
        self.send(&to, lane, &message);
        self.timers.arm(key, self.now + again);
    }

    /// A step's time is over: at the giving end it is sent again or given up, at the receiving end see `incoming`.
    pub(super) fn move_step_late(&mut self, child: Slot) {
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
    pub(super) fn prepared_received(&mut self, from: &NodeRef, child: Slot, token: Token) {
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
            let is_free = self.children.local(child).is_some_and(|local| local.call.is_none());
            if is_free {
                let limit = super::calls::SHORT_CALLBACK;
                self.occupy(child, HostRequest::HandoverStart(target), limit, Purpose::Notice);
            }
        }
        self.freeze(child);
    }

    /// R6: no further message; the body shall return.
    pub(super) fn freeze(&mut self, child: Slot) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let (instance, has_body) = (local.instance, local.body.is_some());
        if has_body {
            self.tell_host(child, instance, HostRequest::CancelRun);
            if let Some(local) = self.children.local_mut(child) {
                local.is_body_cancelled = true;
            }
        }
        if let Some(wait) = self.outgoing(child).map(|outgoing| outgoing.plan.handover_data_wait) {
            self.timers.arm(TimerKey::Move(child), self.now + wait);
        }
        self.outgoing_progress(child);
    }

    /// Something the freeze waits for has ended.
    pub(super) fn outgoing_progress(&mut self, child: Slot) {
        let Some(local) = self.children.local(child) else {
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
    pub(super) fn prepare_ended(&mut self, child: Slot, answer: HostAnswer) {
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

    fn snapshot_taken(&mut self, child: Slot) {
        self.timers.disarm(&TimerKey::Move(child));
        let stays = self.stays_as_replica(child);
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        if outgoing.aim == Aim::Move && !outgoing.plan.hot && outgoing.has_instance && !stays {
            outgoing.step = Step::ColdStopping;
            self.end_instance(child, StopReason::Migrated, Duration::ZERO, After::ColdStopped);
            return;
        }
        outgoing.step = Step::Transferring;
        self.send_step(child);
    }

    /// Cold: the old instance is gone, its state may travel.
    pub(super) fn cold_stopped(&mut self, child: Slot) {
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
    pub(super) fn ready_received(&mut self, from: &NodeRef, child: Slot, token: Token, hash: u64) {
        let Some(outgoing) = self.outgoing_with(child, token) else {
            return self.disown(from, child, token);
        };
        if outgoing.step != Step::Transferring || hash != hash_of(outgoing.snapshot.as_ref()) {
            return;
        }
        let to = outgoing.to.clone();
        outgoing.step = Step::Committed;
        let now = self.now;
        let inbox = self.children.local_mut(child).map(|local| std::mem::take(&mut local.inbox)).unwrap_or_default();
        let (bound, inbox): (super::Queue<Work>, super::Queue<Work>) = inbox.into_iter().partition(Work::is_bound);
        if let Some(local) = self.children.local_mut(child) {
            local.inbox = bound;
        }
        let held: Vec<HeldMessage> = inbox.into_iter().filter_map(|work| work.into_held(now)).collect();
        for message in &held {
            self.reroute(&message.origin.clone(), message.id, &to);
        }
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        outgoing.held = held;
        if outgoing.aim == Aim::Move && !outgoing.plan.confirm {
            self.tell_migrated(child);
        }
        self.send_step(child);
    }

    /// `confirm_handover` decides whether this is told at the commit or once the target has confirmed it.
    fn tell_migrated(&mut self, child: Slot) {
        let Some(outgoing) = self.outgoing(child).filter(|outgoing| !outgoing.is_told) else {
            return;
        };
        outgoing.is_told = true;
        let state = if outgoing.snapshot.is_some() { MovedState::HandedOver } else { MovedState::None };
        let to = outgoing.to.name.clone();
        let id = self.id(child);
        self.hooks.migrated.entry(to).or_default().push((id, state));
    }

    /// A target asks about a move this node knows nothing of: it must not become active.
    fn disown(&mut self, from: &NodeRef, child: Slot, token: Token) {
        let holder = self.children[child].entry.active_holder();
        let is_past = holder.is_none_or(|holder| holder.row.token != token);
        if is_past {
            self.send_ctl(from, &Message::Abort(self.id(child), token));
        }
    }

    /// H10: the target is the child.
    pub(super) fn activated_received(&mut self, from: &NodeRef, child: Slot, token: Token, seq: u64) {
        let Some(outgoing) = self.outgoing_with(child, token) else {
            return;
        };
        if outgoing.to == *from {
            self.given(child, seq);
        }
    }

    /// The child is the target's. The old instance goes.
    pub(super) fn given(&mut self, child: Slot, seq: u64) {
        self.tell_migrated(child);
        let Some(outgoing) = self.outgoing(child) else {
            return;
        };
        let (to, plan, has_instance) = (outgoing.to.clone(), outgoing.plan, outgoing.has_instance());
        let (has_state, is_to_replica, epoch) =
            (outgoing.snapshot.is_some(), outgoing.is_to_replica, outgoing.token.epoch);
        // A target that went on in doubt never heard the commit: what waited here goes back to the senders.
        self.counters.handovers_done += 1;
        let needs_state = self.children.local(child).is_some_and(|local| local.has_state) && !is_to_replica;
        if has_instance && self.stays_as_replica(child) {
            self.drop_row(child, Some((to.clone(), seq)));
            self.demote(child, epoch);
        } else {
            self.return_inbox(child, Some(&to));
            if has_instance {
                // Without a delivered state the old instance lives on for a while, fenced and unlisted (R5).
                let retention = if has_state { Duration::ZERO } else { plan.retention };
                self.end_instance(child, StopReason::Migrated, retention, After::Nothing);
            }
            self.remove_local(child);
            self.drop_row(child, Some((to.clone(), seq)));
        }
        let id = self.id(child);
        let from = self.me.name.clone();
        if plan.handover {
            self.fire_of(
                HookName::HandoverConfirmed,
                child,
                |id| serde_json::json!({"child_id": id, "from": from, "to": to.name}),
            );
        }
        self.moves.remember(id, self.now, &self.me.name, &to.name);
        self.drain_moved(child, has_state || !needs_state);
        self.move_closed(child);
    }
}

/// What `Ready` proves: which state was taken.
pub(super) fn hash_of(state: Option<&Payload>) -> u64 {
    state.map_or(0, |state| xxh3_64(&state.data) | 1)
}
