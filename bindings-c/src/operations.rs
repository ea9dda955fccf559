//! Operations that ask the hub's engine.

use std::ffi::c_char;

use std::sync::Arc;

use process_hub::engine::{Command, MessageCommand, Outcome, PlanChange, StartOptions};
use process_hub::error::Error;
use process_hub::host::Context;
use process_hub::hub::SpecList;
use process_hub::ids::ChildId;
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;
use serde_json::Value;

use crate::boundary::{HandlePointer as _, TextPointer as _, enter, ms, refuse};
use crate::future::{Convert, FutureObject, give};
use crate::hub::HubObject;
use crate::types::{ph_error, ph_future, ph_hub, ph_status, ph_value};
use crate::{current, value};

/// How long `send` may take to put a message on its way.
const SEND_MS: u64 = 5000;

/// The form that most answers have.
fn plain() -> Convert {
    Box::new(|outcome| Ok(outcome.into_payload()))
}

fn begin(
    hub: *mut ph_hub,
    operation: &str,
    future: *mut *mut ph_future,
    convert: Convert,
    command: impl FnOnce() -> Result<Command, Error>,
) -> Result<(), Error> {
    let object = hub.object(operation)?;
    let running = object.running(operation)?;
    give(FutureObject::begin(&object, running, command()?, convert), future)
}

/// Asks and waits for the answer.
pub(crate) fn answer(hub: &HubObject, operation: &str, command: Command, out: *mut ph_value) -> Result<(), Error> {
    let running = hub.running(operation)?;
    // Only the waits of a polled hub have to do something meanwhile.
    let payload = if running.is_polled() {
        FutureObject::begin(hub, running, command, plain()).wait(ms(u64::MAX))?
    } else {
        running.request(command).wait()?.into_payload()
    };
    value::write(out, || payload)
}

/// A message as C gives it.
pub(crate) struct Message {
    pub(crate) child_id: *const c_char,
    pub(crate) node: *const c_char,
    pub(crate) message: ph_value,
    pub(crate) all: bool,
}

impl Message {
    /// The command; from inside a callback with the children that wait for it.
    pub(crate) fn read(
        self,
        operation: &str,
        timeout_ms: u64,
        context: Option<&Context>,
    ) -> Result<MessageCommand, Error> {
        let child = self.child_id.text(operation, "child_id")?;
        let recipient = current::recipient(self.node.text_if_any(operation, "node")?, self.all, operation)?;
        let message = self.message.read(operation)?;
        match context {
            Some(context) => context.message(child, message, recipient, ms(timeout_ms)),
            None => {
                let command = MessageCommand::new(ChildId::new(child)?, message);
                Ok(MessageCommand { recipient, timeout: ms(timeout_ms), ..command })
            }
        }
    }

    fn read_here(self, operation: &str, timeout_ms: u64, hub: *mut ph_hub) -> Result<MessageCommand, Error> {
        self.read(operation, timeout_ms, current::context_in(hub.number()).as_ref())
    }
}

fn start_options(options: *const c_char, operation: &str) -> Result<StartOptions, Error> {
    match options.text_if_any(operation, "options")? {
        None => Ok(StartOptions::default()),
        Some(_) => StartOptions::from_json(&options.json(operation, "options")?),
    }
}

fn child_id(child_id: *const c_char, operation: &str) -> Result<ChildId, Error> {
    ChildId::new(child_id.text(operation, "child_id")?)
}

fn start_one(
    hub: *mut ph_hub,
    spec: *const c_char,
    args: Option<ph_value>,
    options: *const c_char,
    future: *mut *mut ph_future,
) -> Result<(), Error> {
    const OPERATION: &str = "start_child";
    let convert: Convert = Box::new(|outcome| {
        let result = outcome.into_start_result().unwrap_or_default().into_one()?;
        Ok(Payload::from_value(&serde_json::to_value(result).unwrap_or_default()))
    });
    begin(hub, OPERATION, future, convert, || {
        let mut spec = ChildSpec::from_json(&spec.json(OPERATION, "spec")?)?;
        if let Some(args) = args {
            spec = spec.with_args(args.read(OPERATION)?);
        }
        Ok(Command::Start(vec![Arc::new(spec)], start_options(options, OPERATION)?))
    })
}

/// Starts one child; success means that it can be called from here, now.
///
/// `spec` is a JSON object `{id, kind, args, metadata, restart, on_error, require, shutdown_ms, mapping}`, of which `id` and
/// `kind` are required. `options`, unless NULL, is `{timeout_ms, check_existing, if_exists, on_failure, metadata,
/// child_mapping}`. The future answers `{id, instances: [{node, epoch}]}` or the child's own error.
///
/// On `PH_OK`, `*future` is the program's and freed by `ph_future_free`; with `future` NULL nobody waits. On failure it is
/// untouched, and `*err`, unless NULL, is the program's. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_start_child(
    hub: *mut ph_hub,
    spec: *const c_char,
    options: *const c_char,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("start_child", err, || start_one(hub, spec, None, options, future))
}

