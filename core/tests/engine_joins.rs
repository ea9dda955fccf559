//! Engines without threads or sockets: frames go where and when a test says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::HubConfig;
use process_hub::engine::{Command, Effect, Engine, EngineSetup, HubStatus, Input, StartOptions};
use process_hub::host::call::{HostAnswer, HostRequest, InstanceEvent, KindInfo, StartReason};
use process_hub::ids::{ChildId, Incarnation, InstanceId, KindName, NodeName, NodeRef, RequestId};
use process_hub::spec::ChildSpec;
use process_hub::swim::Evidence;
use process_hub::time::Timestamp;
use process_hub::wire::describe;

/// Engines, and the frames between them.
#[derive(Default)]
struct Bench {
    now: Timestamp,
    engines: BTreeMap<NodeRef, Engine>,
    frames: VecDeque<(NodeRef, NodeRef, Bytes)>,
    /// Frames from the first to the second wait.
    held: BTreeSet<(NodeRef, NodeRef)>,
    /// Frames from the first to the second are lost.
    lost: BTreeSet<(NodeRef, NodeRef)>,
    starts: Vec<(NodeRef, ChildId, StartReason)>,
    /// The latest instance a node started, by child.
    instances: BTreeMap<(NodeRef, ChildId), InstanceId>,
    /// What each hub says of itself.
    status: BTreeMap<NodeRef, HubStatus>,
    replies: usize,
}

fn node(name: &str) -> NodeRef {
    NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(1) }
}

impl Bench {
    fn add(&mut self, name: &str) {
        let kind = KindInfo { name: KindName::new("cart").unwrap(), has_state: true, has_run: false };
        let setup = EngineSetup {
            config: HubConfig::new("orders").unwrap(),
            labels: BTreeMap::new(),
            weight: 1.0,
            node: node(name),
            kinds: vec![kind],
            wall_ms: 1_700_000_000_000 + self.engines.len() as u64,
            // The numbers of whoever gives are above those of whoever takes.
            seed: 100 - self.engines.len() as u64,
        };
        self.engines.insert(node(name), Engine::new(self.now, setup));
    }

