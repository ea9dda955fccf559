//! Strategies of one hub together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::config::{Profile, RestartConfig};
use crate::error::ErrorKind;
use crate::ids::{HubId, Incarnation, NodeName, NodeRef};

const HOT: config::Migration = config::Migration::HotSwap {
    retention: Duration::from_secs(5),
    handover: true,
    confirm_handover: false,
    handover_data_wait: Duration::from_secs(3),
    child_migration_timeout: Duration::from_secs(10),
};

fn cold(handover: bool) -> config::Migration {
    config::Migration::ColdSwap { handover, handover_data_wait: Duration::from_secs(3) }
}

fn strategies(migration: config::Migration, sync_interval: Duration) -> Strategies {
    Strategies::from_config(&HubConfig {
        hub_id: HubId::new("orders").expect("a valid id"),
        node: None,
        child_specs: Vec::new(),
        redundancy: config::Redundancy::default(),
        migration,
        synchronization: config::Synchronization::PubSub { sync_interval },
        partition_tolerance: config::PartitionTolerance::default(),
        distribution: config::Distribution::default(),
        restart: RestartConfig {
            max_restarts: 10,
            window: Duration::from_secs(60),
            backoff: (Duration::from_millis(10), Duration::from_secs(30)),
        },
        hubs_discover_interval: Duration::from_secs(10),
        deadlock_recovery_timeout: Duration::from_secs(60),
        migration_base_timeout: Duration::from_secs(15),
        shutdown_timeout: Duration::from_secs(60),
        host_threads: 8,
        profile: Profile::lan(),
    })
}

const INTERVAL: Duration = Duration::from_secs(15);

#[test]
fn configured_types_then_the_strategies_of_those_names() {
    let strategies = strategies(cold(false), INTERVAL);
    let names = [
        strategies.redundancy.name(),
        strategies.migration.name(),
        strategies.synchronization.name(),
        strategies.partition_tolerance.name(),
        strategies.distribution.name(),
    ];
    assert_eq!(names, ["singularity", "cold_swap", "pub_sub", "divergence", "consistent_hashing"]);
}

/// Source: the list of compared options in the public interface: type and options of redundancy, distribution and
/// partition tolerance, type and `handover` of migration.
#[test]
fn other_type_or_handover_then_the_difference_names_the_option() {
    let ours = strategies(cold(false), INTERVAL).fingerprint();
    let with_handover = strategies(cold(true), INTERVAL).fingerprint();
    let hot = strategies(HOT, INTERVAL).fingerprint();
    assert_eq!(
        strategy_difference(&ours, &with_handover).as_deref(),
        Some("`migration.handover` is `false` here and `true` there")
    );
    assert_eq!(
        strategy_difference(&with_handover, &hot).as_deref(),
        Some("`migration.type` is `cold_swap` here and `hot_swap` there")
    );
}

#[test]
fn host_decides_then_the_fingerprint_has_the_name_of_its_strategy_and_the_base() {
    let ours = strategies(config::Migration::hosted("mine", cold(true)), INTERVAL).fingerprint();
    let difference = |migration| strategy_difference(&ours, &strategies(migration, INTERVAL).fingerprint());
    assert_eq!(difference(config::Migration::hosted("mine", cold(true))), None);
    assert_eq!(
        difference(config::Migration::hosted("yours", cold(true))).as_deref(),
        Some("`migration.type` is `custom:mine` here and `custom:yours` there")
    );
    assert_eq!(
        difference(config::Migration::hosted("mine", cold(false))).as_deref(),
        Some("`migration.base.handover` is `true` here and `false` there")
    );
    assert_eq!(difference(cold(true)).as_deref(), Some("`migration.type` is `custom:mine` here and `cold_swap` there"));
}

#[test]
fn option_only_the_other_has_then_it_is_named() {
    let ours = strategies(cold(false), INTERVAL).fingerprint();
    let mut theirs = ours.clone();
    theirs.push(("distribution.fallback".into(), "wait".into()));
    assert_eq!(
        strategy_difference(&ours, &theirs).as_deref(),
        Some("`distribution.fallback` is not set here and `wait` there")
    );
}

#[test]
fn other_sync_interval_then_no_difference() {
    let ours = strategies(cold(false), INTERVAL).fingerprint();
    let theirs = strategies(cold(false), INTERVAL * 2).fingerprint();
    assert_eq!(strategy_difference(&ours, &theirs), None);
}

