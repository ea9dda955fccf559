//! Whether this side of the cluster may run children.

use std::fmt;
use std::time::Duration;

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

    /// The verdict for this side. Not asked of a strategy with a quorum.
    fn verdict(&self, view: &PartitionView<'_>) -> Verdict;

    /// How a quorum is counted, where this strategy has one: then leases decide (R11), and no verdict.
    fn quorum(&self) -> Option<QuorumOptions> {
        None
    }

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

/// How a quorum is counted (R10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuorumRule {
    /// So many members.
    Static {
        /// The members needed.
        quorum_size: u32,
    },
    /// A share of the members that are there or were lost lately.
    Dynamic {
        /// The share, in percent.
        percent: u32,
        /// A member that was lost for longer counts no more; only time with a quorum counts.
        threshold: Duration,
    },
    /// More than half of the members, and of the most there were.
    Majority {
        /// Members that begin a cluster together.
        initial_cluster_size: u32,
        /// Whether the most there were counts, or `initial_cluster_size`.
        track_max_size: bool,
    },
}

impl QuorumRule {
    /// How many of `names` members a quorum has, when at most `peak` were there.
    #[must_use]
    pub fn quorum(&self, names: usize, peak: u32) -> usize {
        match *self {
            Self::Static { quorum_size } => quorum_size as usize,
            Self::Dynamic { percent, .. } => (names * percent as usize).div_ceil(100).max(1),
            Self::Majority { .. } => names.max(peak as usize) / 2 + 1,
        }
    }

    /// How many members begin a cluster together.
    #[must_use]
    pub const fn founders(&self) -> usize {
        match *self {
            Self::Static { quorum_size } => quorum_size as usize,
            Self::Dynamic { .. } => 1,
            Self::Majority { initial_cluster_size, .. } => initial_cluster_size as usize,
        }
    }

    /// The peak once there are so many names.
    #[must_use]
    pub fn peak(&self, names: usize, before: u32) -> u32 {
        let names = u32::try_from(names).unwrap_or(u32::MAX);
        match *self {
            Self::Static { .. } | Self::Dynamic { .. } => 0,
            Self::Majority { track_max_size: true, initial_cluster_size } => {
                before.max(names).max(if before == 0 { initial_cluster_size } else { 0 })
            }
            Self::Majority { track_max_size: false, initial_cluster_size } => {
                if before == 0 {
                    initial_cluster_size
                } else {
                    before
                }
            }
        }
    }
}

/// The options of a strategy with a quorum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuorumOptions {
    /// How a quorum is counted.
    pub rule: QuorumRule,
    /// Whether requests before the first quorum are answered `partitioned` at once.
    pub startup_confirm: bool,
    /// How long a lease lasts.
    pub lease: Duration,
}

impl QuorumOptions {
    /// The clocks of two nodes may differ by so many percent.
    const DRIFT_PERCENT: u32 = 1;
    /// How long a node that lost its lease may take to stop what it runs.
    const STOP_BUDGET: Duration = Duration::from_millis(200);

    /// After this time without a grant a lease is over, whatever the holder's clock says (R11).
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.lease * (100 + 2 * Self::DRIFT_PERCENT) / 100 + Self::STOP_BUDGET
    }
}

/// A quorum is a fixed number of members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaticQuorum {
    /// The members needed.
    pub quorum_size: u32,
    /// Whether requests before the first quorum are answered `partitioned` at once.
    pub startup_confirm: bool,
    /// How long a lease lasts.
    pub lease: Duration,
}

impl PartitionTolerance for StaticQuorum {
    fn name(&self) -> &'static str {
        "static_quorum"
    }

    fn verdict(&self, view: &PartitionView<'_>) -> Verdict {
        by_count(view.present(), self.quorum_size as usize)
    }

    fn quorum(&self) -> Option<QuorumOptions> {
        let rule = QuorumRule::Static { quorum_size: self.quorum_size };
        Some(QuorumOptions { rule, startup_confirm: self.startup_confirm, lease: self.lease })
    }

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("quorum_size", self.quorum_size.to_string()),
            ("startup_confirm", self.startup_confirm.to_string()),
            ("lease_ms", self.lease.as_millis().to_string()),
        ]
    }
}

/// A quorum is a share of the members, those counted that were lost lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicQuorum {
    /// The share, in percent.
    pub quorum_size: u32,
    /// After this time with a quorum a lost member counts no more.
    pub threshold_time: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
}

impl PartitionTolerance for DynamicQuorum {
    fn name(&self) -> &'static str {
        "dynamic_quorum"
    }

    /// Without a memory of who was lost, all that are there are all there are.
    fn verdict(&self, _view: &PartitionView<'_>) -> Verdict {
        Verdict::Run
    }

    fn quorum(&self) -> Option<QuorumOptions> {
        let rule = QuorumRule::Dynamic { percent: self.quorum_size, threshold: self.threshold_time };
        Some(QuorumOptions { rule, startup_confirm: false, lease: self.lease })
    }

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("quorum_size", self.quorum_size.to_string()),
            ("threshold_time_ms", self.threshold_time.as_millis().to_string()),
            ("lease_ms", self.lease.as_millis().to_string()),
        ]
    }
}

/// A quorum is more than half of the members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MajorityQuorum {
    /// Members that begin a cluster together.
    pub initial_cluster_size: u32,
    /// Whether a cluster that was larger needs more than half of its largest size.
    pub track_max_size: bool,
    /// How long a lease lasts.
    pub lease: Duration,
}

impl PartitionTolerance for MajorityQuorum {
    fn name(&self) -> &'static str {
        "majority_quorum"
    }

    fn verdict(&self, view: &PartitionView<'_>) -> Verdict {
        by_count(view.present(), self.initial_cluster_size as usize / 2 + 1)
    }

    fn quorum(&self) -> Option<QuorumOptions> {
        let Self { initial_cluster_size, track_max_size, lease } = *self;
        let rule = QuorumRule::Majority { initial_cluster_size, track_max_size };
        Some(QuorumOptions { rule, startup_confirm: false, lease })
    }

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("initial_cluster_size", self.initial_cluster_size.to_string()),
            ("track_max_size", self.track_max_size.to_string()),
            ("lease_ms", self.lease.as_millis().to_string()),
        ]
    }
}

fn by_count(present: usize, needed: usize) -> Verdict {
    if present >= needed {
        return Verdict::Run;
    }
    Verdict::Partitioned { why: format!("{present} members are here, {needed} are needed") }
}
