//! Options that are times or counts: changed, they change what is seen, on virtual time.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::time::Duration;

use bench::{Bench, Joiner, spec};
use process_hub::config::{HubConfig, Migration, RestartConfig, Synchronization};
use process_hub::engine::StartOptions;
use process_hub::host::call::InstanceEvent;
use process_hub::ids::NodeRef;
use process_hub::observe::HookName;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn config() -> HubConfig {
    HubConfig::new("orders").unwrap()
}

/// A hub alone with 30 children.
fn alone(config: HubConfig) -> (Bench, NodeRef) {
    let (mut bench, nodes) = Bench::of(config, &["a"]);
    let specs = (0..30).map(|n| spec(&format!("cart:{n}"))).collect();
    assert_eq!(bench.start(&nodes[0], specs, StartOptions::default()).unwrap().errors, []);
    (bench, nodes[0].clone())
}

/// The moves to a second node fail for this reason after this time, and not before.
#[track_caller]
fn assert_fails_after(config: HubConfig, hangs: &'static str, time: Duration, why: &str) {
    let (mut bench, a) = alone(config);
    bench.hangs.insert(hangs);
    let before = bench.now;
    bench.enter("b", Joiner::default());
    while bench.fired(&a, HookName::HandoverFailed).is_empty() && bench.now.since(before) < 2 * time + SECOND * 3 {
        bench.pass(ms(1));
    }
    let failed: Vec<Value> = bench.fired(&a, HookName::HandoverFailed).into_iter().cloned().collect();
    let Some(told) = failed.first() else { panic!("no move failed within {:?}", bench.now.since(before)) };
    assert_eq!((&told["from"], &told["to"]), (&json!("a"), &json!("b")));
    assert!(told["why"].as_str().unwrap().contains(why), "{told}");
    let asked = bench.asked.iter().find(|(at, .., request)| *at > before && request.starts_with(hangs)).unwrap().0;
    let took = bench.now.since(asked);
    assert!(took >= time && took < time + ms(600), "{took:?}, not {time:?}");
    assert_eq!(bench.nodes_of(&a, told["child_id"].as_str().unwrap()), ["a"], "the old instance goes on");
}

fn hot_swap(change: impl FnOnce(&mut Duration, &mut Duration, &mut Duration)) -> HubConfig {
    let (mut retention, mut data_wait, mut start) = (ms(5000), ms(3000), ms(10_000));
    change(&mut retention, &mut data_wait, &mut start);
    config().with_migration(Migration::HotSwap {
        retention,
        handover: true,
        confirm_handover: false,
        handover_data_wait: data_wait,
        child_migration_timeout: start,
    })
}

#[test]
fn handover_data_wait_ms_then_a_child_has_so_long_to_give_its_state() {
    for time in [ms(200), ms(1500)] {
        assert_fails_after(hot_swap(|_, wait, _| *wait = time), "PrepareState", time, "did not end in time");
        let cold = Migration::ColdSwap { handover: true, handover_data_wait: time };
        assert_fails_after(config().with_migration(cold), "PrepareState", time, "did not end in time");
    }
}

#[test]
fn child_migration_timeout_ms_then_the_new_instance_has_so_long_to_start() {
    for time in [ms(300), ms(2500)] {
        assert_fails_after(hot_swap(|_, _, start| *start = time), "Start(", time, "did not end in time");
    }
}

#[test]
fn migration_base_timeout_ms_then_one_move_may_take_so_long() {
    for time in [ms(700), ms(4000)] {
        let config = hot_swap(|_, wait, _| *wait = 60 * SECOND);
        let config = HubConfig { migration_base_timeout: time, ..config };
        assert_fails_after(config, "PrepareState", time, "migration_base_timeout_ms");
    }
}

#[test]
fn deadlock_recovery_timeout_ms_then_open_moves_are_given_up_and_the_lock_is_released() {
    for time in [ms(800), ms(5000)] {
        let config = hot_swap(|_, wait, _| *wait = 60 * SECOND);
        let config = HubConfig { migration_base_timeout: 60 * SECOND, deadlock_recovery_timeout: time, ..config };
        assert_fails_after(config.clone(), "PrepareState", time, "deadlock_recovery_timeout_ms");
        let (mut bench, a) = alone(config);
        bench.hangs.insert("PrepareState");
        let begin = bench.now;
        bench.enter("b", Joiner::default());
        bench.pass(time);
        assert!(bench.status[&a].is_locked);
        while bench.status[&a].is_locked {
            bench.pass(ms(1));
        }
        assert!(bench.now.since(begin) < time + SECOND, "{:?}", bench.now.since(begin));
        let told = bench.fired(&a, HookName::PriorityStateUpdated);
        assert_eq!(told, [&json!({"locked": true}), &json!({"locked": false})]);
        // Tried again, they end well.
        bench.go_on();
        bench.pass(20 * SECOND);
        assert!(!bench.status[&a].is_locked);
        assert_eq!(bench.asked_at(&a, "cart:0", "Start(").len(), 1, "nothing was started again at the source");
    }
}

