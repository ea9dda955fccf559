//! Engines without threads or sockets, whose children do nothing: frames go where and when a test says.
#![allow(clippy::wildcard_enum_match_arm, reason = "the outcomes a test asks for")]
#![allow(clippy::unwrap_used, dead_code, reason = "for tests, each of which uses a part; a panic is how one fails")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::HubConfig;
use process_hub::engine::{Command, Effect, Engine, EngineSetup, HubStatus, Input, Outcome, StartOptions};
use process_hub::error::Error;
use process_hub::host::call::{HostAnswer, HostCall, HostDecision, HostRequest, InstanceEvent, KindInfo};
use process_hub::ids::{CallNumber, ChildId, Incarnation, InstanceId, KindName, NodeName, NodeRef, RequestId};
use process_hub::observe::HookName;
use process_hub::spec::{ChildSpec, Row, StartResult, StopResult};
use process_hub::strategy::{LoadSample, Question};
use process_hub::swim::Evidence;
use process_hub::time::Timestamp;
use process_hub::wire::describe;
use serde_json::Value;

/// When the first node's hub starts, in Unix milliseconds.
pub(crate) const WALL_MS: u64 = 1_700_000_000_000;

/// A frame on its way: from, to, and its bytes.
type Frame = (NodeRef, NodeRef, Bytes);

/// Engines, and the frames between them.
pub(crate) struct Bench {
    pub(crate) now: Timestamp,
    config: HubConfig,
    pub(crate) engines: BTreeMap<NodeRef, Engine>,
    frames: VecDeque<Frame>,
    /// Messages of these names are lost, with the frames they are in.
    pub(crate) lost: BTreeSet<&'static str>,
    /// Every message that was sent: from, to, and its text.
    pub(crate) told: Vec<(NodeRef, NodeRef, String)>,
    pub(crate) rows: BTreeMap<NodeRef, BTreeMap<ChildId, Arc<Row>>>,
    pub(crate) hooks: Vec<(NodeRef, HookName, Value)>,
    parted: BTreeSet<(NodeRef, NodeRef)>,
    /// What nodes of these names measure.
    pub(crate) loads: BTreeMap<String, LoadSample>,
    replies: BTreeMap<u64, Result<Outcome, Error>>,
    /// The host does not answer requests of these names for a while.
    pub(crate) hangs: BTreeSet<&'static str>,
    /// What it was asked and has not answered.
    hanging: Vec<(NodeRef, HostCall)>,
    /// What hosts were asked: when, where, of which child, and the request's text.
    pub(crate) asked: Vec<(Timestamp, NodeRef, ChildId, String)>,
    /// The latest instance of a child on a node.
    pub(crate) instances: BTreeMap<(NodeRef, ChildId), InstanceId>,
    /// What each hub says of itself.
    pub(crate) status: BTreeMap<NodeRef, HubStatus>,
    /// How the hosts decide; without an answer the question stays open. It is kept in `questions`.
    pub(crate) decide: fn(&Value) -> Option<HostAnswer>,
    /// What the hosts were asked to decide: whose host, the number of the call, the question.
    pub(crate) questions: Vec<(NodeRef, CallNumber, Arc<Question>)>,
    joined: u64,
    request: u64,
}

/// What a node that joins is.
#[derive(Clone, Default)]
pub(crate) struct Joiner {
    pub(crate) labels: BTreeMap<String, String>,
    /// How far its clock is behind.
    pub(crate) behind_ms: u64,
    /// It has twice the usual weight.
    pub(crate) is_large: bool,
}

impl Bench {
    pub(crate) fn new(config: HubConfig) -> Self {
        Self {
            now: Timestamp::default(),
            config,
            engines: BTreeMap::new(),
            frames: VecDeque::new(),
            lost: BTreeSet::new(),
            told: Vec::new(),
            rows: BTreeMap::new(),
            hooks: Vec::new(),
            parted: BTreeSet::new(),
            loads: BTreeMap::new(),
            replies: BTreeMap::new(),
            hangs: BTreeSet::new(),
            hanging: Vec::new(),
            asked: Vec::new(),
            instances: BTreeMap::new(),
            status: BTreeMap::new(),
            decide: |_| None,
            questions: Vec::new(),
            joined: 0,
            request: 0,
        }
    }

    /// A hub of these nodes, at rest.
    pub(crate) fn of(config: HubConfig, names: &[&str]) -> (Self, Vec<NodeRef>) {
        let mut bench = Self::new(config);
        let nodes = names.iter().map(|name| bench.join(name)).collect();
        bench.told.clear();
        (bench, nodes)
    }

