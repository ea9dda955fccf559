//! A distribution of the user's own.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench::{Bench, spec};
use process_hub::config::{Distribution, HubConfig};
use process_hub::engine::StartOptions;
use process_hub::ids::NodeRef;
use process_hub::observe::HookName;
use process_hub::spec::ChildSpec;
use process_hub::strategy::{self, Candidate, Placements};

/// Everything to the node with the largest name; while it is out of order, to one that is not there.
#[derive(Clone, Debug, Default)]
struct LargestName {
    is_out_of_order: Arc<AtomicBool>,
}

impl strategy::Distribution for LargestName {
    fn name(&self) -> &'static str {
        "largest_name"
    }

    fn place(
        &self,
        candidates: &[Candidate<'_>],
        children: &[&ChildSpec],
        _factor: usize,
        placements: &mut Placements,
    ) {
        let largest = (0..).zip(candidates).max_by_key(|(_, candidate)| candidate.node).map(|(index, _)| index);
        for _ in children {
            let chosen = if self.is_out_of_order.load(Ordering::Relaxed) { Some(99) } else { largest };
            placements.push(chosen);
        }
    }
}

fn bench(names: &[&str]) -> (Bench, Vec<NodeRef>, LargestName) {
    let rule = LargestName::default();
    let distribution = Distribution::custom(rule.clone());
    let mut bench = Bench::new(HubConfig::new("orders").unwrap().with_distribution(distribution));
    let nodes = names.iter().map(|name| bench.join(name)).collect();
    (bench, nodes, rule)
}

#[test]
fn distribution_is_custom_then_children_go_where_it_says_and_move_when_it_changes_its_mind() {
    let (mut bench, nodes, _) = bench(&["a", "b"]);
    let ids: Vec<String> = (0..10).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    assert_eq!(bench.start(&nodes[0], specs, StartOptions::default()).unwrap().errors, []);
    for id in &ids {
        assert_eq!(bench.nodes_of(&nodes[0], id), ["b"]);
    }
    bench.join("c");
    bench.pass(Duration::from_secs(3));
    for id in &ids {
        assert_eq!(bench.nodes_of(&nodes[0], id), ["c"]);
    }
}

#[test]
fn custom_distribution_names_a_node_that_is_not_there_then_hashing_decides_and_strategy_fallback_tells() {
    let (mut bench, nodes, distribution) = bench(&["a", "b", "c"]);
    distribution.is_out_of_order.store(true, Ordering::Relaxed);
    let ids: Vec<String> = (0..30).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    let result = bench.start(&nodes[0], specs, StartOptions::default()).unwrap();
    assert_eq!(result.errors, []);
    for name in ["a", "b", "c"] {
        let runs = ids.iter().filter(|id| bench.nodes_of(&nodes[0], id) == [name]).count();
        assert!(runs > 0, "hashing gives {name} some");
    }
    let told = bench.hooks.iter().find(|(_, hook, _)| *hook == HookName::StrategyFallback);
    let (_, _, payload) = told.expect("the hook tells");
    assert_eq!(payload["strategy"], "largest_name");
    assert!(payload["why"].as_str().unwrap().contains("candidate 99 of 3"), "{payload}");
}
