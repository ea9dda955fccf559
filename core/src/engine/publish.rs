//! What others see of the registry: rows for the readers, hooks for the observers.

use std::sync::Arc;

use serde_json::json;

use super::Engine;
use super::children::Slot;
use super::registry::{Entry, Holder};
use crate::ids::{ChildId, NodeRef};
use crate::observe::HookName;
use crate::spec::{Row, RowInstance};
use crate::wire::InstanceRow;

impl Engine {
    /// Fires the registry hooks for a row that was written here or learnt.
    pub(super) fn tell_row(&mut self, child: Slot, node: &NodeRef, row: &InstanceRow, change: Option<HookName>) {
        if !row.stage.is_listed() {
            return;
        }
        let (name, epoch) = (&node.name, row.token.epoch);
        let told = &mut self.children[child].entry.told_epoch;
        if *told > epoch {
            // Late news: what came after it was told already (S17).
            return;
        }
        *told = epoch;
        if change == Some(HookName::ChildProcessPidUpdated) {
            let payload = |id: &ChildId| json!({"child_id": id, "node": name, "epoch": epoch});
            self.fire_of(HookName::ChildProcessPidUpdated, child, payload);
        } else {
            let instance = || json!([{"node": name, "mode": row.mode, "epoch": epoch}]);
            let payload = |id: &ChildId| json!({"child_id": id, "instances": instance()});
            self.fire_of(HookName::RegistryPidInserted, child, payload);
        }
    }

    /// Publishes the rows that changed since the last flush. A child is told of once its first start is done: most
    /// are soon, and one that fails wants nothing.
    pub(super) fn publish_changed(&mut self) {
        let changed = self.children.take_changed();
        for &child in &changed {
            let record = &mut self.children[child];
            let is_shown = record.is_listed || !record.entry.is_starting();
            let row = is_shown.then(|| row_of(&record.entry)).flatten();
            let was_listed = std::mem::replace(&mut record.is_listed, row.is_some());
            if was_listed || record.is_listed {
                self.effects.push(super::Effect::Publish(record.id.clone(), row.map(Arc::new)));
            }
        }
        self.children.published(changed);
    }
}

/// The row users see.
pub(super) fn row_of(entry: &Entry) -> Option<Row> {
    let spec = entry.wanted.as_ref()?.spec.clone()?;
    let is_shown =
        |holder: &&Holder| !holder.is_departed && holder.gone_after.is_none() && holder.row.stage.is_listed();
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
    instances.sort_unstable_by(|one, other| (one.mode, &one.node).cmp(&(other.mode, &other.node)));
    Some(Row { spec, instances, state_lost: lost })
}
