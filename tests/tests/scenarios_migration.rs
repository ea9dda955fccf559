//! ProcessHub's scenarios about hand-over, and the gaps its suite leaves there.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use process_hub::config::Migration;
use process_hub::hub::Hub;
use process_hub::observe::HookName;
use process_hub::spec::DrainReport;
use process_hub_tests::cluster::{Cluster, PATIENCE, Step, ask, ask_all, eventually, message, options, owner, spec};
use serde_json::{Value, json};

/// Hot swap with handover and ProcessHub's retention.
fn hot_swap() -> Migration {
    Migration::HotSwap {
        retention: Duration::from_secs(3),
        handover: true,
        confirm_handover: false,
        handover_data_wait: Duration::from_secs(3),
        child_migration_timeout: Duration::from_secs(10),
    }
}

/// Gives each child a text of its own.
fn set_all(hub: &Hub, ids: &[String]) {
    ask_all(hub, ids.iter().map(|id| (id.as_str(), format!("set flag {id}"))));
}

/// Checks that each child still has it.
fn assert_all_set(hub: &Hub, ids: &[String]) {
    let flags = ask_all(hub, ids.iter().map(|id| (id.as_str(), "get flag".to_owned())));
    let lost: Vec<&String> = ids.iter().zip(&flags).filter(|(id, flag)| id != flag).map(|(id, _)| id).collect();
    assert!(lost.is_empty(), "{} of {} lost their state, first {:?}", lost.len(), ids.len(), lost.first());
}

fn assert_all_moved(report: &DrainReport) {
    assert_eq!((&report.restarted, &report.stopped, &report.failed), (&vec![], &vec![], &vec![]));
}

#[test]
fn scenario_16_hot_swap_of_1000_to_5_nodes_that_join_then_each_moved_child_has_its_value_there() {
    let mut cluster = Cluster::migrating_by(hot_swap()).listening(HookName::ChildrenMigrated);
    cluster.join_all(&["main"]);
    let ids = cluster.start_counters(1000);
    set_all(&cluster.hubs[0], &ids);
    cluster.join_all(&["peer-1", "peer-2", "peer-3", "peer-4", "peer-5"]);
    cluster.assert_each_lives_once(&ids);
    assert_all_set(&cluster.hubs[5], &ids);
    let told: Vec<Value> = cluster.heard("main", HookName::ChildrenMigrated);
    let moved: Vec<&Value> = told.iter().flat_map(|event| event["children"].as_array().unwrap()).collect();
    assert!(moved.len() > 700, "only {} left main", moved.len());
    assert!(moved.iter().all(|child| child["state"] == "handed_over"));
}

