//! What goes into the engine and what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::host::call::{HostAnswer, HostCall, HostDecision, InstanceEvent, KindInfo};
use crate::ids::{CallNumber, ChildId, InstanceId, NodeName, NodeRef, RequestId};
use crate::observe::HookEvent;
use crate::payload::Payload;
use crate::spec::{ChildSpec, DrainReport, Row, StartResult, StopResult};
use crate::strategy::LoadSample;
use crate::swim::Evidence;
use crate::time::Timestamp;

/// One input of the engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Membership says this node is a member.
    NodeUp(NodeRef),
    /// Membership says this node is gone.
    NodeDown(NodeRef, Evidence),
    /// A frame of this hub from a member.
    Frame(NodeRef, Bytes),
    /// The host completed a call.
    HostDone(CallNumber, HostAnswer),
    /// An instance did something of its own accord.
    Instance(InstanceId, InstanceEvent),
    /// The public API asks for something.
    Command(RequestId, Command),
    /// The user no longer waits for this request.
    Cancel(RequestId),
    /// The answer to [`Effect::MeasureLoad`].
    Load(LoadSample),
    /// A deadline came.
    Tick,
}

/// Options of `start_children`.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Total time of the request.
    pub timeout: Duration,
    /// Whether the ids are looked up in this node's registry before anything is started. Where a child that is there
    /// already undoes all others (`on_failure: rollback`, `if_exists: error`), what is known here is asked about first,
    /// and a refusal ends the request before any of the others began; unchecked, they are started and stopped again.
    /// Otherwise each child is answered by itself, and this changes nothing. What is there the owner decides (R1).
    pub check_existing: bool,
    /// What to answer for an id that is already wanted.
    pub if_exists: IfExists,
    /// Whether one failure stops the others again.
    pub on_failure: OnFailure,
    /// Keys for the metadata of specs that leave them out: a JSON object.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Under `guided`: the nodes of each child, the owner first. It fills [`ChildSpec::mapping`].
    pub child_mapping: Option<ChildMapping>,
}

/// The nodes of children, by their ids.
pub type ChildMapping = BTreeMap<ChildId, Vec<NodeName>>;

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            check_existing: true,
            if_exists: IfExists::Error,
            on_failure: OnFailure::Continue,
            metadata: None,
            child_mapping: None,
        }
    }
}

/// What to answer for an id that is already wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IfExists {
    /// `already_started`.
    #[default]
    Error,
    /// The running child, as started.
    Return,
}

/// What a failed child means for the other children of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFailure {
    /// Nothing.
    #[default]
    Continue,
    /// They are stopped again.
    Rollback,
}

/// Which instances a message is for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Recipient {
    /// The active instance, wherever it is.
    #[default]
    Active,
    /// The instance on this node.
    Node(NodeName),
    /// Every instance (`send` only).
    All,
}

/// A message to a child.
#[derive(Clone, Debug)]
pub struct MessageCommand {
    /// The child.
    pub child: ChildId,
    /// The message.
    pub message: Payload,
    /// Which of its instances.
    pub recipient: Recipient,
    /// Total time.
    pub timeout: Duration,
    /// The children whose calls led here, outermost first; empty from outside.
    pub chain: Arc<[ChildId]>,
}

/// One operation of the public API that needs the engine.
#[derive(Clone, Debug)]
pub enum Command {
    /// `start_children`.
    Start(Vec<Arc<ChildSpec>>, StartOptions),
    /// `stop_children`.
    Stop(Vec<ChildId>, Duration),
    /// `call`.
    Call(MessageCommand),
    /// `send`: completes when the message is on its way.
    Send(MessageCommand),
    /// `register`.
    Register(Vec<KindInfo>),
    /// `drain`.
    Drain(Duration),
    /// `stop` of the hub: drain, stop what remains, leave.
    Shutdown(Duration),
    /// `where`.
    Where(ChildId),
    /// `plan`.
    Plan(PlanChange),
    /// `sync`.
    Sync(Duration),
    /// `which_children(global)`: asks the members.
    WhichChildren(Duration),
    /// `acknowledge_loss`.
    AcknowledgeLoss(ChildId),
    /// `reset_cluster_size`: so many members count from now on.
    ResetClusterSize(u32, Duration),
    /// Which hooks have handlers, as a set of bits of [`crate::observe::HookName`]; and whether
    /// `child_data_alter` has any.
    SubscribeHooks(u64),
}

