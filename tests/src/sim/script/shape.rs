//! What a scripted cluster is made of.

use std::time::Duration;

use process_hub::config::{HubConfig, Migration, PartitionTolerance, Redundancy, Synchronization};
use process_hub::spec::RestartPolicy;

use super::super::config::{ALL_HOOKS, FaultClasses, HostDraw, NetworkDraw, Swarm};
use super::super::host::Kind;
use super::super::user::Role;

/// Hot swap with hand-over, as ProcessHub's suite uses it.
#[must_use]
pub fn hot_swap() -> Migration {
    Migration::HotSwap {
        retention: Duration::from_secs(3),
        handover: true,
        confirm_handover: false,
        handover_data_wait: Duration::from_secs(3),
        child_migration_timeout: Duration::from_secs(10),
    }
}

/// Cold swap with hand-over.
#[must_use]
pub fn cold_swap() -> Migration {
    Migration::ColdSwap { handover: true, handover_data_wait: Duration::from_secs(3) }
}

/// The machines, the children and the options of a script. The rest is drawn: the delays of the network, which of the
/// two memberships tells who is there, how fast clocks and host code are, and in which batches inputs come.
#[derive(Clone, Debug)]
pub struct Shape {
    pub(crate) machines: usize,
    pub(crate) roles: Vec<Role>,
    redundancy: Redundancy,
    migration: Option<Migration>,
    sync_interval: Option<Duration>,
    tolerance: PartitionTolerance,
    is_quick: bool,
}

impl Shape {
    /// This many machines; none of them runs before the script starts it.
    #[must_use]
    pub const fn new(machines: usize) -> Self {
        Self {
            machines,
            roles: Vec::new(),
            redundancy: Redundancy::Singularity,
            migration: None,
            sync_interval: None,
            tolerance: PartitionTolerance::Divergence,
            is_quick: false,
        }
    }

    /// This many more children that count what they handled.
    #[must_use]
    pub fn counters(self, count: usize) -> Self {
        self.children(count, Kind::Counter, RestartPolicy::Permanent)
    }

    /// One more counting child with another restart policy.
    #[must_use]
    pub fn counter_that_is(self, restart: RestartPolicy) -> Self {
        self.children(1, Kind::Counter, restart)
    }

    fn children(mut self, count: usize, kind: Kind, restart: RestartPolicy) -> Self {
        let role = Role { kind, hub: 0, restart, pad_bytes: 20, is_wanted: false };
        self.roles.extend(std::iter::repeat_n(role, count));
        self
    }

    /// How many instances a child has; one without it.
    #[must_use]
    pub fn replicated(mut self, redundancy: Redundancy) -> Self {
        self.redundancy = redundancy;
        self
    }

    /// How children move; drawn without it.
    #[must_use]
    pub fn migrating_by(mut self, migration: Migration) -> Self {
        self.migration = Some(migration);
        self
    }

    /// How often registries are compared; drawn without it.
    #[must_use]
    pub const fn comparing_every(mut self, interval: Duration) -> Self {
        self.sync_interval = Some(interval);
        self
    }

    /// Who may run children; everybody without it.
    #[must_use]
    pub fn tolerating_by(mut self, tolerance: PartitionTolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// A network and a host that take a few milliseconds at most, for scripts that measure.
    #[must_use]
    pub const fn quick(mut self) -> Self {
        self.is_quick = true;
        self
    }

    /// Puts what the shape says in the place of what was drawn.
    pub(crate) fn overrule(&self, swarm: &mut Swarm) {
        swarm.nodes = self.machines;
        swarm.is_scripted = true;
        swarm.safety_us = u64::MAX;
        swarm.hubs.truncate(1);
        swarm.faults = FaultClasses::NONE;
        swarm.hooks = ALL_HOOKS;
        swarm.host = HostDraw { slow_ppm: 0, fail_ppm: 0, exit_ppm: 0, ..swarm.host };
        if self.is_quick {
            swarm.network = NetworkDraw { delay_min_us: 100, delay_spread_us: 3_000, ..swarm.network };
            swarm.host.delay_max_us = 1_000;
        }
        for hub in &mut swarm.hubs {
            self.configure(hub);
        }
    }

    fn configure(&self, hub: &mut HubConfig) {
        hub.redundancy = self.redundancy.clone();
        hub.partition_tolerance = self.tolerance.clone();
        if let Some(migration) = &self.migration {
            hub.migration = migration.clone();
        }
        if let Some(sync_interval) = self.sync_interval {
            hub.synchronization = Synchronization::PubSub { sync_interval };
        }
    }
}
