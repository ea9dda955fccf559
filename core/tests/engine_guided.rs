//! Children where whoever starts them says, and where labels allow.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::collections::BTreeMap;
use std::time::Duration;

use bench::{Bench, Joiner, spec};
use process_hub::config::{Distribution, Fallback, HubConfig, Redundancy, ReplicationFactor};
use process_hub::engine::{ChildMapping, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::ids::{ChildId, NodeName};
use process_hub::observe::HookName;
use process_hub::spec::ChildSpec;

fn guided(fallback: Fallback) -> HubConfig {
    HubConfig::new("orders").unwrap().with_distribution(Distribution::Guided { fallback })
}

fn replicated(fallback: Fallback) -> HubConfig {
    guided(fallback).with_redundancy(Redundancy::replication().with_factor(ReplicationFactor::Count(2)))
}

fn mapping(children: &[(&str, &[&str])]) -> StartOptions {
    let nodes = |nodes: &[&str]| nodes.iter().map(|node| NodeName::new(*node).unwrap()).collect();
    let mapping: ChildMapping = children.iter().map(|(id, at)| (ChildId::new(*id).unwrap(), nodes(at))).collect();
    StartOptions { child_mapping: Some(mapping), ..StartOptions::default() }
}

/// The names of the hook's children, on any node.
fn unplaced(bench: &Bench) -> Vec<String> {
    let told = bench.hooks.iter().filter(|(_, name, _)| *name == HookName::ChildUnplaced);
    told.map(|(_, _, payload)| payload["why"].to_string()).collect()
}

/// Source of the errors and their order: upstream-behaviour.md §2.5.
#[test]
fn mapping_is_wrong_then_the_start_is_refused_and_wants_nothing() {
    let (mut bench, nodes) = Bench::of(guided(Fallback::Wait), &["a", "b"]);
    let two = || vec![spec("x"), spec("y")];
    for (options, kind, fact) in [
        (StartOptions::default(), ErrorKind::MissingChildMapping, "x"),
        (mapping(&[("x", &["a"])]), ErrorKind::ChildMappingMismatch, "y"),
        (mapping(&[("x", &["a"]), ("y", &["a", "b"])]), ErrorKind::ChildReplicationMismatch, "2 nodes"),
        (mapping(&[("x", &["a"]), ("y", &[])]), ErrorKind::ChildReplicationMismatch, "0 nodes"),
    ] {
        let error = bench.start(&nodes[0], two(), options).unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.contains(fact), "{}", error.message);
    }
    assert!(bench.rows.values().all(BTreeMap::is_empty));
    let result = bench.start(&nodes[0], two(), mapping(&[("x", &["a"]), ("y", &["b"]), ("z", &["c"])])).unwrap();
    assert_eq!(result.errors, [], "what is said of others does not matter");
}

#[test]
fn node_is_mapped_twice_then_invalid_child_mapping() {
    let (mut bench, nodes) = Bench::of(replicated(Fallback::Wait), &["a", "b"]);
    let error = bench.start(&nodes[0], vec![spec("x")], mapping(&[("x", &["a", "a"])])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidChildMapping);
}

#[test]
fn distribution_goes_by_no_mapping_then_one_is_refused() {
    let (mut bench, nodes) = Bench::of(HubConfig::new("orders").unwrap(), &["a", "b"]);
    let error = bench.start(&nodes[0], vec![spec("x")], mapping(&[("x", &["b"])])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    let mapped = ChildSpec { mapping: vec![NodeName::new("b").unwrap()], ..spec("x") };
    let error = bench.start(&nodes[0], vec![mapped], StartOptions::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
}

#[test]
fn children_are_mapped_then_each_runs_exactly_there_whoever_asks() {
    let names = ["a", "b", "c"];
    let (mut bench, nodes) = Bench::of(guided(Fallback::Wait), &names);
    let ids: Vec<String> = (0..30).map(|n| format!("cart:{n}")).collect();
    let at = |n: usize| std::slice::from_ref(&names[n % 3]);
    let mapped: Vec<(&str, &[&str])> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), at(n))).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    assert_eq!(bench.start(&nodes[1], specs, mapping(&mapped)).unwrap().errors, []);
    let joined = bench.join("d");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(bench.nodes_of(&joined, id), [names[n % 3]], "a node that joins moves nothing");
    }
    let again = bench.start(&joined, vec![spec("cart:1")], mapping(&[("cart:1", &["d"])])).unwrap();
    assert_eq!(again.errors[0].kind, ErrorKind::AlreadyStarted, "another mapping is no other child");
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(bench.stop(&joined, &ids).errors, []);
}

