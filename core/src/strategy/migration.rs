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

    /// The options all nodes of a hub must share, with their values; the name is shared anyway.
    fn shared_options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
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

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        vec![("handover", self.handover.to_string())]
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

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        vec![("handover", self.handover.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOT: HotSwap = HotSwap {
        retention: Duration::from_millis(5000),
        handover: true,
        confirm_handover: true,
        handover_data_wait: Duration::from_millis(3000),
        child_migration_timeout: Duration::from_millis(10_000),
    };
    const COLD: ColdSwap = ColdSwap { handover: true, handover_data_wait: Duration::from_millis(3000) };

    fn child() -> ChildSpec {
        ChildSpec::new("cart:1", "cart").expect("a valid spec")
    }

    #[test]
    fn hot_swap_then_the_plan_carries_its_options() {
        let expected = MovePlan {
            hot: true,
            handover: true,
            retention: Duration::from_millis(5000),
            handover_data_wait: Duration::from_millis(3000),
            start_timeout: Duration::from_millis(10_000),
            confirm: true,
        };
        assert_eq!(HOT.plan(&child(), true), expected);
    }

    #[test]
    fn kind_without_state_then_nothing_is_handed_over_or_confirmed() {
        let plan = HOT.plan(&child(), false);
        assert!(!plan.handover && !plan.confirm);
        assert!(!COLD.plan(&child(), false).handover);
    }

    #[test]
    fn cold_swap_then_the_old_instance_goes_first_and_is_not_retained() {
        let plan = COLD.plan(&child(), true);
        assert!(!plan.hot && plan.handover && !plan.confirm);
        assert_eq!(plan.retention, Duration::ZERO);
    }
}