#[test]
fn pub_sub_then_every_member_is_told_and_nobody_passes_on() {
    let members = [node("b"), node("c")];
    let synchronization = strategies(cold(false), INTERVAL).synchronization;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    assert_eq!(synchronization.recipients(&members, &mut random), Recipients::All);
    assert!(!synchronization.is_passed_on());
    assert_eq!(synchronization.sync_interval(), INTERVAL);
}

#[test]
fn gossip_then_so_many_distinct_members_are_told_and_chance_reaches_all() {
    let members = ["b", "c", "d", "e", "f"].map(node);
    let gossip = Gossip { sync_interval: INTERVAL, recipients: 2, restricted_init: true };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut reached = BTreeSet::new();
    for _ in 0..100 {
        let Recipients::Some(chosen) = gossip.recipients(&members, &mut random) else {
            panic!("five are more than two");
        };
        let distinct: BTreeSet<usize> = chosen.iter().copied().collect();
        assert_eq!((chosen.len(), distinct.len()), (2, 2));
        reached.extend(distinct);
    }
    assert_eq!(reached, (0..5).collect());
    assert_eq!(gossip.recipients(&members[..2], &mut random), Recipients::All);
    assert!(gossip.is_passed_on());
}

#[test]
fn restricted_init_then_the_smallest_name_alone_begins_a_comparison() {
    let restricted = Gossip { sync_interval: INTERVAL, recipients: 2, restricted_init: true };
    let (a, b, c) = (node("a"), node("b"), node("c"));
    assert!(restricted.begins_comparison(&a, &[b.clone(), c.clone()]));
    assert!(!restricted.begins_comparison(&b, &[a.clone(), c.clone()]));
    assert!(Gossip { restricted_init: false, ..restricted }.begins_comparison(&b, &[a, c]));
}

#[test]
fn divergence_then_both_sides_of_a_split_run() {
    let divergence = strategies(cold(false), INTERVAL).partition_tolerance;
    let (a, others) = (node("a"), [node("b"), node("c")]);
    for members in [&others[..], &[]] {
        let view = PartitionView { node: &a, members };
        assert_eq!(divergence.verdict(&view), Verdict::Run);
        assert_eq!(view.present(), members.len() + 1);
    }
}

/// A strategy of a user that gives the same answer to every question.
#[derive(Debug)]
struct Fixed(&'static [&'static [u32]]);

impl Distribution for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn place(
        &self,
        _candidates: &[Candidate<'_>],
        _children: &[&ChildSpec],
        _factor: usize,
        placements: &mut Placements,
    ) {
        for chosen in self.0 {
            placements.push(chosen.iter().copied());
        }
    }
}

/// Places one child on one of two nodes, twice, as the second answer must not see the first.
fn owner_by(distribution: Arc<dyn Distribution>) -> (Option<usize>, Result<(), Error>) {
    let mut strategies = strategies(cold(false), INTERVAL);
    strategies.distribution = distribution;
    let (nodes, labels) = ([node("a"), node("b")], BTreeMap::new());
    let child = ChildSpec::new("cart:1", "cart").expect("a valid spec");
    let kinds = BTreeSet::from([child.kind.clone()]);
    let candidates = nodes.each_ref().map(|node| Candidate { node, weight: 1000, labels: &labels, kinds: &kinds });
    let mut placements = Placements::new();
    let mut place = || strategies.place(&candidates, &[&child], 1, &mut placements);
    let first = place();
    let second = place();
    assert_eq!(first, second);
    assert_eq!(placements.len(), 1);
    (placements.owner(0), second)
}

#[test]
fn custom_distribution_then_its_answer_counts() {
    let (built_in, _) = owner_by(Arc::new(ConsistentHashing));
    let other: &[&[u32]] = if built_in == Some(0) { &[&[1]] } else { &[&[0]] };
    let (owner, checked) = owner_by(Arc::new(Fixed(other)));
    assert_eq!(checked, Ok(()));
    assert_ne!(owner, built_in);
}

#[test]
fn custom_distribution_answers_nonsense_then_the_built_in_decides_and_the_error_tells() {
    let (built_in, _) = owner_by(Arc::new(ConsistentHashing));
    let nonsense: [&[&[u32]]; 4] = [&[], &[&[7]], &[&[0, 1]], &[&[0], &[1]]];
    for answer in nonsense {
        let (owner, checked) = owner_by(Arc::new(Fixed(answer)));
        assert_eq!(owner, built_in, "{answer:?}");
        let error = checked.expect_err("nonsense");
        assert_eq!(error.kind, ErrorKind::InvalidAnswer);
    }
}

fn node(name: &str) -> NodeRef {
    NodeRef { name: NodeName::new(name).expect("a valid name"), incarnation: Incarnation(1) }
}
