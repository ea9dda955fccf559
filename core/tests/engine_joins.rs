//! Engines without threads or sockets: frames go where and when a test says.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::HubConfig;
use process_hub::engine::{Command, Effect, Engine, EngineSetup, Input, StartOptions};
use process_hub::host::call::{HostAnswer, HostRequest, KindInfo, StartReason};
use process_hub::ids::{ChildId, Incarnation, KindName, NodeName, NodeRef, RequestId};
use process_hub::spec::ChildSpec;
use process_hub::swim::Evidence;
use process_hub::time::Timestamp;

/// Engines, and the frames between them.
#[derive(Default)]
struct Bench {
    now: Timestamp,
    engines: BTreeMap<NodeRef, Engine>,
    frames: VecDeque<(NodeRef, NodeRef, Bytes)>,
    /// Frames from the first to the second wait.
    held: BTreeSet<(NodeRef, NodeRef)>,
    starts: Vec<(NodeRef, ChildId, StartReason)>,
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
            seed: 1,
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
                        }
                        inputs.push_back(Input::HostDone(call.number, HostAnswer::Done(None)));
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

    fn meet(&mut self, a: &str, b: &str) {
        self.give(&node(a), Input::NodeUp(node(b)));
        self.give(&node(b), Input::NodeUp(node(a)));
    }
}

/// On real nodes, rolling restarts lost the states of up to two thirds of 1,000 children, and nobody was told.
#[test]
fn newcomer_hears_what_is_wanted_before_who_runs_it_then_it_starts_nothing_of_its_own() {
    let mut bench = Bench::default();
    bench.add("first");
    let specs = (0..20).map(|n| Arc::new(ChildSpec::new(&format!("cart:{n}"), "cart").unwrap()));
    let start = Command::Start(specs.collect(), StartOptions::default());
    bench.give(&node("first"), Input::Command(RequestId(1), start));
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
