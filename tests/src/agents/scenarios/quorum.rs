//! Children under a quorum: a process that stands still, and a side without a quorum.

use serde_json::{Value, json};

use super::losses::children_of;
use crate::agents::cluster::{Cluster, Member, Mix, eventually_or, text};
use crate::agents::process::{Refusal, Signal, on_hub};

const CHILDREN: usize = 12;
/// At least so many members, so that one may be missed.
const MIN_MEMBERS: usize = 3;

/// An agent of each language stands still: its children run elsewhere under higher epochs, and when it goes on it handles
/// nothing by what it was. Then most stand still: who is left answers `partitioned` until they are back.
pub(crate) fn quorum(mix: &Mix) {
    let count = mix.languages.len().max(MIN_MEMBERS);
    let tolerance = json!({"type": "majority_quorum", "initial_cluster_size": count});
    let mut cluster = mix.hubs("quorum", json!({"partition_tolerance": tolerance}));
    for language in mix.languages.iter().cycle().take(count) {
        cluster.join_new(*language).ask("subscribe", json!({"hook": "partition_changed"}));
    }
    cluster.settle();
    let ids: Vec<String> = (0..CHILDREN).map(|n| format!("child:{n}")).collect();
    let specs: Vec<Value> = ids.iter().map(|id| json!({"id": id, "kind": "probe"})).collect();
    let started = cluster.members[0].ask("start_children", json!({"specs": specs, "options": {"timeout_ms": 20_000}}));
    assert_eq!(started["errors"], json!([]));
    for _ in &mix.languages {
        // The longest there goes to the end of the line, so that each language has its turn.
        stands_still(&mut cluster);
    }
    most_stand_still(&cluster, &ids);
    let leaver = cluster.members.pop().expect("a member");
    leaver.ask("stop_hub", json!({"timeout_ms": 20_000}));
    cluster.settle();
    assert_eq!(cluster.members[0].ask("reset_cluster_size", json!({"n": count - 1})), Value::Null);
    for id in &ids {
        assert_ne!(who(&cluster.members[0], id)["node"], leaver.name());
    }
    cluster.stop();
}

fn stands_still(cluster: &mut Cluster<'_>) {
    let victim = cluster.members.remove(0);
    let caller = cluster.members[0].clone();
    let had: Vec<(String, Value)> =
        children_of(&victim).into_iter().map(|id| (id.clone(), who(&caller, &id)["epoch"].clone())).collect();
    victim.agent.signal(Signal::Stop);
    for (id, epoch) in &had {
        eventually_or(&format!("{id} runs elsewhere"), || {
            let told = caller.call(id, json!({"op": "who"}));
            let is_new = |told: &Value| is_later(told, &victim, epoch);
            (!told.as_ref().is_ok_and(is_new)).then(|| format!("{told:?}"))
        });
    }
    // It reads this as soon as it goes on.
    let call = |id: &str| json!({"child_id": id, "message": {"op": "who"}, "timeout_ms": 20_000});
    let calls: Vec<_> =
        had.iter().map(|(id, _)| victim.agent.begin("call", on_hub(&cluster.hub_id, &call(id)))).collect();
    victim.agent.signal(Signal::Continue);
    for (call, (id, epoch)) in calls.into_iter().zip(&had) {
        let told = call.wait();
        let is_right = match &told {
            Ok(told) => is_later(told, &victim, epoch),
            Err(error) => ["partitioned", "not_active"].contains(&error.kind()),
        };
        assert!(is_right, "{id} at {}: {told:?}", victim.name());
    }
    for is_partitioned in [true, false] {
        victim.hook("partition_changed", |payload| *payload == json!({"partitioned": is_partitioned}));
    }
    for (id, _) in &had {
        let stopped = victim.event(id, "stop");
        assert_eq!(stopped["detail"], "partitioned", "{id}");
    }
    cluster.members.push(victim);
    cluster.settle();
}

fn most_stand_still(cluster: &Cluster<'_>, ids: &[String]) {
    let (left, others) = cluster.members.split_first().expect("members");
    for other in others {
        other.agent.signal(Signal::Stop);
    }
    eventually_or("who is left has no quorum", || {
        (left.ask("is_partitioned", json!({})) != true).then(|| "it says it has".to_owned())
    });
    assert_eq!(left.ask("is_locked", json!({})), true);
    let is_refused = |told: Result<Value, Refusal>| told.is_err_and(|error| error.kind() == "partitioned");
    assert!(is_refused(left.call(&ids[0], json!({"op": "who"}))));
    let spec = json!({"id": "late", "kind": "probe"});
    assert!(is_refused(left.request("start_children", json!({"specs": [spec]}))));
    assert!(is_refused(left.request("stop_children", json!({"ids": [ids[0]]}))));
    assert_eq!(text(&left.row(&ids[0])["id"]), ids[0], "reads are answered");
    for other in others {
        other.agent.signal(Signal::Continue);
    }
    cluster.settle();
    for id in ids {
        who(left, id);
    }
    assert_eq!(left.ask("is_partitioned", json!({})), false);
}

/// Whether a child answered from somewhere else than this member, under a higher epoch.
fn is_later(told: &Value, than: &Member, epoch: &Value) -> bool {
    told["node"] != than.name() && told["epoch"].as_u64() > epoch.as_u64()
}

/// What a child says of itself, once it runs: on a busy machine a lease may end now and then.
fn who(member: &Member, id: &str) -> Value {
    let mut told = Value::Null;
    eventually_or(&format!("{id} answers {}", member.name()), || match member.call(id, json!({"op": "who"})) {
        Ok(answer) => {
            told = answer;
            None
        }
        Err(error) => Some(format!("{error:?}")),
    });
    told
}
