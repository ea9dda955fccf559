//! Every option with its default and range: the one table that the parser, the docs and the bindings read.

mod shapes;
mod strategies;

pub(crate) use self::shapes::{Described, Entry, Family, Flag, Fraction, Number};
use self::shapes::{described, number};
pub(crate) use self::strategies::*;

/// Milliseconds in a day: the upper bound of the long intervals.
const DAY_MS: u64 = 86_400_000;
/// Milliseconds in an hour.
const HOUR_MS: u64 = 3_600_000;
/// Milliseconds in a minute.
const MINUTE_MS: u64 = 60_000;
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
const ID_RANGE: &str = "1 to 255 bytes";
const ADDRESS_RANGE: &str = "`host:port`; a loopback address unless `security.mode` is `insecure_plaintext`";
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
