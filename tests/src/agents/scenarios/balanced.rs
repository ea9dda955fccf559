//! Children where there is capacity: one start, a node that joins, and one that dies.

use std::collections::BTreeMap;

use serde_json::json;

use crate::agents::cluster::{Cluster, Mix, eventually_or, text};
use crate::agents::process::Signal;

const CHILDREN: usize = 30;

/// Every node is given its share of a start, by loads as they are; one that joins is given its share of what runs, with
/// its state; what ran on one that dies runs on the others.
pub(crate) fn balanced(mix: &Mix) {
    let distribution = json!({"type": "load_balanced", "push_interval_ms": 500, "nodeup_redistribution": true});
    let mut cluster = mix.hubs("balanced", json!({"distribution": distribution}));
    for agent in mix.agents() {
        cluster.join(agent);
    }
    cluster.settle();
    let data = |number: usize| json!({"data": {"number": number}});
    let spec = |number: usize| json!({"id": id(number), "kind": "probe", "args": data(number)});
    let specs: Vec<_> = (0..CHILDREN).map(spec).collect();
    let started = cluster.members[1].ask("start_children", json!({"specs": specs, "options": {"timeout_ms": 20_000}}));
    assert_eq!(started["errors"], json!([]), "{started}");
    await_all(&cluster);
    let counts = counts(&cluster);
    // Load takes at most 700 of 1000 of a node that has few children.
    let least = CHILDREN / (4 * mix.agents().len());
    for agent in mix.agents() {
        let count = counts.get(&agent.name).copied().unwrap_or(0);
        assert!(count >= least, "{} was given {count} of {counts:?}", agent.name);
    }
    let language = mix.languages[mix.languages.len() - 1];
    let late = cluster.join_new(language);
    cluster.settle();
    eventually_or("the node that joined is given its share", || {
        let count = self::counts(&cluster).get(late.name()).copied().unwrap_or(0);
        (count < least.min(2)).then(|| format!("{count} children"))
    });
    cluster.settle();
    await_all(&cluster);
    for number in 0..CHILDREN {
        let kept = cluster.members[0].told(&id(number), json!({"op": "get", "key": "number"}));
        assert_eq!(kept, json!(number), "it moved with its state, if it moved");
    }
    cluster.remove(&late);
    late.agent.signal(Signal::Kill);
    cluster.settle();
    await_all(&cluster);
    cluster.stop();
}

fn id(number: usize) -> String {
    format!("balanced:{number}")
}

/// How many children each node has, as the first member knows.
fn counts(cluster: &Cluster<'_>) -> BTreeMap<String, usize> {
    let registry = cluster.members[0].ask("process_registry", json!({}));
    let rows = registry.as_object().into_iter().flatten();
    let mut counts = BTreeMap::new();
    for instance in rows.flat_map(|(_, row)| row["instances"].as_array().into_iter().flatten()) {
        *counts.entry(text(&instance["node"])).or_default() += 1;
    }
    counts
}

/// Waits until every child runs once, on members.
fn await_all(cluster: &Cluster<'_>) {
    eventually_or("every child runs once, on a member", || {
        let counts = counts(cluster);
        let is_member = |name: &String| cluster.members.iter().any(|member| member.name() == name);
        let is_right = counts.values().sum::<usize>() == CHILDREN && counts.keys().all(is_member);
        (!is_right).then(|| format!("{counts:?}"))
    });
}
