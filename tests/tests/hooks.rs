//! Each hook fires with the payload that docs/hooks.md tells; tests/parity.toml names the test of each.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::sync::Arc;
use std::time::Duration;

use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;
use process_hub_tests::cluster::{
    Cluster, Losses, PATIENCE, ask, child_id, counter_kind, eventually, eventually_or, nodes_of, options, owner, spec,
};
use serde_json::{Value, json};

/// Waits until exactly this was told.
#[track_caller]
fn assert_told(cluster: &Cluster, node: &str, hook: HookName, wanted: &[Value]) {
    eventually_or("the hook told it", || {
        let told = cluster.heard(node, hook);
        (told != wanted).then(|| format!("{hook} on {node} told {told:?}, not {wanted:?}"))
    });
}

#[test]
fn members_come_and_go_then_each_step_is_told_on_every_node_in_order() {
    let hooks = [
        HookName::PreClusterJoin,
        HookName::PostClusterJoin,
        HookName::PreClusterLeave,
        HookName::PostClusterLeave,
        HookName::PreNodesRedistribution,
        HookName::PostNodesRedistribution,
    ];
    let mut cluster = hooks.iter().fold(Cluster::new(), |cluster, hook| cluster.listening(*hook));
    cluster.join_all(&["a"]);
    cluster.join_all(&["b"]);
    cluster.join_all(&["c"]);
    cluster.take("c").stop(PATIENCE).unwrap();
    cluster.settle();
    let node = |name: &str| json!({"node": name});
    let event = |event: &str, name: &str| json!({"event": event, "node": name});
    for (at, before) in [("a", &["b"][..]), ("b", &["a"][..])] {
        let joined: Vec<Value> = before.iter().chain(&["c"]).map(|name| node(name)).collect();
        let mut moved: Vec<Value> = before.iter().chain(&["c"]).map(|name| event("nodeup", name)).collect();
        moved.push(event("nodedown", "c"));
        for hook in &hooks[..2] {
            assert_told(&cluster, at, *hook, &joined);
        }
        for hook in &hooks[2..4] {
            assert_told(&cluster, at, *hook, &[node("c")]);
        }
        for hook in &hooks[4..] {
            assert_told(&cluster, at, *hook, &moved);
        }
        let order = cluster.heard_in_order(at);
        let of_c: Vec<HookName> = order.into_iter().filter(|(_, told)| told["node"] == "c").map(|it| it.0).collect();
        let up = [hooks[0], hooks[1], hooks[4], hooks[5]];
        let down = [hooks[2], hooks[3], hooks[4], hooks[5]];
        assert_eq!(of_c, [up, down].concat(), "{at}");
    }
}

#[test]
fn children_start_and_fail_to_then_their_owner_tells_before_and_after() {
    let mut cluster = Cluster::new()
        .listening(HookName::PreChildrenStart)
        .listening(HookName::PostChildrenStart)
        .listening(HookName::ChildFailed);
    cluster.join_all(&["a", "b"]);
    let owned_by = |node: &str, prefix: &str| {
        (0..).map(|n| format!("{prefix}:{n}")).find(|id| owner(&["a", "b"], id) == node).unwrap()
    };
    let good = cluster.hubs[1].start_child(spec(&owned_by("a", "good")), options()).wait().unwrap();
    let bad = owned_by("b", "bad");
    let refusing = spec(&bad).with_args(Payload::json(&b"\"refuse\""[..]));
    cluster.hubs[0].start_child(refusing, options()).wait().unwrap_err();
    assert_told(&cluster, "a", HookName::PreChildrenStart, &[json!({"children": [good.id]})]);
    assert_told(&cluster, "b", HookName::PreChildrenStart, &[json!({"children": [bad]})]);
    let epoch = good.instances[0].epoch;
    let started = json!({"id": good.id, "node": "a", "epoch": epoch, "result": "ok"});
    assert_told(&cluster, "a", HookName::PostChildrenStart, &[json!({"children": [started]})]);
    let failed = json!({"id": bad, "node": "b", "result": "error", "message": "refused on purpose"});
    assert_told(&cluster, "b", HookName::PostChildrenStart, &[json!({"children": [failed]})]);
    let told = json!({"child_id": bad, "node": "b", "callback": "start", "message": "refused on purpose"});
    assert_told(&cluster, "b", HookName::ChildFailed, &[told]);
    assert!(cluster.heard("a", HookName::ChildFailed).is_empty(), "it fires where it happens");
}

