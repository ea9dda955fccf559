//! What hubs say to each other. Variants are append-only: a number on the wire never changes its meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::entry::{InstanceRow, LogEntry, LogSeen, RequestKey, Version, Wanted};
use super::quorum::QuorumMessage;
use crate::error::{Error, ErrorKind};
use crate::host::call::KindInfo;
use crate::ids::{ChildId, Epoch, NodeName, NodeRef, Token};
use crate::payload::Payload;
use crate::spec::{ChildError, ChildSpec, StateLost};

/// What a member tells about itself. A higher `version` replaces a lower one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MemberInfo {
    /// Counts the changes of this record.
    pub(crate) version: u64,
    /// The kinds it can run.
    pub(crate) kinds: Vec<KindInfo>,
    /// Its share of the children, in thousandths.
    pub(crate) weight: u32,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// It gives its children away and takes none.
    pub(crate) is_leaving: bool,
}

/// A member's condition: sent when it changes, when asked for, and as a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The sender's record, unless the receiver said that it has this version.
    pub(crate) info: Option<MemberInfo>,
    /// The version of that record.
    pub(crate) info_version: u64,
    /// The version of the receiver's record that the sender has; 0 for none.
    pub(crate) heard_info: u64,
    /// Hash over the strategy options that all members must share.
    pub(crate) fingerprint: u64,
    /// Hash of the view the sender acts on; see `engine::membership`.
    pub(crate) view_hash: u64,
    /// Number of the last entry of the sender's log.
    pub(crate) seq: u64,
    /// The number of the last entry of the receiver's log that the sender has.
    pub(crate) acked_seq: u64,
    /// Hash over the wanted children, without tombstones.
    pub(crate) wanted_hash: u64,
    /// Logs of gone members whose children are not adopted yet, and how far the sender has them.
    pub(crate) departed: Vec<(NodeRef, u64)>,
    /// The highest term the sender has seen (R4).
    pub(crate) term: u64,
    /// The highest counter of a wanted version the sender has seen.
    pub(crate) clock: u64,
    /// Counts the stalls of the sender.
    pub(crate) generation: u64,
    /// The receiver's count, as the sender heard it last.
    pub(crate) heard_generation: u64,
    /// The sender wants the receiver's status.
    pub(crate) wants_answer: bool,
    /// When the sender's hub started, in Unix milliseconds.
    pub(crate) started_ms: u64,
    /// Who may come back with what it had.
    pub(crate) silent: Silent,
    /// The sender's load, in thousandths; 0 where the distribution goes by none.
    pub(crate) load: u16,
}

/// Members that fell silent, as a status tells of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Silent {
    /// They, and for how many seconds.
    pub(crate) members: Vec<(NodeRef, u64)>,
    /// Hash over the tombstones while somebody is silent, else 0.
    pub(crate) stopped_hash: u64,
}

/// A message to a child that travels with a commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct HeldMessage {
    /// Who waits for the reply.
    pub(crate) origin: NodeRef,
    /// The message's number there.
    pub(crate) id: u64,
    /// The message.
    pub(crate) message: Payload,
    /// The children that wait for this one.
    pub(crate) chain: Arc<[ChildId]>,
    /// How long its caller still waits, in milliseconds.
    pub(crate) left_ms: u64,
    /// Whether a reply is wanted.
    pub(crate) wants_reply: bool,
    /// It is for the instance on the node it is sent to, whatever role that has.
    pub(crate) is_bound: bool,
}

/// What the owner answers for one child of a start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum StartAnswer {
    /// It runs on the answering node; its row is entry `seq` or earlier of its log.
    Started {
        /// Its fencing number.
        epoch: Epoch,
        /// The log entry.
        seq: u64,
        /// The other instances, and the entries of their nodes' logs that say so.
        replicas: Vec<(NodeRef, u64)>,
    },
    /// It failed for good.
    Failed(Box<ChildError>),
    /// The answering node does not see itself as the owner: plan again.
    ViewMismatch,
}

