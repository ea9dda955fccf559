//! S9: tokens of one child rise on each node, and what a child knows never shrinks while nodes stay together,
//! unless `state_lost` was told.

use std::collections::BTreeMap;

use process_hub::config::ReplicationModel;
use process_hub::host::call::{HostCall, HostRequest, StartReason};
use process_hub::ids::{ChildId, Epoch};
use process_hub::spec::{Mode, Row};

use super::super::fact::{Fact, child_index};
use super::super::ghost::{End, Ghost, GhostChild, Life, Run};
use super::super::host::OpId;
use super::super::queue::{HubIndex, ProcessId};
use super::super::time::WorldTime;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
#[derive(Default)]
pub(super) struct Fencing {
    /// And since when.
    highest: BTreeMap<(ProcessId, ChildId), (Epoch, WorldTime)>,
}

impl Invariant for Fencing {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        match fact {
            Fact::Called { process, hub, call } => self.called(ghost, *process, *hub, call),
            Fact::Row { process, child, row: Some(row), .. } => {
                self.listed(ghost, *process, child, row);
                Ok(())
            }
            Fact::Completed { process, hub, call, .. } if matches!(call.request, HostRequest::Handle { .. }) => {
                handled(ghost, *process, *hub, call)
            }
            Fact::ProcessDown { process, .. } => {
                self.highest.retain(|(at, _), _| at != process);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Fencing {
    fn called(&mut self, ghost: &Ghost, process: ProcessId, hub: HubIndex, call: &HostCall) -> Check {
        let epoch = match &call.request {
            HostRequest::Start(context) => context.epoch,
            HostRequest::SetRole(epoch, _) => *epoch,
            _ => return Ok(()),
        };
        if epoch.0 >= 1 << 53 {
            return broken(ghost, "R4", format!("epoch {epoch} of {} is too high", call.child));
        }
        let (highest, noted) = self.highest.entry((process, call.child.clone())).or_default();
        // Who is the child now may not have heard of that, in another part of the cluster.
        let is_apart = |index: usize| {
            let other = ProcessId(u32::try_from(index).unwrap_or(u32::MAX));
            ghost.processes[index].life != Life::Down
                && ghost.together_since(hub, process, other).is_none_or(|since| since >= *noted)
        };
        let may_be_unknown = ghost.replication(hub).is_some() && (0..ghost.processes.len()).any(is_apart);
        if epoch < *highest && !may_be_unknown {
            return broken(
                ghost,
                "S9",
                format!(
                    "{} activates {} with epoch {epoch} after epoch {highest}",
                    ghost.describe(process),
                    call.child
                ),
            );
        }
        // A move that was given up used an epoch that the child never had; a replica that starts after it bears the
        // child's. A target that became the child tells so in a row.
        let is_target =
            matches!(&call.request, HostRequest::Start(context) if context.reason == StartReason::Migration);
        if !is_target || ghost.replication(hub).is_none() {
            (*highest, *noted) = (epoch, ghost.now);
        }
        Ok(())
    }

    fn listed(&mut self, ghost: &Ghost, process: ProcessId, child: &ChildId, row: &Row) {
        let me = &ghost.process(process).node.name;
        if let Some(own) = row.instances.iter().find(|instance| instance.node == *me) {
            let highest = self.highest.entry((process, child.clone())).or_default();
            if own.epoch > highest.0 {
                *highest = (own.epoch, ghost.now);
            }
        }
    }
}

/// The instance that handles a message knows everything the one before it handled.
fn handled(ghost: &Ghost, process: ProcessId, hub: HubIndex, call: &HostCall) -> Check {
    let Some(child) = child_index(&call.child).and_then(|index| ghost.children.get(index)) else {
        return Ok(());
    };
    if !child.kind.has_state() {
        return Ok(());
    }
    let is_one_active = !matches!(ghost.replication(hub), Some((ReplicationModel::ActiveActive, _)));
    let Some(run) =
        child.run(process, call.instance).filter(|run| run.is_live() && run.mode == Mode::Active && is_one_active)
    else {
        return Ok(());
    };
    let Some(before) = child.last_handler.map(|index| &child.runs[index]) else {
        return Ok(());
    };
    if before.process == process && before.instance == call.instance {
        return Ok(());
    }
    // What was for one instance alone the others need not have.
    let is_bound = |op: &OpId| ghost.ops.get(op.0 as usize).is_some_and(|op| op.is_bound);
    let Some(missing) = before.state.ops.iter().find(|op| !run.state.ops.contains(op) && !is_bound(op)) else {
        return Ok(());
    };
    if is_excused(ghost, hub, child, before, run) {
        return Ok(());
    }
    broken(
        ghost,
        "S9",
        format!(
            "{} handles a message for {} (instance {}, epoch {}, {:?}) without message {} that instance {} on {} (epoch {}, {:?}) had, and no loss was told",
            ghost.describe(process),
            call.child,
            run.instance,
            run.epoch,
            run.reason,
            missing.0,
            before.instance,
            ghost.describe(before.process),
            before.epoch,
            before.ended,
        ),
    )
}

fn is_excused(ghost: &Ghost, hub: HubIndex, child: &GhostChild, before: &Run, run: &Run) -> bool {
    let last = before.last_handled.unwrap_or_default();
    let were_together = ghost
        .together_since(hub, before.process, run.process)
        .is_some_and(|since| since < before.begun.max(run.begun).min(last));
    let is_told = child.losses.iter().any(|(at, epoch, _)| *at == run.process && *epoch >= run.epoch.min(before.epoch));
    // Supervised restarts, moves without hand-over and new starts after a stop begin empty by right.
    let begins_empty = |other: &Run| {
        other.begun >= before.begun
            && other.taken_count == 0
            && (matches!(other.reason, StartReason::Restart | StartReason::Initial)
                || other.reason == StartReason::Migration && !ghost.hands_over(hub))
    };
    // What crashed may be moved before it is started again: then the target begins empty.
    let has_crashed = |other: &Run| other.begun >= before.begun && matches!(other.ended, Some((_, End::Discarded)));
    // The loser's state may have been refused, or not be there to give: the hook tells (R12).
    let has_conflict = child.conflicts.iter().any(|at| *at >= before.begun);
    // Whoever was passive becomes active with what it has (R8).
    let was_promoted = |other: &Run| other.promoted.is_some_and(|at| at >= before.begun);
    !were_together
        || is_told
        || has_conflict
        || child.runs.iter().any(|other| begins_empty(other) || has_crashed(other) || was_promoted(other))
}
