//! The registry travels by gossip: who is told, who passes on, and what repairs.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::collections::BTreeSet;
use std::time::Duration;

use bench::{Bench, Joiner, spec};
use process_hub::config::{HubConfig, Synchronization};
use process_hub::engine::{Command, StartOptions};
use process_hub::ids::NodeRef;

const NINE: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

fn gossip(change: impl Fn(Synchronization) -> Synchronization) -> HubConfig {
    HubConfig::new("orders").unwrap().with_synchronization(change(Synchronization::gossip()))
}

/// The node that owns the child when all nodes are there: it writes the row.
fn start_one(bench: &mut Bench, nodes: &[NodeRef], id: &str) -> NodeRef {
    let result = bench.start(&nodes[0], vec![spec(id)], StartOptions::default()).unwrap();
    assert_eq!(result.errors, []);
    let owner = &result.started[0].instances[0].node;
    nodes.iter().find(|node| node.name == *owner).unwrap().clone()
}

fn assert_everybody_knows(bench: &Bench, nodes: &[NodeRef], id: &str) {
    for node in nodes {
        assert_eq!(bench.nodes_of(node, id).len(), 1, "{node} knows of {id}");
    }
}

#[test]
fn recipients_then_so_many_are_told_by_the_author_and_the_rest_by_others() {
    for recipients in [1, 2, 5] {
        let (mut bench, nodes) = Bench::of(gossip(|it| it.with_recipients(recipients)), &NINE);
        let id = format!("cart:{recipients}");
        let before = bench.now;
        let request = bench.ask(&nodes[0], Command::Start(vec![spec(&id).into()], StartOptions::default()));
        let mut owner = None;
        while bench.answer(request).is_none() {
            bench.pass(Duration::from_millis(1));
            owner = owner.or_else(|| nodes.iter().find(|node| !bench.told_by(node, "Delta {").is_empty()));
        }
        assert!(bench.now.since(before) < Duration::from_millis(40), "the asker hears from the owner itself");
        let owner = owner.unwrap();
        let told = bench.told_by(owner, "Delta {");
        // The asker is told whatever the chance says.
        let by_chance = told.iter().filter(|node| **node != nodes[0]).count();
        assert!(by_chance == recipients as usize || by_chance + 1 == recipients as usize, "{told:?}");
        bench.pass(Duration::from_secs(1));
        assert_everybody_knows(&bench, &nodes, &id);
        let passed: BTreeSet<_> = nodes.iter().flat_map(|node| bench.told_by(node, "Passed {")).collect();
        assert!(!passed.contains(owner), "it knows its own log");
        assert!(!passed.is_empty());
    }
}

#[test]
fn what_is_passed_on_is_lost_then_the_author_tells_everybody() {
    let (mut bench, nodes) = Bench::of(gossip(|it| it.with_recipients(1)), &NINE);
    bench.lost = BTreeSet::from(["Passed {", "Status(", "Digest {"]);
    let owner = start_one(&mut bench, &nodes, "cart:1");
    assert_everybody_knows(&bench, &nodes, "cart:1");
    assert_eq!(bench.told_by(&owner, "Delta {").len(), 8);
}

#[test]
fn every_change_is_lost_then_the_digest_repairs_at_the_interval() {
    let interval = Duration::from_secs(3);
    let (mut bench, nodes) = Bench::of(gossip(|it| it.with_sync_interval(interval)), &NINE);
    // Heartbeats repair too; here it is the digest alone.
    bench.lost = BTreeSet::from(["Delta {", "Passed {", "Status("]);
    let ids: Vec<String> = (0..20).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id).into()).collect();
    bench.ask(&nodes[0], Command::Start(specs, StartOptions::default()));
    bench.pass(Duration::from_millis(10));
    let knows =
        |bench: &Bench| nodes.iter().filter(|node| ids.iter().all(|id| bench.nodes_of(node, id).len() == 1)).count();
    assert_eq!(knows(&bench), 0);
    bench.lost.remove("Delta {");
    bench.pass(interval + Duration::from_secs(1));
    assert_eq!(knows(&bench), nodes.len());
}

#[test]
fn restricted_init_then_the_smallest_name_alone_begins_digests() {
    for is_restricted in [true, false] {
        let change =
            |it: Synchronization| it.with_restricted_init(is_restricted).with_sync_interval(Duration::from_secs(1));
        let (mut bench, nodes) = Bench::of(gossip(change), &NINE);
        bench.pass(Duration::from_millis(2_500));
        let digests = bench.told.iter().filter(|(_, _, told)| told.starts_with("Digest {"));
        let digests: Vec<&String> = digests.map(|(_, _, told)| told).collect();
        for (at, node) in nodes.iter().enumerate() {
            let starter = format!("starter: {node:?}");
            let begins = digests.iter().any(|told| told.contains(&starter));
            assert_eq!(begins, at == 0 || !is_restricted, "{node} of {is_restricted}");
        }
        let senders = bench.told.iter().filter(|(_, _, told)| told.starts_with("Digest {")).map(|(from, ..)| from);
        assert_eq!(senders.collect::<BTreeSet<_>>().len(), nodes.len(), "each passes it on");
    }
}

/// Nothing of it is bounded by chance: a digest goes to `recipients` from each member, once a round.
#[test]
fn hub_is_idle_then_a_digest_costs_recipients_frames_per_member() {
    let change = |it: Synchronization| it.with_sync_interval(Duration::from_secs(1)).with_recipients(2);
    let (mut bench, nodes) = Bench::of(gossip(change), &NINE);
    bench.pass(Duration::from_secs(10));
    let digests = bench.told.iter().filter(|(_, _, told)| told.starts_with("Digest {")).count();
    assert!(digests <= 11 * 2 * nodes.len(), "{digests}");
    assert_eq!(bench.told.iter().filter(|(_, _, told)| told.starts_with("PullLog")).count(), 0);
}

/// Source: upstream-behaviour.md §9, gap test 59.
#[test]
fn scenario_59_clock_of_a_node_is_an_hour_behind_then_what_it_writes_is_taken_in() {
    let mut bench = Bench::new(gossip(|it| it.with_recipients(1)));
    let mut nodes: Vec<NodeRef> = NINE[..4].iter().map(|name| bench.join(name)).collect();
    nodes.push(bench.join_as("late", Joiner { behind_ms: 3_600_000, ..Joiner::default() }));
    let ids: Vec<String> = (0..30).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    let result = bench.start(&nodes[4], specs, StartOptions::default()).unwrap();
    assert_eq!(result.errors, []);
    let late = result.started.iter().filter(|one| one.instances[0].node.as_str() == "late").count();
    assert!(late > 0, "it runs some");
    for id in &ids {
        assert_everybody_knows(&bench, &nodes, id);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(bench.stop(&nodes[4], &ids).errors, []);
    for node in &nodes {
        assert!(bench.rows[node].is_empty(), "{node}");
    }
}
