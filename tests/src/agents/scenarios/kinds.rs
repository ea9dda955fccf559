//! Kinds that only some nodes offer: placement, drain and failover go by them.

use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Mix, eventually_or};
use crate::agents::process::Signal;

const SHARED: usize = 8;

fn nodes_of(cluster: &Cluster<'_>) -> Vec<String> {
    let rows = cluster.members[0].ask("process_registry", json!({}));
    let shared = rows.as_object().unwrap().values().filter(|row| row["spec"]["kind"] == "shared");
    let instances = shared.flat_map(|row| row["instances"].as_array().unwrap().clone());
    instances.map(|instance| instance["node"].as_str().unwrap().to_owned()).collect()
}

fn await_shared_on(cluster: &Cluster<'_>, allowed: &[&str]) {
    eventually_or(&format!("the shared children are on {allowed:?}"), || {
        let nodes = nodes_of(cluster);
        let is_right = nodes.len() == SHARED && nodes.iter().all(|node| allowed.contains(&node.as_str()));
        (!is_right).then(|| format!("{nodes:?}"))
    });
}

/// A kind of one node, a kind of two, and what becomes of their children.
pub(crate) fn kinds(mix: &Mix) {
    let mut cluster = mix.hubs("kinds", json!({}));
    let agents = mix.agents();
    let none = cluster.join_offering(&agents[0], &[]);
    let two = cluster.join_offering(&agents[1], &["alone", "shared"]);
    let one = cluster.join_offering(&agents[2], &["shared"]);
    cluster.settle();
    let specs: Vec<Value> = (0..SHARED).map(|n| json!({"id": format!("shared:{n}"), "kind": "shared"})).collect();
    let result = none.ask("start_children", json!({"specs": specs}));
    assert_eq!(result["errors"], json!([]));
    await_shared_on(&cluster, &[two.name(), one.name()]);
    assert_eq!(none.start_spec(json!({"id": "alone", "kind": "alone", "args": {"data": {"n": 7}}})), two.name());
    let refused = one.ask("start_children", json!({"specs": [{"id": "odd", "kind": "probe"}]}));
    assert_eq!(refused["errors"][0]["kind"], "unknown_kind", "only what was asked for is registered");
    assert_eq!(one.row("odd"), Value::Null);

    for member in &cluster.members {
        member.ask("subscribe", json!({"hook": "child_unplaced"}));
    }
    let report = two.ask("drain", json!({"timeout_ms": 20_000}));
    assert_eq!(report["failed"].as_array().unwrap().len(), 1, "nobody else can run it: {report}");
    assert_eq!(report["failed"][0]["id"], "alone", "{report}");
    await_shared_on(&cluster, &[one.name()]);
    assert_eq!(none.told("alone", json!({"op": "state"})), json!({"n": 7}), "until then it goes on");
    let report = two.ask("stop_hub", json!({"timeout_ms": 20_000}));
    assert_eq!(report["stopped"], json!(["alone"]), "{report}");
    cluster.remove(&two);
    cluster.settle();
    eventually_or("alone is nowhere", || {
        let told = none.ask("where", json!({"child_id": "alone"}));
        let is_right = told["unplaced"].is_string() && told["rows"]["instances"] == json!([]);
        (!is_right).then(|| told.to_string())
    });
    let told = cluster.members.iter().flat_map(|member| member.agent.events("kinds"));
    let unplaced: Vec<Value> = told.filter(|event| event["hook"] == "child_unplaced").collect();
    assert!(unplaced.iter().any(|event| event["payload"]["child_id"] == "alone"), "{unplaced:?}");
    let error = none.request("call", json!({"child_id": "alone", "message": {"op": "state"}, "timeout_ms": 400}));
    assert_eq!(error.expect_err("it waits for nobody").kind(), "not_active");

    // Who offers the kind again gets the child again.
    let back = cluster.join_offering(&agents[1], &["alone"]);
    cluster.settle();
    none.await_row("alone", back.name());

    // A failover goes to those who offer the kind, too.
    let language = *mix.languages.last().unwrap();
    let victim_agent = mix.agent(language);
    let victim = cluster.join_offering(&victim_agent, &["shared"]);
    cluster.settle();
    one.ask("drain", json!({"timeout_ms": 20_000}));
    await_shared_on(&cluster, &[victim.name()]);
    one.ask("stop_hub", json!({}));
    cluster.remove(&one);
    let one = cluster.join_offering(&agents[2], &["shared"]);
    cluster.settle();
    victim_agent.signal(Signal::Kill);
    cluster.remove(&victim);
    await_shared_on(&cluster, &[one.name()]);
    cluster.settle();
    cluster.stop();
}
