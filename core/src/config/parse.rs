//! Reads the JSON document of a hub's configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::defaults as table;
use super::problem::{Problem, Problems, invalid_config};
use super::reader::{Section, did_you_mean, is_label, show};
use super::{HubConfig, Profile, RestartConfig, node, strategies};
use crate::error::Error;
use crate::ids::HubId;
use crate::spec::ChildSpec;

impl HubConfig {
    /// Reads the JSON document every binding turns its options into (docs/configuration.md).
    ///
    /// # Errors
    /// One `invalid_config` whose message lists *all* problems as `path: problem`: wrong types and ranges,
    /// unknown keys, and what this version does not have.
    pub fn from_json(document: &Value) -> Result<Self, Error> {
        Self::check_json(document).map_err(|problems| invalid_config(&problems))
    }

    /// [`Self::from_json`] of a text.
    ///
    /// # Errors
    /// The same; also for what is not JSON.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Self::from_json(&parse_text(text)?)
    }

    /// [`Self::from_json`] with the problems as values.
    ///
    /// # Errors
    /// Every problem, in the order of the document's options.
    pub fn check_json(document: &Value) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let config = read(document, &mut problems);
        config.check_options(&mut problems);
        problems.into_result(config)
    }
}

pub(super) fn parse_text(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| {
        let what = format!("is not JSON: {error}");
        invalid_config(&[Problem { path: "$".into(), what }])
    })
}

fn read(document: &Value, problems: &mut Problems) -> HubConfig {
    let mut root = Section::open("", document, problems);
    let hub_id = hub_id(&mut root, problems);
    let node = node::read(&mut root, problems);
    let child_specs = child_specs(&mut root, problems);
    let redundancy = strategies::redundancy(&mut root, problems);
    let migration = strategies::migration(&mut root, problems);
    let synchronization = strategies::synchronization(&mut root, problems);
    let partition_tolerance = strategies::partition_tolerance(&mut root, problems);
    let distribution = strategies::distribution(&mut root, problems);
    let restart = restart(&mut root, problems);
    let hubs_discover_interval = root.duration(&table::HUBS_DISCOVER_INTERVAL_MS, problems);
    let deadlock_recovery_timeout = root.duration(&table::DEADLOCK_RECOVERY_TIMEOUT_MS, problems);
    let migration_base_timeout = root.duration(&table::MIGRATION_BASE_TIMEOUT_MS, problems);
    let shutdown_timeout = root.duration(&table::SHUTDOWN_TIMEOUT_MS, problems);
    let host_threads = root.number(&table::HOST_THREADS, problems);
    let profile = profile(&mut root, problems);
    root.finish(problems);
    HubConfig {
        hub_id,
        node,
        child_specs,
        redundancy,
        migration,
        synchronization,
        partition_tolerance,
        distribution,
        restart,
        hubs_discover_interval,
        deadlock_recovery_timeout,
        migration_base_timeout,
        shutdown_timeout,
        host_threads: usize::try_from(host_threads).unwrap_or(usize::MAX),
        profile,
    }
}

/// Without a usable id the answer is a stand-in, so that the rest is checked too; the problem is noted.
fn hub_id(root: &mut Section<'_>, problems: &mut Problems) -> HubId {
    if root.value("hub_id").is_none() {
        problems.add("hub_id", "is required");
    }
    match root.text("hub_id", problems).map(HubId::new) {
        Some(Ok(hub_id)) => return hub_id,
        Some(Err(error)) => problems.add("hub_id", error.message),
        None => {}
    }
    HubId::new("?").expect("one byte is a valid id")
}

/// The keys of a spec; [`ChildSpec::from_json`] reads them.
const SPEC_KEYS: &[&str] =
    &["id", "kind", "args", "metadata", "restart", "on_error", "require", "shutdown_ms", "mapping"];

