//! The types of the header.

use std::ffi::{c_char, c_void};

use crate::boundary::{Opaque, ph_drop};
use crate::child::{ContextObject, ReplyObject};
use crate::errors::ErrorObject;
use crate::future::FutureObject;
use crate::hub::HubObject;
use crate::node::NodeObject;

/// One hub of this process: made by `ph_hub_new`, freed by `ph_hub_free`.
pub struct ph_hub {
    _private: [u8; 0],
}

/// One member of the cluster, on which several hubs may run: made by `ph_node_new`, freed by `ph_node_free`.
pub struct ph_node {
    _private: [u8; 0],
}

/// An answer that is still to come, freed by `ph_future_free`.
pub struct ph_future {
    _private: [u8; 0],
}

/// What went wrong, freed by `ph_error_free`.
pub struct ph_error {
    _private: [u8; 0],
}

/// What an instance of a child knows of itself. Lent to its callbacks; may be kept and used on any thread as long as
/// the instance lives, and answers "freed" afterwards. Never freed by the program.
pub struct ph_context {
    _private: [u8; 0],
}

/// The right to answer one callback. Used up by the first answer; never freed by the program.
pub struct ph_reply {
    _private: [u8; 0],
}

macro_rules! objects {
    ($($name:ident: $object:ty;)*) => {
        $(impl Opaque for $name {
            type Object = $object;
        })*
    };
}

objects! {
    ph_hub: HubObject;
    ph_node: NodeObject;
    ph_future: FutureObject;
    ph_error: ErrorObject;
    ph_context: ContextObject;
    ph_reply: ReplyObject;
}

/// The result of a function or of a callback: `PH_OK`, `PH_LATER`, or the number of an error.
pub type ph_status = i32;

/// Bytes and how to read them.
///
/// A value that the library gives is freed by `ph_value_free`, once per struct; copies of the struct must not be used
/// after that. A value that the program makes (by `ph_json`, `ph_bytes`, or by hand with `owner` 0) is borrowed by the
/// function it is passed to, for the call, and need not be freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_value {
    /// The bytes. JSON text that the library gives ends with a NUL that `len` does not count.
    pub data: *const c_char,
    /// How many there are.
    pub len: usize,
    /// The MIME name of the format, such as `application/json`; NULL means `application/octet-stream`.
    pub content_type: *const c_char,
    /// The library's; 0 in values that the program makes.
    pub owner: u64,
}

/// A role: `PH_ACTIVE` or `PH_PASSIVE`.
pub type ph_mode = i32;

/// Why an instance was started: one of `PH_START_INITIAL` and so on.
pub type ph_start_reason = i32;

/// Why an instance is stopped: one of `PH_STOP_STOPPED` and so on.
pub type ph_stop_reason = i32;

/// Whom a hand-over goes to.
#[repr(C)]
pub struct ph_handover_target {
    /// The node of the new instance; NULL if it could not start.
    pub node: *const c_char,
    /// Its fencing number.
    pub epoch: u64,
    /// Why it could not start; NULL if it did.
    pub error: *const c_char,
}

/// `start`: `*child` is what the other callbacks get; it holds `user_data` when the callback is called.
pub type ph_start_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        context: *mut ph_context,
        args: ph_value,
        child: *mut *mut c_void,
        reply: *mut ph_reply,
    ) -> ph_status,
>;

/// `run`, `prepare_handover_state`: no argument of their own.
pub type ph_plain_callback =
    Option<unsafe extern "C" fn(child: *mut c_void, context: *mut ph_context, reply: *mut ph_reply) -> ph_status>;

/// `handle`, `alter_handover_state`, `resolve_conflict`: a message or a state.
pub type ph_value_callback = Option<
    unsafe extern "C" fn(
        child: *mut c_void,
        context: *mut ph_context,
        value: ph_value,
        reply: *mut ph_reply,
    ) -> ph_status,
>;

/// `redundancy_signal`.
pub type ph_mode_callback = Option<
    unsafe extern "C" fn(
        child: *mut c_void,
        context: *mut ph_context,
        mode: ph_mode,
        reply: *mut ph_reply,
    ) -> ph_status,
>;

/// `stop`.
pub type ph_stop_callback = Option<
    unsafe extern "C" fn(
        child: *mut c_void,
        context: *mut ph_context,
        reason: ph_stop_reason,
        reply: *mut ph_reply,
    ) -> ph_status,
>;

/// `handover_start`.
pub type ph_target_callback = Option<
    unsafe extern "C" fn(
        child: *mut c_void,
        context: *mut ph_context,
        target: *const ph_handover_target,
        reply: *mut ph_reply,
    ) -> ph_status,
>;

