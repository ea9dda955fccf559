//! Children where there is capacity, by the loads that the members report.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::collections::BTreeMap;
use std::time::Duration;

use bench::{Bench, Joiner, spec};
use process_hub::config::{Distribution, HubConfig, Redundancy, ReplicationFactor};
use process_hub::engine::{Command, Input, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::ids::{NodeName, NodeRef};
use process_hub::spec::ChildSpec;
use process_hub::strategy::LoadSample;

const PUSH: Duration = Duration::from_secs(1);

fn balanced() -> HubConfig {
    let distribution = Distribution::load_balanced().with_push_interval(PUSH).with_history(1, 1.0);
    HubConfig::new("orders").unwrap().with_distribution(distribution)
}

fn redistributing() -> HubConfig {
    let config = balanced();
    let distribution = config.distribution.clone().with_nodeup_redistribution(true);
    config.with_distribution(distribution)
}

/// A node that uses so many thousandths of its CPU.
fn busy(cpu: u16) -> LoadSample {
    LoadSample { cpu, waiting: 0 }
}

fn specs(count: usize) -> Vec<ChildSpec> {
    (0..count).map(|n| spec(&format!("cart:{n}"))).collect()
}

/// How many children run where, as a node knows.
fn counts(bench: &Bench, at: &NodeRef) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in bench.rows[at].values() {
        for instance in &row.instances {
            *counts.entry(instance.node.to_string()).or_default() += 1;
        }
    }
    counts
}

fn expect(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(node, count)| ((*node).to_owned(), *count)).collect()
}

