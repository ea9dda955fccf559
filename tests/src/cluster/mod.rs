//! Hubs on real nodes of this process, over TCP: what the scenarios stand on.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "for tests that run in real time, over real sockets"
)]

mod census;
mod counter;
mod lossy;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use process_hub::config::{
    HubConfig, Migration, NodeConfig, Profile, Redundancy, ReplicationFactor, ReplicationModel, Security,
};
use process_hub::engine::{MessageCommand, StartOptions};
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::{Hub, HubBuilder, Node};
use process_hub::ids::{ChildId, Incarnation, KindName, NodeName, NodeRef};
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::{ChildError, ChildSpec, Mode, Row};
use serde_json::Value;

pub use census::{Census, Step};
pub use counter::{Counter, counter_kind};
pub use lossy::{Losses, lossy_node};

use crate::reference_placement::{ReferenceNode, place};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The kind every hub of a [`Cluster`] offers.
pub const COUNTER: &str = "counter";

type Heard = Arc<Mutex<Vec<(NodeName, HookName, Value)>>>;

/// Hubs of one hub cluster, the instances they run, and the hooks they fired.
pub struct Cluster {
    /// The hubs, in the order they joined.
    pub hubs: Vec<Hub>,
    /// Every instance that lives in this process, told by the instances themselves.
    pub census: Arc<Census>,
    configure: Box<dyn Fn(HubConfig) -> HubConfig>,
    listens: Vec<HookName>,
    heard: Heard,
    losses: Option<Arc<Losses>>,
    /// The nodes with losses, which end on their own.
    nodes: RefCell<Vec<Node>>,
}

impl Cluster {
    /// A cluster without nodes, whose hubs hand states over by hot swap.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    /// A cluster without nodes, whose hubs move children this way.
    #[must_use]
    pub fn migrating_by(migration: Migration) -> Self {
        Self::with(move |config| config.with_migration(migration.clone()))
    }

    /// A cluster without nodes, with its own changes to [`config`].
    #[must_use]
    pub fn with(configure: impl Fn(HubConfig) -> HubConfig + 'static) -> Self {
        Self {
            hubs: Vec::new(),
            census: Arc::default(),
            configure: Box::new(configure),
            listens: Vec::new(),
            heard: Arc::default(),
            losses: None,
            nodes: RefCell::default(),
        }
    }

