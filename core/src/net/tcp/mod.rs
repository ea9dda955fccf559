//! The direct mesh: TCP, two connections per pair of nodes (A8).
//!
//! The control connection is opened first and carries small frames; the bulk connection is opened when it is
//! needed. Both come in at one listener, and serve all hubs of the node. The bytes are described in `wire`, what
//! outlives a connection in `net::session`. Links between machines need TLS, which is not there yet: with a key,
//! addresses must be loopback.
//!
//! Threads: `process-hub-io` accepts, dials, decides, and runs the control lanes; `process-hub-bulk` runs the bulk
//! lanes. Both belong to the transport. Frames are written by the thread that sends them as long as the connection
//! takes them.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a driver: it has threads, tasks and clocks, and shares state with its callers"
)]

mod address;
mod dial;
mod half_open;
mod handshake;
mod inherited;
mod lane;
mod link;
mod manager;
mod peer;
mod reader;
mod stream;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, RwLock};
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};

use self::half_open::{HalfOpen, HalfOpenLimits};
use self::handshake::Identity;
pub use self::inherited::close_inherited;
use self::lane::{AfterSend, LaneLimits};
use self::manager::{Event, Manager};
use self::peer::{Counters, Shared, count};
use crate::config::Security;
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
use crate::net::key::Keys;
use crate::net::{Channel, Contact, SendError, Transport, TransportSink, TransportStats};

/// Frames of the control lane that are queued or unacknowledged, per peer; beyond it the session is reset (R17).
const CTL_QUEUE_BYTES: usize = 16 << 20;
/// The same for the bulk lane.
const BULK_QUEUE_BYTES: usize = 256 << 20;
/// Unacknowledged bytes on the wire, per lane.
const WINDOW_BYTES: usize = 4 << 20;
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(20);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const HALF_OPEN_LIMITS: HalfOpenLimits = HalfOpenLimits { total: 64, per_source: 8, per_loopback_source: 64 };
const LISTEN_BACKLOG: i32 = 256;
/// Longest address `connect` looks at.
const MAX_ADDRESS_TEXT_BYTES: usize = 300;

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

/// Bounds and times; fixed but for tests.
#[derive(Clone, Debug)]
struct Limits {
    security: Security,
    ctl: LaneLimits,
    bulk: LaneLimits,
    handshake_timeout: Duration,
    connect_timeout: Duration,
    half_open: HalfOpenLimits,
}

impl Limits {
    fn new(security: Security) -> Self {
        Self {
            security,
            ctl: LaneLimits {
                queue_bytes: CTL_QUEUE_BYTES,
                window_bytes: WINDOW_BYTES,
                acknowledge_bytes: 64 << 10,
                acknowledge_delay: ACKNOWLEDGE_DELAY,
            },
            bulk: LaneLimits {
                queue_bytes: BULK_QUEUE_BYTES,
                window_bytes: WINDOW_BYTES,
                acknowledge_bytes: 512 << 10,
                acknowledge_delay: ACKNOWLEDGE_DELAY,
            },
            handshake_timeout: HANDSHAKE_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            half_open: HALF_OPEN_LIMITS,
        }
    }
}

/// One of the transport's threads; the channel closes when it ends.
struct Worker {
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

/// Links over TCP. Dropping it without [`Transport::close`] ends it at once and without a goodbye, and does not wait.
pub struct TcpTransport {
    shared: Arc<Shared>,
    workers: Mutex<Vec<Worker>>,
    is_closing: AtomicBool,
}

impl TcpTransport {
    /// Listens, and starts the two threads.
    ///
    /// # Errors
    /// `invalid_config` when an address or the key file cannot be used, with the reason; `internal` when the system
    /// gives no thread.
    pub fn start(setup: TcpSetup) -> Result<Self, Error> {
        let limits = Limits::new(setup.security.clone());
        Self::start_with(setup, limits)
    }

