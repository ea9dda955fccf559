//! What the logs of members tell: what is wanted of a child (R1), and who has it (R2). Variants are append-only.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{ChildId, Epoch, Incarnation, NodeRef, Token};
use crate::spec::{ChildSpec, Mode, StateLost};

/// Version of a wanted entry (R1): the higher wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Counts the writes.
    pub(crate) counter: u64,
    /// Who wrote.
    pub(crate) author: Incarnation,
    /// Counts on when the child was mapped to other nodes since; 0 before. It orders what is one write of a user's: any
    /// later write goes before it, whenever the child was mapped.
    pub(crate) revision: u64,
    /// Who mapped it.
    pub(crate) reviser: Incarnation,
}

impl Version {
    /// Whether both are of one start, with the same or another mapping.
    pub(crate) fn is_of(self, other: Self) -> bool {
        (self.counter, self.author) == (other.counter, other.author)
    }

    /// When it was written, as far as clocks agree: in Unix milliseconds, or later.
    pub(crate) fn written(self) -> u64 {
        self.counter.max(self.revision)
    }
}

/// The request a wanted entry was written for, so that a repeated request finds its own work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RequestKey {
    /// The asking node's incarnation.
    pub(crate) incarnation: Incarnation,
    /// The number of the request there.
    pub(crate) request: u64,
}

/// A wanted entry: a spec, or the tombstone of one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Its version.
    pub(crate) version: Version,
    /// The request it was written for.
    pub(crate) request: RequestKey,
    /// What is wanted; `None` is a tombstone.
    #[serde(deserialize_with = "shared")]
    pub(crate) spec: Option<Arc<ChildSpec>>,
    /// Of a tombstone: the request of the start it ended, for nodes that hear of that start again and never knew it.
    pub(crate) ended: Option<Box<RequestKey>>,
    /// The highest epoch known when it was written.
    pub(crate) epoch: Epoch,
    /// The author's log entry that carried it.
    pub(crate) seq: u64,
}

/// Reads straight into what is shared: by itself `Arc` reads into a box and copies it.
fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<ChildSpec>>, D::Error> {
    Ok(Option::<ChildSpec>::deserialize(deserializer)?.map(Arc::new))
}

/// How far an instance is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Its first `start` is not done.
    Starting,
    /// It receives the child from another node.
    Incoming,
    /// It is the child.
    Active,
    /// It used up its restart budget.
    Quarantined,
    /// A replica whose first `start` is not done.
    NewReplica,
    /// It runs beside the instance that is the child.
    Replica,
    /// A replica that used up its restart budget.
    QuarantinedReplica,
}

impl Stage {
    /// Whether the instance only follows the one that is the child.
    pub(crate) const fn is_replica(self) -> bool {
        match self {
            Self::NewReplica | Self::Replica | Self::QuarantinedReplica => true,
            Self::Starting | Self::Incoming | Self::Active | Self::Quarantined => false,
        }
    }

    /// Whether the instance used up its restart budget.
    pub(crate) const fn is_quarantined(self) -> bool {
        match self {
            Self::Quarantined | Self::QuarantinedReplica => true,
            Self::Starting | Self::Incoming | Self::Active | Self::NewReplica | Self::Replica => false,
        }
    }

    /// Whether readers are told of the instance, and it can be sent messages.
    pub(crate) const fn is_listed(self) -> bool {
        match self {
            Self::Active | Self::Replica => true,
            Self::Starting | Self::Incoming | Self::Quarantined | Self::NewReplica | Self::QuarantinedReplica => false,
        }
    }
}

/// One observed instance, written by the node that runs it (R2).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct InstanceRow {
    /// Its token.
    pub(crate) token: Token,
    /// How far it is.
    pub(crate) stage: Stage,
    /// Its role.
    pub(crate) mode: Mode,
    /// Whether its kind has a state that can be lost.
    pub(crate) has_state: bool,
    /// Since when, in Unix milliseconds.
    pub(crate) since_ms: u64,
    /// How often it was restarted until it was quarantined; 0 before.
    pub(crate) restarts: u32,
    /// The loss it started with, until acknowledged.
    pub(crate) lost: Option<Arc<StateLost>>,
}

/// One entry of a member's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum LogEntry {
    /// The member wrote a wanted entry.
    Wanted(ChildId, Wanted),
    /// An instance of the member began or changed.
    Row(ChildId, InstanceRow),
    /// The member has no instance of the child any more. If it gave it away: to whom, and which entry of the
    /// receiver's log says so.
    Gone(ChildId, Option<(NodeRef, u64)>),
    /// The member wrote a spec, and starts an instance for it.
    Begun(Wanted, InstanceRow),
    /// The member gave the child to this node, whose log says so at this entry, and goes on as a replica.
    Gave(ChildId, (NodeRef, u64), InstanceRow),
}

/// How far a log is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogSeen {
    /// Whose log.
    pub(crate) node: NodeRef,
    /// When the hub that writes it started, in Unix milliseconds: each hub begins a log.
    pub(crate) started_ms: u64,
    /// Its last known entry.
    pub(crate) seq: u64,
}
