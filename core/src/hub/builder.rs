//! How a hub is made.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::clock::{now, wall_ms};
use super::driver::{Driver, Machine};
use super::load::{LoadMeter, LoadProbe};
use super::node::{Node, random_number, spawn};
use super::observers::{Interceptor, Observer, Observers};
use super::requests::Requests;
use super::statics::StaticChildren;
use super::view::View;
use super::{Flag, Handle, Hub, Shared, inputs};
use crate::config::HubConfig;
use crate::engine::{Command, Engine, EngineSetup};
use crate::error::{Error, ErrorKind};
use crate::host::call::{HostFailure, KindInfo};
use crate::host::child::Kind;
use crate::host::local::LocalHost;
use crate::host::queue::HostQueue;
use crate::ids::{KindName, NodeName};
use crate::observe::metrics::HubMetrics;
use crate::observe::{HookEvent, HookName};
use crate::spec::ChildSpec;
use crate::strategy::LoadSample;
use crate::time::Timestamp;

/// Collects what a hub needs before it starts.
#[must_use = "nothing happens before `start`"]
pub struct HubBuilder {
    config: HubConfig,
    node: Option<Node>,
    kinds: Vec<(String, Arc<dyn Kind>)>,
    infos: Vec<KindInfo>,
    hooks: Vec<(HookName, String, i32, Observer)>,
    interceptors: Vec<(String, i32, Interceptor)>,
    host_hooks: u64,
    is_polled: bool,
    load_probe: Option<LoadProbe>,
}

impl HubBuilder {
    pub(crate) fn new(config: HubConfig) -> Self {
        Self {
            config,
            node: None,
            kinds: Vec::new(),
            infos: Vec::new(),
            hooks: Vec::new(),
            interceptors: Vec::new(),
            host_hooks: 0,
            is_polled: false,
            load_probe: None,
        }
    }

    /// Runs the hub on this node, instead of one of its own.
    pub fn node(mut self, node: &Node) -> Self {
        self.node = Some(node.clone());
        self
    }

    /// Registers a kind of Rust children, for [`Self::start`].
    pub fn kind(mut self, name: &str, kind: impl Kind + 'static) -> Self {
        self.kinds.push((name.into(), Arc::new(kind)));
        self
    }

    /// Registers a kind the host runs itself, for [`Self::start_with_queue`].
    pub fn kind_info(mut self, info: KindInfo) -> Self {
        self.infos.push(info);
        self
    }

    /// Adds an observer that sees the first events too; see [`Hub::on`].
    pub fn hook(
        mut self,
        hook: HookName,
        id: &str,
        priority: i32,
        handler: impl Fn(&HookEvent) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.push((hook, id.into(), priority, Arc::new(handler)));
        self
    }

    /// Adds an interceptor that sees the static children too, for [`Self::start`]; see [`Hub::intercept`].
    pub fn intercept(
        mut self,
        id: &str,
        priority: i32,
        handler: impl Fn(ChildSpec, &[NodeName]) -> Result<ChildSpec, HostFailure> + Send + Sync + 'static,
    ) -> Self {
        let handler: Interceptor = Arc::new(handler);
        self.interceptors.push((id.into(), priority, handler));
        self
    }

    /// Which hooks the host queue delivers from the beginning; see [`Hub::subscribe_hooks`].
    pub fn host_hooks(mut self, bits: u64) -> Self {
        self.host_hooks = bits;
        self
    }

    /// Runs the children and handlers on no thread of the hub, but on those that call [`Hub::poll`]; for
    /// [`Self::start`]. Bodies have threads of their own all the same.
    pub fn polled(mut self) -> Self {
        self.is_polled = true;
        self
    }

    /// Says what this node has to do, for the distribution `load_balanced`, in the place of what the library measures of
    /// the process: its CPU time and the calls that wait for the host. Asked at each `push_interval_ms`, on the hub's
    /// thread: it must be fast and never wait.
    pub fn load_probe(mut self, probe: impl Fn() -> LoadSample + Send + Sync + 'static) -> Self {
        self.load_probe = Some(Arc::new(probe));
        self
    }

