//! ProcessHub's scenarios about hooks: registration, order, interceptors, and what the registry tells.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use process_hub::error::ErrorKind;
use process_hub::host::call::HostFailure;
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub_tests::cluster::{
    Cluster, PATIENCE, Step, ask, child_id, eventually, eventually_or, message, nodes_of, options, owner, spec,
};
use serde_json::{Value, json};

const THREE: [&str; 3] = ["main", "peer-1", "peer-2"];

type Told = Arc<Mutex<Vec<String>>>;

/// A handler that notes its name.
fn noting(told: &Told, name: &str) -> impl Fn(&process_hub::observe::HookEvent) + Send + Sync + 'static {
    let (told, name) = (Arc::clone(told), name.to_owned());
    move |_| told.lock().unwrap().push(name.clone())
}

#[test]
fn scenario_22_handlers_of_a_hook_then_they_are_told_in_order_of_priority_and_of_registration() {
    let cluster = Cluster::of(&["main"]);
    let hub = &cluster.hubs[0];
    let told = Told::default();
    for (name, priority) in [("low", -1), ("first", 7), ("ünïcode ✓", 0), ("second", 7), ("third", 7)] {
        hub.on(HookName::PostChildrenStart, name, priority, noting(&told, name)).unwrap();
    }
    hub.on(HookName::PostChildrenStart, "fails", 100, |_| panic!("on purpose")).unwrap();
    hub.start_child(spec("one"), options()).wait().unwrap();
    let order = ["first", "second", "third", "ünïcode ✓", "low"];
    eventually("all were told", || told.lock().unwrap().len() == order.len());
    assert_eq!(*told.lock().unwrap(), order);

    // An id that is there already is replaced, at its new place; other hooks have ids of their own.
    hub.on(HookName::PostChildrenStart, "first", -9, noting(&told, "again")).unwrap();
    hub.on(HookName::PreChildrenStart, "second", 0, noting(&told, "before")).unwrap();
    assert!(hub.off(HookName::PostChildrenStart, "third"));
    assert!(!hub.off(HookName::PostChildrenStart, "third"), "it is gone");
    assert!(!hub.off(HookName::PostChildrenStart, "never there"));
    told.lock().unwrap().clear();
    hub.start_child(spec("two"), options()).wait().unwrap();
    let order = ["before", "second", "ünïcode ✓", "low", "again"];
    eventually("all were told", || told.lock().unwrap().len() == order.len());
    assert_eq!(*told.lock().unwrap(), order);
}

#[test]
fn scenario_22_a_thousand_firings_then_every_handler_has_each_once_and_in_order() {
    let cluster = Cluster::of(&["main", "peer-1"]);
    let seen: Vec<Arc<Mutex<Vec<String>>>> = (0..2).map(|_| Arc::default()).collect();
    for (n, seen) in seen.iter().enumerate() {
        let seen = Arc::clone(seen);
        let handler = move |event: &process_hub::observe::HookEvent| {
            seen.lock().unwrap().push(event.payload["child_id"].as_str().unwrap().to_owned());
        };
        cluster.hubs[0].on(HookName::RegistryPidInserted, &format!("handler:{n}"), 0, handler).unwrap();
    }
    let ids = cluster.start_counters(1000);
    eventually("each was told", || seen.iter().all(|seen| seen.lock().unwrap().len() == ids.len()));
    let first = seen[0].lock().unwrap().clone();
    assert_eq!(first, *seen[1].lock().unwrap(), "both in the same order");
    let sorted: std::collections::BTreeSet<String> = first.into_iter().collect();
    assert_eq!(sorted, ids.into_iter().collect(), "each once");
}

