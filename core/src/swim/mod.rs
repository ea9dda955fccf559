//! Membership: foca and the driver around it, pure (A7).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::Profile;
use crate::ids::{Contact, NodeRef};
use crate::time::Timestamp;

/// Why a member counts as gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Evidence {
    /// Its link was closed and two reconnects were refused: nothing listens there (R14).
    Refused,
    /// It did not answer probes, nor the last check.
    Suspected,
    /// It said that it leaves.
    Left,
    /// A newer incarnation has its name (R13).
    Replaced,
}

/// What a node's membership starts with.
#[derive(Clone, Debug)]
pub struct SwimSetup {
    /// This node. Its address has at most 255 bytes.
    pub contact: Contact,
    /// The timers of failure detection.
    pub profile: Profile,
    /// Seeds the random choices; the same seed and inputs give the same effects.
    pub seed: u64,
}

/// One input of membership.
#[derive(Clone, Debug)]
pub enum SwimInput {
    /// An authenticated link to this node is up; comes before any packet over it.
    LinkUp(Contact),
    /// The link is gone.
    LinkDown {
        /// The other end.
        node: NodeRef,
        /// Whether the reconnects of R14 were refused.
        refused: bool,
    },
    /// A packet came over the link of this node.
    Packet {
        /// The other end, as authenticated by the link.
        from: NodeRef,
        /// What it sent.
        bytes: Bytes,
    },
    /// The user wants this node to leave.
    Leave,
    /// The moment of [`Swim::next_deadline`] came; earlier it does nothing.
    Tick,
}

/// What membership wants done, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SwimEffect {
    /// Send this over the link; without one it may be dropped. At most 60 KiB, mostly below 1200 bytes.
    Packet {
        /// To whom.
        to: Contact,
        /// The encoded packet.
        bytes: Bytes,
    },
    /// A link to this node is wanted.
    Connect(Contact),
    /// Close the link to this node, after the packets before this effect were sent.
    Disconnect(NodeRef),
    /// This node is a member.
    Up(Contact),
    /// This node is no member any more.
    Down(NodeRef, Evidence),
    /// On a newcomer, once: a member accepted it.
    Welcome,
    /// This node must not go on under its name: a living node has it, or it was replaced (R13).
    NameTaken {
        /// Who has the name.
        by: Contact,
    },
    /// This node's leave is acknowledged or given up. Nothing comes after it.
    Left,
}

/// The membership of one node.
#[derive(Debug)]
pub struct Swim {
    members: Vec<Contact>,
}

impl Swim {
    /// A node that knows nobody yet.
    #[must_use]
    pub fn new(_now: Timestamp, _setup: SwimSetup) -> Self {
        Self {
            members: Vec::new(),
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, _now: Timestamp, _input: SwimInput, _effects: &mut Vec<SwimEffect>) {}

    /// When the next [`SwimInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        Timestamp::NEVER
    }

    /// The members that are up, without this node.
    pub fn members(&self) -> impl Iterator<Item = &Contact> {
        self.members.iter()
    }

    /// How unwell this node itself is: 0 to 7.
    #[must_use]
    pub fn health(&self) -> u8 {
        0
    }
}
