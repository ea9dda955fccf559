//! Simulator, scenarios and vectors.

pub mod reference_placement;
pub mod sim;
