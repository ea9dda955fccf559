//! Every option with its default and range: the one table that the parser, the docs and the bindings read.

use std::time::Duration;

/// Milliseconds in a day: the upper bound of the long intervals.
const DAY_MS: u64 = 86_400_000;
/// Milliseconds in an hour.
const HOUR_MS: u64 = 3_600_000;
/// Milliseconds in a minute.
const MINUTE_MS: u64 = 60_000;

/// An option that is a whole number.
#[derive(Debug)]
pub(crate) struct Number {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its default.
    pub(crate) default: u64,
    /// Smallest accepted value.
    pub(crate) min: u64,
    /// Largest accepted value.
    pub(crate) max: u64,
    /// What it does.
    pub(crate) meaning: &'static str,
}

impl Number {
    /// The default as a duration, for options that end in `_ms`.
    pub(crate) const fn default_duration(&self) -> Duration {
        Duration::from_millis(self.default)
    }

    /// What is wrong with `value`, if anything.
    pub(crate) fn refusal(&self, value: u64) -> Option<String> {
        let within = (self.min..=self.max).contains(&value);
        (!within).then(|| format!("must be {} to {}, not {value}", self.min, self.max))
    }
}

/// An option that is a number from 0 to 1.
#[derive(Debug)]
pub(crate) struct Fraction {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its default.
    pub(crate) default: f64,
    /// What it does.
    pub(crate) meaning: &'static str,
}

impl Fraction {
    pub(crate) const RANGE: std::ops::RangeInclusive<f64> = 0.0..=1.0;

    /// What is wrong with a value that is none.
    pub(crate) fn refusal(value: &str) -> String {
        format!("must be a number from 0 to 1, not {value}")
    }
}

/// An option that is true or false.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its default.
    pub(crate) default: bool,
    /// What it does.
    pub(crate) meaning: &'static str,
}

/// An option of any other shape, described in words.
#[derive(Debug)]
pub(crate) struct Described {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its type.
    pub(crate) shape: &'static str,
    /// Its default; `required` where there is none.
    pub(crate) default: &'static str,
    /// What is accepted.
    pub(crate) range: &'static str,
    /// What it does.
    pub(crate) meaning: &'static str,
}

macro_rules! number {
    ($name:ident, $path:literal, $default:expr, $min:expr, $max:expr, $meaning:literal) => {
        pub(crate) const $name: Number =
            Number { path: $path, default: $default, min: $min, max: $max, meaning: $meaning };
    };
}

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
/// Members that a quorum may be counted of.
const MAX_MEMBERS: u64 = 100_000;
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
number!(
    MAX_RESTARTS,
    "restart.max_restarts",
    10,
    0,
    1_000_000,
    "More restarts than this within the window quarantine the child (R21)."
);
number!(RESTART_WINDOW_MS, "restart.window_ms", 60_000, 1, DAY_MS, "The window of `max_restarts`.");
/// First pause of `restart.backoff_ms`.
pub(crate) const BACKOFF_FIRST_MS: u64 = 10;
/// Longest pause of `restart.backoff_ms`.
pub(crate) const BACKOFF_LONGEST_MS: u64 = 30_000;
/// Largest accepted pause of `restart.backoff_ms`.
pub(crate) const BACKOFF_MAX_MS: u64 = HOUR_MS;
number!(
    HUBS_DISCOVER_INTERVAL_MS,
    "hubs_discover_interval_ms",
    10_000,
    100,
    DAY_MS,
    "How often seeds that are no members are tried again."
);
number!(
    DEADLOCK_RECOVERY_TIMEOUT_MS,
    "deadlock_recovery_timeout_ms",
    60_000,
    100,
    DAY_MS,
    "After this time open moves are aborted and the lock is released (R16)."
);
number!(
    MIGRATION_BASE_TIMEOUT_MS,
    "migration_base_timeout_ms",
    15_000,
    100,
    HOUR_MS,
    "One child's budget from prepare to active; at its end that move is aborted and the old instance goes on (R5)."
);
number!(
    SHUTDOWN_TIMEOUT_MS,
    "shutdown_timeout_ms",
    60_000,
    0,
    DAY_MS,
    "Longest time of `stop`, draining included (R19)."
);
number!(HOST_THREADS, "host_threads", 8, 1, 1_024, "Host threads that run synchronous callbacks (R18).");
// The defaults of the six timers are the `lan` profile's; a test compares them with `Profile::lan`.
number!(PROBE_PERIOD_MS, "profile.probe_period_ms", 300, 10, MINUTE_MS, "One member is probed per period.");
number!(
    PROBE_TIMEOUT_MS,
    "profile.probe_timeout_ms",
    100,
    1,
    MINUTE_MS,
    "How long a direct probe waits before others are asked; below the period."
);
number!(SUSPICION_MS, "profile.suspicion_ms", 700, 10, 10 * MINUTE_MS, "How long a suspect may refute.");
number!(
    VERIFY_MS,
    "profile.verify_ms",
    300,
    1,
    MINUTE_MS,
    "How long the last check over the control lane waits (R14)."
);
number!(GOSSIP_MS, "profile.gossip_ms", 100, 1, MINUTE_MS, "Interval of gossip.");
number!(
    VIEW_DEBOUNCE_MS,
    "profile.view_debounce_ms",
    20,
    0,
    MINUTE_MS,
    "How long view changes are collected before they are acted on (R14)."
);

