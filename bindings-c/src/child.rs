//! Children whose callbacks are in C.

use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::Mutex;
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::{HandoverTarget, HostAnswer, HostCall, HostFailure, HostRequest, StopReason};
use process_hub::host::{Body, Child, Context, Kind, Reply};
use process_hub::payload::Payload;
use process_hub::spec::Mode;

use crate::boundary::{HandlePointer as _, UserData, c_text, handle, lend, make_handle, refuse};
use crate::errors::kind_of;
use crate::reply::KeptReplies;
use crate::table::{self, Handled};
use crate::types::{ph_child_callbacks, ph_handover_target, ph_mode, ph_reply, ph_status, ph_stop_reason};
use crate::{current, value};

/// A callback that answers later.
pub(crate) const LATER: ph_status = 1;

/// The code of a kind: its callbacks and their data.
pub(crate) struct KindCode {
    callbacks: ph_child_callbacks,
    user_data: UserData,
}

/// What the struct is without callbacks.
const NO_CALLBACKS: ph_child_callbacks = ph_child_callbacks {
    struct_size: 0,
    start: None,
    run: None,
    handle: None,
    redundancy_signal: None,
    handover_start: None,
    prepare_handover_state: None,
    alter_handover_state: None,
    resolve_conflict: None,
    stop: None,
    drop: None,
};

impl KindCode {
    /// Reads the struct of a program that may be older or newer than this library.
    pub(crate) fn read(
        callbacks: *const ph_child_callbacks,
        user_data: UserData,
        operation: &str,
    ) -> Result<Self, Error> {
        const OURS: usize = size_of::<ph_child_callbacks>();
        if callbacks.is_null() {
            return Err(refuse(operation, "the callbacks are NULL"));
        }
        // SAFETY: the caller gives a struct that begins with its size, whatever its version.
        let size = unsafe { callbacks.cast::<usize>().read() };
        if size < size_of::<usize>() || size % size_of::<usize>() != 0 || size > 16 * OURS {
            let message = format!("`struct_size` is {size}; begin with PH_CHILD_CALLBACKS_INIT, which sets it");
            return Err(refuse(operation, message));
        }
        let mut ours = NO_CALLBACKS;
        // SAFETY: the first `size` bytes are the caller's struct, of which no more than ours are read; what they are
        // copied over is as large and of the same layout.
        let unknown = unsafe {
            std::ptr::copy_nonoverlapping(callbacks.cast::<u8>(), (&raw mut ours).cast::<u8>(), size.min(OURS));
            let rest = callbacks.cast::<u8>().add(size.min(OURS));
            std::slice::from_raw_parts(rest, size.saturating_sub(OURS))
        };
        if unknown.iter().any(|byte| *byte != 0) {
            let message = format!("a callback is set that version {} does not know", env!("CARGO_PKG_VERSION"));
            return Err(refuse(operation, message));
        }
        Ok(Self { callbacks: ours, user_data })
    }

    /// The callbacks that only a migration with hand-over calls, as far as they are set.
    pub(crate) fn handover_callbacks(&self) -> Vec<&'static str> {
        let callbacks = &self.callbacks;
        let all = [
            ("handover_start", callbacks.handover_start.is_some()),
            ("prepare_handover_state", callbacks.prepare_handover_state.is_some()),
            ("alter_handover_state", callbacks.alter_handover_state.is_some()),
        ];
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
    }
}

/// A kind of one hub.
pub(crate) struct CKind {
    pub(crate) code: Arc<KindCode>,
    pub(crate) hub: u64,
}

impl Kind for CKind {
    fn create(&self) -> Box<dyn Child> {
        let instance = Instance {
            child: AtomicPtr::new(self.code.user_data.get()),
            code: Arc::clone(&self.code),
            hub: self.hub,
            context: Mutex::new(0),
            later: KeptReplies::default(),
        };
        Box::new(CChild(Arc::new(instance)))
    }

    fn has_state(&self) -> bool {
        self.code.callbacks.prepare_handover_state.is_some()
    }

    fn has_run(&self) -> bool {
        self.code.callbacks.run.is_some()
    }
}

/// One instance. Its callbacks share it with its body, so that what it points to outlives both.
struct Instance {
    child: AtomicPtr<c_void>,
    code: Arc<KindCode>,
    hub: u64,
    /// The handle of its context; 0 before `start`.
    context: Mutex<u64>,
    /// The replies that callbacks kept.
    later: KeptReplies,
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.later));
        let context = *self.context.get_mut();
        if context == 0 {
            return;
        }
        let child = *self.child.get_mut();
        if let Some(drop) = self.code.callbacks.drop
            && child != self.code.user_data.get()
        {
            let _inside = current::enter(self.hub, None);
            // SAFETY: the program gave this function for its children; no other callback of this one is left.
            unsafe { drop(child) };
        }
        let _ = table::remove::<ContextObject>(context, "drop");
    }
}

