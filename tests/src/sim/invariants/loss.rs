//! R8, S7: loss is never silent, and never invented.

use std::collections::BTreeSet;

use process_hub::config::ReplicationModel;
use process_hub::host::call::StartReason;
use process_hub::ids::Epoch;
use process_hub::observe::HookName;
use process_hub::spec::Mode;

use super::super::fact::{Fact, child_id};
use super::super::ghost::{End, Ghost, GhostChild, Life, OpEnd, Run, Wish, WishEnd};
use super::super::host::OpId;
use super::super::queue::ProcessId;
use super::super::time::WorldTime;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct NothingSilent;

impl Invariant for NothingSilent {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Hook { process, event, .. } = fact else {
            return Ok(());
        };
        if event.name != HookName::StateLost {
            return Ok(());
        }
        let id = event.payload.get("child_id").and_then(|value| value.as_str());
        let epoch = event.payload.get("epoch").and_then(serde_json::Value::as_u64);
        let child =
            id.and_then(|id| id.strip_prefix('c')?.parse::<usize>().ok()).and_then(|index| ghost.children.get(index));
        let (Some(id), Some(epoch), Some(child)) = (id, epoch, child) else {
            return broken(ghost, "R8", format!("a hook lacks facts: {event:?}"));
        };
        let epoch = Epoch(epoch);
        if child.losses.iter().any(|(at, told, _)| at == process && *told == epoch) {
            return broken(
                ghost,
                "R8",
                format!("{} tells the loss of {id} at epoch {epoch} twice", ghost.describe(*process)),
            );
        }
        Ok(())
    }

    fn conclude(&mut self, ghost: &Ghost) -> Check {
        for (index, child) in ghost.children.iter().enumerate() {
            nothing_invented(ghost, index, child)?;
            if child.kind.has_state() && ghost.hands_over(child.hub) {
                nothing_missing(ghost, index, child)?;
            }
        }
        Ok(())
    }
}

/// Every loss that was told is one: an instance of that epoch began without its state.
fn nothing_invented(ghost: &Ghost, index: usize, child: &GhostChild) -> Check {
    let is_real = |epoch| child.kind.has_state() && child.runs.iter().any(|run| is_loss(run, epoch));
    // An instance that its node planned, and died before it could call `start`, is no lie. Two sides of a split may
    // use one epoch (R4), so another node's instance says nothing.
    let died_first = |process: &ProcessId, epoch: &Epoch, at: &WorldTime| {
        let teller = ghost.process(*process);
        let mut own = child.runs.iter().filter(|run| run.process == *process);
        teller.life == Life::Down && teller.changed == *at && !own.any(|run| run.epochs.contains(epoch))
    };
    for (process, epoch, at) in &child.losses {
        if !is_real(*epoch) && !died_first(process, epoch, at) {
            return broken(
                ghost,
                "R8",
                format!(
                    "{} told at {at} a loss of {} at epoch {epoch}, and no instance of that epoch began without its state",
                    ghost.describe(*process),
                    child_id(index)
                ),
            );
        }
    }
    Ok(())
}

/// Whether an instance began this epoch without the state it might have had.
fn is_loss(run: &Run, epoch: Epoch) -> bool {
    let was_reactivated = run.epochs.len() > 1;
    run.epochs.contains(&epoch) && (was_reactivated || run.reason != StartReason::Initial)
}

/// Every message that was answered is in the state of the instance that runs, or its loss was told.
fn nothing_missing(ghost: &Ghost, index: usize, child: &GhostChild) -> Check {
    if matches!(ghost.replication(child.hub), Some((ReplicationModel::ActiveActive, _))) {
        // Each of them has what it handled itself.
        return Ok(());
    }
    let Some(run) = child.live_runs().find(|run| run.started.is_some() && run.mode == Mode::Active) else {
        return Ok(());
    };
    let known: BTreeSet<OpId> = run.state.ops.iter().copied().collect();
    for (number, op) in ghost.ops.iter().enumerate() {
        if op.child != index || op.is_bound || !matches!(op.ended, Some((_, OpEnd::Answered))) {
            continue;
        }
        let id = OpId(u32::try_from(number).unwrap_or(u32::MAX));
        let Some((by, instance, at)) = op.handled.first().filter(|_| !known.contains(&id)) else {
            continue;
        };
        if is_excused(ghost, child, run, child.run(*by, *instance), id, *at) {
            continue;
        }
        return broken(
            ghost,
            "S7",
            format!(
                "message {number} to {}, handled at {at} on {} by instance {instance}, is in no instance, and no loss was told; {} runs (epoch {}, {:?})",
                child_id(index),
                ghost.describe(*by),
                ghost.describe(run.process),
                run.epoch,
                run.reason
            ),
        );
    }
    Ok(())
}

fn is_excused(ghost: &Ghost, child: &GhostChild, now: &Run, run: Option<&Run>, op: OpId, at: WorldTime) -> bool {
    // Told for a higher epoch, also before: the instance worked on although it had been given up elsewhere.
    let is_above = |epoch: &Epoch| run.and_then(|run| run.epochs.first()).is_some_and(|first| epoch >= first);
    let is_told = child.losses.iter().any(|(_, epoch, _)| is_above(epoch));
    let has_conflict = child.conflicts.iter().any(|told| *told >= at);
    let is_new = child.intents.iter().any(|intent| {
        intent.wish == Wish::Stop
            && !matches!(intent.ended, Some((_, WishEnd::Refused)))
            && intent.ended.is_none_or(|(ended, _)| ended >= at)
    });
    // A crash ends what an instance had: it starts again empty, also where it was moved to meanwhile.
    let has_crashed = child
        .runs
        .iter()
        .any(|run| matches!(run.ended, Some((_, End::Discarded))) && run.state.ops.binary_search(&op).is_ok());
    let is_anew = child.runs.iter().any(|run| run.reason == StartReason::Initial && run.begun >= at);
    // Whoever knew of the instance died with it: a node that was cut off or paused all the time cannot tell.
    // Who began without the message decides who could have told it so.
    let is_heir = |heir: &&Run| heir.begun >= at && heir.reason == StartReason::Failover;
    let now = child.runs.iter().find(is_heir).unwrap_or(now);
    let could_tell = |id: &ProcessId| {
        let since = ghost.together_since(child.hub, *id, now.process);
        *id == now.process || since.is_some_and(|since| since <= now.begun)
    };
    let is_known = |id: &ProcessId| run.is_some_and(|run| run.known_by.contains(id)) && could_tell(id);
    let is_forgotten = ghost.core.as_ref().is_some_and(|core| !core.iter().any(is_known));
    // While two were about the lower one lost in advance; it died before it could show what it had (R12).
    let is_higher = |other: &Run| run.is_some_and(|run| other.epoch > run.epoch && other.process != run.process);
    let outlasts = |other: &Run| other.begun <= at && other.ended.is_none_or(|(end, _)| end > at);
    let was_outdone = child.runs.iter().any(|other| is_higher(other) && outlasts(other));
    // Whoever was passive became active with what it had (R8).
    let was_promoted = child.runs.iter().any(|run| run.promoted.is_some_and(|promoted| promoted >= at));
    is_told || was_promoted || has_conflict || is_new || has_crashed || is_anew || is_forgotten || was_outdone
}
