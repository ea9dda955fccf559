//! Writes a configuration as its JSON document.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Distribution, HubConfig, Migration, NodeConfig, PartitionTolerance, Profile, Redundancy, ReplicationFactor,
    Security, Synchronization, defaults as table,
};

impl HubConfig {
    /// The document [`Self::from_json`] reads, with every option spelled out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = json!({
            "hub_id": self.hub_id,
            "child_specs": self.child_specs.iter().map(crate::spec::ChildSpec::to_json).collect::<Vec<_>>(),
            "redundancy": redundancy(&self.redundancy),
            "migration": migration(&self.migration),
            "synchronization": synchronization(&self.synchronization),
            "partition_tolerance": partition_tolerance(&self.partition_tolerance),
            "distribution": distribution(&self.distribution),
            "restart": {
                "max_restarts": self.restart.max_restarts,
                "window_ms": ms(self.restart.window),
                "backoff_ms": [ms(self.restart.backoff.0), ms(self.restart.backoff.1)],
            },
            "hubs_discover_interval_ms": ms(self.hubs_discover_interval),
            "deadlock_recovery_timeout_ms": ms(self.deadlock_recovery_timeout),
            "migration_base_timeout_ms": ms(self.migration_base_timeout),
            "shutdown_timeout_ms": ms(self.shutdown_timeout),
            "host_threads": self.host_threads,
            "profile": profile(&self.profile),
        });
        if let (Some(node), Some(object)) = (&self.node, document.as_object_mut()) {
            object.insert("node".into(), node_document(node));
        }
        document
    }
}

/// Whole milliseconds; options are below a day, so nothing is cut off.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn redundancy(redundancy: &Redundancy) -> Value {
    match redundancy {
        Redundancy::Singularity => json!({"type": "singularity"}),
        Redundancy::Custom(custom) => json!({"type": "custom", "name": custom.0.name()}),
        Redundancy::Replication { factor, model, signal } => {
            let factor = match factor {
                ReplicationFactor::Count(count) => json!(count),
                ReplicationFactor::ClusterSize => json!(table::CLUSTER_SIZE),
            };
            json!({
                "type": "replication",
                "replication_factor": factor,
                "replication_model": model.name(),
                "redundancy_signal": signal.name(),
            })
        }
    }
}

fn migration(of: &Migration) -> Value {
    match of {
        Migration::ColdSwap { handover, handover_data_wait } => json!({
            "type": "cold_swap",
            "handover": handover,
            "handover_data_wait_ms": ms(*handover_data_wait),
        }),
        Migration::HotSwap { retention, handover, confirm_handover, handover_data_wait, child_migration_timeout } => {
            json!({
                "type": "hot_swap",
                "retention_ms": ms(*retention),
                "handover": handover,
                "confirm_handover": confirm_handover,
                "handover_data_wait_ms": ms(*handover_data_wait),
                "child_migration_timeout_ms": ms(*child_migration_timeout),
            })
        }
        Migration::Hosted(hosted) => {
            json!({"type": table::CUSTOM, "name": hosted.name, "base": migration(&hosted.base)})
        }
    }
}

fn synchronization(synchronization: &Synchronization) -> Value {
    match synchronization {
        Synchronization::PubSub { sync_interval } => {
            json!({"type": "pub_sub", "sync_interval_ms": ms(*sync_interval)})
        }
        Synchronization::Gossip { sync_interval, recipients, restricted_init } => json!({
            "type": "gossip",
            "sync_interval_ms": ms(*sync_interval),
            "recipients": recipients,
            "restricted_init": restricted_init,
        }),
    }
}

fn partition_tolerance(partition_tolerance: &PartitionTolerance) -> Value {
    match partition_tolerance {
        PartitionTolerance::Divergence => json!({"type": "divergence"}),
        PartitionTolerance::StaticQuorum { quorum_size, startup_confirm, lease } => json!({
            "type": "static_quorum",
            "quorum_size": quorum_size,
            "startup_confirm": startup_confirm,
            "lease_ms": ms(*lease),
        }),
        PartitionTolerance::DynamicQuorum { quorum_size, threshold_time, lease } => json!({
            "type": "dynamic_quorum",
            "quorum_size": quorum_size,
            "threshold_time_ms": ms(*threshold_time),
            "lease_ms": ms(*lease),
        }),
        PartitionTolerance::MajorityQuorum { initial_cluster_size, track_max_size, lease } => json!({
            "type": "majority_quorum",
            "initial_cluster_size": initial_cluster_size,
            "track_max_size": track_max_size,
            "lease_ms": ms(*lease),
        }),
    }
}

fn distribution(distribution: &Distribution) -> Value {
    match distribution {
        Distribution::ConsistentHashing => json!({"type": "consistent_hashing"}),
        Distribution::Guided { fallback } => json!({"type": "guided", "fallback": fallback.name()}),
        Distribution::LoadBalanced { max_history_size, weight_decay_factor, push_interval, nodeup_redistribution } => {
            json!({
                "type": "load_balanced",
                "max_history_size": max_history_size,
                "weight_decay_factor": weight_decay_factor,
                "push_interval_ms": ms(*push_interval),
                "nodeup_redistribution": nodeup_redistribution,
            })
        }
        Distribution::Custom(custom) => json!({"type": "custom", "name": custom.0.name()}),
    }
}

fn profile(profile: &Profile) -> Value {
    json!({
        "probe_period_ms": ms(profile.probe_period),
        "probe_timeout_ms": ms(profile.probe_timeout),
        "suspicion_ms": ms(profile.suspicion),
        "verify_ms": ms(profile.verify),
        "gossip_ms": ms(profile.gossip),
        "view_debounce_ms": ms(profile.view_debounce),
    })
}

fn node_document(node: &NodeConfig) -> Value {
    let security = match &node.security {
        Security::UserKey => json!({"mode": "key"}),
        Security::Key { key_file } => {
            json!({"mode": "key", "key_file": key_file.to_string_lossy()})
        }
        Security::InsecurePlaintext => json!({"mode": "insecure_plaintext"}),
    };
    json!({
        "name": node.name,
        "listen": node.listen,
        "advertise": node.advertise,
        "seeds": node.seeds,
        "security": security,
        "labels": node.labels,
        "weight": node.weight,
    })
}
