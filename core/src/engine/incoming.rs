//! The receiving end of a move.
//!
//! A token that was refused, aborted or expired here is remembered for a while: a late message of that move must
//! not revive it, or a stale state could become active after newer work was acknowledged (R5).

use std::time::Duration;

use super::calls::{Purpose, SHORT_CALLBACK, split};
use super::children::Slot;
use super::ending::After;
use super::local::{Incoming, IncomingStep, Local, Phase, Work};
use super::outgoing::hash_of;
use super::{Engine, TimerKey};
use crate::error::ErrorKind;
use crate::host::call::{HostAnswer, HostRequest, StartReason, StopReason};
use crate::ids::{NodeRef, Token};
use crate::payload::Payload;
use crate::spec::Mode;
use crate::wire::{HeldMessage, Message, Stage, Version};

/// How long a refused token is remembered: longer than any message is under way.
const REFUSED_MEMORY: Duration = Duration::from_secs(120);

impl Incoming {
    /// A host instance exists.
    pub(super) fn has_instance(&self) -> bool {
        if self.replica.is_some() {
            return true;
        }
        match self.step {
            IncomingStep::Starting | IncomingStep::StartingCold { .. } | IncomingStep::Altering { .. } => true,
            IncomingStep::Ready { .. } => true,
            IncomingStep::Prepared => self.is_hot,
        }
    }
}

impl Engine {
    /// The receiving end under this token.
    fn incoming_with(&mut self, child: Slot, token: Token) -> Option<&mut Incoming> {
        let local = self.children.local_mut(child).filter(|local| local.token == token)?;
        match &mut local.phase {
            Phase::Incoming(incoming) => Some(incoming),
            Phase::Starting { .. }
            | Phase::Active
            | Phase::Resting { .. }
            | Phase::Quarantined { .. }
            | Phase::Outgoing(_)
            | Phase::Ending => None,
        }
    }

    /// Whether this node is, or was until it moved on, the child under this token.
    fn is_active_here(&self, child: Slot, token: Token) -> bool {
        self.children.local(child).is_some_and(|local| {
            !local.is_replica
                && local.token.is_restart_of(token)
                && match &local.phase {
                    Phase::Active | Phase::Resting { .. } | Phase::Outgoing(_) | Phase::Quarantined { .. } => true,
                    Phase::Starting { .. } => true,
                    // An instance that was given up before it became the child ends too.
                    Phase::Ending => !self.is_refused(child, token),
                    Phase::Incoming(_) => false,
                }
        })
    }

    pub(super) fn refuse_move(&mut self, to: &NodeRef, child: Slot, token: Token, is_transient: bool, why: &str) {
        self.remember_refused(child, token);
        let why = why.to_owned();
        self.send_ctl(to, &Message::Refused { child: self.id(child), token, is_transient, why });
    }

    pub(super) fn remember_refused(&mut self, child: Slot, token: Token) {
        let now = self.now;
        let slot = self.refused_moves.entry(self.children[child].id.clone()).or_insert((token, now));
        // A lower one is covered: it must not keep the memory, or the asker would be refused for ever.
        if token >= slot.0 {
            *slot = (token, now);
        }
    }

    fn is_refused(&self, child: Slot, token: Token) -> bool {
        self.refused_moves.get(&self.children[child].id).is_some_and(|(refused, _)| token <= *refused)
    }

    pub(super) fn forget_refused_moves(&mut self) {
        let now = self.now;
        self.refused_moves.retain(|_, (_, at)| now.since(*at) < REFUSED_MEMORY);
    }

