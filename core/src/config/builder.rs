//! Makes configurations in Rust: the defaults, and one `with_` per option.

use std::time::Duration;

use super::defaults as table;
use super::{
    Distribution, HubConfig, Migration, NodeConfig, PartitionTolerance, Profile, Redundancy, RedundancySignal,
    ReplicationFactor, ReplicationModel, RestartConfig, Security, Synchronization,
};
use crate::error::Error;
use crate::ids::{HubId, NodeName};
use crate::spec::ChildSpec;

impl HubConfig {
    /// The defaults: what the document `{"hub_id": …}` means.
    ///
    /// # Errors
    /// `invalid_argument` when the id is empty or longer than 255 bytes.
    ///
    /// # Examples
    /// ```
    /// use process_hub::config::{HubConfig, Migration, NodeConfig};
    ///
    /// let node = NodeConfig::default().with_seeds(["127.0.0.1:7400"]);
    /// let config = HubConfig::new("orders")?
    ///     .with_node(node)
    ///     .with_migration(Migration::hot_swap().with_handover(true));
    /// config.validate()?;
    /// # Ok::<(), process_hub::error::Error>(())
    /// ```
    pub fn new(hub_id: &str) -> Result<Self, Error> {
        Ok(Self {
            hub_id: HubId::new(hub_id)?,
            node: None,
            child_specs: Vec::new(),
            redundancy: Redundancy::default(),
            migration: Migration::default(),
            synchronization: Synchronization::default(),
            partition_tolerance: PartitionTolerance::default(),
            distribution: Distribution::default(),
            restart: RestartConfig::default(),
            hubs_discover_interval: table::HUBS_DISCOVER_INTERVAL_MS.default_duration(),
            deadlock_recovery_timeout: table::DEADLOCK_RECOVERY_TIMEOUT_MS.default_duration(),
            migration_base_timeout: table::MIGRATION_BASE_TIMEOUT_MS.default_duration(),
            shutdown_timeout: table::SHUTDOWN_TIMEOUT_MS.default_duration(),
            host_threads: usize::try_from(table::HOST_THREADS.default).unwrap_or(usize::MAX),
            profile: Profile::lan(),
        })
    }
}

/// One builder method per field.
macro_rules! with {
    ($($(#[$doc:meta])* $method:ident, $field:ident: $kind:ty;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $method(mut self, $field: $kind) -> Self {
                self.$field = $field.into();
                self
            }
        )*
    };
}

impl HubConfig {
    with! {
        /// Makes a node for this hub.
        with_node, node: NodeConfig;
        /// Sets the static children.
        with_child_specs, child_specs: Vec<ChildSpec>;
        /// Sets how many instances a child has.
        with_redundancy, redundancy: Redundancy;
        /// Sets how children move.
        with_migration, migration: Migration;
        /// Sets how the registry travels.
        with_synchronization, synchronization: Synchronization;
        /// Sets what happens without quorum.
        with_partition_tolerance, partition_tolerance: PartitionTolerance;
        /// Sets who runs what.
        with_distribution, distribution: Distribution;
        /// Sets the restart budget of each child.
        with_restart, restart: RestartConfig;
        /// Sets how often seeds are tried again.
        with_hubs_discover_interval, hubs_discover_interval: Duration;
        /// Sets after which time open moves are aborted.
        with_deadlock_recovery_timeout, deadlock_recovery_timeout: Duration;
        /// Sets one child's budget from prepare to active.
        with_migration_base_timeout, migration_base_timeout: Duration;
        /// Sets the longest time of `stop`.
        with_shutdown_timeout, shutdown_timeout: Duration;
        /// Sets how many host threads run synchronous callbacks.
        with_host_threads, host_threads: usize;
        /// Sets the timers of failure detection.
        with_profile, profile: Profile;
    }
}

impl NodeConfig {
    with! {
        /// Sets the name.
        with_name, name: NodeName;
        /// Sets where to listen: `host:port`, port 0 takes a free one.
        with_listen, listen: &str;
        /// Sets the address told to peers.
        with_advertise, advertise: String;
        /// Sets how peers prove themselves.
        with_security, security: Security;
        /// Sets the share of the children, relative to the other nodes.
        with_weight, weight: f64;
    }

    /// Sets where other nodes may be.
    #[must_use]
    pub fn with_seeds<T: Into<String>>(mut self, seeds: impl IntoIterator<Item = T>) -> Self {
        self.seeds = seeds.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: None,
            listen: table::DEFAULT_LISTEN.into(),
            advertise: None,
            seeds: Vec::new(),
            security: Security::default(),
            labels: std::collections::BTreeMap::new(),
            weight: table::DEFAULT_WEIGHT,
        }
    }
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            max_restarts: u32::try_from(table::MAX_RESTARTS.default).unwrap_or(u32::MAX),
            window: table::RESTART_WINDOW_MS.default_duration(),
            backoff: (Duration::from_millis(table::BACKOFF_FIRST_MS), Duration::from_millis(table::BACKOFF_LONGEST_MS)),
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::lan()
    }
}

