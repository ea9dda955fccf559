//! The options of the five strategy families.

use super::shapes::{Described, Family, Flag, Fraction, Number, described, number};
use super::{DAY_MS, HOUR_MS, ID_RANGE};

/// Members that a quorum may be counted of.
const MAX_MEMBERS: u64 = 100_000;
/// The type of a strategy that the host decides.
pub(crate) const CUSTOM: &str = "custom";
/// Says that the factor is the number of members.
pub(crate) const CLUSTER_SIZE: &str = "cluster_size";
pub(crate) const REDUNDANCY: Family = Family {
    key: "redundancy",
    default: "singularity",
    available: &["singularity", "replication"],
    later: &["custom"],
    meaning: "How many instances a child has: `singularity` one, `replication` several on different nodes.",
};
/// The range of a replication factor that is a number; its default.
pub(crate) const REPLICATION_FACTOR: Number = Number {
    path: "redundancy.replication_factor",
    default: 2,
    min: 1,
    max: 1_024,
    meaning: "How many instances a child has, fewer where fewer nodes can run it; `cluster_size`: one on each member.",
};
described!(
    REPLICATION_FACTOR_TEXT,
    "redundancy.replication_factor",
    "number or text",
    "2",
    "1 to 1024, or `cluster_size`",
    "`replication`: how many instances a child has, fewer where fewer nodes can run it; `cluster_size` is one on each member."
);
described!(
    REPLICATION_MODEL,
    "redundancy.replication_model",
    "text",
    "active_active",
    "`active_active`, `active_passive`",
    "`replication`: whether all instances are active, or one while the others stand by. Calls go to an active one."
);
described!(
    REDUNDANCY_SIGNAL,
    "redundancy.redundancy_signal",
    "text",
    "none",
    "`none`, `active`, `passive`, `all`",
    "`replication`: which roles `redundancy_signal` tells an instance, at its start and when they change (R9)."
);
pub(crate) const MIGRATION: Family = Family {
    key: "migration",
    default: "cold_swap",
    available: &["cold_swap", "hot_swap", CUSTOM],
    later: &[],
    meaning: "How children move: `cold_swap` stops, then starts; `hot_swap` starts, hands over, stops; `custom` moves as its `base` does, in an order the program decides (docs/strategies.md).",
};
number!(
    HANDOVER_DATA_WAIT_MS,
    "migration.handover_data_wait_ms",
    3_000,
    1,
    HOUR_MS,
    "How long ending `run` and `prepare_handover_state` may take together (R5)."
);
number!(
    RETENTION_MS,
    "migration.retention_ms",
    5_000,
    0,
    HOUR_MS,
    "How long an outgoing instance whose state was not delivered lives on, fenced and unlisted (R5). `hot_swap` only."
);
number!(
    CHILD_MIGRATION_TIMEOUT_MS,
    "migration.child_migration_timeout_ms",
    10_000,
    1,
    HOUR_MS,
    "How long the new instance may take to start. `hot_swap` only; `cold_swap` uses the default."
);
pub(crate) const HANDOVER: Flag =
    Flag { path: "migration.handover", default: false, meaning: "Whether the state goes along when a child moves." };
pub(crate) const CONFIRM_HANDOVER: Flag = Flag {
    path: "migration.confirm_handover",
    default: false,
    meaning: "Whether `children_migrated` waits for `alter_handover_state` at the target. `hot_swap` only.",
};
described!(
    MIGRATION_NAME,
    "migration.name",
    "text",
    "required",
    ID_RANGE,
    "`custom`: the name under which the program registered what decides."
);
described!(
    MIGRATION_BASE,
    "migration.base",
    "object",
    "{\"type\": \"cold_swap\"}",
    "a migration other than `custom`",
    "`custom`: the built-in whose options hold, and which decides where the program gives no good answer."
);
pub(crate) const SYNCHRONIZATION: Family = Family {
    key: "synchronization",
    default: "pub_sub",
    available: &["pub_sub", "gossip"],
    later: &["custom"],
    meaning: "How the registry travels: `pub_sub` sends changes to every member, `gossip` to a few who pass them on.",
};
number!(
    SYNC_INTERVAL_MS,
    "synchronization.sync_interval_ms",
    15_000,
    100,
    DAY_MS,
    "Interval of the digests that repair what a lost delta left out (A4)."
);
number!(
    RECIPIENTS,
    "synchronization.recipients",
    3,
    1,
    1_024,
    "`gossip`: how many members a change, and a digest, is sent to at a time; each passes it on once."
);
pub(crate) const RESTRICTED_INIT: Flag = Flag {
    path: "synchronization.restricted_init",
    default: true,
    meaning: "`gossip`: whether only the member with the smallest name sends digests at the interval, or each of them.",
};
pub(crate) const PARTITION_TOLERANCE: Family = Family {
    key: "partition_tolerance",
    default: "divergence",
    available: &["divergence", "static_quorum", "dynamic_quorum", "majority_quorum"],
    later: &["custom"],
    meaning: "What happens when the cluster splits: under `divergence` both sides run everything and merge on heal (R12); under the others only a side with a quorum runs anything (R10, R11).",
};
number!(
    LEASE_MS,
    "partition_tolerance.lease_ms",
    1_500,
    200,
    HOUR_MS,
    "How long a node may run children after a quorum last heard of it (R11). Not for `divergence`."
);
number!(
    THRESHOLD_TIME_MS,
    "partition_tolerance.threshold_time_ms",
    30_000,
    0,
    DAY_MS,
    "A member that was lost for longer counts no more; only time with a quorum counts (R10). `dynamic_quorum` only."
);
/// Members of a `static_quorum`: required, so the default is never used.
pub(crate) const QUORUM_COUNT: Number =
    Number { path: QUORUM_SIZE.path, default: 1, min: 1, max: MAX_MEMBERS, meaning: QUORUM_SIZE.meaning };
