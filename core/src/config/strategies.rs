//! Reads the five strategy families of the document.

use super::defaults as table;
use super::problem::Problems;
use super::reader::Section;
use super::{
    Distribution, Fallback, Hosted, Migration, PartitionTolerance, Redundancy, RedundancySignal, ReplicationFactor,
    ReplicationModel, Synchronization,
};

/// Options that only `hot_swap` has.
const HOT_SWAP_ONLY: &[&str] =
    &[table::RETENTION_MS.path, table::CONFIRM_HANDOVER.path, table::CHILD_MIGRATION_TIMEOUT_MS.path];

pub(super) fn redundancy(root: &mut Section<'_>, problems: &mut Problems) -> Redundancy {
    let Some(mut section) = root.section(table::REDUNDANCY.key, problems) else {
        return Redundancy::default();
    };
    let Some(name) = section.strategy_type(&table::REDUNDANCY, problems) else {
        return Redundancy::default();
    };
    let redundancy = if name == "replication" {
        let models = [ReplicationModel::ActiveActive, ReplicationModel::ActivePassive];
        let signals =
            [RedundancySignal::None, RedundancySignal::Active, RedundancySignal::Passive, RedundancySignal::All];
        Redundancy::Replication {
            factor: replication_factor(&mut section, problems),
            model: section.choice("replication_model", models.map(|one| (one.name(), one)), problems),
            signal: section.choice("redundancy_signal", signals.map(|one| (one.name(), one)), problems),
        }
    } else {
        Redundancy::Singularity
    };
    section.finish(problems);
    redundancy
}

fn replication_factor(section: &mut Section<'_>, problems: &mut Problems) -> ReplicationFactor {
    let option = &table::REPLICATION_FACTOR;
    let Some(value) = section.value(super::reader::last_key(option.path)) else {
        return ReplicationFactor::default();
    };
    if value.as_str() == Some(table::CLUSTER_SIZE) {
        return ReplicationFactor::ClusterSize;
    }
    match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
        // Its range is checked with the other options.
        Some(count) => ReplicationFactor::Count(count),
        None => {
            let what = format!(
                "must be a whole number ({} to {}) or \"{}\", not {}",
                option.min,
                option.max,
                table::CLUSTER_SIZE,
                super::reader::show(value)
            );
            problems.add(option.path, what);
            ReplicationFactor::default()
        }
    }
}

pub(super) fn partition_tolerance(root: &mut Section<'_>, problems: &mut Problems) -> PartitionTolerance {
    let family = &table::PARTITION_TOLERANCE;
    let Some(mut section) = root.section(family.key, problems) else {
        return PartitionTolerance::default();
    };
    let Some(name) = section.strategy_type(family, problems) else {
        return PartitionTolerance::default();
    };
    let strategy = match name {
        "static_quorum" => PartitionTolerance::StaticQuorum {
            quorum_size: section.required_number(&table::QUORUM_COUNT, problems),
            startup_confirm: section.flag(&table::STARTUP_CONFIRM, problems),
            lease: section.duration(&table::LEASE_MS, problems),
        },
        "dynamic_quorum" => PartitionTolerance::DynamicQuorum {
            quorum_size: section.required_number(&table::QUORUM_PERCENT, problems),
            threshold_time: section.duration(&table::THRESHOLD_TIME_MS, problems),
            lease: section.duration(&table::LEASE_MS, problems),
        },
        "majority_quorum" => PartitionTolerance::MajorityQuorum {
            initial_cluster_size: section.required_number(&table::INITIAL_CLUSTER_COUNT, problems),
            track_max_size: section.flag(&table::TRACK_MAX_SIZE, problems),
            lease: section.duration(&table::LEASE_MS, problems),
        },
        _ => PartitionTolerance::Divergence,
    };
    section.finish(problems);
    strategy
}