#[test]
fn scenario_22_interceptors_then_each_changes_what_the_one_before_made() {
    let mut cluster = Cluster::new().listening(HookName::ChildFailed).listening(HookName::ChildDataAlter);
    cluster.join_all(&["main", "peer-1"]);
    let hub = &cluster.hubs[0];
    let adds = |letter: &'static str| {
        move |mut spec: process_hub::spec::ChildSpec, _: &[process_hub::ids::NodeName]| {
            let before = spec.metadata_value()["letters"].as_str().unwrap_or_default().to_owned();
            spec.metadata = Some(json!({"letters": format!("{before}{letter}")}).to_string().into());
            Ok(spec)
        }
    };
    hub.intercept("b", 5, adds("b")).unwrap();
    hub.intercept("c", 5, adds("c")).unwrap();
    hub.intercept("a", 9, adds("a")).unwrap();
    let letters = |id: &str| hub.child_lookup(id).unwrap().spec.metadata_value()["letters"].clone();
    hub.start_child(spec("one"), options()).wait().unwrap();
    assert_eq!(letters("one"), "abc");
    eventually("the observer is told of the spec as it was asked for", || {
        let told = cluster.heard("main", HookName::ChildDataAlter);
        told.len() == 1 && told[0]["spec"] == spec("one").to_json() && told[0]["nodes"].as_array().unwrap().len() == 1
    });
    assert!(hub.off(HookName::ChildDataAlter, "b"));
    hub.start_child(spec("two"), options()).wait().unwrap();
    assert_eq!(letters("two"), "ac");
    // One that fails changes nothing, and one that answers another child's spec neither.
    hub.intercept("fails", -1, |_, _| Err(HostFailure::new("on purpose"))).unwrap();
    hub.start_child(spec("three"), options()).wait().unwrap();
    assert_eq!(letters("three"), Value::Null);
    hub.intercept("fails", -1, |_, _| Ok(spec("other"))).unwrap();
    hub.start_child(spec("four"), options()).wait().unwrap();
    assert!(hub.child_lookup("other").is_none());
    eventually_or("both are told", || {
        let told = cluster.heard("main", HookName::ChildFailed);
        let facts = |at: usize, child: &str, word: &str| {
            told[at]["child_id"] == child
                && told[at]["callback"] == "child_data_alter"
                && told[at]["message"].as_str().unwrap().contains(word)
        };
        let is_right = told.len() == 2 && facts(0, "three", "on purpose") && facts(1, "four", "other");
        (!is_right).then(|| format!("{told:?}"))
    });
}

/// `{child: payloads in order}` of the hook on this node.
fn by_child(cluster: &Cluster, node: &str, hook: HookName) -> BTreeMap<String, Vec<Value>> {
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for payload in cluster.heard(node, hook) {
        told.entry(payload["child_id"].as_str().unwrap().to_owned()).or_default().push(payload);
    }
    told
}

