//! Children that end of their own accord.

use serde_json::{Value, json};

use crate::agents::cluster::{Member, Mix, eventually_or};

fn pinned(id: &str, home: &Member, args: &Value, restart: &str) -> Value {
    json!({"id": id, "kind": "probe", "args": args, "restart": restart, "require": {"name": home.name()}})
}

fn await_gone(member: &Member, child: &str) {
    eventually_or(&format!("{} forgets {child}", member.name()), || {
        let row = member.row(child);
        (!row.is_null()).then(|| row.to_string())
    });
}

/// A crash, a body that returns or throws, and `stop_self`.
pub(crate) fn exits(mix: &Mix) {
    let cluster = mix.cluster("exits");
    for (home, other) in cluster.members.iter().zip(cluster.members.iter().cycle().skip(1)) {
        home.ask("subscribe", json!({"hook": "child_failed"}));
        let id = |what: &str| format!("{what}-{}", home.name());

        let crashes = id("crashes");
        other.start_spec(pinned(&crashes, home, &json!({"data": {"n": 1}}), "transient"));
        let before = other.told(&crashes, json!({"op": "who"}));
        let error = other.call(&crashes, json!({"op": "crash"})).expect_err("it crashes while it handles this");
        assert_eq!(error.kind(), "child_failed");
        let after = other.told(&crashes, json!({"op": "who"}));
        assert_eq!(after["start_reason"], "restart");
        assert_ne!(after["instance"], before["instance"]);
        let hook = home.hook("child_failed", |payload| payload["child_id"] == crashes.as_str());
        assert_eq!((&hook["node"], hook["message"].is_string()), (&json!(home.name()), true), "{hook}");

        let returns = id("returns");
        let run = json!({"run": {"ms": 100, "then": "return"}});
        other.start_spec(pinned(&returns, home, &run, "temporary"));
        await_gone(other, &returns);

        let ends = id("ends");
        other.start_spec(pinned(&ends, home, &run, "transient"));
        await_gone(other, &ends);

        let again = id("again");
        other.start_spec(pinned(&again, home, &run, "permanent"));
        let restarted = home.agent.event(&cluster.hub_id, "a restart", |event| {
            event["child_id"] == again.as_str() && event["what"] == "start" && event["detail"] == "restart"
        });
        assert_eq!(restarted["node"], home.name());

        let throws = id("throws");
        let run = json!({"run": {"ms": 100, "then": "throw"}});
        other.start_spec(pinned(&throws, home, &run, "temporary"));
        await_gone(other, &throws);
        let hook = home.hook("child_failed", |payload| payload["child_id"] == throws.as_str());
        assert_eq!(hook["callback"], "run", "{hook}");
        assert!(hook["message"].as_str().unwrap().contains("the body throws"), "{hook}");

        let stops = id("stops");
        other.start_spec(pinned(&stops, home, &Value::Null, "permanent"));
        assert_eq!(other.told(&stops, json!({"op": "stop_self"})), "ok");
        await_gone(other, &stops);
        assert_eq!(home.event(&stops, "stop")["detail"], "stopped");
    }
    cluster.stop();
}

/// A child that uses up its budget stays wanted, is told everywhere, and starts again when asked to.
pub(crate) fn quarantine(mix: &Mix) {
    let options = json!({"restart": {"max_restarts": 2, "window_ms": 60_000, "backoff_ms": [10, 20]}});
    let mut cluster = mix.hubs("quarantine", options);
    for agent in mix.agents() {
        cluster.join(agent);
    }
    cluster.settle();
    for member in &cluster.members {
        member.ask("subscribe", json!({"hook": "child_quarantined"}));
    }
    for home in &cluster.members {
        let child = format!("doomed-{}", home.name());
        let args = json!({"run": {"ms": 50, "then": "throw"}});
        home.start_spec(pinned(&child, home, &args, "permanent"));
        for member in &cluster.members {
            let hook = member.hook("child_quarantined", |payload| payload["child_id"] == child.as_str());
            assert_eq!(hook, json!({"child_id": child, "node": home.name(), "restarts": 2}));
            let error = member.request("call", json!({"child_id": child, "message": {"op": "who"}, "timeout_ms": 300}));
            let error = error.expect_err("nobody is there");
            assert!(["not_active", "restart_limit"].contains(&error.kind()), "{error:?}");
        }
        let told = home.ask("where", json!({"child_id": child}));
        assert_eq!(told["rows"]["instances"], json!([]), "{told}");
    }
    cluster.stop();
}
