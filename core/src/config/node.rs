//! Reads and checks the node's part of the document: name, addresses, seeds, security, labels, weight.

use std::net::IpAddr;

use serde_json::Value;

use super::defaults as table;
use super::problem::Problems;
use super::reader::{Section, did_you_mean, is_label, show};
use super::{NodeConfig, Security};
use crate::ids::NodeName;

/// Reads `node`, if it is there.
pub(super) fn read(root: &mut Section<'_>, problems: &mut Problems) -> Option<NodeConfig> {
    let mut section = root.section("node", problems)?;
    let default = NodeConfig::default();
    let name = section.text("name", problems).and_then(|text| match NodeName::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            problems.add("node.name", error.message);
            None
        }
    });
    let listen = section.text("listen", problems).map(str::to_owned);
    let advertise = section.text("advertise", problems).map(str::to_owned);
    let seeds = seeds(&mut section, problems);
    let security = security(&mut section, problems);
    let labels = section.texts("labels", table::MAX_LABELS, problems);
    let weight = weight(&mut section, problems);
    section.finish(problems);
    Some(NodeConfig { name, listen: listen.unwrap_or(default.listen), advertise, seeds, security, labels, weight })
}

fn seeds(section: &mut Section<'_>, problems: &mut Problems) -> Vec<String> {
    let mut seeds = Vec::new();
    for (index, value) in section.list("seeds", problems).into_iter().flatten().enumerate() {
        match value.as_str() {
            Some(seed) => seeds.push(seed.to_owned()),
            None => problems.add(format!("node.seeds[{index}]"), format!("must be a text, not {}", show(value))),
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
            problems.add("node.security.mode", "mtls is not available in this version; key is");
            Security::default()
        }
        Some(other) => {
            let known = ["key", "mtls", "insecure_plaintext"].into_iter();
            problems.add(
                "node.security.mode",
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
        problems.add("node.weight", format!("must be a number, not {}", show(value)));
        table::DEFAULT_WEIGHT
    })
}

/// Checks what types alone do not say; used for documents and for configurations made in Rust.
pub(super) fn check(node: &NodeConfig, problems: &mut Problems) {
    check_listen(node, problems);
    if let Some(advertise) = &node.advertise {
        match split_address(advertise) {
            Some((_, port)) if port > 0 => {}
            Some(_) => problems.add("node.advertise", "must have a port other than 0"),
            None => problems.add("node.advertise", not_an_address(advertise)),
        }
    }
    if node.seeds.len() > table::MAX_SEEDS {
        problems.add("node.seeds", format!("must have at most {} entries", table::MAX_SEEDS));
    }
    for (index, seed) in node.seeds.iter().take(table::MAX_SEEDS).enumerate() {
        if let Some(what) = seed_refusal(seed) {
            problems.add(format!("node.seeds[{index}]"), what);
        }
    }
    if let Security::Key { key_file } = &node.security
        && key_file.as_os_str().is_empty()
    {
        problems.add("node.security.key_file", "must not be empty");
    }
    if node.labels.len() > table::MAX_LABELS {
        problems.add("node.labels", format!("must have at most {} keys", table::MAX_LABELS));
    }
    let is_bad = |(key, value): &(&String, &String)| !is_label(key) || !is_label(value);
    if let Some((key, _)) = node.labels.iter().find(is_bad) {
        let shown = show(&Value::from(key.as_str()));
        problems.add("node.labels", format!("key and value must have 1 to 255 bytes, at {shown}"));
    }
    if !(node.weight > 0.0 && node.weight <= table::MAX_WEIGHT) {
        problems.add("node.weight", format!("must be above 0 and at most {}, not {}", table::MAX_WEIGHT, node.weight));
    }
}

fn check_listen(node: &NodeConfig, problems: &mut Problems) {
    let Some((host, _)) = split_address(&node.listen) else {
        problems.add("node.listen", not_an_address(&node.listen));
        return;
    };
    if node.security != Security::InsecurePlaintext && !is_loopback(host) {
        problems.add(
            "node.listen",
            format!(
                "{host} is no loopback address (127.0.0.1, [::1] or localhost): without TLS, which is not \
                 available in this version, any other needs security.mode insecure_plaintext"
            ),
        );
    }
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
