//! Children that move from language to language.

use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Member, Mix, eventually_or, keys};

/// Lets each standing agent in turn take everything from the one before it, and the first from the last:
/// `before(giver)`, `drain(giver)`, which gives the report, and `after(giver, taker)`.
fn round(
    mix: &Mix,
    cluster: &mut Cluster<'_>,
    before: impl Fn(&Member),
    drain: impl Fn(&Member) -> Value,
    after: impl Fn(&Member, &Member),
) {
    let mut giver = cluster.members[0].clone();
    let agents = mix.agents();
    for agent in agents.iter().skip(1).chain(&agents[..1]) {
        // A drained hub takes nothing any more: the first one starts anew.
        if let Some(drained) = cluster.members.iter().find(|member| member.name() == agent.name).cloned() {
            drained.ask("stop_hub", json!({}));
            cluster.remove(&drained);
        }
        let taker = cluster.join(agent);
        cluster.settle();
        await_owners(&giver);
        before(&giver);
        let report = drain(&giver);
        assert_eq!(keys(&report), ["failed", "moved", "restarted", "stopped"]);
        for list in ["failed", "stopped"] {
            assert_eq!(report[list], json!([]), "{list}: {report}");
        }
        cluster.settle();
        after(&giver, &taker);
        giver = taker;
    }
}

/// Waits until every child is where the placement wants it: nothing moves any more because of who joined last.
fn await_owners(member: &Member) {
    let rows = member.ask("process_registry", json!({}));
    for id in rows.as_object().unwrap().keys() {
        eventually_or(&format!("{id} is on its owner"), || {
            let told = member.ask("where", json!({"child_id": id}));
            let instances = &told["rows"]["instances"];
            (instances.as_array().map(Vec::len) != Some(1) || instances[0]["node"] != told["owner"])
                .then(|| told.to_string())
        });
    }
}

/// A child goes round with its state, while it is called.
pub(crate) fn handover(mix: &Mix) {
    const CALLS: u64 = 20;
    let mut cluster = mix.hubs("handover", json!({}));
    let first = cluster.join(&mix.agents()[0]);
    let data = json!({"text": "é😀", "deep": [{"a": [1, 2.5, null]}], "n": 0});
    first.start_probe("traveller", json!({"data": data, "pad_bytes": 200_000}));
    let total = std::cell::Cell::new(0);
    let epoch = std::cell::Cell::new(0);
    let add = json!({"child_id": "traveller", "message": {"op": "add", "key": "n", "n": 1}, "timeout_ms": 20_000});
    round(
        mix,
        &mut cluster,
        |giver| {
            for hook in ["handover_confirmed", "children_migrated"] {
                giver.ask("subscribe", json!({"hook": hook}));
            }
        },
        |giver| {
            let call = crate::agents::process::on_hub("handover", &add);
            let calls: Vec<_> = (0..CALLS).map(|_| giver.agent.begin("call", call.clone())).collect();
            let report = giver.ask("drain", json!({"timeout_ms": 20_000}));
            for call in calls {
                call.wait().unwrap_or_else(|error| panic!("a call over the move: {}", error.0));
            }
            total.set(total.get() + CALLS);
            assert_eq!(report["restarted"], json!([]));
            report
        },
        |giver, taker| {
            taker.await_row("traveller", taker.name());
            let mut wanted = data.clone();
            wanted["n"] = total.get().into();
            assert_eq!(taker.told("traveller", json!({"op": "state"})), wanted);
            let who = giver.told("traveller", json!({"op": "who"}));
            assert_eq!((&who["node"], &who["language"]), (&json!(taker.name()), &json!(taker.agent.language.name())));
            assert_eq!(who["start_reason"], "migration");
            let now = who["epoch"].as_u64().unwrap();
            assert!(now > epoch.replace(now), "the epoch rises");
            assert_eq!(taker.row("traveller")["state_lost"], Value::Null);
            let given = giver.event("traveller", "prepare_handover_state");
            let taken = taker.event("traveller", "alter_handover_state");
            assert!(given["detail"].is_object() && taken["detail"].is_object());
            assert_eq!(giver.event("traveller", "stop")["detail"], "migrated");
            let told: Vec<String> = taker.callbacks("traveller").into_iter().map(|(what, _)| what).collect();
            assert!(told.ends_with(&["start".into(), "alter_handover_state".into()]), "{told:?}");
            // It may have moved before the drain already, when the taker joined.
            let confirmed =
                giver.agent.events("handover").into_iter().filter(|event| event["hook"] == "handover_confirmed");
            for event in confirmed {
                assert_eq!(keys(&event["payload"]), ["child_id", "from", "to"]);
            }
            let last = &taker.ask("where", json!({"child_id": "traveller"}));
            assert_eq!((&last["owner"], &last["moving"]), (&json!(taker.name()), &Value::Null));
        },
    );
    cluster.stop();
}

