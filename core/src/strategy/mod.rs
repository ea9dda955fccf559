//! The decisions a user can replace: traits of the five families, and their built-ins.
//!
//! A strategy is a pure function with options: it is given what it decides about, and keeps no state of the
//! cluster. Nodes that are given the same must answer the same, on every platform and in every build: no clock, no
//! float, no hash-order iteration, no randomness but the generator that is handed in. All traits are object-safe; a
//! custom strategy is a value behind an [`Arc`] in [`Strategies`].

mod balanced;
pub mod distribution;
mod guided;
mod hosted;
mod log2;
pub mod migration;
pub mod partition_tolerance;
pub mod redundancy;
mod rendezvous;
pub mod synchronization;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use balanced::{Accounts, History, capacity, thousandths};
pub use balanced::{LoadBalanced, LoadSample};
pub use distribution::{Candidate, Distribution, LoadOptions, Placements, ZONE_LABEL, weight_thousandths};
pub use guided::Guided;
pub use hosted::{Family, Question};
pub use migration::{ColdSwap, HotSwap, Migration, MovePlan};
pub use partition_tolerance::{
    Divergence, DynamicQuorum, MajorityQuorum, PartitionTolerance, PartitionView, QuorumOptions, QuorumRule,
    StaticQuorum, Verdict,
};
pub use redundancy::{Actives, Redundancy, Replication, Singularity};
pub use rendezvous::ConsistentHashing;
pub use synchronization::{Gossip, PubSub, Recipients, Synchronization};

use crate::config::{self, HubConfig};
use crate::error::Error;
use crate::spec::ChildSpec;

/// The strategies of one hub, one of each family.
#[derive(Clone, Debug)]
pub struct Strategies {
    /// How many instances a child has, and which are active.
    pub redundancy: Arc<dyn Redundancy>,
    /// How a child moves.
    pub migration: Arc<dyn Migration>,
    /// How the registry travels.
    pub synchronization: Arc<dyn Synchronization>,
    /// Whether this side of the cluster may run children.
    pub partition_tolerance: Arc<dyn PartitionTolerance>,
    /// Who runs what.
    pub distribution: Arc<dyn Distribution>,
    /// The families of which the host decides, with the names of its strategies. The family's own is then what decides
    /// where the host does not.
    pub hosted: BTreeMap<Family, String>,
}

impl Strategies {
    /// The built-in strategies a configuration names.
    #[must_use]
    pub fn from_config(config: &HubConfig) -> Self {
        Self {
            redundancy: match &config.redundancy {
                config::Redundancy::Singularity => Arc::new(Singularity),
                config::Redundancy::Replication { factor, model, signal } => {
                    Arc::new(Replication { factor: *factor, model: *model, signal: *signal })
                }
                config::Redundancy::Custom(custom) => Arc::clone(&custom.0),
            },
            migration: migration(&config.migration),
            synchronization: match config.synchronization {
                config::Synchronization::PubSub { sync_interval } => Arc::new(PubSub { sync_interval }),
                config::Synchronization::Gossip { sync_interval, recipients, restricted_init } => {
                    Arc::new(Gossip { sync_interval, recipients, restricted_init })
                }
            },
            partition_tolerance: match config.partition_tolerance {
                config::PartitionTolerance::Divergence => Arc::new(Divergence),
                config::PartitionTolerance::StaticQuorum { quorum_size, startup_confirm, lease } => {
                    Arc::new(StaticQuorum { quorum_size, startup_confirm, lease })
                }
                config::PartitionTolerance::DynamicQuorum { quorum_size, threshold_time, lease } => {
                    Arc::new(DynamicQuorum { quorum_size, threshold_time, lease })
                }
                config::PartitionTolerance::MajorityQuorum { initial_cluster_size, track_max_size, lease } => {
                    Arc::new(MajorityQuorum { initial_cluster_size, track_max_size, lease })
                }
            },
            distribution: match &config.distribution {
                config::Distribution::ConsistentHashing => Arc::new(ConsistentHashing),
                config::Distribution::Guided { fallback } => Arc::new(Guided { fallback: *fallback }),
                config::Distribution::LoadBalanced {
                    max_history_size,
                    weight_decay_factor,
                    push_interval,
                    nodeup_redistribution,
                } => Arc::new(LoadBalanced {
                    max_history_size: usize::try_from(*max_history_size).unwrap_or(usize::MAX),
                    weight_decay: thousandths(*weight_decay_factor),
                    push_interval: *push_interval,
                    nodeup_redistribution: *nodeup_redistribution,
                }),
                config::Distribution::Custom(custom) => Arc::clone(&custom.0),
            },
            hosted: config.hosted().into_iter().map(|(family, name)| (family, name.to_owned())).collect(),
        }
    }

