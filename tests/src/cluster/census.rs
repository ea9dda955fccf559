//! What the instances of a test say about themselves, and gates they wait at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use process_hub::ids::{ChildId, NodeName};
use process_hub::spec::Mode;

/// The longest a child waits at a gate that nobody opens.
const GATE_TIMEOUT: Duration = Duration::from_secs(60);

/// A callback that can be held up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// `start`.
    Start,
    /// `prepare_handover_state`.
    Prepare,
    /// `stop`.
    Stop,
    /// `handle` of the message `wait`.
    Handle,
}

/// Counts the instances that live, wherever they run in this process.
#[derive(Default)]
pub struct Census {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    live: BTreeMap<ChildId, Vec<NodeName>>,
    starts: BTreeMap<ChildId, usize>,
    signals: BTreeMap<(ChildId, NodeName), Vec<Mode>>,
    closed: BTreeSet<(Step, String)>,
    waiting: BTreeMap<(Step, String), usize>,
}

impl Census {
    pub(super) fn began(&self, child: &ChildId, node: &NodeName) {
        let mut state = self.state.lock().unwrap();
        state.live.entry(child.clone()).or_default().push(node.clone());
        *state.starts.entry(child.clone()).or_default() += 1;
        state.signals.remove(&(child.clone(), node.clone()));
    }

    pub(super) fn ended(&self, child: &ChildId, node: &NodeName) {
        let mut state = self.state.lock().unwrap();
        let nodes = state.live.entry(child.clone()).or_default();
        if let Some(index) = nodes.iter().position(|it| it == node) {
            nodes.remove(index);
        }
        if nodes.is_empty() {
            state.live.remove(child);
        }
    }

    /// Waits while the gate of this step and child is closed.
    pub(super) fn pass(&self, step: Step, child: &ChildId) {
        let gate = (step, child.to_string());
        let mut state = self.state.lock().unwrap();
        if !state.closed.contains(&gate) {
            return;
        }
        *state.waiting.entry(gate.clone()).or_default() += 1;
        self.changed.notify_all();
        let is_closed = |state: &mut State| state.closed.contains(&gate);
        drop(self.changed.wait_timeout_while(state, GATE_TIMEOUT, is_closed));
    }

    pub(super) fn signalled(&self, child: &ChildId, node: &NodeName, mode: Mode) {
        self.state.lock().unwrap().signals.entry((child.clone(), node.clone())).or_default().push(mode);
    }

    /// The roles that the latest instance of a child on a node was told, in order.
    #[must_use]
    pub fn signals(&self, child: &str, node: &NodeName) -> Vec<Mode> {
        let key = (ChildId::new(child).unwrap(), node.clone());
        self.state.lock().unwrap().signals.get(&key).cloned().unwrap_or_default()
    }

    /// The nodes of each child that lives.
    #[must_use]
    pub fn live(&self) -> BTreeMap<ChildId, Vec<NodeName>> {
        self.state.lock().unwrap().live.clone()
    }

    /// How many instances of a child were started.
    #[must_use]
    pub fn starts(&self, child: &str) -> usize {
        self.state.lock().unwrap().starts.get(child).copied().unwrap_or_default()
    }

    /// Makes instances of this child wait at this step.
    pub fn close_gate(&self, step: Step, child: &str) {
        self.state.lock().unwrap().closed.insert((step, child.into()));
    }

    /// Lets instances of this child pass.
    pub fn open_gate(&self, step: Step, child: &str) {
        self.state.lock().unwrap().closed.remove(&(step, child.into()));
        self.changed.notify_all();
    }

    /// Waits until `count` instances of this child came to this closed gate.
    pub fn await_at_gate(&self, step: Step, child: &str, count: usize) {
        let gate = (step, child.to_owned());
        let state = self.state.lock().unwrap();
        let lacks = |state: &mut State| state.waiting.get(&gate).copied().unwrap_or_default() < count;
        let waited = self.changed.wait_timeout_while(state, super::PATIENCE, lacks).unwrap().1;
        assert!(!waited.timed_out(), "{child} never came to {step:?} {count} times");
    }
}
