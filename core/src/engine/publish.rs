//! What others see of the registry: rows for the readers, hooks for the observers.

use serde_json::json;

use super::Engine;
use super::registry::Holder;
use crate::ids::{ChildId, NodeRef};
use crate::observe::HookName;
use crate::spec::{Row, RowInstance};
use crate::wire::{InstanceRow, Stage};

impl Engine {
    /// Fires the registry hooks for a row that was written here or learnt.
    pub(super) fn tell_row(&mut self, child: &ChildId, node: &NodeRef, row: &InstanceRow, change: Option<HookName>) {
        if row.stage != Stage::Active {
            return;
        }
        let (name, epoch) = (&node.name, row.token.epoch);
        let told = &mut self.registry.entry(child).told_epoch;
        if *told > epoch {
            // Late news: what came after it was told already (S17).
            return;
        }
        *told = epoch;
        if change == Some(HookName::ChildProcessPidUpdated) {
            self.fire(HookName::ChildProcessPidUpdated, || json!({"child_id": child, "node": name, "epoch": epoch}));
        } else {
            let instance = || json!([{"node": name, "mode": row.mode, "epoch": epoch}]);
            self.fire(HookName::RegistryPidInserted, || json!({"child_id": child, "instances": instance()}));
        }
    }

    /// Publishes the rows that changed since the last flush.
    pub(super) fn publish_changed(&mut self) {
        for child in std::mem::take(&mut self.changed) {
            let row = self.registry.get(child.as_str()).and_then(|entry| self.row_of(entry)).map(std::sync::Arc::new);
            self.registry.drop_if_empty(&child);
            self.effects.push(super::Effect::Publish(child, row));
        }
    }

    /// The row users see.
    pub(super) fn row_of(&self, entry: &super::registry::Entry) -> Option<Row> {
        let spec = entry.wanted.as_ref()?.spec.clone()?;
        let is_shown =
            |holder: &&Holder| !holder.is_departed && holder.gone_after.is_none() && holder.row.stage == Stage::Active;
        let mut lost = None;
        // Sized first: a row is kept for as long as its child, and most have one instance.
        let mut instances = Vec::with_capacity(entry.holders.iter().filter(is_shown).count());
        instances.extend(entry.holders.iter().filter(is_shown).map(|holder| {
            lost = lost.take().or_else(|| holder.row.lost.clone());
            RowInstance {
                node: holder.node.name.clone(),
                mode: holder.row.mode,
                epoch: holder.row.token.epoch,
                since_ms: holder.row.since_ms,
            }
        }));
        Some(Row { spec, instances, state_lost: lost })
    }
}