/// The code of a kind of children.
///
/// Begin with `PH_CHILD_CALLBACKS_INIT`, which sets `struct_size`, and set what is needed; NULL leaves a callback out.
///
/// Callbacks run on the dispatcher threads of the hub (`host_threads` of its configuration), or inside `ph_hub_poll`
/// and the waits of a polled hub. The callbacks of one instance run one at a time and in order, `run` apart, which has
/// a thread of its own. They may call every function of this header but those that stop or free their own hub, or wait
/// for its end: these answer `PH_ERR_WOULD_DEADLOCK`. They must not throw, `longjmp` or end their thread. What they are
/// lent (values, texts, targets) they may read until they return.
///
/// A callback answers in one of four ways:
/// - it returns `PH_OK`: it is done, with the value it gave by `ph_reply_value` or `ph_reply_json`, if it gave one;
/// - it calls `ph_reply_fail`, and returns anything: it failed, and the message goes to whoever asked;
/// - it returns the number of an error: it failed with that error;
/// - it keeps `reply` and returns `PH_LATER`: it is done when the reply is answered, on any thread, before the
///   deadline. The instance gets no other callback meanwhile, and its thread is free. `run` cannot answer later.
///
/// A callback that does not answer in time has failed: `handle` counts as a crash after 60 s, `start` after the time of
/// its request, `stop` after the spec's `shutdown_ms`, the others after 5 s. Its thread is replaced and left alone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_child_callbacks {
    /// `sizeof(ph_child_callbacks)`: later versions add callbacks at the end.
    pub struct_size: usize,
    /// Called once per instance, first, with the spec's arguments. A failure is a failed start.
    pub start: ph_start_callback,
    /// The body of a child that works on its own, on a thread of its own. Returning ends the instance: normally, or
    /// as a crash; returning because `ph_context_is_cancelled` does not. It may be called again after that.
    pub run: ph_plain_callback,
    /// Handles a message; the reply's value goes to the caller (JSON `null` if there is none). A failure goes to the
    /// caller as `child_failed`, and the instance lives on unless the spec says `"on_error": "restart"`.
    pub handle: ph_value_callback,
    /// Told the role, at the start and on every change, as the option `redundancy_signal` filters.
    pub redundancy_signal: ph_mode_callback,
    /// Told that a hand-over of this child begins.
    pub handover_start: ph_target_callback,
    /// Gives the state that moves to another node; a kind with this callback has state, and its loss is told.
    pub prepare_handover_state: ph_plain_callback,
    /// Takes the state of the instance before it, before the first message.
    pub alter_handover_state: ph_value_callback,
    /// Takes the loser's state after a split has healed; without it the winner keeps its own.
    pub resolve_conflict: ph_value_callback,
    /// The last call of an instance.
    pub stop: ph_stop_callback,
    /// Frees `child`: called once per instance whose `start` set it, after its last callback returned.
    pub drop: ph_drop,
}

/// Told of a hook. `payload` is a JSON object of the shape that docs/hooks.md shows.
///
/// Runs on the thread of the observers, one event at a time, or in `ph_hub_poll`. The texts are lent for the call.
pub type ph_hook_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, hook: *const c_char, payload: *const c_char)>;

/// May change a spec before its start: `spec` is its document and `nodes` an array of the names of the nodes.
///
/// Answers like the callbacks of a child, with the changed document by `ph_reply_json`; without one the spec stays. It
/// cannot answer later. Runs on a dispatcher thread; the texts are lent for the call.
pub type ph_intercept_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        spec: *const c_char,
        nodes: *const c_char,
        reply: *mut ph_reply,
    ) -> ph_status,
>;

/// Decides for a strategy family. `question` is a JSON object of the shape that docs/strategies.md shows.
///
/// Answers like the callbacks of a child, by `ph_reply_json`: at once, or from any thread after it returned `PH_LATER`. An
/// answer that is late, missing or makes no sense counts for nothing: the built-in decides and the hook
/// `strategy_fallback` tells why. Of the replies that were kept and not answered, the last 1024 of a strategy stay valid.
/// Runs on a dispatcher thread, several at a time, or in `ph_hub_poll`; the text is lent for the call.
pub type ph_strategy_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, question: *const c_char, reply: *mut ph_reply) -> ph_status>;

/// Told, once, that the answer of a future is there: `ph_future_wait` gives it at once.
///
/// Runs on a dispatcher thread, or in `ph_hub_poll`. `future` is lent for the call, unless the program freed it.
pub type ph_future_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, future: *mut ph_future)>;

/// Told a record of the log: its level (`PH_LOG_ERROR` to `PH_LOG_TRACE`), the part of the library it comes from, and
/// one line of text.
///
/// Runs on a thread of its own, one record at a time. The texts are lent for the call.
pub type ph_log_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, target: *const c_char, message: *const c_char)>;
