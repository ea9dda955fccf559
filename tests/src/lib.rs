//! Simulator, scenarios and vectors.

pub mod agents;
pub mod bench;
pub mod cluster;
pub mod reference_placement;
pub mod shapes;
pub mod sim;
