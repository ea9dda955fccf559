//! L1, L2, L2b, L3, L6 and R8 of a healed cluster: what must become true within the bound.

use std::collections::{BTreeMap, BTreeSet};

use process_hub::config::{Distribution, Fallback, RedundancySignal, ReplicationModel};
use process_hub::ids::{ChildId, Epoch, KindName, NodeName, NodeRef};
use process_hub::spec::{ChildSpec, Mode};

use super::super::config::mapping;
use super::super::fact::child_id;
use super::super::ghost::{Ghost, GhostChild, GhostRow, Intent, Run, Wish, WishEnd};
use super::super::host::Kind;
use super::super::queue::ProcessId;
use crate::reference_placement::{ReferenceNode, place};

/// What is not yet as it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unsettled {
    pub(crate) invariant: &'static str,
    pub(crate) facts: String,
}

fn unsettled_by(invariant: &'static str, facts: String) -> Result<(), Unsettled> {
    Err(Unsettled { invariant, facts })
}

/// The first thing that is not settled in the core.
pub(crate) fn unsettled(ghost: &Ghost) -> Option<Unsettled> {
    unsettled_in(ghost, ghost.core.as_ref()?)
}

/// The first thing that is not settled among these processes.
pub(crate) fn unsettled_in(ghost: &Ghost, core: &[ProcessId]) -> Option<Unsettled> {
    check(ghost, core).err()
}

fn check(ghost: &Ghost, core: &[ProcessId]) -> Result<(), Unsettled> {
    views(ghost, core)?;
    locks(ghost, core)?;
    for (index, child) in ghost.children.iter().enumerate() {
        rows(ghost, core, index, child)?;
        wanted(ghost, core, index, child)?;
    }
    Ok(())
}

/// L6: every node of the core tells exactly the others.
fn views(ghost: &Ghost, core: &[ProcessId]) -> Result<(), Unsettled> {
    for id in core {
        let expected: BTreeSet<&NodeRef> =
            core.iter().filter(|other| *other != id).map(|other| &ghost.process(*other).node).collect();
        for (hub, seen) in ghost.process(*id).hubs.iter().enumerate() {
            let told: BTreeSet<&NodeRef> = seen.members.keys().collect();
            if told != expected {
                let me = &ghost.process(*id).node;
                let facts = format!("hub{hub} on {me} tells the members {told:?}, not {expected:?}");
                return unsettled_by("L6", facts);
            }
        }
    }
    Ok(())
}

/// L3: nothing moves any more.
fn locks(ghost: &Ghost, core: &[ProcessId]) -> Result<(), Unsettled> {
    for id in core {
        let process = ghost.process(*id);
        for (hub, seen) in process.hubs.iter().enumerate() {
            if seen.is_locked || seen.is_partitioned {
                let facts = format!(
                    "hub{hub} on {} is locked ({}) or partitioned ({})",
                    process.node, seen.is_locked, seen.is_partitioned
                );
                return unsettled_by("L3", facts);
            }
        }
    }
    Ok(())
}

/// L2: all rows are equal and tell exactly what runs; R8: also what was lost.
fn rows(ghost: &Ghost, core: &[ProcessId], index: usize, child: &GhostChild) -> Result<(), Unsettled> {
    let id = child_id(index);
    let first: Option<&GhostRow> = child.rows.get(&core[0]);
    for other in &core[1..] {
        let row = child.rows.get(other);
        if !is_same(first, row) {
            let (a, b) = (ghost.describe(core[0]), ghost.describe(*other));
            let facts = format!("{id} is {first:?} on {a} and {row:?} on {b}");
            return unsettled_by("L2", facts);
        }
    }
    let running: BTreeSet<&NodeName> = child.live_runs().map(|run| &ghost.process(run.process).node.name).collect();
    let told: BTreeSet<&NodeName> =
        first.into_iter().flat_map(|row| row.instances.iter().map(|(name, _, _)| name)).collect();
    if running != told {
        let facts = format!("{id} runs on {running:?}, and the registry tells {told:?}");
        return unsettled_by("L2", facts);
    }
    if let Some(lost) = first.and_then(|row| row.state_lost.as_ref()) {
        for process in core {
            let is_told = |(at, epoch, _): &(ProcessId, _, _)| at == process && *epoch == lost.epoch;
            if !child.losses.iter().any(is_told) {
                let facts =
                    format!("{id} lost its state at epoch {}, and {} never told", lost.epoch, ghost.describe(*process));
                return unsettled_by("R8", facts);
            }
        }
    }
    Ok(())
}

