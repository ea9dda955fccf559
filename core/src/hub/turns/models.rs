//! Every order of the steps of a few threads around one hub, as far as two preemptions reach. A thread that waits in
//! vain is a deadlock to loom, and fails the model.

use loom::thread::{self, JoinHandle};

use super::*;
use crate::engine::Outcome;
use crate::hub::pending::{Sink, Slot};
use crate::sync::{Receiver, model, set_time, unbounded};

const DUE: Timestamp = Timestamp(5);

/// What the hub of a model is asked.
enum Ask {
    /// To answer.
    Answer(Sink),
    /// To answer when it is due.
    AnswerWhenDue(Sink),
    /// To answer at the end only.
    Keep(Sink),
    /// To call the host, so often.
    Calls(usize),
    /// To end.
    End,
}

/// The driver of that hub.
struct Scripted {
    inputs: Receiver<Ask>,
    calls: Sender<()>,
    kept: Vec<Sink>,
    due: Option<Sink>,
    has_ended: bool,
}

impl TakeTurns for Scripted {
    type Input = Ask;

    fn turn(&mut self, first: Option<Ask>) -> usize {
        let mut calls = 0;
        let mut next = first.or_else(|| self.inputs.try_recv().ok());
        while let Some(ask) = next.take() {
            match ask {
                Ask::Answer(sink) => sink.answer(Ok(Outcome::Done)),
                Ask::AnswerWhenDue(sink) => self.due = Some(sink),
                Ask::Keep(sink) => self.kept.push(sink),
                Ask::Calls(count) => {
                    (0..count).for_each(|_| self.calls.send(()).expect("the host keeps its end"));
                    calls += count;
                }
                Ask::End => {
                    self.has_ended = true;
                    return calls;
                }
            }
            next = self.inputs.try_recv().ok();
        }
        if self.due.is_some()
            && is_over(DUE)
            && let Some(sink) = self.due.take()
        {
            sink.answer(Ok(Outcome::Done));
        }
        calls
    }

    fn next_deadline(&self) -> Timestamp {
        if self.due.is_some() { DUE } else { Timestamp::NEVER }
    }

    fn is_at_rest_for(&self, _: &Ask) -> bool {
        !self.has_ended && self.kept.is_empty()
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn finish(self) {}
}

/// That hub. Its own thread runs already.
#[derive(Clone)]
struct Hub {
    turns: Arc<Turns<Scripted>>,
    inputs: Sender<Ask>,
    calls: Arc<Receiver<()>>,
    queued: Sender<()>,
}

impl Hub {
    fn start() -> (Self, JoinHandle<()>) {
        let (inputs, taken) = unbounded();
        let (queued, calls) = unbounded();
        let turns = Arc::new(Turns::new(inputs.clone()));
        let hub = Self { turns, inputs, calls: Arc::new(calls), queued: queued.clone() };
        let turns = Arc::clone(&hub.turns);
        let driver = Scripted { inputs: taken, calls: queued, kept: Vec::new(), due: None, has_ended: false };
        (hub, thread::spawn(move || turns.run(driver)))
    }

    fn with<T: 'static>(&self, body: impl FnOnce(&Self) -> T + 'static) -> JoinHandle<T> {
        let hub = self.clone();
        thread::spawn(move || body(&hub))
    }

    /// Queues an input, as threads of the network do.
    fn queue(&self, ask: Ask, weight: Weight) {
        if self.inputs.send(ask).is_ok() {
            self.turns.call(weight);
        }
    }

    /// Runs the turn here, or queues its input.
    fn run(&self, ask: Ask, role: Role, is_done: impl Fn() -> bool) {
        if let Err(ask) = self.turns.try_run(ask, role, is_done) {
            self.queue(ask, Weight::Light);
        }
    }

    fn wait(&self, slot: &Slot) {
        let answered = |waker: &Waker| slot.is_answered(waker).then_some(());
        self.turns.stand_by(Role::Caller, Timestamp::NEVER, answered).expect("no time is set");
    }

    /// An operation that is queued, and waited for.
    fn ask(&self, ask: fn(Sink) -> Ask, weight: Weight) {
        let (slot, sink) = Sink::slot("call");
        self.queue(ask(sink), weight);
        self.wait(&slot);
    }

    /// An operation whose turn the caller may run.
    fn ask_here(&self, ask: fn(Sink) -> Ask) {
        let (slot, sink) = Sink::slot("call");
        self.run(ask(sink), Role::Caller, || true);
        self.wait(&slot);
    }

    /// A thread of the host waits for its next call.
    fn next_call(&self, until: Timestamp) -> Option<()> {
        self.turns.stand_by(Role::Host, until, |_| self.calls.try_recv().ok())
    }

