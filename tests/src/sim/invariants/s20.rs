//! S20: after a heal the higher token wins, and the loser's state is never silently dropped (R12).

use process_hub::config::ReplicationModel;
use process_hub::host::call::{HostCall, HostRequest, StopReason};

use process_hub::spec::Mode;

use super::super::fact::{Fact, child_index};
use super::super::ghost::{Ghost, Run, Wish};
use super::super::queue::{HubIndex, ProcessId};
use super::super::violation::Check;
use super::{Invariant, broken};

/// Faults this short ago excuse what looks wrong.
const RECENT_US: u64 = 20_000_000;

/// See the module.
pub(super) struct Conflict;

impl Invariant for Conflict {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        match fact {
            Fact::Called { process, call, .. } => match &call.request {
                HostRequest::Stop(StopReason::LostOwnership) => higher_exists(ghost, *process, call),
                _ => Ok(()),
            },
            Fact::Completed { process, hub, call, .. } => match &call.request {
                HostRequest::Stop(StopReason::LostOwnership) => state_is_kept(ghost, *process, *hub, call),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn higher_exists(ghost: &Ghost, process: ProcessId, call: &HostCall) -> Check {
    let Some(child) = child_index(&call.child).and_then(|index| ghost.children.get(index)) else {
        return Ok(());
    };
    let Some(own) = child.run(process, call.instance) else {
        return Ok(());
    };
    // A replica that is not in the placement any more bears the epoch of the child.
    let is_replicated = ghost.replication(child.hub).is_some();
    let token = |run: &Run| (run.epoch, ghost.process(run.process).node.incarnation);
    if is_replicated && child.runs.iter().any(|run| run.process != process && run.epoch >= own.epoch) {
        return Ok(());
    }
    if child.runs.iter().any(|run| run.process != process && token(run) > token(own)) {
        return Ok(());
    }
    broken(
        ghost,
        "S20",
        format!(
            "{} gives {} up (epoch {}) and there never was a higher token",
            ghost.describe(process),
            call.child,
            own.epoch
        ),
    )
}

fn state_is_kept(ghost: &Ghost, process: ProcessId, hub: HubIndex, call: &HostCall) -> Check {
    let Some(child) = child_index(&call.child).and_then(|index| ghost.children.get(index)) else {
        return Ok(());
    };
    // What a passive one has, or one of several active ones, goes with it.
    let is_all_active = matches!(ghost.replication(hub), Some((ReplicationModel::ActiveActive, _)));
    let counts = |run: &&Run| child.kind.has_state() && run.mode == Mode::Active && !is_all_active;
    let Some(own) = child.run(process, call.instance).filter(counts) else {
        return Ok(());
    };
    let others = child.runs.iter().filter(|run| run.process != process);
    let has_all = |run: &Run| own.state.ops.iter().all(|op| run.state.ops.contains(op));
    let is_told =
        child.conflicts.iter().any(|at| *at >= own.begun) || child.losses.iter().any(|(_, _, at)| *at >= own.begun);
    let is_recent = ghost.now.since_us(ghost.disturbed) < RECENT_US;
    let is_stopped = child
        .intents
        .iter()
        .any(|intent| intent.wish == Wish::Stop && intent.ended.is_none_or(|(at, _)| at >= own.begun));
    if own.state.ops.is_empty() || is_told || is_recent || is_stopped || others.clone().any(has_all) {
        return Ok(());
    }
    broken(
        ghost,
        "S20",
        format!(
            "the {} messages that {} of hub{hub} handled on {} (epoch {}) are dropped without a word",
            own.state.ops.len(),
            call.child,
            ghost.describe(process),
            own.epoch
        ),
    )
}
