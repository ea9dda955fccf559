//! Simulator, scenarios and vectors.
