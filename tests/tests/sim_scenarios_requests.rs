//! ProcessHub's scenarios about requests and registries, on virtual time, each under many orders of the network.
//! Source of the numbers: upstream-behaviour.md §9. The same scenarios over real sockets are in `scenarios_*.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use process_hub::engine::{OnFailure, Outcome, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::observe::HookName;
use process_hub::spec::{RestartPolicy, StartResult, StopResult};
use process_hub_tests::sim::Violation;
use process_hub_tests::sim::script::{Asked, Moment, Shape, Stage, explore, hot_swap};

const SECOND: Duration = Duration::from_secs(1);

fn started(stage: &mut Stage, asked: Asked) -> Result<StartResult, Violation> {
    match stage.answer(asked)? {
        Ok(Outcome::Started(result)) => Ok(result),
        other => panic!("not the answer of a start: {other:?}"),
    }
}

fn stopped(stage: &mut Stage, asked: Asked) -> Result<StopResult, Violation> {
    match stage.answer(asked)? {
        Ok(Outcome::Stopped(result)) => Ok(result),
        other => panic!("not the answer of a stop: {other:?}"),
    }
}

#[test]
fn scenario_01_children_start_and_stop_then_every_registry_has_every_row_and_then_none() {
    explore(&Shape::new(5).counters(40), |stage| {
        stage.boot_all(0..5)?;
        stage.start_all(0, 0..40)?;
        for child in 0..40 {
            stage.expect(stage.knows(0, child), format!("who started c{child} reads it at once"))?;
        }
        stage.settle()?;
        for child in 0..40 {
            let there = stage.machine_of(child).unwrap();
            for machine in 0..5 {
                stage.expect(stage.tells(machine, child, there), format!("{machine} tells where c{child} runs"))?;
            }
        }
        let asked = stage.stop(3, 0..40, 5 * SECOND)?;
        let result = stopped(stage, asked)?;
        stage.expect(result.stopped.len() == 40, format!("all stop: {result:?}"))?;
        stage.settle()?;
        for child in 0..40 {
            stage.expect(stage.instances(child) == 0, format!("c{child} has ended"))?;
            for machine in 0..5 {
                stage.expect(!stage.knows(machine, child), format!("{machine} has forgotten c{child}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn scenario_05_nothing_reaches_a_node_for_a_while_then_the_interval_repairs_its_registry() {
    explore(&Shape::new(3).counters(20).comparing_every(2 * SECOND), |stage| {
        stage.boot_all(0..3)?;
        for other in [0, 1] {
            stage.cut(other, 2)?;
        }
        let asked = stage.start(0, 0..20, StartOptions { timeout: 20 * SECOND, ..StartOptions::default() })?;
        stage.pass(Duration::from_millis(80))?;
        for other in [0, 1] {
            stage.mend(other, 2)?;
        }
        let result = started(stage, asked)?;
        stage.expect(result.errors.is_empty(), format!("all start: {result:?}"))?;
        stage.settle()?;
        for child in 0..20 {
            stage.expect(stage.knows(2, child), format!("the node that heard nothing knows c{child}"))?;
        }
        Ok(())
    });
}

#[test]
fn scenario_07_children_crash_then_each_has_a_new_instance_and_every_node_knows() {
    explore(&Shape::new(4).counters(30), |stage| {
        stage.boot_all(0..4)?;
        stage.start_all(1, 0..30)?;
        stage.settle()?;
        for child in 0..30 {
            stage.exit(child, Some("killed"))?;
        }
        stage.settle()?;
        for child in 0..30 {
            stage.expect(stage.starts(child) == 2, format!("c{child} was started {} times", stage.starts(child)))?;
            stage.expect(stage.instances(child) == 1, format!("c{child} runs once"))?;
        }
        stage.call_all(2, 0..30)
    });
}

#[test]
fn scenario_10_children_start_then_each_runs_on_exactly_the_node_the_rule_says() {
    explore(&Shape::new(6).counters(60), |stage| {
        stage.boot_all(0..6)?;
        stage.start_all(4, 0..60)?;
        for child in 0..60 {
            let there = (stage.machine_of(child), stage.instances(child));
            stage.expect(there == (stage.owner_of(child), 1), format!("c{child} is on {there:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn scenario_11_nodes_join_and_leave_one_by_one_then_nobody_is_ever_partitioned() {
    explore(&Shape::new(6).counters(20).migrating_by(hot_swap()), |stage| {
        stage.boot_all([0])?;
        stage.start_all(0, 0..20)?;
        for joining in 1..6 {
            stage.boot_all([joining])?;
            stage.expect(stage.has_members(0, joining), "every node that joined is a member")?;
        }
        stage.call_all(3, 0..20)?;
        for leaving in 1..6 {
            let asked = stage.shut_down(leaving, 60 * SECOND)?;
            stage.answer(asked)?.unwrap();
            stage.until("the node is gone", 60 * SECOND, |stage| !stage.is_up(leaving))?;
            stage.settle()?;
        }
        for machine in 0..6 {
            let told = stage.told(machine, HookName::PartitionChanged, None);
            stage.expect(told == 0, format!("{machine} told a partition"))?;
        }
        for child in 0..20 {
            stage.expect(stage.count(child) == 1, format!("c{child} kept its state through ten moves"))?;
        }
        Ok(())
    });
}

#[test]
fn scenario_18_no_time_is_given_then_timeout_and_nothing_is_doubled() {
    explore(&Shape::new(4).counters(10), |stage| {
        stage.boot_all(0..4)?;
        let asked = stage.start(0, 0..10, StartOptions { timeout: Duration::ZERO, ..StartOptions::default() })?;
        let result = started(stage, asked)?;
        for error in &result.errors {
            stage.expect(error.kind == ErrorKind::Timeout, format!("{error:?}"))?;
        }
        stage.settle()
    });
}

#[test]
fn scenario_18_one_start_fails_and_rollback_is_asked_for_then_none_is_left_running() {
    explore(&Shape::new(4).counters(12), |stage| {
        stage.boot_all(0..4)?;
        stage.fail(7, "start");
        let options = StartOptions { on_failure: OnFailure::Rollback, ..StartOptions::default() };
        let asked = stage.start(2, 0..12, options)?;
        let result = started(stage, asked)?;
        stage.expect(result.rollback, format!("it says that it was rolled back: {result:?}"))?;
        for child in 0..12 {
            stage.expect(!stage.knows(2, child), format!("who asked does not find c{child}"))?;
        }
        stage.settle()?;
        for child in 0..12 {
            stage.expect(stage.instances(child) == 0, format!("c{child} is left running"))?;
        }
        Ok(())
    });
}

#[test]
fn scenario_18_an_owner_dies_while_it_starts_children_then_they_start_elsewhere_in_the_same_request() {
    explore(&Shape::new(4).counters(24), |stage| {
        stage.boot_all(0..4)?;
        let doomed = (0..24).filter_map(|child| stage.owner_of(child)).find(|owner| *owner != 0).unwrap();
        stage.crash_after(doomed, Moment::Calls("start"))?;
        let options = StartOptions { timeout: 60 * SECOND, ..StartOptions::default() };
        let asked = stage.start(0, 0..24, options)?;
        let result = started(stage, asked)?;
        stage.expect(!stage.is_up(doomed), "the owner died at its first start")?;
        stage.expect(result.errors.is_empty(), format!("all start: {result:?}"))?;
        stage.settle()?;
        stage.call_all(0, 0..24)
    });
}

#[test]
fn scenario_18_two_nodes_start_the_same_children_at_once_then_each_child_has_one_starter() {
    explore(&Shape::new(5).counters(20), |stage| {
        stage.boot_all(0..5)?;
        let one = stage.start(0, 0..20, StartOptions::default())?;
        let other = stage.start(4, 0..20, StartOptions::default())?;
        let (one, other) = (started(stage, one)?, started(stage, other)?);
        let count = one.started.len() + other.started.len();
        stage.expect(count == 20, format!("{count} of 20 were started"))?;
        for error in one.errors.iter().chain(&other.errors) {
            stage.expect(error.kind == ErrorKind::AlreadyStarted, format!("{error:?}"))?;
        }
        stage.settle()?;
        stage.expect((0..20).all(|child| stage.starts(child) == 1), "each was started once")
    });
}

#[test]
fn scenario_19_unknown_ids_among_the_stopped_then_each_is_named_and_the_rest_stops() {
    explore(&Shape::new(4).counters(20), |stage| {
        stage.boot_all(0..4)?;
        stage.start_all(0, 0..10)?;
        // Who asks need not have heard of what was acknowledged elsewhere.
        let asked = stage.stop(3, 5..15, 5 * SECOND)?;
        let result = stopped(stage, asked)?;
        stage.expect(result.stopped.len() == 5, format!("{result:?}"))?;
        let is_unknown = result.errors.iter().all(|error| error.kind == ErrorKind::NotFound);
        stage.expect(result.errors.len() == 5 && is_unknown, format!("{result:?}"))?;
        stage.settle()?;
        stage.expect((0..5).all(|child| stage.instances(child) == 1), "the others run")
    });
}

#[test]
fn scenario_19_the_owner_dies_while_it_stops_children_then_they_are_gone_all_the_same() {
    explore(&Shape::new(4).counters(20), |stage| {
        stage.boot_all(0..4)?;
        stage.start_all(0, 0..20)?;
        stage.settle()?;
        let doomed = (0..20).filter_map(|child| stage.owner_of(child)).find(|owner| *owner != 0).unwrap();
        stage.crash_after(doomed, Moment::Calls("stop"))?;
        let asked = stage.stop(0, 0..20, 60 * SECOND)?;
        let result = stopped(stage, asked)?;
        stage.expect(!stage.is_up(doomed), "the owner died at its first stop")?;
        let is_gone = |kind| kind == ErrorKind::NotFound;
        stage.expect(result.errors.iter().all(|error| is_gone(error.kind)), format!("{result:?}"))?;
        stage.settle()?;
        stage.expect((0..20).all(|child| stage.instances(child) == 0), "nothing runs any more")
    });
}

#[test]
fn scenario_32_transient_child_ends_itself_then_every_registry_forgets_it() {
    let shape = Shape::new(4).counters(4).counter_that_is(RestartPolicy::Transient);
    explore(&shape, |stage| {
        stage.boot_all(0..4)?;
        stage.start_all(0, 0..5)?;
        stage.settle()?;
        stage.exit(4, None)?;
        let forgotten = |stage: &Stage| (0..4).all(|machine| !stage.knows(machine, 4));
        stage.until("every registry forgets it", 30 * SECOND, forgotten)?;
        stage.settle()?;
        stage.expect(stage.instances(4) == 0, "it is not started again")?;
        stage.call_all(1, 0..4)
    });
}

#[test]
fn scenario_53_awaited_stop_with_6_nodes_then_it_answers_within_a_second() {
    explore(&Shape::new(6).counters(60).quick(), |stage| {
        stage.boot_all(0..6)?;
        stage.start_all(0, 0..60)?;
        let began = stage.now();
        let asked = stage.stop(5, 0..60, 5 * SECOND)?;
        let result = stopped(stage, asked)?;
        let took = stage.now() - began;
        stage.expect(result.stopped.len() == 60, format!("all stop: {result:?}"))?;
        stage.expect(took < SECOND, format!("it took {took:?}"))
    });
}

#[test]
fn scenario_57_temporary_child_exits_then_its_siblings_go_on() {
    let shape = Shape::new(3).counters(10).counter_that_is(RestartPolicy::Temporary);
    explore(&shape, |stage| {
        stage.boot_all(0..3)?;
        stage.start_all(0, 0..11)?;
        stage.call_all(1, 0..11)?;
        stage.exit(10, Some("its work is done"))?;
        stage.settle()?;
        stage.expect(stage.instances(10) == 0 && !stage.knows(2, 10), "it is gone for good")?;
        let is_untouched = |child: usize| stage.starts(child) == 1 && stage.count(child) == 1;
        stage.expect((0..10).all(is_untouched), "its siblings never stopped")
    });
}

#[test]
fn scenario_58_one_child_crashes_again_and_again_then_it_alone_is_quarantined() {
    explore(&Shape::new(3).counters(10), |stage| {
        stage.boot_all(0..3)?;
        stage.start_all(0, 0..10)?;
        stage.call_all(1, 0..10)?;
        let home = stage.machine_of(3).unwrap();
        while stage.told(home, HookName::ChildQuarantined, Some(3)) == 0 {
            stage.expect(stage.starts(3) < 20, "its budget ends")?;
            let is_back =
                |stage: &Stage| stage.is_active(3) || stage.told(home, HookName::ChildQuarantined, Some(3)) > 0;
            stage.until("it is back, or given up", 60 * SECOND, is_back)?;
            if stage.is_active(3) {
                stage.exit(3, Some("again"))?;
            }
        }
        stage.settle()?;
        for machine in 0..3 {
            let told = stage.told(machine, HookName::ChildQuarantined, Some(3));
            stage.expect(told == 1, format!("{machine} told the quarantine {told} times"))?;
        }
        let is_untouched = |child: usize| child == 3 || stage.starts(child) == 1 && stage.count(child) == 1;
        stage.expect((0..10).all(is_untouched), "its siblings never stopped")
    });
}
