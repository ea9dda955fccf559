//! ProcessHub's scenarios about quorums: who may run children while members come, are lost, and are apart.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::sync::Arc;
use std::time::Duration;

use process_hub::config::{PartitionTolerance, Profile};
use process_hub::error::ErrorKind;
use process_hub::hub::Hub;
use process_hub::ids::NodeName;
use process_hub::observe::HookName;
use process_hub::strategy::QuorumRule;
use process_hub_tests::cluster::{
    Cluster, Losses, PATIENCE, ask, call, child_id, eventually, eventually_or, node_name, nodes_of, options, spec,
};
use serde_json::json;

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// A cluster under a quorum strategy, and the links its nodes can lose.
struct Counted {
    cluster: Cluster,
    losses: Arc<Losses>,
    /// The children that were started.
    ids: Vec<String>,
}

impl Counted {
    fn new(tolerance: &PartitionTolerance) -> Self {
        Self::listening(tolerance, &[])
    }

    fn listening(tolerance: &PartitionTolerance, hooks: &[HookName]) -> Self {
        let losses = Arc::new(Losses::default());
        let tolerance = tolerance.clone();
        // Nobody is to be missed because a machine is busy.
        let configure = move |config: process_hub::config::HubConfig| {
            config.with_profile(Profile::lan()).with_partition_tolerance(tolerance.clone())
        };
        let cluster = Cluster::with(configure).losing(&losses);
        let cluster = hooks.iter().fold(cluster, |cluster, hook| cluster.listening(*hook));
        Self { cluster, losses, ids: Vec::new() }
    }

    /// Starts these nodes; does not wait for a quorum.
    fn join(&mut self, names: &[&str]) {
        for name in names {
            self.cluster.join(name);
        }
        self.cluster.see_each_other();
    }

    /// Ends nodes without a word, so that they count as lost.
    fn lose(&mut self, names: &[&str]) {
        for name in names {
            self.cluster.cut_off(name, &self.losses);
        }
        self.cluster.see_each_other();
    }

    /// Ends nodes that say so.
    fn leave(&mut self, names: &[&str]) {
        for name in names {
            self.cluster.take(name).stop(PATIENCE).unwrap();
            self.cluster.end_node(name);
        }
        self.cluster.see_each_other();
    }

    /// There is a quorum: every child runs once, and one more starts.
    fn expect_healthy(&mut self, when: &str) {
        eventually_or(when, || {
            let without = self.cluster.hubs.iter().find(|hub| hub.is_partitioned());
            without.map(|hub| format!("{}: {:?}", hub.node_name(), call(hub, "nobody", "add").err()))
        });
        let id = format!("counter:{}", self.ids.len());
        start(&self.cluster.hubs[0], &id).unwrap_or_else(|kind| panic!("{when}: {id}: {kind}"));
        self.ids.push(id);
        self.cluster.settle();
        self.cluster.assert_each_lives_once(&self.ids);
        for (id, hub) in self.ids.iter().zip(self.cluster.hubs.iter().cycle()) {
            let _ = ask(hub, id, "add");
        }
    }

    /// There is none: nothing runs, and whoever asks hears it at once.
    fn expect_partitioned(&self, when: &str) {
        let names: Vec<NodeName> = self.cluster.hubs.iter().map(|hub| hub.node_name().clone()).collect();
        let names: Vec<&str> = names.iter().map(NodeName::as_str).collect();
        self.expect_partitioned_on(&names, when);
    }

    fn expect_partitioned_on(&self, names: &[&str], when: &str) {
        for name in names {
            let hub = self.cluster.hub(name);
            eventually(when, || hub.is_partitioned());
            eventually(when, || !self.lives_on(name));
            assert!(hub.is_locked() && hub.is_alive());
            assert_eq!(start(hub, "refused"), Err(ErrorKind::Partitioned), "{name}: {when}");
            if let Some(id) = self.ids.first() {
                assert_eq!(call(hub, id, "add").unwrap_err().kind, ErrorKind::Partitioned, "{name}: {when}");
                let stopped = hub.stop_child(&child_id(id), PATIENCE).wait();
                assert_eq!(stopped.unwrap_err().kind, ErrorKind::Partitioned, "{name}: {when}");
            }
        }
    }

