//! Where what a transport tells goes: membership to the node's thread, frames of a hub straight to its driver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex, RwLock};

use super::inputs::Inputs;
use crate::engine::Input;
use crate::error::{Error, ErrorKind};
use crate::ids::{Contact, HubId, NodeRef};
use crate::net::{Channel, TransportEvent, TransportSink};
use crate::swim::Evidence;

/// Most membership packets that may wait for the node's thread; above it they are dropped, as a network may.
const MAX_WAITING_PACKETS: usize = 16_384;

/// What the node's thread takes.
#[derive(Debug)]
pub(crate) enum NodeInput {
    LinkUp(Contact),
    LinkDown {
        node: NodeRef,
        refused: bool,
    },
    Packet(NodeRef, Bytes),
    DialFailed(String),
    /// Leave and close, by this moment.
    Leave(Instant),
}

#[derive(Debug, Default)]
struct Table {
    hubs: BTreeMap<HubId, Inputs>,
    members: BTreeMap<NodeRef, Contact>,
    /// Why no hub may run here any more.
    refused: Option<Error>,
}

/// The hubs of a node and the members it sees. One lock covers both, so that a hub that is added hears of every
/// member exactly once.
#[derive(Debug)]
pub(crate) struct Router {
    node: Sender<NodeInput>,
    packets: AtomicUsize,
    table: RwLock<Table>,
    /// Notified when a hub ended.
    emptied: (Mutex<()>, Condvar),
    frames_unrouted: AtomicU64,
}

impl Router {
    pub(crate) fn new(node: Sender<NodeInput>) -> Self {
        Self {
            node,
            packets: AtomicUsize::new(0),
            table: RwLock::default(),
            emptied: (Mutex::new(()), Condvar::new()),
            frames_unrouted: AtomicU64::new(0),
        }
    }

    /// Adds a hub and tells it the members.
    pub(crate) fn attach(&self, id: &HubId, inputs: Inputs) -> Result<(), Error> {
        let mut table = self.table.write();
        if let Some(reason) = &table.refused {
            return Err(reason.clone());
        }
        if table.hubs.contains_key(id) {
            let message = format!("this node already runs a hub {id}");
            return Err(Error::new(ErrorKind::HubExists, "start", message));
        }
        for member in table.members.keys() {
            inputs.send(Input::NodeUp(member.clone()));
        }
        table.hubs.insert(id.clone(), inputs);
        Ok(())
    }

    pub(crate) fn detach(&self, id: &HubId) {
        self.table.write().hubs.remove(id);
        let _guard = self.emptied.0.lock();
        self.emptied.1.notify_all();
    }

    pub(crate) fn hubs(&self) -> Vec<Inputs> {
        self.table.read().hubs.values().cloned().collect()
    }

    pub(crate) fn hub_count(&self) -> usize {
        self.table.read().hubs.len()
    }

    /// Waits until no hub is left; says whether that came by `until`.
    pub(crate) fn wait_empty(&self, until: Instant) -> bool {
        let mut guard = self.emptied.0.lock();
        while self.hub_count() > 0 {
            if self.emptied.1.wait_until(&mut guard, until).timed_out() {
                return self.hub_count() == 0;
            }
        }
        true
    }

    /// Fences every hub, and refuses new ones.
    pub(crate) fn refuse(&self, reason: &Error) {
        let mut table = self.table.write();
        table.refused.get_or_insert_with(|| reason.clone());
        for inputs in table.hubs.values() {
            inputs.fail(reason.clone());
        }
    }

    /// Refuses new hubs.
    pub(crate) fn close(&self) {
        let reason = Error::new(ErrorKind::Closed, "start", "the node was stopped");
        self.table.write().refused.get_or_insert(reason);
    }

    pub(crate) fn up(&self, contact: Contact) {
        let mut table = self.table.write();
        for inputs in table.hubs.values() {
            inputs.send(Input::NodeUp(contact.node.clone()));
        }
        table.members.insert(contact.node.clone(), contact);
    }

    /// A link to a node is up. A member that was known before its link is told to the hubs again: what they sent
    /// it meanwhile went nowhere, and they would wait for their own repair.
    pub(crate) fn linked(&self, node: &NodeRef) {
        let table = self.table.read();
        if table.members.contains_key(node) {
            for inputs in table.hubs.values() {
                inputs.send(Input::NodeUp(node.clone()));
            }
        }
    }

    pub(crate) fn down(&self, node: &NodeRef, evidence: Evidence) {
        let mut table = self.table.write();
        table.members.remove(node);
        for inputs in table.hubs.values() {
            inputs.send(Input::NodeDown(node.clone(), evidence));
        }
    }

    pub(crate) fn members(&self) -> Vec<Contact> {
        self.table.read().members.values().cloned().collect()
    }

    /// Notes that the node's thread took a packet.
    pub(crate) fn packet_taken(&self) {
        self.packets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Frames for hubs that this node does not run.
    pub(crate) fn frames_unrouted(&self) -> u64 {
        self.frames_unrouted.load(Ordering::Relaxed)
    }

    fn packet(&self, from: NodeRef, bytes: Bytes) {
        if self.packets.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING_PACKETS
            || self.node.send(NodeInput::Packet(from, bytes)).is_err()
        {
            self.packets.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn frame(&self, from: NodeRef, hub: &HubId, bytes: Bytes) {
        match self.table.read().hubs.get(hub) {
            Some(inputs) => inputs.frame(from, bytes),
            None => {
                self.frames_unrouted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl TransportSink for Router {
    fn event(&self, event: TransportEvent) {
        let input = match event {
            TransportEvent::Frame { from, lane: _, channel, bytes } => match channel {
                Channel::Swim => return self.packet(from, bytes),
                Channel::Hub(hub) => return self.frame(from, &hub, bytes),
            },
            TransportEvent::LinkUp(contact) => NodeInput::LinkUp(contact),
            TransportEvent::LinkDown { node, refused } => NodeInput::LinkDown { node, refused },
            TransportEvent::DialFailed { address, error } => {
                tracing::debug!(target: "process_hub::node", %address, %error, "a dial failed");
                NodeInput::DialFailed(address)
            }
            TransportEvent::SessionReset { node } => {
                // The engines find what was lost by their digests.
                tracing::debug!(target: "process_hub::node", %node, "a session was reset");
                return;
            }
        };
        // The node's thread is gone only after the transport was closed.
        let _ = self.node.send(input);
    }
}

#[cfg(test)]
mod tests;