/// Like `ph_hub_start_child`, with arguments that need not be JSON in place of the spec's. `args` is borrowed for the call.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_start_child_with(
    hub: *mut ph_hub,
    spec: *const c_char,
    args: ph_value,
    options: *const c_char,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("start_child", err, || start_one(hub, spec, Some(args), options, future))
}

/// Starts children: `specs` is a JSON array of specs, `options` is as of `ph_hub_start_child`. One that fails, or is no
/// spec, refuses none of the others. The future answers `{status, started, errors: [{id, node, kind, message}], rollback}`.
/// Ownership and failure are as of `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_start_children(
    hub: *mut ph_hub,
    specs: *const c_char,
    options: *const c_char,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "start_children";
    enter(OPERATION, err, || {
        let object = hub.object(OPERATION)?;
        let running = object.running(OPERATION)?;
        let options = start_options(options, OPERATION)?;
        let SpecList { specs, refused } = {
            let list = SpecList::from_json(&specs.json(OPERATION, "specs")?)?;
            if let Some(result) = list.refusal(&options) {
                let answer = Payload::from_value(&result.to_json(&list.refused));
                return give(FutureObject::ready(&object, running, answer), future);
            }
            list
        };
        let convert: Convert = Box::new(move |outcome| {
            let result = outcome.into_start_result().unwrap_or_default();
            Ok(Payload::from_value(&result.to_json(&refused)))
        });
        give(FutureObject::begin(&object, running, Command::Start(specs, options), convert), future)
    })
}

/// Stops one child everywhere, within `timeout_ms`. The future answers `{id, nodes}` when its instances have ended.
/// Ownership and failure are as of `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_stop_child(
    hub: *mut ph_hub,
    child_id: *const c_char,
    timeout_ms: u64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "stop_child";
    enter(OPERATION, err, || {
        let convert: Convert = Box::new(|outcome| {
            let result = outcome.into_stop_result().unwrap_or_default().into_one()?;
            Ok(Payload::from_value(&serde_json::to_value(result).unwrap_or_default()))
        });
        begin(hub, OPERATION, future, convert, || {
            Ok(Command::Stop(vec![self::child_id(child_id, OPERATION)?], ms(timeout_ms)))
        })
    })
}

/// Stops children everywhere, within `timeout_ms`: `child_ids` is a JSON array of ids. The future answers
/// `{status, stopped: [{id, nodes}], errors}`. Ownership and failure are as of `ph_hub_start_child`. Any thread, also in
/// callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_stop_children(
    hub: *mut ph_hub,
    child_ids: *const c_char,
    timeout_ms: u64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "stop_children";
    enter(OPERATION, err, || {
        begin(hub, OPERATION, future, plain(), || {
            let document = child_ids.json(OPERATION, "child_ids")?;
            let ids: Vec<String> = serde_json::from_value(document)
                .map_err(|error| refuse(OPERATION, format!("`child_ids` must be an array of texts: {error}")))?;
            let ids: Result<Vec<ChildId>, Error> = ids.into_iter().map(ChildId::new).collect();
            Ok(Command::Stop(ids?, ms(timeout_ms)))
        })
    })
}

/// Sends a message to the active instance of a child, wherever it is, and waits for the reply.
///
/// On `PH_OK`, `*reply` is the program's and freed by `ph_value_free`; NULL if nobody wants it. On failure it is
/// untouched, and `*err`, unless NULL, is the program's; `ph_error_maybe_executed` says whether the message may have been
/// handled. Any thread, also in callbacks of children, where a circle of calls is `PH_ERR_WOULD_DEADLOCK`; the wait of a
/// polled hub polls it, except in a callback, whose call another thread must serve.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_call(
    hub: *mut ph_hub,
    child_id: *const c_char,
    message: ph_value,
    timeout_ms: u64,
    reply: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    ph_hub_call_on(hub, child_id, std::ptr::null(), message, timeout_ms, reply, err)
}

/// Like `ph_hub_call`, for the instance on the node of this name; NULL means the active one.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_call_on(
    hub: *mut ph_hub,
    child_id: *const c_char,
    node: *const c_char,
    message: ph_value,
    timeout_ms: u64,
    reply: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("call", err, || {
        let object = hub.object("call")?;
        let message = Message { child_id, node, message, all: false };
        answer(&object, "call", Command::Call(message.read_here("call", timeout_ms, hub)?), reply)
    })
}

