//! What callback the present thread runs.

use std::cell::RefCell;

use process_hub::engine::Recipient;
use process_hub::error::{Error, ErrorKind};
use process_hub::host::Context;

/// One callback in progress.
#[derive(Clone)]
struct Current {
    /// The handle of its hub; 0 for what belongs to none.
    hub: u64,
    /// The context, with the chain of callers, of a child's callback.
    context: Option<Context>,
}

thread_local! {
    static STACK: RefCell<Vec<Current>> = const { RefCell::new(Vec::new()) };
}

/// Ends the callback when it is dropped.
pub(crate) struct Inside(());

impl Drop for Inside {
    fn drop(&mut self) {
        STACK.with(|stack| stack.borrow_mut().pop());
    }
}

/// The thread begins a callback.
pub(crate) fn enter(hub: u64, context: Option<Context>) -> Inside {
    STACK.with(|stack| stack.borrow_mut().push(Current { hub, context }));
    Inside(())
}

/// Whether the thread is in a callback of this hub.
pub(crate) fn is_inside(hub: u64) -> bool {
    STACK.with(|stack| stack.borrow().iter().any(|current| current.hub == hub))
}

/// Whether the thread is in any callback.
pub(crate) fn is_inside_any() -> bool {
    STACK.with(|stack| !stack.borrow().is_empty())
}

/// The context of the innermost callback, if it is one of a child of this hub.
pub(crate) fn context_in(hub: u64) -> Option<Context> {
    STACK.with(|stack| {
        let stack = stack.borrow();
        let current = stack.last().filter(|current| current.hub == hub)?;
        current.context.clone()
    })
}

/// Refuses inside a callback of this hub.
pub(crate) fn refuse_inside(hub: u64, operation: &str) -> Result<(), Error> {
    if !is_inside(hub) {
        return Ok(());
    }
    let message = "a callback of this hub waits for its own end; call this from another thread";
    Err(Error::new(ErrorKind::WouldDeadlock, operation, message))
}

/// Whom a message is for.
pub(crate) fn recipient(node: Option<&str>, all: bool, operation: &str) -> Result<Recipient, Error> {
    match (node, all) {
        (None, false) => Ok(Recipient::Active),
        (None, true) => Ok(Recipient::All),
        (Some(node), false) => Ok(Recipient::Node(process_hub::ids::NodeName::new(node)?)),
        (Some(_), true) => Err(crate::boundary::refuse(operation, "`node` and `all` exclude each other")),
    }
}
