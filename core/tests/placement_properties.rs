//! What weighted rendezvous placement promises: no order, minimal movement, balance, and only nodes that qualify.

use std::collections::{BTreeMap, BTreeSet};

use process_hub::error::ErrorKind;
use process_hub::ids::{Incarnation, KindName, NodeName, NodeRef};
use process_hub::spec::ChildSpec;
use process_hub::strategy::{Candidate, ConsistentHashing, Distribution, Placements, weight_thousandths};
use proptest::prelude::*;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Node {
    node: NodeRef,
    weight: u32,
    labels: BTreeMap<String, String>,
    kinds: BTreeSet<KindName>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self {
            node: NodeRef { name: NodeName::new(name).expect("a valid name"), incarnation: Incarnation(1) },
            weight: 1000,
            labels: BTreeMap::new(),
            kinds: BTreeSet::from([KindName::new("cart").expect("a valid kind")]),
        }
    }

    fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    fn zone(mut self, zone: &str) -> Self {
        self.labels.insert("zone".into(), zone.into());
        self
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate { node: &self.node, weight: self.weight, labels: &self.labels, kinds: &self.kinds }
    }
}

fn numbered_nodes(count: usize) -> Vec<Node> {
    (0..count).map(|i| Node::new(&format!("node-{i}"))).collect()
}

fn numbered_children(count: usize) -> Vec<ChildSpec> {
    (0..count).map(|i| ChildSpec::new(&format!("cart:{i}"), "cart").expect("a valid spec")).collect()
}

fn place<'a>(nodes: &'a [Node], children: &[ChildSpec], factor: usize) -> Vec<Vec<&'a str>> {
    let candidates: Vec<_> = nodes.iter().map(Node::candidate).collect();
    let children: Vec<_> = children.iter().collect();
    let mut placements = Placements::new();
    ConsistentHashing.place(&candidates, &children, factor, &mut placements);
    placements.check(&candidates, &children, factor).expect("the built-in answers well");
    let name = |&index: &u32| nodes[index as usize].node.name.as_str();
    placements.iter().map(|chosen| chosen.iter().map(name).collect()).collect()
}

fn owned_counts(nodes: &[Node], children: &[ChildSpec]) -> Vec<usize> {
    let placements = place(nodes, children, 1);
    let count = |name: &str| placements.iter().filter(|chosen| chosen == &&[name]).count();
    nodes.iter().map(|node| count(node.node.name.as_str())).collect()
}

#[test]
fn twenty_equal_nodes_then_each_gets_its_share() {
    let counts = owned_counts(&numbered_nodes(20), &numbered_children(20_000));
    // A share is 1000 with a standard deviation of 31; five of those.
    for count in &counts {
        assert!((845..=1155).contains(count), "{counts:?}");
    }
}

#[test]
fn different_weights_then_shares_are_proportional() {
    let weights = [250, 500, 1000, 1000, 2000, 5250];
    let nodes: Vec<_> =
        numbered_nodes(weights.len()).into_iter().zip(weights).map(|(node, weight)| node.weight(weight)).collect();
    // The weights sum to 10_000, so that a weight is the expected count in 10_000 children.
    let counts = owned_counts(&nodes, &numbered_children(40_000));
    for (count, weight) in counts.iter().zip(weights) {
        let (count, expected) = (*count as f64, f64::from(weight) * 4.0);
        assert!((count - expected).abs() < 5.0 * expected.sqrt(), "weight {weight}: {count} instead of {expected}");
    }
}

#[test]
fn restarted_node_then_it_gets_its_children_back() {
    let children = numbered_children(500);
    let before = numbered_nodes(5);
    let mut after = before.clone();
    after[2].node.incarnation = Incarnation(7);
    assert_eq!(place(&before, &children, 2), place(&after, &children, 2));
}

#[test]
fn placements_cleared_then_the_next_batch_stands_alone() {
    let nodes = numbered_nodes(3);
    let candidates: Vec<_> = nodes.iter().map(Node::candidate).collect();
    let children = numbered_children(10);
    let children: Vec<_> = children.iter().collect();
    let mut placements = Placements::new();
    ConsistentHashing.place(&candidates, &children, 3, &mut placements);
    placements.clear();
    assert!(placements.is_empty());
    ConsistentHashing.place(&candidates, &children[..2], 1, &mut placements);
    assert_eq!(placements.len(), 2);
    for position in 0..2 {
        let chosen = placements.get(position);
        assert_eq!(chosen.len(), 1);
        assert_eq!(placements.owner(position), Some(chosen[0] as usize));
    }
    assert!(placements.get(2).is_empty());
    assert_eq!(placements.owner(2), None);
}

#[test]
fn configured_weights_then_they_are_thousandths_above_zero() {
    for (weight, expected) in [
        (1.0, 1000),
        (0.5, 500),
        (1.2345, 1235),
        (1000.0, 1_000_000),
        (0.000_01, 1),
        (-3.0, 1),
        (f64::INFINITY, 1_000_000),
        (f64::NAN, 1000),
    ] {
        assert_eq!(weight_thousandths(weight), expected, "{weight}");
    }
}

#[test]
fn wrong_answers_of_a_custom_strategy_then_they_are_refused() {
    let nodes = [Node::new("a"), Node::new("b").weight(0)];
    let candidates: Vec<_> = nodes.iter().map(Node::candidate).collect();
    let children = numbered_children(1);
    let children: Vec<_> = children.iter().collect();
    let answer = |chosen: &[u32]| {
        let mut placements = Placements::new();
        placements.push(chosen.iter().copied());
        placements
    };
    for (what, wrong) in [
        ("too few placements", Placements::new()),
        ("too many nodes", answer(&[0, 1, 0])),
        ("the same node twice", answer(&[0, 0])),
        ("no such candidate", answer(&[2])),
        ("a node that does not qualify", answer(&[1])),
    ] {
        let error = wrong.check(&candidates, &children, 2).expect_err(what);
        assert_eq!(error.kind, ErrorKind::InvalidAnswer, "{what}");
    }
    answer(&[0]).check(&candidates, &children, 2).expect("a good answer");
}