/// What a `ph_context` stands for.
pub(crate) struct ContextObject {
    pub(crate) context: Context,
    pub(crate) hub: u64,
    pub(crate) child_id: CString,
    pub(crate) kind: CString,
    pub(crate) hub_id: CString,
    pub(crate) node: CString,
    pub(crate) metadata: CString,
}

impl Handled for ContextObject {
    const TYPE: u64 = 5;
    const NAME: &'static str = "ph_context";
}

enum ReplyState {
    /// Its callback has not returned, and nobody has answered.
    Open,
    /// Answered before the callback returned.
    Answered(HostAnswer),
    /// Kept by the program.
    Later(Reply),
    /// The core has the answer.
    Done,
}

/// What a `ph_reply` stands for.
pub(crate) struct ReplyObject {
    state: Mutex<ReplyState>,
}

impl Handled for ReplyObject {
    const TYPE: u64 = 6;
    const NAME: &'static str = "ph_reply";
}

impl ReplyObject {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(ReplyState::Open) }
    }

    /// Answers, wherever the callback is.
    pub(crate) fn answer(&self, answer: HostAnswer) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, ReplyState::Done) {
            ReplyState::Open => *state = ReplyState::Answered(answer),
            ReplyState::Later(reply) => {
                drop(state);
                reply.answer(answer);
            }
            // The handle is freed by the first answer, so nobody comes here twice.
            ReplyState::Answered(_) | ReplyState::Done => {}
        }
    }

    /// What the callback answered, now that it returned this; `None` if it is to answer later.
    pub(crate) fn take(&self, status: ph_status, later: impl FnOnce() -> Option<Reply>) -> Option<HostAnswer> {
        let mut state = self.state.lock();
        let answer = match std::mem::replace(&mut *state, ReplyState::Done) {
            ReplyState::Answered(answer @ HostAnswer::Failed(_)) => answer,
            ReplyState::Answered(answer) if status == 0 || status == LATER => answer,
            ReplyState::Open if status == LATER => {
                if let Some(reply) = later() {
                    *state = ReplyState::Later(reply);
                    return None;
                }
                HostAnswer::Failed(HostFailure::new("this callback cannot answer later"))
            }
            ReplyState::Open if status == 0 => HostAnswer::Done(None),
            ReplyState::Open | ReplyState::Answered(_) => failed(status),
            ReplyState::Later(_) | ReplyState::Done => {
                HostAnswer::Failed(HostFailure::new("the callback was answered before it was called"))
            }
        };
        Some(answer)
    }
}

/// The failure of a callback that returned the number of an error.
fn failed(status: ph_status) -> HostAnswer {
    let failure = match kind_of(status) {
        Some(kind) => HostFailure {
            kind: Some(kind),
            ..HostFailure::new(format!("the callback returned {status} ({kind}): {}", kind.meaning()))
        },
        None => HostFailure::new(format!("the callback returned {status}")),
    };
    HostAnswer::Failed(failure)
}

/// Calls into C with a reply of its own, and reads what came of it.
pub(crate) fn with_reply(
    call: impl FnOnce(*mut ph_reply) -> ph_status,
    later: impl FnOnce(u64) -> Option<Reply>,
) -> Option<HostAnswer> {
    let reply = Arc::new(ReplyObject::new());
    let handle = match make_handle::<ph_reply>(Arc::clone(&reply)) {
        Ok(handle) => handle,
        Err(error) => {
            return Some(HostAnswer::Failed(HostFailure { kind: Some(error.kind), ..HostFailure::new(error.message) }));
        }
    };
    let status = call(handle);
    let answer = reply.take(status, || later(handle.number()));
    if answer.is_some() {
        // An answered reply is freed already.
        let _ = handle.release("reply");
    }
    answer
}

struct CChild(Arc<Instance>);

impl Child for CChild {
    fn handle(&mut self, _: &Context, _: Payload) -> Result<Payload, HostFailure> {
        Err(HostFailure::new("a message came past `perform`"))
    }

    fn perform(&mut self, ctx: &Context, call: &HostCall) -> Option<HostAnswer> {
        let instance = &self.0;
        if let HostRequest::Start(_) = &call.request
            && let Err(error) = instance.begin(ctx)
        {
            return Some(HostAnswer::Failed(HostFailure::new(error.message)));
        }
        let later = |reply: u64| {
            instance.later.keep(reply);
            Some(ctx.answer_later(call))
        };
        let _inside = current::enter(instance.hub, Some(ctx.clone()));
        let answer = with_reply(|reply| instance.call(&call.request, reply), later);
        let is_message = matches!(call.request, HostRequest::Handle { .. });
        match answer {
            Some(HostAnswer::Done(None)) if is_message => Some(HostAnswer::Done(Some(Payload::json(&b"null"[..])))),
            answer => answer,
        }
    }

    fn body(&mut self) -> Option<Body> {
        let instance = Arc::clone(&self.0);
        instance.code.callbacks.run?;
        Some(Box::new(move |ctx: Context| {
            let _inside = current::enter(instance.hub, Some(ctx));
            match with_reply(|reply| instance.run(reply), |_| None) {
                Some(HostAnswer::Failed(failure)) => Err(failure),
                Some(HostAnswer::Done(_)) | None => Ok(()),
            }
        }))
    }
}

