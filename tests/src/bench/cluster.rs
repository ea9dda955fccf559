//! A few processes that form one cluster, and where the placement rule puts children on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use process_hub::ids::{Incarnation, KindName, NodeName, NodeRef};
use process_hub::spec::ChildSpec;
use serde_json::{Value, json};

use super::figure::Language;
use super::node::{Answer, NodeProcess, Programs};
use super::{KIND, PATIENCE, child_id};
use crate::reference_placement::{ReferenceNode, place};

/// The processes of a cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Them, in the order of their start; the first is the others' seed.
    pub nodes: Vec<NodeProcess>,
    seed: String,
}

impl Cluster {
    /// Starts a cluster of this many processes and waits until each sees the others and starts children.
    ///
    /// # Errors
    /// What a process said.
    pub fn start(programs: &Programs, language: Language, count: usize) -> Result<Self, String> {
        let mut first = NodeProcess::spawn(programs, language, "n0")?;
        let opened = first.ask(&open("n0", &[]))?;
        let seed = opened.value["address"].as_str().ok_or("a hub without an address")?.to_owned();
        let mut cluster = Self { nodes: vec![first], seed };
        while cluster.nodes.len() < count {
            cluster.spawn(programs, language)?;
            let order = cluster.opening();
            cluster.newest().ask(&order)?;
        }
        let members = json!({ "op": "members", "count": count, "timeout_s": PATIENCE.as_secs() });
        cluster.ask_all(0..count, &members)?;
        // The first start waits until the newcomers know each other's registries; that is no part of a workload.
        cluster.ask_all(0..count, &json!({ "op": "warm_up" }))?;
        Ok(cluster)
    }

    /// Starts one more process, without its hub.
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn(&mut self, programs: &Programs, language: Language) -> Result<(), String> {
        let name = format!("n{}", self.nodes.len());
        self.nodes.push(NodeProcess::spawn(programs, language, &name)?);
        Ok(())
    }

    /// The process started last.
    #[expect(clippy::missing_panics_doc, reason = "a cluster has at least one process")]
    pub fn newest(&mut self) -> &mut NodeProcess {
        self.nodes.last_mut().expect("a cluster has at least one process")
    }

    /// The order that starts the hub of the process started last.
    #[must_use]
    pub fn opening(&self) -> Value {
        open(&format!("n{}", self.nodes.len() - 1), &[&self.seed])
    }

    /// Gives the same order to some nodes at once and waits for all answers.
    ///
    /// # Errors
    /// What a process said.
    pub fn ask_all(&mut self, which: std::ops::Range<usize>, order: &Value) -> Result<Vec<Answer>, String> {
        self.order_all(which.clone(), order)?;
        self.answers(which)
    }

    /// Gives the same order to some nodes at once.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn order_all(&mut self, which: std::ops::Range<usize>, order: &Value) -> Result<(), String> {
        self.nodes[which].iter_mut().try_for_each(|node| node.order(order))
    }

    /// One answer of each of some nodes.
    ///
    /// # Errors
    /// What a process said.
    pub fn answers(&mut self, which: std::ops::Range<usize>) -> Result<Vec<Answer>, String> {
        self.nodes[which].iter_mut().map(NodeProcess::answer).collect()
    }

    /// The order to wait until the registry shows the children where they belong on the first `nodes` nodes.
    ///
    /// # Errors
    /// For an id that the library refuses.
    pub fn expecting(nodes: usize, children: usize) -> Result<Value, String> {
        let owners = owners(nodes, children).map_err(|error| error.to_string())?;
        let names: Vec<String> = (0..nodes).map(|index| format!("n{index}")).collect();
        Ok(json!({ "op": "expect", "nodes": names, "owners": owners, "timeout_s": PATIENCE.as_secs() }))
    }
}

fn open(name: &str, seeds: &[&str]) -> Value {
    json!({ "op": "open", "name": name, "seeds": seeds })
}

/// The index of each child's owner, as a digit.
fn owners(nodes: usize, children: usize) -> Result<String, process_hub::error::Error> {
    let mut all = Vec::new();
    for index in 0..nodes {
        let name = NodeName::new(format!("n{index}"))?;
        let kinds = BTreeSet::from([KindName::new(KIND)?]);
        let node = NodeRef { name, incarnation: Incarnation(1) };
        all.push(ReferenceNode { node, weight: 1000, labels: BTreeMap::new(), kinds });
    }
    let mut owners = String::with_capacity(children);
    for index in 0..children {
        let spec = ChildSpec::new(&child_id(index), KIND)?;
        let owner = place(&all, &spec, 1).first().map_or("", |node| node.name.as_str());
        owners.push_str(owner.trim_start_matches('n'));
    }
    Ok(owners)
}

/// How long after `since` the last of these answers was true, without the check that followed.
///
/// # Errors
/// When an answer lacks a number.
pub fn settled(since: Instant, answers: &[Answer]) -> Result<Duration, String> {
    let mut latest = Duration::ZERO;
    for answer in answers {
        let check = Duration::from_secs_f64(answer.number("check_us")? / 1e6);
        latest = latest.max(answer.at.saturating_duration_since(since).saturating_sub(check));
    }
    Ok(latest)
}