/// What the taker makes of the state that comes in; a child without state arrives as it began.
pub(crate) fn merges(mix: &Mix) {
    // Where no state was delivered the old instance lives on for this time, and the drain waits for it.
    let migration = json!({"type": "hot_swap", "handover": true, "retention_ms": 100});
    let mut cluster = mix.hubs("merges", json!({"migration": migration}));
    let first = cluster.join(&mix.agents()[0]);
    let own = json!({"n": 5, "l": [1, 2], "t": "own"});
    let specs = ["replace", "max", "union", "default", "no_state"].map(|how| {
        let args = match how {
            "default" => json!({"data": own}),
            "no_state" => json!({"data": own, "no_state": true}),
            merge => json!({"data": own, "merge": merge, "pad_bytes": 10}),
        };
        json!({"id": how, "kind": "probe", "args": args})
    });
    assert_eq!(first.ask("start_children", json!({"specs": specs}))["errors"], json!([]));
    let wanted = json!({
        "replace": {"n": 3, "l": [2, 3], "t": "new"},
        "max": {"n": 5, "l": [2, 3], "t": "new"},
        "union": {"n": 3, "l": [1, 2, 3], "t": "new"},
        "default": {"n": 3, "l": [2, 3], "t": "new"},
        "no_state": own,
    });
    let moving = std::cell::RefCell::new(Vec::new());
    round(
        mix,
        &mut cluster,
        |giver| {
            let local = giver.ask("which_children", json!({}));
            let here: Vec<String> =
                local[giver.name()].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
            for id in &here {
                for (key, value) in [("n", json!(3)), ("l", json!([2, 3])), ("t", json!("new"))] {
                    giver.told(id, json!({"op": "put", "key": key, "value": value}));
                }
            }
            moving.replace(here);
        },
        |giver| {
            let report = giver.ask("drain", json!({"timeout_ms": 20_000}));
            for restarted in report["restarted"].as_array().unwrap() {
                assert_eq!(restarted["id"], "no_state", "{report}");
            }
            report
        },
        |_, taker| {
            for id in moving.borrow().iter() {
                taker.await_row(id, taker.name());
                assert_eq!(taker.told(id, json!({"op": "state"})), wanted[id.as_str()], "{id}");
                assert_eq!(taker.row(id)["state_lost"], Value::Null, "{id}");
            }
        },
    );
    cluster.stop();
}

/// A drained hub stays a member that owns nothing; a stopped one answers `closed` and is gone.
pub(crate) fn drain_and_stop(mix: &Mix) {
    let mut cluster = mix.cluster("drain_and_stop");
    let (drained, stays) = (cluster.members[0].clone(), cluster.members[1].clone());
    let ids: Vec<String> = (0..16).map(|n| format!("child:{n}")).collect();
    let specs: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "kind": "probe", "args": {"data": {"id": id}}})).collect();
    assert_eq!(stays.ask("start_children", json!({"specs": specs}))["errors"], json!([]));
    drained.ask("subscribe", json!({"hook": "drain_completed"}));
    drained.ask("subscribe", json!({"hook": "hub_shutdown"}));
    let own = drained.ask("which_children", json!({}))[drained.name()].clone();
    let report = drained.ask("drain", json!({"timeout_ms": 20_000}));
    let mut moved = report["moved"].clone();
    moved.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    assert_eq!(json!({"moved": own, "restarted": [], "stopped": [], "failed": []}), {
        let mut sorted = report.clone();
        sorted["moved"] = moved;
        sorted
    });
    assert_eq!(drained.hook("drain_completed", |_| true), json!({"report": report}));
    assert_eq!(drained.ask("which_children", json!({})), json!({drained.name(): []}));
    assert!(stays.ask("nodes", json!({})).as_array().unwrap().contains(&json!(drained.name())));
    for id in &ids {
        assert_eq!(drained.told(id, json!({"op": "get", "key": "id"})), id.as_str());
    }
    // What is started now goes elsewhere.
    assert_ne!(drained.start_probe("late", Value::Null), drained.name());

    // What the drain moved is part of what the stop did.
    assert_eq!(drained.ask("stop_hub", json!({"timeout_ms": 20_000})), report);
    assert!(drained.hook("hub_shutdown", |_| true)["reason"].is_string());
    assert_eq!(drained.ask("is_alive", json!({})), false);
    let commands = [
        ("nodes", json!({})),
        ("child_lookup", json!({"child_id": "late"})),
        ("process_registry", json!({})),
        ("call", json!({"child_id": "late"})),
        ("send", json!({"child_id": "late"})),
        ("start_children", json!({"specs": [{"id": "x", "kind": "probe"}]})),
        ("stop_children", json!({"ids": ["late"]})),
        ("where", json!({"child_id": "late"})),
        ("drain", json!({})),
        ("sync", json!({})),
    ];
    for (command, arguments) in commands {
        let error = drained.request(command, arguments).expect_err(command);
        assert_eq!(error.kind(), "closed", "{command}: {error:?}");
    }
    cluster.remove(&drained);
    cluster.settle();
    let again = cluster.join(&drained.agent);
    cluster.settle();
    for id in &ids {
        assert_eq!(again.told(id, json!({"op": "get", "key": "id"})), id.as_str());
    }
    // The last one has nobody to give its children to.
    while cluster.members.len() > 1 {
        let member = cluster.members.pop().unwrap();
        let report = member.ask("stop_hub", json!({"timeout_ms": 20_000}));
        assert_eq!((&report["stopped"], &report["failed"]), (&json!([]), &json!([])), "{report}");
        cluster.settle();
    }
    let last = cluster.members[0].clone();
    eventually_or("the last one runs all", || {
        let local = last.ask("which_children", json!({}));
        (local[last.name()].as_array().unwrap().len() != ids.len() + 1).then(|| local.to_string())
    });
    let report = last.ask("stop_hub", json!({"timeout_ms": 20_000}));
    assert_eq!(report["stopped"].as_array().unwrap().len(), ids.len() + 1, "{report}");
}
