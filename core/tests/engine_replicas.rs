//! Children with several instances: engines without threads or sockets, frames go where and when a test says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod replicas;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use process_hub::config::{HubConfig, Migration, Redundancy, ReplicationFactor, ReplicationModel};
use process_hub::engine::{Command, IfExists, Input, Outcome, Recipient, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::host::call::{InstanceEvent, StopReason};
use process_hub::ids::{ChildId, NodeName, NodeRef, RequestId};
use process_hub::spec::{ChildSpec, Mode};
use process_hub::strategy::{self, Actives};
use process_hub::swim::Evidence;
use replicas::{Bench, CHILD, active_passive, replication};

#[test]
fn r1_factor_two_then_the_start_ends_with_both_instances_and_tells_them() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    let result = bench.start(&a);
    let nodes: BTreeSet<String> =
        result.started[0].instances.iter().map(|instance| instance.node.to_string()).collect();
    assert_eq!(nodes, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(bench.row(&a).len(), 2, "the caller's registry has both when it is answered");
    bench.pass(Duration::from_millis(50));
    bench.assert_settled();
    let (active, passive) = bench.active();
    assert_eq!(bench.instance(&active).signals, [Mode::Active]);
    assert_eq!(bench.instance(&passive[0]).signals, [Mode::Passive]);
    for at in [&a, &b] {
        let text = format!("from {at}");
        assert_eq!(bench.call(at, &text, Recipient::Active).unwrap(), text);
        assert_eq!(bench.instance(&active).state, text);
        assert_eq!(bench.instance(&passive[0]).state, "new");
    }
}

#[test]
fn r1_one_node_then_one_instance_is_enough_and_the_second_comes_with_the_node() {
    let mut bench = Bench::new(active_passive());
    let a = bench.join("a");
    assert_eq!(bench.start(&a).started[0].instances.len(), 1);
    bench.join("b");
    bench.pass(Duration::from_secs(1));
    bench.assert_settled();
    bench.active();
    assert_eq!(bench.modes().len(), 2);
}

#[test]
fn r9_active_is_killed_then_the_survivor_is_active_at_once_without_a_loss() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.send_to_all(&a, "written");
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    bench.kill(&active);
    bench.pass(Duration::from_millis(5));
    let survivor = bench.instance(&passive[0]);
    assert_eq!(survivor.signals, [Mode::Passive, Mode::Active]);
    assert_eq!((survivor.mode, survivor.state.as_str()), (Mode::Active, "written"));
    let counters = bench.counters();
    assert_eq!((counters.promotions, counters.failovers, counters.states_lost), (1, 0, 0));
    assert_eq!(bench.call(&passive[0], "get", Recipient::Active).unwrap(), "written");
}

/// Twenty times the active one is killed and comes back: the survivor's state is the child's each time.
#[test]
fn r9_killed_active_returns_again_and_again_then_it_holds_the_survivors_state() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    for round in 0..20 {
        let (active, passive) = bench.active();
        let before = bench.instance(&passive[0]).epoch;
        bench.kill(&active);
        bench.pass(Duration::from_millis(20));
        let text = format!("round {round}");
        bench.send_to_all(&passive[0], &text);
        let back = bench.join(active.name.as_str());
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert_eq!(active, back, "the child belongs to the same name again");
        assert_eq!(bench.instance(&active).state, text);
        assert_eq!(bench.instance(&passive[0]).state, text, "the survivor keeps what it has");
        assert_eq!(bench.instance(&passive[0]).signals.last(), Some(&Mode::Passive));
        assert!(bench.instance(&active).epoch > before);
    }
    let counters = bench.counters();
    assert_eq!((counters.failovers, counters.states_lost), (0, 0));
}

#[test]
fn r9_passive_is_killed_then_nothing_changes_for_the_active_one() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    let epoch = bench.instance(&active).epoch;
    bench.kill(&passive[0]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.instance(&active).epoch, epoch);
    assert_eq!(bench.instance(&active).signals, [Mode::Active]);
    assert_eq!(bench.counters().promotions, 0);
}

