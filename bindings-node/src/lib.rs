//! Native half of the npm package: converts, forwards, converts back, and decides nothing.
//!
//! No thread of the core ever enters JavaScript. One doorbell per environment, a weak thread-safe function without
//! a payload, tells the event loop that something waits; JavaScript takes it in batches (N-02). Everything belongs to
//! its `environment::Environment`, since one process may have several: the main thread's and those of its workers.

#![allow(
    private_interfaces,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "what napi exports is public in its module, and takes values as JavaScript gives them"
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a binding drives threads and the clock; only the pure parts of the core may not"
)]

mod cell;
mod environment;
mod errors;
mod hub;
mod items;
mod logs;
mod node;
