//! The answers of callbacks.

use std::collections::VecDeque;
use std::ffi::c_char;

use parking_lot::Mutex;
use process_hub::host::call::{HostAnswer, HostFailure};

use crate::boundary::{HandlePointer as _, TextPointer as _, enter, refuse};
use crate::child::ReplyObject;
use crate::errors::kind_of;
use crate::table;
use crate::types::{ph_reply, ph_status, ph_value};

/// Most replies that callbacks of one sort keep unanswered: a child has one, a strategy those of its open questions.
const MAX_KEPT: usize = 1024;

/// The replies that callbacks kept, which are freed with whatever they belong to.
#[derive(Default)]
pub(crate) struct KeptReplies(Mutex<VecDeque<u64>>);

impl KeptReplies {
    /// Keeps a reply; forgets those that were answered, and the oldest beyond the bound: its time is over.
    pub(crate) fn keep(&self, reply: u64) {
        let mut kept = self.0.lock();
        kept.retain(|reply| table::get::<ReplyObject>(*reply, "later").is_ok());
        kept.push_back(reply);
        let oldest = if kept.len() > MAX_KEPT { kept.pop_front() } else { None };
        drop(kept);
        if let Some(oldest) = oldest {
            let _ = table::remove::<ReplyObject>(oldest, "later");
        }
    }
}

impl Drop for KeptReplies {
    fn drop(&mut self) {
        for reply in self.0.get_mut().drain(..) {
            let _ = table::remove::<ReplyObject>(reply, "drop");
        }
    }
}

fn answer(reply: *mut ph_reply, operation: &'static str, answer: HostAnswer) -> Result<(), process_hub::error::Error> {
    reply.release(operation)?.answer(answer);
    Ok(())
}

/// Answers a callback with a value, of which the library takes a copy. Any thread, once.
///
/// Returns `PH_ERR_INVALID_ARGUMENT` for a reply that was answered before or whose instance ended, and
/// `PH_ERR_NOT_ENCODABLE` for a value that says it is JSON and is not; the reply can then still be answered.
#[unsafe(no_mangle)]
pub extern "C" fn ph_reply_value(reply: *mut ph_reply, value: ph_value) -> ph_status {
    enter("ph_reply_value", std::ptr::null_mut(), || {
        let payload = value.read("ph_reply_value")?;
        answer(reply, "ph_reply_value", HostAnswer::Done(Some(payload)))
    })
}

/// Answers a callback with JSON text. Any thread, once. Returns what `ph_reply_value` returns.
#[unsafe(no_mangle)]
pub extern "C" fn ph_reply_json(reply: *mut ph_reply, json: *const c_char) -> ph_status {
    ph_reply_value(reply, crate::value::ph_json(json))
}

/// Answers a callback without a value: it is done. Any thread, once. Returns `PH_ERR_INVALID_ARGUMENT` for a reply that
/// was answered before or whose instance ended.
#[unsafe(no_mangle)]
pub extern "C" fn ph_reply_done(reply: *mut ph_reply) -> ph_status {
    enter("ph_reply_done", std::ptr::null_mut(), || answer(reply, "ph_reply_done", HostAnswer::Done(None)))
}

/// Answers a callback with a failure and one line for a person. `number` is that of an error of the table, or 0 for
/// what the callback's failure is anyway (`child_failed` for `handle`). Any thread, once.
///
/// Returns `PH_ERR_INVALID_ARGUMENT` for a reply that was answered before or whose instance ended, for a number that is
/// not in the table, and for a message that is NULL or not UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn ph_reply_fail(reply: *mut ph_reply, number: ph_status, message: *const c_char) -> ph_status {
    const OPERATION: &str = "ph_reply_fail";
    enter(OPERATION, std::ptr::null_mut(), || {
        let kind = match number {
            0 => None,
            number => {
                Some(kind_of(number).ok_or_else(|| refuse(OPERATION, format!("no error has the number {number}")))?)
            }
        };
        let failure = HostFailure { kind, ..HostFailure::new(message.text(OPERATION, "message")?) };
        answer(reply, OPERATION, HostAnswer::Failed(failure))
    })
}
