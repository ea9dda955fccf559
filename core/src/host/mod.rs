//! The host side: calls, their queue, and the in-process host for Rust children.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a driver: it has threads and clocks, and shares state with its callers"
)]

mod bell;
mod blocked;
pub mod call;
mod cell;
pub mod child;
pub mod context;
pub mod decide;
pub(crate) mod local;
pub(crate) mod pool;
pub mod queue;

pub use bell::Bell;
pub use child::{Body, Child, Kind, KindFn, kind_fn};
pub use context::{Context, Reply};
pub use decide::Decide;
pub use pool::{Polled, while_blocked};
pub use queue::{Doorbell, HostItem, HostQueue, HostTask};
