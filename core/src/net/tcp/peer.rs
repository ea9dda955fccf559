//! What all threads share: the peers with a session, and the counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use super::half_open::HalfOpen;
use super::handshake::Identity;
use super::lane::{LaneLimits, LaneLink};
use super::manager::Event;
use crate::engine::Lane;
use crate::ids::{Contact, NodeRef};
use crate::net::{TransportEvent, TransportSink, TransportStats};

/// A node with a session.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeRef,
    pub(super) address: Mutex<String>,
    pub(super) is_up: AtomicBool,
    is_muted: AtomicBool,
    pub(super) ctl: LaneLink,
    pub(super) bulk: LaneLink,
}

impl Peer {
    pub(super) fn new(node: NodeRef, ctl: LaneLimits, bulk: LaneLimits) -> Self {
        Self {
            node,
            address: Mutex::new(String::new()),
            is_up: AtomicBool::new(false),
            is_muted: AtomicBool::new(false),
            ctl: LaneLink::new(Lane::Ctl, ctl),
            bulk: LaneLink::new(Lane::Bulk, bulk),
        }
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneLink {
        match lane {
            Lane::Ctl => &self.ctl,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Lets nothing more of it reach the sink.
    pub(super) fn mute(&self) {
        self.is_muted.store(true, Ordering::Release);
        for lane in [&self.ctl, &self.bulk] {
            lane.finish_delivery();
        }
    }

    pub(super) fn is_muted(&self) -> bool {
        self.is_muted.load(Ordering::Acquire)
    }

    pub(super) fn contact(&self) -> Contact {
        Contact { node: self.node.clone(), address: self.address.lock().clone() }
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) threads: AtomicU64,
    pub(super) frames_sent: AtomicU64,
    pub(super) frames_received: AtomicU64,
    pub(super) duplicates_dropped: AtomicU64,
    pub(super) swim_dropped: AtomicU64,
    pub(super) sessions_resumed: AtomicU64,
    pub(super) sessions_reset: AtomicU64,
    pub(super) authentication_failed: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) handshake_timeouts: AtomicU64,
    pub(super) half_open_refused: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all threads share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) sink: Arc<dyn TransportSink>,
    /// The peers that may be sent to. Written by the manager only.
    pub(super) peers: RwLock<BTreeMap<NodeRef, Arc<Peer>>>,
    pub(super) half_open: Arc<HalfOpen>,
    pub(super) counters: Counters,
    /// Bounded by what sends: dials, connections and lanes, each with at most a few events under way.
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) is_closed: AtomicBool,
}

impl Shared {
    pub(super) fn peer(&self, node: &NodeRef) -> Option<Arc<Peer>> {
        self.peers.read().get(node).cloned()
    }

    /// Tells the owner.
    pub(super) fn tell(&self, event: TransportEvent) {
        self.sink.event(event);
    }

    /// Tells the manager; nobody listens once it ended.
    pub(super) fn post(&self, event: Event) {
        let _ = self.events.send(event);
    }

    pub(super) fn stats(&self) -> TransportStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let mut stats = TransportStats {
            half_open: self.half_open.count() as u64,
            threads: read(&counters.threads),
            frames_sent: read(&counters.frames_sent),
            frames_received: read(&counters.frames_received),
            duplicates_dropped: read(&counters.duplicates_dropped),
            swim_dropped: read(&counters.swim_dropped),
            sessions_resumed: read(&counters.sessions_resumed),
            sessions_reset: read(&counters.sessions_reset),
            authentication_failed: read(&counters.authentication_failed),
            malformed: read(&counters.malformed),
            handshake_timeouts: read(&counters.handshake_timeouts),
            half_open_refused: read(&counters.half_open_refused),
            ..TransportStats::default()
        };
        for peer in self.peers.read().values() {
            stats.links += u64::from(peer.is_up.load(Ordering::Relaxed));
            for lane in [&peer.ctl, &peer.bulk] {
                stats.connections += u64::from(lane.is_connected());
                stats.queued_bytes += lane.queued_bytes() as u64;
            }
        }
        stats
    }
}