impl Instance {
    /// Makes the context, before `start`.
    fn begin(&self, ctx: &Context) -> Result<(), Error> {
        let object = ContextObject {
            context: ctx.clone(),
            hub: self.hub,
            child_id: c_text(ctx.child_id().as_str()),
            kind: c_text(ctx.kind().as_str()),
            hub_id: c_text(ctx.hub_id().as_str()),
            node: c_text(ctx.node().as_str()),
            metadata: c_text(&ctx.metadata().to_string()),
        };
        *self.context.lock() = table::insert(Arc::new(object))?;
        Ok(())
    }

    fn run(&self, reply: *mut ph_reply) -> ph_status {
        let context = handle(*self.context.lock());
        let child = self.child.load(Ordering::Acquire);
        match self.code.callbacks.run {
            // SAFETY: the program gave this function for its children; its arguments live for the call.
            Some(run) => unsafe { run(child, context, reply) },
            None => 0,
        }
    }

    /// Calls what belongs to the request. What is left out does nothing.
    fn call(&self, request: &HostRequest, reply: *mut ph_reply) -> ph_status {
        let callbacks = &self.code.callbacks;
        let context = handle(*self.context.lock());
        let child = self.child.load(Ordering::Acquire);
        // SAFETY (of every call below): the program gave these functions for its children; pointers and values live
        // for the call, and `child` is what its `start` made of it.
        match request {
            HostRequest::Start(start) => {
                let Some(callback) = callbacks.start else { return 0 };
                let user_data = self.code.user_data.get();
                let mut made = user_data;
                let status = value::lent(start.spec.args.clone(), |args| {
                    // SAFETY: as above.
                    unsafe { callback(user_data, context, args, &raw mut made, reply) }
                });
                self.child.store(made, Ordering::Release);
                status
            }
            HostRequest::Handle { message, .. } => match callbacks.handle {
                // SAFETY: as above.
                Some(handle) => value::lent(message.clone(), |value| unsafe { handle(child, context, value, reply) }),
                None => kind_status(ErrorKind::ChildFailed),
            },
            HostRequest::PrepareState => match callbacks.prepare_handover_state {
                // SAFETY: as above.
                Some(prepare) => unsafe { prepare(child, context, reply) },
                None => 0,
            },
            HostRequest::AlterState(state) => match callbacks.alter_handover_state {
                // SAFETY: as above.
                Some(alter) => value::lent(state.clone(), |value| unsafe { alter(child, context, value, reply) }),
                None => 0,
            },
            HostRequest::ResolveConflict(state) => match callbacks.resolve_conflict {
                // SAFETY: as above.
                Some(resolve) => value::lent(state.clone(), |value| unsafe { resolve(child, context, value, reply) }),
                None => 0,
            },
            HostRequest::RedundancySignal(mode) => match callbacks.redundancy_signal {
                // SAFETY: as above.
                Some(signal) => unsafe { signal(child, context, mode_number(*mode), reply) },
                None => 0,
            },
            HostRequest::HandoverStart(target) => match callbacks.handover_start {
                Some(notice) => with_target(target, |target| {
                    // SAFETY: as above.
                    unsafe { notice(child, context, target, reply) }
                }),
                None => 0,
            },
            HostRequest::Stop(reason) => match callbacks.stop {
                // SAFETY: as above.
                Some(stop) => unsafe { stop(child, context, stop_reason(*reason), reply) },
                None => 0,
            },
            // The host's own: these reach no instance.
            HostRequest::Run
            | HostRequest::CancelRun
            | HostRequest::SetRole(..)
            | HostRequest::Discard
            | HostRequest::AlterSpec { .. } => 0,
        }
    }
}

fn kind_status(kind: ErrorKind) -> ph_status {
    kind.number().into()
}

fn with_target(target: &HandoverTarget, call: impl FnOnce(*const ph_handover_target) -> ph_status) -> ph_status {
    let (node, epoch, error) = match target {
        HandoverTarget::Node { node, epoch } => (Some(c_text(node.as_str())), epoch.0, None),
        HandoverTarget::Error(error) => (None, 0, Some(c_text(error))),
    };
    let text = |text: &Option<CString>| text.as_deref().map_or(std::ptr::null(), lend);
    let target = ph_handover_target { node: text(&node), epoch, error: text(&error) };
    call(&raw const target)
}

pub(crate) const fn mode_number(mode: Mode) -> ph_mode {
    match mode {
        Mode::Active => 1,
        Mode::Passive => 2,
    }
}

const fn stop_reason(reason: StopReason) -> ph_stop_reason {
    match reason {
        StopReason::Stopped => 1,
        StopReason::Migrated => 2,
        StopReason::Shutdown => 3,
        StopReason::Partitioned => 4,
        StopReason::LostOwnership => 5,
    }
}
