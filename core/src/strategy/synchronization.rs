//! How the registry travels.

use std::fmt;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::ids::NodeRef;

/// Who is sent something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recipients {
    /// Every member.
    All,
    /// The members at these positions.
    Some(Vec<usize>),
}

/// Decides who is told of a change at once, and how often the registries are compared.
///
/// It decides about speed and traffic only. Whoever misses a delta is repaired by the digests (A4), so any answer is
/// safe, and nodes of one hub may differ.
pub trait Synchronization: Send + Sync + fmt::Debug {
    /// The name in the configuration and in logs.
    fn name(&self) -> &'static str;

    /// Who is sent a delta. `members` are the other members of the hub, in the order of their names; choose among
    /// them with `random` only.
    fn recipients(&self, members: &[NodeRef], random: &mut dyn Rng) -> Recipients;

    /// Whether a member passes on what was new to it, changes and digests, to [`Self::recipients`] of its own.
    fn is_passed_on(&self) -> bool;

    /// Whether this node begins a comparison of the digests when [`Self::sync_interval`] is over. `members` are the
    /// other members of the hub, in the order of their names.
    fn begins_comparison(&self, _node: &NodeRef, _members: &[NodeRef]) -> bool {
        true
    }

    /// How often digests are exchanged.
    fn sync_interval(&self) -> Duration;
}

/// Each change goes to every member, from the node that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PubSub {
    /// How often digests are exchanged.
    pub sync_interval: Duration,
}

impl Synchronization for PubSub {
    fn name(&self) -> &'static str {
        "pub_sub"
    }

    fn recipients(&self, _members: &[NodeRef], _random: &mut dyn Rng) -> Recipients {
        Recipients::All
    }

    fn is_passed_on(&self) -> bool {
        false
    }

    fn sync_interval(&self) -> Duration {
        self.sync_interval
    }
}

/// Each change goes to a few random members, who pass on what is new to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gossip {
    /// How often digests are exchanged.
    pub sync_interval: Duration,
    /// How many members are told at a time.
    pub recipients: u32,
    /// Whether only the member with the smallest name begins the exchange of digests, or each of them its own.
    pub restricted_init: bool,
}

impl Synchronization for Gossip {
    fn name(&self) -> &'static str {
        "gossip"
    }

    fn recipients(&self, members: &[NodeRef], random: &mut dyn Rng) -> Recipients {
        let count = usize::try_from(self.recipients).unwrap_or(usize::MAX);
        if count >= members.len() {
            return Recipients::All;
        }
        let mut positions: Vec<usize> = (0..members.len()).collect();
        for at in 0..count {
            let other = random.random_range(at..positions.len());
            positions.swap(at, other);
        }
        positions.truncate(count);
        Recipients::Some(positions)
    }

    fn is_passed_on(&self) -> bool {
        true
    }

    fn begins_comparison(&self, node: &NodeRef, members: &[NodeRef]) -> bool {
        !self.restricted_init || members.iter().all(|member| node < member)
    }

    fn sync_interval(&self) -> Duration {
        self.sync_interval
    }
}