    /// Whether a child lives on this node.
    fn lives_on(&self, name: &str) -> bool {
        self.cluster.census.live().values().flatten().any(|node| node.as_str() == name)
    }

    /// Ends a cluster of which nobody may be able to stop children.
    fn end(mut self) {
        for hub in self.cluster.hubs.drain(..) {
            hub.stop(PATIENCE).unwrap();
        }
    }
}

fn start(hub: &Hub, id: &str) -> Result<(), ErrorKind> {
    hub.start_child(spec(id), options()).wait().map(drop).map_err(|error| error.kind)
}

#[test]
fn scenario_12_static_quorum_of_7_then_6_members_are_none_and_8_and_7_are_one() {
    let seven =
        PartitionTolerance::StaticQuorum { quorum_size: 7, startup_confirm: true, lease: Duration::from_millis(1500) };
    let mut counted = Counted::new(&seven);
    counted.join(&TEN[..6]);
    counted.expect_partitioned("six of seven");
    counted.join(&TEN[6..8]);
    counted.expect_healthy("eight");
    counted.lose(&TEN[7..8]);
    counted.expect_healthy("one of eight is lost");
    counted.lose(&TEN[6..7]);
    counted.expect_partitioned("two of eight are lost");
    // Back again, it heals by itself.
    counted.join(&TEN[6..7]);
    counted.expect_healthy("seven are back");
}

#[test]
fn scenario_13_dynamic_quorum_of_80_percent_then_it_stands_the_loss_of_2_of_10_and_not_of_3() {
    let percent = PartitionTolerance::DynamicQuorum {
        quorum_size: 80,
        threshold_time: Duration::from_secs(3600),
        lease: Duration::from_millis(1500),
    };
    let mut counted = Counted::new(&percent);
    counted.join(&TEN[..6]);
    counted.expect_healthy("six");
    counted.join(&TEN[6..]);
    counted.expect_healthy("ten");
    counted.lose(&TEN[9..]);
    counted.expect_healthy("one of ten is lost");
    counted.lose(&TEN[8..9]);
    counted.expect_healthy("two of ten are lost");
    counted.lose(&TEN[7..8]);
    counted.expect_partitioned("three of ten are lost");
    counted.end();
}

#[test]
fn scenario_14_majority_quorum_grows_from_6_to_10_then_6_of_them_are_one_and_5_are_none() {
    let mut counted = Counted::new(&PartitionTolerance::majority_quorum(6));
    counted.join(&TEN[..6]);
    counted.expect_healthy("six");
    counted.join(&TEN[6..]);
    counted.expect_healthy("ten");
    counted.lose(&TEN[9..]);
    counted.expect_healthy("nine of ten");
    counted.lose(&TEN[7..9]);
    counted.expect_healthy("seven of ten");
    counted.lose(&TEN[6..7]);
    counted.expect_healthy("six of ten");
    counted.lose(&TEN[5..6]);
    counted.expect_partitioned("five of ten");
    counted.end();
}

#[test]
fn scenario_26_a_quorum_is_lost_and_won_back_then_each_change_is_told_once_and_locks_and_unlocks() {
    let hooks = [HookName::PartitionChanged, HookName::PriorityStateUpdated];
    let mut counted = Counted::listening(&PartitionTolerance::majority_quorum(3), &hooks);
    counted.join(&TEN[..3]);
    counted.expect_healthy("three");
    let told = |counted: &Counted| counted.cluster.heard("c", HookName::PartitionChanged);
    for round in 0..2 {
        let before = told(&counted).len();
        counted.losses.split(["c"]);
        counted.expect_partitioned_on(&["c"], "one of three");
        counted.losses.heal();
        counted.cluster.see_each_other();
        counted.expect_healthy("three again");
        eventually_or("the changes are told", || {
            let changes = told(&counted).split_off(before);
            let wanted = [json!({"partitioned": true}), json!({"partitioned": false})];
            (changes != wanted).then(|| format!("round {round}: {changes:?}"))
        });
    }
    for node in ["a", "b", "c"] {
        for (hook, fact) in [(hooks[0], "partitioned"), (hooks[1], "locked")] {
            let told = counted.cluster.heard(node, hook);
            let repeated = told.windows(2).find(|pair| pair[0] == pair[1]);
            assert_eq!(repeated, None, "{node} is told {hook} twice: {told:?}");
            eventually(&format!("{node} is {fact} no more"), || {
                counted.cluster.heard(node, hook).last() == Some(&json!({fact: false}))
            });
        }
    }
}

