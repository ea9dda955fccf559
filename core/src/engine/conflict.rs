//! After a heal: two instances of one child, and the one with the higher token goes on (R12).
//!
//! The loser runs the giving end of `outgoing` with the aim `Conflict`; this file is the winner's side and the end.

use std::time::Duration;

use serde_json::json;

use super::Engine;
use super::children::Slot;
use super::ending::After;
use super::local::{Phase, Work};
use super::outgoing::{Aim, Step};
use crate::host::call::StopReason;
use crate::ids::{ChildId, NodeRef, Token};
use crate::observe::HookName;
use crate::payload::Payload;
use crate::wire::Message;

impl Engine {
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