pub(crate) const HANDOVER: Flag =
    Flag { path: "migration.handover", default: false, meaning: "Whether the state goes along when a child moves." };
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
pub(crate) const CONFIRM_HANDOVER: Flag = Flag {
    path: "migration.confirm_handover",
    default: false,
    meaning: "Whether `children_migrated` waits for `alter_handover_state` at the target. `hot_swap` only.",
};

pub(crate) const RESTRICTED_INIT: Flag = Flag {
    path: "synchronization.restricted_init",
    default: true,
    meaning: "`gossip`: whether only the member with the smallest name sends digests at the interval, or each of them.",
};

/// Largest weight of a node.
pub(crate) const MAX_WEIGHT: f64 = 1_000.0;
/// Weight of a node by default.
pub(crate) const DEFAULT_WEIGHT: f64 = 1.0;
/// Where a node listens by default.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:0";
/// Most seeds of a node.
pub(crate) const MAX_SEEDS: usize = 1_024;
/// Most labels of a node or of a spec's `require`.
pub(crate) const MAX_LABELS: usize = 64;

/// The types of the five strategy families: what this version has, and what a later one will have.
pub(crate) struct Family {
    /// The key of the family in the document.
    pub(crate) key: &'static str,
    /// The type by default.
    pub(crate) default: &'static str,
    /// What this version has.
    pub(crate) available: &'static [&'static str],
    /// What the contract names and this version refuses.
    pub(crate) later: &'static [&'static str],
    /// What the family decides.
    pub(crate) meaning: &'static str,
}

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
/// The type of a strategy that the host decides.
pub(crate) const CUSTOM: &str = "custom";
/// Says that the factor is the number of members.
pub(crate) const CLUSTER_SIZE: &str = "cluster_size";
pub(crate) const MIGRATION: Family = Family {
    key: "migration",
    default: "cold_swap",
    available: &["cold_swap", "hot_swap", CUSTOM],
    later: &[],
    meaning: "How children move: `cold_swap` stops, then starts; `hot_swap` starts, hands over, stops; `custom` moves as its `base` does, in an order the program decides (docs/strategies.md).",
};
pub(crate) const SYNCHRONIZATION: Family = Family {
    key: "synchronization",
    default: "pub_sub",
    available: &["pub_sub", "gossip"],
    later: &["custom"],
    meaning: "How the registry travels: `pub_sub` sends changes to every member, `gossip` to a few who pass them on.",
};
pub(crate) const PARTITION_TOLERANCE: Family = Family {
    key: "partition_tolerance",
    default: "divergence",
    available: &["divergence", "static_quorum", "dynamic_quorum", "majority_quorum"],
    later: &["custom"],
    meaning: "What happens when the cluster splits: under `divergence` both sides run everything and merge on heal (R12); under the others only a side with a quorum runs anything (R10, R11).",
};
pub(crate) const DISTRIBUTION: Family = Family {
    key: "distribution",
    default: "consistent_hashing",
    available: &["consistent_hashing", "guided", "load_balanced"],
    later: &["custom"],
    meaning: "Who runs what: `consistent_hashing` is weighted rendezvous hashing (A10); `guided` goes by the `child_mapping` of each start; `load_balanced` chooses at each start by the members' loads.",
};

