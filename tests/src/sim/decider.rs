//! The strategies of the simulated host: they answer well, late, never, or what makes no sense.

use process_hub::host::call::{HostAnswer, HostFailure};
use process_hub::payload::Payload;
use process_hub::strategy::{Family, Question};
use serde_json::{Value, json};

use super::draw::Draw;

/// How the hosts of a run decide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeciderDraw {
    /// So many of a million answers never come, or after the engine's deadline.
    pub(crate) late_ppm: u32,
    /// So many are failures or make no sense.
    pub(crate) wrong_ppm: u32,
}

impl DeciderDraw {
    pub(crate) fn new(draw: &mut Draw) -> Self {
        let ppm = |draw: &mut Draw| if draw.chance(50) { 200_000 } else { 0 };
        Self { late_ppm: ppm(draw), wrong_ppm: ppm(draw) }
    }

    /// The answer to a question, and after how many microseconds it comes; none if never.
    pub(crate) fn answer(self, question: &Question, draw: &mut Draw) -> Option<(u64, HostAnswer)> {
        let mut delay_us = draw.spread(10, 50_000);
        if draw.chance_ppm(self.late_ppm) {
            if draw.chance(50) {
                return None;
            }
            delay_us = draw.spread(900_000, 5_000_000);
        }
        let good = match question.family {
            Family::Migration => shuffled_moves(&question.question, draw),
            // Refused in the configuration.
            Family::Redundancy | Family::PartitionTolerance | Family::Distribution => Value::Null,
        };
        let answer = if draw.chance_ppm(self.wrong_ppm) { wrong(good, draw) } else { done(&good) };
        Some((delay_us, answer))
    }
}

fn done(answer: &Value) -> HostAnswer {
    HostAnswer::Done(Some(Payload::from_value(answer)))
}

/// The ids of the moves, in any order.
fn shuffled_moves(question: &Value, draw: &mut Draw) -> Value {
    let moves = question["moves"].as_array().into_iter().flatten();
    let mut ids: Vec<Value> = moves.map(|one| one["id"].clone()).collect();
    for at in (1..ids.len()).rev() {
        ids.swap(at, draw.below(at + 1));
    }
    Value::from(ids)
}

/// No answer, or one in which something is left out, repeated, or not what was asked.
fn wrong(mut good: Value, draw: &mut Draw) -> HostAnswer {
    match (draw.below(6), good.as_array_mut()) {
        (0, _) => HostAnswer::Failed(HostFailure::new("no idea, by plan")),
        (1, _) => HostAnswer::Done(None),
        (2, _) => HostAnswer::Done(Some(Payload::json("[1,"))),
        (3, Some(list)) => {
            list.pop();
            done(&good)
        }
        (4, Some(list)) => {
            list.extend(list.first().cloned());
            done(&good)
        }
        (_, Some(list)) => {
            list.push(json!("c999999"));
            done(&good)
        }
        (_, None) => done(&json!(7)),
    }
}