    /// H1.
    pub(super) fn prepare_received(
        &mut self,
        from: &NodeRef,
        child: Slot,
        token: Token,
        view_hash: u64,
        version: Version,
        is_hot: bool,
    ) {
        if self.is_active_here(child, token) {
            return self.confirm_active(from, child, token);
        }
        if let Some(incoming) = self.incoming_with(child, token) {
            if incoming.step != IncomingStep::Starting {
                self.send_ctl(from, &Message::Prepared(self.id(child), token));
            }
            return;
        }
        if let Some(why) = self.refusal(child, token, view_hash, version) {
            self.refuse_move(from, child, token, true, why);
            return;
        }
        let Some(spec) = self.children[child].entry.wanted.as_ref().and_then(|wanted| wanted.spec.clone()) else {
            return;
        };
        self.note_epoch(token.epoch);
        // The source drives; one that stays silent this long is gone or has forgotten.
        self.timers.arm(TimerKey::Move(child), self.now + self.settings.readiness);
        let step = if is_hot { IncomingStep::Starting } else { IncomingStep::Prepared };
        let mut incoming = Incoming { from: from.clone(), step, is_hot, held: super::Queue::new(), replica: None };
        if let Some(local) = self.children.local_mut(child) {
            // Messages that come now are for after the state.
            incoming.held = std::mem::take(&mut local.inbox);
            incoming.replica = Some(std::mem::replace(&mut local.token, token));
            incoming.step = IncomingStep::Prepared;
            local.highest_epoch = local.highest_epoch.max(token.epoch);
            local.phase = Phase::Incoming(Box::new(incoming));
            self.publish_local(child);
            self.send_ctl(from, &Message::Prepared(self.id(child), token));
            return;
        }
        self.new_local(child, spec, token, Phase::Incoming(Box::new(incoming)));
        self.publish_local(child);
        if is_hot {
            self.start_incoming(child);
        } else {
            self.send_ctl(from, &Message::Prepared(self.id(child), token));
        }
    }