const ID_RANGE: &str = "1 to 255 bytes";
const ADDRESS_RANGE: &str = "`host:port`; a loopback address unless `security.mode` is `insecure_plaintext`";

macro_rules! described {
    ($name:ident, $path:literal, $shape:literal, $default:expr, $range:expr, $meaning:literal) => {
        pub(crate) const $name: Described =
            Described { path: $path, shape: $shape, default: $default, range: $range, meaning: $meaning };
    };
}

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
described!(
    FALLBACK,
    "distribution.fallback",
    "text",
    "wait",
    "`wait`, `consistent_hashing`",
    "`guided`: where a child goes while a node it is mapped to cannot run it: nowhere, or where hashing says."
);
described!(
    HUB_ID,
    "hub_id",
    "text",
    "required",
    ID_RANGE,
    "Hubs with the same id on connected nodes form one hub cluster."
);
described!(
    NODE,
    "node",
    "object",
    "left out",
    "",
    "The node to make for this hub; left out when the hub is started on an existing node."
);
described!(
    NODE_NAME,
    "node.name",
    "text",
    "host name and a random suffix",
    ID_RANGE,
    "Unique in the cluster (R13). Required under a quorum strategy, which counts members by name (R10)."
);
described!(
    NODE_LISTEN,
    "node.listen",
    "text",
    DEFAULT_LISTEN,
    ADDRESS_RANGE,
    "Where to listen; port 0 takes a free one."
);
described!(
    NODE_ADVERTISE,
    "node.advertise",
    "text",
    "the bound address",
    "`host:port`, port not 0",
    "The address told to peers."
);
described!(
    NODE_SEEDS,
    "node.seeds",
    "list of texts",
    "[]",
    "at most 1024 of `host:port` or `file:PATH`",
    "Where other nodes may be. A file holds one `host:port` a line and is read again at each discovery."
);
described!(
    NODE_SECURITY,
    "node.security.mode",
    "text",
    "key",
    "`key` or `insecure_plaintext`",
    "How peers prove themselves (A9). `mtls` is not available in this version."
);
described!(
    NODE_KEY_FILE,
    "node.security.key_file",
    "text",
    "~/.local/state/process-hub/key",
    "a path",
    "File of mode 0600 with lines of 64 hex digits; the first proves, all are accepted. The default file is made at the first start."
);
described!(
    NODE_LABELS,
    "node.labels",
    "object of texts",
    "{}",
    "at most 64 labels, keys and values of 1 to 255 bytes",
    "Labels for a spec's `require`; `zone` names the failure zone."
);
described!(
    NODE_WEIGHT,
    "node.weight",
    "number",
    "1.0",
    "above 0, at most 1000",
    "Share of the children, relative to the other nodes."
);
described!(
    CHILD_SPECS,
    "child_specs",
    "list of specs",
    "[]",
    "ids must differ",
    "Static children: ensured, never doubled, by every node that lists them."
);
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
described!(
    BACKOFF_MS,
    "restart.backoff_ms",
    "[first, longest]",
    "[10, 30000]",
    "0 to 3600000, first not above longest",
    "Pause before a restart: starts at the first, doubles, ends at the longest."
);
described!(
    PROFILE,
    "profile",
    "text or object of timers",
    "lan",
    "`fast`, `lan`, `wan` or the timers below",
    "Timers of failure detection; a timer left out of the object is `lan`'s."
);

