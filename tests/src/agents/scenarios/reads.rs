//! What a hub knows: lookups, queries, and what it tells of itself.

use serde_json::{Value, json};

use crate::agents::cluster::{Member, Mix, eventually_or, keys};

/// Starts a child on each member; those with an even number are tagged.
fn one_on_each(members: &[Member]) -> Vec<String> {
    let specs: Vec<Value> = members
        .iter()
        .enumerate()
        .map(|(n, member)| {
            let metadata = if n % 2 == 0 { json!({"tag": "even", "owner": {"of": [n]}}) } else { json!({}) };
            let require = json!({"name": member.name()});
            let args = json!({"data": {"n": n}});
            json!({"id": format!("child:{n}"), "kind": "probe", "args": args, "metadata": metadata, "require": require})
        })
        .collect();
    let result = members[0].ask("start_children", json!({"specs": specs}));
    assert_eq!(result["errors"], json!([]));
    (0..members.len()).map(|n| format!("child:{n}")).collect()
}

/// Every language gives the same rows, with the exact shapes.
pub(crate) fn lookups(mix: &Mix) {
    let cluster = mix.cluster("lookups");
    let ids = one_on_each(&cluster.members);
    assert_eq!(cluster.members[0].ask("sync", json!({"timeout_ms": 9000})), Value::Null);
    let rows: Vec<(&str, &str)> =
        ids.iter().map(String::as_str).zip(cluster.members.iter().map(Member::name)).collect();
    cluster.await_rows(&rows);
    let all: Vec<Value> = ids.iter().map(|id| cluster.members[0].row(id)).collect();
    for (n, row) in all.iter().enumerate() {
        assert_eq!(keys(row), ["id", "instances", "metadata", "spec", "state_lost"]);
        assert_eq!(
            row["spec"],
            json!({
                "id": ids[n], "kind": "probe", "args": {"data": {"n": n}}, "metadata": row["metadata"],
                "restart": "permanent", "on_error": "continue", "require": {"name": rows[n].1}, "shutdown_ms": 5000,
            })
        );
        assert_eq!(keys(&row["instances"][0]), ["epoch", "mode", "node", "since_ms"]);
        assert_eq!((&row["instances"][0]["mode"], &row["state_lost"]), (&json!("active"), &Value::Null));
        assert!(row["instances"][0]["since_ms"].as_u64().unwrap() > 1_700_000_000_000, "{row}");
    }
    let even: Vec<&Value> = all.iter().step_by(2).collect();
    for member in &cluster.members {
        let registry = member.ask("process_registry", json!({}));
        assert_eq!(registry, Value::Object(ids.iter().cloned().zip(all.iter().cloned()).collect()));
        for (id, row) in ids.iter().zip(&all) {
            assert_eq!(member.row(id), *row);
        }
        assert_eq!(member.row("nobody"), Value::Null);
        assert_eq!(member.ask("tag_query", json!({"tag": "even"})), json!(even));
        assert_eq!(member.ask("tag_query", json!({"tag": "odd"})), json!([]));
        assert_eq!(member.ask("metadata_query", json!({"key": "owner"})), json!(even));
        let own: Vec<&str> = rows.iter().filter(|(_, node)| *node == member.name()).map(|(id, _)| *id).collect();
        assert_eq!(member.ask("which_children", json!({})), json!({member.name(): own}));
        assert_eq!(member.ask("which_children", json!({"scope": "local"})), json!({member.name(): own}));
        let everywhere: serde_json::Map<String, Value> =
            rows.iter().map(|(id, node)| ((*node).to_owned(), json!([id]))).collect();
        assert_eq!(member.ask("which_children", json!({"scope": "global"})), Value::Object(everywhere));
        let mut names: Vec<&str> = cluster.members.iter().map(Member::name).collect();
        names.sort_unstable();
        assert_eq!(member.ask("nodes", json!({"include_local": true})), json!(names));
        names.retain(|name| *name != member.name());
        assert_eq!(member.ask("nodes", json!({})), json!(names));
    }
    cluster.stop();
}

/// `where`, `plan`, the flags, the metrics and the counts.
pub(crate) fn observing(mix: &Mix) {
    let cluster = mix.cluster("observing");
    let first = &cluster.members[0];
    let home = first.start_probe("watched", Value::Null);
    for member in &cluster.members {
        let row = member.await_row("watched", &home);
        let told = member.ask("where", json!({"child_id": "watched"}));
        let wanted = json!({
            "id": "watched", "owner": home, "placement": [home], "rows": row, "moving": null, "unplaced": null,
            "last_moves": [],
        });
        assert_eq!(told, wanted);
        let nobody = member.request("where", json!({"child_id": "nobody"})).expect_err("nobody is nowhere");
        assert_eq!(nobody.kind(), "not_found");

        let plan = member.ask("plan", json!({"leave": [home]}));
        assert_eq!(keys(&plan["moves"][0]), ["from", "id", "to"]);
        assert_eq!((&plan["moves"][0]["id"], &plan["moves"][0]["from"]), (&json!("watched"), &json!(home)));
        assert_eq!(plan, member.ask("plan", json!({"change": {"leave": [home]}})));
        let joins = json!([{"name": "huge", "kinds": ["probe"], "weight": 1000}]);
        let plan = member.ask("plan", json!({"join": joins}));
        assert_eq!(plan, json!({"moves": [{"id": "watched", "from": home, "to": "huge"}]}));
        assert_eq!(member.ask("plan", json!({"join": []})), json!({"moves": []}));

        for (flag, value) in [("is_alive", true), ("is_locked", false), ("is_partitioned", false)] {
            assert_eq!(member.ask(flag, json!({})), value, "{flag}");
        }
        let metrics = member.ask("metrics_text", json!({}));
        for line in ["# TYPE process_hub_children gauge", "# EOF"] {
            assert!(metrics.as_str().unwrap().lines().any(|found| found == line), "{line}: {metrics}");
        }
        assert!(metrics.as_str().unwrap().contains("hub=\"observing\""), "{metrics}");
        let stats = member.ask("debug_stats", json!({}));
        let wanted = ["children", "descriptors", "handles", "hubs", "instances", "queued_bytes", "threads"];
        assert_eq!(keys(&stats), wanted);
        assert!(stats.as_object().unwrap().values().all(Value::is_u64), "{stats}");
        assert_eq!((&stats["children"], stats["hubs"].as_u64() >= Some(2)), (&json!(1), true), "{stats}");
        assert_eq!(stats["instances"], u64::from(member.name() == home), "{stats}");
        assert_eq!(member.ask("sync", json!({})), Value::Null);
    }
    // What began is counted as long as it is there.
    first.ask("stop_children", json!({"ids": ["watched"]}));
    for member in &cluster.members {
        eventually_or(&format!("{} counts nothing", member.name()), || {
            let stats = member.ask("debug_stats", json!({}));
            (stats["children"] != 0 || stats["instances"] != 0).then(|| stats.to_string())
        });
    }
    cluster.stop();
}
