//! Children with several instances: engines without threads or sockets, frames go where and when a test says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::{HubConfig, Migration, Redundancy, RedundancySignal, ReplicationFactor, ReplicationModel};
use process_hub::engine::{
    Command, Counters, Effect, Engine, EngineSetup, IfExists, Input, MessageCommand, Outcome, Recipient, StartOptions,
};
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::{HostAnswer, HostCall, HostFailure, HostRequest, InstanceEvent, KindInfo, StopReason};
use process_hub::ids::{ChildId, Incarnation, InstanceId, KindName, NodeName, NodeRef, RequestId};
use process_hub::payload::Payload;
use process_hub::spec::{ChildSpec, Mode, Row, StartResult};
use process_hub::strategy::{self, Actives};
use process_hub::swim::Evidence;
use process_hub::time::Timestamp;

/// What an instance of the host's is.
#[derive(Clone, Debug)]
struct Instance {
    child: ChildId,
    state: String,
    mode: Mode,
    epoch: u64,
    signals: Vec<Mode>,
}

/// Engines, the hosts with them, and the frames between.
struct Bench {
    now: Timestamp,
    config: HubConfig,
    engines: BTreeMap<NodeRef, Engine>,
    frames: VecDeque<(NodeRef, NodeRef, Bytes)>,
    /// Frames from the first to the second wait.
    held: BTreeSet<(NodeRef, NodeRef)>,
    instances: BTreeMap<(NodeRef, InstanceId), Instance>,
    stops: Vec<(NodeRef, StopReason)>,
    rows: BTreeMap<NodeRef, BTreeMap<ChildId, Arc<Row>>>,
    replies: BTreeMap<u64, Result<Outcome, Error>>,
    /// Starts on these nodes fail.
    broken: BTreeSet<NodeRef>,
    incarnation: u64,
    request: u64,
}

fn node(name: &str, incarnation: u64) -> NodeRef {
    NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(incarnation) }
}

fn replication(factor: ReplicationFactor, model: ReplicationModel, migration: Migration) -> HubConfig {
    let redundancy = Redundancy::replication().with_factor(factor).with_model(model).with_signal(RedundancySignal::All);
    HubConfig::new("orders").unwrap().with_redundancy(redundancy).with_migration(migration)
}

/// Two instances, one of them active, their state going along.
fn active_passive() -> HubConfig {
    let hot = Migration::hot_swap().with_handover(true);
    replication(ReplicationFactor::Count(2), ReplicationModel::ActivePassive, hot)
}

const CHILD: &str = "cart:1";

