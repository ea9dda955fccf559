//! What is told to those who subscribed.

use serde_json::{Value, json};

use crate::agents::cluster::{Mix, keys};

const HOOKS: &[&str] = &[
    "pre_cluster_join",
    "post_cluster_join",
    "pre_cluster_leave",
    "post_cluster_leave",
    "pre_nodes_redistribution",
    "post_nodes_redistribution",
    "pre_children_start",
    "post_children_start",
    "registry_pid_inserted",
    "registry_pid_removed",
    "child_process_pid_updated",
    "children_migrated",
    "handover_confirmed",
    "priority_state_updated",
    "partition_changed",
];

/// A node joins, a child starts, moves and stops, and the node leaves: told on every node, with the exact payloads.
pub(crate) fn hooks(mix: &Mix) {
    let mut cluster = mix.hubs("hooks", json!({}));
    let agents = mix.agents();
    for agent in &agents[..2] {
        let member = cluster.join(agent);
        for hook in HOOKS {
            assert_eq!(member.ask("subscribe", json!({"hook": hook})), Value::Null);
        }
    }
    cluster.settle();
    let watching = cluster.members.clone();
    let third = cluster.join(&agents[2]);
    cluster.settle();
    for member in &watching {
        for hook in ["pre_cluster_join", "post_cluster_join"] {
            let payload = member.hook(hook, |payload| payload["node"] == third.name());
            assert_eq!(payload, json!({"node": third.name()}), "{hook}");
        }
        for hook in ["pre_nodes_redistribution", "post_nodes_redistribution"] {
            let payload = member.hook(hook, |payload| payload["node"] == third.name());
            assert_eq!(keys(&payload), ["event", "node"], "{hook}");
        }
    }
    let home = third.start_spec(json!({"id": "told", "kind": "probe", "require": {"name": watching[0].name()}}));
    assert_eq!(home, watching[0].name());
    for hook in ["pre_children_start", "post_children_start"] {
        let is_it = |payload: &Value| payload["children"].to_string().contains("told");
        assert_eq!(keys(&watching[0].hook(hook, is_it)), ["children"], "{hook}");
    }
    for member in &watching {
        let payload = member.hook("registry_pid_inserted", |payload| payload["child_id"] == "told");
        assert_eq!(keys(&payload), ["child_id", "instances"]);
        assert_eq!(payload["instances"][0]["node"], home.as_str());
    }
    for member in &watching {
        assert_eq!(member.ask("subscribe", json!({"hook": "child_data_alter"})), Value::Null);
        let id = format!("asked-{}", member.name());
        let home = member.start_probe(&id, json!({"data": {"n": 1}}));
        let payload = member.hook("child_data_alter", |payload| payload["spec"]["id"] == id.as_str());
        assert_eq!((keys(&payload), &payload["nodes"]), (vec!["nodes", "spec"], &json!([home])));
        assert_eq!(payload["spec"], member.row(&id)["spec"]);
        member.ask("stop_children", json!({"ids": [id]}));
    }
    let free = third.start_probe("free", Value::Null);
    let giver = cluster.members.iter().find(|member| member.name() == free).unwrap().clone();
    giver.ask("subscribe", json!({"hook": "children_migrated"}));
    giver.ask("subscribe", json!({"hook": "handover_confirmed"}));
    giver.ask("drain", json!({"timeout_ms": 20_000}));
    let payload = giver.hook("children_migrated", |payload| payload["children"].to_string().contains("free"));
    assert_eq!(keys(&payload), ["children", "node"]);
    assert_eq!(payload["children"], json!([{"id": "free", "state": "handed_over"}]));
    let confirmed = giver.hook("handover_confirmed", |payload| payload["child_id"] == "free");
    assert_eq!(confirmed, json!({"child_id": "free", "from": free, "to": payload["node"]}));
    third.call("free", json!({"op": "crash"})).expect_err("it crashes");
    for member in &watching {
        let updated = member.hook("child_process_pid_updated", |payload| payload["child_id"] == "free");
        assert_eq!((keys(&updated), &updated["node"]), (vec!["child_id", "epoch", "node"], &payload["node"]));
    }
    third.ask("stop_children", json!({"ids": ["free"]}));
    for member in &watching {
        let payload = member.hook("registry_pid_removed", |payload| payload["child_id"] == "free");
        assert_eq!(keys(&payload), ["child_id", "instances"]);
    }
    third.ask("stop_hub", json!({"timeout_ms": 20_000}));
    cluster.remove(&third);
    for member in &watching {
        for hook in ["pre_cluster_leave", "post_cluster_leave"] {
            let payload = member.hook(hook, |payload| payload["node"] == third.name());
            assert_eq!(payload, json!({"node": third.name()}), "{hook}");
        }
    }
    cluster.stop();
}