pub(super) fn distribution(root: &mut Section<'_>, problems: &mut Problems) -> Distribution {
    let Some(mut section) = root.section(table::DISTRIBUTION.key, problems) else {
        return Distribution::default();
    };
    let Some(name) = section.strategy_type(&table::DISTRIBUTION, problems) else {
        return Distribution::default();
    };
    let distribution = match name {
        "guided" => {
            let fallbacks = [Fallback::Wait, Fallback::ConsistentHashing];
            let fallback = section.choice("fallback", fallbacks.map(|one| (one.name(), one)), problems);
            Distribution::Guided { fallback }
        }
        "load_balanced" => Distribution::LoadBalanced {
            // The table's range fits.
            max_history_size: u32::try_from(section.number(&table::MAX_HISTORY_SIZE, problems)).unwrap_or(u32::MAX),
            weight_decay_factor: section.fraction(&table::WEIGHT_DECAY_FACTOR, problems),
            push_interval: section.duration(&table::PUSH_INTERVAL_MS, problems),
            nodeup_redistribution: section.flag(&table::NODEUP_REDISTRIBUTION, problems),
        },
        _ => Distribution::ConsistentHashing,
    };
    section.finish(problems);
    distribution
}

pub(super) fn synchronization(root: &mut Section<'_>, problems: &mut Problems) -> Synchronization {
    let default = Synchronization::default();
    let Some(mut section) = root.section(table::SYNCHRONIZATION.key, problems) else {
        return default;
    };
    let Some(name) = section.strategy_type(&table::SYNCHRONIZATION, problems) else {
        return default;
    };
    let sync_interval = section.duration(&table::SYNC_INTERVAL_MS, problems);
    let synchronization = if name == "gossip" {
        Synchronization::Gossip {
            sync_interval,
            // The table's range fits.
            recipients: u32::try_from(section.number(&table::RECIPIENTS, problems)).unwrap_or(u32::MAX),
            restricted_init: section.flag(&table::RESTRICTED_INIT, problems),
        }
    } else {
        Synchronization::PubSub { sync_interval }
    };
    section.finish(problems);
    synchronization
}

pub(super) fn migration(root: &mut Section<'_>, problems: &mut Problems) -> Migration {
    let section = root.section(table::MIGRATION.key, problems);
    section.map_or_else(Migration::default, |section| read_migration(section, problems))
}

fn read_migration(mut section: Section<'_>, problems: &mut Problems) -> Migration {
    let Some(name) = section.strategy_type(&table::MIGRATION, problems) else {
        return Migration::default();
    };
    if name == table::CUSTOM {
        return Migration::Hosted(hosted(section, problems, read_migration));
    }
    let handover = section.flag(&table::HANDOVER, problems);
    let handover_data_wait = section.duration(&table::HANDOVER_DATA_WAIT_MS, problems);
    let migration = if name == "hot_swap" {
        Migration::HotSwap {
            retention: section.duration(&table::RETENTION_MS, problems),
            handover,
            confirm_handover: section.flag(&table::CONFIRM_HANDOVER, problems),
            handover_data_wait,
            child_migration_timeout: section.duration(&table::CHILD_MIGRATION_TIMEOUT_MS, problems),
        }
    } else {
        refuse_hot_swap_options(&mut section, problems);
        Migration::ColdSwap { handover, handover_data_wait }
    };
    section.finish(problems);
    migration
}

/// A strategy of the host's, over a built-in that `read` reads. What neither may be is checked with the other options.
fn hosted<T: Default>(
    mut section: Section<'_>,
    problems: &mut Problems,
    read: fn(Section<'_>, &mut Problems) -> T,
) -> Hosted<T> {
    if section.value("name").is_none() {
        problems.add(section.path_of("name"), "is required");
    }
    // Without a usable name a stand-in, so that the rest is checked too.
    let name = section.text("name", problems).unwrap_or("?");
    let base = section.section("base", problems);
    let base = base.map_or_else(T::default, |base| read(base, problems));
    section.finish(problems);
    Hosted::new(name, base)
}

fn refuse_hot_swap_options(section: &mut Section<'_>, problems: &mut Problems) {
    for path in HOT_SWAP_ONLY {
        if section.value(super::reader::last_key(path)).is_some() {
            problems.add(section.path_of(super::reader::last_key(path)), "is an option of hot_swap, not of cold_swap");
        }
    }
}
