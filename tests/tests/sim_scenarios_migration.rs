//! ProcessHub's scenarios about hand-over, and the gaps its suite leaves there, on virtual time, each under many orders
//! of the network. Source of the numbers: upstream-behaviour.md §9.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use process_hub::config::Migration;
use process_hub::engine::{Outcome, StartOptions};
use process_hub::observe::HookName;
use process_hub::spec::DrainReport;
use process_hub_tests::sim::Violation;
use process_hub_tests::sim::script::{Asked, Moment, Shape, Stage, cold_swap, explore, hot_swap};

const SECOND: Duration = Duration::from_secs(1);

fn report(stage: &mut Stage, asked: Asked) -> Result<DrainReport, Violation> {
    match stage.answer(asked)? {
        Ok(Outcome::Drained(report)) => Ok(report),
        other => panic!("not the answer of a shutdown: {other:?}"),
    }
}

/// Starts the nodes `0..nodes` and `children` on them; each child counts one call.
fn begin(stage: &mut Stage, nodes: usize, children: usize) -> Result<(), Violation> {
    stage.boot_all(0..nodes)?;
    stage.start_all(0, 0..children)?;
    stage.call_all(0, 0..children)?;
    stage.settle()
}

fn each_counts(stage: &Stage, children: usize, count: usize) -> Result<(), Violation> {
    for child in 0..children {
        stage.expect(
            stage.instances(child) == 1 && stage.count(child) == count,
            format!("c{child} counts {} in {} instances", stage.count(child), stage.instances(child)),
        )?;
    }
    Ok(())
}

#[test]
fn scenario_16_hot_swap_to_5_nodes_that_join_then_each_moved_child_has_its_value_there() {
    explore(&Shape::new(6).counters(40).migrating_by(hot_swap()), |stage| {
        begin(stage, 1, 40)?;
        for machine in 1..6 {
            stage.boot(machine)?;
        }
        stage.settle()?;
        let moved = (0..40).filter(|child| stage.machine_of(*child) != Some(0)).count();
        stage.expect(moved > 15, format!("only {moved} moved"))?;
        each_counts(stage, 40, 1)?;
        stage.call_all(5, 0..40)?;
        each_counts(stage, 40, 2)
    });
}

/// Kills one end of a hand-over at a step of it; the other end, and whoever is left, put everything right.
fn dies_at_a_step(migration: &Migration, is_source: bool, moment: Moment) {
    explore(&Shape::new(3).counters(12).migrating_by(migration.clone()), |stage| {
        begin(stage, 2, 12)?;
        let doomed = if is_source { 0 } else { 2 };
        if is_source {
            stage.crash_after(0, moment)?;
            stage.boot(2)?;
        } else {
            stage.boot(2)?;
            stage.crash_after(2, moment)?;
        }
        stage.until("the step is reached", 60 * SECOND, |stage| !stage.is_up(doomed))?;
        stage.settle()?;
        for child in 0..12 {
            stage.expect(stage.instances(child) == 1, format!("c{child} runs once"))?;
            let is_told = stage.told(1, HookName::StateLost, Some(child)) > 0;
            // Only what ran on the dead node may be gone, and then somebody said so.
            stage.expect(stage.count(child) == 1 || is_told, format!("c{child} forgot in silence"))?;
        }
        stage.boot(doomed)?;
        stage.settle()
    });
}

#[test]
fn scenario_16_the_target_dies_at_any_step_of_a_hot_swap_then_nothing_is_doubled_or_silently_lost() {
    for moment in [Moment::Calls("start"), Moment::Calls("alter_handover_state"), Moment::Sends("Prepared")] {
        dies_at_a_step(&hot_swap(), false, moment);
    }
    for moment in [Moment::Sends("Ready"), Moment::Sends("Activated")] {
        dies_at_a_step(&hot_swap(), false, moment);
    }
}

