//! How a child moves when the view changes.

use std::fmt;
use std::time::Duration;

use crate::spec::ChildSpec;

/// How long a start after a cold swap may take; hot swap has an option for it.
const COLD_SWAP_START_TIMEOUT: Duration = Duration::from_secs(10);

/// How one child moves (R5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovePlan {
    /// Whether the new instance starts before the old one stops.
    pub hot: bool,
    /// Whether the state goes along. Without it the new instance starts fresh, and that is no loss (R8).
    pub handover: bool,
    /// How long the outgoing instance lives on, fenced and unlisted, when its state was not delivered. Zero stops it
    /// at once. It never ends an instance whose state is still wanted.
    pub retention: Duration,
    /// How long ending `run` and `prepare_handover_state` may take together.
    pub handover_data_wait: Duration,
    /// How long the new instance may take to start.
    pub start_timeout: Duration,
    /// Whether `children_migrated` waits until the target's `alter_handover_state` returned.
    pub confirm: bool,
}

/// Decides how a child moves.
///
/// Asked once for each move, on the node that has the child; the plan goes to the target with the move. Whatever
/// the plan, a failed move leaves the child with its old instance, and the whole move ends within
/// `migration_base_timeout_ms`.
pub trait Migration: Send + Sync + fmt::Debug {
    /// The name in the configuration and in logs.
    fn name(&self) -> &'static str;

    /// How to move this child. `has_state` says whether its kind has a state that can be handed over; a plan with
    /// `handover` for a kind without is one whose hand-over is empty.
    fn plan(&self, child: &ChildSpec, has_state: bool) -> MovePlan;

    /// Name and `handover`, compared between the nodes of a hub.
    fn fingerprint(&self) -> String {
        self.name().to_owned()
    }
}

/// Stop, then start: never two instances, and a pause of one stop and one start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColdSwap {
    /// Whether the state goes along.
    pub handover: bool,
    /// How long ending `run` and `prepare_handover_state` may take together.
    pub handover_data_wait: Duration,
}

impl Migration for ColdSwap {
    fn name(&self) -> &'static str {
        "cold_swap"
    }

    fn plan(&self, _child: &ChildSpec, has_state: bool) -> MovePlan {
        MovePlan {
            hot: false,
            handover: self.handover && has_state,
            retention: Duration::ZERO,
            handover_data_wait: self.handover_data_wait,
            start_timeout: COLD_SWAP_START_TIMEOUT,
            confirm: false,
        }
    }

    fn fingerprint(&self) -> String {
        fingerprint(self.name(), self.handover)
    }
}

/// Start, hand over, stop: the new instance is ready before the old one is frozen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HotSwap {
    /// How long an outgoing instance whose state was not delivered lives on.
    pub retention: Duration,
    /// Whether the state goes along.
    pub handover: bool,
    /// Whether `children_migrated` waits for `alter_handover_state`.
    pub confirm_handover: bool,
    /// How long ending `run` and `prepare_handover_state` may take together.
    pub handover_data_wait: Duration,
    /// How long the new instance may take to start.
    pub child_migration_timeout: Duration,
}

impl Migration for HotSwap {
    fn name(&self) -> &'static str {
        "hot_swap"
    }

    fn plan(&self, _child: &ChildSpec, has_state: bool) -> MovePlan {
        let handover = self.handover && has_state;
        MovePlan {
            hot: true,
            handover,
            retention: self.retention,
            handover_data_wait: self.handover_data_wait,
            start_timeout: self.child_migration_timeout,
            confirm: handover && self.confirm_handover,
        }
    }

    fn fingerprint(&self) -> String {
        fingerprint(self.name(), self.handover)
    }
}

fn fingerprint(name: &str, handover: bool) -> String {
    format!("{name} handover={handover}")
}
