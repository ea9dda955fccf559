//! What random seeds found, told as scripts: each fault once, in as few steps as show it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use process_hub::engine::{IfExists, StartOptions};
use process_hub::observe::HookName;
use process_hub_tests::sim::script::{Moment, Shape, Stage, cold_swap, explore};

const SECOND: Duration = Duration::from_secs(1);

/// Seed 60059: the owner wrote the start and died; the child was taken over and stopped; then the start was asked of a
/// newcomer, which knew neither of the start nor of the stop, and did it again.
#[test]
fn start_is_repeated_to_a_newcomer_after_its_child_was_stopped_then_it_is_not_started_again() {
    explore(&Shape::new(3).counters(1), |stage| {
        stage.boot_all(0..3)?;
        let owner = stage.owner_of(0).unwrap();
        let asker = (owner + 1) % 3;
        stage.crash_after(owner, Moment::Calls("start"))?;
        let returns = StartOptions { if_exists: IfExists::Return, timeout: 100 * SECOND, ..StartOptions::default() };
        let start = stage.start(asker, [0], returns)?;
        stage.until("the owner is dead", SECOND, |stage| !stage.is_up(owner))?;
        let is_over = |stage: &Stage| stage.reply(start).is_some() || stage.is_active(0);
        stage.until("another took the child over", 100 * SECOND, is_over)?;
        if stage.reply(start).is_some() {
            // The start never left the dead owner, and was answered at the second try.
            return Ok(());
        }
        let stop = stage.stop(asker, [0], 100 * SECOND)?;
        stage.answer(stop)?.unwrap();
        stage.boot(owner)?;
        stage.answer(start)?.unwrap();
        stage.settle()?;
        stage.expect(stage.instances(0) == 0 && !stage.knows(asker, 0), "the stop was the last word")
    });
}

/// Seed 9058: a child that does not give its state hangs in `prepare_handover_state`, and could never be moved.
#[test]
fn prepare_handover_state_never_ends_then_the_child_is_written_off_and_starts_where_it_belongs() {
    explore(&Shape::new(2).counters(6), |stage| {
        stage.boot_all([0])?;
        stage.start_all(0, 0..6)?;
        stage.call_all(0, 0..6)?;
        stage.hang(0, "prepare_handover_state");
        stage.boot(1)?;
        stage.pass(10 * SECOND)?;
        stage.settle()?;
        stage.expect(stage.machine_of(0) == stage.owner_of(0), "it is where it belongs")
    });
}

/// Seed 1463: while one node stood still, all others were restarted one after the other, and the stop was forgotten.
#[test]
fn every_node_but_a_paused_one_is_restarted_after_a_stop_then_the_stop_stands() {
    explore(&Shape::new(3).counters(6), |stage| {
        stage.boot_all(0..3)?;
        stage.start_all(0, 0..6)?;
        stage.settle()?;
        stage.pause(2, 200 * SECOND)?;
        stage.until("it is missed", 100 * SECOND, |stage| (0..2).all(|machine| stage.has_members(machine, 1)))?;
        let asked = stage.stop(0, 0..6, 60 * SECOND)?;
        stage.answer(asked)?.unwrap();
        for machine in 0..2 {
            let asked = stage.shut_down(machine, 20 * SECOND)?;
            stage.answer(asked)?.unwrap();
            stage.until("the node is gone", 60 * SECOND, |stage| !stage.is_up(machine))?;
            stage.boot(machine)?;
            stage.until("it is back", 60 * SECOND, |stage| (0..2).all(|machine| stage.has_members(machine, 1)))?;
            stage.pass(2 * SECOND)?;
        }
        stage.until("all are together", 300 * SECOND, |stage| (0..3).all(|machine| stage.has_members(machine, 2)))?;
        stage.settle()?;
        stage.expect((0..6).all(|child| stage.instances(child) == 0), "nothing came back")
    });
}

/// Seed 240073: a cold move failed, the child was started from its snapshot where it had been, that start failed too, and
/// the next began without the state. Nobody was told.
#[test]
fn cold_move_fails_and_the_first_start_after_it_too_then_the_child_has_its_state() {
    explore(&Shape::new(2).counters(6).migrating_by(cold_swap()), |stage| {
        stage.boot_all([0])?;
        stage.start_all(0, 0..6)?;
        stage.call_all(0, 0..6)?;
        stage.boot(1)?;
        let is_moving = |stage: &Stage| (0..6).any(|child| stage.is_in(child, "prepare_handover_state"));
        stage.until("a child moves", 60 * SECOND, is_moving)?;
        let moving = (0..6).find(|child| stage.is_in(*child, "prepare_handover_state")).unwrap();
        stage.fail(moving, "start");
        let has_failed = |stage: &Stage| stage.told(0, HookName::ChildFailed, Some(moving)) > 0;
        stage.until("its start failed there and here", 60 * SECOND, has_failed)?;
        stage.mend_host(moving);
        stage.settle()?;
        stage.expect((0..6).all(|child| stage.count(child) == 1), "every state is there")
    });
}