#[test]
fn scenario_29_majority_of_the_peak_then_the_numbers_of_the_rule() {
    let rule = QuorumRule::Majority { initial_cluster_size: 1, track_max_size: true };
    for (peak, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (10, 6)] {
        assert_eq!(rule.quorum(1, peak), quorum, "of {peak} members at most");
        assert_eq!(rule.quorum(peak as usize, 1), quorum, "of {peak} members");
        assert_eq!(rule.peak(1, peak), peak, "a peak stays");
        assert_eq!(rule.peak(peak as usize + 1, peak), peak + 1, "a peak rises");
    }
    let untracked = QuorumRule::Majority { initial_cluster_size: 3, track_max_size: false };
    assert_eq!((untracked.peak(3, 0), untracked.peak(5, 3)), (3, 3));
    assert_eq!((untracked.quorum(5, 3), untracked.quorum(3, 3), untracked.quorum(1, 3)), (3, 2, 2));
    let higher = QuorumRule::Majority { initial_cluster_size: 5, track_max_size: true };
    assert_eq!((higher.peak(3, 0), higher.quorum(3, 5)), (5, 3));
}

/// A cluster of `nodes` of which the last `apart` are cut off; they may be a quorum, or the others, or nobody.
fn split(nodes: usize, apart: usize, has_majority: bool) {
    let names = &TEN[..nodes];
    let (main, minor) = names.split_at(nodes - apart);
    let mut counted = Counted::new(&PartitionTolerance::majority_quorum(u32::try_from(nodes).unwrap()));
    counted.join(names);
    for _ in 0..2 * nodes {
        counted.expect_healthy("together");
    }
    match minor {
        [] => {}
        [one] => counted.losses.split([*one]),
        [one, two] => counted.losses.split([*one, *two]),
        _ => unreachable!("at most two are cut off"),
    }
    counted.expect_partitioned_on(minor, "the smaller side");
    if has_majority {
        let members: Vec<NodeName> = main.iter().map(|name| node_name(name)).collect();
        for name in main {
            let hub = counted.cluster.hub(name);
            eventually("the larger side has a quorum", || hub.nodes(true) == members && !hub.is_partitioned());
            eventually_or("the larger side runs everything", || {
                let rows = hub.process_registry();
                let other = rows.values().find(|row| {
                    let nodes = nodes_of(row);
                    nodes.len() != 1 || !members.contains(&nodes[0])
                });
                other.map(|row| format!("{name} has {row:?}"))
            });
        }
    } else {
        counted.expect_partitioned_on(main, "neither side is a majority");
    }
    counted.losses.heal();
    counted.cluster.see_each_other();
    counted.expect_healthy("together again");
}

#[test]
fn scenario_29_one_node_then_it_is_its_own_majority() {
    split(1, 0, true);
}

#[test]
fn scenario_29_two_nodes_apart_then_neither_runs_anything() {
    split(2, 1, false);
}

#[test]
fn scenario_29_three_nodes_split_2_to_1_then_the_two_run_everything() {
    split(3, 1, true);
}

#[test]
fn scenario_29_five_nodes_split_3_to_2_then_the_three_run_everything() {
    split(5, 2, true);
}

#[test]
fn scenario_29_the_peak_counts_or_not_then_fewer_members_are_no_quorum_or_one() {
    for (track_max_size, is_healthy) in [(true, false), (false, true)] {
        let lease = Duration::from_millis(1500);
        let tolerance = PartitionTolerance::MajorityQuorum { initial_cluster_size: 3, track_max_size, lease };
        let mut counted = Counted::new(&tolerance);
        counted.join(&TEN[..3]);
        counted.expect_healthy("three");
        counted.join(&TEN[3..5]);
        counted.expect_healthy("five");
        // Their slots go with them: what is left of the five is the peak.
        counted.leave(&TEN[2..5]);
        if is_healthy {
            counted.expect_healthy("two of three, and the five of once do not count");
        } else {
            counted.expect_partitioned("two of five at most");
        }
        counted.end();
    }
}

