//! L8, R20, and that the engine sleeps when there is nothing to do.

use super::super::fact::Fact;
use super::super::ghost::Ghost;
use super::super::violation::Check;
use super::{Invariant, broken};

/// Requests end in time; no hub fences itself; no engine spins.
pub(super) struct Contract;

impl Invariant for Contract {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        match fact {
            Fact::Overdue { process, hub, request } => {
                let command = ghost
                    .requests
                    .get(&(*process, *hub, *request))
                    .map(|open| format!("issued at {}: {:.300}", open.issued, format!("{:?}", open.command)));
                broken(
                    ghost,
                    "L8",
                    format!(
                        "request {request} of hub{hub} on {} was never answered: {}",
                        ghost.describe(*process),
                        command.unwrap_or_default()
                    ),
                )
            }
            Fact::Failed { process, hub, reason } => {
                broken(ghost, "R20", format!("hub{hub} on {} fenced itself: {reason}", ghost.describe(*process)))
            }
            Fact::Spins { process, hub } => broken(
                ghost,
                "spin",
                format!("hub{hub} on {} wants turn after turn at one moment", ghost.describe(*process)),
            ),
            _ => Ok(()),
        }
    }
}
