//! After a heal: two instances of one child, and the one with the higher token goes on (R12).
//!
//! The loser runs the giving end of `outgoing` with the aim `Conflict`; this file is its beginning and its end, and the
//! winner's side.

use std::time::Duration;

use serde_json::json;

use super::children::Slot;
use super::ending::After;
use super::local::{Phase, Work};
use super::outgoing::{Aim, Outgoing, Step};
use super::{Engine, TimerKey};
use crate::host::call::StopReason;
use crate::ids::{ChildId, NodeRef, Token};
use crate::observe::HookName;
use crate::payload::Payload;
use crate::strategy::MovePlan;
use crate::wire::Message;

impl Engine {
    /// Begins to give the state of an instance that lost after a heal to the winner.
    pub(super) fn begin_conflict(&mut self, child: Slot, winner: &NodeRef, token: Token) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let plan = conflict_plan(local.has_state);
        local.phase = Phase::Outgoing(Box::new(Outgoing {
            aim: Aim::Conflict,
            to: winner.clone(),
            token,
            plan,
            is_to_replica: false,
            step: Step::Freezing,
            snapshot: None,
            has_instance: true,
            sent_at: self.now,
            held: Vec::new(),
            why_aborted: String::new(),
            is_told: false,
        }));
        self.moves.open += 1;
        self.timers.arm(TimerKey::MoveBudget(child), self.now + self.settings.move_budget);
        self.freeze(child);
    }

    /// The loser shows its state.
    pub(super) fn conflict_received(
        &mut self,
        from: &NodeRef,
        child: Slot,
        loser: Token,
        winner: Token,
        state: Option<Payload>,
    ) {
        let Some(local) = self
            .children
            .local_mut(child)
            .filter(|local| !local.is_replica && local.token >= winner && local.token > loser)
        else {
            return self.send_ctl(from, &Message::ConflictSeen(self.id(child), loser, false));
        };
        if !matches!(local.phase, Phase::Active) {
            return self.send_ctl(from, &Message::ConflictSeen(self.id(child), loser, false));
        }
        let Some(state) = state else {
            return self.conflict_settled(child, from, loser, None);
        };
        // Shown twice: it waits already, or is being looked at.
        let is_waiting =
            local.inbox.iter().any(|work| matches!(work, Work::Conflict { loser: other, .. } if *other == loser));
        if is_waiting || local.shown.as_deref() == Some(&loser) {
            return;
        }
        local.shown = Some(Box::new(loser));
        let winner_name = self.me.name.clone();
        self.fire_of(HookName::ConflictResolved, child, |id| {
            let state = serde_json::from_slice::<serde_json::Value>(&state.data).unwrap_or_default();
            json!({"child_id": id, "winner": winner_name, "loser": from.name, "state": state})
        });
        if let Some(local) = self.children.local_mut(child) {
            local.inbox.push_back(Work::Conflict { from: from.clone(), loser, state });
        }
        self.instance_free(child);
    }

    /// `resolve_conflict` ended; a failure of it was told, and changes nothing for the loser.
    pub(super) fn resolve_ended(&mut self, child: Slot, from: &NodeRef, loser: Token) {
        if let Some(local) = self.children.local_mut(child) {
            local.shown = None;
        }
        self.send_ctl(from, &Message::ConflictSeen(self.id(child), loser, true));
        self.instance_free(child);
    }

    fn conflict_settled(&mut self, child: Slot, from: &NodeRef, loser: Token, _state: Option<Payload>) {
        let winner = self.me.name.clone();
        let payload = |id: &ChildId| json!({"child_id": id, "winner": winner, "loser": from.name, "state": null});
        self.fire_of(HookName::ConflictResolved, child, payload);
        self.send_ctl(from, &Message::ConflictSeen(self.id(child), loser, true));
    }

    /// The winner has seen the state, or cannot look at it now.
    pub(super) fn conflict_seen(&mut self, from: &NodeRef, child: Slot, loser: Token, is_seen: bool) {
        let Some(local) = self.children.local(child).filter(|local| local.token == loser) else {
            return;
        };
        let Phase::Outgoing(outgoing) = &local.phase else {
            return;
        };
        if outgoing.aim != Aim::Conflict || outgoing.to != *from || outgoing.step != Step::Transferring {
            return;
        }
        if !is_seen {
            self.abort_move(child, "the winner moved on");
            return;
        }
        let has_instance = outgoing.has_instance();
        self.return_inbox(child, Some(from));
        self.fire_of(HookName::LostOwnership, child, |id| json!({"child_id": id, "epoch": loser.epoch}));
        if has_instance {
            self.end_instance(child, StopReason::LostOwnership, Duration::ZERO, After::Nothing);
        }
        self.remove_local(child);
        self.drop_row(child, None);
        self.move_closed(child);
    }
}

/// How a loser gives its state to the winner.
pub(super) fn conflict_plan(has_state: bool) -> MovePlan {
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
