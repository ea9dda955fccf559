//! The benchmark: workloads on processes of their own, and their figures beside their aims.
//!
//! Every node is an operating system process that obeys one JSON line at a time ([`worker`] in Rust, `bench_worker` in
//! examples/python, examples/node and examples/c). The bench itself runs no hub; it starts the processes, gives orders,
//! takes the time, and kills what it started.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark, no pure part: it starts processes and measures time"
)]

pub mod cluster;
pub mod figure;
pub mod node;
pub mod report;
pub mod worker;
pub mod workloads;

use std::time::Duration;

/// How long one order may take; a worker that has not answered then is given up.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The kind of every child.
pub const KIND: &str = "w";
/// What a child that was given a state answers.
pub const STATE: u64 = 42;

/// The id of the child with this number.
#[must_use]
pub fn child_id(index: usize) -> String {
    format!("c{index}")
}