impl Bench {
    fn new(config: HubConfig) -> Self {
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
    fn join(&mut self, name: &str) -> NodeRef {
        self.join_in_zone(name, None)
    }

    fn join_in_zone(&mut self, name: &str, zone: Option<&str>) -> NodeRef {
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
    fn kill(&mut self, node: &NodeRef) {
        self.engines.remove(node);
        self.instances.retain(|(at, _), _| at != node);
        for other in self.engines.keys().cloned().collect::<Vec<_>>() {
            self.give(&other, Input::NodeDown(node.clone(), Evidence::Refused));
        }
    }

    fn give(&mut self, to: &NodeRef, input: Input) {
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

    fn host(&mut self, at: &NodeRef, call: &HostCall) -> HostAnswer {
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
    fn deliver(&mut self) {
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
    fn pass(&mut self, time: Duration) {
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
    fn ask(&mut self, at: &NodeRef, command: Command) -> Result<Outcome, Error> {
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

    fn start(&mut self, at: &NodeRef) -> StartResult {
        let spec = Arc::new(ChildSpec::new(CHILD, "cart").unwrap());
        let outcome = self.ask(at, Command::Start(vec![spec], StartOptions::default())).unwrap();
        let Outcome::Started(result) = outcome else { panic!("{outcome:?}") };
        result
    }

    fn message(&self, text: &str, recipient: Recipient) -> MessageCommand {
        MessageCommand {
            child: ChildId::new(CHILD).unwrap(),
            message: Payload::json(text.to_owned()),
            recipient,
            timeout: Duration::from_secs(2),
            chain: Arc::from([]),
        }
    }

    fn call(&mut self, at: &NodeRef, text: &str, recipient: Recipient) -> Result<String, Error> {
        let command = Command::Call(self.message(text, recipient));
        let outcome = self.ask(at, command)?;
        let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
        Ok(String::from_utf8(reply.data.to_vec()).unwrap())
    }

    fn send_to_all(&mut self, at: &NodeRef, text: &str) {
        let command = Command::Send(self.message(text, Recipient::All));
        assert_eq!(self.ask(at, command).unwrap(), Outcome::Done);
    }

    /// The instances of the child: node, role, state.
    fn roles(&self) -> Vec<(String, Mode, String)> {
        let instances = self.instances.iter().filter(|(_, instance)| instance.child.as_str() == CHILD);
        instances.map(|((node, _), instance)| (node.name.to_string(), instance.mode, instance.state.clone())).collect()
    }

    fn modes(&self) -> BTreeMap<String, Mode> {
        self.roles().into_iter().map(|(node, mode, _)| (node, mode)).collect()
    }

    fn instance(&self, at: &NodeRef) -> &Instance {
        let mut found = self.instances.iter().filter(|((node, _), _)| node == at);
        let (_, instance) = found.next().unwrap_or_else(|| panic!("nothing runs on {at}"));
        assert!(found.next().is_none(), "two instances on {at}");
        instance
    }

    /// The node of the only active instance, and of the passive ones.
    fn active(&self) -> (NodeRef, Vec<NodeRef>) {
        let of = |mode: Mode| {
            let instances = self.instances.iter().filter(move |(_, instance)| instance.mode == mode);
            instances.map(|((node, _), _)| node.clone()).collect::<Vec<_>>()
        };
        let actives = of(Mode::Active);
        assert_eq!(actives.len(), 1, "{:?}", self.roles());
        (actives[0].clone(), of(Mode::Passive))
    }

    fn row(&self, at: &NodeRef) -> Vec<(String, Mode, u64)> {
        let row = &self.rows[at][CHILD];
        row.instances.iter().map(|one| (one.node.to_string(), one.mode, one.epoch.0)).collect()
    }

    fn counters(&self) -> Counters {
        let sum = |of: fn(Counters) -> u64| self.engines.values().map(|engine| of(engine.counters())).sum();
        Counters {
            failovers: sum(|it| it.failovers),
            promotions: sum(|it| it.promotions),
            states_lost: sum(|it| it.states_lost),
            ..Counters::default()
        }
    }

    /// Every node agrees on the rows, and they tell of what runs.
    fn assert_settled(&self) {
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

#[test]
fn r1_factor_two_then_the_start_ends_with_both_instances_and_tells_them() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    let result = bench.start(&a);
    let nodes: BTreeSet<String> =
        result.started[0].instances.iter().map(|instance| instance.node.to_string()).collect();
    assert_eq!(nodes, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(bench.row(&a).len(), 2, "the caller's registry has both when it is answered");
    bench.pass(Duration::from_millis(50));
    bench.assert_settled();
    let (active, passive) = bench.active();
    assert_eq!(bench.instance(&active).signals, [Mode::Active]);
    assert_eq!(bench.instance(&passive[0]).signals, [Mode::Passive]);
    for at in [&a, &b] {
        let text = format!("from {at}");
        assert_eq!(bench.call(at, &text, Recipient::Active).unwrap(), text);
        assert_eq!(bench.instance(&active).state, text);
        assert_eq!(bench.instance(&passive[0]).state, "new");
    }
}

#[test]
fn r1_one_node_then_one_instance_is_enough_and_the_second_comes_with_the_node() {
    let mut bench = Bench::new(active_passive());
    let a = bench.join("a");
    assert_eq!(bench.start(&a).started[0].instances.len(), 1);
    bench.join("b");
    bench.pass(Duration::from_secs(1));
    bench.assert_settled();
    bench.active();
    assert_eq!(bench.modes().len(), 2);
}

#[test]
fn r9_active_is_killed_then_the_survivor_is_active_at_once_without_a_loss() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.send_to_all(&a, "written");
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    bench.kill(&active);
    bench.pass(Duration::from_millis(5));
    let survivor = bench.instance(&passive[0]);
    assert_eq!(survivor.signals, [Mode::Passive, Mode::Active]);
    assert_eq!((survivor.mode, survivor.state.as_str()), (Mode::Active, "written"));
    let counters = bench.counters();
    assert_eq!((counters.promotions, counters.failovers, counters.states_lost), (1, 0, 0));
    assert_eq!(bench.call(&passive[0], "get", Recipient::Active).unwrap(), "written");
}

/// Twenty times the active one is killed and comes back: the survivor's state is the child's each time.
#[test]
fn r9_killed_active_returns_again_and_again_then_it_holds_the_survivors_state() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    for round in 0..20 {
        let (active, passive) = bench.active();
        let before = bench.instance(&passive[0]).epoch;
        bench.kill(&active);
        bench.pass(Duration::from_millis(20));
        let text = format!("round {round}");
        bench.send_to_all(&passive[0], &text);
        let back = bench.join(active.name.as_str());
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert_eq!(active, back, "the child belongs to the same name again");
        assert_eq!(bench.instance(&active).state, text);
        assert_eq!(bench.instance(&passive[0]).state, text, "the survivor keeps what it has");
        assert_eq!(bench.instance(&passive[0]).signals.last(), Some(&Mode::Passive));
        assert!(bench.instance(&active).epoch > before);
    }
    let counters = bench.counters();
    assert_eq!((counters.failovers, counters.states_lost), (0, 0));
}

#[test]
fn r9_passive_is_killed_then_nothing_changes_for_the_active_one() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    let epoch = bench.instance(&active).epoch;
    bench.kill(&passive[0]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.instance(&active).epoch, epoch);
    assert_eq!(bench.instance(&active).signals, [Mode::Active]);
    assert_eq!(bench.counters().promotions, 0);
}

#[test]
fn r9_placement_of_three_changes_then_a_passive_that_left_it_just_stops() {
    let mut bench = Bench::new(active_passive());
    let a = bench.join("a");
    bench.join("b");
    bench.start(&a);
    for name in ["c", "d", "e", "f"] {
        bench.join(name);
        bench.pass(Duration::from_secs(1));
        bench.assert_settled();
        let (_, passive) = bench.active();
        assert_eq!(passive.len(), 1);
    }
    while bench.engines.len() > 1 {
        let (active, _) = bench.active();
        bench.kill(&active);
        bench.pass(Duration::from_secs(2));
        bench.assert_settled();
        bench.active();
        assert_eq!(bench.modes().len(), bench.engines.len().min(2));
    }
    let counters = bench.counters();
    assert_eq!((counters.failovers, counters.states_lost), (0, 0), "there was always one left");
}

/// With zones the next owner may be a node that runs nothing of the child: the passive one becomes active where it
/// is, and gives the child away then.
#[test]
fn r9_new_owner_has_no_instance_then_the_passive_becomes_active_and_hands_over() {
    for seed in 0..12 {
        let mut bench = Bench::new(active_passive());
        let zones = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")];
        let nodes: Vec<NodeRef> =
            zones.iter().map(|(name, zone)| bench.join_in_zone(&format!("{name}{seed}"), Some(zone))).collect();
        bench.start(&nodes[0]);
        bench.send_to_all(&nodes[0], "kept");
        bench.pass(Duration::from_millis(50));
        let (active, passive) = bench.active();
        let zone_of = |node: &NodeRef| nodes.iter().position(|other| other == node).unwrap() / 2;
        assert_ne!(zone_of(&active), zone_of(&passive[0]), "replicas are spread over zones");
        bench.kill(&active);
        bench.pass(Duration::from_secs(2));
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert_eq!(bench.instance(&active).state, "kept");
        assert_ne!(zone_of(&active), zone_of(&passive[0]));
        assert_eq!(bench.counters().states_lost, 0);
    }
}

#[test]
fn r1_a_replica_cannot_start_then_the_start_fails_and_nothing_is_wanted() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    // Whichever of the two is passive.
    for broken in [&a, &b] {
        bench.broken = BTreeSet::from([broken.clone()]);
        let result = bench.start(&a);
        assert!(result.started.is_empty());
        assert_eq!(result.errors[0].kind, ErrorKind::StartFailed);
        assert_eq!(result.errors[0].node.as_ref(), Some(&broken.name));
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.roles(), [], "{broken} is broken");
    }
    bench.broken.clear();
    assert_eq!(bench.start(&a).started[0].instances.len(), 2);
}

#[test]
fn stop_ends_all_instances_and_names_them() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    let stop = Command::Stop(vec![ChildId::new(CHILD).unwrap()], Duration::from_secs(5));
    let Outcome::Stopped(result) = bench.ask(&b, stop).unwrap() else { panic!() };
    let mut nodes: Vec<&str> = result.stopped[0].nodes.iter().map(NodeName::as_str).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(bench.roles(), []);
    assert_eq!(bench.stops.iter().filter(|(_, reason)| *reason == StopReason::Stopped).count(), 2);
}

#[test]
fn active_active_then_every_instance_is_active_and_the_nearest_is_called() {
    let model = ReplicationModel::ActiveActive;
    let mut bench = Bench::new(replication(ReplicationFactor::ClusterSize, model, Migration::cold_swap()));
    let nodes = ["a", "b", "c"].map(|name| bench.join(name));
    assert_eq!(bench.start(&nodes[0]).started[0].instances.len(), 3);
    bench.pass(Duration::from_millis(50));
    bench.assert_settled();
    for node in &nodes {
        assert_eq!(bench.instance(node).mode, Mode::Active);
        assert_eq!(bench.instance(node).signals, [Mode::Active]);
        let text = format!("for {node}");
        assert_eq!(bench.call(node, &text, Recipient::Active).unwrap(), text);
    }
    for node in &nodes {
        assert_eq!(bench.instance(node).state, format!("for {node}"));
        let named = Recipient::Node(node.name.clone());
        assert_eq!(bench.call(&nodes[0], "get", named).unwrap(), format!("for {node}"));
    }
    // A newcomer gets one too, and nobody counts its peers as a conflict.
    bench.join("d");
    bench.pass(Duration::from_secs(1));
    bench.assert_settled();
    assert_eq!(bench.modes().len(), 4);
    for node in &nodes {
        assert_eq!(bench.instance(node).state, format!("for {node}"), "it works on its own");
    }
    assert_eq!(bench.stops, []);
}

#[test]
fn call_to_a_node_then_the_instance_there_handles_it_whatever_its_role() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    let (_, passive) = bench.active();
    let passive = &passive[0];
    let named = Recipient::Node(passive.name.clone());
    for at in [&a, &b] {
        assert_eq!(bench.call(at, &format!("from {at}"), named.clone()).unwrap(), format!("from {at}"));
    }
    assert_eq!(bench.instance(passive).state, format!("from {b}"));
    bench.send_to_all(&a, "everybody");
    bench.pass(Duration::from_millis(50));
    assert!(bench.roles().iter().all(|(_, _, state)| state == "everybody"), "{:?}", bench.roles());
}

/// One slow node, or one without an instance, kept back what was for all others.
#[test]
fn node_does_not_answer_then_messages_to_the_other_instances_do_not_wait_for_it() {
    let mut bench = Bench::new(active_passive());
    let nodes = ["a", "b", "c"].map(|name| bench.join(name));
    bench.start(&nodes[0]);
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    let outside = nodes.iter().find(|node| **node != active && **node != passive[0]).unwrap().clone();
    let nobody = bench.message("nobody", Recipient::Node(outside.name.clone()));
    bench.give(&outside, Input::Command(RequestId(900), Command::Call(nobody)));
    for silent in [active.clone(), passive[0].clone()] {
        bench.held = BTreeSet::from([(outside.clone(), silent.clone())]);
        let text = format!("without {silent}");
        let all = bench.message(&text, Recipient::All);
        bench.give(&outside, Input::Command(RequestId(901), Command::Send(all)));
        bench.pass(Duration::from_millis(20));
        let told = if silent == active { &passive[0] } else { &active };
        assert_eq!(bench.instance(told).state, text);
        if silent != active {
            assert_eq!(bench.call(&outside, "get", Recipient::Active).unwrap(), text);
        }
        bench.held.clear();
        bench.pass(Duration::from_millis(50));
        assert_eq!(bench.instance(&silent).state, text);
    }
}

#[test]
fn r21_a_passive_crashes_then_it_restarts_alone_and_in_the_end_is_quarantined_alone() {
    let mut bench = Bench::new(active_passive());
    let (a, _) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    let (active, passive) = bench.active();
    let crash = |bench: &mut Bench| {
        let at = &passive[0];
        let instance = bench.instances.keys().find(|(node, _)| node == at).map(|(_, instance)| *instance);
        if let Some(instance) = instance {
            bench.give(at, Input::Instance(instance, InstanceEvent::Exit(Some("crash".to_owned()))));
        }
        bench.pass(Duration::from_secs(4));
    };
    crash(&mut bench);
    assert_eq!(bench.instance(&passive[0]).signals, [Mode::Passive], "the new instance is told too");
    bench.assert_settled();
    for _ in 0..12 {
        crash(&mut bench);
    }
    let (still, none) = bench.active();
    assert_eq!((still, none), (active.clone(), Vec::new()));
    assert_eq!(bench.instance(&active).signals, [Mode::Active]);
    // A start ends the quarantine.
    let spec = Arc::new(ChildSpec::new(CHILD, "cart").unwrap());
    let options = StartOptions { if_exists: IfExists::Return, ..StartOptions::default() };
    bench.pass(Duration::from_secs(60));
    let Outcome::Started(result) = bench.ask(&a, Command::Start(vec![spec], options)).unwrap() else { panic!() };
    assert_eq!(result.started.len(), 1, "{result:?}");
    bench.assert_settled();
    assert_eq!(bench.modes().len(), 2);
}

#[test]
fn r12_both_sides_of_a_split_run_the_child_then_after_the_heal_one_is_active() {
    let mut bench = Bench::new(active_passive());
    let (a, b) = (bench.join("a"), bench.join("b"));
    bench.start(&a);
    bench.pass(Duration::from_millis(50));
    bench.held = BTreeSet::from([(a.clone(), b.clone()), (b.clone(), a.clone())]);
    bench.give(&a, Input::NodeDown(b.clone(), Evidence::Suspected));
    bench.give(&b, Input::NodeDown(a.clone(), Evidence::Suspected));
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.modes().into_values().collect::<Vec<_>>(), [Mode::Active, Mode::Active]);
    bench.frames.clear();
    bench.held.clear();
    bench.give(&a, Input::NodeUp(b.clone()));
    bench.give(&b, Input::NodeUp(a.clone()));
    bench.pass(Duration::from_secs(10));
    bench.assert_settled();
    let (_, passive) = bench.active();
    assert_eq!(passive.len(), 1);
}

/// Two instances, of which the one on the node with the larger name is active.
#[derive(Debug)]
struct LargestName;

impl strategy::Redundancy for LargestName {
    fn name(&self) -> &'static str {
        "largest_name"
    }