    /// The one that is active owns the child: where the redundancy chooses another than the first, it comes first.
    fn put_actives_first(&self, candidates: &[Candidate<'_>], children: &[&ChildSpec], placements: &mut Placements) {
        for (position, child) in children.iter().enumerate() {
            let chosen = placements.get(position);
            if chosen.len() < 2 {
                continue;
            }
            let nodes: Vec<_> = chosen.iter().map(|&index| candidates[index as usize].node).collect();
            if let Actives::One(active) = self.redundancy.actives(&child.id, &nodes) {
                placements.put_first(position, active);
            }
        }
    }

    /// Asks the distribution, checks its answer, and takes that of [`ConsistentHashing`] where it makes no sense:
    /// then returns what was wrong, for the hook `strategy_fallback`.
    ///
    /// # Errors
    /// `invalid_answer` as [`Placements::check`] says; `placements` are filled all the same.
    pub fn place(
        &self,
        candidates: &[Candidate<'_>],
        children: &[&ChildSpec],
        factor: usize,
        placements: &mut Placements,
    ) -> Result<(), Error> {
        placements.clear();
        self.distribution.place(candidates, children, factor, placements);
        let checked = placements.check(candidates, children, factor);
        if checked.is_err() {
            placements.clear();
            ConsistentHashing.place(candidates, children, factor, placements);
        }
        if factor > 1 {
            self.put_actives_first(candidates, children, placements);
        }
        checked
    }

    /// The options that all nodes of a hub must share, as path and value, such as `migration.handover` and `true`.
    /// Synchronization is not among them: it may differ.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<(String, String)> {
        let redundancy = &self.redundancy;
        let migration = &self.migration;
        let partition_tolerance = &self.partition_tolerance;
        let distribution = &self.distribution;
        let families = [
            (Family::Redundancy, redundancy.name(), redundancy.shared_options()),
            (Family::Migration, migration.name(), migration.shared_options()),
            (Family::PartitionTolerance, partition_tolerance.name(), partition_tolerance.shared_options()),
            (Family::Distribution, distribution.name(), distribution.shared_options()),
        ];
        let mut fingerprint = Vec::new();
        for (family, name, options) in families {
            let mut path = family.name().to_owned();
            if let Some(hosted) = self.hosted.get(&family) {
                fingerprint.push((format!("{path}.type"), format!("custom:{hosted}")));
                path.push_str(".base");
            }
            fingerprint.push((format!("{path}.type"), name.to_owned()));
            for (option, value) in options {
                fingerprint.push((format!("{path}.{option}"), value));
            }
        }
        fingerprint
    }
}

fn migration(config: &config::Migration) -> Arc<dyn Migration> {
    match *config {
        config::Migration::ColdSwap { handover, handover_data_wait } => {
            Arc::new(ColdSwap { handover, handover_data_wait })
        }
        config::Migration::HotSwap {
            retention,
            handover,
            confirm_handover,
            handover_data_wait,
            child_migration_timeout,
        } => Arc::new(HotSwap { retention, handover, confirm_handover, handover_data_wait, child_migration_timeout }),
        config::Migration::Hosted(ref hosted) => migration(&hosted.base),
    }
}

/// The first option in which two [fingerprints](Strategies::fingerprint) differ, with both values: the message of
/// `strategy_mismatch`. `None` when they agree.
#[must_use]
pub fn strategy_difference(ours: &[(String, String)], theirs: &[(String, String)]) -> Option<String> {
    let value_in = |fingerprint: &[(String, String)], path: &str| {
        let mut found = fingerprint.iter().filter(|(it, _)| it == path);
        found.next().map_or_else(|| "not set".to_owned(), |(_, value)| format!("`{value}`"))
    };
    ours.iter().chain(theirs).find_map(|(path, _)| {
        let (our, their) = (value_in(ours, path), value_in(theirs, path));
        (our != their).then(|| format!("`{path}` is {our} here and {their} there"))
    })
}

#[cfg(test)]
mod tests;