    fn start_with(setup: TcpSetup, limits: Limits) -> Result<Self, Error> {
        let wanted = address::check_listen(&setup.listen, &setup.security)?;
        let keys = Keys::load(&setup.security)?;
        let listener = listen(wanted).map_err(|error| {
            Error::new(ErrorKind::InvalidConfig, "start_transport", format!("cannot listen on {wanted}: {error}"))
        })?;
        let bound = listener.local_addr().map_err(|error| fault(&error))?;
        let address = address::check_advertise(setup.advertise.as_deref(), bound, &setup.security)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            identity: Identity { node: setup.node, address, keys },
            sink: setup.sink,
            peers: RwLock::new(BTreeMap::new()),
            half_open: Arc::new(HalfOpen::new(limits.half_open)),
            counters: Counters::default(),
            events,
            is_closed: AtomicBool::new(false),
        });
        let io = runtime().map_err(|error| fault(&error))?;
        let bulk = runtime().map_err(|error| fault(&error))?;
        let stop_bulk = Arc::new(Notify::new());
        let listener = {
            let _guard = io.enter();
            tokio::net::TcpListener::from_std(listener).map_err(|error| fault(&error))?
        };
        let manager = Manager::new(shared.clone(), limits, receiver, listener, bulk.handle().clone());
        let transport =
            Self { shared: shared.clone(), workers: Mutex::new(Vec::new()), is_closing: AtomicBool::new(false) };
        let stop = stop_bulk.clone();
        transport.spawn("process-hub-io", move || {
            io.block_on(manager.run());
            // A name may still be being resolved; that thread ends by itself.
            io.shutdown_background();
            stop.notify_one();
        })?;
        transport.spawn("process-hub-bulk", move || {
            bulk.block_on(stop_bulk.notified());
            bulk.shutdown_background();
        })?;
        Ok(transport)
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let (alive, ended): (Sender<()>, Receiver<()>) = bounded(0);
        let shared = self.shared.clone();
        shared.counters.threads.fetch_add(1, Ordering::AcqRel);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _alive = alive;
                work();
                shared.counters.threads.fetch_sub(1, Ordering::AcqRel);
            })
            .map_err(|error| {
                self.shared.counters.threads.fetch_sub(1, Ordering::AcqRel);
                fault(&error)
            })?;
        self.workers.lock().push(Worker { thread, ended });
        Ok(())
    }

    /// Breaks the connections to a node, as a fault of the network would.
    #[cfg(test)]
    pub(crate) fn break_connections(&self, node: &NodeRef) {
        self.shared.post(Event::Break(node.clone()));
    }
}

fn fault(error: &io::Error) -> Error {
    Error::new(ErrorKind::Internal, "start_transport", format!("the system refused: {error}"))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(4).build()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted node takes its port back while old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// A number nobody guesses; 0 never comes out.
fn random_id() -> u64 {
    let mut bytes = [0; 8];
    // Without system randomness `start` and every handshake fail before this matters.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_be_bytes(bytes).max(1)
}

impl Transport for TcpTransport {
    fn node(&self) -> &NodeRef {
        &self.shared.identity.node
    }

    fn address(&self) -> &str {
        &self.shared.identity.address
    }

    fn connect(&self, address: &str) {
        if address.len() <= MAX_ADDRESS_TEXT_BYTES {
            self.shared.post(Event::Connect(address.to_owned()));
        }
    }

    fn send(&self, to: &NodeRef, lane: Lane, channel: &Channel, bytes: Bytes) -> Result<(), SendError> {
        if self.shared.is_closed.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        let Some(peer) = self.shared.peer(to) else {
            return Err(SendError::NotLinked);
        };
        if *channel == Channel::Swim {
            if !peer.ctl.send_swim(bytes)? {
                count(&self.shared.counters.swim_dropped);
            }
            count(&self.shared.counters.frames_sent);
            return Ok(());
        }
        let link = peer.lane(lane);
        match link.send(channel, bytes) {
            Ok(after) => {
                count(&self.shared.counters.frames_sent);
                if after == AfterSend::Open && link.lane() == Lane::Bulk {
                    self.shared.post(Event::OpenBulk(to.clone()));
                }
                Ok(())
            }
            Err(refused) => {
                if refused.is_reset_due {
                    self.shared.post(Event::Overflow(to.clone()));
                }
                Err(refused.error)
            }
        }
    }

    fn disconnect(&self, node: &NodeRef) {
        self.shared.post(Event::Disconnect(node.clone()));
    }

    fn links(&self) -> Vec<Contact> {
        let peers = self.shared.peers.read();
        let is_up = |peer: &&Arc<peer::Peer>| peer.is_up.load(Ordering::Acquire);
        peers.values().filter(is_up).map(|peer| peer.contact()).collect()
    }

    fn stats(&self) -> TransportStats {
        self.shared.stats()
    }

    fn close(&self, timeout: Duration) {
        if self.is_closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let deadline = Instant::now() + timeout;
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.post(Event::Close(deadline.into()));
        // The manager keeps the deadline itself; a little more is for the threads to end.
        let deadline = deadline + Duration::from_millis(200);
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers {
            let is_ours = worker.thread.thread().id() == thread::current().id();
            let has_ended = !is_ours
                && worker.ended.recv_deadline(deadline) == Err(crossbeam_channel::RecvTimeoutError::Disconnected);
            if !has_ended {
                tracing::warn!(thread = ?worker.thread.thread().name(), "transport thread did not end in time");
            } else if worker.thread.join().is_err() {
                tracing::error!("transport thread panicked");
            }
        }
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.post(Event::Kill);
    }
}

#[cfg(test)]
mod tests;
