//! ProcessHub's scenarios about several instances of a child, and the gap its suite leaves there.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::time::{Duration, Instant};

use process_hub::config::{Migration, Redundancy, RedundancySignal, ReplicationFactor, ReplicationModel};
use process_hub::engine::{MessageCommand, Recipient};
use process_hub::hub::Hub;
use process_hub::ids::NodeName;
use process_hub::observe::HookName;
use process_hub::spec::Mode;
use process_hub_tests::cluster::{
    Cluster, PATIENCE, ask, call, child_id, eventually, eventually_or, message, nodes_of, options, spec,
};

fn replicated(factor: ReplicationFactor, model: ReplicationModel, migration: Migration) -> Cluster {
    let redundancy = Redundancy::replication().with_factor(factor).with_model(model).with_signal(RedundancySignal::All);
    Cluster::with(move |config| config.with_redundancy(redundancy.clone()).with_migration(migration.clone()))
}

fn hot_swap() -> Migration {
    Migration::hot_swap().with_handover(true)
}

const SIX: [&str; 6] = ["main", "peer-1", "peer-2", "peer-3", "peer-4", "peer-5"];

/// The first instance of a row is the active one.
fn active(hub: &Hub, id: &str) -> NodeName {
    nodes_of(&hub.child_lookup(id).unwrap())[0].clone()
}

fn to(recipient: Recipient, id: &str, said: &str) -> MessageCommand {
    MessageCommand { recipient, ..message(id, said) }
}

/// Every instance that runs was told the role that its row says, and nothing else before it.
fn assert_told(cluster: &Cluster, ids: &[String]) {
    eventually_or("every instance was told its role", || {
        let rows = cluster.hubs[0].process_registry();
        ids.iter().find_map(|id| {
            rows[id.as_str()].instances.iter().find_map(|instance| {
                let told = cluster.census.signals(id, &instance.node);
                (told != [instance.mode]).then(|| format!("{id} on {} was told {told:?}", instance.node))
            })
        })
    });
}

#[test]
fn scenario_08_replication_on_all_of_six_nodes_then_each_of_1000_children_runs_active_on_every_one() {
    let mut cluster = replicated(ReplicationFactor::ClusterSize, ReplicationModel::ActiveActive, hot_swap());
    cluster.join_all(&SIX);
    let ids = cluster.start_counters(1000);
    assert!(cluster.registry().values().all(|row| row.instances.len() == 6));
    assert_told(&cluster, &ids);
    assert!(ids.iter().all(|id| cluster.census.starts(id) == 6));
}

#[test]
fn scenario_09_factor_4_active_passive_then_each_of_1000_children_has_one_active_on_its_owner() {
    let mut cluster = replicated(ReplicationFactor::Count(4), ReplicationModel::ActivePassive, hot_swap());
    cluster.join_all(&SIX);
    let ids = cluster.start_counters(1000);
    for (id, row) in cluster.registry() {
        let modes: Vec<Mode> = row.instances.iter().map(|instance| instance.mode).collect();
        assert_eq!(modes, [Mode::Active, Mode::Passive, Mode::Passive, Mode::Passive], "{id}");
    }
    assert_told(&cluster, &ids);
    assert!(ids.iter().all(|id| cluster.census.starts(id) == 4));
}

#[test]
fn scenario_15_cold_swap_with_factor_2_of_1000_to_5_nodes_that_join_then_each_is_on_its_two_nodes() {
    let cold = Migration::cold_swap().with_handover(true);
    let mut cluster = replicated(ReplicationFactor::Count(2), ReplicationModel::ActivePassive, cold);
    cluster.join_all(&["main"]);
    let ids = cluster.start_counters(1000);
    cluster.join_all(&SIX[1..]);
    assert_eq!(cluster.registry().len(), ids.len());
    assert!(cluster.registry().values().all(|row| row.instances.len() == 2));
    eventually("nothing else runs", || cluster.census.live().values().all(|nodes| nodes.len() == 2));
}

#[test]
fn scenario_46_one_of_two_nodes_ends_then_the_survivor_is_active_and_was_told_so_within_a_second() {
    let mut cluster = replicated(ReplicationFactor::Count(2), ReplicationModel::ActivePassive, hot_swap())
        .listening(HookName::StateLost);
    cluster.join_all(&["a", "b"]);
    cluster.hubs[0].start_child(spec("cart"), options()).wait().unwrap();
    for round in 0..5 {
        let said = format!("set round {round}");
        cluster.hubs[0].send(to(Recipient::All, "cart", &said)).wait().unwrap();
        let ended = active(&cluster.hubs[0], "cart");
        let hub = cluster.take(ended.as_str());
        let survivor = cluster.hubs[0].node_name().clone();
        let began = Instant::now();
        hub.halt(Duration::from_secs(10));
        eventually("the survivor is told", || cluster.census.signals("cart", &survivor).last() == Some(&Mode::Active));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        assert_eq!(ask(&cluster.hubs[0], "cart", "get round"), round.to_string());
        assert_eq!(ask(&cluster.hubs[0], "cart", "mode"), "Active");
        cluster.join(ended.as_str());
        cluster.settle();
        let back = cluster.hub(ended.as_str());
        assert_eq!(active(back, "cart"), ended, "its name decides the placement");
        assert_eq!(ask(back, "cart", "get round"), round.to_string(), "it has the survivor's value");
        assert_eq!(cluster.census.signals("cart", &survivor).last(), Some(&Mode::Passive));
    }
    for hub in &cluster.hubs {
        assert!(cluster.heard(hub.node_name().as_str(), HookName::StateLost).is_empty());
    }
}

#[test]
fn message_to_a_node_or_to_all_then_the_instance_there_handles_it_whatever_its_role() {
    let mut cluster = replicated(ReplicationFactor::Count(2), ReplicationModel::ActivePassive, hot_swap());
    cluster.join_all(&["a", "b", "c"]);
    let started = cluster.hubs[0].start_child(spec("cart"), options()).wait().unwrap();
    let nodes: Vec<NodeName> = started.instances.iter().map(|instance| instance.node.clone()).collect();
    assert_eq!(nodes, nodes_of(&cluster.hubs[0].child_lookup("cart").unwrap()), "the start tells both");
    for hub in &cluster.hubs {
        for (node, mode) in nodes.iter().zip(["Active", "Passive"]) {
            let reply = hub.call(to(Recipient::Node(node.clone()), "cart", "mode")).wait().unwrap();
            assert_eq!(&reply.data[..], mode.as_bytes());
        }
        hub.send(to(Recipient::All, "cart", "add")).wait().unwrap();
        assert_eq!(call(hub, "cart", "node").unwrap(), nodes[0].as_str());
    }
    for node in &nodes {
        let reply = cluster.hubs[0].call(to(Recipient::Node(node.clone()), "cart", "total")).wait().unwrap();
        assert_eq!(&reply.data[..], b"3");
    }
    let place = cluster.hubs[0].where_is(&child_id("cart")).wait().unwrap();
    assert_eq!(place["placement"], serde_json::json!(nodes));
    let stopped = cluster.hubs[0].stop_child(&child_id("cart"), PATIENCE).wait().unwrap();
    assert_eq!(stopped.nodes.len(), 2);
}
