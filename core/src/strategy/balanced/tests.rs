use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::ids::{Incarnation, KindName, NodeName};

const OPTIONS: LoadOptions = LoadOptions {
    max_history_size: 30,
    weight_decay: 900,
    push_interval: Duration::from_secs(10),
    nodeup_redistribution: false,
};

/// Nodes of which each has a zone.
struct Nodes {
    refs: Vec<NodeRef>,
    labels: Vec<BTreeMap<String, String>>,
    kinds: BTreeSet<KindName>,
    weights: Vec<u32>,
}

impl Nodes {
    fn new(weights: &[u32], zones: usize) -> Self {
        let node = |at: usize| NodeRef { name: NodeName::new(format!("n{at}")).unwrap(), incarnation: Incarnation(1) };
        let label = |at: usize| (ZONE_LABEL.to_owned(), format!("z{}", at % zones));
        Self {
            refs: (0..weights.len()).map(node).collect(),
            labels: (0..weights.len()).map(|at| BTreeMap::from([label(at)])).collect(),
            kinds: BTreeSet::from([KindName::new("k").unwrap()]),
            weights: weights.to_vec(),
        }
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let of = |at: usize| Candidate {
            node: &self.refs[at],
            weight: self.weights[at],
            labels: &self.labels[at],
            kinds: &self.kinds,
        };
        (0..self.refs.len()).map(of).collect()
    }
}

fn child() -> ChildSpec {
    ChildSpec::new("c", "k").unwrap()
}

/// How many children each node gets of a batch, by these loads.
fn divided(accounts: &mut Accounts, nodes: &Nodes, loads: &[u16], count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let candidates = nodes.candidates();
    let capacities: Vec<u64> = candidates.iter().zip(loads).map(|(one, load)| capacity(one, *load)).collect();
    let mut counts = vec![0; loads.len()];
    for _ in 0..count {
        for at in accounts.choose(&candidates, &capacities, &child(), 1, random) {
            counts[at] += 1;
        }
    }
    counts
}

/// The share of each node in so many children.
fn exact(nodes: &Nodes, loads: &[u16], count: usize) -> Vec<f64> {
    let capacities: Vec<f64> =
        nodes.candidates().iter().zip(loads).map(|(one, load)| capacity(one, *load) as f64).collect();
    let total: f64 = capacities.iter().sum();
    capacities.iter().map(|capacity| capacity / total * count as f64).collect()
}

#[test]
fn load_is_measured_then_cpu_queue_and_children_count_as_told() {
    assert_eq!(LoadSample::default().score(0), 0);
    assert_eq!(LoadSample { cpu: 1000, waiting: 0 }.score(0), 500);
    assert_eq!(LoadSample { cpu: 0, waiting: 500 }.score(0), 150);
    assert_eq!(LoadSample::default().score(5_000), 100);
    assert_eq!(
        LoadSample { cpu: u16::MAX, waiting: u32::MAX }.score(u64::MAX),
        1000,
        "no part counts as more than full"
    );
}

#[test]
fn scores_are_old_then_they_count_less_and_then_not_at_all() {
    let mut history = History::default();
    assert_eq!(history.mean(&OPTIONS), 0);
    history.push(1000, &OPTIONS);
    assert_eq!(history.mean(&OPTIONS), 1000);
    history.push(0, &OPTIONS);
    assert_eq!(history.mean(&OPTIONS), 473, "900 of 1900");
    let short = LoadOptions { max_history_size: 1, ..OPTIONS };
    history.push(7, &short);
    assert_eq!(history.mean(&short), 7);
    let flat = LoadOptions { weight_decay: 1000, ..OPTIONS };
    history.push(1000, &flat);
    assert_eq!(history.mean(&flat), 503, "all the same");
    let latest = LoadOptions { weight_decay: 0, ..OPTIONS };
    assert_eq!(history.mean(&latest), 1000);
}

#[test]
fn node_is_full_then_it_keeps_a_tenth_of_its_capacity() {
    let nodes = Nodes::new(&[1000, 2000], 1);
    let candidates = nodes.candidates();
    assert_eq!([0, 500, 1000].map(|load| capacity(&candidates[0], load)), [1_000_000, 500_000, 100_000]);
    assert_eq!(capacity(&candidates[1], 950), 200_000);
}

