//! Simulator, scenarios and vectors.

pub mod cluster;
pub mod reference_placement;
pub mod sim;
