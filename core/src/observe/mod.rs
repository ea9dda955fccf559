//! What can be seen of a hub from outside: hooks, metrics, tracing targets.

mod hooks;
pub mod logs;
pub(crate) mod metrics;

pub use hooks::{HookEvent, HookName};