    /// Starts the hub with its kinds run on threads of its own.
    ///
    /// # Errors
    /// `invalid_argument` for a bad name of a kind; `invalid_config` when there is neither a node nor its
    /// configuration, and for what [`Node::start`] refuses; `node_name_taken`; `hub_exists`; `closed` when the node
    /// was stopped.
    pub fn start(self) -> Result<Hub, Error> {
        self.begin(true, engine).map(|(hub, _)| hub)
    }

    /// Starts the hub and gives its queue to the caller, who runs the kinds: a binding.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_queue(self) -> Result<(Hub, HostQueue), Error> {
        self.begin(false, engine)
    }

    pub(crate) fn begin(
        self,
        runs_children: bool,
        make_engine: impl FnOnce(Timestamp, EngineSetup) -> Box<dyn Machine>,
    ) -> Result<(Hub, HostQueue), Error> {
        let mut infos = self.infos;
        let mut kinds = Vec::new();
        for (name, kind) in self.kinds {
            let name = KindName::new(name)?;
            infos.push(KindInfo { name: name.clone(), has_state: kind.has_state(), has_run: kind.has_run() });
            kinds.push((name, kind));
        }
        let config = self.config;
        let (node, owns_node) = match (self.node, &config.node) {
            (Some(node), _) => (node, false),
            (None, Some(own)) => {
                let interval = config.hubs_discover_interval;
                (Node::start(own, &config.profile, interval)?, true)
            }
            (None, None) => {
                let message = "`node` is missing, and no node object was given";
                return Err(Error::new(ErrorKind::InvalidConfig, "start", message));
            }
        };
        if config.partition_tolerance.has_quorum() && !node.has_given_name() {
            let message = format!("node.name: {}", crate::config::NAME_NEEDED);
            return Err(Error::new(ErrorKind::InvalidConfig, "start", message));
        }
        let (sender, receiver) = inputs::channel();
        let queue = HostQueue::new(sender.clone());
        let requests = Arc::new(Requests::new(sender.clone(), queue.clone()));
        let observers = Arc::new(if self.is_polled { Observers::polled() } else { Observers::default() });
        for (hook, id, priority, handler) in self.hooks {
            observers.on(hook, id, priority, handler)?;
        }
        for (id, priority, handler) in self.interceptors {
            observers.intercept(id, priority, handler);
        }
        let local = runs_children.then(|| {
            let threads = if self.is_polled { 0 } else { config.host_threads };
            let (requests, observers) = (Arc::clone(&requests), Arc::clone(&observers));
            let local = LocalHost::start(queue.clone(), requests, observers, threads);
            for (name, kind) in kinds {
                local.register(name, kind);
            }
            local
        });
        let shared = Arc::new(Shared {
            id: config.hub_id.clone(),
            owns_node,
            requests,
            view: View::new(random_number()?),
            observers: Arc::clone(&observers),
            metrics: HubMetrics::new(&config.hub_id, node.name()),
            queue: queue.clone(),
            local,
            host_hooks: AtomicU64::new(self.host_hooks | observers.polled_bits()),
            is_polled: self.is_polled,
            shutdown_timeout: config.shutdown_timeout,
            report: parking_lot::Mutex::new(None),
            ended: Flag::default(),
            node,
        });
        let handle = Arc::new(Handle { shared });
        let shared = &handle.shared;
        if let Some(local) = &shared.local {
            local.set_hub(Arc::downgrade(&handle));
        }
        let time = now();
        let statics = StaticChildren::new(config.child_specs.clone(), config.hubs_discover_interval, time);
        let setup = EngineSetup {
            labels: shared.node.labels().clone(),
            weight: shared.node.weight(),
            node: shared.node.node_ref().clone(),
            kinds: infos,
            wall_ms: wall_ms(),
            seed: random_number()?,
            config,
        };
        let hooks = self.host_hooks | shared.observers.bits();
        shared.requests.submit_unread(Command::SubscribeHooks(hooks));
        let meter = LoadMeter::new(time, self.load_probe);
        let driver = Driver::new(make_engine(time, setup), receiver, Arc::clone(shared), statics, meter);
        shared.node.attach(&shared.id, sender)?;
        if let Err(error) = spawn("process-hub-engine", move || driver.run()) {
            shared.node.detach(&shared.id);
            return Err(error);
        }
        Ok((Hub { handle }, queue))
    }
}

fn engine(now: Timestamp, setup: EngineSetup) -> Box<dyn Machine> {
    Box::new(Engine::new(now, setup))
}

impl std::fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
