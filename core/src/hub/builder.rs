//! How a hub is made.

use std::collections::BTreeSet;
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
use crate::host::decide::Decide;
use crate::host::local::{LocalHost, Strategies};
use crate::host::queue::HostQueue;
use crate::ids::{KindName, NodeName};
use crate::observe::metrics::HubMetrics;
use crate::observe::{HookEvent, HookName};
use crate::spec::ChildSpec;
use crate::strategy::{Family, LoadSample};
use crate::time::Timestamp;

/// Collects what a hub needs before it starts.
#[must_use = "nothing happens before `start`"]
pub struct HubBuilder {
    config: HubConfig,
    node: Option<Node>,
    kinds: Vec<(String, Arc<dyn Kind>)>,
    infos: Vec<KindInfo>,
    strategies: Strategies,
    strategy_infos: Vec<(Family, String)>,
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
            strategies: Strategies::new(),
            strategy_infos: Vec::new(),
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

    /// Registers what decides for a strategy family, under the name that a configuration of the type `custom` gives; for
    /// [`Self::start`]. docs/strategies.md shows the questions and their answers.
    ///
    /// # Examples
    /// ```
    /// use process_hub::config::{HubConfig, Migration};
    /// use process_hub::hub::Hub;
    /// use process_hub::strategy::Family;
    /// use serde_json::{Value, json};
    ///
    /// let config = HubConfig::new("orders")?.with_migration(Migration::hosted("backwards", Migration::hot_swap()));
    /// let builder = Hub::builder(config).decide(Family::Migration, "backwards", |question: &Value| {
    ///     let moves = question["moves"].as_array().into_iter().flatten();
    ///     Ok(moves.rev().map(|one| one["id"].clone()).collect())
    /// });
    /// # Ok::<(), process_hub::error::Error>(())
    /// ```
    pub fn decide(mut self, family: Family, name: &str, code: impl Decide + 'static) -> Self {
        self.strategies.insert((family, name.into()), Arc::new(code));
        self
    }

    /// Names a strategy that the host runs itself, for [`Self::start_with_queue`].
    pub fn strategy_info(mut self, family: Family, name: &str) -> Self {
        self.strategy_infos.push((family, name.into()));
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
    /// configuration, for a strategy that is not registered, and for what [`Node::start`] refuses; `node_name_taken`; `hub_exists`; `closed` when the node
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
        check_strategies(&config, self.strategies.keys().chain(&self.strategy_infos))?;
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
            let local = LocalHost::start(queue.clone(), requests, observers, self.strategies, threads);
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

/// Refuses a strategy of the configuration that nothing decides for.
fn check_strategies<'a>(
    config: &HubConfig,
    registered: impl Iterator<Item = &'a (Family, String)>,
) -> Result<(), Error> {
    let registered: BTreeSet<(Family, &str)> = registered.map(|(family, name)| (*family, name.as_str())).collect();
    let missing = config.hosted().into_iter().find(|hosted| !registered.contains(hosted));
    let Some((family, name)) = missing else { return Ok(()) };
    let known: Vec<&str> = registered.iter().filter(|(of, _)| *of == family).map(|(_, name)| *name).collect();
    let known = if known.is_empty() { "none is".to_owned() } else { format!("registered is {}", known.join(", ")) };
    let message = format!("{family}.name: no strategy of the name {name} is registered for it: {known}");
    Err(Error::new(ErrorKind::InvalidConfig, "start", message))
}

fn engine(now: Timestamp, setup: EngineSetup) -> Box<dyn Machine> {
    Box::new(Engine::new(now, setup))
}

impl std::fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
