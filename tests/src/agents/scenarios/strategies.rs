//! Strategies other than the usual ones, over hubs of every language.

use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Mix, eventually_or, text};

/// A hub on each standing agent, with these options.
fn cluster<'a>(mix: &'a Mix, name: &str, options: Value) -> Cluster<'a> {
    let mut cluster = mix.hubs(name, options);
    for agent in mix.agents() {
        cluster.join(agent);
    }
    cluster.settle();
    cluster
}

/// Waits until no registry has anything.
fn await_empty(cluster: &Cluster<'_>) {
    for member in &cluster.members {
        eventually_or(&format!("the registry of {} is empty", member.name()), || {
            let rows = member.ask("process_registry", json!({}));
            (rows != json!({})).then(|| rows.to_string())
        });
    }
}

/// Children go where the start says, and nowhere else; what says nothing sensible is refused and starts nothing.
pub(crate) fn guided(mix: &Mix) {
    let cluster = cluster(mix, "guided", json!({"distribution": {"type": "guided"}}));
    let names: Vec<&str> = cluster.members.iter().map(|member| member.name()).collect();
    for (at, member) in cluster.members.iter().enumerate() {
        let id = |n: usize| format!("{}-{n}", member.name());
        let home = |n: usize| names[(at + n) % names.len()];
        let specs: Vec<Value> = (0..6).map(|n| json!({"id": id(n), "kind": "probe"})).collect();
        let start = |child_mapping: Value| {
            let options = json!({"timeout_ms": 20_000, "child_mapping": child_mapping});
            member.request("start_children", json!({"specs": specs, "options": options}))
        };
        let mapping = |count: usize| (0..count).map(|n| (id(n), json!([home(n)]))).collect::<Value>();
        for (wrong, kind) in [
            (Value::Null, "missing_child_mapping"),
            (json!([names[0]]), "invalid_child_mapping"),
            (json!({id(0): names[0]}), "invalid_child_mapping"),
            (mapping(5), "child_mapping_mismatch"),
            ((0..6).map(|n| (id(n), json!([home(n), home(n + 1)]))).collect(), "child_replication_mismatch"),
        ] {
            let told = wrong.to_string();
            assert_eq!(start(wrong).map_err(|error| error.kind().to_owned()), Err(kind.to_owned()), "{told}");
        }
        assert_eq!(member.row(&id(0)), Value::Null, "nothing was started");
        let result = start(mapping(6)).expect("it starts");
        assert_eq!(result["errors"], json!([]), "{result}");
        for (n, started) in result["started"].as_array().into_iter().flatten().enumerate() {
            assert_eq!((&started["id"], &started["instances"][0]["node"]), (&json!(id(n)), &json!(home(n))));
        }
        for n in 0..6 {
            cluster.await_rows(&[(&id(n), home(n))]);
            let other = &cluster.members[(at + 1) % cluster.members.len()];
            assert_eq!(other.told(&id(n), json!({"op": "who"}))["node"], home(n));
        }
        let stopped = member.ask("stop_children", json!({"ids": (0..6).map(id).collect::<Vec<_>>()}));
        assert_eq!(stopped["errors"], json!([]));
    }
    await_empty(&cluster);
    cluster.stop();
}

/// Every registry has what every member starts and stops, though the author tells one other only.
pub(crate) fn gossip(mix: &Mix) {
    let options = json!({"synchronization": {"type": "gossip", "recipients": 1, "sync_interval_ms": 1000}});
    let cluster = cluster(mix, "gossip", options);
    let ids: Vec<Vec<String>> = cluster
        .members
        .iter()
        .map(|member| {
            let ids: Vec<String> = (0..8).map(|n| format!("{}-{n}", member.name())).collect();
            let spec = |id: &String| json!({"id": id, "kind": "probe", "metadata": {"tag": member.name()}});
            let specs: Vec<Value> = ids.iter().map(spec).collect();
            let result = member.ask("start_children", json!({"specs": specs, "options": {"timeout_ms": 20_000}}));
            assert_eq!(result["errors"], json!([]), "{result}");
            ids
        })
        .collect();
    for member in &cluster.members {
        eventually_or(&format!("{} knows of all", member.name()), || {
            let count = member.ask("process_registry", json!({})).as_object().map_or(0, |rows| rows.len());
            (count != 8 * ids.len()).then(|| format!("it knows {count}"))
        });
        for (author, ids) in cluster.members.iter().zip(&ids) {
            let tagged = member.ask("tag_query", json!({"tag": author.name()}));
            assert_eq!(tagged.as_array().map(Vec::len), Some(8), "{tagged}");
            let there = member.told(&ids[0], json!({"op": "who"}))["node"].clone();
            assert_eq!(text(&there), text(&member.row(&ids[0])["instances"][0]["node"]));
        }
    }
    for (member, ids) in cluster.members.iter().rev().zip(&ids) {
        assert_eq!(member.ask("stop_children", json!({"ids": ids}))["errors"], json!([]));
    }
    await_empty(&cluster);
    cluster.stop();
}