/// Percent of a `dynamic_quorum`: required, so the default is never used.
pub(crate) const QUORUM_PERCENT: Number =
    Number { path: QUORUM_SIZE.path, default: 1, min: 1, max: 100, meaning: QUORUM_SIZE.meaning };
/// Required, so the default is never used.
pub(crate) const INITIAL_CLUSTER_COUNT: Number = Number {
    path: INITIAL_CLUSTER_SIZE.path,
    default: 1,
    min: 1,
    max: MAX_MEMBERS,
    meaning: INITIAL_CLUSTER_SIZE.meaning,
};
pub(crate) const STARTUP_CONFIRM: Flag = Flag {
    path: "partition_tolerance.startup_confirm",
    default: false,
    meaning: "Whether requests before the first quorum are answered `partitioned` at once; otherwise they wait for it. `static_quorum` only.",
};
pub(crate) const TRACK_MAX_SIZE: Flag = Flag {
    path: "partition_tolerance.track_max_size",
    default: true,
    meaning: "Whether a cluster that was larger needs more than half of its largest size, until `reset_cluster_size`. `majority_quorum` only.",
};
described!(
    QUORUM_SIZE,
    "partition_tolerance.quorum_size",
    "whole number",
    "required",
    "1 to 100000 members for `static_quorum`, 1 to 100 percent for `dynamic_quorum`",
    "What a quorum takes: so many members, or so many percent of those that are there or were lost lately."
);
described!(
    INITIAL_CLUSTER_SIZE,
    "partition_tolerance.initial_cluster_size",
    "whole number",
    "required",
    "1 to 100000",
    "So many members begin a cluster together, or begin it again when all of its members were restarted (R10). `majority_quorum` only."
);
pub(crate) const DISTRIBUTION: Family = Family {
    key: "distribution",
    default: "consistent_hashing",
    available: &["consistent_hashing", "guided", "load_balanced"],
    later: &["custom"],
    meaning: "Who runs what: `consistent_hashing` is weighted rendezvous hashing (A10); `guided` goes by the `child_mapping` of each start; `load_balanced` chooses at each start by the members' loads.",
};
number!(
    MAX_HISTORY_SIZE,
    "distribution.max_history_size",
    30,
    1,
    1_000,
    "`load_balanced`: how many measured loads a member's score is made of."
);
number!(
    PUSH_INTERVAL_MS,
    "distribution.push_interval_ms",
    10_000,
    100,
    HOUR_MS,
    "`load_balanced`: how often each member measures its load and tells the others."
);
pub(crate) const WEIGHT_DECAY_FACTOR: Fraction = Fraction {
    path: "distribution.weight_decay_factor",
    default: 0.9,
    meaning: "`load_balanced`: what each measured load counts relative to the one after it, in steps of 0.001.",
};
pub(crate) const NODEUP_REDISTRIBUTION: Flag = Flag {
    path: "distribution.nodeup_redistribution",
    default: false,
    meaning: "`load_balanced`: whether a node that joins is given its share of the children that run already.",
};
described!(
    FALLBACK,
    "distribution.fallback",
    "text",
    "wait",
    "`wait`, `consistent_hashing`",
    "`guided`: where a child goes while a node it is mapped to cannot run it: nowhere, or where hashing says."
);
