//! Links inside one process, with faults on demand: for tests, and for examples that need no network.
//!
//! A [`MemoryNetwork`] has any number of endpoints, each with an address of its own choice. Frames between two
//! endpoints are held while the two are cut off from each other, and delivered when that is healed, as a session
//! over TCP does.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a driver: it has threads and clocks, and shares state with its callers"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

use super::{Contact, TransportEvent, TransportSink};

mod endpoint;

use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
pub use endpoint::MemoryTransport;

/// Undelivered bytes per direction and lane; beyond it the session is reset (R17).
const QUEUE_BYTES: usize = 16 << 20;

/// A network inside this process. Clones are the same network.
#[derive(Clone)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
    queue_bytes: usize,
}

impl Default for MemoryNetwork {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Default)]
struct State {
    endpoints: BTreeMap<NodeRef, Arc<Endpoint>>,
    /// Keyed by the smaller and the larger node.
    pairs: BTreeMap<(NodeRef, NodeRef), Pair>,
}

/// What two nodes have between them.
struct Pair {
    is_cut: bool,
    /// A link exists: frames are taken.
    is_linked: bool,
    /// One of the two died while they were cut off; the other does not know yet.
    is_death_unseen: bool,
    /// Rises when the session ends; frames of older ones are not delivered.
    generation: Arc<AtomicU64>,
    /// Frames held while cut, from the smaller and from the larger node.
    held: [VecDeque<Delivery>; 2],
    queues: [Queues; 2],
}

/// Undelivered bytes of one direction.
#[derive(Default)]
struct Queues {
    ctl: Arc<AtomicUsize>,
    bulk: Arc<AtomicUsize>,
    swim: Arc<AtomicUsize>,
}

/// What the thread of an endpoint is given.
struct Delivery {
    event: TransportEvent,
    /// For frames: what has to hold when they are delivered, and what they take up until then.
    frame: Option<Passage>,
}

struct Passage {
    generation: Arc<AtomicU64>,
    sent_in: u64,
    queue: Arc<AtomicUsize>,
    cost_bytes: usize,
}

struct Endpoint {
    node: NodeRef,
    address: String,
    /// Bounded by the queues of the pairs.
    deliveries: Sender<Delivery>,
    stop: Sender<()>,
    frames_sent: AtomicU64,
    frames_received: Arc<AtomicU64>,
    swim_dropped: AtomicU64,
    sessions_reset: AtomicU64,
}

impl Endpoint {
    fn tell(&self, event: TransportEvent) {
        // Nobody listens at an endpoint that was closed.
        let _ = self.deliveries.send(Delivery { event, frame: None });
    }

    fn contact(&self) -> Contact {
        Contact { node: self.node.clone(), address: self.address.clone() }
    }
}

fn pair_key(a: &NodeRef, b: &NodeRef) -> (NodeRef, NodeRef) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

impl State {
    fn pair(&mut self, a: &NodeRef, b: &NodeRef) -> &mut Pair {
        self.pairs.entry(pair_key(a, b)).or_insert_with(|| Pair {
            is_cut: false,
            is_linked: false,
            is_death_unseen: false,
            generation: Arc::new(AtomicU64::new(0)),
            held: [VecDeque::new(), VecDeque::new()],
            queues: [Queues::default(), Queues::default()],
        })
    }

    fn tell(&self, node: &NodeRef, event: TransportEvent) {
        if let Some(endpoint) = self.endpoints.get(node) {
            endpoint.tell(event);
        }
    }

    fn tell_up(&self, a: &NodeRef, b: &NodeRef) {
        if let (Some(first), Some(second)) = (self.endpoints.get(a), self.endpoints.get(b)) {
            first.tell(TransportEvent::LinkUp(second.contact()));
            second.tell(TransportEvent::LinkUp(first.contact()));
        }
    }

    fn tell_down(&self, listener: &NodeRef, about: &NodeRef, refused: bool) {
        self.tell(listener, TransportEvent::LinkDown { node: about.clone(), refused });
    }

    /// The other nodes this one has a session with, and whether it is cut off from them.
    fn linked(&self, node: &NodeRef) -> Vec<(NodeRef, bool)> {
        let pairs = self.pairs.iter().filter(|(_, pair)| pair.is_linked);
        pairs
            .filter_map(|((a, b), pair)| {
                let other = match node {
                    node if node == a => b,
                    node if node == b => a,
                    _ => return None,
                };
                Some((other.clone(), pair.is_cut))
            })
            .collect()
    }

