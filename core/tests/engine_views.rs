//! Members that come and go: how many changes make one view, and what is told of the moves that follow.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::time::Duration;

use bench::{Bench, spec};
use process_hub::config::HubConfig;
use process_hub::engine::{Input, StartOptions};
use process_hub::ids::NodeRef;
use process_hub::observe::HookName;
use serde_json::{Value, json};

/// How long changes are collected; above this a step of [`Bench::pass`] is a part of it.
const DEBOUNCE: Duration = Duration::from_millis(40);
const MOMENT: Duration = Duration::from_millis(10);

fn config() -> HubConfig {
    let config = HubConfig::new("orders").unwrap();
    let mut profile = config.profile.clone();
    profile.view_debounce = DEBOUNCE;
    config.with_profile(profile)
}

/// The nodes of which a hook of `at` told, in order.
fn told(bench: &Bench, at: &NodeRef, hook: HookName) -> Vec<String> {
    let of_it = bench.hooks.iter().filter(|(node, name, _)| node == at && *name == hook);
    of_it.map(|(.., payload)| payload["node"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn scenario_36_several_members_are_lost_within_the_window_then_they_leave_together() {
    let (mut bench, nodes) = Bench::of(config(), &["a", "b", "c", "d", "e"]);
    let a = &nodes[0];
    for node in &nodes[2..] {
        bench.suspect(a, node);
        bench.pass(MOMENT);
    }
    assert!(told(&bench, a, HookName::PreClusterLeave).is_empty(), "the window is open");
    bench.pass(MOMENT);
    for hook in [HookName::PreClusterLeave, HookName::PostClusterLeave, HookName::PreNodesRedistribution] {
        let told: Vec<String> =
            told(&bench, a, hook).split_off(if hook == HookName::PreNodesRedistribution { 4 } else { 0 });
        assert_eq!(told, ["c", "d", "e"], "{hook}");
    }
}

#[test]
fn scenario_36_members_are_lost_one_after_another_without_a_pause_then_the_window_ends_all_the_same() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let (mut bench, nodes) = Bench::of(config(), &names);
    let a = &nodes[0];
    // Each comes before the window that the one before would open is over.
    for node in &nodes[1..] {
        bench.suspect(a, node);
        bench.pass(MOMENT);
    }
    assert_eq!(told(&bench, a, HookName::PreClusterLeave).len(), 8, "two windows of four are over");
}

#[test]
fn scenario_36_a_member_is_lost_and_back_within_the_window_then_nothing_is_done() {
    let (mut bench, nodes) = Bench::of(config(), &["a", "b", "c"]);
    let specs = (0..30).map(|n| spec(&format!("cart:{n}"))).collect();
    assert_eq!(bench.start(&nodes[0], specs, StartOptions::default()).unwrap().errors, []);
    let (a, c) = (&nodes[0], &nodes[2]);
    let rows = bench.rows.clone();
    bench.hooks.clear();
    bench.suspect(a, c);
    bench.pass(MOMENT);
    bench.give(a, Input::NodeUp(c.clone()));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.rows, rows);
    let of_views = [HookName::PreClusterLeave, HookName::PreNodesRedistribution, HookName::PriorityStateUpdated];
    assert!(of_views.iter().all(|hook| told(&bench, a, *hook).is_empty()));
}

fn position(bench: &Bench, at: &NodeRef, is_it: impl Fn(HookName, &Value) -> bool) -> Option<usize> {
    bench.hooks.iter().rposition(|(node, name, payload)| node == at && is_it(*name, payload))
}

#[test]
fn post_nodes_redistribution_then_not_before_the_last_move_is_done() {
    let (mut bench, nodes) = Bench::of(config(), &["a"]);
    let a = &nodes[0];
    let specs = (0..30).map(|n| spec(&format!("cart:{n}"))).collect();
    assert_eq!(bench.start(a, specs, StartOptions::default()).unwrap().errors, []);
    bench.hooks.clear();
    for held_up in ["Prepared(", "Ready {"] {
        bench.lost.insert(held_up);
        let joiner = bench.join(if held_up == "Prepared(" { "b" } else { "c" });
        let of_joiner = json!({"event": "nodeup", "node": joiner.name});
        let is_post = |name, payload: &Value| name == HookName::PostNodesRedistribution && *payload == of_joiner;
        assert_eq!(position(&bench, a, is_post), None, "{held_up} never came");
        assert!(position(&bench, a, |name, _| name == HookName::PreNodesRedistribution).is_some());
        bench.lost.clear();
        bench.pass(Duration::from_secs(5));
        let last = position(&bench, a, |name, _| name == HookName::ChildrenMigrated).unwrap();
        assert!(position(&bench, a, is_post).unwrap() > last, "{held_up}: after the last move");
        let all: usize = bench.hooks.iter().filter(|(at, name, payload)| at == a && is_post(*name, payload)).count();
        assert_eq!(all, 1);
    }
}

#[test]
fn target_of_a_move_is_gone_then_the_child_is_forwarded_and_that_is_told() {
    let (mut bench, nodes) = Bench::of(config(), &["a"]);
    let a = &nodes[0];
    let ids: Vec<String> = (0..40).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    assert_eq!(bench.start(a, specs, StartOptions::default()).unwrap().errors, []);
    bench.lost.insert("Prepare {");
    let b = bench.join("b");
    bench.lost.insert("Prepared(");
    let c = bench.join("c");
    bench.lost.clear();
    bench.kill(&b);
    bench.pass(Duration::from_secs(5));
    let told = bench.hooks.iter().filter(|(at, name, _)| at == a && *name == HookName::ForwardedMigration);
    let told: Vec<&Value> = told.flat_map(|(.., payload)| payload["children"].as_array().unwrap()).collect();
    assert!(!told.is_empty(), "some of what was to go to b goes to c");
    for child in told {
        assert_eq!(child["node"], c.name.as_str());
        assert_eq!(bench.nodes_of(a, child["id"].as_str().unwrap()), ["c"]);
    }
}