    fn start_incoming(&mut self, child: Slot) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let limit = self.strategies.migration.plan(&local.spec, local.has_state).start_timeout;
        self.start_instance(child, StartReason::Migration, limit);
    }

    fn refusal(&self, child: Slot, token: Token, view_hash: u64, version: Version) -> Option<&'static str> {
        let entry = &self.children[child].entry;
        let wanted = entry.wanted.as_ref();
        if self.info.is_leaving {
            return Some("leaving");
        }
        if self.is_partitioned() {
            return Some("partitioned");
        }
        if view_hash != self.membership.view.hash || token.incarnation != self.me.incarnation {
            return Some("view_mismatch");
        }
        if self.is_refused(child, token) {
            return Some("this move was given up");
        }
        let is_replica = |local: &Local| local.is_replica && matches!(local.phase, Phase::Active);
        if self.children.local(child).is_some_and(|local| !is_replica(local)) || self.is_ending(child) {
            return Some("an instance of the child is here");
        }
        if wanted.is_none_or(|wanted| wanted.version < version || wanted.spec.is_none()) {
            return Some("the child is not wanted here yet, or not any more");
        }
        if entry.highest_epoch() >= token.epoch {
            return Some("a higher epoch is known");
        }
        let kind = wanted.and_then(|wanted| wanted.spec.as_ref()).map(|spec| &spec.kind);
        if kind.is_none_or(|kind| !self.kinds.contains_key(kind)) {
            return Some("the kind is not registered");
        }
        None
    }

    /// Hot or cold, `start` of an incoming instance ended.
    pub(super) fn incoming_started(&mut self, child: Slot, answer: HostAnswer) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let token = local.token;
        let Phase::Incoming(incoming) = &mut local.phase else {
            return;
        };
        let from = incoming.from.clone();
        if let Err(failure) = split(answer) {
            // There is no instance to stop.
            if self.is_instance(child) {
                self.discard_instance(child);
            }
            self.drop_incoming(child, Some(&failure.message));
            return;
        }
        match incoming.step.clone() {
            IncomingStep::Starting => {
                incoming.step = IncomingStep::Prepared;
                self.send_ctl(&from, &Message::Prepared(self.id(child), token));
            }
            IncomingStep::StartingCold { state, hash } => self.take_state(child, state, hash),
            IncomingStep::Prepared | IncomingStep::Altering { .. } | IncomingStep::Ready { .. } => {}
        }
    }

    /// H5.
    pub(super) fn state_received(
        &mut self,
        from: &NodeRef,
        child: Slot,
        token: Token,
        state: Option<Payload>,
        hash: u64,
    ) {
        if self.is_active_here(child, token) {
            return self.confirm_active(from, child, token);
        }
        if self.is_going(child) {
            return;
        }
        let Some(incoming) = self.incoming_with(child, token) else {
            return self.refuse_move(from, child, token, true, "this move is not known");
        };
        match &incoming.step {
            IncomingStep::Prepared => {}
            IncomingStep::Ready { hash, .. } => {
                let hash = *hash;
                return self.send_ctl(from, &Message::Ready { child: self.id(child), token, hash });
            }
            IncomingStep::Starting | IncomingStep::StartingCold { .. } | IncomingStep::Altering { .. } => return,
        }
        if hash_of(state.as_ref()) != hash {
            return;
        }
        if incoming.replica.is_some() {
            incoming.step = IncomingStep::StartingCold { state, hash };
            self.incoming_free(child);
        } else if incoming.is_hot {
            self.take_state(child, state, hash);
        } else {
            incoming.step = IncomingStep::StartingCold { state, hash };
            self.start_incoming(child);
        }
        self.timers.arm(TimerKey::Move(child), self.now + self.settings.readiness);
    }

    /// A replica that receives the child has nothing in flight: it takes the state that waits.
    pub(super) fn incoming_free(&mut self, child: Slot) {
        let Some(local) = self.children.local(child).filter(|local| local.call.is_none()) else {
            return;
        };
        if let Phase::Incoming(incoming) = &local.phase
            && incoming.replica.is_some()
            && let IncomingStep::StartingCold { state, hash } = incoming.step.clone()
        {
            self.take_state(child, state, hash);
        }
    }

    fn take_state(&mut self, child: Slot, state: Option<Payload>, hash: u64) {
        let Some(Phase::Incoming(incoming)) = self.children.local_mut(child).map(|local| &mut local.phase) else {
            return;
        };
        incoming.step = IncomingStep::Altering { hash };
        match state {
            Some(state) => self.occupy(child, HostRequest::AlterState(state), SHORT_CALLBACK, Purpose::Restore),
            None => self.incoming_ready(child, hash),
        }
    }

    /// `alter_handover_state` of an incoming instance ended.
    pub(super) fn incoming_altered(&mut self, child: Slot, answer: HostAnswer) {
        let Some(Phase::Incoming(incoming)) = self.children.local(child).map(|local| &local.phase) else {
            return;
        };
        let IncomingStep::Altering { hash } = incoming.step else {
            return;
        };
        match split(answer) {
            Ok(_) => self.incoming_ready(child, hash),
            Err(failure) => {
                if incoming.replica.is_some() {
                    return self.crashed(child, &failure.message);
                }
                if failure.kind == Some(ErrorKind::HostTimeout) && self.is_instance(child) {
                    self.discard_instance(child);
                }
                self.drop_incoming(child, Some(&failure.message));
            }
        }
    }

    /// H7. From here on the instance goes on by itself if the source dies (R5).
    fn incoming_ready(&mut self, child: Slot, hash: u64) {
        let now = self.now;
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let token = local.token;
        let Phase::Incoming(incoming) = &mut local.phase else {
            return;
        };
        incoming.step = IncomingStep::Ready { hash, since: now };
        let from = incoming.from.clone();
        let is_orphan = !self.membership.view.contains(&from);
        self.timers.arm(TimerKey::Move(child), now + self.settings.readiness);
        if is_orphan && self.is_superseded(child) {
            self.drop_incoming(child, None);
        } else if is_orphan {
            self.activate_incoming(child);
        } else {
            self.send_ctl(&from, &Message::Ready { child: self.id(child), token, hash });
        }
    }

    /// H8 and H9.
    pub(super) fn commit_received(
        &mut self,
        from: &NodeRef,
        child: Slot,
        token: Token,
        held: Vec<HeldMessage>,
        lost: Option<std::sync::Arc<crate::spec::StateLost>>,
    ) {
        if self.is_active_here(child, token) {
            return self.confirm_active(from, child, token);
        }
        if self.is_going(child) {
            return;
        }
        let now = self.now;
        let Some(incoming) = self.incoming_with(child, token) else {
            // Given up before it was active, or active and past: the source has to know which.
            let is_transient = !self.is_refused(child, token);
            let why = if is_transient { "this move is not known" } else { "this move was given up" };
            let message = Message::Refused { child: self.id(child), token, is_transient, why: why.to_owned() };
            return self.send_ctl(from, &message);
        };
        if !matches!(incoming.step, IncomingStep::Ready { .. }) {
            return;
        }
        let mut first: super::Queue<Work> = held.into_iter().map(|held| Work::from_held(held, now)).collect();
        first.append(&mut incoming.held);
        incoming.held = first;
        if let Some(local) = self.children.local_mut(child) {
            local.lost = lost;
        }
        self.activate_incoming(child);
        self.confirm_active(from, child, token);
    }

    fn activate_incoming(&mut self, child: Slot) {
        self.timers.disarm(&TimerKey::Move(child));
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let mut was_replica = false;
        if let Phase::Incoming(incoming) = &mut local.phase {
            let mut held = std::mem::take(&mut incoming.held);
            held.append(&mut local.inbox);
            local.inbox = held;
            was_replica = incoming.replica.is_some();
        }
        local.is_replica = false;
        local.mode = Mode::Active;
        if was_replica {
            self.tell_role(child);
        }
        self.activate(child);
    }

    /// H10.
    fn confirm_active(&mut self, to: &NodeRef, child: Slot, token: Token) {
        let seq = self.log.seq;
        self.serve(to);
        self.send_ctl(to, &Message::Activated { child: self.id(child), token, seq });
    }

    pub(super) fn abort_received(&mut self, from: &NodeRef, child: Slot, token: Token) {
        if self.is_active_here(child, token) {
            return self.confirm_active(from, child, token);
        }
        self.remember_refused(child, token);
        if self.incoming_with(child, token).is_some() {
            self.end_incoming(child, After::Aborted(from.clone(), token));
        } else if !self.is_ending(child) {
            self.send_ctl(from, &Message::Aborted(self.id(child), token));
        }
    }

    /// Gives an incoming instance up. With a reason the source is told.
    pub(super) fn drop_incoming(&mut self, child: Slot, why: Option<&str>) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let token = local.token;
        let Phase::Incoming(incoming) = &local.phase else {
            return;
        };
        let from = incoming.from.clone();
        self.remember_refused(child, token);
        // Cold: the source starts again only when nothing runs here any more.
        let after = match why {
            Some(_) => After::Refused(from, token, why.unwrap_or_default().to_owned()),
            None => After::Stopped,
        };
        self.end_incoming(child, after);
    }

    /// An instance of the child still ends here: the source hears of it when nothing runs any more.
    fn is_going(&self, child: Slot) -> bool {
        self.is_ending(child) || self.children.local(child).is_some_and(|local| matches!(local.phase, Phase::Ending))
    }

    /// Whether the host was not told yet to forget the child's instance.
    fn is_instance(&self, child: Slot) -> bool {
        self.children.local(child).is_some_and(|local| self.instances.contains_key(&local.instance))
    }

    fn end_incoming(&mut self, child: Slot, after: After) {
        let Some(Phase::Incoming(incoming)) = self.children.local(child).map(|local| &local.phase) else {
            return;
        };
        if incoming.replica.is_some() {
            self.back_to_replica(child);
            return self.after_ended(child, after);
        }
        let has_instance = incoming.has_instance() && self.is_instance(child);
        self.timers.disarm(&TimerKey::Move(child));
        self.return_inbox(child, None);
        if has_instance {
            self.end_instance(child, StopReason::Migrated, Duration::ZERO, after);
            if let Some(local) = self.children.local_mut(child) {
                local.phase = Phase::Ending;
            }
            return;
        }
        self.remove_local(child);
        self.drop_row(child, None);
        self.children.mark_dirty(child);
        self.after_ended(child, after);
    }

    /// The source has been silent for the whole readiness: this end never becomes active.
    pub(super) fn incoming_late(&mut self, child: Slot) {
        self.drop_incoming(child, None);
    }

    /// The source is not in the view any more: ready, the instance goes on; else it goes (R5).
    pub(super) fn incoming_lost_source(&mut self, child: Slot) {
        let (now, readiness) = (self.now, self.settings.readiness);
        let Some(Phase::Incoming(incoming)) = self.children.local(child).map(|local| &local.phase) else {
            return;
        };
        match incoming.step {
            IncomingStep::Ready { since, .. } if now.since(since) < readiness && !self.is_superseded(child) => {
                self.activate_incoming(child);
            }
            // The state is here: it goes on once it is taken.
            IncomingStep::Altering { .. } | IncomingStep::StartingCold { .. } => {}
            IncomingStep::Ready { .. } | IncomingStep::Starting | IncomingStep::Prepared => {
                self.drop_incoming(child, None);
            }
        }
    }

    /// Somebody else is the child under a higher token.
    fn is_superseded(&self, child: Slot) -> bool {
        let token = self.children.local(child).map(|local| local.token).unwrap_or_default();
        let mut holders = self.children[child].entry.holders.iter();
        holders.any(|holder| !holder.is_departed && holder.row.stage == Stage::Active && holder.row.token > token)
    }
}

impl Work {
    /// A message that came with a commit.
    pub(super) fn from_held(held: HeldMessage, now: crate::time::Timestamp) -> Self {
        Self::Message {
            origin: held.origin,
            id: held.id,
            message: held.message,
            chain: held.chain,
            deadline: now + Duration::from_millis(held.left_ms),
            wants_reply: held.wants_reply,
            is_bound: held.is_bound,
        }
    }
}
