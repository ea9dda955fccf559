//! ProcessHub's scenarios about the registry and the placement, on a main node and five peers.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use process_hub::config::{Distribution, Fallback, Synchronization};
use process_hub::engine::{ChildMapping, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::hub::Hub;
use process_hub::ids::{ChildId, NodeName};
use process_hub::observe::HookName;
use process_hub::spec::ChildSpec;
use process_hub::strategy::{ConsistentHashing, Distribution as _, LoadSample, Placements};
use process_hub_tests::cluster::{
    COUNTER, Cluster, Losses, PATIENCE, ask_all, child_id, counter_kind, eventually, eventually_or, lossy_node,
    message, nodes_of, options, owner, reference_nodes, spec,
};
use process_hub_tests::reference_placement::place;

const SIX: [&str; 6] = ["main", "peer-1", "peer-2", "peer-3", "peer-4", "peer-5"];

fn ids_of(names: &[String]) -> Vec<ChildId> {
    names.iter().map(|id| child_id(id)).collect()
}

#[test]
fn scenario_01_start_and_stop_of_1000_then_every_registry_has_every_row_and_then_none() {
    start_and_stop(&Cluster::of(&SIX), 1000);
}

#[test]
fn scenario_02_gossip_of_the_start_and_stop_of_100_then_every_registry_has_every_row_and_then_none() {
    let mut cluster = Cluster::with(|config| config.with_synchronization(Synchronization::gossip()));
    cluster.join_all(&SIX);
    start_and_stop(&cluster, 100);
}

#[test]
fn scenario_03_load_balanced_start_and_stop_of_1000_by_a_forced_scoreboard_then_rows_are_equal_and_shares_kept() {
    // Scores of 500, 250 and 0 leave capacities of 500, 750 and 1000.
    let cpu = |name: &str| match name {
        "main" => 1000,
        "peer-1" => 500,
        _ => 0,
    };
    let often = Distribution::load_balanced().with_push_interval(Duration::from_millis(100)).with_history(1, 1.0);
    let mut cluster = Cluster::with(move |config| config.with_distribution(often.clone()));
    for name in SIX {
        let sample = LoadSample { cpu: cpu(name), waiting: 0 };
        let hub = cluster.builder(name).load_probe(move || sample).start().unwrap();
        cluster.add(hub);
    }
    cluster.settle();
    for hub in &cluster.hubs {
        let is_told = || SIX.iter().all(|name| hub.loads().get(*name) == Some(&(cpu(name) / 2)));
        eventually("every hub knows every load", is_told);
    }
    let started = start_and_stop(&cluster, 1000);
    for name in SIX {
        let share = 1000.0 * f64::from(1000 - cpu(name) / 2) / 5250.0;
        let given = started.values().filter(|nodes| nodes[0].as_str() == name).count();
        assert!((given as f64 - share).abs() <= 2.0, "{name} was given {given}, its share is {share}");
    }
}

/// Starts and stops so many children, and says where they ran.
fn start_and_stop(cluster: &Cluster, count: usize) -> BTreeMap<ChildId, Vec<NodeName>> {
    let ids: Vec<String> = (0..count).map(|n| format!("child:{n}")).collect();
    let specs = ids.iter().map(|id| {
        let mut spec = spec(id);
        spec.metadata = Some(format!(r#"{{"tag":"t{}"}}"#, id.len()).into());
        spec
    });
    let result = cluster.hubs[0].start_children(specs.clone().collect(), options()).wait().unwrap();
    assert_eq!(result.errors, []);
    // R1: the caller's own registry has them when the start is answered.
    assert_eq!(cluster.hubs[0].child_count(), count);
    cluster.settle();
    let registry = cluster.registry();
    assert_eq!(registry.len(), count);
    for spec in specs {
        let row = &registry[spec.id.as_str()];
        assert_eq!(ChildSpec { mapping: Vec::new(), ..(*row.spec).clone() }, spec);
        assert_eq!(row.instances.len(), 1);
    }
    for hub in &cluster.hubs {
        assert_eq!(hub.process_registry(), registry, "every registry tells the same");
    }
    cluster.assert_each_lives_once(&ids);
    let result = cluster.hubs[0].stop_children(ids_of(&ids), PATIENCE).wait().unwrap();
    assert_eq!((result.stopped.len(), result.errors), (count, vec![]));
    assert!(cluster.census.live().is_empty(), "a stop is answered when the instances have ended");
    for hub in &cluster.hubs {
        eventually("the registry is empty", || hub.process_registry().is_empty());
    }
    registry.into_iter().map(|(id, row)| (id, nodes_of(&row))).collect()
}

const SYNC_INTERVAL: Duration = Duration::from_millis(250);
/// The node whose frames are lost.
const DEAF: &str = "deaf";

/// Hubs on nodes with losses. The node `deaf` offers no kind, so nothing is asked of it.
fn lossy_cluster(losses: &Arc<Losses>, synchronization: Synchronization) -> Cluster {
    let often = synchronization.with_sync_interval(SYNC_INTERVAL);
    let mut cluster = Cluster::with(move |config| config.with_synchronization(often.clone()));
    for name in ["main", "peer-1", "peer-2", "peer-3", "peer-4", DEAF] {
        let mut hub_config = cluster.config(name);
        let node = lossy_node(&mut hub_config, losses).unwrap();
        let mut builder = Hub::builder(hub_config).node(&node);
        if name != DEAF {
            builder = builder.kind(COUNTER, counter_kind(Arc::clone(&cluster.census)));
        }
        cluster.add(builder.start().unwrap());
    }
    cluster.see_each_other();
    cluster
}

/// Source: upstream-behaviour.md §9, number 4.
#[test]
fn scenario_04_guided_start_without_with_a_wrong_and_with_a_right_mapping() {
    let guided = Distribution::Guided { fallback: Fallback::Wait };
    let mut cluster = Cluster::with(move |config| config.with_distribution(guided.clone()));
    cluster.join_all(&SIX);
    let ids: Vec<String> = (0..60).map(|n| format!("child:{n}")).collect();
    let specs = || ids.iter().map(|id| spec(id)).collect::<Vec<_>>();
    let at = |n: usize| NodeName::new(SIX[n % SIX.len()]).unwrap();
    let right: ChildMapping = ids.iter().enumerate().map(|(n, id)| (child_id(id), vec![at(n)])).collect();
    let mut wrong = right.clone();
    wrong.remove("child:7");
    let refusal = |child_mapping: Option<ChildMapping>| {
        let options = StartOptions { child_mapping, ..options() };
        cluster.hubs[0].start_children(specs(), options).wait().unwrap_err().kind
    };
    assert_eq!(refusal(None), ErrorKind::MissingChildMapping);
    assert_eq!(refusal(Some(wrong)), ErrorKind::ChildMappingMismatch);
    let no_map = StartOptions::from_json(&serde_json::json!({"child_mapping": ["main"]}));
    assert_eq!(no_map.unwrap_err().kind, ErrorKind::InvalidChildMapping);
    assert!(cluster.census.live().is_empty());

    let options = StartOptions { child_mapping: Some(right), ..options() };
    let result = cluster.hubs[0].start_children(specs(), options).wait().unwrap();
    assert_eq!(result.errors, []);
    cluster.join("peer-6");
    cluster.see_each_other();
    for hub in &cluster.hubs {
        eventually_or("every registry tells the mapping", || {
            let rows = hub.process_registry();
            let is_elsewhere =
                |(n, id): &(usize, &String)| rows.get(id.as_str()).map(|row| nodes_of(row)) != Some(vec![at(*n)]);
            ids.iter().enumerate().find(is_elsewhere).map(|(_, id)| format!("{id} as {} knows", hub.node_name()))
        });
    }
    cluster.assert_each_lives_once(&ids);
    assert!(ids.iter().all(|id| cluster.census.starts(id) == 1), "a node that joins moves nothing");
    let result = cluster.hub("peer-6").stop_children(ids_of(&ids), PATIENCE).wait().unwrap();
    assert_eq!((result.stopped.len(), result.errors), (60, vec![]));
    for hub in &cluster.hubs {
        eventually("the registry is empty", || hub.process_registry().is_empty());
    }
}

#[test]
fn scenario_05_every_delta_to_a_node_is_lost_then_the_interval_repairs_its_registry() {
    lose_and_repair(Synchronization::default());
}

#[test]
fn scenario_06_all_gossip_to_a_node_is_lost_then_the_interval_repairs_its_registry() {
    lose_and_repair(Synchronization::gossip());
}

fn lose_and_repair(synchronization: Synchronization) {
    let losses = Arc::new(Losses::default());
    let cluster = lossy_cluster(&losses, synchronization);
    let deaf = cluster.hub(DEAF);
    eventually("the cluster is at rest", || cluster.hubs.iter().all(|hub| !hub.is_locked()));
    let warm = cluster.hubs[0].start_child(spec("warm"), options()).wait().unwrap();
    eventually("the node hears of a start", || deaf.child_count() == 1);

    losses.deafen([DEAF]);
    let ids: Vec<String> = (0..1000).map(|n| format!("child:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    let result = cluster.hubs[0].start_children(specs, options()).wait().unwrap();
    assert_eq!(result.errors, []);
    assert_eq!(deaf.child_count(), 1, "it hears nothing");
    losses.heal();
    let begin = Instant::now();
    eventually("what was lost arrives", || deaf.process_registry() == cluster.hubs[0].process_registry());
    assert!(begin.elapsed() < 8 * SYNC_INTERVAL, "the interval is {SYNC_INTERVAL:?}, it took {:?}", begin.elapsed());
    assert_eq!(deaf.child_count(), 1001);

    losses.deafen([DEAF]);
    let result = cluster.hubs[0].stop_children(ids_of(&ids), PATIENCE).wait().unwrap();
    assert_eq!(result.errors, []);
    assert_eq!(deaf.child_count(), 1001, "it hears nothing");
    losses.heal();
    eventually("what was lost arrives", || deaf.process_registry() == cluster.hubs[0].process_registry());
    assert!(deaf.child_lookup(warm.id.as_str()).is_some());
    assert_eq!(deaf.child_count(), 1);
}

#[test]
fn scenario_07_100_children_crash_then_each_has_a_new_instance_and_every_node_knows() {
    let mut cluster = Cluster::new().listening(HookName::RegistryPidInserted).listening(HookName::StateLost);
    cluster.join_all(&SIX);
    let ids = cluster.start_counters(100);
    let before = cluster.registry();
    for id in &ids {
        cluster.hubs[0].send(message(id, "crash")).wait().unwrap();
    }
    eventually_or("every child was started again", || {
        ids.iter().find(|id| cluster.census.starts(id) != 2).map(|id| format!("{id}: {}", cluster.census.starts(id)))
    });
    cluster.assert_each_lives_once(&ids);
    for hub in &cluster.hubs {
        eventually_or("every registry has the new instances", || {
            let rows = hub.process_registry();
            let is_old = |id: &&String| rows[id.as_str()].instances == before[id.as_str()].instances;
            ids.iter()
                .find(is_old)
                .map(|id| format!("{id} on {} is {:?}", hub.node_name(), rows[id.as_str()].instances))
        });
    }
    for (id, row) in &cluster.registry() {
        assert_eq!(nodes_of(row), nodes_of(&before[id.as_str()]), "a restart is not a move");
        assert!(row.state_lost.is_none(), "R8: a supervised restart is no loss");
    }
    assert!(cluster.heard("main", HookName::StateLost).is_empty());
}

#[test]
fn scenario_10_1000_children_then_each_runs_on_exactly_the_node_the_rule_says() {
    let cluster = Cluster::of(&SIX);
    let ids = cluster.start_counters(1000);
    let registry = cluster.registry();
    let mut used = BTreeSet::new();
    for id in &ids {
        let expected = owner(&SIX, id);
        let nodes: Vec<String> = nodes_of(&registry[id.as_str()]).iter().map(ToString::to_string).collect();
        assert_eq!(nodes, std::slice::from_ref(&expected), "{id}");
        used.insert(expected);
    }
    assert_eq!(used.len(), SIX.len(), "every node runs some");
    let places = ask_all(&cluster.hubs[3], ids.iter().map(|id| (id.as_str(), "node".to_owned())));
    for (id, place) in ids.iter().zip(places) {
        assert_eq!(place, owner(&SIX, id));
    }
    cluster.assert_each_lives_once(&ids);
}

#[test]
fn scenario_11_six_nodes_join_and_leave_one_by_one_then_nobody_is_ever_partitioned() {
    let mut cluster = Cluster::new().listening(HookName::PartitionChanged);
    cluster.join_all(&SIX);
    let ids = cluster.start_counters(60);
    let extra = ["extra-1", "extra-2", "extra-3", "extra-4", "extra-5", "extra-6"];
    for name in extra {
        cluster.join_all(&[name]);
        assert!(cluster.hubs.iter().all(|hub| !hub.is_partitioned()), "{name} joined");
    }
    for name in extra {
        cluster.take(name).stop(PATIENCE).unwrap();
        cluster.settle();
        assert!(cluster.hubs.iter().all(|hub| !hub.is_partitioned()), "{name} left");
    }
    for name in SIX.iter().chain(&extra) {
        assert!(cluster.heard(name, HookName::PartitionChanged).is_empty(), "{name}");
    }
    cluster.assert_each_lives_once(&ids);
}

#[test]
fn scenario_27_nodes_are_added_and_removed_then_a_key_has_its_count_of_nodes_and_the_same_ones_each_time() {
    let children: Vec<_> = (0..1000).map(|n| spec(&format!("child:{n}"))).collect();
    let references: Vec<_> = children.iter().collect();
    let placed = |names: &[&str], factor: usize| -> Vec<Vec<String>> {
        let nodes = reference_nodes(names.iter().copied());
        let candidates: Vec<_> = nodes
            .iter()
            .map(|it| process_hub::strategy::Candidate {
                node: &it.node,
                weight: it.weight,
                labels: &it.labels,
                kinds: &it.kinds,
            })
            .collect();
        let mut placements = Placements::default();
        ConsistentHashing.place(&candidates, &references, factor, &mut placements);
        let names_of =
            |chosen: &[u32]| chosen.iter().map(|&at| candidates[at as usize].node.name.to_string()).collect();
        placements.iter().map(names_of).collect()
    };
    let six = placed(&SIX, 1);
    assert_eq!(
        six,
        placed(&["peer-5", "peer-3", "main", "peer-1", "peer-4", "peer-2"], 1),
        "the order is no part of it"
    );
    for (child, nodes) in children.iter().zip(&six) {
        let reference: Vec<_> = place(&reference_nodes(SIX), child, 1).iter().map(|it| it.name.to_string()).collect();
        assert_eq!(*nodes, reference);
    }
    for factor in 0..8 {
        let expected = factor.min(SIX.len());
        for nodes in placed(&SIX, factor) {
            assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), expected, "factor {factor}: {nodes:?}");
        }
    }
    let five = placed(&SIX[..5], 1);
    for (before, after) in six.iter().zip(&five) {
        assert!(before == after || before[0] == SIX[5], "{before:?} moved to {after:?} without need");
    }
    assert_eq!(placed(&SIX, 1), six, "added again, it has the same children");
    assert!(placed(&[], 1).iter().all(Vec::is_empty));
}

#[test]
fn scenario_53_awaited_stop_with_6_nodes_then_it_answers_within_a_second() {
    let cluster = Cluster::of(&SIX);
    let ids = cluster.start_counters(10);
    let begin = Instant::now();
    let one = cluster.hubs[0].stop_child(&child_id(&ids[0]), PATIENCE).wait().unwrap();
    let took = begin.elapsed();
    assert_eq!(one.nodes.len(), 1);
    assert!(took < Duration::from_secs(1), "one child: {took:?}");
    let begin = Instant::now();
    let rest = cluster.hubs[5].stop_children(ids_of(&ids[1..]), PATIENCE).wait().unwrap();
    let took = begin.elapsed();
    assert_eq!((rest.stopped.len(), rest.errors), (9, vec![]));
    assert!(took < Duration::from_secs(1), "nine children: {took:?}");
}
