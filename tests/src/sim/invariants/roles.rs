//! R9: an instance is told only roles that the option lets through, and only what is new to it; a passive one is given
//! no message that is for the active one.

use process_hub::config::RedundancySignal;
use process_hub::host::call::HostRequest;
use process_hub::spec::Mode;

use super::super::fact::{Fact, child_index};
use super::super::ghost::Ghost;
use super::super::host::decode_message;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct Roles;

impl Invariant for Roles {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Called { process, hub, call } = fact else {
            return Ok(());
        };
        let child = child_index(&call.child).and_then(|index| ghost.children.get(index));
        let Some(run) = child.and_then(|child| child.run(*process, call.instance)) else {
            return Ok(());
        };
        let here = format!("{} on {}", call.child, ghost.describe(*process));
        match &call.request {
            HostRequest::RedundancySignal(mode) => {
                let is_let_through = match ghost.replication(*hub).map(|(_, signal)| signal) {
                    Some(RedundancySignal::All) => true,
                    Some(RedundancySignal::Active) => *mode == Mode::Active,
                    Some(RedundancySignal::Passive) => *mode == Mode::Passive,
                    Some(RedundancySignal::None) | None => false,
                };
                if !is_let_through {
                    return broken(ghost, "R9", format!("{here} is told {mode:?}, which the option keeps back"));
                }
                if run.mode != *mode {
                    return broken(ghost, "R9", format!("{here} is told {mode:?} and is {:?}", run.mode));
                }
                Ok(())
            }
            HostRequest::Handle { message, .. } if run.mode == Mode::Passive => {
                let op = decode_message(message).and_then(|op| ghost.ops.get(op.0 as usize));
                if op.is_some_and(|op| !op.is_bound) {
                    return broken(ghost, "R9", format!("{here} is passive and is given a message for the active one"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
