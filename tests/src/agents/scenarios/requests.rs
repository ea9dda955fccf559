//! Starting and stopping children.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agents::cluster::{Member, Mix, eventually_or, keys};

fn start(member: &Member, specs: Value, options: Value) -> Value {
    let result = member.ask("start_children", json!({"specs": specs, "options": options}));
    assert_eq!(keys(&result), ["errors", "rollback", "started", "status"]);
    let is_whole = result["errors"].as_array().unwrap().is_empty();
    assert_eq!(result["status"], if is_whole { "ok" } else { "error" });
    for started in result["started"].as_array().unwrap() {
        assert_eq!(keys(started), ["id", "instances"]);
        for instance in started["instances"].as_array().unwrap() {
            assert_eq!(keys(instance), ["epoch", "node"]);
        }
    }
    for error in result["errors"].as_array().unwrap() {
        assert_eq!(keys(error), ["id", "kind", "message", "node"]);
    }
    result
}

fn ids<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().filter_map(|item| item[key].as_str()).collect()
}

fn await_gone(member: &Member, child: &str) {
    eventually_or(&format!("{} forgets {child}", member.name()), || {
        let row = member.row(child);
        (!row.is_null()).then(|| row.to_string())
    });
}

/// Each member starts children anywhere and stops them, waiting and not.
pub(crate) fn starts_and_stops(mix: &Mix) {
    let cluster = mix.cluster("starts_and_stops");
    for (member, other) in cluster.members.iter().zip(cluster.members.iter().cycle().skip(1)) {
        let id = |what: &str| format!("{what}-{}", member.name());
        let (one, two, silent) = (id("one"), id("two"), id("silent"));
        let specs = json!([{"id": one, "kind": "probe"}, {"id": two, "kind": "probe"}]);
        let result = start(member, specs.clone(), Value::Null);
        assert_eq!((&result["errors"], &result["rollback"]), (&json!([]), &json!(false)));
        assert_eq!(ids(&result["started"], "id"), [&one, &two]);
        // Callable from here, now, and known here.
        let row = member.row(&one);
        assert_eq!(row["instances"][0]["node"], result["started"][0]["instances"][0]["node"]);
        assert_eq!(member.told(&one, json!({"op": "who"}))["start_reason"], "initial");

        let again = start(other, specs.clone(), json!({"check_existing": false}));
        assert_eq!(ids(&again["errors"], "kind"), ["already_started", "already_started"]);
        let same = start(other, specs, json!({"if_exists": "return"}));
        assert_eq!((&same["status"], &same["started"]), (&json!("ok"), &result["started"]));

        let stopped = other.ask("stop_children", json!({"ids": [one, "nobody"], "options": {"timeout_ms": 9000}}));
        assert_eq!(keys(&stopped), ["errors", "status", "stopped"]);
        assert_eq!(stopped["status"], "error");
        assert_eq!(stopped["stopped"], json!([{"id": one, "nodes": [row["instances"][0]["node"]]}]));
        assert_eq!(keys(&stopped["errors"][0]), ["id", "kind", "message", "node"]);
        assert_eq!(
            (&stopped["errors"][0]["id"], &stopped["errors"][0]["kind"]),
            (&json!("nobody"), &json!("not_found"))
        );
        await_gone(member, &one);

        let specs = json!([{"id": silent, "kind": "probe"}]);
        let initiated = member.ask("start_children", json!({"specs": specs, "wait": false}));
        assert_eq!(initiated, "start_initiated");
        eventually_or(&format!("{silent} is there"), || {
            let row = other.row(&silent);
            row["instances"].as_array().is_none_or(Vec::is_empty).then(|| row.to_string())
        });
        let initiated = other.ask("stop_children", json!({"ids": [silent, two], "wait": false}));
        assert_eq!(initiated, "stop_initiated");
        await_gone(member, &silent);
        await_gone(member, &two);
    }
    cluster.stop();
}

