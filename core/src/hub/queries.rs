//! Reads that ask nobody: what the hub published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Hub, Pending};
use crate::engine::Command;
use crate::error::Error;
use crate::ids::{ChildId, HubId, NodeName};
use crate::spec::Row;

/// The answer of `which_children`.
pub type ChildrenByNode = BTreeMap<NodeName, Vec<ChildId>>;

impl Hub {
    /// The row of a child, if the registry knows one.
    #[must_use]
    pub fn child_lookup(&self, child: &str) -> Option<Arc<Row>> {
        self.shared().view.lookup(child)
    }

    /// Every row.
    #[must_use]
    pub fn process_registry(&self) -> BTreeMap<ChildId, Arc<Row>> {
        self.shared().view.all()
    }

    /// How many children the registry knows.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.shared().view.len()
    }

    /// The children that have an instance on this node.
    #[must_use]
    pub fn which_children_local(&self) -> ChildrenByNode {
        let shared = self.shared();
        let name = shared.node.name().clone();
        let ids = shared.view.on_node(&name);
        BTreeMap::from([(name, ids)])
    }

    /// The children of every member, each asked over the network.
    pub fn which_children_global(&self, timeout: Duration) -> Pending<ChildrenByNode> {
        let command = Command::WhichChildren(timeout);
        self.shared().requests.submit(command, |outcome| outcome.into_children().map(Ok))
    }

    /// The rows whose metadata has this `tag`.
    #[must_use]
    pub fn tag_query(&self, tag: &str) -> Vec<Arc<Row>> {
        let view = &self.shared().view;
        view.by_metadata(|metadata| metadata.get("tag").and_then(|value| value.as_str()) == Some(tag))
    }

    /// The rows whose metadata has this key.
    #[must_use]
    pub fn metadata_query(&self, key: &str) -> Vec<Arc<Row>> {
        let view = &self.shared().view;
        view.by_metadata(|metadata| metadata.contains_key(key))
    }

    /// The names of the members of this hub, in order.
    #[must_use]
    pub fn nodes(&self, include_local: bool) -> Vec<NodeName> {
        let shared = self.shared();
        let others = shared.view.members().into_iter().map(|node| node.name);
        let own = include_local.then(|| shared.node.name().clone());
        let mut names: Vec<NodeName> = others.chain(own).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The id of this hub.
    #[must_use]
    pub fn hub_id(&self) -> &HubId {
        &self.shared().id
    }

    /// The name of this node.
    #[must_use]
    pub fn node_name(&self) -> &NodeName {
        self.shared().node.name()
    }

    /// The `host:port` peers are told.
    #[must_use]
    pub fn address(&self) -> &str {
        self.shared().node.address()
    }

    /// Whether operations are possible, for hosts whose reads shall fail where they are not.
    ///
    /// # Errors
    /// `closed`, `forked` or `hub_failed`, of this operation.
    pub fn check(&self, operation: &'static str) -> Result<(), Error> {
        self.shared().requests.check(operation)
    }

    /// Whether the hub runs: it was not stopped, did not fence itself, and is not the copy of a fork.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared().requests.check("is_alive").is_ok()
    }

    /// Whether this node has moves open or lacks quorum (R16).
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.shared().view.status().is_locked
    }

    /// The loads of the members and of this node as this node knows them, in thousandths, where the distribution is
    /// `load_balanced`; empty under the others.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<NodeName, u16> {
        self.shared().view.status().loads.clone()
    }

    /// Whether this side of the cluster has no quorum.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        self.shared().view.status().is_partitioned
    }
}
