//! Engines with several instances of a child, whose hosts keep a text as state: frames go where and when a test says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::{HubConfig, Migration, Redundancy, RedundancySignal, ReplicationFactor, ReplicationModel};
use process_hub::engine::{
    Command, Counters, Effect, Engine, EngineSetup, Input, MessageCommand, Outcome, Recipient, StartOptions,
};
use process_hub::error::Error;
use process_hub::host::call::{HostAnswer, HostCall, HostFailure, HostRequest, KindInfo, StopReason};
use process_hub::ids::{ChildId, Incarnation, InstanceId, KindName, NodeName, NodeRef, RequestId};
use process_hub::payload::Payload;
use process_hub::spec::{ChildSpec, Mode, Row, StartResult};
use process_hub::swim::Evidence;
use process_hub::time::Timestamp;

/// What an instance of the host's is.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) child: ChildId,
    pub(crate) state: String,
    pub(crate) mode: Mode,
    pub(crate) epoch: u64,
    pub(crate) signals: Vec<Mode>,
}

/// Engines, the hosts with them, and the frames between.
pub(crate) struct Bench {
    pub(crate) now: Timestamp,
    pub(crate) config: HubConfig,
    pub(crate) engines: BTreeMap<NodeRef, Engine>,
    pub(crate) frames: VecDeque<(NodeRef, NodeRef, Bytes)>,
    /// Frames from the first to the second wait.
    pub(crate) held: BTreeSet<(NodeRef, NodeRef)>,
    pub(crate) instances: BTreeMap<(NodeRef, InstanceId), Instance>,
    pub(crate) stops: Vec<(NodeRef, StopReason)>,
    pub(crate) rows: BTreeMap<NodeRef, BTreeMap<ChildId, Arc<Row>>>,
    pub(crate) replies: BTreeMap<u64, Result<Outcome, Error>>,
    /// Starts on these nodes fail.
    pub(crate) broken: BTreeSet<NodeRef>,
    pub(crate) incarnation: u64,
    pub(crate) request: u64,
}

pub(crate) fn node(name: &str, incarnation: u64) -> NodeRef {
    NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(incarnation) }
}

pub(crate) fn replication(factor: ReplicationFactor, model: ReplicationModel, migration: Migration) -> HubConfig {
    let redundancy = Redundancy::replication().with_factor(factor).with_model(model).with_signal(RedundancySignal::All);
    HubConfig::new("orders").unwrap().with_redundancy(redundancy).with_migration(migration)
}

/// Two instances, one of them active, their state going along.
pub(crate) fn active_passive() -> HubConfig {
    let hot = Migration::hot_swap().with_handover(true);
    replication(ReplicationFactor::Count(2), ReplicationModel::ActivePassive, hot)
}

pub(crate) const CHILD: &str = "cart:1";

impl Bench {
    pub(crate) fn new(config: HubConfig) -> Self {
        Self {
            now: Timestamp::default(),
            config,
            engines: BTreeMap::new(),
            frames: VecDeque::new(),
            held: BTreeSet::new(),
            instances: BTreeMap::new(),
            stops: Vec::new(),
            rows: BTreeMap::new(),
            replies: BTreeMap::new(),
            broken: BTreeSet::new(),
            incarnation: 0,
            request: 0,
        }
    }

    /// A node of this name joins those that are there.
    pub(crate) fn join(&mut self, name: &str) -> NodeRef {
        self.join_in_zone(name, None)
    }

    pub(crate) fn join_in_zone(&mut self, name: &str, zone: Option<&str>) -> NodeRef {
        self.incarnation += 1;
        let me = node(name, self.incarnation);
        let kind = KindInfo { name: KindName::new("cart").unwrap(), has_state: true, has_run: false };
        let setup = EngineSetup {
            config: self.config.clone(),
            labels: zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect(),
            weight: 1.0,
            node: me.clone(),
            kinds: vec![kind],
            wall_ms: 1_700_000_000_000 + self.now.0 / 1000 + self.incarnation,
            seed: self.incarnation,
        };
        self.engines.insert(me.clone(), Engine::new(self.now, setup));
        for other in self.engines.keys().cloned().collect::<Vec<_>>() {
            if other != me {
                self.give(&me, Input::NodeUp(other.clone()));
                self.give(&other, Input::NodeUp(me.clone()));
            }
        }
        self.pass(Duration::from_secs(2));
        me
    }

