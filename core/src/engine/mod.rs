//! The pure hub: `handle(now, Input) → Effects` (A1).

mod io;

pub use io::{
    Command, Effect, HubStatus, IfExists, Input, Lane, MessageCommand, OnFailure, Outcome,
    PlanChange, Recipient, StartOptions,
};

use crate::config::HubConfig;
use crate::host::call::KindInfo;
use crate::ids::NodeRef;
use crate::time::Timestamp;

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct EngineSetup {
    /// The hub's configuration.
    pub config: HubConfig,
    /// Labels of this node.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Weight of this node.
    pub weight: f64,
    /// This node.
    pub node: NodeRef,
    /// The kinds registered so far.
    pub kinds: Vec<KindInfo>,
    /// The wall clock at the start, in Unix milliseconds.
    pub wall_ms: u64,
    /// Seed of the engine's generator.
    pub seed: u64,
}

/// One hub on one node, as a value: no clock, thread, socket or randomness of its own.
pub struct Engine {
    _setup: EngineSetup,
}

impl Engine {
    /// A hub that knows no other member.
    #[must_use]
    pub fn new(_now: Timestamp, setup: EngineSetup) -> Self {
        Self { _setup: setup }
    }

    /// Takes one input and appends what is to be done. Frames may be held back until [`Self::flush`].
    pub fn handle(&mut self, _now: Timestamp, _input: Input, _effects: &mut Vec<Effect>) {}

    /// Appends the frames collected since the last flush. Call it after each batch of inputs.
    pub fn flush(&mut self, _now: Timestamp, _effects: &mut Vec<Effect>) {}

    /// When [`Input::Tick`] is wanted next; [`Timestamp::NEVER`] when nothing is pending.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        Timestamp::NEVER
    }
}