/// Between 1 and 12 nodes of different names, with few weights and zones.
fn cluster() -> impl Strategy<Value = Vec<Node>> {
    let one = (
        "[a-z]{1,6}",
        prop::sample::select(vec![1000u32, 1000, 500, 3000]),
        prop::sample::select(vec![None, Some("z1"), Some("z2"), Some("z3")]),
    )
        .prop_map(|(name, weight, zone)| {
            let node = Node::new(&name).weight(weight);
            match zone {
                Some(zone) => node.zone(zone),
                None => node,
            }
        });
    prop::collection::vec(one, 1..12).prop_map(|mut nodes| {
        let mut known = BTreeSet::new();
        nodes.retain(|it| known.insert(it.node.clone()));
        nodes
    })
}

fn zones_of<'a>(nodes: &'a [Node], chosen: &[&str]) -> Vec<Option<&'a String>> {
    let zone = |name: &str| {
        let mut found = nodes.iter().filter(|it| it.node.name.as_str() == name);
        found.next().and_then(|it| it.labels.get("zone"))
    };
    chosen.iter().map(|name| zone(name)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn candidates_in_any_order_then_the_same_answer(
        (nodes, shuffled) in cluster().prop_flat_map(|nodes| {
            (Just(nodes.clone()), Just(nodes).prop_shuffle())
        }),
        factor in 1usize..6,
    ) {
        let children = numbered_children(20);
        prop_assert_eq!(place(&nodes, &children, factor), place(&shuffled, &children, factor));
    }

    #[test]
    fn children_in_batches_or_alone_then_the_same_answer(nodes in cluster(), factor in 1usize..4) {
        let children = numbered_children(8);
        let alone: Vec<_> = children
            .iter()
            .flat_map(|child| place(&nodes, std::slice::from_ref(child), factor))
            .collect();
        prop_assert_eq!(place(&nodes, &children, factor), alone);
    }

    /// Read backwards it is the removal of a node: only its own children move.
    #[test]
    fn node_joins_then_only_its_children_move_and_each_loses_one_replica_at_most(
        nodes in cluster(),
        zone in prop::sample::select(vec![None, Some("z1"), Some("z9")]),
        factor in 1usize..6,
    ) {
        let mut joined = nodes.clone();
        let newcomer = Node::new("newcomer");
        joined.push(match zone {
            Some(zone) => newcomer.zone(zone),
            None => newcomer,
        });
        let children = numbered_children(50);
        let before = place(&nodes, &children, factor);
        let after = place(&joined, &children, factor);
        for (before, after) in before.iter().zip(&after) {
            if !after.contains(&"newcomer") {
                prop_assert_eq!(before, after);
                continue;
            }
            if after[0] != "newcomer" {
                prop_assert_eq!(before[0], after[0], "the owner changed");
            }
            let old: BTreeSet<_> = before.iter().collect();
            let kept = after.iter().filter(|name| old.contains(name)).count();
            prop_assert_eq!(kept, after.len() - 1, "{:?} became {:?}", before, after);
        }
    }

    #[test]
    fn replicas_then_nodes_are_distinct_and_zones_evenly_used(
        nodes in cluster(),
        factor in 1usize..8,
    ) {
        let mut sizes = BTreeMap::new();
        for node in &nodes {
            *sizes.entry(node.labels.get("zone")).or_insert(0usize) += 1;
        }
        let children = numbered_children(20);
        for chosen in place(&nodes, &children, factor) {
            let distinct: BTreeSet<_> = chosen.iter().collect();
            prop_assert_eq!(distinct.len(), factor.min(nodes.len()));
            let mut used = BTreeMap::new();
            for zone in zones_of(&nodes, &chosen) {
                *used.entry(zone).or_insert(0usize) += 1;
            }
            let most = used.values().copied().max().unwrap_or_default();
            for (zone, size) in &sizes {
                let count = used.get(zone).copied().unwrap_or_default();
                prop_assert!(
                    count == *size || count + 1 >= most,
                    "{count} of {size} in {zone:?}, {most} elsewhere"
                );
            }
            let owner = place(&nodes, &children, 1);
            prop_assert!(owner.iter().any(|it| it[0] == chosen[0]));
        }
    }

    #[test]
    fn required_labels_and_kinds_then_exactly_the_nodes_that_qualify(
        nodes in cluster(),
        kinds in prop::collection::vec(prop::bool::ANY, 12),
        require_zone in prop::option::of(prop::sample::select(vec!["z1", "z2"])),
    ) {
        let mut nodes = nodes;
        for (node, has_kind) in nodes.iter_mut().zip(kinds) {
            if !has_kind {
                node.kinds.clear();
            }
        }
        let mut child = ChildSpec::new("cart:1", "cart").expect("a valid spec");
        if let Some(zone) = require_zone {
            child.require.insert("zone".into(), zone.into());
        }
        let expected: BTreeSet<_> = nodes
            .iter()
            .filter(|it| !it.kinds.is_empty())
            .filter(|it| require_zone.is_none_or(|zone| it.labels.get("zone").is_some_and(|z| z == zone)))
            .map(|it| it.node.name.as_str())
            .collect();
        let everybody = place(&nodes, std::slice::from_ref(&child), usize::MAX);
        prop_assert_eq!(everybody[0].iter().copied().collect::<BTreeSet<_>>(), expected);
    }
}
