//! The queue between a hub and the threads that pull from it. Nobody runs turns here.

use loom::thread::{self, JoinHandle};

use super::*;
use crate::host::Bell;
use crate::hub::inputs::{self, DriverInput, InputReceiver};
use crate::ids::ChildId;
use crate::strategy::{Family, Question};
use crate::sync::{Parker, model};
use crate::time::Timestamp;

fn queue() -> (HostQueue, InputReceiver) {
    let (sender, receiver) = inputs::channel();
    (HostQueue::new(sender), receiver)
}

fn call(number: u64) -> HostCall {
    HostCall {
        number: CallNumber(number),
        instance: InstanceId(1),
        child: ChildId::new("c").unwrap(),
        deadline: Timestamp::NEVER,
        request: HostRequest::Discard,
    }
}

/// A decision, which overtakes the other calls.
fn decision(number: u64) -> HostDecision {
    let question = Question { family: Family::Migration, strategy: "mine".into(), question: serde_json::Value::Null };
    HostDecision { number: CallNumber(number), deadline: Timestamp::NEVER, question: Arc::new(question) }
}

fn number(item: HostItem) -> Option<u64> {
    match item {
        HostItem::Call(call) => Some(call.number.0),
        HostItem::Decide(decision) => Some(decision.number.0),
        HostItem::Closed => None,
        item @ (HostItem::Completed(..) | HostItem::Hook(_) | HostItem::Task(_)) => panic!("an unexpected {item:?}"),
    }
}

/// A thread that pulls to the end and completes what it gets; says what that was.
fn pull(queue: &HostQueue) -> JoinHandle<Vec<u64>> {
    let queue = queue.clone();
    thread::spawn(move || {
        let calls = std::iter::from_fn(|| queue.next_call(Duration::MAX).and_then(number));
        calls.inspect(|number| queue.complete(CallNumber(*number), HostAnswer::Done(None))).collect()
    })
}

fn completed(inputs: &InputReceiver) -> Vec<u64> {
    let inputs = std::iter::from_fn(|| inputs.receiver.try_recv().ok());
    let mut numbers: Vec<u64> = inputs
        .map(|input| match input {
            DriverInput::Engine(Input::HostDone(number, _)) => number.0,
            other => panic!("an unexpected {other:?}"),
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn two_threads_pull_then_a_call_is_performed_once_and_both_see_the_end() {
    model(|| {
        let (queue, inputs) = queue();
        let threads = [pull(&queue), pull(&queue)];
        queue.push_call(call(1));
        queue.close();
        assert_eq!(threads.map(|thread| thread.join().unwrap()).concat(), [1]);
        assert_eq!(completed(&inputs), [1]);
    });
}

#[test]
fn two_threads_queue_a_call_and_a_decision_then_one_that_pulls_gets_both() {
    model(|| {
        let (queue, inputs) = queue();
        let pulling = queue.clone();
        // As many as come: the end of the hub may overtake a decision, which nobody waits for then.
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                let number = pulling.next_call(Duration::MAX).and_then(number).unwrap();
                pulling.complete(CallNumber(number), HostAnswer::Done(None));
            }
        });
        let other = queue.clone();
        let other = thread::spawn(move || other.push_decision(decision(2)));
        queue.push_call(call(1));
        other.join().unwrap();
        thread.join().unwrap();
        assert_eq!(completed(&inputs), [1, 2]);
    });
}

#[test]
fn thread_awaits_a_call_that_another_takes_then_it_goes_on_waiting_and_misses_none() {
    model(|| {
        let (queue, inputs) = queue();
        let thread = pull(&queue);
        let awaiting = queue.clone();
        let awaiting = thread::spawn(move || {
            let mut numbers = Vec::new();
            loop {
                assert!(awaiting.await_call(Duration::MAX));
                match awaiting.next_call(Duration::ZERO).map(number) {
                    Some(Some(number)) => {
                        numbers.push(number);
                        awaiting.complete(CallNumber(number), HostAnswer::Done(None));
                    }
                    Some(None) => return numbers,
                    None => thread::yield_now(),
                }
            }
        });
        queue.push_call(call(1));
        queue.close();
        assert_eq!([thread, awaiting].map(|thread| thread.join().unwrap()).concat(), [1]);
        assert_eq!(completed(&inputs), [1]);
    });
}

#[test]
fn host_with_an_event_loop_takes_batches_then_its_bell_rings_for_what_they_left() {
    model(|| {
        let (queue, _inputs) = queue();
        let (bell, event_loop) = (Arc::new(Bell::default()), Parker::new());
        let event_loop = Arc::new(event_loop);
        let (rung, ringing) = (Arc::clone(&bell), Arc::clone(&event_loop));
        queue.set_doorbell(Box::new(move || {
            if rung.is_due() {
                ringing.unpark();
            }
        }));
        let pushing = queue.clone();
        let pushing = thread::spawn(move || {
            pushing.push_call(call(1));
            pushing.push_call(call(2));
            pushing.close();
        });
        let mut numbers = Vec::new();
        loop {
            let batch = queue.next_batch(8, || bell.arm());
            let is_closed = matches!(batch.last(), Some(HostItem::Closed));
            numbers.extend(batch.into_iter().filter_map(number));
            if is_closed {
                break;
            }
            event_loop.park_until(Timestamp::NEVER);
        }
        assert_eq!(numbers, [1, 2]);
        pushing.join().unwrap();
    });
}
