//! Messages between every pair of languages, and what goes wrong with them.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Member, Mix, keys, text};

/// A child pinned to each member, named after it.
fn pinned(cluster: &Cluster<'_>, on_error: &str) -> Vec<String> {
    let homes = cluster.members.iter().map(Member::name);
    let specs: Vec<Value> = homes
        .map(|home| json!({"id": home, "kind": "probe", "require": {"name": home}, "on_error": on_error}))
        .collect();
    let result = cluster.members[0].ask("start_children", json!({"specs": specs}));
    assert_eq!(result["errors"], json!([]));
    cluster.members.iter().map(|member| member.name().to_owned()).collect()
}

/// Values of every sort, which must come back as they are.
fn values() -> Value {
    json!([
        null, true, false, 0, -7, 9_007_199_254_740_991_u64, -9_007_199_254_740_991_i64, 1.5, -0.25, 1e300, "", "é😀\"\\\n\u{1}",
        [], {}, [[[1]], {"a": {"b": [null]}}], {"": 0, "ключ": "значение"},
    ])
}

/// Every caller gets from every child what it says, whatever the languages of both.
pub(crate) fn messages(mix: &Mix) {
    let cluster = mix.cluster("messages");
    let children = pinned(&cluster, "continue");
    for (child, home) in children.iter().zip(&cluster.members) {
        let mut instances = Vec::new();
        for (n, caller) in cluster.members.iter().enumerate() {
            let key = format!("by-{}", caller.name());
            assert_eq!(caller.told(child, json!({"op": "echo", "value": values()})), values());
            assert_eq!(caller.told(child, json!({"op": "get", "key": key})), Value::Null);
            assert_eq!(caller.told(child, json!({"op": "put", "key": key, "value": values()})), "ok");
            assert_eq!(caller.told(child, json!({"op": "get", "key": key})), values());
            assert_eq!(caller.told(child, json!({"op": "add", "key": "n", "n": 2})), 2 * (n + 1));
            assert_eq!(caller.told(child, json!({"op": "state"}))["n"], 2 * (n + 1));
            assert_eq!(caller.told(child, json!({"op": "sleep", "ms": 1})), "ok");
            let who = caller.told(child, json!({"op": "who"}));
            assert_eq!(keys(&who), ["epoch", "instance", "language", "mode", "node", "pid", "start_reason"]);
            assert_eq!((&who["language"], &who["pid"]), (&json!(home.agent.language.name()), &json!(home.agent.pid())));
            assert_eq!((&who["node"], &who["mode"]), (&json!(home.name()), &json!("active")));
            assert_eq!(who["epoch"], caller.row(child)["instances"][0]["epoch"]);
            instances.push(text(&who["instance"]));
            for content_type in ["application/octet-stream", "text/x-own"] {
                let bytes: Vec<u8> = (0..=255).collect();
                let payload = json!({"content_type": content_type, "base64": STANDARD.encode(bytes)});
                let reply = caller.ask("call", json!({"child_id": child, "payload": payload}));
                assert_eq!(reply, payload, "the content type is kept from {} to {child}", caller.name());
            }
            // From inside: through this child to another.
            for other in &children {
                let message = json!({"op": "call", "child_id": other, "message": {"op": "who"}});
                if other == child {
                    let error = caller.call(child, message).expect_err("a child cannot call itself");
                    // The kind, or the class of it.
                    let text = error.message().to_lowercase().replace('_', "");
                    assert!(text.contains("woulddeadlock"), "{error:?}");
                } else {
                    assert_eq!(caller.told(child, message)["node"], other.as_str());
                }
            }
        }
        instances.dedup();
        assert_eq!(instances.len(), 1, "the same instance answers everybody");
        let log = home.told(child, json!({"op": "log"}));
        assert_eq!(log[0], json!({"what": "start", "detail": "initial"}));
        let puts = json!({"what": "handle", "detail": "put"});
        assert_eq!(log.as_array().unwrap().iter().filter(|entry| **entry == puts).count(), cluster.members.len());
    }
    cluster.stop();
}