#[test]
fn scenario_17_one_of_six_hubs_stops_then_all_1000_children_have_flag_and_metadata() {
    let mut cluster = Cluster::migrating_by(hot_swap());
    cluster.join_all(&["main", "peer-1", "peer-2", "peer-3", "peer-4", "peer-5"]);
    let ids: Vec<String> = (0..1000).map(|n| format!("child:{n}")).collect();
    let specs = ids.iter().map(|id| {
        let mut spec = spec(id);
        spec.metadata = Some(format!(r#"{{"tag":"{id}"}}"#).into());
        spec
    });
    let result = cluster.hubs[0].start_children(specs.collect(), options()).wait().unwrap();
    assert_eq!(result.errors, []);
    set_all(&cluster.hubs[0], &ids);
    let report = cluster.take("peer-3").stop(PATIENCE).unwrap();
    assert_all_moved(&report);
    assert!(report.moved.len() > 100, "{}", report.moved.len());
    cluster.settle();
    assert_all_set(&cluster.hubs[0], &ids);
    for (id, row) in cluster.registry() {
        assert_eq!(row.spec.metadata_value()["tag"], id.as_str());
    }
    cluster.assert_each_lives_once(&ids);
}

/// The contract has no consent: this is what a child can do that must not move now.
#[test]
fn scenario_41_a_child_refuses_to_give_its_state_then_it_stays_and_is_asked_again() {
    let mut cluster = Cluster::migrating_by(hot_swap()).listening(HookName::HandoverFailed);
    cluster.join_all(&["a"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
    cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
    assert_eq!(ask(&cluster.hubs[0], &id, "add"), "1");
    assert_eq!(ask(&cluster.hubs[0], &id, "keep"), "1");
    cluster.join("b");
    eventually("it was asked twice", || cluster.heard("a", HookName::HandoverFailed).len() >= 2);
    for told in cluster.heard("a", HookName::HandoverFailed) {
        assert_eq!(told, json!({"child_id": id, "from": "a", "to": "b", "why": "not now"}));
    }
    assert_eq!(ask(&cluster.hubs[0], &id, "node"), "a");
    assert_eq!(ask(&cluster.hubs[0], &id, "let_go"), "1");
    cluster.settle();
    assert_eq!(ask(&cluster.hubs[0], &id, "node"), "b");
    assert_eq!(ask(&cluster.hubs[0], &id, "total"), "1");
    assert_eq!(cluster.census.starts(&id), 1 + cluster.heard("a", HookName::HandoverFailed).len() + 1, "one try each");
}

#[test]
fn scenario_47_hot_swap_without_handover_then_exactly_one_instance_of_each_child_is_left() {
    let without = Migration::HotSwap {
        retention: Duration::from_millis(300),
        handover: false,
        confirm_handover: false,
        handover_data_wait: Duration::from_secs(3),
        child_migration_timeout: Duration::from_secs(10),
    };
    let mut cluster = Cluster::migrating_by(without).listening(HookName::StateLost);
    cluster.join_all(&["a", "b"]);
    let ids = cluster.start_counters(100);
    cluster.join_all(&["c"]);
    cluster.assert_each_lives_once(&ids);
    cluster.take("b").stop(PATIENCE).unwrap();
    cluster.settle();
    cluster.assert_each_lives_once(&ids);
    assert!(cluster.heard("a", HookName::StateLost).is_empty(), "R8: nobody asked for the state");
}

#[test]
fn scenario_48_messages_come_while_the_snapshot_is_taken_then_none_is_lost_and_each_counts_once() {
    for migration in [hot_swap(), Migration::cold_swap().with_handover(true)] {
        let mut cluster = Cluster::migrating_by(migration);
        cluster.join_all(&["a"]);
        let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
        cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
        assert_eq!(ask(&cluster.hubs[0], &id, "add"), "1");
        cluster.census.close_gate(Step::Prepare, &id);
        cluster.join("b");
        cluster.census.await_at_gate(Step::Prepare, &id, 1);
        let late: Vec<_> = (0..10).map(|_| cluster.hubs[0].call(message(&id, "add"))).collect();
        let elsewhere: Vec<_> = (0..10).map(|_| cluster.hubs[1].call(message(&id, "add"))).collect();
        cluster.census.open_gate(Step::Prepare, &id);
        let mut totals: Vec<u64> =
            late.into_iter().chain(elsewhere).map(|wait| number(&wait.wait().unwrap().data)).collect();
        totals.sort_unstable();
        assert_eq!(totals, (2..=21).collect::<Vec<u64>>(), "each addition is acknowledged with a total of its own");
        cluster.settle();
        assert_eq!(ask(&cluster.hubs[0], &id, "total"), "21");
        assert_eq!(ask(&cluster.hubs[0], &id, "node"), "b");
    }
}

fn number(data: &[u8]) -> u64 {
    String::from_utf8_lossy(data).parse().unwrap()
}

#[test]
fn scenario_49_one_child_does_not_answer_at_shutdown_then_the_others_keep_their_state() {
    let hasty = Migration::HotSwap {
        retention: Duration::from_millis(500),
        handover: true,
        confirm_handover: false,
        handover_data_wait: Duration::from_millis(300),
        child_migration_timeout: Duration::from_secs(2),
    };
    let mut cluster = Cluster::migrating_by(hasty).listening(HookName::StateLost);
    cluster.join_all(&["a", "b"]);
    let ids = cluster.start_counters(100);
    set_all(&cluster.hubs[0], &ids);
    let stuck = ids.iter().find(|id| owner(&["a", "b"], id) == "b").unwrap().clone();
    cluster.census.close_gate(Step::Prepare, &stuck);
    let begin = Instant::now();
    let stopped = cluster.take("b").stop(Duration::from_secs(3));
    let took = begin.elapsed();
    cluster.census.open_gate(Step::Prepare, &stuck);
    assert!(took < Duration::from_secs(4), "{took:?}");
    let report = stopped.unwrap();
    let told: Vec<&str> = (report.restarted.iter().map(|child| child.id.as_str()))
        .chain(report.stopped.iter().map(|id| id.as_str()))
        .chain(report.failed.iter().map(|child| child.id.as_str()))
        .collect();
    assert_eq!(told, [stuck.as_str()], "the report names the one that was not moved");
    cluster.settle();
    cluster.assert_each_lives_once(&ids);
    let others: Vec<String> = ids.iter().filter(|id| **id != stuck).cloned().collect();
    assert_all_set(&cluster.hubs[0], &others);
    assert_eq!(ask(&cluster.hubs[0], &stuck, "get flag"), "");
    // Observers hear of it on a thread of their own.
    eventually("the loss is told", || !cluster.heard("a", HookName::StateLost).is_empty());
    let lost = cluster.heard("a", HookName::StateLost);
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0]["child_id"], stuck.as_str());
    assert!(cluster.hubs[0].child_lookup(&stuck).unwrap().state_lost.is_some());
}

#[test]
fn scenario_50_observers_of_a_shutdown_fail_and_block_then_the_handover_is_as_without() {
    let mut cluster = Cluster::migrating_by(hot_swap());
    cluster.join_all(&["a", "b"]);
    let ids = cluster.start_counters(200);
    set_all(&cluster.hubs[0], &ids);
    let hub = cluster.take("b");
    let gate = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let hooks = [
        HookName::HubShutdown,
        HookName::PreClusterLeave,
        HookName::ChildrenMigrated,
        HookName::PriorityStateUpdated,
        HookName::DrainCompleted,
    ];
    for hook in hooks {
        hub.on(hook, "fails", 100, |_| panic!("on purpose")).unwrap();
        let gate = Arc::clone(&gate);
        hub.on(hook, "blocks", -100, move |_| {
            let is_open = gate.0.lock().unwrap();
            drop(gate.1.wait_timeout_while(is_open, Duration::from_secs(20), |is_open| !*is_open));
        })
        .unwrap();
    }
    let report = hub.stop(PATIENCE).unwrap();
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_all_moved(&report);
    cluster.settle();
    assert_all_set(&cluster.hubs[0], &ids);
    cluster.assert_each_lives_once(&ids);
}

#[test]
fn scenario_52_two_hubs_shut_down_to_one_target_at_once_then_no_state_erases_another() {
    let mut cluster = Cluster::migrating_by(hot_swap()).listening(HookName::StateLost);
    cluster.join_all(&["a", "b", "c"]);
    let ids = cluster.start_counters(600);
    set_all(&cluster.hubs[0], &ids);
    let leavers = [cluster.take("b"), cluster.take("c")];
    let stops = leavers.map(|hub| thread::spawn(move || hub.stop(PATIENCE).unwrap()));
    // Upstream, any start between two batches erases the states that wait.
    let between: Vec<_> =
        (0..20).map(|n| cluster.hubs[0].start_child(spec(&format!("between:{n}")), options())).collect();
    for start in between {
        start.wait().unwrap();
    }
    for stop in stops {
        assert_all_moved(&stop.join().unwrap());
    }
    cluster.settle();
    assert_all_set(&cluster.hubs[0], &ids);
    assert_eq!(cluster.registry().len(), 620);
    assert!(cluster.heard("a", HookName::StateLost).is_empty());
}

#[test]
fn scenario_56_the_owner_changes_twice_while_a_child_starts_then_it_runs_exactly_once() {
    let mut cluster = Cluster::new();
    cluster.join_all(&["a"]);
    let goes_round = |id: &String| owner(&["a", "b"], id) == "b" && owner(&["a", "b", "c"], id) == "c";
    let slow: Vec<String> = (0..).map(|n| format!("slow:{n}")).filter(goes_round).take(20).collect();
    for id in &slow {
        cluster.census.close_gate(Step::Start, id);
    }
    let others: Vec<String> = (0..200).map(|n| format!("child:{n}")).collect();
    let ids: Vec<String> = slow.iter().chain(&others).cloned().collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    let start = cluster.hubs[0].start_children(specs, options());
    cluster.census.await_at_gate(Step::Start, &slow[0], 1);
    for name in ["b", "c"] {
        cluster.join(name);
        cluster.see_each_other();
    }
    for id in &slow {
        cluster.census.open_gate(Step::Start, id);
    }
    let result = start.wait().unwrap();
    assert_eq!(result.errors, []);
    assert_eq!(result.started.len(), ids.len());
    cluster.settle();
    cluster.assert_each_lives_once(&ids);
    for id in &ids {
        assert_eq!(ask(&cluster.hubs[1], id, "add"), "1", "{id}");
    }
}

#[test]
fn scenario_56_1000_children_start_while_nodes_join_and_leave_then_each_runs_exactly_once() {
    let mut cluster = Cluster::new();
    cluster.join_all(&["a", "b"]);
    let ids: Vec<String> = (0..1000).map(|n| format!("child:{n}")).collect();
    let batches: Vec<_> = ids.chunks(50).map(<[String]>::to_vec).collect();
    let hub = cluster.hubs[0].clone();
    let starter = thread::spawn(move || {
        let results = batches.into_iter().map(|batch| {
            let specs = batch.iter().map(|id| spec(id)).collect();
            hub.start_children(specs, options()).wait().unwrap()
        });
        results.flat_map(|result| result.errors).collect::<Vec<_>>()
    });
    cluster.join("c");
    cluster.join("d");
    cluster.take("b").stop(PATIENCE).unwrap();
    cluster.join("b");
    assert_eq!(starter.join().unwrap(), []);
    cluster.settle();
    eventually("every row is there", || cluster.hubs.iter().all(|hub| hub.child_count() == 1000));
    cluster.assert_each_lives_once(&ids);
}
