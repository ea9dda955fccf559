//! Operations beside those of the scenarios: what they answer is what is, or comes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use process_hub::config::Migration;
use process_hub::engine::PlanChange;
use process_hub::error::ErrorKind;
use process_hub::host::call::{HostFailure, StopReason};
use process_hub::host::{Child, Context, kind_fn};
use process_hub::hub::Hub;
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;
use process_hub_tests::cluster::{
    COUNTER, Cluster, Losses, PATIENCE, Step, ask, child_id, eventually, nodes_of, options, owner, spec,
};
use serde_json::{Value, json};

/// `(id, from, to)` of a plan.
fn moves_of(plan: &Value) -> BTreeSet<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let moves = plan["moves"].as_array().unwrap().iter();
    moves.map(|one| (text(&one["id"]), text(&one["from"]), text(&one["to"]))).collect()
}

/// What has moved since then.
fn moved_since(before: &[(String, String)], hub: &Hub) -> BTreeSet<(String, String, String)> {
    let rows = hub.process_registry();
    let now = |id: &str| nodes_of(&rows[id])[0].to_string();
    let moved = before.iter().filter(|(id, node)| now(id) != *node);
    moved.map(|(id, node)| (id.clone(), node.clone(), now(id))).collect()
}

fn places(cluster: &Cluster) -> Vec<(String, String)> {
    cluster.registry().into_iter().map(|(id, row)| (id.to_string(), nodes_of(&row)[0].to_string())).collect()
}

#[test]
fn plan_then_what_it_tells_is_what_moves_when_it_is_done_and_nothing_before() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.start_counters(100);
    let before = places(&cluster);
    let join = json!({"join": [{"name": "c", "kinds": [COUNTER], "weight": 1.0}]});
    let plan = cluster.hubs[1].plan(PlanChange::from_json(&join).unwrap()).wait().unwrap();
    let same = cluster.hubs[0].plan(PlanChange::from_json(&join).unwrap()).wait().unwrap();
    assert_eq!(moves_of(&same), moves_of(&plan));
    assert_eq!(places(&cluster), before, "nothing is done");
    assert!(!moves_of(&plan).is_empty());
    cluster.join_all(&["c"]);
    assert_eq!(moved_since(&before, &cluster.hubs[0]), moves_of(&plan));

    let before = places(&cluster);
    let leave = PlanChange::from_json(&json!({"leave": ["a"]})).unwrap();
    let plan = cluster.hub("b").plan(leave).wait().unwrap();
    cluster.take("a").stop(PATIENCE).unwrap();
    cluster.settle();
    assert_eq!(moved_since(&before, &cluster.hubs[0]), moves_of(&plan));
}

#[test]
fn sync_then_every_member_has_what_was_written_here_or_it_says_that_they_have_not() {
    let losses = Arc::new(Losses::default());
    let mut cluster = Cluster::new().losing(&losses);
    cluster.join_all(&["a", "b", "c"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b", "c"], id) == "a").unwrap();
    losses.deafen(["c"]);
    cluster.hub("a").start_child(spec(&id), options()).wait().unwrap();
    let error = cluster.hub("a").sync(Duration::from_millis(300)).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(cluster.hub("c").child_lookup(&id).is_none());
    losses.heal();
    cluster.hub("a").sync(PATIENCE).wait().unwrap();
    for hub in &cluster.hubs {
        assert!(hub.child_lookup(&id).is_some(), "{} has it, without a wait", hub.node_name());
    }
}

#[test]
fn where_then_it_tells_the_step_of_a_move_and_afterwards_the_move() {
    let mut cluster = Cluster::of(&["a"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
    cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
    cluster.census.close_gate(Step::Prepare, &id);
    cluster.join("b");
    cluster.census.await_at_gate(Step::Prepare, &id, 1);
    let place = |hub: &Hub| hub.where_is(&child_id(&id)).wait().unwrap();
    let (at_a, at_b) = (place(cluster.hub("a")), place(cluster.hub("b")));
    assert_eq!(at_a["moving"], json!({"from": "a", "to": "b", "step": "snapshotting"}));
    assert_eq!(at_b["moving"], json!({"from": "a", "to": "b", "step": "receiving"}));
    assert_eq!((&at_a["owner"], &at_a["placement"]), (&json!("b"), &json!(["b"])));
    assert_eq!(at_a["rows"]["instances"][0]["node"], "a");
    cluster.census.open_gate(Step::Prepare, &id);
    cluster.settle();
    let at_a = place(cluster.hub("a"));
    assert_eq!((&at_a["moving"], &at_a["unplaced"]), (&Value::Null, &Value::Null));
    let moves = at_a["last_moves"].as_array().unwrap();
    assert_eq!((moves.len(), &moves[0]["from"], &moves[0]["to"]), (1, &json!("a"), &json!("b")));
    assert!(moves[0]["at_ms"].as_u64().unwrap() > 1_700_000_000_000 && moves[0]["why"].is_string());
    let error = cluster.hubs[0].where_is(&child_id("nobody")).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

/// Contexts of the instances, and how many live.
#[derive(Default)]
struct Kept {
    contexts: Mutex<Vec<Context>>,
    live: AtomicUsize,
}

struct Keeper(Arc<Kept>);

impl Child for Keeper {
    fn start(&mut self, ctx: &Context, _: Payload) -> Result<(), HostFailure> {
        self.0.contexts.lock().unwrap().push(ctx.clone());
        self.0.live.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn handle(&mut self, ctx: &Context, _: Payload) -> Result<Payload, HostFailure> {
        Ok(Payload::bytes(ctx.node().to_string().into_bytes()))
    }

    fn stop(&mut self, _: StopReason) {
        self.0.live.fetch_sub(1, Ordering::AcqRel);
    }
}

#[test]
fn retention_handled_then_the_old_instance_stops_long_before_its_time() {
    let kept = Arc::new(Kept::default());
    let long = Migration::HotSwap {
        retention: Duration::from_secs(3600),
        handover: false,
        confirm_handover: false,
        handover_data_wait: Duration::from_secs(3),
        child_migration_timeout: Duration::from_secs(10),
    };
    let mut cluster = Cluster::migrating_by(long);
    let join = |cluster: &mut Cluster, name: &str| {
        let kept = Arc::clone(&kept);
        let hub = cluster.builder(name).kind("keeper", kind_fn(false, move || Box::new(Keeper(Arc::clone(&kept)))));
        cluster.add(hub.start().unwrap());
    };
    join(&mut cluster, "a");
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
    cluster.hubs[0].start_child(ChildSpec::new(&id, "keeper").unwrap(), options()).wait().unwrap();
    join(&mut cluster, "b");
    eventually("it moved", || nodes_of(&cluster.hubs[0].child_lookup(&id).unwrap())[0].as_str() == "b");
    assert_eq!(ask(&cluster.hubs[0], &id, "who"), "b", "the old one is fenced");
    assert_eq!(kept.live.load(Ordering::Acquire), 2, "and lives on");
    let old = kept.contexts.lock().unwrap().iter().find(|ctx| ctx.node().as_str() == "a").unwrap().clone();
    old.retention_handled();
    eventually("the old one stops", || kept.live.load(Ordering::Acquire) == 1);
    assert_eq!(ask(&cluster.hubs[0], &id, "who"), "b");
}
