//! S6: what a graceful leave reports as moved has its whole state elsewhere, and nothing is left out.

use process_hub::config::ReplicationModel;
use process_hub::engine::{Command, Outcome};
use process_hub::ids::ChildId;
use process_hub::spec::DrainReport;

use super::super::fact::{Fact, child_id, child_index};
use super::super::ghost::{Ghost, GhostChild, Run};
use super::super::queue::{HubIndex, ProcessId};
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct Report;

impl Invariant for Report {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Replied { process, hub, request, result: Ok(Outcome::Drained(report)) } = fact else {
            return Ok(());
        };
        for child in &report.moved {
            moved(ghost, *process, *hub, child)?;
        }
        let Some(open) = ghost.requests.get(&(*process, *hub, *request)) else {
            return Ok(());
        };
        // A node that was paused past its deadline has no time left to stop anything.
        if ghost.process(*process).changed >= open.issued {
            return Ok(());
        }
        let is_shutdown = matches!(open.command, Command::Shutdown(_));
        complete(ghost, *process, *hub, report, is_shutdown)
    }
}

/// Somebody else took the last state this node had.
fn moved(ghost: &Ghost, process: ProcessId, hub: HubIndex, id: &ChildId) -> Check {
    let Some(child) = child_index(id).and_then(|index| ghost.children.get(index)) else {
        return Ok(());
    };
    let Some(own) = child.runs.iter().rev().find(|run| run.process == process) else {
        return Ok(());
    };
    let replication = ghost.replication(hub);
    // A replica may have been there before.
    let since = |run: &&Run| run.begun >= own.begun || replication.is_some();
    let elsewhere = child.runs.iter().filter(|run| run.process != process && run.started.is_some()).filter(since);
    let has_all = |run: &Run| own.state.ops.iter().all(|op| run.state.ops.contains(op));
    // Of several active ones each has what it handled itself.
    let is_all_active = matches!(replication, Some((ReplicationModel::ActiveActive, _)));
    let is_kept = !child.kind.has_state() || !ghost.hands_over(hub) || is_all_active;
    let mut elsewhere = elsewhere.peekable();
    if elsewhere.peek().is_some() && (is_kept || elsewhere.any(has_all)) {
        return Ok(());
    }
    broken(
        ghost,
        "S6",
        format!(
            "{} reports {id} as moved, and nobody has its {} messages (epoch {})",
            ghost.describe(process),
            own.state.ops.len(),
            own.epoch
        ),
    )
}

/// Every child that still runs here is in the report.
fn complete(ghost: &Ghost, process: ProcessId, hub: HubIndex, report: &DrainReport, is_shutdown: bool) -> Check {
    // What hangs in host code cannot be stopped.
    let is_idle = |run: &Run| run.stopping.is_none() && run.in_flight.is_none() && !run.has_exited;
    let runs_here = |child: &GhostChild| {
        let counts = |run: &&Run| run.process == process && is_idle(run) && !ghost.is_retained(child, run);
        child.hub == hub && child.live_runs().any(|run| counts(&run))
    };
    for (index, child) in ghost.children.iter().enumerate() {
        if !runs_here(child) {
            continue;
        }
        let id = child_id(index);
        let is_told = report.failed.iter().any(|entry| entry.id == id)
            || report.restarted.iter().any(|entry| entry.id == id)
            || report.moved.contains(&id)
            || report.stopped.contains(&id);
        if is_shutdown || !is_told {
            return broken(
                ghost,
                "S6",
                format!(
                    "{} ended its drain while {id} runs there (told: {is_told}, shutdown: {is_shutdown})",
                    ghost.describe(process)
                ),
            );
        }
    }
    Ok(())
}
