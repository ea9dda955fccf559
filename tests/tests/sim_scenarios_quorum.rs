//! ProcessHub's scenarios about quorums, on virtual time: what takes minutes, and links that work one way.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use process_hub::config::PartitionTolerance;
use process_hub_tests::sim::Violation;
use process_hub_tests::sim::script::{Shape, Stage, explore};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_millis(1500);
const CHILDREN: usize = 12;

fn shape(machines: usize, tolerance: PartitionTolerance) -> Shape {
    Shape::new(machines).counters(CHILDREN).tolerating_by(tolerance)
}

fn lost_count_for(threshold_time: Duration) -> PartitionTolerance {
    PartitionTolerance::DynamicQuorum { quorum_size: 60, threshold_time, lease: LEASE }
}

/// All machines run, and children on them.
fn begin(stage: &mut Stage, machines: usize) -> Result<(), Violation> {
    stage.boot_all(0..machines)?;
    stage.settle()?;
    stage.start_all(0, 0..CHILDREN)?;
    stage.settle()
}

fn are_partitioned(stage: &Stage, machines: impl IntoIterator<Item = usize>, wanted: bool) -> bool {
    machines.into_iter().all(|machine| stage.is_partitioned(machine) == wanted)
}

/// Whether every child is active on one of these machines.
fn run_on(stage: &Stage, machines: impl Fn(usize) -> bool) -> bool {
    (0..CHILDREN).all(|child| stage.machine_of(child).is_some_and(&machines))
}

#[test]
fn scenario_30_members_are_lost_one_after_another_then_those_of_long_ago_count_no_more() {
    explore(&shape(5, lost_count_for(20 * SECOND)), |stage| {
        begin(stage, 5)?;
        // Together these are three of five.
        for lost in [4, 3, 2] {
            stage.crash(lost)?;
            let is_missed = |stage: &Stage| (0..lost).all(|machine| stage.has_members(machine, lost - 1));
            stage.until("it is missed", 120 * SECOND, is_missed)?;
            stage.until("the others run everything", 120 * SECOND, |stage| {
                are_partitioned(stage, 0..lost, false) && run_on(stage, |machine| machine < lost)
            })?;
            stage.pass(40 * SECOND)?;
        }
        stage.call_all(0, 0..CHILDREN)
    });
}

#[test]
fn scenario_30_too_many_are_lost_at_once_then_they_count_as_lost_however_long_it_lasts() {
    explore(&shape(5, lost_count_for(20 * SECOND)), |stage| {
        begin(stage, 5)?;
        for lost in [4, 3, 2] {
            stage.crash(lost)?;
        }
        stage.until("two of five have no quorum", 120 * SECOND, |stage| are_partitioned(stage, 0..2, true))?;
        stage.pass(300 * SECOND)?;
        stage.expect(are_partitioned(stage, 0..2, true), "without a quorum nobody ages")?;
        stage.expect((0..CHILDREN).all(|child| stage.instances(child) == 0), "nothing runs")?;
        stage.boot(2)?;
        stage.until("three of five have one", 300 * SECOND, |stage| are_partitioned(stage, 0..3, false))
    });
}

#[test]
fn scenario_54_the_minority_is_heard_no_more_then_it_starts_nothing() {
    let (minor, main) = ([3, 4], [0, 1, 2]);
    explore(&shape(5, PartitionTolerance::majority_quorum(5)), |stage| {
        begin(stage, 5)?;
        for from in minor {
            for to in main {
                stage.cut(from, to)?;
            }
        }
        let is_apart = |stage: &Stage| are_partitioned(stage, minor, true) && run_on(stage, |it| main.contains(&it));
        stage.until("the majority runs everything", 600 * SECOND, is_apart)?;
        stage.pass(60 * SECOND)?;
        stage.expect(is_apart(stage), "so it stays")?;
        for from in minor {
            for to in main {
                stage.mend(from, to)?;
            }
        }
        stage.until("all have a quorum again", 600 * SECOND, |stage| are_partitioned(stage, 0..5, false))
    });
}

/// Each node is heard by one side only: the cuts overlap, and no three nodes hear each other both ways.
#[test]
fn scenario_54_one_way_cuts_overlap_then_nobody_starts_what_another_may_run() {
    explore(&shape(4, PartitionTolerance::majority_quorum(4)), |stage| {
        begin(stage, 4)?;
        let cuts = [(0, 1), (1, 2), (2, 3), (3, 0)];
        for (from, to) in cuts {
            stage.cut(from, to)?;
        }
        // Whoever acts meanwhile, and whether anybody does, is up to the invariants.
        stage.pass(120 * SECOND)?;
        for (from, to) in cuts {
            stage.mend(from, to)?;
        }
        stage.until("all have a quorum again", 600 * SECOND, |stage| are_partitioned(stage, 0..4, false))?;
        stage.settle()?;
        stage.call_all(0, 0..CHILDREN)
    });
}

#[test]
fn r11_node_stands_still_then_its_children_run_elsewhere_and_it_calls_none_of_the_old_ones() {
    explore(&shape(3, PartitionTolerance::majority_quorum(3)), |stage| {
        begin(stage, 3)?;
        for _ in 0..3 {
            let began = stage.now();
            let time = 300 * SECOND;
            stage.pause(2, time)?;
            stage.until("the others run everything", time, |stage| run_on(stage, |machine| machine < 2))?;
            stage.pass((began + time).saturating_sub(stage.now()))?;
            stage.until("it is back", 300 * SECOND, |stage| are_partitioned(stage, 0..3, false))?;
            stage.settle()?;
        }
        Ok(())
    });
}
