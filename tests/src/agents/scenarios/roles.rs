//! Children with several instances: the active one dies, and comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Member, Mix, eventually_or, text};
use crate::agents::process::Signal;

/// How often the active one is killed; twenty times in a long run.
const ROUNDS: usize = 3;
/// The longest until the survivor is told.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Two nodes, one active and one passive instance: each time the active one is killed the survivor is told at once and has
/// what was sent to all, and the one that comes back has the survivor's state. Nothing of it is a loss.
pub(crate) fn roles(mix: &Mix) {
    let redundancy = json!({
        "type": "replication", "replication_factor": 2, "replication_model": "active_passive", "redundancy_signal": "all",
    });
    let mut cluster = mix.hubs("roles", json!({"redundancy": redundancy}));
    for language in mix.languages.iter().cycle().take(2) {
        cluster.join_new(*language).ask("subscribe", json!({"hook": "state_lost"}));
    }
    cluster.settle();
    cluster.members[0].start_probe("cart", json!({"data": {"round": -1}}));
    await_one_active(&cluster);
    for round in 0..if mix.is_long { 20 } else { ROUNDS } {
        let active = text(&cluster.members[0].row("cart")["instances"][0]["node"]);
        put_to_all(&cluster.members[1], "both", round);
        for member in &cluster.members {
            eventually_or("both instances have what is sent to all", || {
                let value = told_by_instance(member, &json!({"op": "get", "key": "both"}));
                (value != json!(round)).then(|| format!("{} has {value}", member.name()))
            });
        }
        let is_active = |member: &&Member| member.name() == active;
        let victim = cluster.members.iter().find(is_active).cloned().expect("a member");
        cluster.remove(&victim);
        let survivor = cluster.members[0].clone();
        let before = survivor.callbacks("cart").len();
        let killed = Instant::now();
        victim.agent.signal(Signal::Kill);
        eventually_or("the survivor is told that it is active", || {
            let told = survivor.callbacks("cart").split_off(before);
            (!told.contains(&("redundancy_signal".to_owned(), json!("active")))).then(|| format!("{told:?}"))
        });
        let took = killed.elapsed();
        assert!(took < TOLD_WITHIN, "{} was told after {took:?}", survivor.name());
        cluster.settle();
        assert_eq!(survivor.told("cart", json!({"op": "get", "key": "both"})), json!(round), "it was sent to all");
        put_to_all(&survivor, "round", round);
        let back = cluster.join(&mix.agent_named(victim.agent.language, victim.name()));
        back.ask("subscribe", json!({"hook": "state_lost"}));
        cluster.settle();
        await_one_active(&cluster);
        assert_eq!(text(&back.row("cart")["instances"][0]["node"]), active, "its name decides the placement");
        let get = json!({"op": "get", "key": "round"});
        for member in &cluster.members {
            assert_eq!(member.told("cart", get.clone()), json!(round), "it has what the survivor had");
            let who = member.told("cart", json!({"op": "who"}));
            assert_eq!((&who["node"], &who["mode"]), (&json!(active), &json!("active")));
        }
        assert_eq!(told_by_instance(&survivor, &json!({"op": "who"}))["mode"], "passive");
    }
    for member in &cluster.members {
        let told = member.agent.events("roles").into_iter().find(|event| event["hook"] == "state_lost");
        assert_eq!(told, None, "{}", member.name());
    }
    cluster.stop();
}

fn put_to_all(member: &Member, key: &str, value: usize) {
    let put = json!({"op": "put", "key": key, "value": value});
    member.ask("send", json!({"child_id": "cart", "message": put, "all": true}));
}

/// What the instance on the member's own node replies, whatever its role.
fn told_by_instance(member: &Member, message: &Value) -> Value {
    let call = json!({"child_id": "cart", "message": message, "timeout_ms": 20_000, "node": member.name()});
    member.ask("call", call)
}

/// Waits until every registry has one active and one passive instance, and both know it.
fn await_one_active(cluster: &Cluster<'_>) {
    for member in &cluster.members {
        eventually_or(&format!("{} has one active and one passive instance", member.name()), || {
            let row = member.row("cart");
            let modes: Vec<&Value> =
                row["instances"].as_array().into_iter().flatten().map(|one| &one["mode"]).collect();
            (modes != [&json!("active"), &json!("passive")]).then(|| row.to_string())
        });
        eventually_or(&format!("{} told its instance the role", member.name()), || {
            let row = member.row("cart");
            let own = row["instances"].as_array().into_iter().flatten().find(|one| one["node"] == member.name());
            let told = member.callbacks("cart").into_iter().rfind(|(what, _)| what == "redundancy_signal");
            let is_right = told.as_ref().is_some_and(|(_, mode)| own.is_some_and(|own| *mode == own["mode"]));
            (!is_right).then(|| format!("{told:?}, {row}"))
        });
    }
}