/// One row of the table, in the order of the document.
pub(crate) enum Entry {
    /// A whole number.
    Number(&'static Number),
    /// True or false.
    Flag(&'static Flag),
    /// A number from 0 to 1.
    Fraction(&'static Fraction),
    /// The `type` of a strategy family.
    Family(&'static Family),
    /// Anything else.
    Described(&'static Described),
}

/// Every option, in the order of the document.
pub(crate) const TABLE: &[Entry] = &[
    Entry::Described(&HUB_ID),
    Entry::Described(&NODE),
    Entry::Described(&NODE_NAME),
    Entry::Described(&NODE_LISTEN),
    Entry::Described(&NODE_ADVERTISE),
    Entry::Described(&NODE_SEEDS),
    Entry::Described(&NODE_SECURITY),
    Entry::Described(&NODE_KEY_FILE),
    Entry::Described(&NODE_LABELS),
    Entry::Described(&NODE_WEIGHT),
    Entry::Described(&CHILD_SPECS),
    Entry::Family(&REDUNDANCY),
    Entry::Described(&REPLICATION_FACTOR_TEXT),
    Entry::Described(&REPLICATION_MODEL),
    Entry::Described(&REDUNDANCY_SIGNAL),
    Entry::Family(&MIGRATION),
    Entry::Flag(&HANDOVER),
    Entry::Number(&HANDOVER_DATA_WAIT_MS),
    Entry::Number(&RETENTION_MS),
    Entry::Flag(&CONFIRM_HANDOVER),
    Entry::Number(&CHILD_MIGRATION_TIMEOUT_MS),
    Entry::Described(&MIGRATION_NAME),
    Entry::Described(&MIGRATION_BASE),
    Entry::Family(&SYNCHRONIZATION),
    Entry::Number(&SYNC_INTERVAL_MS),
    Entry::Number(&RECIPIENTS),
    Entry::Flag(&RESTRICTED_INIT),
    Entry::Family(&PARTITION_TOLERANCE),
    Entry::Described(&QUORUM_SIZE),
    Entry::Flag(&STARTUP_CONFIRM),
    Entry::Number(&THRESHOLD_TIME_MS),
    Entry::Described(&INITIAL_CLUSTER_SIZE),
    Entry::Flag(&TRACK_MAX_SIZE),
    Entry::Number(&LEASE_MS),
    Entry::Family(&DISTRIBUTION),
    Entry::Described(&FALLBACK),
    Entry::Number(&MAX_HISTORY_SIZE),
    Entry::Fraction(&WEIGHT_DECAY_FACTOR),
    Entry::Number(&PUSH_INTERVAL_MS),
    Entry::Flag(&NODEUP_REDISTRIBUTION),
    Entry::Number(&MAX_RESTARTS),
    Entry::Number(&RESTART_WINDOW_MS),
    Entry::Described(&BACKOFF_MS),
    Entry::Number(&HUBS_DISCOVER_INTERVAL_MS),
    Entry::Number(&DEADLOCK_RECOVERY_TIMEOUT_MS),
    Entry::Number(&MIGRATION_BASE_TIMEOUT_MS),
    Entry::Number(&SHUTDOWN_TIMEOUT_MS),
    Entry::Number(&HOST_THREADS),
    Entry::Described(&PROFILE),
    Entry::Number(&PROBE_PERIOD_MS),
    Entry::Number(&PROBE_TIMEOUT_MS),
    Entry::Number(&SUSPICION_MS),
    Entry::Number(&VERIFY_MS),
    Entry::Number(&GOSSIP_MS),
    Entry::Number(&VIEW_DEBOUNCE_MS),
];