    /// Takes an endpoint out of the network and ends its sessions.
    fn remove(&mut self, node: &NodeRef, refused: bool) {
        let Some(endpoint) = self.endpoints.remove(node) else {
            return;
        };
        for (other, is_cut) in self.linked(node) {
            let pair = self.pair(node, &other);
            if !refused {
                // A goodbye: what is on its way still arrives.
                pair.generation = Arc::default();
            }
            pair.end();
            pair.is_death_unseen = is_cut;
            if !is_cut {
                self.tell_down(&other, node, refused);
            }
        }
        let _ = endpoint.stop.try_send(());
    }
}

impl Pair {
    /// Ends the session: what is under way is lost.
    fn end(&mut self) {
        self.is_linked = false;
        self.forget();
    }

    fn forget(&mut self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.held = [VecDeque::new(), VecDeque::new()];
        self.queues = [Queues::default(), Queues::default()];
    }
}

impl MemoryNetwork {
    /// A network without endpoints.
    #[must_use]
    pub fn new() -> Self {
        Self::with_queue(QUEUE_BYTES)
    }

    fn with_queue(queue_bytes: usize) -> Self {
        Self { state: Arc::default(), queue_bytes }
    }

    /// Adds an endpoint and starts its thread.
    ///
    /// # Errors
    /// `invalid_config` when the node or the address is there already.
    pub fn start(&self, node: NodeRef, address: &str, sink: Arc<dyn TransportSink>) -> Result<MemoryTransport, Error> {
        let mut state = self.state.lock();
        let is_taken = |endpoint: &Arc<Endpoint>| endpoint.node == node || endpoint.address == address;
        if state.endpoints.values().any(is_taken) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "start_transport",
                format!("node {node} or address {address:?} is in use in this network"),
            ));
        }
        let (deliveries, queue) = unbounded();
        let (stop, stopped) = bounded(1);
        let (alive, ended) = bounded::<()>(0);
        let frames_received = Arc::new(AtomicU64::new(0));
        let endpoint = Arc::new(Endpoint {
            node: node.clone(),
            address: address.to_owned(),
            deliveries,
            stop,
            frames_sent: AtomicU64::new(0),
            frames_received: frames_received.clone(),
            swim_dropped: AtomicU64::new(0),
            sessions_reset: AtomicU64::new(0),
        });
        let thread = thread::Builder::new()
            .name("process-hub-memory".to_owned())
            .spawn(move || {
                let _alive = alive;
                deliver(&queue, &stopped, &*sink, &frames_received);
            })
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "start_transport", format!("the system gave no thread: {error}"))
            })?;
        state.endpoints.insert(node, endpoint.clone());
        Ok(MemoryTransport { network: self.clone(), endpoint, worker: Mutex::new(Some((thread, ended))) })
    }

    /// Cuts two nodes off from each other. Frames between them wait.
    pub fn cut(&self, a: &NodeRef, b: &NodeRef) {
        let mut state = self.state.lock();
        let pair = state.pair(a, b);
        let was_up = pair.is_linked && !pair.is_cut;
        pair.is_cut = true;
        if was_up {
            state.tell_down(a, b, false);
            state.tell_down(b, a, false);
        }
    }

    /// Ends a cut.
    pub fn heal(&self, a: &NodeRef, b: &NodeRef) {
        let mut state = self.state.lock();
        let pair = state.pair(a, b);
        if !pair.is_cut {
            return;
        }
        pair.is_cut = false;
        if !pair.is_linked {
            if std::mem::take(&mut pair.is_death_unseen) {
                state.tell_down(a, b, true);
                state.tell_down(b, a, true);
            }
            return;
        }
        let held = std::mem::take(&mut pair.held);
        let (smaller, larger) = pair_key(a, b);
        state.tell_up(&smaller, &larger);
        for (deliveries, to) in held.into_iter().zip([&larger, &smaller]) {
            if let Some(endpoint) = state.endpoints.get(to) {
                for delivery in deliveries {
                    let _ = endpoint.deliveries.send(delivery);
                }
            }
        }
    }

    /// Ends an endpoint as a crash of its process would: without a goodbye, and nothing listens there any more.
    pub fn kill(&self, node: &NodeRef) {
        self.state.lock().remove(node, true);
    }
}

/// Gives events to the sink until told to stop.
fn deliver(queue: &Receiver<Delivery>, stopped: &Receiver<()>, sink: &dyn TransportSink, frames_received: &AtomicU64) {
    loop {
        let delivery = crossbeam_channel::select_biased! {
            recv(stopped) -> _ => return,
            recv(queue) -> delivery => match delivery {
                Ok(delivery) => delivery,
                Err(_) => return,
            },
        };
        if let Some(passage) = delivery.frame {
            if passage.generation.load(Ordering::Acquire) != passage.sent_in {
                continue;
            }
            frames_received.fetch_add(1, Ordering::Relaxed);
            sink.event(delivery.event);
            passage.queue.fetch_sub(passage.cost_bytes, Ordering::AcqRel);
        } else {
            sink.event(delivery.event);
        }
    }
}
