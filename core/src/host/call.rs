//! The values that cross between the core and the embedding language (A2).
//!
//! The core never calls host code. It queues a [`HostCall`]; a thread of the host pulls it, runs user code and
//! completes it by number with a [`HostAnswer`]. At most one call of a child is in flight, `Run` apart, and the
//! calls of one child come in order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{CallNumber, ChildId, Epoch, HubId, InstanceId, KindName, NodeName};
use crate::payload::Payload;
use crate::spec::{ChildSpec, Mode};
use crate::strategy::Question;
use crate::time::Timestamp;

/// Why an instance was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartReason {
    /// Somebody asked for the child.
    Initial,
    /// The supervisor restarted it on the same node.
    Restart,
    /// It moves here from a living node.
    Migration,
    /// The node that ran it is gone.
    Failover,
}

impl StartReason {
    /// The name in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Restart => "restart",
            Self::Migration => "migration",
            Self::Failover => "failover",
        }
    }
}

/// Why an instance is stopped: the argument of the `stop` callback.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody asked for it.
    Stopped,
    /// The child runs on another node now.
    Migrated,
    /// The hub ends.
    Shutdown,
    /// This side of the cluster has no quorum.
    Partitioned,
    /// Another node holds a higher token.
    LostOwnership,
}

impl StopReason {
    /// The name in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Migrated => "migrated",
            Self::Shutdown => "shutdown",
            Self::Partitioned => "partitioned",
            Self::LostOwnership => "lost_ownership",
        }
    }
}

/// What an instance is told about itself: the `ctx` of the callbacks.
#[derive(Clone, Debug)]
pub struct StartContext {
    /// The hub.
    pub hub_id: HubId,
    /// The node that runs this instance.
    pub node: NodeName,
    /// The spec, with `child_id`, `kind` and `metadata`.
    pub spec: Arc<ChildSpec>,
    /// The fencing number.
    pub epoch: Epoch,
    /// The role at the start.
    pub mode: Mode,
    /// Why it starts.
    pub reason: StartReason,
}

/// Whom a hand-over goes to, or why it cannot: the argument of `handover_start`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HandoverTarget {
    /// The new instance.
    Node {
        /// Its node.
        node: NodeName,
        /// Its fencing number.
        epoch: Epoch,
    },
    /// The new instance could not start.
    Error(String),
}

/// What the core needs of the host.
#[derive(Clone, Debug)]
pub enum HostRequest {
    /// Make an instance of `context.spec.kind` and call its `start`.
    Start(Arc<StartContext>),
    /// Run the body, if the kind has one; complete when it returned. No deadline; other calls come meanwhile.
    Run,
    /// Set `ctx.cancelled`: the body shall return. Complete at once. `Run` may be asked for again later.
    CancelRun,
    /// Handle one message. `chain` are the children that wait for this one, outermost first.
    Handle {
        /// The message.
        message: Payload,
        /// The children whose calls led here.
        chain: Arc<[ChildId]>,
    },
    /// Give the state: `prepare_handover_state`.
    PrepareState,
    /// Take this state: `alter_handover_state`. `epoch` is the new fencing number of `ctx`.
    AlterState(Payload),
    /// The loser's state after a heal: `resolve_conflict`.
    ResolveConflict(Payload),
    /// The role, at start and on change.
    RedundancySignal(Mode),
    /// A hand-over of this child begins.
    HandoverStart(HandoverTarget),
    /// A new fencing number and role for `ctx`. Complete at once.
    SetRole(Epoch, Mode),
    /// The last call of an instance: call `stop` and forget it.
    Stop(StopReason),
    /// Forget the instance without calling it: its callbacks were written off.
    Discard,
    /// Let the interceptors of `child_data_alter` change a spec; answer with the spec's JSON. No instance.
    AlterSpec {
        /// The spec before its start.
        spec: Arc<ChildSpec>,
        /// Where it will be started.
        nodes: Vec<NodeName>,
    },
}

impl HostRequest {
    /// The number by which bindings pass the operation on to their language: from 1 to [`Self::LAST_NUMBER`].
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::Start(_) => 1,
            Self::Run => 2,
            Self::CancelRun => 3,
            Self::Handle { .. } => 4,
            Self::PrepareState => 5,
            Self::AlterState(_) => 6,
            Self::ResolveConflict(_) => 7,
            Self::RedundancySignal(_) => 8,
            Self::HandoverStart(_) => 9,
            Self::SetRole(..) => 10,
            Self::Stop(_) => 11,
            Self::Discard => 12,
            Self::AlterSpec { .. } => Self::LAST_NUMBER,
        }
    }

    /// The largest number of an operation; what else a binding passes on is numbered behind it.
    pub const LAST_NUMBER: u8 = 13;

    /// The name of the callback this request ends in, for logs and errors.
    #[must_use]
    pub const fn callback(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Run => "run",
            Self::CancelRun => "cancel_run",
            Self::Handle { .. } => "handle",
            Self::PrepareState => "prepare_handover_state",
            Self::AlterState(_) => "alter_handover_state",
            Self::ResolveConflict(_) => "resolve_conflict",
            Self::RedundancySignal(_) => "redundancy_signal",
            Self::HandoverStart(_) => "handover_start",
            Self::SetRole(..) => "set_role",
            Self::Stop(_) => "stop",
            Self::Discard => "discard",
            Self::AlterSpec { .. } => "child_data_alter",
        }
    }
}

/// One request of the core to the host.
#[derive(Clone, Debug)]
pub struct HostCall {
    /// Complete the call with this number, once.
    pub number: CallNumber,
    /// The instance concerned; zero for `AlterSpec`.
    pub instance: InstanceId,
    /// The child concerned.
    pub child: ChildId,
    /// When the core stops waiting; [`Timestamp::NEVER`] for `Run`.
    pub deadline: Timestamp,
    /// What to do.
    pub request: HostRequest,
}

/// One decision the core asks of the host, for a strategy: a call of no child. The answer is JSON.
#[derive(Clone, Debug)]
pub struct HostDecision {
    /// Complete it with this number, once.
    pub number: CallNumber,
    /// When the core stops waiting, and the built-in decides.
    pub deadline: Timestamp,
    /// What is asked, and of which strategy.
    pub question: Arc<Question>,
}

/// What the host did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostAnswer {
    /// Done; a payload where the request asks for one. `PrepareState` without one means: no state.
    Done(Option<Payload>),
    /// Host code raised.
    Failed(HostFailure),
}

/// An exception of host code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostFailure {
    /// One line.
    pub message: String,
    /// The host's stack trace as text.
    pub trace: Option<String>,
    /// A kind other than `child_failed`, such as `not_encodable`.
    pub kind: Option<crate::error::ErrorKind>,
}

impl HostFailure {
    /// A failure with a message only.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), trace: None, kind: None }
    }
}

/// What an instance does of its own accord, through `ctx`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InstanceEvent {
    /// `ctx.exit()`: the instance ends normally, or as a crash with this reason.
    Exit(Option<String>),
    /// `ctx.stop_self()`: the child is no longer wanted.
    StopSelf,
    /// `ctx.retention_handled()`: the outgoing instance may be stopped.
    RetentionHandled,
}

/// A registered kind, as far as the core knows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct KindInfo {
    /// Its name.
    pub name: KindName,
    /// Whether its children have a state that can be handed over, and so can be lost (R8).
    pub has_state: bool,
    /// Whether its children have a `run` body.
    pub has_run: bool,
}
