//! Code of the user's own that decides for a strategy family.

use serde_json::Value;

use super::call::{HostAnswer, HostFailure};
use super::context::Reply;
use super::local::guarded;
use crate::payload::Payload;
use crate::strategy::Question;

/// Decides for a strategy family; a closure from the question to the answer is one. Called on the threads of the host
/// pool, several at a time.
pub trait Decide: Send + Sync {
    /// Answers the question, now or later, on any thread. What is no answer in time, or makes no sense, counts for
    /// nothing: the built-in decides and the hook `strategy_fallback` tells.
    fn decide(&self, question: &Question, reply: Reply);
}

impl<F> Decide for F
where
    F: Fn(&Value) -> Result<Value, HostFailure> + Send + Sync,
{
    fn decide(&self, question: &Question, reply: Reply) {
        reply.answer(match guarded(|| self(&question.question)) {
            Ok(answer) => HostAnswer::Done(Some(Payload::from_value(&answer))),
            Err(failure) => HostAnswer::Failed(failure),
        });
    }
}
