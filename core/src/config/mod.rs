//! The configuration of a hub and of its node: one document for every language.
//!
//! [`HubConfig::new`] and the `with_` methods make one in Rust, [`HubConfig::from_json`] reads the document.
//! Defaults and ranges are in one table, from which docs/configuration.md is generated.

mod builder;
mod defaults;
mod document;
mod node;
mod options;
mod parse;
mod problem;
mod reader;
mod strategies;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use defaults::CLUSTER_SIZE;
pub use options::{OptionInfo, options};
pub use problem::Problem;
pub(crate) use reader::show;
pub(crate) use validate::NAME_NEEDED;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{HubId, KindName, NodeName};
use crate::spec::ChildSpec;
use crate::strategy::Family;

/// The configuration of a hub.
#[derive(Clone, PartialEq, Debug)]
pub struct HubConfig {
    /// Hubs with the same id on connected nodes form one hub cluster.
    pub hub_id: HubId,
    /// The node to make for this hub; `None` when the hub is started on an existing node.
    pub node: Option<NodeConfig>,
    /// Static children: ensured by every node that lists them.
    pub child_specs: Vec<ChildSpec>,
    /// How many instances a child has.
    pub redundancy: Redundancy,
    /// How children move.
    pub migration: Migration,
    /// How the registry travels.
    pub synchronization: Synchronization,
    /// What happens without quorum.
    pub partition_tolerance: PartitionTolerance,
    /// Who runs what.
    pub distribution: Distribution,
    /// The restart budget, per child.
    pub restart: RestartConfig,
    /// How often seeds are tried again.
    pub hubs_discover_interval: Duration,
    /// After this time open moves are aborted and the lock is released.
    pub deadlock_recovery_timeout: Duration,
    /// One child's budget from prepare to active.
    pub migration_base_timeout: Duration,
    /// Longest time of `stop`.
    pub shutdown_timeout: Duration,
    /// Host threads that run synchronous callbacks.
    pub host_threads: usize,
    /// The timers of failure detection.
    pub profile: Profile,
}

/// The configuration of a node.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeConfig {
    /// Unique in the cluster; by default the host name and a random suffix.
    pub name: Option<NodeName>,
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// `host:port` told to peers; by default the bound address.
    pub advertise: Option<String>,
    /// Where other nodes may be: `host:port` or `file:PATH`.
    pub seeds: Vec<String>,
    /// How peers prove themselves.
    pub security: Security,
    /// Labels for `require` and zones.
    pub labels: BTreeMap<String, String>,
    /// Share of the children, relative to the other nodes; above 0, at most 1000.
    pub weight: f64,
}

/// A node made apart from its hubs: what [`crate::hub::Node::start`] takes.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeSetup {
    /// The node's own options.
    pub node: NodeConfig,
    /// The timers of failure detection.
    pub profile: Profile,
    /// How often seeds are tried again.
    pub hubs_discover_interval: Duration,
}

/// How peers prove themselves (A9).
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Security {
    /// A shared key in the user's key file, made at the first start; loopback only.
    #[default]
    UserKey,
    /// A shared key in this file: lines of 64 hex digits; the first proves, all are accepted.
    Key {
        /// The file; mode 0600 and owned by the user.
        key_file: PathBuf,
    },
    /// No authentication and no encryption, spelled out.
    InsecurePlaintext,
}

/// How many instances a child has.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Redundancy {
    /// One.
    #[default]
    Singularity,
    /// Several, on different nodes.
    Replication {
        /// How many.
        factor: ReplicationFactor,
        /// Which of them are active.
        model: ReplicationModel,
        /// Which roles the instances are told.
        signal: RedundancySignal,
    },
    /// What code says, which every node of the hub must run. Only configurations made in Rust have it.
    Custom(Custom<dyn crate::strategy::Redundancy>),
}

/// A strategy of the user's own. Two are equal when they are the same value.
#[derive(Debug)]
pub struct Custom<T: ?Sized>(pub Arc<T>);

impl<T: ?Sized> Clone for Custom<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> PartialEq for Custom<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// How many instances of a child there are; fewer where fewer nodes can run it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicationFactor {
    /// So many.
    Count(u32),
    /// One on each member of the hub.
    ClusterSize,
}

/// Which instances of a child are active.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplicationModel {
    /// All of them.
    #[default]
    ActiveActive,
    /// One: the others stand by.
    ActivePassive,
}

