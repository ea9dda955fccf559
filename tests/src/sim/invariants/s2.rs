//! S2: at most one incarnation of a name in a view, and a replaced one never comes back (R13).

use std::collections::BTreeSet;

use super::super::fact::Fact;
use super::super::ghost::Ghost;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct OneIncarnation;

impl Invariant for OneIncarnation {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Status { process, hub, status } = fact else {
            return Ok(());
        };
        let me = ghost.process(*process);
        let highest = &me.hubs[usize::from(*hub)].highest;
        let mut names = BTreeSet::new();
        for member in &status.members {
            let text = if !names.insert(&member.name) || member.name == me.node.name {
                "twice in the view"
            } else if highest.get(&member.name).is_some_and(|highest| *highest > member.incarnation) {
                "back after it was replaced"
            } else {
                continue;
            };
            return broken(ghost, "S2", format!("hub{hub} on {}: {member} is {text}", me.node));
        }
        Ok(())
    }
}
