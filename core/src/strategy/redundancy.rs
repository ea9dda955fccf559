//! How many instances a child has, and which of them are active.

use std::fmt;

use crate::config::{CLUSTER_SIZE, RedundancySignal, ReplicationFactor, ReplicationModel};
use crate::ids::{ChildId, NodeRef};
use crate::spec::Mode;

/// Decides how many instances a child has and which of them are active.
///
/// The answers must depend on the arguments only: every node asks, and the owner's answer is published with the
/// child's token (R9).
pub trait Redundancy: Send + Sync + fmt::Debug {
    /// The name in the configuration and in logs.
    fn name(&self) -> &'static str;

    /// How many instances each child shall have in a hub of `members` nodes, this one included; at least 1. Where
    /// fewer nodes qualify, the child has fewer.
    fn factor(&self, members: usize) -> usize;

    /// Which instances of a child are active, given where they are, in the order of the distribution. The node of a
    /// single active one becomes the first of the placement, and so the owner; then it is asked again, for the mode of
    /// the others. `placement` is never empty.
    fn actives(&self, child: &ChildId, placement: &[&NodeRef]) -> Actives;

    /// Whether instances are told this mode, at their start and when it changes: the option `redundancy_signal`.
    fn is_told(&self, mode: Mode) -> bool;

    /// The options all nodes of a hub must share, with their values; the name is shared anyway.
    fn shared_options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Which instances of a child are active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actives {
    /// Every instance.
    All,
    /// The one at this position of the placement. A position outside of it means the owner.
    One(usize),
}

impl Actives {
    /// The mode of the instance at `position` of a placement of `placement_len` nodes.
    #[must_use]
    pub fn mode(self, position: usize, placement_len: usize) -> Mode {
        let is_active = match self {
            Self::All => true,
            Self::One(active) if active < placement_len => position == active,
            Self::One(_) => position == 0,
        };
        if is_active { Mode::Active } else { Mode::Passive }
    }
}

/// One instance, always active. There is no other role, so nobody is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Singularity;

impl Redundancy for Singularity {
    fn name(&self) -> &'static str {
        "singularity"
    }

    fn factor(&self, _members: usize) -> usize {
        1
    }

    fn actives(&self, _child: &ChildId, _placement: &[&NodeRef]) -> Actives {
        Actives::One(0)
    }

    fn is_told(&self, _mode: Mode) -> bool {
        false
    }
}

/// Several instances on different nodes: all active, or the owner's while the others stand by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replication {
    /// How many instances a child has.
    pub factor: ReplicationFactor,
    /// Which of them are active.
    pub model: ReplicationModel,
    /// Which roles they are told.
    pub signal: RedundancySignal,
}

impl Redundancy for Replication {
    fn name(&self) -> &'static str {
        "replication"
    }

    fn factor(&self, members: usize) -> usize {
        match self.factor {
            ReplicationFactor::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
            ReplicationFactor::ClusterSize => members.max(1),
        }
    }

    fn actives(&self, _child: &ChildId, _placement: &[&NodeRef]) -> Actives {
        match self.model {
            ReplicationModel::ActiveActive => Actives::All,
            ReplicationModel::ActivePassive => Actives::One(0),
        }
    }

    fn is_told(&self, mode: Mode) -> bool {
        match (self.signal, mode) {
            (RedundancySignal::All, _) => true,
            (RedundancySignal::None, _) => false,
            (RedundancySignal::Active, mode) => mode == Mode::Active,
            (RedundancySignal::Passive, mode) => mode == Mode::Passive,
        }
    }

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        let factor = match self.factor {
            ReplicationFactor::Count(count) => count.to_string(),
            ReplicationFactor::ClusterSize => CLUSTER_SIZE.to_owned(),
        };
        vec![
            ("replication_factor", factor),
            ("replication_model", self.model.name().to_owned()),
            ("redundancy_signal", self.signal.name().to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_is_the_cluster_size_then_one_instance_on_each_member() {
        let replication =
            |factor| Replication { factor, model: ReplicationModel::ActivePassive, signal: RedundancySignal::Active };
        let whole = replication(ReplicationFactor::ClusterSize);
        assert_eq!([0, 1, 6].map(|members| whole.factor(members)), [1, 1, 6]);
        assert_eq!([1, 6].map(|members| replication(ReplicationFactor::Count(3)).factor(members)), [3, 3]);
        assert_ne!(whole.shared_options(), replication(ReplicationFactor::Count(6)).shared_options());
    }

    #[test]
    fn signal_is_filtered_then_only_that_role_is_told() {
        let told = |signal| {
            let replication =
                Replication { factor: ReplicationFactor::Count(2), model: ReplicationModel::default(), signal };
            [Mode::Active, Mode::Passive].map(|mode| replication.is_told(mode))
        };
        assert_eq!(told(RedundancySignal::None), [false, false]);
        assert_eq!(told(RedundancySignal::Active), [true, false]);
        assert_eq!(told(RedundancySignal::Passive), [false, true]);
        assert_eq!(told(RedundancySignal::All), [true, true]);
    }

    #[test]
    fn singularity_then_one_active_instance_in_a_cluster_of_any_size() {
        for members in [1, 2, 1000] {
            assert_eq!(Singularity.factor(members), 1);
        }
        let child = ChildId::new("cart:1").expect("a valid id");
        assert_eq!(Singularity.actives(&child, &[]).mode(0, 1), Mode::Active);
        assert!(!Singularity.is_told(Mode::Active));
    }

    #[test]
    fn one_active_then_the_others_are_passive() {
        let modes = |actives: Actives| [0, 1, 2].map(|position| actives.mode(position, 3));
        let (on, off) = (Mode::Active, Mode::Passive);
        assert_eq!(modes(Actives::One(1)), [off, on, off]);
        assert_eq!(modes(Actives::All), [on, on, on]);
    }

    #[test]
    fn active_outside_of_the_placement_then_it_is_the_owner() {
        assert_eq!(Actives::One(5).mode(0, 2), Mode::Active);
        assert_eq!(Actives::One(5).mode(1, 2), Mode::Passive);
    }
}
