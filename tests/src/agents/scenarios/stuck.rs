//! Host code that takes its time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agents::cluster::{Member, Mix};
use crate::agents::process::{Refusal, on_hub};

/// How long `handle` may take before it counts as a crash (R5).
const LIMIT: Duration = Duration::from_secs(60);
/// How long a host is held up in the ordinary suite, and at full length: for longer than a callback may take, so that
/// the core takes each of them for one that never returns.
const BLOCKED: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(66)];

/// So many messages come for each stuck host meanwhile: fewer than may wait for a child.
const WAITING: usize = 100;

/// A callback holds up its whole host (the GIL, the event loop) or its thread: the node stays a member, the neighbours
/// are undisturbed, and the hook tells how long: of a host that pulls nothing meanwhile, and of a thread that a
/// callback has for longer than it may.
pub(crate) fn stuck_host(mix: &Mix) {
    let blocked = BLOCKED[usize::from(mix.is_long)];
    let mut cluster = mix.cluster("stuck_host");
    let stuck: Vec<Member> = mix.languages.iter().map(|&language| cluster.join_new(language)).collect();
    cluster.settle();
    let caller = cluster.members[0].clone();
    let specs: Vec<Value> = cluster
        .members
        .iter()
        .flat_map(|member| ["one", "two"].map(|which| (format!("{which}-{}", member.name()), member.name())))
        .map(|(id, home)| json!({"id": id, "kind": "probe", "require": {"name": home}}))
        .collect();
    assert_eq!(caller.ask("start_children", json!({"specs": specs}))["errors"], json!([]));
    // A child that counts as crashed is restarted where it is, once the host goes on.
    let may_be_restarted =
        |id: &str| blocked > LIMIT && stuck.iter().any(|it| id.ends_with(&format!("-{}", it.name())));
    let registry = || {
        let mut rows = caller.ask("process_registry", json!({}));
        let mut rows = rows.as_object_mut().map(std::mem::take).unwrap_or_default();
        rows.retain(|id, _| !may_be_restarted(id));
        rows
    };
    let before = registry();
    for member in &stuck {
        member.ask("subscribe", json!({"hook": "host_unresponsive"}));
    }
    let ms = u64::try_from(blocked.as_millis()).expect("a minute");
    let blocks: Vec<_> = stuck
        .iter()
        .map(|member| {
            let message = json!({"op": "block", "ms": ms});
            let call =
                json!({"child_id": format!("one-{}", member.name()), "message": message, "timeout_ms": ms + 30_000});
            caller.agent.begin("call", on_hub(&cluster.hub_id, &call))
        })
        .collect();
    let mut waiting = Vec::new();
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    while begin.elapsed() < blocked {
        assert_eq!(registry(), before, "nothing moves and nobody is missed");
        let seen = caller.ask("nodes", json!({}));
        for member in &stuck {
            assert!(seen.as_array().is_some_and(|names| names.contains(&json!(member.name()))), "{seen}");
        }
        let ask = Instant::now();
        for member in cluster.members.iter().filter(|member| stuck.iter().all(|it| it.name() != member.name())) {
            assert_eq!(caller.told(&format!("two-{}", member.name()), json!({"op": "who"}))["node"], member.name());
        }
        slowest = slowest.max(ask.elapsed());
        let is_enough = waiting.len() >= WAITING * stuck.len();
        for member in stuck.iter().filter(|_| !is_enough) {
            let child = format!("two-{}", member.name());
            let call = json!({"child_id": child, "message": {"op": "who"}, "timeout_ms": ms + 30_000});
            waiting.push((member, caller.agent.begin("call", on_hub(&cluster.hub_id, &call))));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(slowest < Duration::from_millis(1500), "the neighbours took {slowest:?}");
    let patience = blocked + Duration::from_secs(30);
    // Whether the host's answer or the end of its time comes first is chance.
    let check = |reply: Result<Value, Refusal>, wanted: Value| {
        let is_given_up = blocked > LIMIT && reply.as_ref().is_err_and(|error| error.kind() == "host_timeout");
        assert!(is_given_up || reply == Ok(wanted), "{reply:?}");
    };
    for (member, call) in waiting {
        check(call.wait_within(patience).map(|who| who["node"].clone()), json!(member.name()));
    }
    for block in blocks {
        check(block.wait_within(patience), json!("ok"));
    }
    for member in &stuck {
        // One that pulls nothing: told each time the wait has doubled, and at its end. A thread: past its limit.
        let told = if member.agent.language.has_one_host_thread() { blocked } else { LIMIT };
        if told <= blocked {
            let at_least = told.saturating_sub(Duration::from_secs(2)).as_millis();
            let is_told = |payload: &Value| payload["blocked_ms"].as_u64().map(u128::from) >= Some(at_least);
            let payload = member.hook("host_unresponsive", is_told);
            mix.note(&format!("{} told blocked_ms {}", member.name(), payload["blocked_ms"]));
        }
        for which in ["one", "two"] {
            let child = format!("{which}-{}", member.name());
            assert_eq!(caller.told(&child, json!({"op": "who"}))["node"], member.name());
        }
    }
    mix.note(&format!("the neighbours answered within {slowest:?}"));
    cluster.stop();
}

/// Callbacks that take a while hold up their child alone; one that takes too long costs the child its state, told.
pub(crate) fn slow_callbacks(mix: &Mix) {
    let options = json!({
        "migration": {"type": "hot_swap", "handover": true, "handover_data_wait_ms": 1000},
    });
    let mut cluster = mix.hubs("slow_callbacks", options);
    let mut giver = cluster.join(&mix.agents()[0]);
    let slow = ["prepare", "alter", "stop", "signal"];
    let specs: Vec<Value> = slow
        .iter()
        .map(|callback| {
            json!({"id": callback, "kind": "probe", "args": {"data": {"n": 1}, "hang_in": callback, "ms": 300}})
        })
        .collect();
    assert_eq!(giver.ask("start_children", json!({"specs": specs}))["errors"], json!([]));
    for agent in &mix.agents()[1..] {
        let taker = cluster.join(agent);
        cluster.settle();
        for callback in slow {
            giver.told(callback, json!({"op": "add", "key": "n", "n": 1}));
        }
        let report = giver.ask("drain", json!({"timeout_ms": 20_000}));
        assert_eq!((&report["failed"], &report["restarted"]), (&json!([]), &json!([])), "{report}");
        for callback in slow {
            taker.await_row(callback, taker.name());
        }
        giver = taker;
    }
    for callback in slow {
        assert_eq!(giver.told(callback, json!({"op": "state"})), json!({"n": mix.agents().len()}), "{callback}");
    }
    let stopped = giver.ask("stop_children", json!({"ids": slow}));
    assert_eq!(stopped["errors"], json!([]), "{stopped}");

    // Too long: more than `shutdown_ms` in `stop`, more than `handover_data_wait_ms` in `prepare`.
    let args = json!({"hang_in": "stop", "ms": 3000});
    giver.start_spec(json!({"id": "stop:long", "kind": "probe", "args": args, "shutdown_ms": 200}));
    let begin = Instant::now();
    let stopped = giver.ask("stop_children", json!({"ids": ["stop:long"]}));
    assert_eq!((&stopped["status"], begin.elapsed() < Duration::from_millis(2500)), (&json!("ok"), true), "{stopped}");
    let args = json!({"hang_in": "prepare", "ms": 4000});
    giver.start_spec(json!({"id": "prepare:long", "kind": "probe", "args": args}));
    giver.ask("subscribe", json!({"hook": "handover_failed"}));
    let first = cluster.members[0].clone();
    first.ask("stop_hub", json!({}));
    cluster.remove(&first);
    let taker = cluster.join(&mix.agents()[0]);
    cluster.settle();
    let report = giver.ask("drain", json!({"timeout_ms": 3000}));
    let hook = giver.hook("handover_failed", |payload| payload["child_id"] == "prepare:long");
    assert_eq!((&hook["from"], &hook["to"]), (&json!(giver.name()), &json!(taker.name())), "{hook} {report}");
    assert!(hook["why"].is_string(), "{hook}");
    cluster.stop();
}