/// What the owner answers for one child of a stop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum StopAnswer {
    /// It ended on these nodes; the tombstone is entry `seq` or earlier of the answering node's log.
    Stopped {
        /// Who ran it.
        nodes: Vec<NodeName>,
        /// The log entry.
        seq: u64,
    },
    /// It failed for good.
    Failed(Box<ChildError>),
    /// The answering node does not see itself as the owner: plan again.
    ViewMismatch,
}

/// One message between two hubs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// See [`Status`].
    Status(Box<Status>),
    /// Entries `from + 1 ..= to` of the sender's log. Superseded entries are left out.
    Delta {
        /// The entry before the first.
        from: u64,
        /// The last entry.
        to: u64,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// The sender has the receiver's log up to here.
    DeltaAck(u64),
    /// The sender has the receiver's log only up to here: send the rest.
    PullLog(u64),
    /// The sender's whole log up to `seq`: what is not in it is gone. Pieces carry the same `seq`.
    Snapshot {
        /// The last entry.
        seq: u64,
        /// This piece.
        piece: u32,
        /// Number of pieces.
        pieces: u32,
        /// Rows and wanted entries.
        entries: Vec<LogEntry>,
    },
    /// The last words of a gone member are wanted.
    PullDeparted(NodeRef),
    /// What the sender knows of a gone member's instances.
    Departed {
        /// The gone member.
        node: NodeRef,
        /// How far the sender has its log.
        seq: u64,
        /// Its instances.
        rows: Vec<(ChildId, InstanceRow)>,
    },
    /// Hashes over the wanted children by bucket, 8 bytes each, the lowest first.
    WantedBuckets(Bytes),
    /// Wanted entries of the named buckets, tombstones too, and a wish for the receiver's own.
    WantedPush {
        /// The buckets that are complete in `entries`.
        buckets: Vec<u16>,
        /// The entries, with their author.
        entries: Vec<(ChildId, NodeRef, Wanted)>,
        /// Whether the receiver shall answer with its own entries of these buckets.
        wants_answer: bool,
    },
    /// Start these children; the receiver owns them in the view with this hash.
    Start {
        /// The request.
        request: RequestKey,
        /// The sender's view.
        view_hash: u64,
        /// How long the request still lives, in milliseconds.
        left_ms: u64,
        /// Whether a child that runs already is reported as started.
        return_existing: bool,
        /// The specs, each with its number in the request: the answer bears it.
        #[serde(deserialize_with = "shared_items")]
        specs: Vec<(u32, Arc<ChildSpec>)>,
    },
    /// Answers to `Start`, by the numbers in the request.
    Started(u64, Vec<(u32, StartAnswer)>),
    /// Stop these children; the receiver owns them in the view with this hash.
    Stop {
        /// The request.
        request: RequestKey,
        /// The start that is undone: a child that was started by another is left alone.
        undoes: Option<RequestKey>,
        /// The sender's view.
        view_hash: u64,
        /// The children, each with its number in the request: the answer bears it.
        ids: Vec<(u32, ChildId)>,
    },
    /// Answers to `Stop`, by the numbers in the request.
    Stopped(u64, Vec<(u32, StopAnswer)>),
    /// H1: make ready to receive a child.
    Prepare {
        /// The child.
        child: ChildId,
        /// The token it will have.
        token: Token,
        /// The source's view.
        view_hash: u64,
        /// The wanted version the source runs.
        version: Version,
        /// Start at once and hand over after (hot), or only reserve (cold).
        is_hot: bool,
    },
    /// H3: ready to receive.
    Prepared(ChildId, Token),
    /// The target does not take the child, or not any more; it will never be active under this token.
    Refused {
        /// The child.
        child: ChildId,
        /// The token.
        token: Token,
        /// Whether planning again may help soon.
        is_transient: bool,
        /// For a person.
        why: String,
    },
    /// H5: the state, or that there is none.
    State {
        /// The child.
        child: ChildId,
        /// The token.
        token: Token,
        /// The state.
        state: Option<Payload>,
        /// XXH3-64 of the state's bytes.
        hash: u64,
    },
    /// H7: the state is taken.
    Ready {
        /// The child.
        child: ChildId,
        /// The token.
        token: Token,
        /// Hash of what was taken.
        hash: u64,
    },
    /// H8: the source has given up its token.
    Commit {
        /// The child.
        child: ChildId,
        /// The token.
        token: Token,
        /// Messages to handle first.
        held: Vec<HeldMessage>,
        /// A loss not acknowledged yet.
        lost: Option<Arc<StateLost>>,
    },
    /// H10: the target is active; its row is entry `seq` or earlier of its log.
    Activated {
        /// The child.
        child: ChildId,
        /// The token.
        token: Token,
        /// The log entry.
        seq: u64,
    },
    /// The source gives the move up.
    Abort(ChildId, Token),
    /// The target has forgotten the move and will never be active under this token.
    Aborted(ChildId, Token),
    /// After a heal: the loser's state for the winner (R12).
    Conflict {
        /// The child.
        child: ChildId,
        /// The loser's token.
        loser: Token,
        /// The winner's token.
        winner: Token,
        /// The loser's state.
        state: Option<Payload>,
    },
    /// The winner has seen the loser's state: the loser may stop. `false`: not now, look again.
    ConflictSeen(ChildId, Token, bool),
    /// A message to a child.
    Call {
        /// The child.
        child: ChildId,
        /// The message, its number and who waits.
        held: HeldMessage,
    },
    /// The reply to a message.
    Reply(u64, Result<Payload, Box<Error>>),
    /// The message waits in the child's queue on this node (sends only).
    Accepted(u64),
    /// The message was not handled here and will not be: ask this node, if any.
    Bounce(u64, Option<NodeRef>),
    /// The message went along with its child to this node.
    Rerouted(u64, NodeRef),
    /// Is this child wanted, as far as you know?
    Query(u64, ChildId),
    /// It is, or is not.
    QueryAnswer(u64, bool),
    /// Which children run on you?
    WhichChildren(u64),
    /// These.
    Children(u64, Vec<ChildId>),
    /// Clear the loss of a child you run.
    AcknowledgeLoss(ChildId),
    /// The sender's hub ends now.
    Leave,
    /// Seen.
    LeaveAck,
    /// The receiver may not join: its strategy options differ from these, the sender's. Path and value.
    StrategyMismatch(Vec<(String, String)>),
    /// How far is your log?
    AskSeq(u64),
    /// Its last entry.
    Seq(u64, u64),
    /// The first `start` of a replica failed.
    ReplicaFailed {
        /// The child.
        child: ChildId,
        /// The epoch it was started under.
        epoch: Epoch,
        /// What failed.
        kind: ErrorKind,
        /// For a person.
        message: String,
    },
    /// Entries `from + 1 ..=` of another member's log, passed on.
    Passed {
        /// Whose log, and its last entry here.
        author: LogSeen,
        /// The entry before the first.
        from: u64,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// What somebody has, and passed on what those before it had: who lacks something asks for it.
    Digest {
        /// Who sent it around.
        starter: NodeRef,
        /// Counts its digests; each member passes one on once.
        round: u64,
        /// How far the logs are known.
        logs: Vec<LogSeen>,
        /// The sender's hash over the wanted children.
        wanted_hash: u64,
    },
    /// Who may act (R10, R11).
    Quorum(Box<QuorumMessage>),
    /// A start that this member asked the sender for. The receiver is the owner by what the sender knows of the child's
    /// mapping, and answers the member.
    StartFor {
        /// Who asked.
        asker: NodeRef,
        /// The request.
        request: RequestKey,
        /// The sender's view.
        view_hash: u64,
        /// How long the request still lives, in milliseconds.
        left_ms: u64,
        /// Whether a child that runs already is reported as started.
        return_existing: bool,
        /// The specs, each with its number in the request: the answer bears it.
        #[serde(deserialize_with = "shared_items")]
        specs: Vec<(u32, Arc<ChildSpec>)>,
    },
}

/// Reads the specs of a start as [`super::entry`] reads one.
fn shared_items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u32, Arc<ChildSpec>)>, D::Error> {
    let items = Vec::<(u32, ChildSpec)>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|(item, spec)| (item, Arc::new(spec))).collect())
}
