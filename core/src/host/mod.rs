//! The host side: calls, their queue, and the in-process host for Rust children.

pub mod call;
pub mod queue;
