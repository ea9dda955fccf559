//! One engine with more to start than it decides in a turn.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use process_hub::config::HubConfig;
use process_hub::engine::{Command, Effect, Engine, EngineSetup, Input, Outcome, StartOptions};
use process_hub::host::call::{HostAnswer, HostRequest, KindInfo};
use process_hub::ids::{CallNumber, ChildId, Incarnation, KindName, NodeName, NodeRef, RequestId};
use process_hub::spec::{ChildSpec, StartResult, StopResult};
use process_hub::time::Timestamp;

const CHILDREN: usize = 5_000;

/// A hub alone, turn by turn.
struct Alone {
    now: Timestamp,
    engine: Engine,
    /// Starts the host has not answered.
    waiting: Vec<CallNumber>,
    started: Option<StartResult>,
    stopped: Option<StopResult>,
}

impl Alone {
    fn new() -> Self {
        let setup = EngineSetup {
            config: HubConfig::new("orders").unwrap(),
            labels: BTreeMap::new(),
            weight: 1.0,
            node: NodeRef { name: NodeName::new("a").unwrap(), incarnation: Incarnation(1) },
            kinds: vec![KindInfo { name: KindName::new("cart").unwrap(), has_state: true, has_run: false }],
            wall_ms: 1_700_000_000_000,
            seed: 1,
        };
        let now = Timestamp(1);
        Self { now, engine: Engine::new(now, setup), waiting: Vec::new(), started: None, stopped: None }
    }

    /// One turn; says how many starts the host was asked for in it. Stops are answered at once.
    fn turn(&mut self, inputs: Vec<Input>) -> usize {
        let mut effects = Vec::new();
        for input in inputs {
            self.engine.handle(self.now, input, &mut effects);
        }
        if self.engine.next_deadline() <= self.now {
            self.engine.handle(self.now, Input::Tick, &mut effects);
        }
        self.engine.flush(self.now, &mut effects);
        let before = self.waiting.len();
        for effect in effects {
            #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is for drivers")]
            match effect {
                Effect::Host(call) if matches!(call.request, HostRequest::Start(_)) => self.waiting.push(call.number),
                Effect::Host(call) => self.answer(&[call.number]),
                Effect::Reply(_, Ok(Outcome::Started(result))) => self.started = Some(result),
                Effect::Reply(_, Ok(Outcome::Stopped(result))) => self.stopped = Some(result),
                Effect::Reply(_, result) => panic!("{result:?}"),
                _ => {}
            }
        }
        self.waiting.len() - before
    }

    fn answer(&mut self, calls: &[CallNumber]) {
        let done = |number: &CallNumber| Input::HostDone(*number, HostAnswer::Done(None));
        self.turn(calls.iter().map(done).collect());
    }

    fn turns_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        for _ in 0..100 {
            if is_done(self) {
                return;
            }
            let waiting = std::mem::take(&mut self.waiting);
            self.answer(&waiting);
        }
        panic!("not done after 100 turns");
    }
}

fn id(index: usize) -> ChildId {
    ChildId::new(format!("cart:{index}")).unwrap()
}

fn start() -> Input {
    let specs = (0..CHILDREN).map(|index| Arc::new(ChildSpec::new(id(index).as_str(), "cart").unwrap())).collect();
    Input::Command(RequestId(1), Command::Start(specs, StartOptions::default()))
}

#[test]
fn more_children_than_a_turn_decides_then_the_host_begins_before_the_last_is_decided() {
    let mut hub = Alone::new();
    assert_eq!(hub.turn(vec![start()]), 0);
    let mut parts = Vec::new();
    while parts.iter().sum::<usize>() < CHILDREN {
        assert!(hub.engine.next_deadline() <= hub.now, "{parts:?}");
        parts.push(hub.turn(Vec::new()));
    }
    assert!(parts.len() > 1 && parts.iter().all(|&part| part > 0), "{parts:?}");
    hub.turns_until(|hub| hub.started.is_some());
    let result = hub.started.unwrap();
    assert_eq!((result.started.len(), result.errors), (CHILDREN, Vec::new()));
}

#[test]
fn stop_of_a_child_whose_start_is_not_decided_yet_then_it_is_stopped() {
    let mut hub = Alone::new();
    hub.turn(vec![start()]);
    let stop = Command::Stop(vec![id(CHILDREN - 1)], Duration::from_secs(5));
    hub.turn(vec![Input::Command(RequestId(2), stop)]);
    hub.turns_until(|hub| hub.started.is_some() && hub.stopped.is_some());
    assert_eq!(hub.stopped.unwrap().stopped.len(), 1);
    assert_eq!(hub.engine.counters().children, CHILDREN as u64 - 1);
}
