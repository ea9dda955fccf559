//! What the protocols between threads are built on: locks, atomics, parking, the channel, thread-local values.
//!
//! The tests named `models` (`cargo xtask test --only loom`) get loom's kind of each, which tries the orders in which
//! the steps of the threads may come, and what the memory model lets each of them see.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "of the drivers: they share state between threads"
)]

#[cfg(test)]
#[cfg(feature = "loom")]
mod modelled;
#[cfg(not(all(test, feature = "loom")))]
mod real;

#[cfg(all(test, feature = "loom"))]
pub(crate) use modelled::*;
#[cfg(not(all(test, feature = "loom")))]
pub(crate) use real::*;