#[test]
fn nobody_reported_then_a_batch_is_divided_evenly() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let nodes = Nodes::new(&[1000; 6], 1);
    let counts = divided(&mut Accounts::default(), &nodes, &[0; 6], 1000, &mut random);
    assert!(counts.iter().all(|count| (166..=167).contains(count)), "{counts:?}");
}

#[test]
fn hubs_start_one_child_each_then_they_do_not_all_take_one_node() {
    let nodes = Nodes::new(&[1000; 5], 1);
    let mut counts = [0; 5];
    for seed in 0..100 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for (at, count) in divided(&mut Accounts::default(), &nodes, &[0; 5], 1, &mut random).iter().enumerate() {
            counts[at] += count;
        }
    }
    assert!(counts.iter().all(|count| (5..=40).contains(count)), "{counts:?}");
}

proptest! {
    /// The bound: less than the share, and the share of one more, and 1; and not so little that the rest is lost.
    #[test]
    fn any_loads_then_no_node_gets_more_than_its_share_of_one_more_child_rounded_up(
        weights in proptest::collection::vec(1u32..4000, 1..9),
        loads in proptest::collection::vec(0u16..1100, 9),
        count in 0usize..400,
        seed in any::<u64>(),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let nodes = Nodes::new(&weights, 1);
        let loads = &loads[..weights.len()];
        let counts = divided(&mut Accounts::default(), &nodes, loads, count, &mut random);
        prop_assert_eq!(counts.iter().sum::<usize>(), count);
        let (shares, more) = (exact(&nodes, loads, count), exact(&nodes, loads, count + 1));
        for (at, given) in counts.iter().enumerate() {
            let given = *given as f64;
            prop_assert!(given <= more[at].ceil() + 1e-3, "{counts:?} of {shares:?}");
            prop_assert!(given >= shares[at] - 4.0, "{counts:?} of {shares:?}");
        }
    }

    /// The same over many starts of several hubs while loads change: less than two children a hub.
    #[test]
    fn several_hubs_start_while_loads_change_then_the_excess_is_below_two_children_a_hub(
        hubs in 1usize..6,
        rounds in proptest::collection::vec((proptest::collection::vec(0u16..1000, 5), 0usize..12), 1..40),
        seed in any::<u64>(),
    ) {
        let nodes = Nodes::new(&[1000, 500, 1000, 3000, 1000], 1);
        let mut hubs: Vec<(Accounts, ChaCha8Rng)> = (0..hubs)
            .map(|hub| (Accounts::default(), ChaCha8Rng::seed_from_u64(seed.wrapping_add(hub as u64))))
            .collect();
        let (mut given, mut shares) = ([0.0; 5], [0.0; 5]);
        for (round, (loads, count)) in rounds.iter().enumerate() {
            let at = round % hubs.len();
            let (accounts, random) = &mut hubs[at];
            let counts = divided(accounts, &nodes, loads, *count, random);
            for (node, share) in exact(&nodes, loads, *count).into_iter().enumerate() {
                given[node] += counts[node] as f64;
                shares[node] += share;
            }
            for node in 0..5 {
                let bound = 2.0 * hubs.len() as f64;
                prop_assert!(given[node] < shares[node] + bound, "{given:?} of {shares:?}");
            }
        }
    }

    /// Replicas: distinct nodes that can run the child, in as many zones as there are.
    #[test]
    fn several_instances_then_distinct_nodes_in_as_many_zones_as_there_are(
        count in 1usize..9,
        zones in 1usize..4,
        factor in 1usize..6,
        seed in any::<u64>(),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut nodes = Nodes::new(&vec![1000; count], zones);
        // One of them drains: weight 0.
        nodes.weights[0] = 0;
        let candidates = nodes.candidates();
        let capacities: Vec<u64> = candidates.iter().map(|one| capacity(one, 0)).collect();
        let able: BTreeSet<usize> = (1..count).collect();
        let zones_there: BTreeSet<usize> = able.iter().map(|at| at % zones).collect();
        let mut accounts = Accounts::default();
        for _ in 0..20 {
            let chosen = accounts.choose(&candidates, &capacities, &child(), factor, &mut random);
            let distinct: BTreeSet<usize> = chosen.iter().copied().collect();
            prop_assert_eq!(distinct.len(), chosen.len());
            prop_assert_eq!(chosen.len(), factor.min(able.len()));
            prop_assert!(distinct.is_subset(&able));
            let used: BTreeSet<usize> = distinct.iter().map(|at| at % zones).collect();
            prop_assert_eq!(used.len(), factor.min(zones_there.len()));
        }
    }
}
