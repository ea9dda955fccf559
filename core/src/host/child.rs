//! Children written in Rust: the traits a program implements.

use super::call::{HandoverTarget, HostAnswer, HostCall, HostFailure, HostRequest, StopReason};
use super::context::Context;
use super::local::guarded;
use crate::payload::Payload;
use crate::spec::Mode;

/// What `run` executes, on a thread of its own.
pub type Body = Box<dyn FnOnce(Context) -> Result<(), HostFailure> + Send>;

/// One instance of a child. Its methods are called one at a time, on the threads of the host pool (R18).
pub trait Child: Send {
    /// Called once per instance, first.
    ///
    /// # Errors
    /// A failure is a failed start.
    fn start(&mut self, ctx: &Context, args: Payload) -> Result<(), HostFailure> {
        let _ = (ctx, args);
        Ok(())
    }

    /// Handles one message and gives the reply.
    ///
    /// # Errors
    /// A failure goes to the caller as `child_failed`; the spec's `on_error` says whether the instance lives on.
    fn handle(&mut self, ctx: &Context, message: Payload) -> Result<Payload, HostFailure>;

    /// Gives the state on hand-over; `None` when there is none.
    ///
    /// # Errors
    /// A failure aborts the move and this instance goes on.
    fn prepare_handover_state(&mut self) -> Result<Option<Payload>, HostFailure> {
        Ok(None)
    }

    /// Takes the state of the instance before it, before the first message.
    ///
    /// # Errors
    /// A failure aborts the move.
    fn alter_handover_state(&mut self, state: Payload) -> Result<(), HostFailure> {
        let _ = state;
        Ok(())
    }

    /// Takes the loser's state after a heal (R12). By default this instance keeps its own.
    ///
    /// # Errors
    /// A failure is told by a hook.
    fn resolve_conflict(&mut self, state: Payload) -> Result<(), HostFailure> {
        let _ = state;
        Ok(())
    }

    /// The role, at the start and on every change, as the option `redundancy_signal` filters.
    fn redundancy_signal(&mut self, mode: Mode) {
        let _ = mode;
    }

    /// A hand-over of this child begins, or could not.
    fn handover_start(&mut self, target: HandoverTarget) {
        let _ = target;
    }

    /// The last call of an instance.
    fn stop(&mut self, reason: StopReason) {
        let _ = reason;
    }

    /// The body of a child that works on its own; asked for when it shall run, and again after an aborted
    /// hand-over. Returning from it ends the instance, unless [`Context::is_cancelled`] asked for it.
    fn body(&mut self) -> Option<Body> {
        None
    }

    /// Carries out one call and answers it; `None` when the answer comes later, by [`Context::answer_later`]. By
    /// default this calls the method that belongs to the call. The host of another language overrides it.
    fn perform(&mut self, ctx: &Context, call: &HostCall) -> Option<HostAnswer> {
        let result = guarded(|| match &call.request {
            HostRequest::Start(start) => self.start(ctx, start.spec.args.clone()).map(|()| None),
            HostRequest::Handle { message, .. } => self.handle(ctx, message.clone()).map(Some),
            HostRequest::PrepareState => self.prepare_handover_state(),
            HostRequest::AlterState(state) => self.alter_handover_state(state.clone()).map(|()| None),
            HostRequest::ResolveConflict(state) => self.resolve_conflict(state.clone()).map(|()| None),
            HostRequest::RedundancySignal(mode) => {
                self.redundancy_signal(*mode);
                Ok(None)
            }
            HostRequest::HandoverStart(target) => {
                self.handover_start(target.clone());
                Ok(None)
            }
            HostRequest::Stop(reason) => {
                self.stop(*reason);
                Ok(None)
            }
            // The host's own: these reach no instance.
            HostRequest::Run
            | HostRequest::CancelRun
            | HostRequest::SetRole(..)
            | HostRequest::Discard
            | HostRequest::AlterSpec { .. } => Ok(None),
        });
        Some(match result {
            Ok(payload) => HostAnswer::Done(payload),
            Err(failure) => HostAnswer::Failed(failure),
        })
    }
}

/// Code able to run children, registered under a name.
pub trait Kind: Send + Sync {
    /// Makes an instance; its `start` is called next.
    fn create(&self) -> Box<dyn Child>;

    /// Whether its children have a state that can be handed over, and so can be lost (R8).
    fn has_state(&self) -> bool {
        false
    }

    /// Whether its children have a [`Child::body`].
    fn has_run(&self) -> bool {
        false
    }
}

/// A kind made of a closure.
pub struct KindFn<F> {
    has_state: bool,
    has_run: bool,
    create: F,
}

/// Makes a kind of a closure that makes its children; `has_state` says whether they have a state that can be
/// handed over.
pub fn kind_fn<F>(has_state: bool, create: F) -> KindFn<F>
where
    F: Fn() -> Box<dyn Child> + Send + Sync,
{
    KindFn { has_state, has_run: false, create }
}

impl<F> KindFn<F> {
    /// Says that the children have a body.
    #[must_use]
    pub fn with_run(mut self) -> Self {
        self.has_run = true;
        self
    }
}

impl<F> Kind for KindFn<F>
where
    F: Fn() -> Box<dyn Child> + Send + Sync,
{
    fn create(&self) -> Box<dyn Child> {
        (self.create)()
    }

    fn has_state(&self) -> bool {
        self.has_state
    }

    fn has_run(&self) -> bool {
        self.has_run
    }
}

impl<F> std::fmt::Debug for KindFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KindFn")
            .field("has_state", &self.has_state)
            .field("has_run", &self.has_run)
            .finish_non_exhaustive()
    }
}