    /// A running cluster of these nodes.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        let mut cluster = Self::new();
        cluster.join_all(names);
        cluster
    }

    /// Keeps the firings of this hook on every hub that joins from now on, for [`Self::heard`].
    #[must_use]
    pub fn listening(mut self, hook: HookName) -> Self {
        self.listens.push(hook);
        self
    }

    /// Puts the hubs that join from now on on nodes with such losses.
    #[must_use]
    pub fn losing(mut self, losses: &Arc<Losses>) -> Self {
        self.losses = Some(Arc::clone(losses));
        self
    }

    /// The configuration of a hub that would join now.
    #[must_use]
    pub fn config(&self, name: &str) -> HubConfig {
        let seeds: Vec<&str> = self.hubs.iter().map(Hub::address).collect();
        (self.configure)(config(name, &seeds))
    }

    /// A hub that would join now.
    pub fn builder(&self, name: &str) -> HubBuilder {
        let mut config = self.config(name);
        let node = self.losses.as_ref().map(|losses| lossy_node(&mut config, losses).unwrap());
        let mut builder = Hub::builder(config).kind(COUNTER, counter_kind(Arc::clone(&self.census)));
        if let Some(node) = node {
            builder = builder.node(&node);
            self.nodes.borrow_mut().push(node);
        }
        for &hook in &self.listens {
            let (node, heard) = (node_name(name), Arc::clone(&self.heard));
            builder = builder.hook(hook, "cluster", 0, move |event| {
                heard.lock().unwrap().push((node.clone(), hook, event.payload.clone()));
            });
        }
        builder
    }

    /// Starts a hub on a node of its own; returns without waiting for what follows.
    pub fn join(&mut self, name: &str) -> &Hub {
        let hub = self.builder(name).start().unwrap();
        self.add(hub)
    }

    /// Takes in a hub that was started elsewhere.
    pub fn add(&mut self, hub: Hub) -> &Hub {
        self.hubs.push(hub);
        self.hubs.last().unwrap()
    }

    /// Starts these hubs and waits until each sees all others and no child moves.
    pub fn join_all(&mut self, names: &[&str]) {
        for name in names {
            self.join(name);
        }
        self.settle();
    }

    /// The hub on the node of this name.
    #[must_use]
    pub fn hub(&self, name: &str) -> &Hub {
        self.hubs.iter().find(|hub| hub.node_name().as_str() == name).expect("a hub of this name")
    }

    /// Takes the hub of this name out, to be ended by the caller.
    pub fn take(&mut self, name: &str) -> Hub {
        let index = self.hubs.iter().position(|hub| hub.node_name().as_str() == name).expect("a hub of this name");
        self.hubs.remove(index)
    }

    /// Ends a node with losses of which nobody is to hear.
    pub fn cut_off(&mut self, name: &str, losses: &Losses) {
        losses.split([name]);
        assert!(self.take(name).halt(PATIENCE));
        self.end_node(name);
        losses.heal();
    }

    /// Ends a node with losses, after its hub.
    pub fn end_node(&mut self, name: &str) {
        let nodes = self.nodes.get_mut();
        let at = nodes.iter().position(|node| node.name().as_str() == name).expect("a node with losses");
        nodes.remove(at).stop(PATIENCE);
    }

    /// Waits until each hub sees exactly the others.
    pub fn see_each_other(&self) {
        let names: BTreeSet<NodeName> = self.hubs.iter().map(|hub| hub.node_name().clone()).collect();
        for hub in &self.hubs {
            eventually("every hub sees exactly the others", || {
                hub.nodes(true).into_iter().collect::<BTreeSet<_>>() == names
            });
        }
    }

    /// Waits until each hub sees exactly the others, every child is exactly where the placement rule says, and every
    /// registry says so, the active ones first.
    pub fn settle(&self) {
        self.see_each_other();
        eventually_or("every child is on its owner, in every registry", || self.unsettled());
    }

    /// Why the cluster is not settled.
    fn unsettled(&self) -> Option<String> {
        if let Some(hub) = self.hubs.iter().find(|hub| hub.is_locked()) {
            return Some(format!("{} has moves open", hub.node_name()));
        }
        let nodes = self.reference_nodes();
        let expected = self.hubs.first()?.process_registry();
        for hub in &self.hubs {
            let registry = hub.process_registry();
            if registry.len() != expected.len() {
                let of = hub.node_name();
                return Some(format!("{of} has {} rows, not {}", registry.len(), expected.len()));
            }
            let replication = self.config("any").redundancy;
            let factor = match replication {
                Redundancy::Singularity | Redundancy::Custom(_) => 1,
                Redundancy::Replication { factor: ReplicationFactor::Count(count), .. } => count as usize,
                Redundancy::Replication { factor: ReplicationFactor::ClusterSize, .. } => nodes.len(),
            };
            for (id, row) in &registry {
                let mut owners = if row.spec.mapping.is_empty() {
                    place(&nodes, &row.spec, factor)
                } else {
                    let node = |name: &NodeName| nodes.iter().map(|one| &one.node).find(|node| node.name == *name);
                    row.spec.mapping.iter().filter_map(node).collect()
                };
                let is_all_active =
                    matches!(replication, Redundancy::Replication { model: ReplicationModel::ActiveActive, .. });
                // A row tells the active ones first, and then goes by name.
                let passive_from = usize::from(!is_all_active).min(owners.len());
                owners[passive_from..].sort_by_key(|node| &node.name);
                let modes: Vec<Mode> = row.instances.iter().map(|instance| instance.mode).collect();
                let is_right = |(at, mode): (usize, &Mode)| (*mode == Mode::Active) == (at < 1 || is_all_active);
                if !modes.iter().enumerate().all(is_right) {
                    return Some(format!("{} has {id} with the roles {modes:?}", hub.node_name()));
                }
                let runs: Vec<&NodeName> = row.instances.iter().map(|instance| &instance.node).collect();
                let wanted: Vec<&NodeName> = owners.iter().map(|node| &node.name).collect();
                if runs != wanted {
                    return Some(format!("{} has {id} on {runs:?}, its owner is {wanted:?}", hub.node_name()));
                }
            }
        }
        None
    }

    /// The members as the reference placement wants them.
    #[must_use]
    pub fn reference_nodes(&self) -> Vec<ReferenceNode> {
        reference_nodes(self.hubs.iter().map(|hub| hub.node_name().as_str()))
    }

    /// Starts `count` counters from the first hub and waits until every registry has them.
    pub fn start_counters(&self, count: usize) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|n| format!("counter:{n}")).collect();
        let specs = ids.iter().map(|id| spec(id)).collect();
        let result = self.hubs[0].start_children(specs, options()).wait().unwrap();
        assert_eq!(result.errors, []);
        assert_eq!(result.started.len(), count);
        self.settle();
        ids
    }

    /// Every row, which every hub has the same.
    pub fn registry(&self) -> BTreeMap<ChildId, Arc<Row>> {
        let first = self.hubs[0].process_registry();
        for hub in &self.hubs[1..] {
            assert_eq!(
                hub.process_registry(),
                first,
                "{} disagrees with {}",
                hub.node_name(),
                self.hubs[0].node_name()
            );
        }
        first
    }

    /// The same, once what follows a heal is over.
    pub fn agreed_registry(&self) -> BTreeMap<ChildId, Arc<Row>> {
        eventually("every registry has the same rows", || {
            let first = self.hubs[0].process_registry();
            self.hubs[1..].iter().all(|hub| hub.process_registry() == first)
        });
        self.hubs[0].process_registry()
    }

    /// Checks that exactly these children live in this process, each once, where the registries say.
    pub fn assert_each_lives_once(&self, ids: &[String]) {
        eventually_or("each child lives exactly once", || {
            let live = self.census.live();
            let rows = self.hubs[0].process_registry();
            if live.len() != ids.len() {
                return Some(format!("{} of {} children live", live.len(), ids.len()));
            }
            ids.iter().find_map(|id| {
                let nodes = live.get(id.as_str()).cloned().unwrap_or_default();
                let row = rows.get(id.as_str()).map(|row| nodes_of(row)).unwrap_or_default();
                (nodes.len() != 1 || nodes != row).then(|| format!("{id} lives on {nodes:?}, its row says {row:?}"))
            })
        });
    }

    /// What a hub fired of all hooks that are listened to, in order.
    #[must_use]
    pub fn heard_in_order(&self, node: &str) -> Vec<(HookName, Value)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(at, ..)| at.as_str() == node).map(|it| (it.1, it.2.clone())).collect()
    }

    /// What a hub fired of a hook, in order.
    #[must_use]
    pub fn heard(&self, node: &str, hook: HookName) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(at, name, _)| at.as_str() == node && *name == hook).map(|it| it.2.clone()).collect()
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    /// Ends the hubs. Children are stopped first: nothing is learned from moving them once more.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(hub) = self.hubs.iter().find(|hub| !hub.is_partitioned()) {
            let ids: Vec<ChildId> = hub.process_registry().into_keys().collect();
            if !ids.is_empty() {
                let result = hub.stop_children(ids, PATIENCE).wait().unwrap();
                // This registry may be a moment behind a stop that was asked for elsewhere.
                let is_failure = |error: &&ChildError| error.kind != ErrorKind::NotFound;
                assert_eq!(result.errors.iter().find(is_failure), None, "the children of the test end");
            }
        }
        for hub in &self.hubs {
            hub.stop(PATIENCE).unwrap();
        }
    }
}

