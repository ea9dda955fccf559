//! What the host is asked to decide (the strategy type `custom`).
//!
//! A decision is a host call with a short deadline. The engine goes on meanwhile; whoever asked hears of the answer, or
//! of what is wrong with it, exactly once, and then takes the built-in's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Engine;
use super::calls::split;
use crate::host::call::HostAnswer;
use crate::observe::HookName;
use crate::payload::{ContentType, MAX_MESSAGE_BYTES};
use crate::strategy::{Family, Question};

/// How long the host may take.
pub(super) const DECISION_LIMIT: Duration = Duration::from_secs(1);

/// What a decision is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// The order in which moves begin.
    MoveOrder,
}

impl Decision {
    const fn family(self) -> Family {
        match self {
            Self::MoveOrder => Family::Migration,
        }
    }
}

impl Engine {
    /// Asks the host, which must be one that decides for this family.
    pub(super) fn ask_host(&mut self, decision: Decision, question: Value) {
        let family = decision.family();
        let strategy = self.strategies.hosted.get(&family).cloned().unwrap_or_default();
        self.call_decider(decision, Arc::new(Question { family, strategy, question }));
    }

    /// The host answered, failed, or let the deadline pass.
    pub(super) fn decided(&mut self, decision: Decision, answer: HostAnswer) {
        let answer = read(answer);
        match decision {
            Decision::MoveOrder => self.moves_ordered(answer),
        }
    }

    /// Tells that the built-in decides, because the host's answer is not good.
    pub(super) fn tell_fallback(&mut self, decision: Decision, why: &str) {
        let strategy = self.strategies.hosted.get(&decision.family());
        self.hooks.fire(&mut self.effects, HookName::StrategyFallback, || json!({"strategy": strategy, "why": why}));
    }
}

/// The host's answer, or why it is none.
fn read(answer: HostAnswer) -> Result<Value, String> {
    let payload = split(answer).map_err(|failure| failure.message)?.ok_or("the answer is empty")?;
    if payload.len() > MAX_MESSAGE_BYTES {
        return Err(format!("the answer's {} bytes are more than the limit of {MAX_MESSAGE_BYTES}", payload.len()));
    }
    match payload.content_type {
        ContentType::Json => {
            serde_json::from_slice(&payload.data).map_err(|error| format!("the answer is not JSON: {error}"))
        }
        ContentType::Bytes | ContentType::Other(_) => Err("the answer is not JSON".to_owned()),
    }
}
