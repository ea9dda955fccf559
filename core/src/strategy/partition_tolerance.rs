//! Whether this side of the cluster may run children.

use std::fmt;

use crate::ids::NodeRef;

/// What is known when the verdict is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PartitionView<'a> {
    /// This node.
    pub node: &'a NodeRef,
    /// The other members of the hub that this node can reach, in the order of their names.
    pub members: &'a [NodeRef],
}

impl PartitionView<'_> {
    /// How many nodes this side has, this one included.
    #[must_use]
    pub fn present(&self) -> usize {
        self.members.len() + 1
    }
}

/// Whether this side may run children.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may.
    Run,
    /// It may not: children are stopped, and requests are answered `partitioned`.
    Partitioned {
        /// One line for a person, with the numbers compared.
        why: String,
    },
}

/// Decides whether this side of a cluster may run children.
///
/// Asked before anything is done about a changed view: a side without quorum starts nothing (A11). Sides that cannot
/// hear each other ask apart; a strategy that promises at most one running side must never let two of them pass.
pub trait PartitionTolerance: Send + Sync + fmt::Debug {
    /// The name in the configuration and in logs.
    fn name(&self) -> &'static str;

    /// The verdict for this side.
    fn verdict(&self, view: &PartitionView<'_>) -> Verdict;

    /// The options all nodes of a hub must share, with their values; the name is shared anyway.
    fn shared_options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Both sides of a partition run everything, and merge on heal (R12).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Divergence;

impl PartitionTolerance for Divergence {
    fn name(&self) -> &'static str {
        "divergence"
    }

    fn verdict(&self, _view: &PartitionView<'_>) -> Verdict {
        Verdict::Run
    }
}