/// A configuration with fast failure detection and hot swap with handover.
#[must_use]
pub fn config(name: &str, seeds: &[&str]) -> HubConfig {
    let node = NodeConfig::default()
        .with_name(node_name(name))
        .with_security(Security::InsecurePlaintext)
        .with_seeds(seeds.iter().copied());
    HubConfig::new("orders")
        .unwrap()
        .with_node(node)
        .with_profile(Profile::fast())
        .with_hubs_discover_interval(Duration::from_millis(200))
        .with_migration(Migration::hot_swap().with_handover(true))
}

/// Nodes of these names that offer [`COUNTER`], for the reference placement.
#[must_use]
pub fn reference_nodes<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<ReferenceNode> {
    let make = |name| ReferenceNode {
        node: NodeRef { name: node_name(name), incarnation: Incarnation(0) },
        weight: 1000,
        labels: BTreeMap::new(),
        kinds: BTreeSet::from([KindName::new(COUNTER).unwrap()]),
    };
    names.into_iter().map(make).collect()
}

/// The owner of a child among nodes of these names, by the reference placement.
#[must_use]
pub fn owner(names: &[&str], id: &str) -> String {
    place(&reference_nodes(names.iter().copied()), &spec(id), 1)[0].name.to_string()
}

/// A node name.
#[must_use]
pub fn node_name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// A child id.
#[must_use]
pub fn child_id(id: &str) -> ChildId {
    ChildId::new(id).unwrap()
}