/// One that fails refuses none of the others, unless all or none are asked for.
pub(crate) fn start_options(mix: &Mix) {
    let cluster = mix.cluster("start_options");
    for member in &cluster.members {
        let id = |what: &str| format!("{what}-{}", member.name());
        let (good, bad, odd, wrong) = (id("good"), id("bad"), id("odd"), id("wrong"));
        let specs = json!([
            {"id": good, "kind": "probe"},
            {"id": bad, "kind": "probe", "args": {"fail": "not today"}},
            {"id": odd, "kind": "nobody_has_this"},
            {"id": wrong, "kind": "probe", "colour": 1},
        ]);
        let result = start(member, specs, json!({"metadata": {"tag": "filled"}, "on_failure": "continue"}));
        assert_eq!(ids(&result["started"], "id"), [&good]);
        let mut errors: Vec<(&str, &str)> =
            ids(&result["errors"], "id").into_iter().zip(ids(&result["errors"], "kind")).collect();
        errors.sort_unstable();
        let wanted = [(&*bad, "start_failed"), (&*odd, "unknown_kind"), (&*wrong, "invalid_argument")];
        assert_eq!(errors, wanted, "{result}");
        let failed = result["errors"].as_array().unwrap().iter().find(|error| error["id"] == bad.as_str()).unwrap();
        assert!(failed["message"].as_str().unwrap().contains("not today"), "{failed}");
        assert_eq!(member.row(&good)["metadata"], json!({"tag": "filled"}));
        assert_eq!(member.row(&bad), Value::Null, "a failed first start wants nothing");

        let (kept, undone) = (id("kept"), id("undone"));
        let specs = json!([
            {"id": undone, "kind": "probe", "metadata": {"tag": "own"}},
            {"id": id("fails"), "kind": "probe", "args": {"fail": "on purpose"}},
        ]);
        let begin = Instant::now();
        let result = start(member, specs, json!({"on_failure": "rollback", "timeout_ms": 9000}));
        assert_eq!(result["rollback"], true);
        assert!(begin.elapsed() < Duration::from_secs(4), "a stop right after the start waited for `shutdown_ms`");
        await_gone(member, &undone);

        // All or none: what is known is asked about before anything begins, unless that is switched off.
        let (unborn, born) = (id("unborn"), id("born"));
        for (new, checks) in [(&unborn, Value::Null), (&born, json!(false))] {
            let specs = json!([{"id": new, "kind": "probe"}, {"id": good, "kind": "probe"}]);
            let result = start(member, specs, json!({"on_failure": "rollback", "check_existing": checks}));
            assert_eq!((&result["rollback"], ids(&result["errors"], "id")), (&json!(true), vec![&*good]), "{result}");
            assert_eq!(ids(&result["started"], "id"), if checks.is_null() { vec![] } else { vec![&**new] }, "{result}");
        }
        assert!(cluster.members.iter().all(|member| member.callbacks(&unborn).is_empty()));
        let nameless = start(member, json!([{"kind": "probe"}]), json!({}));
        assert_eq!(
            (&nameless["errors"][0]["id"], &nameless["errors"][0]["kind"]),
            (&Value::Null, &json!("invalid_argument"))
        );

        let specs = json!([{"id": kept, "kind": "probe", "metadata": {"tag": "own"}}]);
        start(member, specs, json!({"metadata": {"tag": "filled", "more": [1]}}));
        assert_eq!(member.row(&kept)["metadata"], json!({"tag": "own", "more": [1]}), "fills what the spec leaves out");

        let late = id("late");
        let specs = json!([{"id": late, "kind": "probe", "args": {"start_delay_ms": 1000}}]);
        let result = start(member, specs, json!({"timeout_ms": 300}));
        // Whose deadline is noticed first, the request's or the callback's, is chance.
        let kinds = ids(&result["errors"], "kind");
        assert!(kinds == ["timeout"] || kinds == ["host_timeout"], "{result}");
        // It stays wanted: the call waits for it.
        assert_eq!(member.told(&late, json!({"op": "get", "key": "x"})), Value::Null);
    }
    cluster.stop();
}
