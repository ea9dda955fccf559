//! What foca takes a member for.

use foca::{Identity, State};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use super::Evidence;
use crate::error::Error;
use crate::ids::{Contact, Incarnation, NodeName, NodeRef};

/// Longest accepted address, in bytes: two identities have to fit into one packet.
pub(super) const MAX_ADDRESS_BYTES: usize = 255;

/// A member as foca sees it: one per name, and of two with one name the higher (rank, bump) stays.
#[derive(Clone, Debug)]
pub(super) struct Id {
    pub(super) node: NodeRef,
    /// Orders the incarnations of one name. It is the incarnation itself, unless a member let this node take
    /// the name from a higher one (a clock was set back): then it is above that one's rank.
    pub(super) rank: u64,
    /// Raised by the node itself each time others had buried it: the same node to everybody but foca.
    pub(super) bump: u32,
    /// Where the node listens; empty where the receiver knows it.
    pub(super) address: SmolStr,
    /// Why a member counts as gone; travels with `Down` updates and is no part of who it is.
    pub(super) evidence: Option<Evidence>,
}

impl Id {
    pub(super) fn new(contact: &Contact) -> Self {
        Self {
            node: contact.node.clone(),
            rank: contact.node.incarnation.0,
            bump: 0,
            address: contact.address.as_str().into(),
            evidence: None,
        }
    }

    pub(super) fn contact(&self) -> Contact {
        Contact { node: self.node.clone(), address: self.address.to_string() }
    }

    /// This identity with the reason of its end.
    pub(super) fn gone(mut self, evidence: Evidence) -> Self {
        self.evidence = Some(evidence);
        self
    }

    /// The identity without what the receiver knows anyway.
    pub(super) fn without_address(&self) -> Self {
        Self { node: self.node.clone(), address: SmolStr::default(), evidence: None, ..*self }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank && self.bump == other.bump && self.node == other.node
    }
}

impl Eq for Id {}

impl Identity for Id {
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(1)?, evidence: None, ..self.clone() })
    }

    fn addr(&self) -> NodeName {
        self.node.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.rank, self.bump, self.node.incarnation) > (adversary.rank, adversary.bump, adversary.node.incarnation)
    }
}

/// An identity on the wire. The rank follows the incarnation closely, so its distance is one byte.
#[derive(Serialize, Deserialize)]
struct WireId<'a> {
    name: &'a str,
    incarnation: u64,
    rank_offset: i64,
    bump: u32,
    address: &'a str,
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let incarnation = self.node.incarnation.0;
        let wire = WireId {
            name: self.node.name.as_str(),
            incarnation,
            rank_offset: self.rank.wrapping_sub(incarnation).cast_signed(),
            bump: self.bump,
            address: &self.address,
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(WireId::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl TryFrom<WireId<'_>> for Id {
    type Error = Error;

    fn try_from(wire: WireId<'_>) -> Result<Self, Error> {
        if wire.address.len() > MAX_ADDRESS_BYTES {
            return Err(Error::new(
                crate::error::ErrorKind::InvalidArgument,
                "decode_member",
                format!("an address has at most {MAX_ADDRESS_BYTES} bytes, this one has {}", wire.address.len()),
            ));
        }
        Ok(Self {
            node: NodeRef { name: NodeName::new(wire.name)?, incarnation: Incarnation(wire.incarnation) },
            rank: wire.incarnation.wrapping_add(wire.rank_offset.cast_unsigned()),
            bump: wire.bump,
            address: wire.address.into(),
            evidence: None,
        })
    }
}

/// What one node says about a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: Id,
    /// foca's own number: raised by the member to refute a suspicion.
    pub(super) refutation: u16,
    pub(super) condition: Condition,
}

/// How a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Condition {
    Alive,
    Suspect,
    Down { evidence: Evidence, age_secs: u32 },
}

impl Record {
    /// The record of a member that is up, or went down just now.
    pub(super) fn of(member: &foca::Member<Id>) -> Self {
        let condition = match member.state() {
            State::Alive => Condition::Alive,
            State::Suspect => Condition::Suspect,
            State::Down => {
                Condition::Down { evidence: member.id().evidence.unwrap_or(Evidence::Suspected), age_secs: 0 }
            }
        };
        Self { id: member.id().clone(), refutation: member.incarnation(), condition }
    }

    pub(super) fn into_member(self) -> foca::Member<Id> {
        let (id, state) = match self.condition {
            Condition::Alive => (self.id, State::Alive),
            Condition::Suspect => (self.id, State::Suspect),
            Condition::Down { evidence, .. } => (self.id.gone(evidence), State::Down),
        };
        foca::Member::new(id, self.refutation, state)
    }
}
