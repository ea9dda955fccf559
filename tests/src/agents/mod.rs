//! Scenarios over the agents of tests/agents, in clusters of one language and of several.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test over processes: it starts them, waits for them, and fails by panicking"
)]

mod cluster;
mod coverage;
mod language;
mod process;
mod run;
mod scenarios;

pub use language::{Language, mix_name, mixes};
pub use run::{Choice, Summary, run};
