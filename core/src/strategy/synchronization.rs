//! How the registry travels.

use std::fmt;
use std::time::Duration;

use rand::Rng;

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

    /// Whether a member passes on what was new to it. Needed where [`Self::recipients`] leaves anybody out.
    fn is_passed_on(&self) -> bool;

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
