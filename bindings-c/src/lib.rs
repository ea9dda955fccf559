//! C interface of process-hub: `include/process_hub.h` is made of this crate.
//!
//! The binding converts, forwards, converts back, and decides nothing. Exported functions take handles (see `table`),
//! go through `boundary::enter`, and so answer an error where a pointer, a handle or a text is wrong. Callbacks run on
//! the core's host threads as the children of `process_hub::host::Child` do.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a binding drives threads and the clock; only the pure parts of the core may not"
)]
#![allow(non_camel_case_types, reason = "the types have their names in C")]
#![allow(unreachable_pub, reason = "the interface is for C and has nothing for Rust")]

mod boundary;
mod current;
mod table;

// The order of the header: every group in turn.
mod types;

mod library;

mod errors;

mod value;

mod node;

mod hub;

mod hooks;

mod strategy;

mod operations;

mod reads;

mod future;

mod child;
mod context;

mod reply;

mod logs;
