//! Checks a configuration as a whole: what documents and configurations made in Rust have in common.

use std::collections::BTreeSet;
use std::time::Duration;

use super::defaults::{self as table, Fraction, Number};
use super::problem::{Problems, invalid_config};
use super::{
    Distribution, HubConfig, Migration, PartitionTolerance, Profile, Redundancy, ReplicationFactor, Synchronization,
    node,
};
use crate::error::Error;

impl HubConfig {
    /// Checks every range, as starting a hub does.
    ///
    /// # Errors
    /// One `invalid_config` whose message lists all problems as `path: problem`.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        let mut ids = BTreeSet::new();
        for (index, spec) in self.child_specs.iter().enumerate() {
            if !ids.insert(&spec.id) {
                let path = format!("child_specs[{index}].id");
                problems.add(path, format!("{} is in the list twice", spec.id));
            }
        }
        self.check_options(&mut problems);
        problems.into_result(()).map_err(|problems| invalid_config(&problems))
    }

    /// Everything but the static children, whose reader checks them.
    pub(super) fn check_options(&self, problems: &mut Problems) {
        if let Some(node) = &self.node {
            node::check(node, "node", problems);
        }
        if let Redundancy::Replication { factor: ReplicationFactor::Count(count), .. } = self.redundancy {
            check_number(&table::REPLICATION_FACTOR, u64::from(count), problems);
        }
        check_migration(&self.migration, problems);
        check_partition_tolerance(self, problems);
        check_duration(&table::SYNC_INTERVAL_MS, self.synchronization.sync_interval(), problems);
        if let Synchronization::Gossip { recipients, .. } = self.synchronization {
            check_number(&table::RECIPIENTS, u64::from(recipients), problems);
        }
        check_distribution(&self.distribution, problems);
        check_restart(self, problems);
        for (option, value) in [
            (&table::HUBS_DISCOVER_INTERVAL_MS, self.hubs_discover_interval),
            (&table::DEADLOCK_RECOVERY_TIMEOUT_MS, self.deadlock_recovery_timeout),
            (&table::MIGRATION_BASE_TIMEOUT_MS, self.migration_base_timeout),
            (&table::SHUTDOWN_TIMEOUT_MS, self.shutdown_timeout),
        ] {
            check_duration(option, value, problems);
        }
        let host_threads = u64::try_from(self.host_threads).unwrap_or(u64::MAX);
        check_number(&table::HOST_THREADS, host_threads, problems);
        check_profile(&self.profile, problems);
    }
}

/// What is wrong with a strategy of the host's whose base is one again.
const BASE_IS_BUILT_IN: &str = "must be a built-in";

fn check_number(option: &Number, value: u64, problems: &mut Problems) {
    if let Some(what) = option.refusal(value) {
        problems.add(option.path, what);
    }
}

fn check_duration(option: &Number, value: Duration, problems: &mut Problems) {
    let value_ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    check_number(option, value_ms, problems);
}

fn check_migration(migration: &Migration, problems: &mut Problems) {
    match migration {
        Migration::ColdSwap { handover: _, handover_data_wait } => {
            check_duration(&table::HANDOVER_DATA_WAIT_MS, *handover_data_wait, problems)
        }
        Migration::HotSwap {
            retention,
            handover: _,
            confirm_handover: _,
            handover_data_wait,
            child_migration_timeout,
        } => {
            check_duration(&table::HANDOVER_DATA_WAIT_MS, *handover_data_wait, problems);
            check_duration(&table::RETENTION_MS, *retention, problems);
            check_duration(&table::CHILD_MIGRATION_TIMEOUT_MS, *child_migration_timeout, problems);
        }
        Migration::Hosted(hosted) => {
            if !super::reader::is_label(&hosted.name) {
                problems.add(table::MIGRATION_NAME.path, "must have 1 to 255 bytes");
            }
            match &*hosted.base {
                Migration::Hosted(_) => problems.add("migration.base.type", BASE_IS_BUILT_IN),
                base @ (Migration::ColdSwap { .. } | Migration::HotSwap { .. }) => check_migration(base, problems),
            }
        }
    }
}

fn check_partition_tolerance(config: &HubConfig, problems: &mut Problems) {
    match &config.partition_tolerance {
        PartitionTolerance::Divergence => return,
        PartitionTolerance::StaticQuorum { quorum_size, startup_confirm: _, lease } => {
            check_number(&table::QUORUM_COUNT, (*quorum_size).into(), problems);
            check_duration(&table::LEASE_MS, *lease, problems);
        }
        PartitionTolerance::DynamicQuorum { quorum_size, threshold_time, lease } => {
            check_number(&table::QUORUM_PERCENT, (*quorum_size).into(), problems);
            check_duration(&table::THRESHOLD_TIME_MS, *threshold_time, problems);
            check_duration(&table::LEASE_MS, *lease, problems);
        }
        PartitionTolerance::MajorityQuorum { initial_cluster_size, track_max_size: _, lease } => {
            check_number(&table::INITIAL_CLUSTER_COUNT, (*initial_cluster_size).into(), problems);
            check_duration(&table::LEASE_MS, *lease, problems);
        }
    }
    if config.node.as_ref().is_some_and(|node| node.name.is_none()) {
        problems.add(table::NODE_NAME.path, NAME_NEEDED);
    }
}

/// Why a node without a name of its own cannot run a hub with a quorum (R10).
pub(crate) const NAME_NEEDED: &str = "is required under a quorum strategy: members are counted by name, and a random one is another member at each start";

fn check_distribution(distribution: &Distribution, problems: &mut Problems) {
    let Distribution::LoadBalanced { max_history_size, weight_decay_factor, push_interval, nodeup_redistribution: _ } =
        distribution
    else {
        return;
    };
    check_number(&table::MAX_HISTORY_SIZE, u64::from(*max_history_size), problems);
    check_duration(&table::PUSH_INTERVAL_MS, *push_interval, problems);
    if !Fraction::RANGE.contains(weight_decay_factor) {
        problems.add(table::WEIGHT_DECAY_FACTOR.path, Fraction::refusal(&weight_decay_factor.to_string()));
    }
}

fn check_restart(config: &HubConfig, problems: &mut Problems) {
    let restart = &config.restart;
    check_number(&table::MAX_RESTARTS, restart.max_restarts.into(), problems);
    check_duration(&table::RESTART_WINDOW_MS, restart.window, problems);
    let (first, longest) = restart.backoff;
    let max = Duration::from_millis(table::BACKOFF_MAX_MS);
    if first > longest || longest > max {
        problems.add(
            table::BACKOFF_MS.path,
            format!(
                "must be 0 to {}, the first not above the longest, not [{}, {}]",
                table::BACKOFF_MAX_MS,
                first.as_millis(),
                longest.as_millis()
            ),
        );
    }
}

pub(super) fn check_profile(profile: &Profile, problems: &mut Problems) {
    for (option, value) in [
        (&table::PROBE_PERIOD_MS, profile.probe_period),
        (&table::PROBE_TIMEOUT_MS, profile.probe_timeout),
        (&table::SUSPICION_MS, profile.suspicion),
        (&table::VERIFY_MS, profile.verify),
        (&table::GOSSIP_MS, profile.gossip),
        (&table::VIEW_DEBOUNCE_MS, profile.view_debounce),
    ] {
        check_duration(option, value, problems);
    }
    if profile.probe_timeout >= profile.probe_period {
        problems.add(
            table::PROBE_TIMEOUT_MS.path,
            format!(
                "must be below probe_period_ms ({}), not {}",
                profile.probe_period.as_millis(),
                profile.probe_timeout.as_millis()
            ),
        );
    }
}