/// Like `ph_hub_call_on`, without waiting: the future answers the reply. Ownership and failure are as of
/// `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_call_begin(
    hub: *mut ph_hub,
    child_id: *const c_char,
    node: *const c_char,
    message: ph_value,
    timeout_ms: u64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("call", err, || {
        let message = Message { child_id, node, message, all: false };
        begin(hub, "call", future, plain(), || Ok(Command::Call(message.read_here("call", timeout_ms, hub)?)))
    })
}

/// Sends a message that nobody answers: to the active instance, to the one on the node of this name unless it is NULL, or
/// to every instance if `all`. Returns when it is on its way. `*err`, unless NULL, is the program's on failure. Any
/// thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_send(
    hub: *mut ph_hub,
    child_id: *const c_char,
    node: *const c_char,
    all: bool,
    message: ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("send", err, || {
        let object = hub.object("send")?;
        let message = Message { child_id, node, message, all };
        answer(&object, "send", Command::Send(message.read_here("send", SEND_MS, hub)?), std::ptr::null_mut())
    })
}

/// Gives every local child away, within `timeout_ms`, and stays a member that owns nothing. The future answers
/// `{moved, restarted, stopped, failed}`. Ownership and failure are as of `ph_hub_start_child`. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_drain(
    hub: *mut ph_hub,
    timeout_ms: u64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("drain", err, || begin(hub, "drain", future, plain(), || Ok(Command::Drain(ms(timeout_ms)))))
}

/// Asks where a child is and why: the future answers `{id, owner, placement, rows, moving, unplaced, last_moves}`.
/// Ownership and failure are as of `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_where(
    hub: *mut ph_hub,
    child_id: *const c_char,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("where", err, || {
        begin(hub, "where", future, plain(), || Ok(Command::Where(self::child_id(child_id, "where")?)))
    })
}

/// Asks what would move if nodes joined or left: `change` is `{"join": [{name, kinds, weight}]}` or `{"leave": [name]}`, and
/// the future answers `{moves: [{id, from, to}]}`. Nothing is done. Ownership and failure are as of `ph_hub_start_child`.
/// Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_plan(
    hub: *mut ph_hub,
    change: *const c_char,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("plan", err, || {
        begin(hub, "plan", future, plain(), || {
            Ok(Command::Plan(PlanChange::from_json(&change.json("plan", "change")?)?))
        })
    })
}

/// Waits until every reachable node has what this node had written, at most `timeout_ms`: the future answers `null`.
/// Ownership and failure are as of `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_sync(
    hub: *mut ph_hub,
    timeout_ms: u64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("sync", err, || begin(hub, "sync", future, plain(), || Ok(Command::Sync(ms(timeout_ms)))))
}

/// Clears the row's `state_lost` of a child: the future answers `null`. Ownership and failure are as of
/// `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_acknowledge_loss(
    hub: *mut ph_hub,
    child_id: *const c_char,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "acknowledge_loss";
    enter(OPERATION, err, || {
        begin(hub, OPERATION, future, plain(), || Ok(Command::AcknowledgeLoss(self::child_id(child_id, OPERATION)?)))
    })
}

/// Lets so many members count from now on, after an intended shrink: for all nodes of the hub, with the consent of a quorum,
/// and under `majority_quorum` only. Members that are not there give up their slots. The future answers `null`. Ownership
/// and failure are as of `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_reset_cluster_size(
    hub: *mut ph_hub,
    size: i64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "reset_cluster_size";
    enter(OPERATION, err, || begin(hub, OPERATION, future, plain(), || Command::reset_cluster_size(size)))
}

/// The ids of the children by node: of this node if `scope` is "local", of every member if it is "global", which asks the
/// members and takes at most `timeout_ms`. The future answers `{node: [id, ...]}`. Ownership and failure are as of
/// `ph_hub_start_child`. Any thread, also in callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_which_children(
    hub: *mut ph_hub,
    scope: *const c_char,
    timeout_ms: u64,
    future: *mut *mut ph_future,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "which_children";
    enter(OPERATION, err, || match scope.text(OPERATION, "scope")? {
        "global" => begin(hub, OPERATION, future, plain(), || Ok(Command::WhichChildren(ms(timeout_ms)))),
        "local" => {
            let object = hub.object(OPERATION)?;
            let running = object.running(OPERATION)?;
            running.check(OPERATION)?;
            let answer = Outcome::Children(running.which_children_local()).into_payload();
            give(FutureObject::ready(&object, running, answer), future)
        }
        other => {
            Err(refuse(OPERATION, format!("`scope` must be \"local\" or \"global\", not {:?}", Value::from(other))))
        }
    })
}