#[test]
fn retention_ms_then_an_instance_whose_state_was_not_asked_for_lives_so_long() {
    for (time, is_handled) in [(ms(0), false), (ms(700), false), (ms(3000), false), (ms(60_000), true)] {
        let plain = Migration::HotSwap {
            retention: time,
            handover: false,
            confirm_handover: false,
            handover_data_wait: 3 * SECOND,
            child_migration_timeout: 10 * SECOND,
        };
        let (mut bench, a) = alone(config().with_migration(plain));
        bench.join("b");
        bench.pass(SECOND);
        let moved: Vec<String> =
            (0..30).map(|n| format!("cart:{n}")).filter(|id| bench.nodes_of(&a, id) == ["b"]).collect();
        assert!(!moved.is_empty());
        if is_handled {
            assert!(moved.iter().all(|id| bench.asked_at(&a, id, "Stop(").is_empty()));
            for id in &moved {
                bench.acts(&a, id, InstanceEvent::RetentionHandled);
            }
        } else {
            bench.pass(time);
        }
        for id in &moved {
            let (given, ended) = (bench.hooks.iter(), bench.asked_at(&a, id, "Stop("));
            assert!(given.clone().any(|(_, name, _)| *name == HookName::ChildrenMigrated));
            assert_eq!(ended.len(), 1, "{id} with {time:?}");
            let began = bench.asked_at(&bench.engines.keys().last().unwrap().clone(), id, "Start(")[0];
            let lived = ended[0].since(began);
            assert!(is_handled || (lived >= time && lived < time + ms(300)), "{id} lived {lived:?} with {time:?}");
        }
    }
}

#[test]
fn handover_then_the_state_goes_along_or_not() {
    let plain = |handover| Migration::hot_swap().with_handover(handover);
    for (handover, state) in [(false, "none"), (true, "handed_over")] {
        for migration in [plain(handover), Migration::cold_swap().with_handover(handover)] {
            let (mut bench, a) = alone(config().with_migration(migration));
            let b = bench.join("b");
            bench.pass(10 * SECOND);
            let told = bench.fired(&a, HookName::ChildrenMigrated);
            let children: Vec<&Value> = told.iter().flat_map(|it| it["children"].as_array().unwrap()).collect();
            assert!(!children.is_empty());
            for child in children {
                assert_eq!(child["state"], state);
                let taken = bench.asked_at(&b, child["id"].as_str().unwrap(), "AlterState(").len();
                assert_eq!(taken, usize::from(handover));
            }
            assert_eq!(bench.fired(&a, HookName::HandoverConfirmed).is_empty(), !handover);
        }
    }
}

#[test]
fn migration_base_then_children_move_as_it_says_whoever_orders_them() {
    for (handover, state) in [(false, "none"), (true, "handed_over")] {
        let hosted = Migration::hosted("mine", Migration::hot_swap().with_handover(handover));
        let (mut bench, a) = alone(config().with_migration(hosted));
        bench.join("b");
        bench.pass(5 * SECOND);
        let told = bench.fired(&a, HookName::ChildrenMigrated);
        let children: Vec<&Value> = told.iter().flat_map(|it| it["children"].as_array().unwrap()).collect();
        assert!(!children.is_empty() && children.iter().all(|child| child["state"] == state), "{children:?}");
    }
}

/// It changed nothing.
#[test]
fn confirm_handover_then_children_migrated_waits_for_the_target_or_tells_at_the_commit() {
    for confirm_handover in [false, true] {
        let migration = Migration::HotSwap {
            retention: 5 * SECOND,
            handover: true,
            confirm_handover,
            handover_data_wait: 3 * SECOND,
            child_migration_timeout: 10 * SECOND,
        };
        let (mut bench, a) = alone(config().with_migration(migration));
        // The target's word never comes: neither its answer nor its log.
        bench.lost.extend(["Commit {"]);
        bench.join("b");
        bench.pass(SECOND);
        let told = bench.fired(&a, HookName::ChildrenMigrated).len();
        assert_eq!(told > 0, !confirm_handover, "{told} with {confirm_handover}");
        bench.lost.clear();
        bench.pass(5 * SECOND);
        let told = bench.fired(&a, HookName::ChildrenMigrated);
        let children: Vec<&str> = told
            .iter()
            .flat_map(|it| it["children"].as_array().unwrap().iter().map(|child| child["id"].as_str().unwrap()))
            .collect();
        let once: std::collections::BTreeSet<&str> = children.iter().copied().collect();
        assert_eq!((once.len(), once.is_empty()), (children.len(), false), "each is told once");
        assert_eq!(bench.fired(&a, HookName::HandoverConfirmed).len(), children.len());
    }
}