#[test]
fn scenario_16_the_source_dies_at_any_step_of_a_hot_swap_then_nothing_is_doubled_or_silently_lost() {
    for moment in [Moment::Calls("prepare_handover_state"), Moment::Calls("stop"), Moment::Sends("Prepare")] {
        dies_at_a_step(&hot_swap(), true, moment);
    }
    for moment in [Moment::Sends("State"), Moment::Sends("Commit")] {
        dies_at_a_step(&hot_swap(), true, moment);
    }
}

#[test]
fn scenario_16_either_end_dies_at_any_step_of_a_cold_swap_then_nothing_is_doubled_or_silently_lost() {
    for moment in [Moment::Sends("Prepared"), Moment::Calls("start"), Moment::Sends("Ready")] {
        dies_at_a_step(&cold_swap(), false, moment);
    }
    for moment in [Moment::Calls("stop"), Moment::Sends("State"), Moment::Sends("Commit")] {
        dies_at_a_step(&cold_swap(), true, moment);
    }
}

#[test]
fn scenario_17_one_of_six_hubs_stops_then_all_children_have_their_state() {
    explore(&Shape::new(6).counters(60).migrating_by(hot_swap()), |stage| {
        begin(stage, 6, 60)?;
        let asked = stage.shut_down(3, 60 * SECOND)?;
        let report = report(stage, asked)?;
        let is_clean = report.restarted.is_empty() && report.stopped.is_empty() && report.failed.is_empty();
        stage.expect(is_clean && !report.moved.is_empty(), format!("all of them moved: {report:?}"))?;
        stage.settle()?;
        each_counts(stage, 60, 1)
    });
}

#[test]
fn scenario_17_every_hub_is_restarted_in_turn_then_all_children_have_their_state() {
    explore(&Shape::new(3).counters(20).migrating_by(cold_swap()), |stage| {
        begin(stage, 3, 20)?;
        for machine in 0..3 {
            let asked = stage.shut_down(machine, 60 * SECOND)?;
            let report = report(stage, asked)?;
            stage.expect(report.failed.is_empty() && report.stopped.is_empty(), format!("{report:?}"))?;
            stage.until("the node is gone", 60 * SECOND, |stage| !stage.is_up(machine))?;
            stage.boot(machine)?;
            stage.settle()?;
        }
        each_counts(stage, 20, 1)
    });
}

#[test]
fn scenario_47_hot_swap_without_handover_then_exactly_one_instance_of_each_child_is_left() {
    let migration = Migration::HotSwap {
        retention: SECOND,
        handover: false,
        confirm_handover: false,
        handover_data_wait: SECOND,
        child_migration_timeout: 10 * SECOND,
    };
    explore(&Shape::new(4).counters(30).migrating_by(migration), |stage| {
        begin(stage, 1, 30)?;
        for machine in 1..4 {
            stage.boot(machine)?;
        }
        stage.settle()?;
        stage.pass(5 * SECOND)?;
        stage.expect((0..30).all(|child| stage.instances(child) == 1), "old instances go after their retention")
    });
}

#[test]
fn scenario_48_messages_come_while_the_snapshot_is_taken_then_none_is_lost_and_each_counts_once() {
    explore(&Shape::new(2).counters(8).migrating_by(hot_swap()), |stage| {
        begin(stage, 1, 8)?;
        stage.boot(1)?;
        let is_frozen = |stage: &Stage| (0..8).any(|child| stage.is_in(child, "prepare_handover_state"));
        stage.until("a snapshot is taken", 60 * SECOND, is_frozen)?;
        let mut open = Vec::new();
        for child in 0..8 {
            for _ in 0..3 {
                open.push(stage.call(0, child, 30 * SECOND)?);
            }
        }
        for asked in open {
            let answer = stage.answer(asked)?;
            stage.expect(answer.is_ok(), format!("{answer:?}"))?;
        }
        stage.settle()?;
        each_counts(stage, 8, 4)
    });
}