fn is_same(a: Option<&GhostRow>, b: Option<&GhostRow>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            let sorted = |row: &GhostRow| {
                let mut instances: Vec<_> = row.instances.clone();
                instances.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
                instances
            };
            let epoch = |row: &GhostRow| row.state_lost.as_ref().map(|lost| lost.epoch);
            a.spec == b.spec && a.mapping == b.mapping && sorted(a) == sorted(b) && epoch(a) == epoch(b)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// L1 and L2b: a wanted child runs exactly where it belongs, an unwanted one nowhere.
fn wanted(ghost: &Ghost, core: &[ProcessId], index: usize, child: &GhostChild) -> Result<(), Unsettled> {
    let id = child_id(index);
    let row = child.rows.get(&core[0]);
    match certain(ghost, core, child) {
        Some(Wish::Start(_)) if row.is_none() => {
            let facts = format!("{id} was started and nobody stopped it, but nobody knows it");
            return unsettled_by("L1", facts);
        }
        Some(Wish::Stop) if row.is_some() => {
            let facts = format!("{id} was stopped and nobody started it, but it is wanted");
            return unsettled_by("L1", facts);
        }
        Some(_) | None => {}
    }
    let runs: Vec<&Run> = child.live_runs().collect();
    let Some(row) = row else {
        if runs.is_empty() {
            return Ok(());
        }
        let facts = format!("{id} is not wanted and runs: {runs:?}");
        return unsettled_by("L2b", facts);
    };
    if child.quarantined.is_some() {
        return Ok(());
    }
    let placement = placement(ghost, core, index, child);
    let mut here: Vec<_> = runs.iter().map(|run| &ghost.process(run.process).node).collect();
    let mut expected: Vec<_> = placement.iter().collect();
    here.sort();
    expected.sort();
    if here != expected {
        let facts = format!("{id} belongs on {expected:?} and runs on {here:?}");
        return unsettled_by(if here.is_empty() { "L1" } else { "L2b" }, facts);
    }
    let is_started = runs.iter().all(|run| run.started.is_some() && run.stopping.is_none());
    if !is_started {
        let facts = format!("{id} is not started everywhere: {row:?}");
        return unsettled_by("L1", facts);
    }
    roles(ghost, child, &id, &placement)
}

/// R9: the first node of the placement is active, or all are; every instance knows its role and was told as the option
/// says. R4: they share the epoch.
fn roles(ghost: &Ghost, child: &GhostChild, id: &ChildId, placement: &[NodeRef]) -> Result<(), Unsettled> {
    let replication = ghost.replication(child.hub);
    let is_all_active = matches!(replication, Some((ReplicationModel::ActiveActive, _)));
    let rows = child.rows.values().next();
    let epochs: BTreeSet<Epoch> = child.live_runs().map(|run| run.epoch).collect();
    for run in child.live_runs() {
        let node = &ghost.process(run.process).node;
        let mode = if is_all_active || placement.first() == Some(node) { Mode::Active } else { Mode::Passive };
        let told = rows.into_iter().flat_map(|row| &row.instances).find(|(name, _, _)| *name == node.name);
        if run.mode != mode || told.is_none_or(|(_, told, epoch)| *told != mode || *epoch != run.epoch) {
            let facts = format!("{id} on {node} should be {mode:?}, is told {:?} and published {told:?}", run.mode);
            return unsettled_by("R9", facts);
        }
        let is_signalled = match (replication.map(|(_, signal)| signal), mode) {
            (Some(RedundancySignal::All), _)
            | (Some(RedundancySignal::Active), Mode::Active)
            | (Some(RedundancySignal::Passive), Mode::Passive) => true,
            (Some(_) | None, _) => false,
        };
        if is_signalled && run.signals.last() != Some(&mode) {
            let facts = format!("{id} on {node} is {mode:?} and its signals were {:?}", run.signals);
            return unsettled_by("R9", facts);
        }
    }
    if epochs.len() > 1 {
        return unsettled_by("R4", format!("{id} runs under the epochs {epochs:?}"));
    }
    Ok(())
}

/// What must be wanted in the end, where that is certain: no other wish overlaps or follows, and the core holds it,
/// or so few nodes died since that two holders cannot all be among them (R1).
fn certain(ghost: &Ghost, core: &[ProcessId], child: &GhostChild) -> Option<Wish> {
    let changes = |intent: &&Intent| !matches!(intent.ended, Some((_, WishEnd::Refused)));
    let last = child.intents.iter().filter(changes).max_by_key(|intent| intent.issued)?;
    let Some((_, WishEnd::Granted)) = last.ended else {
        return None;
    };
    let is_alone = child.intents.iter().filter(changes).all(|other| {
        other.issued == last.issued || other.ended.is_some_and(|(at, end)| at < last.issued && end == WishEnd::Granted)
    });
    // Two sides that wrote without each other go by their clocks.
    if ghost.has_skew && child.intents.iter().filter(changes).count() > 1 {
        return None;
    }
    let is_held = match last.wish {
        Wish::Start(spec) => child.held_in_core.contains(&spec),
        Wish::Stop => core.iter().any(|id| {
            let dropped = child.dropped.range((*id, 0)..=(*id, u32::MAX));
            dropped.map(|(_, at)| *at).any(|at| at >= last.issued)
        }),
    };
    // A stop is held by two nodes only where there were two; what is known of starts, see `FORGOTTEN`.
    let survivable_deaths = u32::from(last.wish != Wish::Stop || last.is_held_by_two);
    (is_alone && (last.deaths_since <= survivable_deaths || is_held)).then_some(last.wish)
}

/// The owner of a child, by the reference rule.
pub(crate) fn owner(ghost: &Ghost, core: &[ProcessId], index: usize) -> Option<NodeRef> {
    placement(ghost, core, index, &ghost.children[index]).into_iter().next()
}

/// Where a child belongs, by the reference rule.
fn placement(ghost: &Ghost, core: &[ProcessId], index: usize, child: &GhostChild) -> Vec<NodeRef> {
    let info = |kind: Kind| -> KindName { kind.info().name };
    let nodes: Vec<_> = core
        .iter()
        .map(|id| {
            let process = ghost.process(*id);
            ReferenceNode {
                node: process.node.clone(),
                weight: weight_in_thousandths(process.weight),
                labels: zone_label(ghost, process.slot),
                kinds: process.kinds.iter().map(|kind| info(*kind)).collect(),
            }
        })
        .collect();
    let Ok(spec) = ChildSpec::new(child_id(index).as_str(), child.kind.name()) else {
        return Vec::new();
    };
    let hub = &ghost.hubs[usize::from(child.hub)];
    let factor = ghost.factor(child.hub, nodes.len());
    let hashed = |factor| place(&nodes, &spec, factor).into_iter();
    let (mapping, fallback) = match hub.distribution {
        Distribution::ConsistentHashing | Distribution::Custom(_) => return hashed(factor).cloned().collect(),
        Distribution::Guided { fallback } => (mapping(hub, ghost.machines, index), fallback),
        // What was chosen is in the spec, and the same for all.
        Distribution::LoadBalanced { .. } => {
            let row = core.first().and_then(|id| child.rows.get(id));
            (row.map(|row| row.mapping.clone()).unwrap_or_default(), Fallback::ConsistentHashing)
        }
    };
    let able: Vec<&NodeRef> = hashed(nodes.len()).collect();
    let mapped = mapping.iter().filter_map(|name| able.iter().copied().find(|node| node.name == *name));
    let mut placement: Vec<&NodeRef> = mapped.take(factor).collect();
    if fallback == Fallback::ConsistentHashing {
        // In the order of hashing over all of them, as zones are spread there.
        for node in hashed(2 * factor) {
            if placement.len() < factor && !placement.contains(&node) {
                placement.push(node);
            }
        }
    }
    placement.into_iter().cloned().collect()
}

fn zone_label(ghost: &Ghost, slot: usize) -> BTreeMap<String, String> {
    let zone = slot.checked_rem(ghost.zones).map(|zone| ("zone".to_owned(), format!("zone{zone}")));
    zone.into_iter().collect()
}

fn weight_in_thousandths(weight: f64) -> u32 {
    // Weights of the simulator are 1 and 2.
    if weight > 1.5 { 2_000 } else { 1_000 }
}