impl Default for Synchronization {
    fn default() -> Self {
        Self::PubSub { sync_interval: table::SYNC_INTERVAL_MS.default_duration() }
    }
}

impl Synchronization {
    /// Changes go to a few members who pass them on, with the defaults.
    #[must_use]
    pub fn gossip() -> Self {
        Self::Gossip {
            sync_interval: table::SYNC_INTERVAL_MS.default_duration(),
            recipients: u32::try_from(table::RECIPIENTS.default).unwrap_or(u32::MAX),
            restricted_init: table::RESTRICTED_INIT.default,
        }
    }

    /// Sets how often digests are exchanged.
    #[must_use]
    pub fn with_sync_interval(mut self, interval: Duration) -> Self {
        match &mut self {
            Self::PubSub { sync_interval } | Self::Gossip { sync_interval, .. } => *sync_interval = interval,
        }
        self
    }

    /// Sets how many members are told at a time. Of `gossip`; `pub_sub` stays what it is.
    #[must_use]
    pub fn with_recipients(mut self, count: u32) -> Self {
        if let Self::Gossip { recipients, .. } = &mut self {
            *recipients = count;
        }
        self
    }

    /// Sets whether only one member begins the exchange of digests. Of `gossip`; `pub_sub` stays what it is.
    #[must_use]
    pub fn with_restricted_init(mut self, is_restricted: bool) -> Self {
        if let Self::Gossip { restricted_init, .. } = &mut self {
            *restricted_init = is_restricted;
        }
        self
    }
}

impl Default for ReplicationFactor {
    fn default() -> Self {
        Self::Count(u32::try_from(table::REPLICATION_FACTOR.default).unwrap_or(u32::MAX))
    }
}

impl Redundancy {
    /// Several instances, with the defaults: two, both active, told nothing.
    #[must_use]
    pub fn replication() -> Self {
        Self::Replication {
            factor: ReplicationFactor::default(),
            model: ReplicationModel::default(),
            signal: RedundancySignal::default(),
        }
    }

    /// Decided by this strategy: how many instances a child has, which of them are active, and who is told.
    ///
    /// # Examples
    /// ```
    /// use process_hub::config::{HubConfig, Redundancy};
    /// use process_hub::ids::{ChildId, NodeRef};
    /// use process_hub::spec::Mode;
    /// use process_hub::strategy::{self, Actives};
    ///
    /// /// Two instances; the second of the placement is active.
    /// #[derive(Debug)]
    /// struct SecondIsActive;
    ///
    /// impl strategy::Redundancy for SecondIsActive {
    ///     fn name(&self) -> &'static str {
    ///         "second_is_active"
    ///     }
    ///     fn factor(&self, _members: usize) -> usize {
    ///         2
    ///     }
    ///     fn actives(&self, _child: &ChildId, _placement: &[&NodeRef]) -> Actives {
    ///         Actives::One(1)
    ///     }
    ///     fn is_told(&self, _mode: Mode) -> bool {
    ///         true
    ///     }
    /// }
    ///
    /// let config = HubConfig::new("orders")?.with_redundancy(Redundancy::custom(SecondIsActive));
    /// # Ok::<(), process_hub::error::Error>(())
    /// ```
    pub fn custom(strategy: impl crate::strategy::Redundancy + 'static) -> Self {
        Self::Custom(super::Custom(std::sync::Arc::new(strategy)))
    }

    /// Sets how many instances a child has. Of `replication`; `singularity` stays what it is.
    #[must_use]
    pub fn with_factor(mut self, new_factor: ReplicationFactor) -> Self {
        if let Self::Replication { factor, .. } = &mut self {
            *factor = new_factor;
        }
        self
    }

    /// Sets which instances are active. Of `replication`; `singularity` stays what it is.
    #[must_use]
    pub fn with_model(mut self, new_model: ReplicationModel) -> Self {
        if let Self::Replication { model, .. } = &mut self {
            *model = new_model;
        }
        self
    }

    /// Sets which roles the instances are told. Of `replication`; `singularity` stays what it is.
    #[must_use]
    pub fn with_signal(mut self, new_signal: RedundancySignal) -> Self {
        if let Self::Replication { signal, .. } = &mut self {
            *signal = new_signal;
        }
        self
    }
}