#[test]
fn synchronization_type_then_the_author_tells_every_member_or_a_few() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for (synchronization, tells_all) in
        [(Synchronization::default(), true), (Synchronization::gossip().with_recipients(2), false)]
    {
        let (mut bench, nodes) = Bench::of(config().with_synchronization(synchronization), &names);
        let result = bench.start(&nodes[0], vec![spec("cart")], StartOptions::default()).unwrap();
        let author = nodes.iter().find(|node| node.name == result.started[0].instances[0].node).unwrap();
        let told = bench.told_by(author, "Delta {").len();
        assert_eq!(told == names.len() - 1, tells_all, "{told}");
        assert!(nodes.iter().all(|node| bench.nodes_of(node, "cart").len() == 1), "all hear of it");
        let passed = bench.told.iter().any(|(.., told)| told.starts_with("Passed {"));
        assert_eq!(passed, !tells_all);
    }
}

#[test]
fn sync_interval_ms_then_so_soon_a_lost_change_is_repaired() {
    for interval in [SECOND, 7 * SECOND] {
        let synchronization = Synchronization::gossip().with_sync_interval(interval);
        let (mut bench, nodes) = Bench::of(config().with_synchronization(synchronization), &["a", "b", "c"]);
        bench.told.clear();
        while bench.told_by(&nodes[0], "Digest {").is_empty() {
            bench.pass(ms(10));
        }
        // Heartbeats repair too; here it is the next digest alone.
        bench.lost.extend(["Delta {", "Passed {", "Status("]);
        bench.ask_start(&nodes[0], vec![spec("cart")]);
        bench.pass(ms(10));
        let begin = bench.now;
        bench.lost.remove("Delta {");
        let is_everywhere = |bench: &Bench| nodes.iter().all(|at| bench.nodes_of(at, "cart").len() == 1);
        while !is_everywhere(&bench) && bench.now.since(begin) < 30 * SECOND {
            bench.pass(ms(10));
        }
        let took = bench.now.since(begin);
        assert!(took + ms(100) >= interval && took <= interval + ms(100), "{took:?} with {interval:?}");
    }
}

fn restarting(max_restarts: u32, window: Duration, backoff: (Duration, Duration)) -> HubConfig {
    config().with_restart(RestartConfig { max_restarts, window, backoff })
}

/// Crashes the child every `pause` until it is quarantined, at most 30 times; how often it was started.
fn crash_until_quarantined(config: HubConfig, pause: Duration) -> usize {
    let (mut bench, nodes) = Bench::of(config, &["a"]);
    assert_eq!(bench.start(&nodes[0], vec![spec("cart")], StartOptions::default()).unwrap().errors, []);
    for _ in 0..30 {
        bench.acts(&nodes[0], "cart", InstanceEvent::Exit(Some("on purpose".into())));
        bench.pass(pause);
    }
    bench.asked_at(&nodes[0], "cart", "Start(").len()
}

#[test]
fn max_restarts_then_so_often_a_child_is_started_again_within_the_window() {
    let soon = (ms(1), ms(1));
    for max in [0, 1, 4] {
        assert_eq!(crash_until_quarantined(restarting(max, 60 * SECOND, soon), ms(10)), max as usize + 1);
    }
}

#[test]
fn window_ms_then_older_restarts_count_no_more() {
    let soon = (ms(1), ms(1));
    assert_eq!(crash_until_quarantined(restarting(2, 10 * SECOND, soon), ms(100)), 3);
    assert_eq!(crash_until_quarantined(restarting(2, ms(150), soon), ms(100)), 31, "two within any 150 ms");
}

#[test]
fn backoff_ms_then_the_pauses_begin_at_the_first_double_and_end_at_the_longest() {
    for (first, longest) in [(ms(10), ms(80)), (ms(100), ms(150)), (ms(0), ms(0))] {
        let (mut bench, nodes) = Bench::of(restarting(20, 60 * SECOND, (first, longest)), &["a"]);
        assert_eq!(bench.start(&nodes[0], vec![spec("cart")], StartOptions::default()).unwrap().errors, []);
        for nth in 0..6 {
            let crashed = bench.now;
            bench.acts(&nodes[0], "cart", InstanceEvent::Exit(Some("on purpose".into())));
            bench.pass(SECOND);
            let pause = bench.asked_at(&nodes[0], "cart", "Start(").last().unwrap().since(crashed);
            let wanted = (first * (1 << nth)).min(longest);
            assert!(pause >= wanted && pause <= wanted + ms(1), "{pause:?}, not {wanted:?}");
        }
    }
}

#[test]
fn view_debounce_ms_then_so_long_changes_are_collected() {
    for time in [ms(0), ms(30), ms(500)] {
        let mut profile = config().profile;
        profile.view_debounce = time;
        let (mut bench, nodes) = Bench::of(config().with_profile(profile), &["a", "b", "c"]);
        let begin = bench.now;
        bench.suspect(&nodes[0], &nodes[2]);
        while bench.fired(&nodes[0], HookName::PostClusterLeave).is_empty() && bench.now.since(begin) < SECOND {
            bench.pass(ms(1));
        }
        let took = bench.now.since(begin);
        assert!(took >= time && took <= time + ms(1), "{took:?}, not {time:?}");
    }
}
