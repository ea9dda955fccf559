//! What an instance may ask of its context.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use process_hub::engine::Command;
use process_hub::error::Error;
use process_hub::host::Context;
use process_hub::host::call::StartReason;

use crate::boundary::{HandlePointer as _, TextPointer as _, ask, enter, handle, lend, ms};
use crate::child::{ContextObject, mode_number};
use crate::types::{ph_context, ph_error, ph_hub, ph_mode, ph_start_reason, ph_status, ph_value};
use crate::{current, operations};

/// The context, with the chain of callers if the thread is in a callback of the same instance.
fn present(object: &Arc<ContextObject>) -> Context {
    let inside = current::context_in(object.hub).filter(|context| context.is_same_instance(&object.context));
    inside.unwrap_or_else(|| object.context.clone())
}

fn text(context: *mut ph_context, read: impl FnOnce(&ContextObject) -> &CStr) -> *const c_char {
    ask("ph_context", std::ptr::null(), || Ok(lend(read(&*context.object("ph_context")?))))
}

fn tell(
    context: *mut ph_context,
    operation: &'static str,
    tell: impl FnOnce(&Context) -> Result<(), Error>,
) -> ph_status {
    enter(operation, std::ptr::null_mut(), || tell(&context.object(operation)?.context))
}

/// The child's id; NULL if the instance ended. The context keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_child_id(context: *mut ph_context) -> *const c_char {
    text(context, |context| &context.child_id)
}

/// The name of the child's kind; NULL if the instance ended. The context keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_kind(context: *mut ph_context) -> *const c_char {
    text(context, |context| &context.kind)
}

/// The id of the hub; NULL if the instance ended. The context keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_hub_id(context: *mut ph_context) -> *const c_char {
    text(context, |context| &context.hub_id)
}

/// The name of the node that runs the instance; NULL if it ended. The context keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_node(context: *mut ph_context) -> *const c_char {
    text(context, |context| &context.node)
}

/// The metadata as a JSON object; NULL if the instance ended. The context keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_metadata(context: *mut ph_context) -> *const c_char {
    text(context, |context| &context.metadata)
}

/// The hub the child belongs to, to call others; NULL if the instance ended. Lent: not freed through this. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_hub(context: *mut ph_context) -> *mut ph_hub {
    ask("ph_context_hub", std::ptr::null_mut(), || Ok(handle(context.object("ph_context_hub")?.hub)))
}

/// The fencing number as of now: write it beside what the child writes to a database. 0 if the instance ended. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_epoch(context: *mut ph_context) -> u64 {
    ask("ph_context_epoch", 0, || Ok(context.object("ph_context_epoch")?.context.epoch().0))
}

/// The role as last told, `PH_ACTIVE` or `PH_PASSIVE`; 0 if the instance ended. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_mode(context: *mut ph_context) -> ph_mode {
    ask("ph_context_mode", 0, || Ok(mode_number(context.object("ph_context_mode")?.context.mode())))
}

/// Why the instance was started: one of `PH_START_INITIAL` and so on; 0 if it ended. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_start_reason(context: *mut ph_context) -> ph_start_reason {
    ask("ph_context_start_reason", 0, || {
        Ok(match context.object("ph_context_start_reason")?.context.start_reason() {
            StartReason::Initial => 1,
            StartReason::Restart => 2,
            StartReason::Migration => 3,
            StartReason::Failover => 4,
        })
    })
}

/// Whether `run` shall return, because the child is frozen or stopped; true if the instance ended. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_is_cancelled(context: *mut ph_context) -> bool {
    ask("ph_context_is_cancelled", true, || Ok(present(&context.object("ph_context_is_cancelled")?).is_cancelled()))
}

/// Waits until `run` shall return, at most `timeout_ms`, and says whether it shall: the pause of a loop. True if the
/// instance ended. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_wait_cancelled(context: *mut ph_context, timeout_ms: u64) -> bool {
    ask("ph_context_wait_cancelled", true, || {
        let context = present(&context.object("ph_context_wait_cancelled")?);
        Ok(context.wait_cancelled(ms(timeout_ms)))
    })
}

/// Says that an outgoing instance whose state was not delivered may end. Returns `PH_ERR_INVALID_ARGUMENT` if the
/// instance ended. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_retention_handled(context: *mut ph_context) -> ph_status {
    tell(context, "ph_context_retention_handled", |context| {
        context.retention_handled();
        Ok(())
    })
}

/// Ends the instance: normally if `reason` is NULL, or as a crash with that reason. The restart policy decides what
/// follows. Returns `PH_ERR_INVALID_ARGUMENT` if the instance ended or the reason is not UTF-8. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_exit(context: *mut ph_context, reason: *const c_char) -> ph_status {
    tell(context, "ph_context_exit", |context| {
        let reason = reason.text_if_any("ph_context_exit", "reason")?;
        context.exit(reason.map(str::to_owned));
        Ok(())
    })
}

/// Stops the child: it is no longer wanted anywhere. Returns `PH_ERR_INVALID_ARGUMENT` if the instance ended. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_stop_self(context: *mut ph_context) -> ph_status {
    tell(context, "ph_context_stop_self", |context| {
        context.stop_self();
        Ok(())
    })
}

/// Calls another child and waits for its reply, as `ph_hub_call` does; a circle of calls is `PH_ERR_WOULD_DEADLOCK`.
///
/// `*reply` is the program's and freed by `ph_value_free`; NULL if nobody wants it. On failure `*reply` is untouched and
/// `*err`, unless NULL, is the program's and freed by `ph_error_free`. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_context_call(
    context: *mut ph_context,
    child_id: *const c_char,
    message: ph_value,
    timeout_ms: u64,
    reply: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "call";
    enter(OPERATION, err, || {
        let object = context.object(OPERATION)?;
        let hub = handle::<ph_hub>(object.hub).object(OPERATION)?;
        let message = operations::Message { child_id, node: std::ptr::null(), message, all: false };
        let command = message.read(OPERATION, timeout_ms, Some(&present(&object)))?;
        operations::answer(&hub, OPERATION, Command::Call(command), reply)
    })
}