#[test]
fn r9_placement_of_three_changes_then_a_passive_that_left_it_just_stops() {
    let mut bench = Bench::new(active_passive());
    let a = bench.join("a");
    bench.join("b");
    bench.start(&a);
    for name in ["c", "d", "e", "f"] {
        bench.join(name);
        bench.pass(Duration::from_secs(1));
        bench.assert_settled();
        let (_, passive) = bench.active();
        assert_eq!(passive.len(), 1);
    }
    while bench.engines.len() > 1 {
        let (active, _) = bench.active();
        bench.kill(&active);
        bench.pass(Duration::from_secs(2));
        bench.assert_settled();
        bench.active();
        assert_eq!(bench.modes().len(), bench.engines.len().min(2));
    }
    let counters = bench.counters();
    assert_eq!((counters.failovers, counters.states_lost), (0, 0), "there was always one left");
}

/// With zones the next owner may be a node that runs nothing of the child: the passive one becomes active where it
/// is, and gives the child away then.
#[test]
fn r9_new_owner_has_no_instance_then_the_passive_becomes_active_and_hands_over() {
    for seed in 0..12 {
        let mut bench = Bench::new(active_passive());
        let zones = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")];
        let nodes: Vec<NodeRef> =
            zones.iter().map(|(name, zone)| bench.join_in_zone(&format!("{name}{seed}"), Some(zone))).collect();
        bench.start(&nodes[0]);
        bench.send_to_all(&nodes[0], "kept");
        bench.pass(Duration::from_millis(50));
        let (active, passive) = bench.active();
        let zone_of = |node: &NodeRef| nodes.iter().position(|other| other == node).unwrap() / 2;
        assert_ne!(zone_of(&active), zone_of(&passive[0]), "replicas are spread over zones");
        bench.kill(&active);
        bench.pass(Duration::from_secs(2));
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert_eq!(bench.instance(&active).state, "kept");
        assert_ne!(zone_of(&active), zone_of(&passive[0]));
        assert_eq!(bench.counters().states_lost, 0);
    }
}

#[test]
fn r1_a_replica_cannot_start_then_the_start_fails_and_nothing_is_wanted() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    // Whichever of the two is passive.
    for broken in [&a, &b] {
        bench.broken = BTreeSet::from([broken.clone()]);
        let result = bench.start(&a);
        assert!(result.started.is_empty());
        assert_eq!(result.errors[0].kind, ErrorKind::StartFailed);
        assert_eq!(result.errors[0].node.as_ref(), Some(&broken.name));
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.roles(), [], "{broken} is broken");
    }
    bench.broken.clear();
    assert_eq!(bench.start(&a).started[0].instances.len(), 2);
}

#[test]
fn stop_ends_all_instances_and_names_them() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    let stop = Command::Stop(vec![ChildId::new(CHILD).unwrap()], Duration::from_secs(5));
    let Outcome::Stopped(result) = bench.ask(&b, stop).unwrap() else { panic!() };
    let mut nodes: Vec<&str> = result.stopped[0].nodes.iter().map(NodeName::as_str).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(bench.roles(), []);
    assert_eq!(bench.stops.iter().filter(|(_, reason)| *reason == StopReason::Stopped).count(), 2);
}

