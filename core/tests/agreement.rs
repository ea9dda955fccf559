//! Two engines by hand: when they agree on who is there, they start children at once.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test; the other effects do not matter")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use process_hub::config::HubConfig;
use process_hub::engine::{Command, Effect, Engine, EngineSetup, Input, StartOptions};
use process_hub::host::call::{HostRequest, KindInfo};
use process_hub::ids::{Incarnation, KindName, NodeName, NodeRef, RequestId};
use process_hub::spec::ChildSpec;
use process_hub::time::Timestamp;

struct Side {
    node: NodeRef,
    engine: Engine,
    started: usize,
}

impl Side {
    fn new(name: &str, now: Timestamp) -> Self {
        let node = NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(7) };
        let kind = KindInfo { name: KindName::new("w").unwrap(), has_state: false, has_run: false };
        let setup = EngineSetup {
            config: HubConfig::new("h").unwrap(),
            labels: BTreeMap::new(),
            weight: 1.0,
            node: node.clone(),
            kinds: vec![kind],
            wall_ms: 1_800_000_000_000,
            seed: 1,
        };
        Self { node, engine: Engine::new(now, setup), started: 0 }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.engine.next_deadline() <= now
    }

    /// One turn: the frames it sends.
    fn turn(&mut self, now: Timestamp, inputs: impl IntoIterator<Item = Input>) -> Vec<Bytes> {
        let mut effects = Vec::new();
        for input in inputs {
            self.engine.handle(now, input, &mut effects);
        }
        if self.is_due(now) {
            self.engine.handle(now, Input::Tick, &mut effects);
        }
        self.engine.flush(now, &mut effects);
        let mut frames = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { frame, .. } => frames.push(frame),
                Effect::Host(call) if matches!(call.request, HostRequest::Start(_)) => self.started += 1,
                _ => {}
            }
        }
        frames
    }
}

/// Delivers frames both ways until nobody says anything more; no time passes.
fn talk(now: Timestamp, a: &mut Side, b: &mut Side, mut to_b: Vec<Bytes>) {
    for _ in 0..100 {
        let frames = to_b.into_iter().map(|frame| Input::Frame(a.node.clone(), frame));
        let to_a = b.turn(now, frames.collect::<Vec<_>>());
        let frames = to_a.into_iter().map(|frame| Input::Frame(b.node.clone(), frame));
        to_b = a.turn(now, frames.collect::<Vec<_>>());
        if to_b.is_empty() && !a.is_due(now) && !b.is_due(now) {
            return;
        }
    }
    panic!("they never stop talking");
}

/// The answer with the old view and the news of the new one left in one frame, and the second was taken for old:
/// nothing was started before the next heartbeat, 150 ms later.
#[test]
fn view_changes_in_the_turn_of_an_answer_then_children_start_at_once() {
    let begin = Timestamp(1_000_000);
    let (mut a, mut b) = (Side::new("a", begin), Side::new("b", begin));
    b.turn(begin, [Input::NodeUp(a.node.clone())]);
    let frames = a.turn(begin, [Input::NodeUp(b.node.clone())]);
    talk(begin, &mut a, &mut b, frames);
    // Both views are due; `b` hears of the other's change first and changes its own in the same turn.
    let due = begin + Duration::from_millis(20);
    let frames = a.turn(due, [Input::Tick]);
    talk(due, &mut a, &mut b, frames);
    let specs = (0..20).map(|index| Arc::new(ChildSpec::new(&format!("c{index}"), "w").unwrap())).collect();
    let start = Command::Start(specs, StartOptions::default());
    let frames = a.turn(due, [Input::Command(RequestId(1), start)]);
    talk(due, &mut a, &mut b, frames);
    assert_eq!(a.started + b.started, 20);
    assert!(a.started > 0 && b.started > 0, "both take part: {} and {}", a.started, b.started);
}
