//! Agents that die, and agents that were only thought dead.

use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Member, Mix, eventually_or, keys};
use crate::agents::process::{PATIENCE, Signal};

const CHILDREN: usize = 24;

/// The standing agents and an agent of each language that may be lost, with children on all of them.
fn with_victims<'a>(mix: &'a Mix, name: &str, args: &Value) -> (Cluster<'a>, Vec<Member>) {
    let mut cluster = mix.cluster(name);
    let victims: Vec<Member> = mix.languages.iter().map(|&language| cluster.join_new(language)).collect();
    cluster.settle();
    let specs: Vec<Value> =
        (0..CHILDREN).map(|n| json!({"id": format!("child:{n}"), "kind": "probe", "args": args})).collect();
    let result = cluster.members[0].ask("start_children", json!({"specs": specs, "options": {"timeout_ms": 20_000}}));
    assert_eq!(result["errors"], json!([]));
    for member in &cluster.members {
        member.ask("sync", json!({"timeout_ms": 9000}));
    }
    (cluster, victims)
}

/// The children that run on this member.
pub(super) fn children_of(member: &Member) -> Vec<String> {
    let local = member.ask("which_children", json!({}));
    let ids = local[member.name()].as_array().expect("its own children").iter();
    ids.map(|id| id.as_str().unwrap_or_default().to_owned()).collect()
}

/// After `lose`, the others run what the victim ran, say what was lost, and forget it when told to.
fn lose_each(mix: &Mix, name: &str, lose: impl Fn(&Member, &Member, &[String])) {
    let (mut cluster, victims) = with_victims(mix, name, &json!({"data": {"n": 1}}));
    for victim in victims {
        let lost = children_of(&victim);
        cluster.remove(&victim);
        for member in &cluster.members {
            member.ask("subscribe", json!({"hook": "state_lost"}));
        }
        let undisturbed: Vec<(String, Value)> = children_of(&cluster.members[0])
            .into_iter()
            .map(|id| (id.clone(), cluster.members[0].told(&id, json!({"op": "who"}))))
            .collect();
        lose(&cluster.members[0], &victim, &lost);
        cluster.settle();
        for id in &lost {
            eventually_or(&format!("{id} runs elsewhere"), || {
                let row = cluster.members[0].row(id);
                let runs = row["instances"].as_array().is_some_and(|all| all.len() == 1);
                (!runs || row["instances"][0]["node"] == victim.name()).then(|| row.to_string())
            });
            let who = cluster.members[1].told(id, json!({"op": "who"}));
            assert_eq!(who["start_reason"], "failover", "{id}");
            for member in &cluster.members {
                let hook = member.hook("state_lost", |payload| {
                    payload["child_id"] == id.as_str() && payload["node"] == victim.name()
                });
                assert_eq!(keys(&hook), ["child_id", "epoch", "node", "version"]);
                eventually_or(&format!("{} says what {id} lost", member.name()), || {
                    let row = member.row(id);
                    (row["state_lost"] != json!({"epoch": hook["epoch"], "version": hook["version"]}))
                        .then(|| row.to_string())
                });
            }
            assert_eq!(cluster.members[1].ask("acknowledge_loss", json!({"child_id": id})), Value::Null);
            for member in &cluster.members {
                eventually_or(&format!("the loss of {id} is acknowledged at {}", member.name()), || {
                    let row = member.row(id);
                    (!row["state_lost"].is_null()).then(|| row.to_string())
                });
            }
        }
        for (id, who) in undisturbed {
            assert_eq!(cluster.members[1].told(&id, json!({"op": "who"})), who, "{id} was not concerned");
        }
    }
    cluster.stop();
}

/// SIGKILL.
pub(crate) fn killed_agent(mix: &Mix) {
    lose_each(mix, "killed_agent", |_, victim, _| victim.agent.signal(Signal::Kill));
}

/// A child that ends its process while it handles a message.
pub(crate) fn exited_process(mix: &Mix) {
    lose_each(mix, "exited_process", |caller, victim, lost| {
        let Some(id) = lost.first() else {
            victim.agent.signal(Signal::Kill);
            return;
        };
        let error = caller.call(id, json!({"op": "exit_process"})).expect_err("nobody answers this");
        assert_eq!(error.0["maybe_executed"], true, "{error:?}");
        let status = victim.agent.wait_end(PATIENCE);
        assert_eq!(status.code(), Some(1), "{:?} ended with {status}", victim.agent);
    });
}

/// Agents that are stopped for longer than it takes to notice, and then go on: both sides ran the children, and the
/// states of both come together.
pub(crate) fn heal(mix: &Mix) {
    let args = json!({"data": {"both": [1]}, "merge": "union"});
    let (mut cluster, victims) = with_victims(mix, "heal", &args);
    let caller = cluster.members[0].clone();
    let mut concerned = Vec::new();
    for victim in &victims {
        for id in children_of(victim) {
            caller.told(&id, json!({"op": "put", "key": "before", "value": victim.name()}));
            caller.told(&id, json!({"op": "put", "key": "both", "value": [2]}));
            concerned.push((id, victim.name().to_owned()));
        }
    }
    for victim in &victims {
        victim.agent.signal(Signal::Stop);
        cluster.remove(victim);
    }
    cluster.settle();
    for (id, victim) in &concerned {
        eventually_or(&format!("{id} runs on this side"), || {
            let row = caller.row(id);
            let runs = row["instances"].as_array().is_some_and(|all| all.len() == 1);
            (!runs || row["instances"][0]["node"] == victim.as_str()).then(|| row.to_string())
        });
        caller.told(id, json!({"op": "put", "key": "after", "value": 1}));
    }
    for victim in victims {
        victim.agent.signal(Signal::Continue);
        cluster.members.push(victim);
    }
    cluster.settle();
    for (id, victim) in &concerned {
        let wanted = json!({"before": victim, "after": 1, "both": [1, 2]});
        eventually_or(&format!("the states of {id} come together"), || {
            let state = caller.told(id, json!({"op": "state"}));
            (state != wanted).then(|| state.to_string())
        });
        for member in &cluster.members {
            eventually_or(&format!("{} has one {id}", member.name()), || {
                let row = member.row(id);
                (row["instances"].as_array().map(Vec::len) != Some(1)).then(|| row.to_string())
            });
        }
    }
    cluster.stop();
}
