//! S4 (cold swap): the old instance has stopped before the new one starts. S4' (hot swap): the new one runs
//! before the old one stops. Both while the two nodes see each other.

use process_hub::host::call::{HostCall, HostRequest, StartReason, StopReason};

use super::super::fact::{Fact, child_index};
use super::super::ghost::{Ghost, Life, Run};
use super::super::queue::{HubIndex, ProcessId};
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct Swap;

impl Invariant for Swap {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Called { process, hub, call } = fact else {
            return Ok(());
        };
        match &call.request {
            HostRequest::Start(context) => start(ghost, *process, *hub, call, context.reason, context.epoch.0),
            HostRequest::Stop(StopReason::Migrated) if ghost.is_hot(*hub) => stop(ghost, *process, *hub, call),
            _ => Ok(()),
        }
    }
}

fn start(ghost: &Ghost, process: ProcessId, hub: HubIndex, call: &HostCall, reason: StartReason, epoch: u64) -> Check {
    let Some(child) = child_index(&call.child).and_then(|index| ghost.children.get(index)) else {
        return Ok(());
    };
    let is_hot_move = ghost.is_hot(hub) && reason == StartReason::Migration;
    let is_same = |run: &Run| run.process == process && run.instance == call.instance;
    let counts = |run: &&Run| !run.has_exited && !is_same(run) && !ghost.is_retained(child, run);
    for run in child.live_runs().filter(counts) {
        // A second instance on the same node is never right, whatever the migration.
        // Hot: what moved may crash and start again before its frozen predecessor is gone.
        let is_frozen_old = ghost.is_hot(hub) && reason == StartReason::Restart && run.epoch.0 < epoch;
        // Without a delivered state an old instance lives on for its retention, also where the child comes back to.
        let may_be_retained =
            ghost.is_hot(hub) && run.epoch.0 < epoch && !(child.kind.has_state() && ghost.hands_over(hub));
        // Hot: the source of a move may crash and start again before the target, which is not the child yet, is gone.
        let is_unused_target = ghost.is_hot(hub) && run.reason == StartReason::Migration && !run.was_listed;
        // After a split its loser runs on until it has shown its state; who took over was looked at when it did.
        let took_over = |other: &Run| {
            other.process != run.process
                && other.reason != StartReason::Migration
                && other.begun > run.begun
                && other.epoch > run.epoch
        };
        let is_wrong = if run.process == process {
            !may_be_retained
        } else if ghost.replication(hub).is_some() {
            // The others of the placement run it too.
            false
        } else {
            let is_hot = is_hot_move || is_frozen_old || is_unused_target;
            let is_settled = !is_hot && !child.runs.iter().any(took_over);
            is_settled && are_long_together(ghost, hub, process, run.process)
        };
        if is_wrong {
            return broken(
                ghost,
                "S4",
                format!(
                    "{} starts {} ({reason:?}, epoch {epoch}) while the instance {} on {} runs (epoch {}, {:?}, stopping {:?})",
                    ghost.describe(process),
                    call.child,
                    run.instance,
                    ghost.describe(run.process),
                    run.epoch,
                    run.reason,
                    run.stopping
                ),
            );
        }
    }
    Ok(())
}

/// Whether the two nodes saw each other all through any move that may be under way.
fn are_long_together(ghost: &Ghost, hub: HubIndex, a: ProcessId, b: ProcessId) -> bool {
    ghost.together_since(hub, a, b).is_some_and(|since| ghost.now.since_us(since) > ghost.longest_move_us)
}

fn stop(ghost: &Ghost, process: ProcessId, hub: HubIndex, call: &HostCall) -> Check {
    let Some(child) = child_index(&call.child).and_then(|index| ghost.children.get(index)) else {
        return Ok(());
    };
    // Any other instance that was started will do, also one that ended a moment ago by a fault or a stop.
    let replaces = |run: &Run| {
        run.process != process
            && run.started.is_some()
            && run.ended.is_none_or(|(at, _)| ghost.now.since_us(at) < ghost.longest_move_us)
    };
    if child.runs.iter().rev().any(replaces) {
        return Ok(());
    }
    let everybody_together = ghost.processes.iter().enumerate().all(|(index, other)| {
        other.life == Life::Down
            || u32::try_from(index).is_ok_and(|index| are_long_together(ghost, hub, process, ProcessId(index)))
    });
    if !everybody_together {
        return Ok(());
    }
    broken(
        ghost,
        "S4'",
        format!("{} stops {} as migrated, and no other instance runs", ghost.describe(process), call.child),
    )
}
