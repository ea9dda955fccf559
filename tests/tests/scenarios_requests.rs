//! ProcessHub's scenarios about starts, stops, queries and exits, and the gaps its suite leaves there.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::time::{Duration, Instant};

use process_hub::config::RestartConfig;
use process_hub::engine::{IfExists, OnFailure, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::{ChildError, ChildSpec, RestartPolicy, StartResult, StopResult};
use process_hub_tests::cluster::{
    Cluster, PATIENCE, Step, ask, call, child_id, eventually, eventually_or, message, nodes_of, options, owner, spec,
    text,
};
use serde_json::json;

const THREE: [&str; 3] = ["main", "peer-1", "peer-2"];

fn refusing(id: &str) -> ChildSpec {
    spec(id).with_args(Payload::json(&b"\"refuse\""[..]))
}

fn kinds(errors: &[ChildError]) -> Vec<(&str, ErrorKind)> {
    errors.iter().map(|error| (error.id.as_str(), error.kind)).collect()
}

fn start(cluster: &Cluster, specs: Vec<ChildSpec>, options: StartOptions) -> StartResult {
    cluster.hubs[0].start_children(specs, options).wait().unwrap()
}

#[test]
fn scenario_18_start_is_not_awaited_then_the_child_runs_all_the_same() {
    let cluster = Cluster::of(&THREE);
    drop(cluster.hubs[0].start_child(spec("one"), options()));
    eventually("it runs", || cluster.hubs[2].child_lookup("one").is_some_and(|row| row.instances.len() == 1));
    assert_eq!(ask(&cluster.hubs[1], "one", "add"), "1");
}

#[test]
fn scenario_18_start_of_nothing_then_no_children() {
    let cluster = Cluster::of(&THREE);
    let error = cluster.hubs[0].start_children(vec![], options()).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoChildren);
    let error = cluster.hubs[0].stop_children(vec![], PATIENCE).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoChildren);
}

