//! What others see of the registry: rows for the readers, hooks for the observers.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::json;

use super::Engine;
use super::children::Slot;
use super::hash::FixedHash;
use super::registry::{Entry, Holder};
use crate::ids::ChildId;
use crate::observe::HookName;
use crate::spec::{Row, RowInstance};

/// The rows that the hooks of the registry told last; empty while nobody listens to one.
pub(super) type ToldRows = IndexMap<Slot, Arc<Row>, FixedHash>;

/// The hooks that tell of rows.
const ROW_HOOKS: u64 =
    HookName::RegistryPidInserted.bit() | HookName::RegistryPidRemoved.bit() | HookName::ChildProcessPidUpdated.bit();

impl Engine {
    /// Only these hooks have handlers from now on.
    pub(super) fn subscribe_hooks(&mut self, bits: u64) {
        let had_listeners = self.hooks.subscribed & ROW_HOOKS != 0;
        self.hooks.subscribed = bits;
        if bits & ROW_HOOKS == 0 {
            self.hooks.told_rows = ToldRows::default();
        } else if !had_listeners {
            self.publish_changed();
            let listed = self.children.iter().filter(|(_, record)| record.is_listed);
            let rows = listed.filter_map(|(child, record)| Some((child, Arc::new(row_of(&record.entry)?))));
            self.hooks.told_rows = rows.collect();
        }
    }

    /// Tells what changed of a row that readers see.
    fn tell_row(&mut self, child: Slot, row: Option<Arc<Row>>) {
        let told = &mut self.hooks.told_rows;
        let before = match &row {
            Some(row) => told.insert(child, Arc::clone(row)),
            None => told.swap_remove(&child),
        };
        let instances = |row: &Option<Arc<Row>>| row.as_ref().map(|row| row.instances.clone()).unwrap_or_default();
        let (mut gone, mut came) = (instances(&before), instances(&row));
        let known = came.extract_if(.., |one| gone.iter().any(|other| other.node == one.node)).collect::<Vec<_>>();
        for one in known {
            let at = gone.iter().position(|other| other.node == one.node);
            let is_other = at
                .map(|at| gone.swap_remove(at))
                .is_none_or(|before| (before.epoch, before.since_ms) != (one.epoch, one.since_ms));
            // Not late news: what came after it was told already (S17).
            if is_other && one.epoch >= self.children[child].entry.told_epoch {
                self.children[child].entry.told_epoch = one.epoch;
                let payload = |id: &ChildId| json!({"child_id": id, "node": one.node, "epoch": one.epoch});
                self.fire_of(HookName::ChildProcessPidUpdated, child, payload);
            }
        }
        if let Some(epoch) = came.iter().map(|one| one.epoch).max() {
            let told = &mut self.children[child].entry.told_epoch;
            *told = epoch.max(*told);
        }
        for (hook, instances) in [(HookName::RegistryPidRemoved, gone), (HookName::RegistryPidInserted, came)] {
            if !instances.is_empty() {
                self.fire_of(hook, child, |id| json!({"child_id": id, "instances": instances}));
            }
        }
    }

    /// Publishes the rows that changed since the last flush. A child is told of once its first start is done: most
    /// are soon, and one that fails wants nothing.
    pub(super) fn publish_changed(&mut self) {
        let changed = self.children.take_changed();
        for &child in &changed {
            let record = &mut self.children[child];
            let is_shown = record.is_listed || !record.entry.is_starting();
            let row = is_shown.then(|| row_of(&record.entry)).flatten().map(Arc::new);
            let was_listed = std::mem::replace(&mut record.is_listed, row.is_some());
            if was_listed || record.is_listed {
                self.effects.push(super::Effect::Publish(record.id.clone(), row.clone()));
                if self.hooks.subscribed & ROW_HOOKS != 0 {
                    self.tell_row(child, row);
                }
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