#[test]
fn scenario_49_one_child_does_not_answer_at_shutdown_then_the_others_keep_their_state() {
    explore(&Shape::new(3).counters(20).migrating_by(hot_swap()), |stage| {
        begin(stage, 3, 20)?;
        let stuck = (0..20).find(|child| stage.machine_of(*child) == Some(1)).unwrap();
        stage.hang(stuck, "prepare_handover_state");
        let asked = stage.shut_down(1, 30 * SECOND)?;
        let report = report(stage, asked)?;
        stage.expect(report.failed.len() <= 1, format!("{report:?}"))?;
        stage.until("the node is gone", 60 * SECOND, |stage| !stage.is_up(1))?;
        stage.settle()?;
        for child in 0..20 {
            stage.expect(stage.instances(child) == 1, format!("c{child} runs"))?;
            let is_told = stage.told(0, HookName::StateLost, Some(child)) > 0;
            stage.expect(stage.count(child) == 1 || child == stuck && is_told, format!("c{child} forgot"))?;
        }
        Ok(())
    });
}

#[test]
fn scenario_52_two_hubs_shut_down_to_one_target_at_once_then_no_state_erases_another() {
    explore(&Shape::new(3).counters(30).migrating_by(hot_swap()), |stage| {
        begin(stage, 3, 30)?;
        let (one, other) = (stage.shut_down(0, 60 * SECOND)?, stage.shut_down(1, 60 * SECOND)?);
        for asked in [one, other] {
            let report = report(stage, asked)?;
            stage.expect(report.failed.is_empty() && report.stopped.is_empty(), format!("{report:?}"))?;
        }
        stage.until("both are gone", 60 * SECOND, |stage| !stage.is_up(0) && !stage.is_up(1))?;
        stage.settle()?;
        each_counts(stage, 30, 1)
    });
}

#[test]
fn scenario_56_the_owner_changes_twice_while_children_start_then_each_runs_exactly_once() {
    explore(&Shape::new(4).counters(20), |stage| {
        stage.boot_all([0, 1])?;
        let options = StartOptions { timeout: 60 * SECOND, ..StartOptions::default() };
        let asked = stage.start(0, 0..20, options)?;
        stage.boot(2)?;
        stage.until("the first newcomer is a member", 60 * SECOND, |stage| stage.has_members(0, 2))?;
        stage.boot(3)?;
        stage.until("the second newcomer is a member", 60 * SECOND, |stage| stage.has_members(0, 3))?;
        stage.answer(asked)?.unwrap();
        stage.settle()?;
        stage.expect((0..20).all(|child| stage.instances(child) == 1), "each runs exactly once")
    });
}

#[test]
fn scenario_56_the_newcomer_that_would_own_them_dies_again_while_children_start_then_each_runs_exactly_once() {
    explore(&Shape::new(3).counters(20), |stage| {
        stage.boot_all([0, 1])?;
        stage.boot(2)?;
        let options = StartOptions { timeout: 60 * SECOND, ..StartOptions::default() };
        let asked = stage.start(0, 0..20, options)?;
        stage.crash_after(2, Moment::Calls("start"))?;
        stage.until("the newcomer died, or everything runs", 60 * SECOND, |stage| {
            !stage.is_up(2) || stage.reply(asked).is_some()
        })?;
        stage.answer(asked)?.unwrap();
        stage.settle()?;
        stage.expect((0..20).all(|child| stage.instances(child) == 1), "each runs exactly once")
    });
}

#[test]
fn scenario_11_two_sides_work_apart_then_after_the_heal_one_instance_is_left_of_each_child() {
    explore(&Shape::new(4).counters(16), |stage| {
        begin(stage, 4, 16)?;
        stage.split(&[0, 1], &[2, 3])?;
        stage.until("the sides have parted", 120 * SECOND, |stage| {
            (0..4).all(|machine| stage.has_members(machine, 1)) && (0..16).all(|child| stage.instances(child) == 2)
        })?;
        stage.join(&[0, 1], &[2, 3])?;
        stage.settle()?;
        stage.expect((0..16).all(|child| stage.instances(child) == 1), "one instance is left of each")
    });
}