#[test]
fn active_active_then_every_instance_is_active_and_the_nearest_is_called() {
    let model = ReplicationModel::ActiveActive;
    let mut bench = Bench::new(replication(ReplicationFactor::ClusterSize, model, Migration::cold_swap()));
    let nodes = ["a", "b", "c"].map(|name| bench.join(name));
    assert_eq!(bench.start(&nodes[0]).started[0].instances.len(), 3);
    bench.pass(Duration::from_millis(50));
    bench.assert_settled();
    for node in &nodes {
        assert_eq!(bench.instance(node).mode, Mode::Active);
        assert_eq!(bench.instance(node).signals, [Mode::Active]);
        let text = format!("for {node}");
        assert_eq!(bench.call(node, &text, Recipient::Active).unwrap(), text);
    }
    for node in &nodes {
        assert_eq!(bench.instance(node).state, format!("for {node}"));
        let named = Recipient::Node(node.name.clone());
        assert_eq!(bench.call(&nodes[0], "get", named).unwrap(), format!("for {node}"));
    }
    // A newcomer gets one too, and nobody counts its peers as a conflict.
    bench.join("d");
    bench.pass(Duration::from_secs(1));
    bench.assert_settled();
    assert_eq!(bench.modes().len(), 4);
    for node in &nodes {
        assert_eq!(bench.instance(node).state, format!("for {node}"), "it works on its own");
    }
    assert_eq!(bench.stops, []);
}

#[test]
fn call_to_a_node_then_the_instance_there_handles_it_whatever_its_role() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    let (_, passive) = bench.active();
    let passive = &passive[0];
    let named = Recipient::Node(passive.name.clone());
    for at in [&a, &b] {
        assert_eq!(bench.call(at, &format!("from {at}"), named.clone()).unwrap(), format!("from {at}"));
    }
    assert_eq!(bench.instance(passive).state, format!("from {b}"));
    bench.send_to_all(&a, "everybody");
    bench.pass(Duration::from_millis(50));
    assert!(bench.roles().iter().all(|(_, _, state)| state == "everybody"), "{:?}", bench.roles());
}

/// One slow node, or one without an instance, kept back what was for all others.
#[test]
fn node_does_not_answer_then_messages_to_the_other_instances_do_not_wait_for_it() {
    let mut bench = Bench::new(active_passive());
    let nodes = ["a", "b", "c"].map(|name| bench.join(name));
    bench.start(&nodes[0]);
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    let outside = nodes.iter().find(|node| **node != active && **node != passive[0]).unwrap().clone();
    let nobody = bench.message("nobody", Recipient::Node(outside.name.clone()));
    bench.give(&outside, Input::Command(RequestId(900), Command::Call(nobody)));
    for silent in [active.clone(), passive[0].clone()] {
        bench.held = BTreeSet::from([(outside.clone(), silent.clone())]);
        let text = format!("without {silent}");
        let all = bench.message(&text, Recipient::All);
        bench.give(&outside, Input::Command(RequestId(901), Command::Send(all)));
        bench.pass(Duration::from_millis(20));
        let told = if silent == active { &passive[0] } else { &active };
        assert_eq!(bench.instance(told).state, text);
        if silent != active {
            assert_eq!(bench.call(&outside, "get", Recipient::Active).unwrap(), text);
        }
        bench.held.clear();
        bench.pass(Duration::from_millis(50));
        assert_eq!(bench.instance(&silent).state, text);
    }
}

#[test]
fn r21_a_passive_crashes_then_it_restarts_alone_and_in_the_end_is_quarantined_alone() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    let crash = |bench: &mut Bench| {
        let at = &passive[0];
        let instance = bench.instances.keys().find(|(node, _)| node == at).map(|(_, instance)| *instance);
        if let Some(instance) = instance {
            bench.give(at, Input::Instance(instance, InstanceEvent::Exit(Some("crash".to_owned()))));
        }
        bench.pass(Duration::from_secs(4));
    };
    crash(&mut bench);
    assert_eq!(bench.instance(&passive[0]).signals, [Mode::Passive], "the new instance is told too");
    bench.assert_settled();
    for _ in 0..12 {
        crash(&mut bench);
    }
    let (still, none) = bench.active();
    assert_eq!((still, none), (active.clone(), Vec::new()));
    assert_eq!(bench.instance(&active).signals, [Mode::Active]);
    // A start ends the quarantine.
    let spec = Arc::new(ChildSpec::new(CHILD, "cart").unwrap());
    let options = StartOptions { if_exists: IfExists::Return, ..StartOptions::default() };
    bench.pass(Duration::from_secs(60));
    let Outcome::Started(result) = bench.ask(&a, Command::Start(vec![spec], options)).unwrap() else { panic!() };
    assert_eq!(result.started.len(), 1, "{result:?}");
    bench.assert_settled();
    assert_eq!(bench.modes().len(), 2);
}

