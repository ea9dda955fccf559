//! What of the protocol the scenarios have used, to be compared with all there is.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Everything of design/agents.md a scenario can use.
const EVERYTHING: &[&str] = &[
    "cmd info",
    "cmd start_hub",
    "cmd start_children",
    "cmd stop_children",
    "cmd child_lookup",
    "cmd process_registry",
    "cmd which_children",
    "cmd tag_query",
    "cmd metadata_query",
    "cmd nodes",
    "cmd is_alive",
    "cmd is_locked",
    "cmd is_partitioned",
    "cmd call",
    "cmd send",
    "cmd subscribe",
    "cmd drain",
    "cmd stop_hub",
    "cmd where",
    "cmd plan",
    "cmd sync",
    "cmd acknowledge_loss",
    "cmd metrics_text",
    "cmd debug_stats",
    "cmd reset_cluster_size",
    "cmd exit",
    "arg kinds",
    "arg strategies",
    "arg wait",
    "arg scope",
    "arg include_local",
    "arg timeout_ms",
    "arg node",
    "arg all",
    "arg payload",
    "arg join",
    "arg leave",
    "option timeout_ms",
    "option check_existing",
    "option if_exists",
    "option on_failure",
    "option metadata",
    "option child_mapping",
    "redundancy replication",
    "migration hot_swap",
    "synchronization gossip",
    "partition_tolerance majority_quorum",
    "distribution guided",
    "distribution load_balanced",
    "probe data",
    "probe fail",
    "probe start_delay_ms",
    "probe merge=replace",
    "probe merge=max",
    "probe merge=union",
    "probe pad_bytes",
    "probe no_state",
    "probe hang_in=prepare",
    "probe hang_in=alter",
    "probe hang_in=stop",
    "probe hang_in=signal",
    "probe then=return",
    "probe then=throw",
    "op put",
    "op add",
    "op get",
    "op state",
    "op who",
    "op log",
    "op throw",
    "op crash",
    "op exit_process",
    "op sleep",
    "op stop_self",
    "op echo",
    "op call",
    "op block",
    "event start",
    "event redundancy_signal",
    "event prepare_handover_state",
    "event alter_handover_state",
    "event stop",
    "event hook",
    "event decide",
];

static USED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn used() -> MutexGuard<'static, BTreeSet<String>> {
    USED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What no scenario has used.
pub(crate) fn missing() -> Vec<&'static str> {
    let used = used();
    EVERYTHING.iter().copied().filter(|it| !used.contains(*it)).collect()
}

/// Takes note of a request.
pub(crate) fn note_request(command: &str, arguments: &Value) {
    let mut used = used();
    used.insert(format!("cmd {command}"));
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    used.extend(keys(arguments).iter().map(|key| format!("arg {key}")));
    used.extend(keys(&arguments["options"]).iter().map(|key| format!("option {key}")));
    for family in ["redundancy", "migration", "synchronization", "partition_tolerance", "distribution"] {
        used.extend(arguments["config"][family]["type"].as_str().map(|name| format!("{family} {name}")));
    }
    for spec in arguments["specs"].as_array().into_iter().flatten() {
        let args = &spec["args"];
        used.extend(keys(args).iter().map(|key| format!("probe {key}")));
        for (name, value) in [("merge", &args["merge"]), ("hang_in", &args["hang_in"]), ("then", &args["run"]["then"])]
        {
            used.extend(value.as_str().map(|value| format!("probe {name}={value}")));
        }
    }
    let mut message = &arguments["message"];
    while let Some(op) = message["op"].as_str() {
        used.insert(format!("op {op}"));
        message = &message["message"];
    }
}

/// Whether a line has the keys of an event.
pub(crate) fn is_event(line: &Value) -> bool {
    let keys: Vec<&str> = line.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    match line["event"].as_str() {
        Some("hook") => keys == ["event", "hook", "hub_id", "payload"],
        Some("decide") => keys == ["event", "family", "hub_id", "question", "strategy"],
        Some("child") => {
            keys == ["child_id", "detail", "epoch", "event", "hub_id", "instance", "node", "what"]
                && line["epoch"].is_u64()
                && line["instance"].is_string()
        }
        _ => false,
    }
}

/// Takes note of an event.
pub(crate) fn note_event(event: &Value) {
    let what = event["what"].as_str().or_else(|| event["event"].as_str()).unwrap_or_default();
    used().insert(format!("event {what}"));
}
