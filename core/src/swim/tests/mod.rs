//! Situations, and what comes of them.

mod detection;
mod harness;
mod names;
mod robustness;
mod soak;
