//! What every transport does: one suite, run for each of them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of drivers: they wait with a deadline")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; the rest fails it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};

use super::memory::MemoryNetwork;
use super::tcp::{TcpSetup, TcpTransport};
use super::{Channel, SendError, Transport, TransportEvent, TransportSink};
use crate::config::Security;
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::{HubId, Incarnation, NodeName, NodeRef};

mod cases;

/// Longest any test waits for an event.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A sink that records, and that can be made to block.
pub(super) struct Recorder {
    events: Sender<TransportEvent>,
    /// The lane whose frames block.
    blocked: Mutex<Option<Lane>>,
    changed: Condvar,
}

impl Recorder {
    pub(super) fn block(&self, lane: Option<Lane>) {
        *self.blocked.lock() = lane;
        self.changed.notify_all();
    }
}

impl TransportSink for Recorder {
    fn event(&self, event: TransportEvent) {
        if let TransportEvent::Frame { lane, .. } = &event {
            let lane = *lane;
            let mut blocked = self.blocked.lock();
            while *blocked == Some(lane) {
                self.changed.wait(&mut blocked);
            }
        }
        let _ = self.events.send(event);
    }
}

/// A transport and what it told. Dropping it is a crash.
pub(super) struct Node {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) sink: Arc<Recorder>,
    events: Receiver<TransportEvent>,
    pub(super) break_connections: Box<dyn Fn(&NodeRef) + Send + Sync>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.sink.block(None);
    }
}

impl Node {
    pub(super) fn new(
        sink: Arc<Recorder>,
        events: Receiver<TransportEvent>,
        transport: Arc<dyn Transport>,
        break_connections: Box<dyn Fn(&NodeRef) + Send + Sync>,
    ) -> Self {
        Self { transport, sink, events, break_connections }
    }

    pub(super) fn node(&self) -> NodeRef {
        self.transport.node().clone()
    }

    pub(super) fn address(&self) -> String {
        self.transport.address().to_owned()
    }

    pub(super) fn send(&self, to: &NodeRef, lane: Lane, bytes: impl Into<Bytes>) {
        self.transport.send(to, lane, &hub("orders"), bytes.into()).unwrap();
    }

    pub(super) fn next(&self) -> TransportEvent {
        match self.events.recv_timeout(PATIENCE) {
            Ok(event) => event,
            Err(_) => panic!("{} waited in vain: {:?}", self.node(), self.transport.stats()),
        }
    }

    /// The next event that is not a frame.
    pub(super) fn next_of_links(&self) -> TransportEvent {
        loop {
            let event = self.next();
            if !matches!(event, TransportEvent::Frame { .. }) {
                return event;
            }
        }
    }

    /// The next event, which has to be a frame.
    pub(super) fn next_frame(&self) -> (Lane, Channel, Bytes) {
        match self.next() {
            TransportEvent::Frame { lane, channel, bytes, .. } => (lane, channel, bytes),
            other => panic!("a frame was expected, {other:?} came"),
        }
    }

    /// What was told until now.
    pub(super) fn told(&self) -> Vec<TransportEvent> {
        self.events.try_iter().collect()
    }
}

/// A way to start nodes that can reach each other.
pub(super) trait Fixture {
    /// Starts a node; without an address it chooses one.
    fn start(&self, name: &str, incarnation: u64, address: Option<&str>) -> Node;
}

pub(super) fn node(name: &str, incarnation: u64) -> NodeRef {
    NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(incarnation) }
}

pub(super) fn hub(id: &str) -> Channel {
    Channel::Hub(HubId::new(id).unwrap())
}

pub(super) fn recorder() -> (Arc<Recorder>, Receiver<TransportEvent>) {
    let (events, receiver) = unbounded();
    let sink = Arc::new(Recorder { events, blocked: Mutex::new(None), changed: Condvar::new() });
    (sink, receiver)
}