#[test]
fn r12_both_sides_of_a_split_run_the_child_then_after_the_heal_one_is_active() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    bench.held = BTreeSet::from([(a.clone(), b.clone()), (b.clone(), a.clone())]);
    bench.give(&a, Input::NodeDown(b.clone(), Evidence::Suspected));
    bench.give(&b, Input::NodeDown(a.clone(), Evidence::Suspected));
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.modes().into_values().collect::<Vec<_>>(), [Mode::Active, Mode::Active]);
    bench.frames.clear();
    bench.held.clear();
    bench.give(&a, Input::NodeUp(b.clone()));
    bench.give(&b, Input::NodeUp(a.clone()));
    bench.pass(Duration::from_secs(10));
    bench.assert_settled();
    let (_, passive) = bench.active();
    assert_eq!(passive.len(), 1);
}

/// Two instances, of which the one on the node with the larger name is active.
#[derive(Debug)]
struct LargestName;

impl strategy::Redundancy for LargestName {
    fn name(&self) -> &'static str {
        "largest_name"
    }

    fn factor(&self, _members: usize) -> usize {
        2
    }

    fn actives(&self, _child: &ChildId, placement: &[&NodeRef]) -> Actives {
        let largest = placement.iter().max().unwrap();
        Actives::One(placement.iter().position(|node| node == largest).unwrap())
    }

    fn is_told(&self, _mode: Mode) -> bool {
        true
    }
}

#[test]
fn active_one_is_chosen_by_code_then_it_owns_the_child_wherever_the_distribution_put_it_first() {
    let hot = Migration::hot_swap().with_handover(true);
    let config = HubConfig::new("orders").unwrap().with_migration(hot);
    let mut bench = Bench::new(config.with_redundancy(Redundancy::custom(LargestName)));
    let a = bench.join("a");
    bench.start(&a);
    for name in ["b", "c", "d"] {
        bench.join(name);
        bench.pass(Duration::from_secs(1));
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert!(active > passive[0], "{active} is active, {passive:?} passive");
        assert_eq!(bench.call(&a, name, Recipient::Active).unwrap(), name);
    }
    while bench.engines.len() > 2 {
        let (active, _) = bench.active();
        let last = bench.instance(&active).state.clone();
        bench.send_to_all(&a, &last);
        bench.kill(&active);
        bench.pass(Duration::from_secs(2));
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert!(active > passive[0], "{active} is active, {passive:?} passive");
        assert_eq!(bench.instance(&active).state, last);
    }
}

#[test]
fn drained_active_then_the_passive_has_its_state_and_a_third_node_takes_its_place() {
    let mut bench = Bench::new(active_passive());
    let nodes = ["a", "b", "c"].map(|name| bench.join(name));
    bench.start(&nodes[0]);
    bench.pass(Duration::from_millis(50));
    let (active, _) = bench.active();
    assert_eq!(bench.call(&nodes[0], "only the active", Recipient::Active).unwrap(), "only the active");
    let Outcome::Drained(report) = bench.ask(&active, Command::Drain(Duration::from_secs(10))).unwrap() else {
        panic!()
    };
    assert_eq!(report.moved.len(), 1, "{report:?}");
    bench.pass(Duration::from_secs(1));
    let (now, passive) = bench.active();
    assert_ne!(now, active);
    assert_ne!(passive[0], active);
    assert_eq!(bench.instance(&now).state, "only the active");
    bench.assert_settled();
}