    fn give(&mut self, to: &NodeRef, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let engine = self.engines.get_mut(to).unwrap();
            let mut effects = Vec::new();
            engine.handle(self.now, input, &mut effects);
            engine.flush(self.now, &mut effects);
            for effect in effects {
                #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is for drivers")]
                match effect {
                    Effect::Send { to: target, frame, .. } => self.frames.push_back((to.clone(), target, frame)),
                    Effect::Host(call) => {
                        if let HostRequest::Start(context) = &call.request {
                            self.starts.push((to.clone(), call.child.clone(), context.reason));
                            self.instances.insert((to.clone(), call.child.clone()), call.instance);
                        }
                        inputs.push_back(Input::HostDone(call.number, HostAnswer::Done(None)));
                    }
                    Effect::Status(status) => {
                        self.status.insert(to.clone(), status);
                    }
                    Effect::Reply(_, result) => {
                        result.unwrap();
                        self.replies += 1;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Delivers every frame that is neither held nor lost, up to one with this message.
    fn deliver_to(&mut self, message: &str) -> bool {
        let mut waiting = VecDeque::new();
        let mut is_found = false;
        while !is_found && let Some((from, to, frame)) = self.frames.pop_front() {
            let link = (from.clone(), to.clone());
            if self.held.contains(&link) {
                waiting.push_back((from, to, frame));
            } else if !self.lost.contains(&link) {
                is_found = describe(&frame).iter().any(|told| told.starts_with(message));
                self.give(&to, Input::Frame(from, frame));
            }
        }
        waiting.append(&mut self.frames);
        self.frames = waiting;
        is_found
    }

    /// Lets this much time pass, a millisecond at a time, or ends with the delivery of such a message.
    fn pass_to(&mut self, time: Duration, message: &str) -> bool {
        for _ in 0..time.as_millis() {
            self.now += Duration::from_millis(1);
            for node in self.engines.keys().cloned().collect::<Vec<_>>() {
                if self.engines[&node].next_deadline() <= self.now {
                    self.give(&node, Input::Tick);
                }
            }
            if self.deliver_to(message) {
                return true;
            }
        }
        false
    }

    /// Lets this much time pass.
    fn pass(&mut self, time: Duration) {
        self.pass_to(time, "no such message");
    }

    /// Has `first` start 20 children.
    fn start_children(&mut self) {
        self.add("first");
        let specs = (0..20).map(|n| Arc::new(ChildSpec::new(&format!("cart:{n}"), "cart").unwrap()));
        let start = Command::Start(specs.collect(), StartOptions::default());
        self.give(&node("first"), Input::Command(RequestId(1), start));
    }

    fn meet(&mut self, a: &str, b: &str) {
        self.give(&node(a), Input::NodeUp(node(b)));
        self.give(&node(b), Input::NodeUp(node(a)));
    }
}

/// On real nodes, rolling restarts lost the states of up to two thirds of 1,000 children, and nobody was told.
#[test]
fn newcomer_hears_what_is_wanted_before_who_runs_it_then_it_starts_nothing_of_its_own() {
    let mut bench = Bench::default();
    bench.start_children();
    for name in ["a", "c"] {
        bench.add(name);
        bench.meet(name, "first");
    }
    bench.meet("a", "c");
    bench.pass(Duration::from_secs(1));
    // Whoever wrote what is wanted is gone: nobody's log need be heard for that.
    let stop = Command::Shutdown(Duration::from_secs(5));
    bench.give(&node("first"), Input::Command(RequestId(2), stop));
    bench.pass(Duration::from_secs(1));
    bench.engines.remove(&node("first"));
    for name in ["a", "c"] {
        bench.give(&node(name), Input::NodeDown(node("first"), Evidence::Left));
    }
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.replies, 2);
    assert!(bench.starts.iter().any(|(at, ..)| *at == node("c")), "c runs some");

    let before = bench.starts.len();
    bench.add("n");
    bench.held = BTreeSet::from([(node("c"), node("n"))]);
    bench.meet("a", "n");
    bench.meet("c", "n");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.starts[before..], [], "n cannot know what c runs");

    bench.held.clear();
    bench.pass(Duration::from_secs(5));
    let late = &bench.starts[before..];
    assert!(!late.is_empty(), "some children belong to n");
    for (at, child, reason) in late {
        assert_eq!((at, *reason), (&node("n"), StartReason::Migration), "{child}");
    }
}

/// Seed 740: the source of a move asked about a token its target had left behind, and stayed locked for ever.
#[test]
fn target_restarts_its_child_before_the_source_hears_of_it_then_the_move_ends() {
    let mut bench = Bench::default();
    bench.start_children();
    bench.pass(Duration::from_secs(1));
    bench.add("a");
    bench.meet("a", "first");
    assert!(bench.pass_to(Duration::from_secs(5), "Commit"), "children move");
    let back = (node("a"), node("first"));
    bench.lost.insert(back.clone());
    bench.frames.retain(|(from, to, _)| (from, to) != (&back.0, &back.1));
    let moved = bench.instances.iter().filter(|((at, _), _)| *at == back.0);
    for instance in moved.map(|(_, instance)| *instance).collect::<Vec<_>>() {
        bench.give(&node("a"), Input::Instance(instance, InstanceEvent::Exit(Some("crash".to_owned()))));
    }
    bench.pass(Duration::from_secs(1));
    assert!(bench.starts.iter().any(|(_, _, reason)| *reason == StartReason::Restart), "some run again");
    assert!(bench.status[&node("first")].is_locked);
    bench.lost.clear();
    bench.pass(Duration::from_secs(20));
    assert!(!bench.status[&node("first")].is_locked, "every move has ended");
}
