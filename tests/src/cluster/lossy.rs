//! TCP that loses what a test tells it to lose.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::HubConfig;
use process_hub::engine::Lane;
use process_hub::error::Error;
use process_hub::hub::Node;
use process_hub::ids::{NodeName, NodeRef};
use process_hub::net::tcp::{TcpSetup, TcpTransport};
use process_hub::net::{Channel, Contact, SendError, Transport, TransportStats};

/// What the nodes of a cluster lose of what they send.
#[derive(Debug, Default)]
pub struct Losses(Mutex<Lost>);

#[derive(Debug, Default)]
struct Lost {
    /// Frames of hubs to these nodes; membership goes on.
    deaf: BTreeSet<NodeName>,
    /// Everything between nodes of which one is here and the other is not.
    apart: BTreeSet<NodeName>,
}

impl Losses {
    /// From now on, frames of hubs to these nodes are lost, and no others.
    pub fn deafen<const N: usize>(&self, names: [&str; N]) {
        self.0.lock().unwrap().deaf = names.map(super::node_name).into();
    }

    /// From now on, these nodes hear nothing of the others, nor the others of them.
    pub fn split<const N: usize>(&self, names: [&str; N]) {
        self.0.lock().unwrap().apart = names.map(super::node_name).into();
    }

    /// From now on, nothing is lost.
    pub fn heal(&self) {
        *self.0.lock().unwrap() = Lost::default();
    }

    fn takes(&self, from: &NodeName, to: &NodeName, channel: &Channel) -> bool {
        let lost = self.0.lock().unwrap();
        let is_deaf = *channel != Channel::Swim && lost.deaf.contains(to);
        is_deaf || lost.apart.contains(from) != lost.apart.contains(to)
    }
}

/// The node that `config` asks for, on such a transport.
///
/// # Errors
/// Those of [`Node::start_with`].
pub fn lossy_node(config: &mut HubConfig, losses: &Arc<Losses>) -> Result<Node, Error> {
    let node_config = config.node.take().unwrap_or_default();
    Node::start_with(&node_config, &config.profile, config.hubs_discover_interval, |node, sink| {
        let tcp = TcpTransport::start(TcpSetup {
            node: node.clone(),
            listen: node_config.listen.clone(),
            advertise: None,
            security: node_config.security.clone(),
            sink,
        })?;
        Ok(Arc::new(Lossy { tcp, losses: Arc::clone(losses) }))
    })
}

struct Lossy {
    tcp: TcpTransport,
    losses: Arc<Losses>,
}

impl Transport for Lossy {
    fn node(&self) -> &NodeRef {
        self.tcp.node()
    }

    fn address(&self) -> &str {
        self.tcp.address()
    }

    fn connect(&self, address: &str) {
        self.tcp.connect(address);
    }

    fn send(&self, to: &NodeRef, lane: Lane, channel: &Channel, bytes: Bytes) -> Result<(), SendError> {
        if self.losses.takes(&self.node().name, &to.name, channel) {
            return Ok(());
        }
        self.tcp.send(to, lane, channel, bytes)
    }

    fn disconnect(&self, node: &NodeRef) {
        self.tcp.disconnect(node);
    }

    fn links(&self) -> Vec<Contact> {
        self.tcp.links()
    }

    fn stats(&self) -> TransportStats {
        self.tcp.stats()
    }

    fn close(&self, timeout: Duration) {
        self.tcp.close(timeout);
    }
}