    fn factor(&self, _members: usize) -> usize {
        2
    }

    fn actives(&self, _child: &ChildId, placement: &[&NodeRef]) -> Actives {
        let largest = placement.iter().max().unwrap();
        Actives::One(placement.iter().position(|node| node == largest).unwrap())
    }

    fn is_told(&self, _mode: Mode) -> bool {
        true
    }
}

#[test]
fn active_one_is_chosen_by_code_then_it_owns_the_child_wherever_the_distribution_put_it_first() {
    let hot = Migration::hot_swap().with_handover(true);
    let config = HubConfig::new("orders").unwrap().with_migration(hot);
    let mut bench = Bench::new(config.with_redundancy(Redundancy::custom(LargestName)));
    let a = bench.join("a");
    bench.start(&a);
    for name in ["b", "c", "d"] {
        bench.join(name);
        bench.pass(Duration::from_secs(1));
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert!(active > passive[0], "{active} is active, {passive:?} passive");
        assert_eq!(bench.call(&a, name, Recipient::Active).unwrap(), name);
    }
    while bench.engines.len() > 2 {
        let (active, _) = bench.active();
        let last = bench.instance(&active).state.clone();
        bench.send_to_all(&a, &last);
        bench.kill(&active);
        bench.pass(Duration::from_secs(2));
        bench.assert_settled();
        let (active, passive) = bench.active();
        assert!(active > passive[0], "{active} is active, {passive:?} passive");
        assert_eq!(bench.instance(&active).state, last);
    }
}

#[test]
fn drained_active_then_the_passive_has_its_state_and_a_third_node_takes_its_place() {
    let mut bench = Bench::new(active_passive());
    let nodes = ["a", "b", "c"].map(|name| bench.join(name));
    bench.start(&nodes[0]);
    bench.pass(Duration::from_millis(50));
    let (active, _) = bench.active();
    assert_eq!(bench.call(&nodes[0], "only the active", Recipient::Active).unwrap(), "only the active");
    let Outcome::Drained(report) = bench.ask(&active, Command::Drain(Duration::from_secs(10))).unwrap() else {
        panic!()
    };
    assert_eq!(report.moved.len(), 1, "{report:?}");
    bench.pass(Duration::from_secs(1));
    let (now, passive) = bench.active();
    assert_ne!(now, active);
    assert_ne!(passive[0], active);
    assert_eq!(bench.instance(&now).state, "only the active");
    bench.assert_settled();
}