#[test]
fn scenario_29_more_members_are_asked_for_than_are_there_then_they_wait_for_them() {
    let mut counted = Counted::new(&PartitionTolerance::majority_quorum(3));
    counted.join(&TEN[..2]);
    let early = counted.cluster.hubs[0].start_child(spec("counter:0"), options());
    assert!(counted.cluster.hubs.iter().all(Hub::is_partitioned));
    counted.join(&TEN[2..3]);
    early.wait().unwrap();
    counted.ids.push("counter:0".to_owned());
    counted.expect_healthy("three");
}

#[test]
fn scenario_30_a_member_is_lost_then_it_counts_for_newcomers_too_until_it_is_back() {
    let mut counted = Counted::new(&PartitionTolerance::DynamicQuorum {
        quorum_size: 80,
        threshold_time: Duration::from_secs(3600),
        lease: Duration::from_millis(1500),
    });
    counted.join(&TEN[..5]);
    counted.expect_healthy("five");
    counted.lose(&TEN[4..5]);
    counted.expect_healthy("four of five");
    // The newcomer counts, and knows of the one who was lost before it came.
    counted.join(&TEN[5..6]);
    counted.expect_healthy("five of six");
    counted.lose(&TEN[3..4]);
    counted.expect_partitioned("four of six");
    counted.join(&TEN[3..4]);
    counted.expect_healthy("five of six again");
}

#[test]
fn scenario_54_a_minority_then_it_starts_nothing_and_runs_nothing_until_the_heal() {
    let mut counted = Counted::new(&PartitionTolerance::majority_quorum(5));
    counted.join(&TEN[..5]);
    for _ in 0..30 {
        counted.expect_healthy("five");
    }
    let (main, minor) = (["a", "b", "c"], ["d", "e"]);
    assert!(minor.iter().all(|name| counted.lives_on(name)), "they run some");
    let epochs: Vec<u64> = counted.ids.iter().map(|id| epoch(&counted, id)).collect();
    let starts: Vec<usize> = counted.ids.iter().map(|id| counted.cluster.census.starts(id)).collect();
    let were_minor: Vec<bool> = counted.ids.iter().map(|id| minor.contains(&place(&counted, id).as_str())).collect();
    counted.losses.split(minor);
    counted.expect_partitioned_on(&minor, "the minority");
    for name in main {
        eventually("the majority runs everything", || {
            let rows = counted.cluster.hub(name).process_registry();
            rows.values().all(|row| nodes_of(row).iter().all(|node| main.contains(&node.as_str())))
        });
    }
    for (at, id) in counted.ids.iter().enumerate() {
        let _ = ask(counted.cluster.hub("a"), id, "add");
        assert!(minor.iter().all(|name| call(counted.cluster.hub(name), id, "add").is_err()));
        let taken = usize::from(were_minor[at]);
        assert_eq!(counted.cluster.census.starts(id), starts[at] + taken, "{id} was started by the majority alone");
        assert_eq!(
            epoch(&counted, id) > epochs[at],
            were_minor[at],
            "{id}: a takeover, and nothing else, is a new epoch"
        );
    }
    assert!(minor.iter().all(|name| !counted.lives_on(name)), "the minority ran nothing");
    assert!(counted.cluster.hub("d").child_lookup("refused").is_none(), "what was refused is not wanted");
    counted.losses.heal();
    counted.cluster.see_each_other();
    counted.expect_healthy("together again");
    assert!(minor.iter().all(|name| counted.lives_on(name)), "they run some again");
}

fn place(counted: &Counted, id: &str) -> NodeName {
    nodes_of(&counted.cluster.hubs[0].child_lookup(id).unwrap())[0].clone()
}

fn epoch(counted: &Counted, id: &str) -> u64 {
    counted.cluster.hubs[0].child_lookup(id).unwrap().instances[0].epoch.0
}