fn child_specs(root: &mut Section<'_>, problems: &mut Problems) -> Vec<ChildSpec> {
    let list = root.list("child_specs", problems);
    let mut ids = BTreeSet::new();
    let mut specs = Vec::new();
    for (index, document) in list.into_iter().flatten().enumerate() {
        let path = format!("child_specs[{index}]");
        let Some(spec) = child_spec(&path, document, problems) else {
            continue;
        };
        if !ids.insert(spec.id.clone()) {
            problems.add(format!("{path}.id"), format!("{} is in the list twice", spec.id));
        }
        specs.push(spec);
    }
    specs
}

/// Reads one spec. Problems of several keys are all told; what remains is told by the spec's own reader.
fn child_spec(path: &str, document: &Value, problems: &mut Problems) -> Option<ChildSpec> {
    let before = problems.count();
    let mut section = Section::open(path, document, problems);
    for key in ["id", "kind"] {
        let is_there = section.value(key).is_some();
        let text = section.text(key, problems);
        if !is_there && document.is_object() {
            problems.add(section.path_of(key), "is required");
        }
        if text.is_some_and(|text| !is_label(text)) {
            problems.add(section.path_of(key), "must have 1 to 255 bytes");
        }
    }
    section.section("metadata", problems);
    section.texts("require", table::MAX_LABELS, problems);
    for key in SPEC_KEYS {
        section.value(key);
    }
    section.finish(problems);
    if problems.count() > before {
        return None;
    }
    let spec = ChildSpec::from_json(document);
    spec.map_err(|error| problems.add(path, error.message)).ok()
}

fn restart(root: &mut Section<'_>, problems: &mut Problems) -> RestartConfig {
    let Some(mut section) = root.section("restart", problems) else {
        return RestartConfig::default();
    };
    let max_restarts = section.number(&table::MAX_RESTARTS, problems);
    let window = section.duration(&table::RESTART_WINDOW_MS, problems);
    let backoff = backoff(&mut section, problems);
    section.finish(problems);
    RestartConfig { max_restarts: u32::try_from(max_restarts).unwrap_or(u32::MAX), window, backoff }
}

fn backoff(section: &mut Section<'_>, problems: &mut Problems) -> (Duration, Duration) {
    let default = RestartConfig::default().backoff;
    let Some(list) = section.list("backoff_ms", problems) else {
        return default;
    };
    let numbers: Option<Vec<u64>> = list.iter().map(Value::as_u64).collect();
    match numbers.as_deref() {
        Some([first, longest]) => (Duration::from_millis(*first), Duration::from_millis(*longest)),
        Some(_) | None => {
            problems.add("restart.backoff_ms", "must be two whole numbers of milliseconds: [first, longest]");
            default
        }
    }
}

pub(super) fn profile(root: &mut Section<'_>, problems: &mut Problems) -> Profile {
    const NAMES: &[&str] = &["fast", "lan", "wan"];
    let Some(value) = root.value("profile") else {
        return Profile::lan();
    };
    match value {
        Value::String(name) => match name.as_str() {
            "fast" => Profile::fast(),
            "lan" => Profile::lan(),
            "wan" => Profile::wan(),
            other => {
                let hint = did_you_mean(other, NAMES.iter().copied());
                problems.add(
                    "profile",
                    format!("must be fast, lan, wan or an object of timers, not {}{hint}", show(value)),
                );
                Profile::lan()
            }
        },
        Value::Object(_) => timers(Section::open("profile", value, problems), problems),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            problems.add("profile", format!("must be fast, lan, wan or an object of timers, not {}", show(value)));
            Profile::lan()
        }
    }
}

fn timers(mut section: Section<'_>, problems: &mut Problems) -> Profile {
    let profile = Profile {
        probe_period: section.duration(&table::PROBE_PERIOD_MS, problems),
        probe_timeout: section.duration(&table::PROBE_TIMEOUT_MS, problems),
        suspicion: section.duration(&table::SUSPICION_MS, problems),
        verify: section.duration(&table::VERIFY_MS, problems),
        gossip: section.duration(&table::GOSSIP_MS, problems),
        view_debounce: section.duration(&table::VIEW_DEBOUNCE_MS, problems),
    };
    section.finish(problems);
    profile
}
