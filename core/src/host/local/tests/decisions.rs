//! The host is asked to decide.

use super::*;
use crate::strategy::Question;

impl Rig {
    fn ask(&mut self, strategy: &str) -> CallNumber {
        let number = CallNumber(self.next);
        self.next += 1;
        let question = serde_json::json!({"moves": [1, 2]});
        let question = Question { family: Family::Migration, strategy: strategy.into(), question };
        self.queue.push_decision(HostDecision { number, deadline: now() + PATIENCE, question: Arc::new(question) });
        number
    }
}

/// Keeps the right to answer.
struct DecideLater(Sender<Reply>);

impl Decide for DecideLater {
    fn decide(&self, _: &Question, reply: Reply) {
        self.0.send(reply).unwrap();
    }
}

#[test]
fn strategy_is_asked_then_its_answer_failure_panic_or_later_answer_completes_the_call() {
    let (kept, replies) = unbounded();
    let strategies: [(&str, Arc<dyn Decide>); 4] = [
        ("good", Arc::new(|question: &serde_json::Value| Ok(question["moves"].clone()))),
        ("failing", Arc::new(|_: &serde_json::Value| Err(HostFailure::new("no idea")))),
        ("panicking", Arc::new(|_: &serde_json::Value| panic!("oh"))),
        ("later", Arc::new(DecideLater(kept))),
    ];
    let strategies = strategies.map(|(name, code)| ((Family::Migration, name.to_owned()), code));
    let mut rig = Rig::with(2, Strategies::from(strategies));
    let failed = |answer: HostAnswer| match answer {
        HostAnswer::Failed(failure) => failure.message,
        HostAnswer::Done(_) => panic!("{answer:?}"),
    };

    let number = rig.ask("good");
    assert_eq!(rig.completion(), (number, HostAnswer::Done(Some(Payload::json("[1,2]")))));
    rig.ask("failing");
    assert_eq!(failed(rig.completion().1), "no idea");
    rig.ask("panicking");
    assert_eq!(failed(rig.completion().1), "panicked: oh");

    let number = rig.ask("later");
    replies.recv_timeout(PATIENCE).unwrap().answer(HostAnswer::Done(None));
    assert_eq!(rig.completion(), (number, HostAnswer::Done(None)));
    rig.ask("later");
    drop(replies.recv_timeout(PATIENCE).unwrap());
    assert_eq!(failed(rig.completion().1), "the callback's answer was dropped");
    rig.ask("unknown");
    assert_eq!(failed(rig.completion().1), "the callback's answer was dropped");
}
