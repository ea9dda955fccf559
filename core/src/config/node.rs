//! Reads and checks the node's part of the document: name, addresses, seeds, security, labels, weight.

use std::net::IpAddr;

use serde_json::Value;

use super::defaults as table;
use super::parse::parse_text;
use super::problem::{Problem, Problems, invalid_config};
use super::reader::{Section, did_you_mean, is_label, join, show};
use super::{NodeConfig, NodeSetup, Security, parse, validate};
use crate::error::Error;
use crate::ids::NodeName;

/// Reads `node`, if it is there.
pub(super) fn read(root: &mut Section<'_>, problems: &mut Problems) -> Option<NodeConfig> {
    let mut section = root.section("node", problems)?;
    let node = read_options(&mut section, problems);
    section.finish(problems);
    Some(node)
}

impl NodeSetup {
    /// Reads the JSON document of a node that is made apart from its hubs: the keys of a hub's `node`, and beside them
    /// `profile` and `hubs_discover_interval_ms`.
    ///
    /// # Errors
    /// As for [`super::HubConfig::from_json`].
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
        let mut root = Section::open("", document, &mut problems);
        let node = read_options(&mut root, &mut problems);
        let hubs_discover_interval = root.duration(&table::HUBS_DISCOVER_INTERVAL_MS, &mut problems);
        let profile = parse::profile(&mut root, &mut problems);
        root.finish(&mut problems);
        check(&node, "", &mut problems);
        validate::check_profile(&profile, &mut problems);
        problems.into_result(Self { node, profile, hubs_discover_interval })
    }
}

/// Reads the node's own options out of a section that may have others.
fn read_options(section: &mut Section<'_>, problems: &mut Problems) -> NodeConfig {
    let default = NodeConfig::default();
    let name = section.text("name", problems).and_then(|text| match NodeName::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            problems.add(section.path_of("name"), error.message);
            None
        }
    });
    let listen = section.text("listen", problems).map(str::to_owned);
    let advertise = section.text("advertise", problems).map(str::to_owned);
    let seeds = seeds(section, problems);
    let security = security(section, problems);
    let labels = section.texts("labels", table::MAX_LABELS, problems);
    let weight = weight(section, problems);
    NodeConfig { name, listen: listen.unwrap_or(default.listen), advertise, seeds, security, labels, weight }
}

fn seeds(section: &mut Section<'_>, problems: &mut Problems) -> Vec<String> {
    let mut seeds = Vec::new();
    for (index, value) in section.list("seeds", problems).into_iter().flatten().enumerate() {
        match value.as_str() {
            Some(seed) => seeds.push(seed.to_owned()),
            None => {
                let path = section.path_of(&format!("seeds[{index}]"));
                problems.add(path, format!("must be a text, not {}", show(value)));
            }
        }
    }
    seeds
}

fn security(section: &mut Section<'_>, problems: &mut Problems) -> Security {
    let Some(mut section) = section.section("security", problems) else {
        return Security::default();
    };
    let mode = section.text("mode", problems);
    match mode {
        Some("key") | None => {
            let key_file = section.text("key_file", problems).map(str::to_owned);
            section.finish(problems);
            match key_file {
                Some(key_file) => Security::Key { key_file: key_file.into() },
                None => Security::UserKey,
            }
        }
        Some("insecure_plaintext") => {
            section.finish(problems);
            Security::InsecurePlaintext
        }
        Some("mtls") => {
            problems.add(section.path_of("mode"), "mtls is not available in this version; key is");
            Security::default()
        }
        Some(other) => {
            let known = ["key", "mtls", "insecure_plaintext"].into_iter();
            problems.add(
                section.path_of("mode"),
                format!(
                    "must be key or insecure_plaintext, not {}{}",
                    show(&Value::from(other)),
                    did_you_mean(other, known)
                ),
            );
            Security::default()
        }
    }
}

fn weight(section: &mut Section<'_>, problems: &mut Problems) -> f64 {
    let Some(value) = section.value("weight") else {
        return table::DEFAULT_WEIGHT;
    };
    value.as_f64().unwrap_or_else(|| {
        problems.add(section.path_of("weight"), format!("must be a number, not {}", show(value)));
        table::DEFAULT_WEIGHT
    })
}

/// Checks what types alone do not say; used for documents, in which the options are at `path`, and for configurations
/// made in Rust.
pub(super) fn check(node: &NodeConfig, path: &str, problems: &mut Problems) {
    let at = |key: &str| join(path, key);
    if let Some(what) = listen_refusal(node) {
        problems.add(at("listen"), what);
    }
    if let Some(advertise) = &node.advertise {
        match split_address(advertise) {
            Some((_, port)) if port > 0 => {}
            Some(_) => problems.add(at("advertise"), "must have a port other than 0"),
            None => problems.add(at("advertise"), not_an_address(advertise)),
        }
    }
    if node.seeds.len() > table::MAX_SEEDS {
        problems.add(at("seeds"), format!("must have at most {} entries", table::MAX_SEEDS));
    }
    for (index, seed) in node.seeds.iter().take(table::MAX_SEEDS).enumerate() {
        if let Some(what) = seed_refusal(seed) {
            problems.add(at(&format!("seeds[{index}]")), what);
        }
    }
    if let Security::Key { key_file } = &node.security
        && key_file.as_os_str().is_empty()
    {
        problems.add(at("security.key_file"), "must not be empty");
    }
    if node.labels.len() > table::MAX_LABELS {
        problems.add(at("labels"), format!("must have at most {} keys", table::MAX_LABELS));
    }
    let is_bad = |(key, value): &(&String, &String)| !is_label(key) || !is_label(value);
    if let Some((key, _)) = node.labels.iter().find(is_bad) {
        let shown = show(&Value::from(key.as_str()));
        problems.add(at("labels"), format!("key and value must have 1 to 255 bytes, at {shown}"));
    }
    if !(node.weight > 0.0 && node.weight <= table::MAX_WEIGHT) {
        problems.add(at("weight"), format!("must be above 0 and at most {}, not {}", table::MAX_WEIGHT, node.weight));
    }
}

fn listen_refusal(node: &NodeConfig) -> Option<String> {
    let Some((host, _)) = split_address(&node.listen) else {
        return Some(not_an_address(&node.listen));
    };
    let is_open = node.security != Security::InsecurePlaintext && !is_loopback(host);
    is_open.then(|| {
        format!(
            "{host} is no loopback address (127.0.0.1, [::1] or localhost): without TLS, which is not \
             available in this version, any other needs security.mode insecure_plaintext"
        )
    })
}

fn seed_refusal(seed: &str) -> Option<String> {
    if let Some(path) = seed.strip_prefix("file:") {
        return path.is_empty().then(|| "file: must be followed by a path".into());
    }
    if seed.starts_with("dns:") {
        return Some("dns: is not available in this version; host:port and file:PATH are".into());
    }
    match split_address(seed) {
        Some((_, port)) if port > 0 => None,
        Some(_) => Some("must have a port other than 0".into()),
        None => Some(format!("must be host:port or file:PATH, not {}", show(&Value::from(seed)))),
    }
}

fn not_an_address(text: &str) -> String {
    format!("must be host:port, not {}", show(&Value::from(text)))
}

/// The host, without brackets, and the port.
fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        let _: std::net::Ipv6Addr = inner.parse().ok()?;
        return Some((inner, port));
    }
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    is_host.then_some((host, port))
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
