//! The nodes and hubs of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use process_hub::config::HubConfig;
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::{Hub, HubBuilder, Node};
use process_hub::spec::DrainReport;

use crate::arguments::bad;
use crate::probe;
use crate::strategies::Strategies;

/// How long everything may take to stop at the end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// A node and the hubs that run on it, by id.
type Occupied = (Node, BTreeSet<String>);

#[derive(Default)]
pub(crate) struct Agent {
    nodes: Mutex<Vec<Occupied>>,
    hubs: Mutex<BTreeMap<String, Hub>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    pub(crate) fn hub(&self, id: &str) -> Result<Hub, Error> {
        lock(&self.hubs).get(id).cloned().ok_or_else(|| bad(format!("there is no hub {id:?} here")))
    }

    /// Starts a hub, on a node of its own or on the first one.
    pub(crate) fn start_hub(&self, config: HubConfig, kinds: &[String], strategies: &Strategies) -> Result<Hub, Error> {
        let own = config.node.as_ref();
        let own = own.map(|node| Node::start(node, &config.profile, config.hubs_discover_interval)).transpose()?;
        let node =
            own.clone().or_else(|| lock(&self.nodes).first().map(|(node, _)| node.clone())).ok_or_else(|| {
                Error::new(ErrorKind::InvalidConfig, "start", "node: is missing, and this agent has none yet")
            })?;
        let hub_id = config.hub_id.to_string();
        let builder = Hub::builder(config).node(&node);
        let builder = kinds.iter().fold(builder, |builder, kind| builder.kind(kind, probe::kind()));
        let hub = match strategies.add_to(builder, &hub_id).and_then(HubBuilder::start) {
            Ok(hub) => hub,
            Err(error) => {
                if let Some(own) = own {
                    own.stop(NODE_TIMEOUT);
                }
                return Err(error);
            }
        };
        let mut nodes = lock(&self.nodes);
        if own.is_some() {
            nodes.push((node.clone(), BTreeSet::new()));
        }
        let occupied = nodes.iter_mut().find(|(other, _)| other.node_ref() == node.node_ref());
        if let Some((_, hubs)) = occupied {
            hubs.insert(hub.hub_id().to_string());
        }
        drop(nodes);
        lock(&self.hubs).insert(hub.hub_id().to_string(), hub.clone());
        Ok(hub)
    }

    /// Stops a hub, and its node if it was the last one there.
    pub(crate) fn stop_hub(&self, hub: &Hub, timeout: Duration) -> Result<DrainReport, Error> {
        let report = hub.stop(timeout);
        let mut nodes = lock(&self.nodes);
        let of_hub = |(node, _): &Occupied| node.name() == hub.node_name();
        let Some(index) = nodes.iter().position(of_hub) else {
            return report;
        };
        nodes[index].1.remove(hub.hub_id().as_str());
        if nodes[index].1.is_empty() {
            let (node, _) = nodes.remove(index);
            drop(nodes);
            node.stop(NODE_TIMEOUT);
        }
        report
    }

    /// Stops every hub, gracefully, all at once.
    pub(crate) fn close(&self) {
        let hubs: Vec<Hub> = lock(&self.hubs).values().filter(|hub| hub.is_alive()).cloned().collect();
        std::thread::scope(|scope| {
            for hub in &hubs {
                scope.spawn(|| self.stop_hub(hub, EXIT_TIMEOUT));
            }
        });
    }
}
