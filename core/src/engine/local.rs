//! The instances of this node, and what they are doing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outgoing::Outgoing;
use crate::host::call::InstanceEvent;
use crate::ids::{CallNumber, ChildId, Epoch, InstanceId, NodeRef, Token};
use crate::payload::Payload;
use crate::spec::{ChildSpec, Mode, StateLost};
use crate::time::Timestamp;
use crate::wire::HeldMessage;

/// A message, or something of ours that must keep its place among the messages.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A message to handle.
    Message {
        origin: NodeRef,
        id: u64,
        message: Payload,
        chain: Arc<[ChildId]>,
        deadline: Timestamp,
        wants_reply: bool,
        /// For this instance, whatever role it has.
        is_bound: bool,
    },
    /// The state of an instance that lost after a heal.
    Conflict { from: NodeRef, loser: Token, state: Payload },
}

impl Work {
    /// Whether it is for this instance, and not for whoever is the child.
    pub(super) fn is_bound(&self) -> bool {
        match self {
            Self::Message { is_bound, .. } => *is_bound,
            Self::Conflict { .. } => false,
        }
    }

    /// The message as it travels; `None` for what is bound to this instance.
    pub(super) fn into_held(self, now: Timestamp) -> Option<HeldMessage> {
        match self {
            Self::Message { origin, id, message, chain, deadline, wants_reply, is_bound } => Some(HeldMessage {
                origin,
                id,
                message,
                chain,
                left_ms: u64::try_from(deadline.since(now).as_millis()).unwrap_or(u64::MAX),
                wants_reply,
                is_bound,
            }),
            Self::Conflict { .. } => None,
        }
    }
}

/// Who waits for the start or the end of a child: the asking node, its request, and which item of that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiter {
    pub(super) node: NodeRef,
    pub(super) request: u64,
    pub(super) item: u32,
}

/// What an instance is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// `start` is under way, and `alter_handover_state` after it where there is a state to restore.
    Starting { restore: Option<Box<Payload>>, is_first: bool },
    /// It handles messages.
    Active,
    /// It crashed and waits to be started again. No host instance.
    Resting { restore: Option<Box<Payload>> },
    /// It used up its budget. No host instance.
    Quarantined { restarts: u32 },
    /// It goes to another node, or gives its state to the winner after a heal.
    Outgoing(Box<Outgoing>),
    /// It comes from another node.
    Incoming(Box<Incoming>),
    /// Its `stop` is under way, on the way to nothing.
    Ending,
}

/// The receiving end of a move.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) from: NodeRef,
    pub(super) step: IncomingStep,
    pub(super) is_hot: bool,
    pub(super) held: VecDeque<Work>,
    /// A replica of this node receives the child: its token, which it has again if the move is given up.
    pub(super) replica: Option<Token>,
}

/// How far the receiving end is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum IncomingStep {
    /// Hot: `start` is under way before the state comes.
    Starting,
    /// Waits for the state. Cold: nothing is started yet.
    Prepared,
    /// Cold: `start` is under way, the state waits. A replica: it waits for the call in flight.
    StartingCold { state: Option<Payload>, hash: u64 },
    /// `alter_handover_state` is under way.
    Altering { hash: u64 },
    /// The state is taken; waits for the commit. In doubt, this is what goes on (R5).
    Ready { hash: u64, since: Timestamp },
}

/// One instance of this node.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) instance: InstanceId,
    pub(super) spec: Arc<ChildSpec>,
    pub(super) has_state: bool,
    pub(super) has_run: bool,
    pub(super) token: Token,
    /// It runs beside the instance that is the child, and follows it.
    pub(super) is_replica: bool,
    pub(super) mode: Mode,
    /// The role that the instance knows of, filtered ones too.
    pub(super) told_mode: Option<Mode>,
    /// `redundancy_signal` is due.
    pub(super) owes_signal: bool,
    /// The highest epoch this node used or proposed for the child.
    pub(super) highest_epoch: Epoch,
    pub(super) since_ms: u64,
    pub(super) lost: Option<Arc<StateLost>>,
    pub(super) phase: Phase,
    /// The host call in flight, `run` apart.
    pub(super) call: Option<CallNumber>,
    /// How the instance ended itself while it started.
    pub(super) early: Option<Box<InstanceEvent>>,
    /// The `run` in flight.
    pub(super) body: Option<CallNumber>,
    /// The `run` in flight was asked to return: its return is not an exit (R6).
    pub(super) is_body_cancelled: bool,
    pub(super) inbox: VecDeque<Work>,
    pub(super) waiters: Vec<Waiter>,
    /// Times of the latest restarts.
    pub(super) restarts: Vec<Timestamp>,
    /// The loser whose state is being looked at.
    pub(super) shown: Option<Box<Token>>,
    /// Failed moves in a row, for the pause before the next.
    pub(super) failed_moves: u32,
    /// Where the last one of these was to go.
    pub(super) failed_target: Option<Box<NodeRef>>,
}
