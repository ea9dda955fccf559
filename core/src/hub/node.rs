//! A node: one member of the cluster in this process, and the hubs it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Sender, unbounded};
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};

use super::clock;
use super::inputs::Inputs;
use super::membership::{Core, Gate, Membership, dial, keep_dialling};
use super::router::{NodeInput, Router};
use crate::config::{NodeConfig, Profile};
use crate::discovery::Seeds;
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::{Contact, HubId, Incarnation, MAX_ID_BYTES, NodeName, NodeRef};
use crate::net::tcp::{TcpSetup, TcpTransport};
use crate::net::{Channel, SendError, Transport, TransportSink};
use crate::swim::{Swim, SwimSetup};

/// 2020-01-01, in Unix milliseconds: where incarnations count from.
const INCARNATION_ORIGIN_MS: u64 = 1_577_836_800_000;
/// What of a stop's time the hubs leave for the node.
const LEAVE_TIME: Duration = Duration::from_millis(1500);

/// One member of the cluster in this process. Clones share it.
///
/// Several hubs may run on one node. It ends by [`Node::stop`]; dropping the last clone, when no hub runs on it
/// any more, makes it leave in the background.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    me: NodeRef,
    /// The name is no random one.
    has_given_name: bool,
    labels: BTreeMap<String, String>,
    weight: f64,
    core: Arc<Core>,
    inputs: Sender<NodeInput>,
    process: u32,
    stopping: Mutex<()>,
}

impl Drop for Inner {
    /// Never blocks (A14).
    fn drop(&mut self) {
        if self.process == std::process::id() && !self.core.ended.is_set() {
            let until = Instant::now() + LEAVE_TIME;
            let _ = self.inputs.send(NodeInput::Leave(until));
        }
    }
}

impl Node {
    /// Binds the listener, starts the threads and dials the seeds, which are tried again every
    /// `discover_interval`. Where a seed answers, waits about a second at most for the first member's verdict.
    ///
    /// # Errors
    /// `invalid_config` for an address or a key file that cannot be used; `node_name_taken` when a living node has
    /// the name (R13).
    pub fn start(config: &NodeConfig, profile: &Profile, discover_interval: Duration) -> Result<Self, Error> {
        Self::start_with(config, profile, discover_interval, |node, sink| {
            let transport = TcpTransport::start(TcpSetup {
                node: node.clone(),
                listen: config.listen.clone(),
                advertise: config.advertise.clone(),
                security: config.security.clone(),
                sink,
            })?;
            Ok(Arc::new(transport))
        })
    }

    /// Like [`Self::start`], over a transport of the caller's making.
    ///
    /// # Errors
    /// As [`Self::start`], and what `make_transport` refuses.
    pub fn start_with(
        config: &NodeConfig,
        profile: &Profile,
        discover_interval: Duration,
        make_transport: impl FnOnce(&NodeRef, Arc<dyn TransportSink>) -> Result<Arc<dyn Transport>, Error>,
    ) -> Result<Self, Error> {
        let seeds = Seeds::parse(&config.seeds)?;
        let has_given_name = config.name.is_some();
        let me = NodeRef {
            name: match &config.name {
                Some(name) => name.clone(),
                None => default_name()?,
            },
            incarnation: new_incarnation()?,
        };
        let (sender, inputs) = unbounded();
        let router = Arc::new(Router::new(sender.clone()));
        let sink: Arc<dyn TransportSink> = Arc::clone(&router) as _;
        let transport = make_transport(&me, sink)?;
        let contact = Contact { node: me.clone(), address: transport.address().to_owned() };
        let core = Arc::new(Core {
            transport,
            router,
            gate: Gate::default(),
            ended: super::Flag::default(),
            leaving: super::Flag::default(),
        });
        let setup = SwimSetup { contact, profile: profile.clone(), seed: random_number()? };
        let swim = Swim::new(clock::now(), setup);
        let membership = Membership::new(swim, Arc::clone(&core), inputs);
        spawn("process-hub-node", move || membership.run())?;
        let node = Self(Arc::new(Inner {
            me,
            has_given_name,
            labels: config.labels.clone(),
            weight: config.weight,
            core: Arc::clone(&core),
            inputs: sender,
            process: std::process::id(),
            stopping: Mutex::new(()),
        }));
        dial(&core, &seeds);
        if !config.seeds.is_empty() {
            spawn("process-hub-seed", move || {
                keep_dialling(&core, &seeds, discover_interval);
            })?;
        }
        if let Err(refusal) = node.0.core.gate.wait() {
            node.stop(LEAVE_TIME);
            return Err(refusal);
        }
        Ok(node)
    }

