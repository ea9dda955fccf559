//! The long way: many children with state go from language to language and back while they are called.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::agents::cluster::{Cluster, Member, Mix, eventually_or};
use crate::agents::process::{Agent, on_hub};

const CHILDREN: usize = 1000;
const NODES_PER_LANGUAGE: usize = 2;
/// Increments that are open at a time.
const OPEN_CALLS: usize = 16;

struct Counts {
    /// Increments that were answered, by child.
    done: Vec<AtomicU64>,
    stop: AtomicBool,
}

fn child(n: usize) -> String {
    format!("traveller:{n}")
}

/// Increments one child after the other until told to stop, each at least once; every call must be answered.
fn increment(agent: &Agent, hub_id: &str, counts: &Counts) {
    let mut open = VecDeque::new();
    let take = |open: &mut VecDeque<(usize, crate::agents::process::Reply<'_>)>| {
        let Some((n, call)) = open.pop_front() else { return };
        match call.wait_within(Duration::from_secs(60)) {
            Ok(_) => counts.done[n].fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("an increment of {} failed: {}", child(n), error.0),
        };
    };
    for (done, n) in (0..CHILDREN).cycle().enumerate() {
        if done >= CHILDREN && counts.stop.load(Ordering::Relaxed) {
            break;
        }
        let message = json!({"op": "add", "key": "n", "n": 1});
        let call = json!({"child_id": child(n), "message": message, "timeout_ms": 30_000});
        open.push_back((n, agent.begin("call", on_hub(hub_id, &call))));
        if open.len() == OPEN_CALLS {
            take(&mut open);
        }
    }
    while !open.is_empty() {
        take(&mut open);
    }
}

/// How many children each node runs, as this member knows it.
fn await_all_on(member: &Member, nodes: &[Member]) {
    let names: Vec<&str> = nodes.iter().map(Member::name).collect();
    eventually_or(&format!("all {CHILDREN} are on {names:?}"), || {
        let everywhere = member.ask("which_children", json!({"scope": "global"}));
        let counts: Vec<(&String, usize)> =
            everywhere.as_object()?.iter().map(|(node, ids)| (node, ids.as_array().map_or(0, Vec::len))).collect();
        let here: usize =
            counts.iter().filter(|(node, _)| names.contains(&node.as_str())).map(|(_, count)| count).sum();
        let all: usize = counts.iter().map(|(_, count)| count).sum();
        (here != CHILDREN || all != CHILDREN).then(|| format!("{counts:?}"))
    });
}

/// The hubs of one language take everything from those of the language before.
fn travel(cluster: &mut Cluster<'_>, agents: &[Arc<Agent>], from: Vec<Member>, caller: &Member) -> Vec<Member> {
    let to: Vec<Member> = agents.iter().map(|agent| cluster.join(agent)).collect();
    cluster.settle();
    for member in from {
        let report = member.ask("stop_hub", json!({"timeout_ms": 25_000}));
        for list in ["failed", "restarted", "stopped"] {
            assert_eq!(report[list], json!([]), "{} {list}", member.name());
        }
        cluster.remove(&member);
    }
    await_all_on(caller, &to);
    to
}

/// 1,000 children with 1 KiB of state go round under a caller that increments: nothing lost, nothing doubled.
pub(crate) fn journey(mix: &Mix) {
    let per_language: Vec<Vec<Arc<Agent>>> =
        mix.languages.iter().map(|&language| (0..NODES_PER_LANGUAGE).map(|_| mix.agent(language)).collect()).collect();
    let mut cluster = mix.hubs("journey", json!({}));
    let caller = cluster.join_offering(&mix.agents()[0], &[]);
    caller.ask("subscribe", json!({"hook": "state_lost"}));
    let mut here: Vec<Member> = per_language[0].iter().map(|agent| cluster.join(agent)).collect();
    cluster.settle();
    let args = json!({"data": {"n": 0}, "pad_bytes": 1024});
    let specs: Vec<Value> = (0..CHILDREN).map(|n| json!({"id": child(n), "kind": "probe", "args": args})).collect();
    let result = caller.ask("start_children", json!({"specs": specs, "options": {"timeout_ms": 25_000}}));
    assert_eq!(result["errors"], json!([]));

    let counts = Counts { done: (0..CHILDREN).map(|_| AtomicU64::new(0)).collect(), stop: AtomicBool::new(false) };
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        scope.spawn(|| increment(&caller.agent, "journey", &counts));
        let walk = std::panic::AssertUnwindSafe(|| {
            for agents in per_language.iter().skip(1).chain(&per_language[..1]) {
                here = travel(&mut cluster, agents, std::mem::take(&mut here), &caller);
            }
        });
        // The caller has to be told to stop however the walk ends.
        *failure.lock().unwrap() = std::panic::catch_unwind(walk).err();
        counts.stop.store(true, Ordering::Relaxed);
    });
    if let Some(panic) = failure.into_inner().unwrap() {
        std::panic::resume_unwind(panic);
    }

    let mut total = 0;
    for n in 0..CHILDREN {
        let done = counts.done[n].load(Ordering::Relaxed);
        assert_eq!(caller.told(&child(n), json!({"op": "get", "key": "n"})), done, "{}", child(n));
        total += done;
    }
    let lost = caller.agent.events("journey");
    assert_eq!(lost, Vec::<Value>::new());
    println!("      journey: {total} increments, all there, none doubled");
    cluster.stop();
}
