//! Tells every fact to the trace, the invariants and the ghost model, in this order.

use super::fact::Fact;
use super::ghost::Ghost;
use super::invariants::{self, Invariant};
use super::time::WorldTime;
use super::trace::Trace;
use super::violation::Check;

/// The ghost model and those who watch it.
pub(crate) struct Oracle {
    pub(crate) ghost: Ghost,
    invariants: Vec<Box<dyn Invariant>>,
    pub(crate) trace: Trace,
}

impl Oracle {
    pub(crate) fn new(ghost: Ghost, trace: Trace) -> Self {
        Self { ghost, invariants: invariants::all(), trace }
    }

    /// A fact: printed, checked against what was known before, then learnt.
    pub(crate) fn observe(&mut self, now: WorldTime, fact: &Fact<'_>) -> Check {
        self.ghost.now = now;
        self.trace.show(&self.ghost, fact);
        for invariant in &mut self.invariants {
            invariant.observe(&self.ghost, fact)?;
        }
        self.ghost.learn(fact);
        Ok(())
    }

    /// The run is over: what can only be said at the end.
    pub(crate) fn conclude(&mut self) -> Check {
        for invariant in &mut self.invariants {
            invariant.conclude(&self.ghost)?;
        }
        Ok(())
    }
}