/// Which roles an instance is told, at its start and when they change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RedundancySignal {
    /// None.
    #[default]
    None,
    /// That it is active.
    Active,
    /// That it is passive.
    Passive,
    /// Both.
    All,
}

impl ReplicationModel {
    /// The name in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveActive => "active_active",
            Self::ActivePassive => "active_passive",
        }
    }
}

impl RedundancySignal {
    /// The name in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
            Self::Passive => "passive",
            Self::All => "all",
        }
    }
}

/// How children move when the view changes.
#[derive(Clone, PartialEq, Debug)]
pub enum Migration {
    /// Stop, then start.
    ColdSwap {
        /// Whether the state goes along.
        handover: bool,
        /// How long ending `run` and `prepare_handover_state` may take together.
        handover_data_wait: Duration,
    },
    /// Start, hand over, stop.
    HotSwap {
        /// How long an outgoing instance whose state was not delivered lives on.
        retention: Duration,
        /// Whether the state goes along.
        handover: bool,
        /// Whether `children_migrated` waits for `alter_handover_state`.
        confirm_handover: bool,
        /// How long ending `run` and `prepare_handover_state` may take together.
        handover_data_wait: Duration,
        /// How long the new instance may take to start.
        child_migration_timeout: Duration,
    },
    /// As a built-in says, in the order the host says.
    Hosted(Hosted<Migration>),
}

/// A strategy of the host's: the type `custom` of the document. Its code is registered by [`crate::hub::HubBuilder::decide`].
#[derive(Clone, PartialEq, Debug)]
pub struct Hosted<T> {
    /// The name under which it is registered.
    pub name: String,
    /// The built-in whose options hold, and which decides where the host gives no good answer.
    pub base: Box<T>,
}

impl<T> Hosted<T> {
    fn new(name: &str, base: T) -> Self {
        Self { name: name.into(), base: Box::new(base) }
    }
}

impl Migration {
    /// Whether a moving child's state goes along.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        match self {
            Self::ColdSwap { handover, .. } | Self::HotSwap { handover, .. } => *handover,
            Self::Hosted(hosted) => hosted.base.hands_over(),
        }
    }
}

impl HubConfig {
    /// The families of which the host decides, and the names of its strategies.
    #[must_use]
    pub fn hosted(&self) -> Vec<(Family, &str)> {
        match &self.migration {
            Migration::Hosted(hosted) => vec![(Family::Migration, hosted.name.as_str())],
            Migration::ColdSwap { .. } | Migration::HotSwap { .. } => Vec::new(),
        }
    }

    /// Warns of a kind whose hand-over callbacks (those named) this hub's migration never calls.
    pub fn warn_of_unused_callbacks(&self, kind: &KindName, callbacks: &[&str]) {
        if !callbacks.is_empty() && !self.migration.hands_over() {
            let callbacks = callbacks.join(", ");
            tracing::warn!(
                target: "process_hub::config", hub = %self.hub_id, %kind, callbacks,
                "this hub's migration never calls these callbacks: set its option `handover` to true",
            );
        }
    }
}

/// How the registry travels.
#[derive(Clone, PartialEq, Debug)]
pub enum Synchronization {
    /// Deltas to every member; digests at this interval.
    PubSub {
        /// Interval of the digests.
        sync_interval: Duration,
    },
    /// Changes to a few random members, who pass on what is new to them; digests likewise.
    Gossip {
        /// Interval of the digests.
        sync_interval: Duration,
        /// How many members are told at a time.
        recipients: u32,
        /// Whether only the member with the smallest name begins the exchange of digests.
        restricted_init: bool,
    },
}

impl Synchronization {
    /// Interval of the digests.
    #[must_use]
    pub const fn sync_interval(&self) -> Duration {
        match self {
            Self::PubSub { sync_interval } | Self::Gossip { sync_interval, .. } => *sync_interval,
        }
    }
}

