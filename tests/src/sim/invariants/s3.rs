//! S3: never two active instances of a child on one node; in a quiet cluster never two at all.

use process_hub::config::ReplicationModel;
use process_hub::spec::Mode;

use super::super::fact::{Fact, child_index};
use super::super::ghost::{Ghost, Life};
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct OneActive;

impl Invariant for OneActive {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Row { process, hub, child, row: Some(row) } = fact else {
            return Ok(());
        };
        let me = &ghost.process(*process).node.name;
        let mine = |name: &process_hub::ids::NodeName, mode: Mode| name == me && mode == Mode::Active;
        let own: Vec<_> = row.instances.iter().filter(|instance| mine(&instance.node, instance.mode)).collect();
        if own.len() > 1 {
            return broken(ghost, "S3", format!("{me} has {} active instances of {child}: {own:?}", own.len()));
        }
        let is_one_active = !matches!(ghost.replication(*hub), Some((ReplicationModel::ActiveActive, _)));
        let Some(own) = own.first().filter(|_| ghost.is_quiet() && is_one_active) else {
            return Ok(());
        };
        let Some(ghost_child) = child_index(child).and_then(|index| ghost.children.get(index)) else {
            return Ok(());
        };
        for (other, row) in &ghost_child.rows {
            let there = ghost.process(*other);
            if other == process || there.life != Life::Up {
                continue;
            }
            let active = row.instances.iter().find(|(name, mode, _)| *name == there.node.name && *mode == Mode::Active);
            if let Some((_, _, epoch)) = active
                && ghost.together_since(*hub, *process, *other).is_some()
            {
                return broken(
                    ghost,
                    "S3",
                    format!(
                        "{child} is active on {me} (epoch {}) and on {} (epoch {epoch}), long after the last disturbance at {}",
                        own.epoch, there.node, ghost.disturbed
                    ),
                );
            }
        }
        Ok(())
    }
}
