//! Scripted runs: a schedule told step by step, on virtual time, over the same world and under the same invariants as
//! the random runs.
//!
//! A script says what happens: which machine starts, dies or stands still, and when, which links are cut, what is asked.
//! The seed draws the rest, so one script is tried under many orders of frames, callbacks and timers. [`explore`] does
//! that, and ends each run as the random ones end: everything heals, the cluster must settle, and what can only be said
//! at the end is checked.

mod plans;
mod record;
mod shape;
mod stage;
mod trap;

pub use shape::{Shape, cold_swap, hot_swap};
pub use stage::{Asked, Stage};
pub use trap::Moment;

pub(crate) use plans::Plans;
pub(crate) use record::Record;
pub(crate) use trap::Trap;

use super::violation::Check;

/// Seeds that a script is tried with; an engine without optimization is more than ten times as slow.
pub const SEEDS: u64 = if cfg!(debug_assertions) { 10 } else { 50 };

/// Runs a script with many seeds.
///
/// # Panics
/// When an invariant or an expectation of the script does not hold; it tells the seed. With the variable `SCRIPT_SEED`
/// only that seed runs, and its history is printed.
pub fn explore(shape: &Shape, script: impl Fn(&mut Stage) -> Check) {
    let only = std::env::var("SCRIPT_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let mut stage = Stage::new(shape, seed, only.is_some());
        let check = script(&mut stage).and_then(|()| stage.finish());
        if let Err(violation) = check {
            panic!("with SCRIPT_SEED={seed}: {violation}");
        }
    }
}
