//! The decisions a user can replace: traits of the five families, and their built-ins.
//!
//! A strategy is a pure function with options: it is given what it decides about, and keeps no state of the
//! cluster. Nodes that are given the same must answer the same, on every platform and in every build: no clock, no
//! float, no hash-order iteration, no randomness but the generator that is handed in. All traits are object-safe; a
//! custom strategy is a value behind an [`Arc`] in [`Strategies`].

pub mod distribution;
mod log2;
pub mod migration;
pub mod partition_tolerance;
pub mod redundancy;
mod rendezvous;
pub mod synchronization;

use std::sync::Arc;

pub use distribution::{Candidate, Distribution, Placements, ZONE_LABEL, weight_thousandths};
pub use migration::{ColdSwap, HotSwap, Migration, MovePlan};
pub use partition_tolerance::{Divergence, PartitionTolerance, PartitionView, Verdict};
pub use redundancy::{Actives, Redundancy, Singularity};
pub use rendezvous::ConsistentHashing;
pub use synchronization::{PubSub, Recipients, Synchronization};

use crate::config::{self, HubConfig};

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
}

impl Strategies {
    /// The built-in strategies a configuration names.
    #[must_use]
    pub fn from_config(config: &HubConfig) -> Self {
        Self {
            redundancy: match config.redundancy {
                config::Redundancy::Singularity => Arc::new(Singularity),
            },
            migration: match config.migration {
                config::Migration::ColdSwap {
                    handover,
                    handover_data_wait,
                } => Arc::new(ColdSwap {
                    handover,
                    handover_data_wait,
                }),
                config::Migration::HotSwap {
                    retention,
                    handover,
                    confirm_handover,
                    handover_data_wait,
                    child_migration_timeout,
                } => Arc::new(HotSwap {
                    retention,
                    handover,
                    confirm_handover,
                    handover_data_wait,
                    child_migration_timeout,
                }),
            },
            synchronization: match config.synchronization {
                config::Synchronization::PubSub { sync_interval } => {
                    Arc::new(PubSub { sync_interval })
                }
            },
            partition_tolerance: match config.partition_tolerance {
                config::PartitionTolerance::Divergence => Arc::new(Divergence),
            },
            distribution: match config.distribution {
                config::Distribution::ConsistentHashing => Arc::new(ConsistentHashing),
            },
        }
    }

    /// What the nodes of one hub compare when they meet: the option, and what it is set to here. A newcomer with a
    /// different value is refused with `strategy_mismatch`. Synchronization may differ.
    #[must_use]
    pub fn fingerprint(&self) -> [(&'static str, String); 4] {
        [
            ("redundancy", self.redundancy.fingerprint()),
            ("migration", self.migration.fingerprint()),
            (
                "partition_tolerance",
                self.partition_tolerance.fingerprint(),
            ),
            ("distribution", self.distribution.fingerprint()),
        ]
    }
}
