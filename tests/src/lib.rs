//! Simulator, scenarios and vectors.

pub mod bench;
pub mod cluster;
pub mod reference_placement;
pub mod sim;