#[test]
fn a_child_moves_with_its_state_then_the_giver_tells_that_and_the_confirmation() {
    let mut cluster = Cluster::new().listening(HookName::ChildrenMigrated).listening(HookName::HandoverConfirmed);
    cluster.join_all(&["a"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
    cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
    cluster.join_all(&["b"]);
    let migrated = json!({"node": "b", "children": [{"id": id, "state": "handed_over"}]});
    assert_told(&cluster, "a", HookName::ChildrenMigrated, &[migrated]);
    assert_told(&cluster, "a", HookName::HandoverConfirmed, &[json!({"child_id": id, "from": "a", "to": "b"})]);
    assert!(cluster.heard("b", HookName::ChildrenMigrated).is_empty());
}

#[test]
fn a_node_dies_with_its_states_then_every_node_tells_each_loss_once_until_it_is_acknowledged() {
    let mut cluster = Cluster::new().listening(HookName::StateLost);
    cluster.join_all(&["a", "b", "c"]);
    let ids = cluster.start_counters(40);
    let before = cluster.registry();
    cluster.take("c").halt(Duration::from_secs(10));
    cluster.settle();
    let rows = cluster.registry();
    let lost: Vec<&String> = ids.iter().filter(|id| nodes_of(&before[id.as_str()])[0].as_str() == "c").collect();
    assert!(!lost.is_empty());
    for id in &ids {
        assert_eq!(rows[id.as_str()].state_lost.is_some(), lost.contains(&id), "{id}");
    }
    for node in ["a", "b"] {
        eventually_or("each loss is told once", || {
            let mut told = cluster.heard(node, HookName::StateLost);
            told.sort_by_key(|payload| payload["child_id"].to_string());
            let mut wanted: Vec<Value> = lost
                .iter()
                .map(|id| {
                    let lost = rows[id.as_str()].state_lost.clone().unwrap();
                    assert_eq!(lost.node.as_str(), "c");
                    json!({"child_id": id, "epoch": lost.epoch, "version": lost.version, "node": "c"})
                })
                .collect();
            wanted.sort_by_key(|payload| payload["child_id"].to_string());
            (told != wanted).then(|| format!("{node}: {told:?}, not {wanted:?}"))
        });
    }
    cluster.hubs[0].acknowledge_loss(&child_id(lost[0])).wait().unwrap();
    for hub in &cluster.hubs {
        eventually("it is acknowledged everywhere", || hub.child_lookup(lost[0]).unwrap().state_lost.is_none());
        assert_eq!(hub.child_lookup(lost[0]).unwrap().instances, rows[lost[0].as_str()].instances);
    }
}

#[test]
fn two_sides_ran_a_child_then_the_winner_tells_of_the_losers_state_and_the_loser_of_its_end() {
    let losses = Arc::new(Losses::default());
    let mut cluster =
        Cluster::new().losing(&losses).listening(HookName::ConflictResolved).listening(HookName::LostOwnership);
    cluster.join_all(&["a", "b"]);
    cluster.hubs[0].start_child(spec("both"), options()).wait().unwrap();
    cluster.settle();
    losses.split(["b"]);
    for (name, total) in [("a", "1"), ("b", "3")] {
        let hub = cluster.hub(name);
        eventually("it is alone", || hub.nodes(false).is_empty());
        let is_here = || hub.child_lookup("both").is_some_and(|row| nodes_of(&row) == [hub.node_name().clone()]);
        eventually("it runs on this side", is_here);
        let said: Vec<String> = (0..total.parse::<u32>().unwrap()).map(|_| ask(hub, "both", "add")).collect();
        assert_eq!(said.last().unwrap(), total);
    }
    let epochs = ["a", "b"].map(|name| cluster.hub(name).child_lookup("both").unwrap().instances[0].epoch);
    losses.heal();
    cluster.settle();
    let resolved = |cluster: &Cluster| ["a", "b"].map(|name| cluster.heard(name, HookName::ConflictResolved)).concat();
    eventually("it is resolved", || !resolved(&cluster).is_empty());
    let told = resolved(&cluster);
    let winner = told[0]["winner"].as_str().unwrap().to_owned();
    let (loser, total, epoch) = if winner == "a" { ("b", 3, epochs[1]) } else { ("a", 1, epochs[0]) };
    let state = json!({"total": total, "texts": {}});
    assert_eq!(told, [json!({"child_id": "both", "winner": winner, "loser": loser, "state": state})]);
    assert_told(&cluster, loser, HookName::LostOwnership, &[json!({"child_id": "both", "epoch": epoch})]);
    assert!(cluster.heard(&winner, HookName::LostOwnership).is_empty());
}

#[test]
fn the_last_node_that_offers_a_kind_leaves_then_its_children_are_unplaced_until_another_does() {
    let mut cluster = Cluster::new().listening(HookName::ChildUnplaced);
    cluster.join_all(&["a", "b"]);
    let rare = ChildSpec::new("rare", "rare").unwrap();
    let census = Arc::clone(&cluster.census);
    cluster.hub("b").register("rare", counter_kind(Arc::clone(&census))).wait().unwrap();
    cluster.hub("b").start_child(rare, options()).wait().unwrap();
    cluster.take("b").stop(PATIENCE).unwrap();
    let why = "no member of the hub registered the kind `rare`";
    assert_told(&cluster, "a", HookName::ChildUnplaced, &[json!({"child_id": "rare", "why": why})]);
    let place = cluster.hubs[0].where_is(&child_id("rare")).wait().unwrap();
    assert_eq!((&place["unplaced"], &place["owner"], &place["placement"]), (&json!(why), &Value::Null, &json!([])));
    cluster.hub("a").register("rare", counter_kind(census)).wait().unwrap();
    eventually("it runs again", || ask(&cluster.hubs[0], "rare", "node") == "a");
    let place = cluster.hubs[0].where_is(&child_id("rare")).wait().unwrap();
    assert_eq!((&place["unplaced"], &place["owner"]), (&Value::Null, &json!("a")));
}

#[test]
fn a_hub_ends_in_order_or_is_halted_then_it_tells_so_last() {
    let mut cluster = Cluster::new().listening(HookName::HubShutdown).listening(HookName::DrainCompleted);
    cluster.join_all(&["a", "b"]);
    let report = cluster.take("b").stop(PATIENCE).unwrap();
    assert_told(&cluster, "b", HookName::HubShutdown, &[json!({"reason": "stopped"})]);
    assert_told(&cluster, "b", HookName::DrainCompleted, &[json!({"report": report})]);
    let order: Vec<HookName> = cluster.heard_in_order("b").into_iter().map(|it| it.0).collect();
    assert_eq!(order, [HookName::DrainCompleted, HookName::HubShutdown]);
    let halted = cluster.take("a");
    assert!(halted.halt(PATIENCE));
    eventually("it is told", || cluster.heard("a", HookName::HubShutdown).len() == 1);
    let told = cluster.heard("a", HookName::HubShutdown);
    assert!(told[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{told:?}");
}