impl Distribution {
    /// By the members' loads, with the defaults.
    #[must_use]
    pub const fn load_balanced() -> Self {
        Self::LoadBalanced {
            max_history_size: table::MAX_HISTORY_SIZE.default as u32,
            weight_decay_factor: table::WEIGHT_DECAY_FACTOR.default,
            push_interval: table::PUSH_INTERVAL_MS.default_duration(),
            nodeup_redistribution: table::NODEUP_REDISTRIBUTION.default,
        }
    }

    /// Sets how often each member measures its load and tells the others. Of `load_balanced`; the others stay what they
    /// are.
    #[must_use]
    pub fn with_push_interval(mut self, interval: Duration) -> Self {
        if let Self::LoadBalanced { push_interval, .. } = &mut self {
            *push_interval = interval;
        }
        self
    }

    /// Sets how many measured loads a score is made of, and what each counts relative to the one after it. Of
    /// `load_balanced`.
    #[must_use]
    pub fn with_history(mut self, size: u32, decay_factor: f64) -> Self {
        if let Self::LoadBalanced { max_history_size, weight_decay_factor, .. } = &mut self {
            (*max_history_size, *weight_decay_factor) = (size, decay_factor);
        }
        self
    }

    /// Sets whether a node that joins is given its share of the children that run already. Of `load_balanced`.
    #[must_use]
    pub fn with_nodeup_redistribution(mut self, is_redistributed: bool) -> Self {
        if let Self::LoadBalanced { nodeup_redistribution, .. } = &mut self {
            *nodeup_redistribution = is_redistributed;
        }
        self
    }

    /// Shares out the children by a rule of the user's own: see [`crate::strategy::Distribution`]. The engine calls it:
    /// it must be fast and never wait.
    pub fn custom(strategy: impl crate::strategy::Distribution + 'static) -> Self {
        Self::Custom(super::Custom(std::sync::Arc::new(strategy)))
    }
}

impl Default for Migration {
    fn default() -> Self {
        Self::cold_swap()
    }
}

impl PartitionTolerance {
    /// So many members, with the defaults.
    #[must_use]
    pub const fn static_quorum(quorum_size: u32) -> Self {
        let lease = table::LEASE_MS.default_duration();
        Self::StaticQuorum { quorum_size, startup_confirm: table::STARTUP_CONFIRM.default, lease }
    }

    /// This share of the members in percent, with the defaults.
    #[must_use]
    pub const fn dynamic_quorum(quorum_size: u32) -> Self {
        let lease = table::LEASE_MS.default_duration();
        Self::DynamicQuorum { quorum_size, threshold_time: table::THRESHOLD_TIME_MS.default_duration(), lease }
    }

    /// More than half of the members, with the defaults; so many begin a cluster together.
    #[must_use]
    pub const fn majority_quorum(initial_cluster_size: u32) -> Self {
        let lease = table::LEASE_MS.default_duration();
        Self::MajorityQuorum { initial_cluster_size, track_max_size: table::TRACK_MAX_SIZE.default, lease }
    }

    /// Sets how long a node may run children after a quorum last heard of it.
    #[must_use]
    pub fn with_lease(mut self, lasts: Duration) -> Self {
        match &mut self {
            Self::Divergence => {}
            Self::StaticQuorum { lease, .. }
            | Self::DynamicQuorum { lease, .. }
            | Self::MajorityQuorum { lease, .. } => *lease = lasts,
        }
        self
    }
}

impl Migration {
    /// Stop, then start, with the defaults.
    #[must_use]
    pub const fn cold_swap() -> Self {
        Self::ColdSwap {
            handover: table::HANDOVER.default,
            handover_data_wait: table::HANDOVER_DATA_WAIT_MS.default_duration(),
        }
    }

    /// Start, hand over, stop, with the defaults.
    #[must_use]
    pub const fn hot_swap() -> Self {
        Self::HotSwap {
            retention: table::RETENTION_MS.default_duration(),
            handover: table::HANDOVER.default,
            confirm_handover: table::CONFIRM_HANDOVER.default,
            handover_data_wait: table::HANDOVER_DATA_WAIT_MS.default_duration(),
            child_migration_timeout: table::CHILD_MIGRATION_TIMEOUT_MS.default_duration(),
        }
    }

    /// Sets whether the state goes along.
    #[must_use]
    pub fn with_handover(mut self, has_handover: bool) -> Self {
        match &mut self {
            Self::ColdSwap { handover, .. } | Self::HotSwap { handover, .. } => {
                *handover = has_handover;
            }
            Self::Hosted(hosted) => *hosted.base = hosted.base.clone().with_handover(has_handover),
        }
        self
    }

    /// As `base` says, in the order that the host's strategy of this name says: see [`crate::hub::HubBuilder::decide`].
    #[must_use]
    pub fn hosted(name: &str, base: Self) -> Self {
        Self::Hosted(super::Hosted::new(name, base))
    }
}
