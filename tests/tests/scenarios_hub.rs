//! ProcessHub's scenarios about the hub itself: its questions, its options, its static children, late answers.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::time::Duration;

use process_hub::config::{HubConfig, Migration, Profile, Redundancy, ReplicationFactor};
use process_hub::engine::{IfExists, OnFailure, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::hub::{Hub, Node};
use process_hub::observe::HookName;
use process_hub::spec::{ChildSpec, RestartPolicy};
use process_hub_tests::cluster::{
    COUNTER, Cluster, PATIENCE, Step, ask, child_id, counter_kind, eventually, eventually_or, node_name, options,
    owner, spec,
};
use serde_json::json;

const THREE: [&str; 3] = ["main", "peer-1", "peer-2"];

#[test]
fn scenario_21_a_hub_is_asked_and_stopped_twice_then_it_answers_the_same() {
    let mut cluster = Cluster::of(&THREE);
    let hub = cluster.take("main");
    assert!(hub.is_alive());
    assert!(!hub.is_locked());
    assert!(!hub.is_partitioned());
    assert_eq!(hub.nodes(false), ["peer-1", "peer-2"].map(node_name));
    assert_eq!(hub.nodes(true), THREE.map(node_name));
    let first = hub.stop(PATIENCE).unwrap();
    assert_eq!(hub.stop(PATIENCE).unwrap(), first);
    assert!(!hub.is_alive());
    let error = hub.start_child(spec("late"), options()).wait().unwrap_err();
    assert_eq!((error.kind, &*error.operation), (ErrorKind::Closed, "start_children"));
    cluster.see_each_other();
}

#[test]
fn scenario_21_a_child_moves_away_then_its_node_is_locked_until_it_is_gone() {
    let mut cluster = Cluster::new().listening(HookName::PriorityStateUpdated);
    cluster.join_all(&["a"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
    cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
    cluster.census.close_gate(Step::Prepare, &id);
    cluster.join("b");
    cluster.census.await_at_gate(Step::Prepare, &id, 1);
    assert!(cluster.hub("a").is_locked());
    assert!(!cluster.hub("b").is_locked(), "it is the giver that is locked");
    cluster.hubs[0].start_child(spec("meanwhile"), options()).wait().unwrap();
    assert_eq!(ask(&cluster.hubs[1], "meanwhile", "add"), "1", "R16: what does not move goes on");
    cluster.census.open_gate(Step::Prepare, &id);
    cluster.settle();
    assert!(!cluster.hub("a").is_locked());
    eventually_or("the lock was told", || {
        let told = cluster.heard("a", HookName::PriorityStateUpdated);
        (told != [json!({"locked": true}), json!({"locked": false})]).then(|| format!("{told:?}"))
    });
}

#[test]
fn scenario_21_a_hub_is_started_with_what_it_cannot_be_then_every_problem_is_told() {
    let error = HubConfig::from_json(&json!("orders")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    let error = HubConfig::from_json(&json!({"hub_id": "", "host_threads": 0, "colour": "red"})).unwrap_err();
    for fact in ["hub_id", "host_threads", "colour"] {
        assert!(error.message.contains(fact), "{fact} is not told: {error}");
    }
    let config = Cluster::new().config("a");
    let interval = config.hubs_discover_interval;
    let node = Node::start(config.node.as_ref().unwrap(), &Profile::fast(), interval).unwrap();
    let hub = Hub::builder(config.clone()).node(&node).start().unwrap();
    let error = Hub::builder(config).node(&node).start().unwrap_err();
    assert_eq!(error.kind, ErrorKind::HubExists);
    assert!(hub.is_alive(), "the first one lives");
    hub.stop(PATIENCE).unwrap();
}

#[test]
fn scenario_31_ten_static_children_then_they_run_after_the_start() {
    let specs: Vec<ChildSpec> = (0..10).map(|n| spec(&format!("static:{n}"))).collect();
    let ids: Vec<String> = specs.iter().map(|spec| spec.id.to_string()).collect();
    let mut cluster = Cluster::with(move |config| HubConfig { child_specs: specs.clone(), ..config });
    cluster.join("main");
    eventually("they run", || cluster.hubs[0].child_count() == 10);
    cluster.assert_each_lives_once(&ids);
    for id in &ids {
        assert_eq!(ask(&cluster.hubs[0], id, "add"), "1");
    }
}

#[test]
fn scenario_55_static_children_on_all_nodes_of_a_running_cluster_then_none_is_doubled() {
    let specs: Vec<ChildSpec> = (0..10).map(|n| spec(&format!("static:{n}"))).collect();
    let ids: Vec<String> = specs.iter().map(|spec| spec.id.to_string()).collect();
    let lists = move |config: HubConfig| {
        let is_listing = config.node.as_ref().unwrap().name.as_ref().unwrap().as_str() != "silent";
        HubConfig { child_specs: if is_listing { specs.clone() } else { Vec::new() }, ..config }
    };
    let mut cluster = Cluster::with(lists);
    cluster.join("silent");
    // At once, by several.
    for name in ["a", "b", "c"] {
        cluster.join(name);
    }
    eventually("they run", || cluster.hubs.iter().all(|hub| hub.child_count() == 10));
    cluster.settle();
    cluster.assert_each_lives_once(&ids);
    for id in &ids {
        assert_eq!(ask(&cluster.hubs[0], id, "add"), "1");
    }
    // One that lists them later, and one that comes back.
    cluster.join_all(&["later"]);
    cluster.take("a").stop(PATIENCE).unwrap();
    cluster.settle();
    cluster.join_all(&["a"]);
    cluster.assert_each_lives_once(&ids);
    for id in &ids {
        assert_eq!(ask(&cluster.hubs[1], id, "total"), "1", "{id} was started anew");
    }
}

#[test]
fn static_child_whose_kind_nobody_offers_then_it_is_told_and_runs_once_somebody_does() {
    let mut listed = spec("static");
    listed.kind = process_hub::ids::KindName::new("rare").unwrap();
    let mut cluster = Cluster::with(move |config| HubConfig { child_specs: vec![listed.clone()], ..config })
        .listening(HookName::ChildUnplaced);
    cluster.join_all(&["a", "b"]);
    for node in ["a", "b"] {
        eventually_or("it is told once", || {
            let told = cluster.heard(node, HookName::ChildUnplaced);
            let is_right =
                told.len() == 1 && told[0]["child_id"] == "static" && told[0]["why"].to_string().contains("rare");
            (!is_right).then(|| format!("{node}: {told:?}"))
        });
    }
    let place = cluster.hubs[0].where_is(&child_id("static")).wait().unwrap();
    assert!(place["unplaced"].as_str().is_some_and(|why| why.contains("rare")), "{place}");
    cluster.hubs[1].register("rare", counter_kind(std::sync::Arc::clone(&cluster.census))).wait().unwrap();
    eventually("it runs", || {
        cluster.hubs.iter().all(|hub| hub.child_lookup("static").is_some_and(|row| row.instances.len() == 1))
    });
    assert_eq!(ask(&cluster.hubs[0], "static", "node"), "b");
}

#[test]
fn scenario_34_some_options_are_given_then_the_others_have_their_defaults() {
    let given = StartOptions::from_json(&json!({"timeout_ms": 7, "if_exists": "return"})).unwrap();
    let default = StartOptions::default();
    assert_eq!((given.timeout, given.if_exists), (Duration::from_millis(7), IfExists::Return));
    assert_eq!((given.check_existing, given.on_failure), (default.check_existing, default.on_failure));
    assert_eq!((default.check_existing, default.on_failure), (true, OnFailure::Continue));
    assert_eq!((default.timeout, default.if_exists), (Duration::from_secs(5), IfExists::Error));

    let config = HubConfig::from_json(&json!({
        "hub_id": "orders", "migration": {"type": "hot_swap", "retention_ms": 77},
        "redundancy": {"type": "replication", "replication_factor": "cluster_size"}, "host_threads": 3,
    }));
    let config = config.unwrap();
    let Migration::HotSwap { retention, handover, handover_data_wait, .. } = config.migration else {
        panic!("{:?}", config.migration)
    };
    assert_eq!(retention, Duration::from_millis(77));
    assert_eq!((handover, handover_data_wait), (false, Duration::from_secs(3)));
    let Redundancy::Replication { factor, model, signal } = config.redundancy else {
        panic!("{:?}", config.redundancy)
    };
    let wanted = Redundancy::replication().with_factor(ReplicationFactor::ClusterSize);
    assert_eq!(Redundancy::Replication { factor, model, signal }, wanted);
    assert_eq!((config.host_threads, config.shutdown_timeout), (3, Duration::from_secs(60)));

    let spec = ChildSpec::from_json(&json!({"id": "one", "kind": COUNTER, "restart": "transient"})).unwrap();
    assert_eq!(spec, ChildSpec { restart: RestartPolicy::Transient, ..ChildSpec::new("one", COUNTER).unwrap() });
}

#[test]
fn scenario_40_an_answer_is_waited_for_late_then_it_is_there_once_and_whole() {
    let cluster = Cluster::of(&THREE);
    let specs = || (0..1000).map(|n| spec(&format!("child:{n}"))).collect::<Vec<_>>();
    // A time that is over long before anybody waits; the owners answer in several pieces each.
    let soon = StartOptions { timeout: Duration::from_secs(20), ..options() };
    let mut started = cluster.hubs[0].start_children(specs(), soon);
    eventually("all run, and nobody waits", || cluster.hubs[0].child_count() == 1000);
    assert_eq!(cluster.hubs[1].start_child(spec("other"), options()).wait().unwrap().id.as_str(), "other");
    let result = started.wait_timeout(PATIENCE).expect("an answer").unwrap();
    assert_eq!((result.started.len(), result.errors), (1000, vec![]));
    assert!(started.wait_timeout(PATIENCE).is_none(), "the answer is given once");
    let late = StartOptions { timeout: Duration::ZERO, ..options() };
    let expired = cluster.hubs[0].start_children(vec![spec("expired")], late);
    eventually("it runs all the same", || cluster.hubs[2].child_lookup("expired").is_some());
    let result = expired.wait().unwrap();
    assert_eq!(result.errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [ErrorKind::Timeout]);
}
