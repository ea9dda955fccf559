//! S8: a move is decided. Its target becomes the child or goes within bounded time, and once the target is the child, the
//! source handles nothing any more while the two see each other.

use std::collections::BTreeMap;

use process_hub::host::call::{HostCall, HostRequest, StartReason};
use process_hub::ids::{Epoch, InstanceId};
use process_hub::spec::Mode;

use super::super::fact::{Fact, child_id, child_index};
use super::super::ghost::{Ghost, Run};
use super::super::queue::{HubIndex, ProcessId};
use super::super::time::WorldTime;
use super::super::violation::Check;
use super::{Invariant, broken};

/// One move, from the start of its target on.
struct Move {
    hub: HubIndex,
    target: ProcessId,
    instance: InstanceId,
    /// The epoch it gives the target.
    epoch: Epoch,
    begun: WorldTime,
    /// Since when the target tells that it is the child.
    active: Option<WorldTime>,
}

/// The latest move of each child; see the module.
#[derive(Default)]
pub(super) struct Decided {
    moves: BTreeMap<usize, Move>,
}

impl Invariant for Decided {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        match fact {
            Fact::Called { process, hub, call } => match &call.request {
                HostRequest::Start(context) if context.reason == StartReason::Migration => {
                    if let Some(child) = child_index(&call.child) {
                        let (target, instance, begun) = (*process, call.instance, ghost.now);
                        let one = Move { hub: *hub, target, instance, epoch: context.epoch, begun, active: None };
                        self.moves.insert(child, one);
                    }
                    Ok(())
                }
                HostRequest::Handle { .. } => self.handles(ghost, *process, call),
                _ => Ok(()),
            },
            Fact::Row { process, child, row: Some(row), .. } => {
                let name = &ghost.process(*process).node.name;
                if let Some(one) = child_index(child).and_then(|child| self.moves.get_mut(&child))
                    && one.target == *process
                {
                    let is_it = row
                        .instances
                        .iter()
                        .any(|told| told.node == *name && told.mode == Mode::Active && told.epoch == one.epoch);
                    one.active = is_it.then(|| one.active.unwrap_or(ghost.now));
                }
                Ok(())
            }
            // Now and then is often enough.
            Fact::Status { .. } => self.all_decided(ghost),
            _ => Ok(()),
        }
    }

    fn conclude(&mut self, ghost: &Ghost) -> Check {
        self.all_decided(ghost)
    }
}

impl Decided {
    /// An instance is given a message: it must not be the source of a move whose target is the child.
    fn handles(&self, ghost: &Ghost, process: ProcessId, call: &HostCall) -> Check {
        let Some((child, one)) = child_index(&call.child).and_then(|child| Some((child, self.moves.get(&child)?)))
        else {
            return Ok(());
        };
        let Some(active) = one.active.filter(|_| one.target != process) else {
            return Ok(());
        };
        let child = &ghost.children[child];
        if ghost.replication(one.hub).is_some() {
            // It may be a replica by now, which `roles` looks at.
            return Ok(());
        }
        let is_live = child.run(one.target, one.instance).is_some_and(Run::is_live);
        let were_together = ghost.together_since(one.hub, process, one.target).is_some_and(|since| since <= one.begun);
        if !is_live || !were_together {
            return Ok(());
        }
        broken(
            ghost,
            "S8",
            format!(
                "{} gives a message to instance {} of {}, which is on {} under epoch {} since {active}",
                ghost.describe(process),
                call.instance,
                call.child,
                ghost.describe(one.target),
                one.epoch
            ),
        )
    }

    /// No target waits for ever to become the child.
    fn all_decided(&mut self, ghost: &Ghost) -> Check {
        let mut waits_on = None;
        self.moves.retain(|index, one| {
            let Some(run) = ghost.children[*index].run(one.target, one.instance).filter(|run| run.is_live()) else {
                return false;
            };
            // A target that stood still may just have been woken.
            let ran_since = one.begun.max(ghost.process(one.target).changed);
            if !run.was_listed && ghost.now.since_us(ran_since) > ghost.settle_us {
                waits_on = Some((*index, one.target, one.begun));
            }
            true
        });
        let Some((index, target, begun)) = waits_on else {
            return Ok(());
        };
        broken(
            ghost,
            "S8",
            format!("{} began to receive {} at {begun}, and nobody decided", ghost.describe(target), child_id(index)),
        )
    }
}