/// What happens without quorum.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum PartitionTolerance {
    /// Both sides run everything and merge on heal (R12).
    #[default]
    Divergence,
    /// A side with so many members runs.
    StaticQuorum {
        /// The members needed.
        quorum_size: u32,
        /// Whether requests before the first quorum are answered `partitioned` at once.
        startup_confirm: bool,
        /// How long a node may run children after a quorum last heard of it.
        lease: Duration,
    },
    /// A side with this share of the members runs, those counted that were lost lately.
    DynamicQuorum {
        /// The share, in percent.
        quorum_size: u32,
        /// After this time with a quorum a lost member counts no more.
        threshold_time: Duration,
        /// How long a node may run children after a quorum last heard of it.
        lease: Duration,
    },
    /// A side with more than half of the members runs.
    MajorityQuorum {
        /// So many members begin a cluster together.
        initial_cluster_size: u32,
        /// Whether a cluster that was larger needs more than half of its largest size.
        track_max_size: bool,
        /// How long a node may run children after a quorum last heard of it.
        lease: Duration,
    },
}

impl PartitionTolerance {
    /// Whether members are counted, by their names.
    #[must_use]
    pub const fn has_quorum(&self) -> bool {
        match self {
            Self::Divergence => false,
            Self::StaticQuorum { .. } | Self::DynamicQuorum { .. } | Self::MajorityQuorum { .. } => true,
        }
    }
}

/// Who runs what.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Distribution {
    /// Weighted rendezvous hashing (A10).
    #[default]
    ConsistentHashing,
    /// The nodes that the `child_mapping` of each start names.
    Guided {
        /// Where a child goes while a node it is mapped to cannot run it.
        fallback: Fallback,
    },
    /// Where there is capacity when a child is started, by the loads that the members report.
    LoadBalanced {
        /// How many measured loads a member's score is made of.
        max_history_size: u32,
        /// What each of them counts relative to the one after it, from 0 to 1.
        weight_decay_factor: f64,
        /// How often each member measures its load and tells the others.
        push_interval: Duration,
        /// Whether a node that joins is given its share of the children that run already.
        nodeup_redistribution: bool,
    },
    /// Where code says, which every node of the hub must run. Only configurations made in Rust have it.
    Custom(Custom<dyn crate::strategy::Distribution>),
}

/// Where a child of `guided` goes while a node it is mapped to cannot run it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fallback {
    /// Nowhere: it waits for the node.
    #[default]
    Wait,
    /// Where `consistent_hashing` says, until the node is back.
    ConsistentHashing,
}

impl Fallback {
    /// The name in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::ConsistentHashing => "consistent_hashing",
        }
    }
}

/// The restart budget of each child (R21).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestartConfig {
    /// More restarts than this within `window` quarantine the child.
    pub max_restarts: u32,
    /// The window.
    pub window: Duration,
    /// First and longest pause before a restart; doubled each time.
    pub backoff: (Duration, Duration),
}

/// The timers of failure detection (engine.md §2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// One member is probed per period.
    pub probe_period: Duration,
    /// How long a direct probe waits before others are asked.
    pub probe_timeout: Duration,
    /// How long a suspect may refute.
    pub suspicion: Duration,
    /// How long the last check over the control lane waits.
    pub verify: Duration,
    /// Interval of gossip.
    pub gossip: Duration,
    /// How long view changes are collected before they are acted on (R14).
    pub view_debounce: Duration,
}

impl Profile {
    /// `fast`: half of `lan`'s times.
    #[must_use]
    pub const fn fast() -> Self {
        Self {
            probe_period: Duration::from_millis(150),
            probe_timeout: Duration::from_millis(50),
            suspicion: Duration::from_millis(350),
            verify: Duration::from_millis(150),
            gossip: Duration::from_millis(50),
            view_debounce: Duration::from_millis(10),
        }
    }

    /// `lan`, the default.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            probe_period: Duration::from_millis(300),
            probe_timeout: Duration::from_millis(100),
            suspicion: Duration::from_millis(700),
            verify: Duration::from_millis(300),
            gossip: Duration::from_millis(100),
            view_debounce: Duration::from_millis(20),
        }
    }

    /// `wan`.
    #[must_use]
    pub const fn wan() -> Self {
        Self {
            probe_period: Duration::from_millis(2000),
            probe_timeout: Duration::from_millis(800),
            suspicion: Duration::from_millis(4000),
            verify: Duration::from_millis(1500),
            gossip: Duration::from_millis(500),
            view_debounce: Duration::from_millis(200),
        }
    }

    /// The longest a dead member may stay unnoticed: four probe rounds, a suspicion stretched by bad local
    /// health, and the last check.
    #[must_use]
    pub fn worst_detection(&self) -> Duration {
        self.probe_period * 4 + self.suspicion * 3 + self.verify
    }
}