/// A counter.
#[must_use]
pub fn spec(id: &str) -> ChildSpec {
    ChildSpec::new(id, COUNTER).unwrap()
}

/// Start options with [`PATIENCE`].
#[must_use]
pub fn options() -> StartOptions {
    StartOptions { timeout: PATIENCE, ..StartOptions::default() }
}

/// A payload of text.
#[must_use]
pub fn text(text: impl Into<String>) -> Payload {
    Payload::bytes(text.into().into_bytes())
}

/// A message with [`PATIENCE`].
#[must_use]
pub fn message(id: &str, message: &str) -> MessageCommand {
    MessageCommand { timeout: PATIENCE, ..MessageCommand::new(child_id(id), text(message)) }
}

/// Calls a child and reads the reply as text.
///
/// # Errors
/// Those of [`Hub::call`].
pub fn call(hub: &Hub, id: &str, said: &str) -> Result<String, Error> {
    let reply = hub.call(message(id, said)).wait()?;
    Ok(String::from_utf8_lossy(&reply.data).into_owned())
}

/// Calls a child that has to answer.
#[must_use]
pub fn ask(hub: &Hub, id: &str, said: &str) -> String {
    call(hub, id, said).unwrap_or_else(|error| panic!("{id} {said}: {error}"))
}

/// Says `said` to all of these children, from one hub, many at a time; the replies, which all have to come.
pub fn ask_all<'a>(hub: &Hub, pairs: impl IntoIterator<Item = (&'a str, String)>) -> Vec<String> {
    let pairs: Vec<(&str, String)> = pairs.into_iter().collect();
    let mut replies = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(100) {
        let waits: Vec<_> = batch.iter().map(|(id, said)| hub.call(message(id, said))).collect();
        for (wait, (id, said)) in waits.into_iter().zip(batch) {
            let reply = wait.wait().unwrap_or_else(|error| panic!("{id} {said}: {error}"));
            replies.push(String::from_utf8_lossy(&reply.data).into_owned());
        }
    }
    replies
}

/// The nodes of a row.
#[must_use]
pub fn nodes_of(row: &Row) -> Vec<NodeName> {
    row.instances.iter().map(|instance| instance.node.clone()).collect()
}

/// Waits for something that has no event, or panics.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_or(what, || (!holds()).then(String::new));
}

/// Waits until `objection` has none, or panics with the last.
pub fn eventually_or(what: &str, mut objection: impl FnMut() -> Option<String>) {
    let end = Instant::now() + PATIENCE;
    while let Some(why) = objection() {
        assert!(Instant::now() < end, "not in time: {what}: {why}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
