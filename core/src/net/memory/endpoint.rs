//! The transport of one endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;

use super::{Delivery, Endpoint, MemoryNetwork, Passage, State};
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
use crate::net::{Channel, Contact, SendError, Transport, TransportEvent, TransportStats};
use crate::wire::{MAX_BULK_FRAME_BYTES, MAX_CTL_FRAME_BYTES};

/// Undelivered membership bytes per direction; beyond it they are dropped.
const SWIM_QUEUE_BYTES: usize = 256 << 10;
/// Accounted for each queued frame on top of its bytes.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// An endpoint of a [`MemoryNetwork`]. Dropping it without [`Transport::close`] is a crash.
pub struct MemoryTransport {
    pub(super) network: MemoryNetwork,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) worker: Mutex<Option<(JoinHandle<()>, Receiver<()>)>>,
}

impl MemoryTransport {
    fn dial(&self, address: &str) -> Result<(), Error> {
        let own = &self.endpoint.node;
        let mut state = self.network.state.lock();
        let unreachable = |why: &str| Error::new(ErrorKind::Unreachable, "connect", format!("{address}: {why}"));
        if !state.endpoints.contains_key(own) {
            return Ok(());
        }
        let at_address = |endpoint: &&Arc<Endpoint>| endpoint.address == address;
        let Some(endpoint) = state.endpoints.values().find(at_address) else {
            return Err(unreachable("connection refused"));
        };
        let other = endpoint.node.clone();
        if other == *own {
            return Ok(());
        }
        let pair = state.pair(own, &other);
        if pair.is_cut {
            return Err(unreachable("cut off"));
        }
        if !pair.is_linked {
            pair.is_linked = true;
            state.tell_up(own, &other);
        }
        Ok(())
    }

    /// Throws away what is under way between two nodes and tells both.
    fn reset(&self, state: &mut State, other: &NodeRef) {
        state.pair(&self.endpoint.node, other).forget();
        for (listener, about) in [(&self.endpoint.node, other), (other, &self.endpoint.node)] {
            if let Some(endpoint) = state.endpoints.get(listener) {
                endpoint.sessions_reset.fetch_add(1, Ordering::Relaxed);
                endpoint.tell(TransportEvent::SessionReset { node: about.clone() });
            }
        }
    }
}

impl Transport for MemoryTransport {
    fn node(&self) -> &NodeRef {
        &self.endpoint.node
    }

    fn address(&self) -> &str {
        &self.endpoint.address
    }

    fn connect(&self, address: &str) {
        if let Err(error) = self.dial(address) {
            self.endpoint.tell(TransportEvent::DialFailed { address: address.to_owned(), error });
        }
    }

    fn send(&self, to: &NodeRef, lane: Lane, channel: &Channel, bytes: Bytes) -> Result<(), SendError> {
        let own = &self.endpoint.node;
        let is_swim = *channel == Channel::Swim;
        let lane = if is_swim { Lane::Ctl } else { lane };
        let limit_bytes = match lane {
            Lane::Ctl => MAX_CTL_FRAME_BYTES,
            Lane::Bulk => MAX_BULK_FRAME_BYTES,
        };
        if bytes.len() > limit_bytes {
            return Err(SendError::TooLarge { limit_bytes, actual_bytes: bytes.len() });
        }
        let cost_bytes = bytes.len() + FRAME_OVERHEAD_BYTES;
        let mut state = self.network.state.lock();
        if !state.endpoints.contains_key(own) {
            return Err(SendError::Closed);
        }
        let direction = usize::from(own > to);
        let pair = state.pair(own, to);
        if !pair.is_linked {
            return Err(SendError::NotLinked);
        }
        let queues = &pair.queues[direction];
        let (queue, queue_limit) = match (is_swim, lane) {
            (true, _) => (queues.swim.clone(), SWIM_QUEUE_BYTES),
            (false, Lane::Ctl) => (queues.ctl.clone(), self.network.queue_bytes),
            (false, Lane::Bulk) => (queues.bulk.clone(), self.network.queue_bytes),
        };
        let is_full = queue.load(Ordering::Acquire) + cost_bytes > queue_limit;
        if is_swim && (is_full || pair.is_cut) {
            self.endpoint.swim_dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if is_full {
            self.reset(&mut state, to);
            return Err(SendError::Overflow { limit_bytes: queue_limit });
        }
        queue.fetch_add(cost_bytes, Ordering::AcqRel);
        self.endpoint.frames_sent.fetch_add(1, Ordering::Relaxed);
        let delivery = Delivery {
            event: TransportEvent::Frame { from: own.clone(), lane, channel: channel.clone(), bytes },
            frame: Some(Passage {
                sent_in: pair.generation.load(Ordering::Acquire),
                generation: pair.generation.clone(),
                queue,
                cost_bytes,
            }),
        };
        if pair.is_cut {
            pair.held[direction].push_back(delivery);
        } else if let Some(endpoint) = state.endpoints.get(to) {
            let _ = endpoint.deliveries.send(delivery);
        }
        Ok(())
    }

    fn disconnect(&self, node: &NodeRef) {
        let own = &self.endpoint.node;
        let mut state = self.network.state.lock();
        let pair = state.pair(own, node);
        let was_up = pair.is_linked && !pair.is_cut;
        pair.end();
        if was_up {
            state.tell_down(own, node, false);
            state.tell_down(node, own, false);
        }
    }

    fn links(&self) -> Vec<Contact> {
        let state = self.network.state.lock();
        let linked = state.linked(&self.endpoint.node);
        linked
            .into_iter()
            .filter(|(_, is_cut)| !is_cut)
            .filter_map(|(node, _)| state.endpoints.get(&node).map(|other| other.contact()))
            .collect()
    }

    fn stats(&self) -> TransportStats {
        let own = &self.endpoint.node;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = TransportStats {
            links: self.links().len() as u64,
            threads: u64::from(self.worker.lock().is_some()),
            frames_sent: read(&self.endpoint.frames_sent),
            frames_received: read(&self.endpoint.frames_received),
            swim_dropped: read(&self.endpoint.swim_dropped),
            sessions_reset: read(&self.endpoint.sessions_reset),
            ..TransportStats::default()
        };
        let state = self.network.state.lock();
        for ((a, b), pair) in &state.pairs {
            let queues = match own {
                own if own == a => &pair.queues[0],
                own if own == b => &pair.queues[1],
                _ => continue,
            };
            for queue in [&queues.ctl, &queues.bulk, &queues.swim] {
                stats.queued_bytes += queue.load(Ordering::Relaxed) as u64;
            }
        }
        stats
    }

    fn close(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.network.state.lock().remove(&self.endpoint.node, false);
        let Some((thread, ended)) = self.worker.lock().take() else {
            return;
        };
        let is_ours = thread.thread().id() == thread::current().id();
        if !is_ours && ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected) {
            let _ = thread.join();
        }
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.network.kill(&self.endpoint.node);
    }
}
