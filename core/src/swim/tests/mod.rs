//! Situations, and what comes of them.

mod detection;
mod harness;
mod names;
mod options;
mod robustness;
mod soak;