/// How long the members may take to agree on a smaller cluster.
const RESET_TIMEOUT: Duration = Duration::from_secs(10);

impl Command {
    /// `reset_cluster_size`.
    ///
    /// # Errors
    /// `invalid_argument` for a size that is none.
    pub fn reset_cluster_size(size: i64) -> Result<Self, Error> {
        match u32::try_from(size) {
            Ok(size) if size > 0 => Ok(Self::ResetClusterSize(size, RESET_TIMEOUT)),
            Ok(_) | Err(_) => {
                let message = format!("the size must be 1 to {}, not {size}", u32::MAX);
                Err(Error::new(ErrorKind::InvalidArgument, "reset_cluster_size", message))
            }
        }
    }
}

/// A change of the members to plan for.
#[derive(Clone, Debug)]
pub enum PlanChange {
    /// These nodes would join: name, kinds, weight.
    Join(Vec<(NodeName, Vec<String>, f64)>),
    /// These nodes would leave.
    Leave(Vec<NodeName>),
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Nothing to say.
    Done,
    /// Of `start_children`.
    Started(StartResult),
    /// Of `stop_children`.
    Stopped(StopResult),
    /// Of `call`.
    Reply(Payload),
    /// Of `drain` and `stop`.
    Drained(DrainReport),
    /// Of `where` and `plan`: the JSON of the documents.
    Json(serde_json::Value),
    /// Of `which_children`.
    Children(BTreeMap<NodeName, Vec<ChildId>>),
}

/// Which connection a frame takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Small frames: control, calls, heartbeats. At most [`crate::wire::MAX_CTL_FRAME_BYTES`].
    Ctl,
    /// Chunks of states and registry snapshots.
    Bulk,
}

/// What the engine wants done, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame of this hub to a member.
    Send {
        /// To whom.
        to: NodeRef,
        /// Which connection.
        lane: Lane,
        /// The encoded frame.
        frame: Bytes,
    },
    /// Queue a host call.
    Host(HostCall),
    /// Ask the host to decide; its answer is [`Input::HostDone`].
    Decide(HostDecision),
    /// Answer a request of the public API.
    Reply(RequestId, Result<Outcome, Error>),
    /// The row of a child changed, or the child is no longer known.
    Publish(ChildId, Option<Arc<Row>>),
    /// The host may call children until then, and has none of the calls up to that number any more (R11).
    Lease {
        /// The end of the lease; zero for none.
        until: Timestamp,
        /// Calls up to this one are not made any more.
        fenced: CallNumber,
    },
    /// Measure what the process has to do, and say so by [`Input::Load`].
    MeasureLoad,
    /// The hub's own condition changed.
    Status(HubStatus),
    /// A hook fires.
    Hook(HookEvent),
    /// The hub ended: its drain is done and it left. Nothing comes after it.
    Stopped,
    /// The hub may not join the members it met: `strategy_mismatch`. Nothing comes after it.
    Refused(Error),
    /// An invariant is broken; the hub fences itself (R20). Nothing comes after it.
    Failed(String),
}

/// What the engine tells about itself, for `nodes`, `is_locked` and `is_partitioned`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HubStatus {
    /// The other members of the hub.
    pub members: Vec<NodeRef>,
    /// Moves are open, or there is no quorum.
    pub is_locked: bool,
    /// No quorum.
    pub is_partitioned: bool,
    /// The loads of the members and of this node, in thousandths, where the distribution goes by them.
    pub loads: BTreeMap<NodeName, u16>,
}