    /// A node of this name joins those that are there.
    pub(crate) fn join(&mut self, name: &str) -> NodeRef {
        self.join_as(name, Joiner::default())
    }

    pub(crate) fn join_as(&mut self, name: &str, joiner: Joiner) -> NodeRef {
        let me = self.enter(name, joiner);
        self.pass(Duration::from_secs(2));
        me
    }

    /// A node joins, and no time passes.
    pub(crate) fn enter(&mut self, name: &str, joiner: Joiner) -> NodeRef {
        self.joined += 1;
        let me = NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(self.joined) };
        let kind = KindInfo { name: KindName::new("cart").unwrap(), has_state: true, has_run: false };
        let setup = EngineSetup {
            config: self.config.clone(),
            labels: joiner.labels,
            weight: if joiner.is_large { 2.0 } else { 1.0 },
            node: me.clone(),
            kinds: vec![kind],
            wall_ms: WALL_MS + self.now.0 / 1000 + self.joined - joiner.behind_ms,
            seed: self.joined,
        };
        self.engines.insert(me.clone(), Engine::new(self.now, setup));
        self.request += 1;
        let every_hook = Command::SubscribeHooks(!HookName::ChildDataAlter.bit());
        self.give(&me, Input::Command(RequestId(self.request), every_hook));
        for other in self.engines.keys().cloned().collect::<Vec<_>>() {
            if other != me {
                self.give(&me, Input::NodeUp(other.clone()));
                self.give(&other, Input::NodeUp(me.clone()));
            }
        }
        me
    }

    /// The process of a node ends without a word.
    pub(crate) fn kill(&mut self, node: &NodeRef) {
        self.engines.remove(node);
        self.rows.remove(node);
        for other in self.engines.keys().cloned().collect::<Vec<_>>() {
            self.give(&other, Input::NodeDown(node.clone(), Evidence::Refused));
        }
    }

    /// A node believes that another is gone, without being sure.
    pub(crate) fn suspect(&mut self, at: &NodeRef, node: &NodeRef) {
        self.give(at, Input::NodeDown(node.clone(), Evidence::Suspected));
    }

    /// Two nodes do not see each other any more, and believe each other dead.
    pub(crate) fn part(&mut self, one: &NodeRef, other: &NodeRef) {
        for (at, gone) in [(one, other), (other, one)] {
            self.parted.insert((at.clone(), gone.clone()));
            self.suspect(at, gone);
        }
    }

    /// They see each other again.
    pub(crate) fn heal(&mut self, one: &NodeRef, other: &NodeRef) {
        self.parted.clear();
        for (at, back) in [(one, other), (other, one)] {
            self.give(at, Input::NodeUp(back.clone()));
        }
    }

    /// Gives an engine an input, and its host's answers.
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
                    Effect::Send { to: target, frame, .. } => self.sent(to, target, frame),
                    Effect::Host(call) => inputs.extend(self.host_called(to, call)),
                    Effect::Status(status) => {
                        self.status.insert(to.clone(), status);
                    }
                    Effect::Decide(HostDecision { number, question, .. }) => {
                        let answer = (self.decide)(&question.question);
                        inputs.extend(answer.map(|answer| Input::HostDone(number, answer)));
                        self.questions.push((to.clone(), number, question));
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
                    Effect::MeasureLoad => {
                        let sample = self.loads.get(to.name.as_str()).copied().unwrap_or_default();
                        inputs.push_back(Input::Load(sample));
                    }
                    Effect::Hook(event) => self.hooks.push((to.clone(), event.name, event.payload.clone())),
                    Effect::Failed(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
    }

    fn host_called(&mut self, at: &NodeRef, call: HostCall) -> Option<Input> {
        let told = format!("{:?}", call.request);
        let hangs = self.hangs.iter().any(|name| told.starts_with(name));
        if matches!(call.request, HostRequest::Start(_)) {
            self.instances.insert((at.clone(), call.child.clone()), call.instance);
        }
        self.asked.push((self.now, at.clone(), call.child.clone(), told));
        if hangs {
            self.hanging.push((at.clone(), call));
            return None;
        }
        Some(Input::HostDone(call.number, answer(&call)))
    }

    /// The hosts answer what they were asked.
    pub(crate) fn go_on(&mut self) {
        self.hangs.clear();
        for (at, call) in std::mem::take(&mut self.hanging) {
            self.give(&at, Input::HostDone(call.number, answer(&call)));
        }
    }

    /// When a host was asked such a thing of a child.
    pub(crate) fn asked_at(&self, at: &NodeRef, child: &str, request: &str) -> Vec<Timestamp> {
        let is_it = |it: &&(Timestamp, NodeRef, ChildId, String)| {
            it.1 == *at && it.2.as_str() == child && it.3.starts_with(request)
        };
        self.asked.iter().filter(is_it).map(|it| it.0).collect()
    }

    /// The instance of a child does something of its own accord.
    pub(crate) fn acts(&mut self, at: &NodeRef, child: &str, event: InstanceEvent) {
        let instance = self.instances[&(at.clone(), ChildId::new(child).unwrap())];
        self.give(at, Input::Instance(instance, event));
    }

    /// What a node fired of a hook, in order.
    pub(crate) fn fired(&self, at: &NodeRef, hook: HookName) -> Vec<&Value> {
        let of_it = self.hooks.iter().filter(|(node, name, _)| node == at && *name == hook);
        of_it.map(|(.., payload)| payload).collect()
    }

    fn sent(&mut self, from: &NodeRef, to: NodeRef, frame: Bytes) {
        let messages = describe(&frame);
        let is_lost = messages.iter().any(|told| self.lost.iter().any(|name| told.starts_with(name)));
        self.told.extend(messages.into_iter().map(|told| (from.clone(), to.clone(), told)));
        if !is_lost && !self.parted.contains(&(from.clone(), to.clone())) {
            self.frames.push_back((from.clone(), to, frame));
        }
    }

    /// Who was sent such a message by this node.
    pub(crate) fn told_by(&self, from: &NodeRef, message: &str) -> BTreeSet<NodeRef> {
        let is_it = |told: &&(NodeRef, NodeRef, String)| told.0 == *from && told.2.starts_with(message);
        self.told.iter().filter(is_it).map(|(_, to, _)| to.clone()).collect()
    }

    fn deliver(&mut self) {
        while let Some((from, to, frame)) = self.frames.pop_front() {
            self.give(&to, Input::Frame(from, frame));
        }
    }

    /// Lets this much time pass, a millisecond at a time.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.deliver();
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

    /// Asks a node for something, and returns the request's number.
    pub(crate) fn ask(&mut self, at: &NodeRef, command: Command) -> u64 {
        self.request += 1;
        self.give(at, Input::Command(RequestId(self.request), command));
        self.request
    }

    /// The answer to a request, if there is one yet.
    pub(crate) fn answer(&self, request: u64) -> Option<&Result<Outcome, Error>> {
        self.replies.get(&request)
    }

    /// Asks for a start, and waits for no answer.
    pub(crate) fn ask_start(&mut self, at: &NodeRef, specs: Vec<ChildSpec>) {
        self.ask(at, Command::Start(specs.into_iter().map(Arc::new).collect(), StartOptions::default()));
    }

    pub(crate) fn start(
        &mut self,
        at: &NodeRef,
        specs: Vec<ChildSpec>,
        options: StartOptions,
    ) -> Result<StartResult, Error> {
        let request = self.ask(at, Command::Start(specs.into_iter().map(Arc::new).collect(), options));
        self.pass(Duration::from_secs(6));
        match self.replies.remove(&request).expect("an answer within the timeout")? {
            Outcome::Started(result) => Ok(result),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stop(&mut self, at: &NodeRef, ids: &[&str]) -> StopResult {
        let ids = ids.iter().map(|id| ChildId::new(*id).unwrap()).collect();
        let request = self.ask(at, Command::Stop(ids, Duration::from_secs(5)));
        self.pass(Duration::from_secs(6));
        match self.replies.remove(&request).expect("an answer within the timeout").unwrap() {
            Outcome::Stopped(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// The nodes that run a child, as this node knows.
    pub(crate) fn nodes_of(&self, at: &NodeRef, id: &str) -> Vec<String> {
        let row = self.rows.get(at).and_then(|rows| rows.get(id));
        let instances = row.map(|row| row.instances.clone()).unwrap_or_default();
        let mut nodes: Vec<String> = instances.iter().map(|one| one.node.to_string()).collect();
        nodes.sort();
        nodes
    }
}

fn answer(call: &HostCall) -> HostAnswer {
    #[allow(clippy::wildcard_enum_match_arm, reason = "only a state is asked for")]
    match &call.request {
        HostRequest::PrepareState => HostAnswer::Done(Some(process_hub::payload::Payload::json("1"))),
        _ => HostAnswer::Done(None),
    }
}

/// A spec of the kind that every node of the bench offers.
pub(crate) fn spec(id: &str) -> ChildSpec {
    ChildSpec::new(id, "cart").unwrap()
}
