//! S17: a node hears of a child's instances in the order of their epochs.

use std::collections::BTreeMap;

use process_hub::observe::HookName;

use super::super::fact::Fact;
use super::super::ghost::Ghost;
use super::super::queue::ProcessId;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
#[derive(Default)]
pub(super) struct Order {
    told: BTreeMap<(ProcessId, String), u64>,
}

impl Invariant for Order {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Hook { process, event, .. } = fact else {
            return Ok(());
        };
        if event.name != HookName::ChildProcessPidUpdated {
            return Ok(());
        }
        let child = event.payload.get("child_id").and_then(|value| value.as_str());
        let epoch = event.payload.get("epoch").and_then(serde_json::Value::as_u64);
        let (Some(child), Some(epoch)) = (child, epoch) else {
            return broken(ghost, "S17", format!("a hook lacks facts: {event:?}"));
        };
        let told = self.told.entry((*process, child.to_owned())).or_default();
        if epoch < *told {
            return broken(
                ghost,
                "S17",
                format!("{} tells epoch {epoch} of {child} after epoch {told}", ghost.describe(*process)),
            );
        }
        *told = epoch;
        Ok(())
    }
}