    fn end(&self, own: JoinHandle<()>) {
        self.queue(Ask::End, Weight::Any);
        own.join().expect("the hub's own thread ends");
    }
}

#[test]
fn two_callers_queue_inputs_then_both_are_answered() {
    model(|| {
        let (hub, own) = Hub::start();
        let other = hub.with(|hub| hub.ask(Ask::Answer, Weight::Light));
        hub.ask(Ask::Answer, Weight::Any);
        other.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn one_caller_runs_a_turn_and_another_queues_an_input_then_both_are_answered() {
    model(|| {
        let (hub, own) = Hub::start();
        let other = hub.with(|hub| hub.ask(Ask::Answer, Weight::Light));
        hub.ask_here(Ask::Answer);
        other.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn two_callers_run_turns_then_both_are_answered() {
    model(|| {
        let (hub, own) = Hub::start();
        let other = hub.with(|hub| hub.ask_here(Ask::Answer));
        hub.ask_here(Ask::Answer);
        other.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn thread_of_the_host_stands_by_and_inputs_come_then_none_is_lost() {
    model(|| {
        let (hub, own) = Hub::start();
        let host = hub.with(|hub| hub.next_call(Timestamp::NEVER));
        hub.queue(Ask::Calls(1), Weight::Light);
        hub.ask(Ask::Answer, Weight::Any);
        assert!(host.join().unwrap().is_some());
        hub.end(own);
    });
}

#[test]
fn turn_brings_two_calls_then_two_threads_of_the_host_get_one_each() {
    model(|| {
        let (hub, own) = Hub::start();
        let host = hub.with(|hub| hub.next_call(Timestamp::NEVER));
        let other = hub.with(|hub| hub.next_call(Timestamp::NEVER));
        hub.queue(Ask::Calls(2), Weight::Light);
        assert!(host.join().unwrap().is_some());
        assert!(other.join().unwrap().is_some());
        hub.end(own);
    });
}

#[test]
fn thread_of_the_host_completes_a_call_then_it_gets_the_call_this_brings() {
    model(|| {
        let (hub, own) = Hub::start();
        let host = hub.with(|hub| {
            hub.run(Ask::Calls(1), Role::Host, || !hub.calls.is_empty());
            hub.next_call(Timestamp::NEVER)
        });
        hub.ask(Ask::Answer, Weight::Light);
        assert!(host.join().unwrap().is_some());
        hub.end(own);
    });
}

#[test]
fn thread_of_the_host_has_the_duty_and_finds_a_call_then_it_hands_the_duty_on() {
    model(|| {
        let (hub, own) = Hub::start();
        let host = hub.with(|hub| hub.next_call(Timestamp::NEVER));
        let other = hub.with(|hub| {
            hub.queued.send(()).unwrap();
            hub.turns.wake_hosts(1);
        });
        hub.ask(Ask::Answer, Weight::Any);
        assert!(host.join().unwrap().is_some());
        other.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn thread_of_the_host_has_the_duty_and_its_time_is_over_then_no_input_is_lost() {
    model(|| {
        let (hub, own) = Hub::start();
        let host = hub.with(|hub| hub.next_call(DUE));
        let clock = thread::spawn(|| set_time(DUE));
        hub.ask(Ask::Answer, Weight::Any);
        host.join().unwrap();
        clock.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn caller_runs_a_turn_that_brings_a_deadline_then_the_deadline_is_kept() {
    model(|| {
        let (hub, own) = Hub::start();
        let clock = thread::spawn(|| set_time(DUE));
        hub.ask_here(Ask::AnswerWhenDue);
        clock.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn deadline_comes_while_another_thread_has_the_duty_then_it_is_kept() {
    model(|| {
        let (hub, own) = Hub::start();
        let (slot, sink) = Sink::slot("call");
        hub.queue(Ask::AnswerWhenDue(sink), Weight::Any);
        let other = hub.with(|hub| hub.ask_here(Ask::Answer));
        set_time(DUE);
        hub.wait(&slot);
        other.join().unwrap();
        hub.end(own);
    });
}

#[test]
fn hub_ends_then_callers_that_stand_by_are_answered() {
    model(|| {
        let (hub, own) = Hub::start();
        let other = hub.with(|hub| hub.queue(Ask::End, Weight::Any));
        hub.ask(Ask::Keep, Weight::Light);
        other.join().unwrap();
        own.join().unwrap();
    });
}

#[test]
fn hub_ends_while_a_caller_runs_a_turn_then_the_caller_is_answered_and_the_own_thread_ends() {
    model(|| {
        let (hub, own) = Hub::start();
        let other = hub.with(|hub| hub.run(Ask::End, Role::Host, || true));
        hub.ask_here(Ask::Answer);
        other.join().unwrap();
        own.join().unwrap();
    });
}
