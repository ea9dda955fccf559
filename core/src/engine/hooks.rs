//! Hooks are collected here and handed out; nothing in the engine waits for an observer.

use std::collections::BTreeMap;

use serde_json::json;

use super::children::Slot;
use super::local::Phase;
use super::publish::ToldRows;
use super::{Effect, Engine};
use crate::ids::{ChildId, NodeName, NodeRef};
use crate::observe::{HookEvent, HookName};
use crate::spec::StateLost;

/// What became of a moved child's state, in `children_migrated`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MovedState {
    HandedOver,
    None,
}

impl MovedState {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::HandedOver => "handed_over",
            Self::None => "none",
        }
    }
}

/// What waits for the end of the turn.
#[derive(Debug, Default)]
pub(super) struct HookState {
    /// Bits of the hooks that have handlers.
    pub(super) subscribed: u64,
    /// Finished moves of this turn, by target.
    pub(super) migrated: BTreeMap<NodeName, Vec<(ChildId, MovedState)>>,
    /// Results of the starts of this turn.
    pub(super) started: Vec<serde_json::Value>,
    /// Children whose start or move went on to another node in this turn.
    pub(super) forwarded: Vec<serde_json::Value>,
    /// View changes whose moves are under way: `nodeup` or `nodedown`, and of whom.
    pub(super) redistributions: Vec<(&'static str, NodeName)>,
    /// Children in slots before this one have nothing to do any more with those changes.
    pub(super) redistributed_to: usize,
    pub(super) told_rows: ToldRows,
}

impl HookState {
    pub(super) fn wants(&self, name: HookName) -> bool {
        self.subscribed & name.bit() != 0
    }

    pub(super) fn fire(&self, effects: &mut Vec<Effect>, name: HookName, payload: impl FnOnce() -> serde_json::Value) {
        if self.wants(name) {
            effects.push(Effect::Hook(HookEvent { name, payload: payload() }));
        }
    }
}

impl Engine {
    /// Fires what was collected in this turn.
    pub(super) fn flush_hooks(&mut self) {
        for (node, children) in std::mem::take(&mut self.hooks.migrated) {
            self.fire(HookName::ChildrenMigrated, || {
                let children: Vec<_> =
                    children.iter().map(|(child, state)| json!({"id": child, "state": state.name()})).collect();
                json!({"node": node, "children": children})
            });
        }
        let started = std::mem::take(&mut self.hooks.started);
        if !started.is_empty() {
            self.fire(HookName::PostChildrenStart, || json!({ "children": started }));
        }
        let forwarded = std::mem::take(&mut self.hooks.forwarded);
        if !forwarded.is_empty() {
            self.fire(HookName::ForwardedMigration, || json!({ "children": forwarded }));
        }
        if !self.hooks.redistributions.is_empty() && self.is_redistributed() {
            for (event, node) in std::mem::take(&mut self.hooks.redistributions) {
                self.fire(HookName::PostNodesRedistribution, || json!({"event": event, "node": node}));
            }
        }
    }

    /// A view change begins to move children.
    pub(super) fn begin_redistribution(&mut self, event: &'static str, node: &NodeName) {
        self.fire(HookName::PreNodesRedistribution, || json!({"event": event, "node": node}));
        self.hooks.redistributions.push((event, node.clone()));
        self.hooks.redistributed_to = 0;
    }

    /// Whether all that the view changes made this node give, take and start is done. A move that failed is done, and
    /// told as such; that it is tried again is another matter.
    fn is_redistributed(&mut self) -> bool {
        let is_busy = !self.membership.is_settled || self.children.has_dirty() || self.sweep.is_some();
        if is_busy || self.moves.is_busy() {
            return false;
        }
        while self.hooks.redistributed_to < self.children.slot_count() {
            let child = self.children.at(self.hooks.redistributed_to);
            let phase = child.and_then(|child| self.children.local(child)).map(|local| &local.phase);
            if matches!(phase, Some(Phase::Starting { .. } | Phase::Incoming(_))) {
                return false;
            }
            self.hooks.redistributed_to += 1;
        }
        true
    }

    /// A child that was on its way to one node goes to another now.
    pub(super) fn note_forwarded(&mut self, child: &ChildId, to: &NodeRef) {
        if self.hooks.wants(HookName::ForwardedMigration) {
            self.hooks.forwarded.push(json!({"id": child, "node": to.name}));
        }
    }

    /// Tells a loss once per epoch on this node (R8).
    pub(super) fn tell_loss(&mut self, child: Slot, lost: &StateLost) {
        let entry = &mut self.children[child].entry;
        if !entry.is_wanted() {
            // It is told when it is known that the child is wanted, if it is.
            return;
        }
        // After a heal the loss that stands may be an earlier one than one that was told.
        if entry.note_told_loss(lost.epoch) {
            return;
        }
        self.fire_of(
            HookName::StateLost,
            child,
            |id| json!({"child_id": id, "epoch": lost.epoch, "version": lost.version, "node": lost.node}),
        );
    }

    /// Tells that a child used up its restart budget, there or here.
    pub(super) fn tell_quarantine(&mut self, child: Slot, node: &NodeRef, restarts: u32) {
        let node = &node.name;
        let payload = |id: &ChildId| json!({"child_id": id, "node": node, "restarts": restarts});
        self.fire_of(HookName::ChildQuarantined, child, payload);
    }

    /// Tells that a callback failed.
    pub(super) fn tell_failure(&mut self, child: Slot, callback: &str, message: &str) {
        let node = self.me.name.clone();
        self.fire_of(
            HookName::ChildFailed,
            child,
            |id| json!({"child_id": id, "node": node, "callback": callback, "message": message}),
        );
    }
}
