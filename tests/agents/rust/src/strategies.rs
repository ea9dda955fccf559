//! The strategies of this agent (tests/agents/README.md).

use std::collections::BTreeMap;
use std::sync::Mutex;

use process_hub::error::Error;
use process_hub::host::call::{HostAnswer, HostFailure};
use process_hub::host::{Decide, Reply};
use process_hub::hub::HubBuilder;
use process_hub::payload::Payload;
use process_hub::strategy::{Family, Question};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lines;

/// How a strategy answers.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Manner {
    Backwards,
    Throw,
    Nonsense,
    Never,
}

/// Manners by family and name.
#[derive(Default, Deserialize)]
pub(crate) struct Strategies(BTreeMap<String, BTreeMap<String, Manner>>);

struct Strategy {
    hub_id: String,
    manner: Manner,
    unanswered: Mutex<Vec<Reply>>,
}

impl Strategies {
    pub(crate) fn add_to(&self, mut builder: HubBuilder, hub_id: &str) -> Result<HubBuilder, Error> {
        for (family, named) in &self.0 {
            for (name, manner) in named {
                let strategy = Strategy { hub_id: hub_id.into(), manner: *manner, unanswered: Mutex::default() };
                builder = builder.decide(Family::parse(family)?, name, strategy);
            }
        }
        Ok(builder)
    }
}

impl Decide for Strategy {
    fn decide(&self, asked: &Question, reply: Reply) {
        let (family, question) = (asked.family.name(), &asked.question);
        lines::write(&json!({
            "event": "decide", "hub_id": self.hub_id, "family": family, "strategy": asked.strategy, "question": question,
        }));
        let done = |value: Value| HostAnswer::Done(Some(Payload::from_value(&value)));
        let answer = match self.manner {
            Manner::Backwards => {
                let moves = question["moves"].as_array().into_iter().flatten();
                done(moves.rev().map(|one| one["id"].clone()).collect())
            }
            Manner::Throw => HostAnswer::Failed(HostFailure::new("no idea")),
            Manner::Nonsense => done(json!(7)),
            Manner::Never => {
                self.unanswered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(reply);
                return;
            }
        };
        reply.answer(answer);
    }
}
