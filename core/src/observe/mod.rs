//! What can be seen of a hub from outside: hooks, metrics, tracing targets.

mod hooks;
pub(crate) mod metrics;

pub use hooks::{HookEvent, HookName};