#[test]
fn nobody_reported_yet_then_a_batch_is_divided_evenly() {
    let (mut bench, nodes) = Bench::of(balanced(), &["a", "b", "c", "d"]);
    assert_eq!(bench.start(&nodes[1], specs(100), StartOptions::default()).unwrap().errors, []);
    for node in &nodes {
        assert_eq!(counts(&bench, node), expect(&[("a", 25), ("b", 25), ("c", 25), ("d", 25)]));
    }
    bench.pass(Duration::from_secs(30));
    assert_eq!(counts(&bench, &nodes[0]), expect(&[("a", 25), ("b", 25), ("c", 25), ("d", 25)]));
    let ids: Vec<String> = (0..100).map(|n| format!("cart:{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(bench.stop(&nodes[2], &ids).errors, []);
}

#[test]
fn nodes_reported_their_loads_then_each_gets_its_share_of_the_capacity_whoever_asks() {
    let mut bench = Bench::new(balanced());
    let large = Joiner { is_large: true, ..Joiner::default() };
    let nodes = [bench.join("a"), bench.join("b"), bench.join_as("c", large)];
    // Loads of 500, 250 and 0: capacities of 500, 750 and twice 1000.
    bench.loads = [("a".to_owned(), busy(1000)), ("b".to_owned(), busy(500))].into();
    bench.pass(PUSH * 2);
    assert_eq!(bench.start(&nodes[0], specs(130), StartOptions::default()).unwrap().errors, []);
    assert_eq!(counts(&bench, &nodes[0]), expect(&[("a", 20), ("b", 30), ("c", 80)]));
    // One at a time, by several.
    for n in 0..39 {
        let one = vec![spec(&format!("late:{n}"))];
        bench.ask(
            &nodes[n % 3],
            Command::Start(one.into_iter().map(std::sync::Arc::new).collect(), StartOptions::default()),
        );
    }
    bench.pass(Duration::from_secs(3));
    let counts = counts(&bench, &nodes[1]);
    for (node, share) in [("a", 26), ("b", 39), ("c", 104)] {
        assert!(counts[node].abs_diff(share) <= 6, "two children more for each that asks, at most: {counts:?}");
    }
}

#[test]
fn load_changes_then_the_weighted_mean_of_the_history_counts() {
    let config = |size, decay| {
        let distribution = Distribution::load_balanced().with_push_interval(PUSH).with_history(size, decay);
        HubConfig::new("orders").unwrap().with_distribution(distribution)
    };
    // The latest score is 500 and the one before it 0: both of them make 333 of 1000, and 250 where both count alike.
    for (size, decay, own) in [(1, 0.5, 100), (2, 0.5, 120), (2, 1.0, 129)] {
        let (mut bench, nodes) = Bench::of(config(size, decay), &["a", "b"]);
        bench.pass(PUSH * 3);
        bench.loads.insert("a".into(), busy(1000));
        bench.pass(PUSH);
        bench.start(&nodes[1], specs(300), StartOptions::default()).unwrap();
        let given = counts(&bench, &nodes[1])["a"];
        assert!(given.abs_diff(own) <= 1, "{given} of {own} with {size} and {decay}");
    }
}

#[test]
fn interval_is_long_then_a_load_is_told_late() {
    let distribution = Distribution::load_balanced().with_push_interval(Duration::from_secs(60));
    let (mut bench, nodes) = Bench::of(HubConfig::new("orders").unwrap().with_distribution(distribution), &["a", "b"]);
    bench.loads.insert("a".into(), busy(1000));
    bench.pass(Duration::from_secs(10));
    bench.start(&nodes[1], specs(100), StartOptions::default()).unwrap();
    assert_eq!(counts(&bench, &nodes[1])["a"], 50);
}

#[test]
fn two_nodes_start_one_child_at_once_then_it_runs_once_and_one_of_them_is_told() {
    let (mut bench, nodes) = Bench::of(balanced(), &["a", "b", "c", "d", "e"]);
    for round in 0..20 {
        let one = |n: usize| std::sync::Arc::new(spec(&format!("cart:{}", 100 * round + n)));
        let ids: Vec<usize> = (0..10).collect();
        let ask = |bench: &mut Bench, at: &NodeRef| {
            bench.ask(at, Command::Start(ids.iter().map(|n| one(*n)).collect(), StartOptions::default()))
        };
        let (first, second) = (ask(&mut bench, &nodes[round % 5]), ask(&mut bench, &nodes[(round + 1) % 5]));
        bench.pass(Duration::from_secs(2));
        let mut started = 0;
        for request in [first, second] {
            let outcome = bench.answer(request).unwrap().as_ref().unwrap().clone();
            let result = outcome.into_start_result().unwrap();
            assert!(result.errors.iter().all(|error| error.kind == ErrorKind::AlreadyStarted), "{:?}", result.errors);
            started += result.started.len();
        }
        assert_eq!(started, 10);
    }
    let told: usize = counts(&bench, &nodes[0]).values().sum();
    assert_eq!(told, 200, "each runs once");
}

#[test]
fn mapping_is_given_then_it_is_refused() {
    let (mut bench, nodes) = Bench::of(balanced(), &["a", "b"]);
    let mapped = ChildSpec { mapping: vec![NodeName::new("b").unwrap()], ..spec("x") };
    let error = bench.start(&nodes[0], vec![mapped], StartOptions::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
}

#[test]
fn labels_are_required_then_only_nodes_that_have_them_are_chosen() {
    let mut bench = Bench::new(balanced());
    let zone = |zone: &str| Joiner { labels: [("zone".to_owned(), zone.to_owned())].into(), ..Joiner::default() };
    let nodes: Vec<_> =
        [("a", "us"), ("b", "eu"), ("c", "eu")].iter().map(|(name, at)| bench.join_as(name, zone(at))).collect();
    bench.loads.insert("b".into(), busy(1000));
    bench.pass(PUSH * 2);
    let require = |spec: ChildSpec| ChildSpec { require: [("zone".into(), "eu".into())].into(), ..spec };
    let result = bench.start(&nodes[0], specs(30).into_iter().map(require).collect(), StartOptions::default()).unwrap();
    assert_eq!(result.errors, []);
    assert_eq!(counts(&bench, &nodes[0]), expect(&[("b", 10), ("c", 20)]));
    let nowhere = ChildSpec { require: [("zone".into(), "ap".into())].into(), ..spec("x") };
    let result = bench.start(&nodes[0], vec![nowhere], StartOptions::default()).unwrap();
    assert_eq!(result.errors[0].kind, ErrorKind::UnknownKind);
}

#[test]
fn replicas_are_wanted_then_they_are_in_different_zones_and_balanced() {
    let replicas = Redundancy::replication().with_factor(ReplicationFactor::Count(2));
    let mut bench = Bench::new(balanced().with_redundancy(replicas));
    let zone = |zone: &str| Joiner { labels: [("zone".to_owned(), zone.to_owned())].into(), ..Joiner::default() };
    let zones = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "2")];
    let nodes: Vec<_> = zones.iter().map(|(name, at)| bench.join_as(name, zone(at))).collect();
    assert_eq!(bench.start(&nodes[0], specs(40), StartOptions::default()).unwrap().errors, []);
    let zones: BTreeMap<&str, &str> = zones.into();
    for row in bench.rows[&nodes[1]].values() {
        let at: Vec<&str> = row.instances.iter().map(|one| zones[one.node.as_str()]).collect();
        assert!(at.len() == 2 && at[0] != at[1], "{:?}", row.instances);
    }
    let counts = counts(&bench, &nodes[2]);
    assert!(counts.values().all(|count| (18..=22).contains(count)), "{counts:?}");
}

#[test]
fn node_dies_and_comes_back_then_what_stood_in_keeps_its_children() {
    let (mut bench, nodes) = Bench::of(balanced(), &["a", "b", "c"]);
    bench.start(&nodes[0], specs(30), StartOptions::default()).unwrap();
    bench.kill(&nodes[1]);
    bench.pass(Duration::from_secs(3));
    let before = counts(&bench, &nodes[0]);
    assert_eq!((before.get("b"), before.values().sum::<usize>()), (None, 30));
    let back = bench.join("b");
    bench.pass(Duration::from_secs(10));
    assert_eq!(counts(&bench, &back), before, "a node that comes back pulls nothing back");
    let version = |row: &process_hub::spec::Row| row.state_lost.is_some();
    let lost = bench.rows[&nodes[0]].values().filter(|row| version(row)).count();
    assert_eq!(lost, 10, "what ran on the node that died, and nothing else");
}

#[test]
fn node_joins_and_redistribution_is_on_then_it_is_given_its_share_once() {
    for (config, given) in [(balanced(), 0), (redistributing(), 20)] {
        let (mut bench, nodes) = Bench::of(config, &["a", "b"]);
        bench.start(&nodes[0], specs(60), StartOptions::default()).unwrap();
        assert_eq!(counts(&bench, &nodes[0]), expect(&[("a", 30), ("b", 30)]));
        let late = bench.join("c");
        bench.pass(Duration::from_secs(5));
        let now = counts(&bench, &late);
        assert_eq!(now.get("c").copied().unwrap_or(0), given, "{now:?}");
        let moves = bench.engines.values().map(|engine| engine.counters().handovers_started).sum::<u64>();
        assert_eq!(moves, given as u64, "no child moves twice, and none in vain");
        bench.loads.insert("a".into(), busy(1000));
        bench.pass(Duration::from_secs(30));
        assert_eq!(counts(&bench, &late), now, "loads that change move nothing");
    }
}

#[test]
fn child_was_given_away_then_a_stop_is_for_good_and_a_start_asked_again_finds_it() {
    let (mut bench, nodes) = Bench::of(redistributing(), &["a"]);
    bench.start(&nodes[0], specs(10), StartOptions::default()).unwrap();
    let late = bench.join("b");
    bench.pass(Duration::from_secs(5));
    assert_eq!(counts(&bench, &late), expect(&[("a", 5), ("b", 5)]));
    let again = bench.start(&late, specs(10), StartOptions::default()).unwrap();
    assert_eq!(again.errors.len(), 10, "another start is refused");
    assert!(again.errors.iter().all(|error| error.kind == ErrorKind::AlreadyStarted));
    let ids: Vec<String> = (0..10).map(|n| format!("cart:{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(bench.stop(&late, &ids).errors, []);
    assert_eq!(counts(&bench, &nodes[0]), BTreeMap::new());
}

/// The side that did not hear of a stop mapped the child anew meanwhile: that is no later write than the stop.
#[test]
fn child_was_stopped_on_one_side_and_mapped_anew_on_the_other_then_it_stays_stopped() {
    let (mut bench, nodes) = Bench::of(balanced(), &["a", "b"]);
    bench.start(&nodes[0], specs(8), StartOptions::default()).unwrap();
    bench.part(&nodes[0], &nodes[1]);
    bench.pass(Duration::from_secs(1));
    let ids: Vec<String> = (0..8).map(|n| format!("cart:{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(bench.stop(&nodes[0], &ids).errors, []);
    // The other side maps to itself what it took over; later than the stop, since its node joins once more.
    bench.pass(Duration::from_secs(5));
    assert_eq!(counts(&bench, &nodes[1]), expect(&[("b", 8)]));
    bench.heal(&nodes[0], &nodes[1]);
    bench.pass(Duration::from_secs(10));
    for node in &nodes {
        assert_eq!(counts(&bench, node), BTreeMap::new());
    }
}

#[test]
fn sample_comes_to_a_hub_that_goes_by_no_loads_then_it_changes_nothing() {
    let (mut bench, nodes) = Bench::of(HubConfig::new("orders").unwrap(), &["a", "b"]);
    bench.told.clear();
    bench.give(&nodes[0], Input::Load(busy(1000)));
    assert!(bench.told.is_empty());
}