/// Waits until a condition holds that no event tells.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Links two nodes.
pub(super) fn link(a: &Node, b: &Node) {
    a.transport.connect(&b.address());
    assert_eq!(a.next(), up(b));
    assert_eq!(b.next(), up(a));
}

pub(super) fn up(of: &Node) -> TransportEvent {
    TransportEvent::LinkUp(super::Contact { node: of.node(), address: of.address() })
}

pub(super) fn down(node: &NodeRef, refused: bool) -> TransportEvent {
    TransportEvent::LinkDown { node: node.clone(), refused }
}

struct Memory(MemoryNetwork);

impl Fixture for Memory {
    fn start(&self, name: &str, incarnation: u64, address: Option<&str>) -> Node {
        let (sink, events) = recorder();
        let own_address = format!("{name}-{incarnation}:1");
        let transport = self.0.start(node(name, incarnation), address.unwrap_or(&own_address), sink.clone()).unwrap();
        Node::new(sink, events, Arc::new(transport), Box::new(|_| {}))
    }
}

/// TCP over loopback with a key file of its own.
pub(super) struct Tcp {
    folder: PathBuf,
}

impl Tcp {
    pub(super) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!(
            "process-hub-net-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    /// A key file with these keys, each named by a digit.
    pub(super) fn security(&self, keys: &str) -> Security {
        use std::os::unix::fs::PermissionsExt;
        let key_file = self.folder.join(format!("key-{keys}"));
        let lines: Vec<String> = keys.chars().map(|key| key.to_string().repeat(64)).collect();
        std::fs::write(&key_file, lines.join("\n")).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Security::Key { key_file }
    }

    pub(super) fn start_with_key(&self, name: &str, incarnation: u64, address: Option<&str>, keys: &str) -> Node {
        self.try_start(name, incarnation, address, keys).unwrap()
    }

    pub(super) fn try_start(
        &self,
        name: &str,
        incarnation: u64,
        address: Option<&str>,
        keys: &str,
    ) -> Result<Node, Error> {
        let (sink, events) = recorder();
        let transport = TcpTransport::start(TcpSetup {
            node: node(name, incarnation),
            listen: address.unwrap_or("127.0.0.1:0").to_owned(),
            advertise: None,
            security: self.security(keys),
            sink: sink.clone(),
        })?;
        let transport = Arc::new(transport);
        let to_break = Arc::downgrade(&transport);
        let break_connections = move |node: &NodeRef| {
            if let Some(transport) = to_break.upgrade() {
                transport.break_connections(node);
            }
        };
        let break_connections = Box::new(break_connections);
        Ok(Node::new(sink, events, transport, break_connections))
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Fixture for Tcp {
    fn start(&self, name: &str, incarnation: u64, address: Option<&str>) -> Node {
        self.start_with_key(name, incarnation, address, "1")
    }
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod memory {
            $(
                #[test]
                fn $case() {
                    super::cases::$case(&super::Memory(super::MemoryNetwork::new()));
                }
            )*
        }

        mod tcp {
            $(
                #[test]
                fn $case() {
                    super::cases::$case(&super::Tcp::new());
                }
            )*
        }
    };
}

suite! {
    connect_then_both_ends_are_linked_once
    connect_where_nothing_listens_then_the_dial_fails
    connect_to_oneself_then_nothing_happens
    frames_of_several_hubs_arrive_in_order_on_each_lane
    largest_frames_pass_and_larger_ones_are_refused
    membership_frames_arrive_beside_the_others
    connections_broken_again_and_again_then_each_frame_comes_once_and_in_order
    queue_full_then_the_session_is_reset_at_both_ends
    both_dial_at_once_then_there_is_one_link
    killed_node_is_refused_and_its_next_incarnation_is_another_link
    close_delivers_what_was_queued_and_says_goodbye
    disconnect_ends_the_link_and_a_new_one_can_follow
    sending_without_a_link_or_after_close_is_refused
}