#[test]
fn child_has_two_instances_then_both_mapped_nodes_run_it() {
    let (mut bench, nodes) = Bench::of(replicated(Fallback::Wait), &["a", "b", "c", "d"]);
    bench.start(&nodes[0], vec![spec("x")], mapping(&[("x", &["d", "b"])])).unwrap();
    assert_eq!(bench.nodes_of(&nodes[0], "x"), ["b", "d"]);
    bench.kill(&nodes[3]);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.nodes_of(&nodes[0], "x"), ["b"], "nobody stands in");
}

#[test]
fn mapped_node_is_not_there_then_a_start_is_unreachable() {
    let (mut bench, nodes) = Bench::of(guided(Fallback::Wait), &["a", "b"]);
    let result = bench.start(&nodes[0], vec![spec("x")], mapping(&[("x", &["c"])])).unwrap();
    assert_eq!(result.errors[0].kind, ErrorKind::Unreachable);
    assert!(result.errors[0].message.contains('c'), "{}", result.errors[0].message);
    assert!(bench.rows.values().all(BTreeMap::is_empty), "it wants nothing");
}

#[test]
fn mapped_node_dies_and_the_child_waits_then_it_runs_when_the_node_is_back() {
    let (mut bench, nodes) = Bench::of(guided(Fallback::Wait), &["a", "b"]);
    bench.start(&nodes[0], vec![spec("x")], mapping(&[("x", &["b"])])).unwrap();
    // This one joins later, and is all that remains of those who know the mapping.
    let late = bench.join("c");
    bench.kill(&nodes[1]);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.nodes_of(&late, "x"), Vec::<String>::new());
    assert!(unplaced(&bench).iter().any(|why| why.contains("mapped to, b")), "{:?}", unplaced(&bench));
    bench.kill(&nodes[0]);
    bench.pass(Duration::from_secs(3));
    bench.join("b");
    assert_eq!(bench.nodes_of(&late, "x"), ["b"]);
}

#[test]
fn mapped_node_dies_and_hashing_stands_in_then_the_child_goes_home_when_it_is_back() {
    let (mut bench, nodes) = Bench::of(guided(Fallback::ConsistentHashing), &["a", "b", "c"]);
    bench.start(&nodes[0], vec![spec("x")], mapping(&[("x", &["b"])])).unwrap();
    bench.kill(&nodes[1]);
    bench.pass(Duration::from_secs(3));
    let stands_in = bench.nodes_of(&nodes[0], "x");
    assert_eq!(stands_in.len(), 1);
    assert_ne!(stands_in, ["b"]);
    bench.join("b");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.nodes_of(&nodes[0], "x"), ["b"]);
    let started = bench.start(&nodes[0], vec![spec("y")], mapping(&[("y", &["gone"])])).unwrap();
    assert_eq!(started.errors, [], "a node that was never there is one that is gone");
}

#[test]
fn labels_are_required_then_only_nodes_that_have_them_run_the_child() {
    let mut bench = Bench::new(HubConfig::new("orders").unwrap());
    let zone = |zone: &str| Joiner { labels: [("zone".to_owned(), zone.to_owned())].into(), ..Joiner::default() };
    let us: Vec<_> = ["a", "b"].iter().map(|name| bench.join_as(name, zone("us"))).collect();
    let eu = bench.join_as("c", zone("eu"));
    let ids: Vec<String> = (0..20).map(|n| format!("cart:{n}")).collect();
    let require = |id: &String| ChildSpec { require: [("zone".into(), "eu".into())].into(), ..spec(id) };
    let result = bench.start(&us[0], ids.iter().map(require).collect(), StartOptions::default()).unwrap();
    assert_eq!(result.errors, []);
    for id in &ids {
        assert_eq!(bench.nodes_of(&us[1], id), ["c"]);
    }
    bench.kill(&eu);
    bench.pass(Duration::from_secs(3));
    for id in &ids {
        assert_eq!(bench.nodes_of(&us[1], id), Vec::<String>::new(), "no other may run it");
    }
    assert!(unplaced(&bench).iter().any(|why| why.contains("eu")), "{:?}", unplaced(&bench));
    bench.join_as("d", zone("eu"));
    for id in &ids {
        assert_eq!(bench.nodes_of(&us[1], id), ["d"]);
    }
}
