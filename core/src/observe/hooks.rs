//! The hooks: named points where the host may observe.

use std::fmt;
use std::time::Duration;

macro_rules! hooks {
    ($($variant:ident, $name:literal, $everywhere:literal, $payload:literal;)*) => {
        /// The name of a hook. Payloads are JSON objects.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum HookName {
            $(#[doc = concat!("`", $name, "` `", $payload, "`")] $variant,)*
        }

        impl HookName {
            /// Every hook.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The hook's name in every language.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it fires on every node, or only where it happens.
            #[must_use]
            pub const fn fires_everywhere(self) -> bool {
                match self { $(Self::$variant => $everywhere,)* }
            }

            /// The shape of its payload.
            #[must_use]
            pub const fn payload(self) -> &'static str {
                match self { $(Self::$variant => $payload,)* }
            }
        }
    };
}

hooks! {
    PreClusterJoin, "pre_cluster_join", true, "{node}";
    PostClusterJoin, "post_cluster_join", true, "{node}";
    PreClusterLeave, "pre_cluster_leave", true, "{node}";
    PostClusterLeave, "post_cluster_leave", true, "{node}";
    PreNodesRedistribution, "pre_nodes_redistribution", true, "{event, node}";
    PostNodesRedistribution, "post_nodes_redistribution", true, "{event, node}";
    PreChildrenStart, "pre_children_start", false, "{children}";
    PostChildrenStart, "post_children_start", false, "{children}";
    RegistryPidInserted, "registry_pid_inserted", true, "{child_id, instances}";
    RegistryPidRemoved, "registry_pid_removed", true, "{child_id, instances}";
    ChildProcessPidUpdated, "child_process_pid_updated", true, "{child_id, node, epoch}";
    ChildrenMigrated, "children_migrated", false, "{node, children: [{id, state}]}";
    ForwardedMigration, "forwarded_migration", false, "{children: [{id, node}]}";
    HandoverConfirmed, "handover_confirmed", false, "{child_id, from, to}";
    HandoverFailed, "handover_failed", false, "{child_id, from, to, why}";
    StateLost, "state_lost", true, "{child_id, epoch, version, node}";
    LostOwnership, "lost_ownership", false, "{child_id, epoch}";
    ConflictResolved, "conflict_resolved", false, "{child_id, winner, loser, state}";
    ChildUnplaced, "child_unplaced", false, "{child_id, why}";
    ChildFailed, "child_failed", false, "{child_id, node, callback, message}";
    ChildQuarantined, "child_quarantined", true, "{child_id, node, restarts}";
    PriorityStateUpdated, "priority_state_updated", false, "{locked}";
    PartitionChanged, "partition_changed", false, "{partitioned}";
    HostUnresponsive, "host_unresponsive", false, "{blocked_ms}";
    StopUndone, "stop_undone", true, "{child_id}";
    StrategyFallback, "strategy_fallback", false, "{strategy, why}";
    DrainCompleted, "drain_completed", false, "{report}";
    HubShutdown, "hub_shutdown", false, "{reason}";
    ChildDataAlter, "child_data_alter", false, "{spec, nodes}";
}

impl HookName {
    /// The hook with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|hook| hook.name() == name)
    }

    /// The hook's bit in the set of [`crate::engine::Command::SubscribeHooks`].
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One firing of a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookEvent {
    /// Which hook.
    pub name: HookName,
    /// Its payload: a JSON object of the shape [`HookName::payload`] tells.
    pub payload: serde_json::Value,
}

impl HookEvent {
    /// The host, or a callback of it, has been stuck for so long already.
    pub(crate) fn host_unresponsive(blocked: Duration) -> Self {
        let blocked_ms = u64::try_from(blocked.as_millis()).unwrap_or(u64::MAX);
        Self { name: HookName::HostUnresponsive, payload: serde_json::json!({ "blocked_ms": blocked_ms }) }
    }
}
