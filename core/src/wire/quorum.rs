//! What hubs say to each other about who may act: the configuration of named slots, and leases (R10, R11).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{Incarnation, NodeName, NodeRef};

/// Where a configuration comes from: the bootstrap that began its line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The founder's term.
    pub(crate) term: u64,
    /// The founder.
    pub(crate) founder: Incarnation,
}

/// Which configuration, of those of one origin. The hash tells two apart that both sides of a split made of one,
/// which only a quorum below a majority can.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConfigId {
    /// Its line.
    pub(crate) origin: Origin,
    /// Its place in the line.
    pub(crate) version: u64,
    /// Hash over the whole of it.
    pub(crate) hash: u64,
}

/// One stay of a node in the configuration: a node that forgot what it agreed to is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// Which start of the node.
    pub(crate) incarnation: Incarnation,
    /// Rises whenever the node becomes unproven.
    pub(crate) life: u64,
}

/// A named slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Who consents and grants for it: nobody while its node is to come back.
    pub(crate) seat: Option<Seat>,
    /// Its node was taken to be lost: it gets no lease before it says that it runs nothing.
    pub(crate) is_fenced: bool,
}

/// Who counts (R10). Each version is decided by a quorum of the one before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    /// Its line.
    pub(crate) origin: Origin,
    /// Its place in the line.
    pub(crate) version: u64,
    /// The members, by name.
    pub(crate) slots: BTreeMap<NodeName, Slot>,
    /// The most members that count.
    pub(crate) peak: u32,
    /// The version that last changed the names, or seated somebody.
    pub(crate) seated: u64,
    /// The version that last took the right to a lease from somebody.
    pub(crate) revoked: u64,
}

impl Configuration {
    pub(crate) fn id(&self) -> ConfigId {
        let encoded = postcard::to_allocvec(self).unwrap_or_default();
        ConfigId { origin: self.origin, version: self.version, hash: xxh3_64(&encoded) }
    }

    /// Whether this stay of the node counts as a consenting member.
    pub(crate) fn seats(&self, name: &NodeName, seat: Seat) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.seat == Some(seat))
    }

    /// Those who may hold a lease.
    pub(crate) fn entitled(&self) -> impl Iterator<Item = (&NodeName, Seat)> {
        let slots = self.slots.iter().filter(|(_, slot)| !slot.is_fenced);
        slots.filter_map(|(name, slot)| Some((name, slot.seat?)))
    }

    /// Whether this stay of the node may hold a lease.
    pub(crate) fn entitles(&self, name: &NodeName, seat: Seat) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.seat == Some(seat) && !slot.is_fenced)
    }

    /// Those who consent and grant.
    pub(crate) fn seated(&self) -> impl Iterator<Item = (&NodeName, Seat)> {
        self.slots.iter().filter_map(|(name, slot)| Some((name, slot.seat?)))
    }
}

/// A try to decide on the next configuration: the higher wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ballot {
    /// Counts the tries.
    pub(crate) round: u64,
    /// Who tries.
    pub(crate) proposer: Incarnation,
}

/// What is left of a configuration that is over: a new one needs as many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Remains {
    /// Its quorum; 0 for a node that never had one.
    pub(crate) quorum: u32,
    /// Its peak.
    pub(crate) peak: u32,
}

/// What a node tells of itself, and a wish for a lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Counts the beats of the node: a grant names it.
    pub(crate) number: u64,
    /// The configuration it acts on; `None` while it is unproven.
    pub(crate) config: Option<ConfigId>,
    /// See [`Seat`].
    pub(crate) life: u64,
    /// Of the configuration it acted on last.
    pub(crate) remains: Remains,
    /// It runs nothing.
    pub(crate) is_idle: bool,
    /// It leaves: its slot shall be vacated.
    pub(crate) is_leaving: bool,
    /// Nobody who has no right to one may hold a lease by its grants any more.
    pub(crate) is_clean: bool,
    /// It knows that nobody without the right to it holds a lease.
    pub(crate) is_cleared: bool,
    /// The highest term the node knows of.
    pub(crate) term: u64,
}

/// What hubs say about who may act.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum QuorumMessage {
    /// See [`Beat`].
    Beat(Beat),
    /// The receiver's beat of this number is granted a lease.
    Granted(u64),
    /// This is decided.
    Decided(Configuration),
    /// Shall this be the first configuration of all who are here?
    Found(Configuration),
    /// It shall, as far as the sender goes.
    FoundConsent(Origin),
    /// May the sender propose what follows this configuration?
    Ask(ConfigId, Ballot),
    /// It may; what the sender accepted before.
    Promise(ConfigId, Ballot, Option<(Ballot, Configuration)>),
    /// Shall this be the next configuration? It may be decided already, if it was proposed before.
    Accept {
        /// What it follows.
        id: ConfigId,
        /// The try.
        ballot: Ballot,
        /// What is proposed.
        config: Configuration,
        /// Somebody accepted it in an earlier try.
        is_carried: bool,
    },
    /// It shall.
    Accepted(ConfigId, Ballot),
    /// The ballot is too low: this one is known.
    Nack(ConfigId, Ballot),
}

/// A node's stay, as its beats tell.
impl Beat {
    pub(crate) const fn seat(&self, node: &NodeRef) -> Seat {
        Seat { incarnation: node.incarnation, life: self.life }
    }
}