#[test]
fn scenario_23_children_start_restart_and_stop_then_every_node_is_told_each_change_of_each_row() {
    let mut cluster = Cluster::new()
        .listening(HookName::RegistryPidInserted)
        .listening(HookName::RegistryPidRemoved)
        .listening(HookName::ChildProcessPidUpdated);
    cluster.join_all(&THREE);
    let ids = cluster.start_counters(100);
    let rows = cluster.registry();
    for node in THREE {
        eventually_or("every row is told once, as it is", || {
            let told = by_child(&cluster, node, HookName::RegistryPidInserted);
            ids.iter().find_map(|id| {
                let wanted = vec![json!({"child_id": id, "instances": &rows[id.as_str()].instances})];
                (told.get(id) != Some(&wanted)).then(|| format!("{node}: {id} {:?}", told.get(id)))
            })
        });
    }
    cluster.hubs[0].send(message(&ids[0], "crash")).wait().unwrap();
    let owner = nodes_of(&rows[ids[0].as_str()])[0].clone();
    let epoch = rows[ids[0].as_str()].instances[0].epoch;
    for node in THREE {
        eventually_or("the restart is told once", || {
            let told = cluster.heard(node, HookName::ChildProcessPidUpdated);
            let wanted = [json!({"child_id": ids[0], "node": owner, "epoch": epoch})];
            (told != wanted).then(|| format!("{node}: {told:?}"))
        });
    }
    eventually("it runs again", || cluster.census.starts(&ids[0]) == 2);
    cluster.settle();
    let rows = cluster.registry();
    let stopped = ids.iter().map(|id| child_id(id)).collect();
    cluster.hubs[1].stop_children(stopped, PATIENCE).wait().unwrap();
    for node in THREE {
        eventually_or("every row's end is told once", || {
            let told = by_child(&cluster, node, HookName::RegistryPidRemoved);
            ids.iter().find_map(|id| {
                let wanted = vec![json!({"child_id": id, "instances": &rows[id.as_str()].instances})];
                (told.get(id) != Some(&wanted)).then(|| format!("{node}: {id} {:?}", told.get(id)))
            })
        });
    }
    let error = cluster.hubs[0].stop_child(&child_id(&ids[0]), PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

/// ProcessHub forgets to tell of the rows that end with their node.
#[test]
fn scenario_23_a_node_dies_then_its_rows_end_and_begin_elsewhere_on_every_node() {
    let mut cluster = Cluster::new().listening(HookName::RegistryPidInserted).listening(HookName::RegistryPidRemoved);
    cluster.join_all(&THREE);
    let ids = cluster.start_counters(60);
    let before = cluster.registry();
    cluster.take("peer-2").halt(Duration::from_secs(10));
    cluster.settle();
    let after = cluster.registry();
    let moved: Vec<&String> = ids.iter().filter(|id| nodes_of(&before[id.as_str()])[0].as_str() == "peer-2").collect();
    assert!(!moved.is_empty());
    for node in ["main", "peer-1"] {
        eventually_or("each is told once", || {
            let inserted = by_child(&cluster, node, HookName::RegistryPidInserted);
            let removed = by_child(&cluster, node, HookName::RegistryPidRemoved);
            if removed.len() != moved.len() {
                return Some(format!("{node}: {} of {} ends are told", removed.len(), moved.len()));
            }
            moved.iter().find_map(|id| {
                let told = |row: &process_hub::spec::Row| json!({"child_id": id, "instances": &row.instances});
                let (old, new) = (told(&before[id.as_str()]), told(&after[id.as_str()]));
                let is_right =
                    removed.get(*id) == Some(&vec![old.clone()]) && inserted.get(*id) == Some(&vec![old, new]);
                (!is_right).then(|| {
                    format!("{node}: {id}: {:?} {:?} {:?}", removed.get(*id), inserted.get(*id), after[id.as_str()])
                })
            })
        });
    }
}

#[test]
fn scenario_23_one_child_is_looked_for_in_many_ways_then_the_registry_answers_alike() {
    let cluster = Cluster::of(&THREE);
    cluster.start_counters(30);
    let mut tagged = spec("tagged");
    tagged.metadata = Some(json!({"tag": "vip", "price": 7}).to_string().into());
    let tagged = tagged.with_args(Payload::json(&b"[1]"[..]));
    cluster.hubs[0].start_child(tagged.clone(), options()).wait().unwrap();
    cluster.settle();
    for hub in &cluster.hubs {
        let row = hub.child_lookup("tagged").unwrap();
        assert_eq!(*row.spec, tagged);
        assert_eq!(hub.tag_query("vip"), std::slice::from_ref(&row));
        assert_eq!(hub.metadata_query("price"), std::slice::from_ref(&row));
        assert_eq!(hub.process_registry()["tagged"], row);
        let is_here = nodes_of(&row)[0] == *hub.node_name();
        let local = hub.which_children_local();
        assert_eq!(local[hub.node_name()].contains(&child_id("tagged")), is_here);
        assert!(hub.child_lookup("missing").is_none());
        assert!(hub.tag_query("missing").is_empty());
    }
    assert_eq!(ask(&cluster.hubs[1], "tagged", "add"), "1");
}

/// It was told as soon as nothing moved away any more.
#[test]
fn a_node_dies_and_its_child_starts_slowly_then_the_redistribution_is_over_after_that() {
    let mut cluster = Cluster::new().listening(HookName::PostNodesRedistribution);
    cluster.join_all(&["main", "peer-1"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["main", "peer-1"], id) == "peer-1").unwrap();
    cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
    cluster.census.close_gate(Step::Start, &id);
    cluster.take("peer-1").halt(Duration::from_secs(10));
    cluster.census.await_at_gate(Step::Start, &id, 1);
    // Whatever is told on the thread of the observers was told before this.
    let gone = json!({"event": "nodedown", "node": "peer-1"});
    cluster.hubs[0].start_child(spec("another"), options()).wait().unwrap();
    assert!(!cluster.heard("main", HookName::PostNodesRedistribution).contains(&gone));
    cluster.census.open_gate(Step::Start, &id);
    eventually("it is told", || cluster.heard("main", HookName::PostNodesRedistribution).contains(&gone));
    assert_eq!(ask(&cluster.hubs[0], &id, "add"), "1");
}