/// `node`, `all`, and the order of what one sender sends.
pub(crate) fn recipients(mix: &Mix) {
    let cluster = mix.cluster("recipients");
    let children = pinned(&cluster, "continue");
    for (child, home) in children.iter().zip(&cluster.members) {
        for caller in &cluster.members {
            let told = caller.ask(
                "call",
                json!({"child_id": child, "message": {"op": "who"}, "node": home.name(), "timeout_ms": 9000}),
            );
            assert_eq!(told["node"], home.name());
            for other in cluster.members.iter().filter(|other| other.name() != home.name()) {
                let arguments =
                    json!({"child_id": child, "message": {"op": "who"}, "node": other.name(), "timeout_ms": 200});
                let error = caller.request("call", arguments).expect_err("there is no instance there");
                assert_eq!(error.0["maybe_executed"], false, "{error:?}");
            }
            let key = format!("by-{}", caller.name());
            for n in 0..20 {
                let message = json!({"op": "put", "key": key, "value": n});
                let to = match n % 3 {
                    0 => json!({"child_id": child, "message": message}),
                    1 => json!({"child_id": child, "message": message, "node": home.name()}),
                    _ => json!({"child_id": child, "message": message, "all": true}),
                };
                assert_eq!(caller.ask("send", to), Value::Null);
            }
            assert_eq!(caller.told(child, json!({"op": "get", "key": key})), 19, "in the order they were sent");
        }
    }
    let nobody = json!({"child_id": "nobody", "message": 1, "timeout_ms": 9000});
    for caller in &cluster.members {
        let error = caller.request("call", nobody.clone()).expect_err("nobody answers");
        assert_eq!((error.kind(), &error.0["maybe_executed"]), ("not_found", &json!(false)));
    }
    cluster.stop();
}

/// What a child raises, what takes too long, and what is too large, in every pair of languages.
pub(crate) fn errors(mix: &Mix) {
    let cluster = mix.cluster("errors");
    let children = pinned(&cluster, "restart");
    for (child, home) in children.iter().zip(&cluster.members) {
        for caller in &cluster.members {
            let before = caller.told(child, json!({"op": "who"}))["instance"].clone();
            let error = caller.call(child, json!({"op": "throw", "text": "ünlucky"})).expect_err("it throws");
            assert_eq!(error.kind(), "child_failed");
            assert!(error.message().contains("ünlucky"), "{error:?}");
            let facts = (&error.0["child_id"], &error.0["node"], &error.0["maybe_executed"]);
            assert_eq!(facts, (&json!(child), &json!(home.name()), &json!(true)), "{error:?}");
            if home.agent.language.has_traces() {
                assert!(error.0["trace"].as_str().is_some_and(|trace| trace.lines().count() > 1), "{error:?}");
            }
            // `on_error` says so.
            let after = caller.told(child, json!({"op": "who"}));
            assert_ne!(after["instance"], before);
            assert_eq!(after["start_reason"], "restart");
        }
    }
    for (child, home) in children.iter().zip(&cluster.members) {
        for caller in &cluster.members {
            let begin = Instant::now();
            let sleep = json!({"op": "sleep", "ms": 1500});
            let slow = caller.agent.begin(
                "call",
                json!({"hub_id": cluster.hub_id, "child_id": child, "message": sleep, "timeout_ms": 300}),
            );
            // A slow request does not hold up the next.
            assert_eq!(caller.ask("is_alive", json!({})), true);
            assert!(begin.elapsed() < Duration::from_millis(1500));
            let error = slow.wait().expect_err("it takes too long");
            assert_eq!((error.kind(), &error.0["maybe_executed"]), ("timeout", &json!(true)), "{error:?}");
            let large = json!({"op": "echo", "value": "x".repeat(1 << 20)});
            let error = caller.call(child, large).expect_err("it is too large");
            assert_eq!(error.kind(), "payload_too_large", "{error:?}");
        }
        assert_eq!(home.told(child, json!({"op": "state"})), json!({}), "it lives on");
    }
    cluster.stop();
}
