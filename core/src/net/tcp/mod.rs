//! The direct mesh: TCP, two connections per pair of nodes (A8).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Security;
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
use crate::net::{Channel, Contact, SendError, Transport, TransportSink, TransportStats};

/// What a [`TcpTransport`] is made of.
pub struct TcpSetup {
    /// This node.
    pub node: NodeRef,
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// `host:port` told to peers; by default the bound address.
    pub advertise: Option<String>,
    /// How peers prove themselves.
    pub security: Security,
    /// Takes the events; may be called before `start` returns.
    pub sink: Arc<dyn TransportSink>,
}

/// Links over TCP.
pub struct TcpTransport {
    node: NodeRef,
}

impl TcpTransport {
    /// Listens and starts the two threads.
    ///
    /// # Errors
    /// `invalid_config` when the address cannot be used or the key file is not right.
    pub fn start(setup: TcpSetup) -> Result<Self, Error> {
        let _ = setup;
        Err(Error::new(
            ErrorKind::Internal,
            "start_transport",
            "not built yet",
        ))
    }
}

impl Transport for TcpTransport {
    fn node(&self) -> &NodeRef {
        &self.node
    }

    fn address(&self) -> &str {
        ""
    }

    fn connect(&self, _address: &str) {}

    fn send(&self, _: &NodeRef, _: Lane, _: &Channel, _: Bytes) -> Result<(), SendError> {
        Err(SendError::Closed)
    }

    fn disconnect(&self, _node: &NodeRef) {}

    fn links(&self) -> Vec<Contact> {
        Vec::new()
    }

    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }

    fn close(&self, _timeout: Duration) {}
}