    /// The process of a node ends without a word.
    pub(crate) fn kill(&mut self, node: &NodeRef) {
        self.engines.remove(node);
        self.instances.retain(|(at, _), _| at != node);
        for other in self.engines.keys().cloned().collect::<Vec<_>>() {
            self.give(&other, Input::NodeDown(node.clone(), Evidence::Refused));
        }
    }

    pub(crate) fn give(&mut self, to: &NodeRef, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(engine) = self.engines.get_mut(to) else {
                return;
            };
            let mut effects = Vec::new();
            engine.handle(self.now, input, &mut effects);
            engine.flush(self.now, &mut effects);
            for effect in effects {
                #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is for drivers")]
                match effect {
                    Effect::Send { to: target, frame, .. } => self.frames.push_back((to.clone(), target, frame)),
                    Effect::Host(call) => {
                        let answer = self.host(to, &call);
                        inputs.push_back(Input::HostDone(call.number, answer));
                    }
                    Effect::Reply(request, result) => {
                        self.replies.insert(request.0, result);
                    }
                    Effect::Publish(child, row) => {
                        let rows = self.rows.entry(to.clone()).or_default();
                        match row {
                            Some(row) => rows.insert(child, row),
                            None => rows.remove(&child),
                        };
                    }
                    Effect::Failed(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn host(&mut self, at: &NodeRef, call: &HostCall) -> HostAnswer {
        let key = (at.clone(), call.instance);
        if let HostRequest::Start(context) = &call.request {
            if self.broken.contains(at) {
                return HostAnswer::Failed(HostFailure::new("it is broken here"));
            }
            let instance = Instance {
                child: call.child.clone(),
                state: "new".to_owned(),
                mode: context.mode,
                epoch: context.epoch.0,
                signals: Vec::new(),
            };
            self.instances.insert(key, instance);
            return HostAnswer::Done(None);
        }
        let text = |payload: &Payload| String::from_utf8(payload.data.to_vec()).unwrap();
        let Some(instance) = self.instances.get_mut(&key) else {
            return HostAnswer::Done(None);
        };
        #[allow(clippy::wildcard_enum_match_arm, reason = "the rest does nothing here")]
        match &call.request {
            HostRequest::Handle { message, .. } => {
                if text(message) != "get" {
                    instance.state = text(message);
                }
                return HostAnswer::Done(Some(Payload::json(instance.state.clone())));
            }
            HostRequest::PrepareState => return HostAnswer::Done(Some(Payload::json(instance.state.clone()))),
            HostRequest::AlterState(state) => instance.state = text(state),
            HostRequest::RedundancySignal(mode) => instance.signals.push(*mode),
            HostRequest::SetRole(epoch, mode) => (instance.epoch, instance.mode) = (epoch.0, *mode),
            HostRequest::Stop(reason) => {
                self.stops.push((at.clone(), *reason));
                self.instances.remove(&key);
            }
            HostRequest::Discard => {
                self.instances.remove(&key);
            }
            _ => {}
        }
        HostAnswer::Done(None)
    }

    /// Delivers every frame that is not held.
    pub(crate) fn deliver(&mut self) {
        let mut waiting = VecDeque::new();
        while let Some((from, to, frame)) = self.frames.pop_front() {
            if self.held.contains(&(from.clone(), to.clone())) {
                waiting.push_back((from, to, frame));
            } else {
                self.give(&to, Input::Frame(from, frame));
            }
        }
        self.frames = waiting;
    }

    /// Lets this much time pass, a millisecond at a time.
    pub(crate) fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() {
            self.now += Duration::from_millis(1);
            for node in self.engines.keys().cloned().collect::<Vec<_>>() {
                if self.engines[&node].next_deadline() <= self.now {
                    self.give(&node, Input::Tick);
                }
            }
            self.deliver();
        }
    }

    /// Asks a node for something, and passes up to ten seconds until it is answered.
    pub(crate) fn ask(&mut self, at: &NodeRef, command: Command) -> Result<Outcome, Error> {
        self.request += 1;
        let request = self.request;
        self.give(at, Input::Command(RequestId(request), command));
        for _ in 0..1000 {
            if let Some(reply) = self.replies.remove(&request) {
                return reply;
            }
            self.pass(Duration::from_millis(10));
        }
        panic!("no answer")
    }

    pub(crate) fn start(&mut self, at: &NodeRef) -> StartResult {
        let spec = Arc::new(ChildSpec::new(CHILD, "cart").unwrap());
        let outcome = self.ask(at, Command::Start(vec![spec], StartOptions::default())).unwrap();
        let Outcome::Started(result) = outcome else { panic!("{outcome:?}") };
        result
    }

    pub(crate) fn message(&self, text: &str, recipient: Recipient) -> MessageCommand {
        MessageCommand {
            child: ChildId::new(CHILD).unwrap(),
            message: Payload::json(text.to_owned()),
            recipient,
            timeout: Duration::from_secs(2),
            chain: Arc::from([]),
        }
    }

    pub(crate) fn call(&mut self, at: &NodeRef, text: &str, recipient: Recipient) -> Result<String, Error> {
        let command = Command::Call(self.message(text, recipient));
        let outcome = self.ask(at, command)?;
        let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
        Ok(String::from_utf8(reply.data.to_vec()).unwrap())
    }

    pub(crate) fn send_to_all(&mut self, at: &NodeRef, text: &str) {
        let command = Command::Send(self.message(text, Recipient::All));
        assert_eq!(self.ask(at, command).unwrap(), Outcome::Done);
    }

    /// The instances of the child: node, role, state.
    pub(crate) fn roles(&self) -> Vec<(String, Mode, String)> {
        let instances = self.instances.iter().filter(|(_, instance)| instance.child.as_str() == CHILD);
        instances.map(|((node, _), instance)| (node.name.to_string(), instance.mode, instance.state.clone())).collect()
    }

    pub(crate) fn modes(&self) -> BTreeMap<String, Mode> {
        self.roles().into_iter().map(|(node, mode, _)| (node, mode)).collect()
    }

    pub(crate) fn instance(&self, at: &NodeRef) -> &Instance {
        let mut found = self.instances.iter().filter(|((node, _), _)| node == at);
        let (_, instance) = found.next().unwrap_or_else(|| panic!("nothing runs on {at}"));
        assert!(found.next().is_none(), "two instances on {at}");
        instance
    }

    /// The node of the only active instance, and of the passive ones.
    pub(crate) fn active(&self) -> (NodeRef, Vec<NodeRef>) {
        let of = |mode: Mode| {
            let instances = self.instances.iter().filter(move |(_, instance)| instance.mode == mode);
            instances.map(|((node, _), _)| node.clone()).collect::<Vec<_>>()
        };
        let actives = of(Mode::Active);
        assert_eq!(actives.len(), 1, "{:?}", self.roles());
        (actives[0].clone(), of(Mode::Passive))
    }

    pub(crate) fn row(&self, at: &NodeRef) -> Vec<(String, Mode, u64)> {
        let row = &self.rows[at][CHILD];
        row.instances.iter().map(|one| (one.node.to_string(), one.mode, one.epoch.0)).collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        let sum = |of: fn(Counters) -> u64| self.engines.values().map(|engine| of(engine.counters())).sum();
        Counters {
            failovers: sum(|it| it.failovers),
            promotions: sum(|it| it.promotions),
            states_lost: sum(|it| it.states_lost),
            ..Counters::default()
        }
    }

    /// Every node agrees on the rows, and they tell of what runs.
    pub(crate) fn assert_settled(&self) {
        let running = self.modes();
        for node in self.engines.keys() {
            let row = self.row(node);
            let told: BTreeMap<String, Mode> = row.iter().map(|(node, mode, _)| (node.clone(), *mode)).collect();
            assert_eq!(told, running, "as {node} sees it");
            let epochs: BTreeSet<u64> = row.iter().map(|(_, _, epoch)| *epoch).collect();
            assert_eq!(epochs.len(), 1, "replicas share the epoch (R4): {row:?}");
        }
        let mut epochs = BTreeSet::new();
        for instance in self.instances.values() {
            epochs.insert(instance.epoch);
        }
        assert_eq!(epochs.len(), 1, "every instance knows its epoch");
    }
}