    /// Whether the configuration named the node.
    pub(crate) fn has_given_name(&self) -> bool {
        self.0.has_given_name
    }

    /// Stops the hubs, leaves and closes the transport, in this order and by `timeout` (R19). Says whether all of
    /// it ended in time. A second call does nothing but wait.
    pub fn stop(&self, timeout: Duration) -> bool {
        let inner = &*self.0;
        if inner.process != std::process::id() {
            return false;
        }
        let until = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let Some(_alone) = inner.stopping.try_lock_until(until) else {
            return inner.core.ended.is_set();
        };
        if inner.core.ended.is_set() {
            return true;
        }
        let router = &inner.core.router;
        router.close();
        let hub_time = timeout.saturating_sub(LEAVE_TIME).max(timeout / 2);
        for hub in router.hubs() {
            hub.shut_down(hub_time);
        }
        if !router.wait_empty(Instant::now() + hub_time) {
            router.hubs().iter().for_each(Inputs::halt);
        }
        let _ = inner.inputs.send(NodeInput::Leave(until));
        inner.core.ended.wait(until.saturating_duration_since(Instant::now()))
    }

    /// This node: its name and which start of it.
    #[must_use]
    pub fn node_ref(&self) -> &NodeRef {
        &self.0.me
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.0.me.name
    }

    /// The `host:port` peers are told.
    #[must_use]
    pub fn address(&self) -> &str {
        self.0.core.transport.address()
    }

    /// The other members this node sees.
    #[must_use]
    pub fn members(&self) -> Vec<Contact> {
        self.0.core.router.members()
    }

    /// The hubs that run on it.
    #[must_use]
    pub fn hub_count(&self) -> usize {
        self.0.core.router.hub_count()
    }

    /// Frames that came for hubs which do not run here.
    #[must_use]
    pub fn frames_unrouted(&self) -> u64 {
        self.0.core.router.frames_unrouted()
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    pub(crate) fn weight(&self) -> f64 {
        self.0.weight
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.0.core.transport.stats().queued_bytes
    }

    pub(crate) fn attach(&self, id: &HubId, inputs: Inputs) -> Result<(), Error> {
        self.0.core.router.attach(id, inputs)
    }

    pub(crate) fn detach(&self, id: &HubId) {
        self.0.core.router.detach(id);
    }

    pub(crate) fn send(&self, to: &NodeRef, lane: Lane, channel: &Channel, frame: Bytes) -> Result<(), SendError> {
        self.0.core.transport.send(to, lane, channel, frame)
    }
}

/// Starts a thread by name.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(body);
    spawned.map(drop).map_err(|error| {
        let message = format!("the thread {name} did not start: {error}");
        Error::new(ErrorKind::Internal, "start", message)
    })
}

/// A number nobody can foresee.
pub(crate) fn random_number() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        let message = "the operating system gives no random bytes";
        Error::new(ErrorKind::Internal, "start", message)
    })?;
    Ok(u64::from_le_bytes(bytes))
}

/// Milliseconds since 2020 in the upper bits, 12 random bits below: later starts of a name are larger, two in one
/// millisecond differ, and the number stays below 2^53, which JSON readers keep exactly, until 2089.
fn new_incarnation() -> Result<Incarnation, Error> {
    let since = clock::wall_ms().saturating_sub(INCARNATION_ORIGIN_MS);
    Ok(Incarnation(since << 12 | random_number()? & 0xfff))
}

/// The host's name and a random suffix.
fn default_name() -> Result<NodeName, Error> {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let suffix = format!("-{:08x}", random_number()? >> 32);
    let mut kept = host.len().min(MAX_ID_BYTES - suffix.len());
    while !host.is_char_boundary(kept) {
        kept -= 1;
    }
    NodeName::new(format!("{}{suffix}", &host[..kept]))
}

#[cfg(test)]
mod tests;