#[test]
fn scenario_18_one_of_the_children_is_there_then_it_alone_is_refused() {
    let cluster = Cluster::of(&THREE);
    start(&cluster, vec![spec("known")], options());
    assert_eq!(ask(&cluster.hubs[0], "known", "add"), "1");
    // From another node: the owner decides, not the caller's copy.
    let result = cluster.hubs[2].start_children(vec![spec("known"), spec("new")], options()).wait().unwrap();
    assert_eq!(kinds(&result.errors), [("known", ErrorKind::AlreadyStarted)]);
    assert_eq!(result.started.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(ask(&cluster.hubs[0], "known", "total"), "1", "the running child is untouched");
}

#[test]
fn scenario_18_a_child_twice_in_one_call_then_the_first_starts_and_the_second_is_refused() {
    let cluster = Cluster::of(&THREE);
    let result = start(&cluster, vec![spec("twin"), spec("twin"), spec("other")], options());
    assert_eq!(kinds(&result.errors), [("twin", ErrorKind::AlreadyStarted)]);
    let mut started: Vec<&str> = result.started.iter().map(|it| it.id.as_str()).collect();
    started.sort_unstable();
    assert_eq!(started, ["other", "twin"]);
    cluster.assert_each_lives_once(&["twin".into(), "other".into()]);
}

#[test]
fn scenario_18_a_start_callback_fails_then_the_others_run_and_nothing_of_it_is_wanted() {
    let cluster = Cluster::of(&THREE);
    let result = start(&cluster, vec![spec("good"), refusing("bad")], options());
    assert_eq!(kinds(&result.errors), [("bad", ErrorKind::StartFailed)]);
    assert!(result.errors[0].message.contains("refused on purpose"), "{:?}", result.errors);
    assert!(result.errors[0].node.is_some());
    assert_eq!(result.started.len(), 1);
    cluster.settle();
    for hub in &cluster.hubs {
        assert!(hub.child_lookup("bad").is_none());
    }
    start(&cluster, vec![spec("bad")], options());
    assert_eq!(ask(&cluster.hubs[0], "bad", "add"), "1", "the id is free for a spec that works");
}

#[test]
fn scenario_18_no_time_is_given_then_timeout_and_the_children_run_all_the_same() {
    let cluster = Cluster::of(&THREE);
    let now = StartOptions { timeout: Duration::ZERO, ..StartOptions::default() };
    let begin = Instant::now();
    let result = start(&cluster, vec![spec("one"), spec("two")], now);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(kinds(&result.errors), [("one", ErrorKind::Timeout), ("two", ErrorKind::Timeout)]);
    assert_eq!(result.started, []);
    for hub in &cluster.hubs {
        eventually("both run all the same", || hub.child_count() == 2);
    }
    cluster.assert_each_lives_once(&["one".into(), "two".into()]);
}

#[test]
fn scenario_18_check_existing_is_off_then_the_running_child_is_refused_all_the_same_and_untouched() {
    let cluster = Cluster::of(&THREE);
    start(&cluster, vec![spec("known")], options());
    assert_eq!(ask(&cluster.hubs[0], "known", "add"), "1");
    let unchecked = StartOptions { check_existing: false, ..options() };
    let result = cluster.hubs[1].start_children(vec![spec("known"), spec("new")], unchecked).wait().unwrap();
    assert_eq!(kinds(&result.errors), [("known", ErrorKind::AlreadyStarted)]);
    assert_eq!(result.started.len(), 1);
    assert_eq!(ask(&cluster.hubs[2], "known", "total"), "1");
    assert_eq!(cluster.census.starts("known"), 1);
}

#[test]
fn known_id_and_rollback_then_nothing_begins_unless_check_existing_is_off() {
    let cluster = Cluster::of(&THREE);
    start(&cluster, vec![spec("known")], options());
    let rollback = StartOptions { on_failure: OnFailure::Rollback, ..options() };
    let specs = |new: &str| vec![spec(new), spec("known"), spec(&format!("{new} too"))];
    for hub in &cluster.hubs {
        eventually("it is known here", || hub.child_lookup("known").is_some());
        let checked = hub.start_children(specs("checked"), rollback.clone()).wait().unwrap();
        assert_eq!(kinds(&checked.errors), [("known", ErrorKind::AlreadyStarted)]);
        assert_eq!((checked.rollback, checked.started.len()), (true, 0));
    }
    assert_eq!((cluster.census.starts("checked"), cluster.census.starts("checked too")), (0, 0));
    let unchecked = StartOptions { check_existing: false, ..rollback.clone() };
    let result = cluster.hubs[1].start_children(specs("unchecked"), unchecked).wait().unwrap();
    assert_eq!(kinds(&result.errors), [("known", ErrorKind::AlreadyStarted)]);
    assert_eq!((result.rollback, result.started.len()), (true, 2));
    assert_eq!((cluster.census.starts("unchecked"), cluster.census.starts("unchecked too")), (1, 1));
    // Known here and stopped: the owner decides, and the rest begins.
    cluster.hubs[0].stop_children(vec![child_id("known")], PATIENCE).wait().unwrap();
    let again = cluster.hubs[2].start_children(specs("again"), rollback).wait().unwrap();
    assert_eq!((again.errors, again.started.len()), (vec![], 3));
}

#[test]
fn scenario_18_if_exists_is_return_then_the_running_child_is_the_answer() {
    let cluster = Cluster::of(&THREE);
    let first = start(&cluster, vec![spec("known")], options()).into_one().unwrap();
    let returned = StartOptions { if_exists: IfExists::Return, ..options() };
    let again = cluster.hubs[1].start_child(spec("known"), returned).wait().unwrap();
    assert_eq!(again, first);
    assert_eq!(cluster.census.starts("known"), 1);
}

#[test]
fn scenario_18_one_start_fails_and_rollback_is_asked_for_then_none_is_left_running() {
    let cluster = Cluster::of(&THREE);
    start(&cluster, vec![spec("before")], options());
    let rollback = StartOptions { on_failure: OnFailure::Rollback, ..options() };
    let mut specs: Vec<ChildSpec> = (0..30).map(|n| spec(&format!("child:{n}"))).collect();
    specs.push(refusing("bad"));
    let result = start(&cluster, specs, rollback);
    assert!(result.rollback);
    assert_eq!(kinds(&result.errors), [("bad", ErrorKind::StartFailed)]);
    cluster.assert_each_lives_once(&["before".into()]);
    for hub in &cluster.hubs {
        eventually("nothing of it is left in the registry", || hub.child_count() == 1);
    }
}

#[test]
fn scenario_18_metadata_of_the_request_then_it_fills_what_the_spec_leaves_out() {
    let cluster = Cluster::of(&THREE);
    let mut own = spec("own");
    own.metadata = Some(r#"{"tag":"mine"}"#.into());
    let metadata = json!({"tag": "ours", "zone": 7}).as_object().cloned();
    start(&cluster, vec![own, spec("none")], StartOptions { metadata, ..options() });
    cluster.settle();
    let hub = &cluster.hubs[2];
    assert_eq!(hub.child_lookup("own").unwrap().spec.metadata_value(), json!({"tag": "mine", "zone": 7}));
    assert_eq!(hub.child_lookup("none").unwrap().spec.metadata_value(), json!({"tag": "ours", "zone": 7}));
}

#[test]
fn scenario_19_stop_is_awaited_or_not_then_the_child_is_gone_everywhere() {
    let cluster = Cluster::of(&THREE);
    start(&cluster, vec![spec("one"), spec("two")], options());
    cluster.settle();
    let host = nodes_of(&cluster.hubs[0].child_lookup("one").unwrap());
    let stopped = cluster.hubs[2].stop_child(&child_id("one"), PATIENCE).wait().unwrap();
    assert_eq!((stopped.id, stopped.nodes), (child_id("one"), host));
    assert!(!cluster.census.live().contains_key("one"));
    drop(cluster.hubs[1].stop_child(&child_id("two"), PATIENCE));
    for hub in &cluster.hubs {
        eventually("both are gone", || hub.child_count() == 0);
    }
    start(&cluster, vec![spec("one")], options());
    assert_eq!(ask(&cluster.hubs[0], "one", "add"), "1", "an id can be used again, with a new state");
}

#[test]
fn scenario_19_unknown_ids_among_the_stopped_then_each_is_named_and_the_rest_stops() {
    let cluster = Cluster::of(&THREE);
    start(&cluster, vec![spec("known")], options());
    let ids = ["known", "unknown", "ünknown ✓"].map(child_id).to_vec();
    let result = cluster.hubs[1].stop_children(ids, PATIENCE).wait().unwrap();
    assert_eq!(result.stopped.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["known"]);
    let mut unknown = kinds(&result.errors);
    unknown.sort_unstable();
    assert_eq!(unknown, [("unknown", ErrorKind::NotFound), ("ünknown ✓", ErrorKind::NotFound)]);
}

#[test]
fn scenario_20_queries_then_each_has_its_shape() {
    let cluster = Cluster::of(&THREE);
    let ids: Vec<String> = (0..30).map(|n| format!("child:{n}")).collect();
    let specs = ids.iter().enumerate().map(|(n, id)| {
        let metadata = if n % 2 == 0 { r#"{"tag":"even"}"# } else { r#"{"odd":true}"# };
        ChildSpec { metadata: Some(metadata.into()), ..spec(id) }
    });
    start(&cluster, specs.collect(), options());
    cluster.settle();
    let hub = &cluster.hubs[1];
    let registry = hub.process_registry();
    assert_eq!(registry.len(), 30);
    let global = hub.which_children_global(PATIENCE).wait().unwrap();
    assert_eq!(global.len(), 3, "every member is there, with or without children");
    for (id, row) in &registry {
        assert_eq!(hub.child_lookup(id.as_str()).as_ref(), Some(row));
        assert!(nodes_of(row).iter().all(|node| global[node].contains(id)), "{id}");
    }
    assert_eq!(global.values().map(Vec::len).sum::<usize>(), 30);
    let local = hub.which_children_local();
    assert_eq!(local.keys().collect::<Vec<_>>(), [hub.node_name()]);
    assert_eq!(local[hub.node_name()], global[hub.node_name()]);
    assert_eq!((hub.tag_query("even").len(), hub.tag_query("none").len()), (15, 0));
    assert_eq!((hub.metadata_query("odd").len(), hub.metadata_query("tag").len()), (15, 15));
    assert!(hub.child_lookup("unknown").is_none());
    let names: Vec<String> = hub.nodes(true).iter().map(ToString::to_string).collect();
    assert_eq!(names, THREE);
    assert_eq!(hub.nodes(false).len(), 2);
    let row = serde_json::to_value(&*registry["child:1"]).unwrap();
    let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "instances", "metadata", "spec", "state_lost"]);
    let keys: Vec<&String> = row["instances"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["epoch", "mode", "node", "since_ms"]);
}

#[test]
fn scenario_32_transient_child_ends_itself_then_every_registry_forgets_it() {
    let cluster = Cluster::of(&THREE);
    let transient = |id: &str| ChildSpec { restart: RestartPolicy::Transient, ..spec(id) };
    start(&cluster, vec![transient("ends"), transient("stops"), transient("stays")], options());
    cluster.settle();
    cluster.hubs[0].send(message("ends", "exit")).wait().unwrap();
    cluster.hubs[1].send(message("stops", "stop_self")).wait().unwrap();
    for hub in &cluster.hubs {
        eventually("two are gone", || hub.child_lookup("ends").is_none() && hub.child_lookup("stops").is_none());
    }
    assert_eq!(call(&cluster.hubs[0], "ends", "add").unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(cluster.census.starts("ends"), 1);
    cluster.hubs[0].send(message("stays", "crash")).wait().unwrap();
    eventually("after a crash it is started again", || cluster.census.starts("stays") == 2);
    assert_eq!(ask(&cluster.hubs[2], "stays", "add"), "1");
}

#[test]
fn scenario_33_results_then_they_say_which_and_why_also_when_empty() {
    let error = |result: StartResult| result.into_one().unwrap_err().kind;
    assert_eq!(error(StartResult::default()), ErrorKind::Internal);
    let document = serde_json::to_value(StartResult::default()).unwrap();
    assert_eq!(document, json!({"status": "ok", "started": [], "errors": [], "rollback": false}));
    let document = serde_json::to_value(StopResult::default()).unwrap();
    assert_eq!(document, json!({"status": "ok", "stopped": [], "errors": []}));

    let cluster = Cluster::of(&THREE);
    let mixed = start(&cluster, vec![spec("good"), refusing("bad")], options());
    let document = serde_json::to_value(&mixed).unwrap();
    assert_eq!(document["status"], "error");
    assert_eq!(document["started"][0]["id"], "good");
    assert_eq!(document["errors"][0]["kind"], "start_failed");
    let one = mixed.into_one().unwrap_err();
    assert_eq!((one.kind, one.child_id.as_deref()), (ErrorKind::StartFailed, Some("bad")));
    let stopped = cluster.hubs[0].stop_children(vec![child_id("good")], PATIENCE).wait().unwrap();
    let nodes = serde_json::to_value(&stopped).unwrap()["stopped"][0]["nodes"].clone();
    assert_eq!(nodes.as_array().map(Vec::len), Some(1));
    assert_eq!(stopped.into_one().unwrap().id.as_str(), "good");
}

#[test]
fn scenario_51_invalid_specs_then_an_error_each_and_the_hub_lives() {
    let cluster = Cluster::of(&THREE);
    let documents = [
        json!({"kind": "counter"}),
        json!({"id": "", "kind": "counter"}),
        json!({"id": 7, "kind": "counter"}),
        json!({"id": "x"}),
        json!({"id": "x", "kind": "counter", "restart": "sometimes"}),
        json!({"id": "x", "kind": "counter", "metadata": [1]}),
        json!({"id": "x", "kind": "counter", "colour": "red"}),
        json!({"id": "x".repeat(256), "kind": "counter"}),
        json!(["x"]),
        json!(null),
    ];
    for document in documents {
        let error = ChildSpec::from_json(&document).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{document}: {error}");
    }
    let unknown = ChildSpec::new("x", "nobody-offers-this").unwrap();
    let unlabelled = ChildSpec { require: [("zone".into(), "mars".into())].into(), ..spec("y") };
    let result = start(&cluster, vec![unknown, unlabelled, spec("good")], options());
    assert_eq!(kinds(&result.errors), [("x", ErrorKind::UnknownKind), ("y", ErrorKind::UnknownKind)]);
    for hub in &cluster.hubs {
        assert!(hub.is_alive());
        assert_eq!(ask(hub, "good", "node"), result.started[0].instances[0].node.as_str());
    }
}

#[test]
fn scenario_57_temporary_child_exits_then_its_siblings_go_on() {
    let cluster = Cluster::of(&["a"]);
    let siblings = cluster.start_counters(50);
    for id in &siblings {
        assert_eq!(ask(&cluster.hubs[0], id, "add"), "1");
    }
    for (id, exit) in [("ends", "exit"), ("crashes", "crash")] {
        let temporary = ChildSpec { restart: RestartPolicy::Temporary, ..spec(id) };
        start(&cluster, vec![temporary], options());
        cluster.hubs[0].send(message(id, exit)).wait().unwrap();
        eventually("it is gone", || cluster.hubs[0].child_lookup(id).is_none());
        assert_eq!(cluster.census.starts(id), 1, "{id} is not started again");
    }
    cluster.assert_each_lives_once(&siblings);
    for id in &siblings {
        assert_eq!(ask(&cluster.hubs[0], id, "total"), "1");
        assert_eq!(cluster.census.starts(id), 1);
    }
}

#[test]
fn scenario_58_one_child_crashes_again_and_again_then_it_alone_is_quarantined() {
    let restart = RestartConfig {
        max_restarts: 5,
        window: Duration::from_secs(60),
        backoff: (Duration::from_millis(1), Duration::from_millis(20)),
    };
    let mut cluster = Cluster::with(move |config| config.with_restart(restart.clone()))
        .listening(HookName::ChildQuarantined)
        .listening(HookName::ChildFailed);
    cluster.join_all(&["a", "b"]);
    let siblings = cluster.start_counters(50);
    for id in &siblings {
        assert_eq!(ask(&cluster.hubs[0], id, "add"), "1");
    }
    let looping = spec("looping").with_args(Payload::json(&b"\"crash\""[..]));
    start(&cluster, vec![looping], options());
    cluster.hubs[0].send(message("looping", "crash")).wait().unwrap();
    for node in ["a", "b"] {
        eventually_or("every node is told of the quarantine", || {
            let told = cluster.heard(node, HookName::ChildQuarantined);
            let wanted = [json!({"child_id": "looping", "node": owner(&["a", "b"], "looping"), "restarts": 5})];
            (told != wanted).then(|| format!("{node}: {told:?}"))
        });
    }
    assert_eq!(cluster.census.starts("looping"), 6, "the first start and five restarts");
    let error = cluster.hubs[1]
        .call(process_hub::engine::MessageCommand { timeout: Duration::from_millis(500), ..message("looping", "add") });
    let kind = error.wait().unwrap_err().kind;
    assert!([ErrorKind::RestartLimit, ErrorKind::NotActive].contains(&kind), "{kind}");
    for id in &siblings {
        assert_eq!(ask(&cluster.hubs[1], id, "total"), "1", "{id} was disturbed");
        assert_eq!(cluster.census.starts(id), 1);
    }
    let stopped = cluster.hubs[1].stop_child(&child_id("looping"), PATIENCE).wait();
    assert!(stopped.is_ok(), "a stop ends the quarantine: {stopped:?}");
    start(&cluster, vec![spec("looping")], options());
    assert_eq!(ask(&cluster.hubs[0], "looping", "add"), "1");
}

#[test]
fn scenario_58_one_child_blocks_a_thread_then_its_siblings_answer() {
    let cluster = Cluster::of(&["a"]);
    let ids = cluster.start_counters(20);
    cluster.census.close_gate(Step::Handle, &ids[0]);
    let blocked = cluster.hubs[0].call(message(&ids[0], "wait"));
    cluster.census.await_at_gate(Step::Handle, &ids[0], 1);
    for id in &ids[1..] {
        assert_eq!(ask(&cluster.hubs[0], id, "add"), "1");
    }
    let behind = cluster.hubs[0].call(process_hub::engine::MessageCommand {
        timeout: Duration::from_millis(200),
        ..process_hub::engine::MessageCommand::new(child_id(&ids[0]), text("add"))
    });
    assert_eq!(behind.wait().unwrap_err().kind, ErrorKind::Timeout);
    cluster.census.open_gate(Step::Handle, &ids[0]);
    assert!(blocked.wait().is_ok());
}
