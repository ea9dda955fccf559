//! Tests of the whole: the simulator and what it checks.

pub mod reference_placement;
pub mod sim;
