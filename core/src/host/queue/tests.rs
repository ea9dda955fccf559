use std::sync::Arc;
use std::thread;

use super::*;
use crate::hub::inputs::{self, DriverInput, InputReceiver};
use crate::ids::ChildId;
use crate::observe::HookName;
use crate::payload::Payload;
use crate::strategy::{Family, Question};
use crate::time::Timestamp;

const PATIENCE: Duration = Duration::from_secs(20);

fn queue() -> (HostQueue, InputReceiver) {
    let (sender, receiver) = inputs::channel();
    (HostQueue::new(sender), receiver)
}

fn call(number: u64, request: HostRequest) -> HostCall {
    HostCall {
        number: CallNumber(number),
        instance: InstanceId(1),
        child: ChildId::new("c").unwrap(),
        deadline: Timestamp::NEVER,
        request,
    }
}

fn message() -> HostRequest {
    HostRequest::Handle { message: Payload::default(), chain: Arc::new([]) }
}

fn decision(number: u64) -> HostDecision {
    let question = Question { family: Family::Migration, strategy: "mine".into(), question: serde_json::Value::Null };
    HostDecision { number: CallNumber(number), deadline: Timestamp::NEVER, question: Arc::new(question) }
}

fn hook() -> HookEvent {
    HookEvent { name: HookName::ChildFailed, payload: serde_json::json!({}) }
}

fn number(item: Option<HostItem>) -> u64 {
    match item {
        Some(HostItem::Call(call)) => call.number.0,
        Some(HostItem::Decide(decision)) => decision.number.0,
        other => panic!("expected a call, not {other:?}"),
    }
}

#[test]
fn calls_are_pushed_then_they_come_in_order() {
    let (queue, _inputs) = queue();
    for n in 1..=3 {
        queue.push_call(call(n, message()));
    }
    assert_eq!(queue.len(), 3);
    assert_eq!(number(queue.try_next()), 1);
    assert_eq!(number(queue.next(PATIENCE)), 2);
    assert_eq!(number(queue.next_call(PATIENCE)), 3);
    assert!(queue.next(Duration::from_millis(1)).is_none());
}

#[test]
fn messages_wait_then_a_decision_overtakes_them() {
    let (queue, _inputs) = queue();
    queue.push_call(call(1, message()));
    queue.push_call(call(2, message()));
    queue.push_decision(decision(3));
    assert_eq!(queue.len(), 3);
    assert_eq!(number(queue.try_next()), 3);
    queue.push_decision(decision(4));
    assert_eq!(number(queue.next_call(PATIENCE)), 4);
    queue.push_decision(decision(5));
    let batch: Vec<u64> = queue.next_batch(8, || {}).into_iter().map(|item| number(Some(item))).collect();
    assert_eq!(batch, [5, 1, 2]);
}

#[test]
fn r17_host_decides_too_slowly_then_decisions_beyond_the_bound_are_answered() {
    let (queue, inputs) = queue();
    for n in 0..MAX_WAITING_DECISIONS as u64 {
        queue.push_decision(decision(n));
    }
    queue.push_decision(decision(77));
    match inputs.receiver.try_recv() {
        Ok(DriverInput::Engine(Input::HostDone(number, HostAnswer::Failed(failure)))) => {
            assert_eq!((number, failure.kind), (CallNumber(77), Some(ErrorKind::Overloaded)));
        }
        other => panic!("expected a refusal, not {other:?}"),
    }
    assert_eq!(queue.len(), MAX_WAITING_DECISIONS);
}

#[test]
fn thread_waits_then_a_call_or_a_hook_wakes_it() {
    let (queue, _inputs) = queue();
    for is_hook in [false, true] {
        let puller = queue.clone();
        let thread = thread::spawn(move || puller.next(PATIENCE));
        if is_hook {
            queue.push_hook(hook());
        } else {
            queue.push_call(call(1, message()));
        }
        let item = thread.join().unwrap().unwrap();
        assert_eq!(matches!(item, HostItem::Hook(_)), is_hook);
    }
}

#[test]
fn r17_host_pulls_too_slowly_then_messages_are_refused_and_stops_are_not() {
    let (queue, inputs) = queue();
    for n in 0..MAX_WAITING_CALLS as u64 {
        queue.push_call(call(n, message()));
    }
    queue.push_call(call(77, message()));
    match inputs.receiver.try_recv() {
        Ok(DriverInput::Engine(Input::HostDone(number, HostAnswer::Failed(failure)))) => {
            assert_eq!(number, CallNumber(77));
            assert_eq!(failure.kind, Some(ErrorKind::Overloaded));
        }
        other => panic!("expected a refusal, not {other:?}"),
    }
    queue.push_call(call(78, HostRequest::Discard));
    assert_eq!(queue.len(), MAX_WAITING_CALLS + 1);
}

#[test]
fn hooks_overflow_then_they_are_dropped_and_counted_and_calls_go_on() {
    let (queue, _inputs) = queue();
    for _ in 0..MAX_WAITING_HOOKS + 5 {
        queue.push_hook(hook());
    }
    assert_eq!(queue.hooks_dropped(), 5);
    for n in 0..200 {
        queue.push_call(call(n, message()));
    }
    let served: Vec<bool> = (0..200).map(|_| matches!(queue.try_next(), Some(HostItem::Hook(_)))).collect();
    let hooks = served.iter().filter(|is_hook| **is_hook).count();
    assert!((1..=10).contains(&hooks), "{hooks} hooks among 200 items");
}

#[test]
fn queue_closes_then_every_thread_hears_of_it_after_what_waited() {
    let (queue, _inputs) = queue();
    queue.push_call(call(1, message()));
    queue.close();
    assert_eq!(number(queue.next(PATIENCE)), 1);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let puller = queue.clone();
            thread::spawn(move || puller.next(PATIENCE))
        })
        .collect();
    for thread in threads {
        assert!(matches!(thread.join().unwrap(), Some(HostItem::Closed)));
    }
}

#[test]
fn something_is_queued_then_the_doorbell_rings() {
    let (queue, _inputs) = queue();
    let (ring, rung) = crossbeam_channel::unbounded();
    queue.set_doorbell(Box::new(move || ring.send(()).unwrap()));
    queue.push_call(call(1, message()));
    queue.push_hook(hook());
    queue.push(HostItem::Task(HostTask::new(|| {})));
    queue.close();
    assert_eq!(rung.len(), 4);
}

#[test]
fn other_end_is_dropped_then_a_wait_gives_up() {
    let (queue, _inputs) = queue();
    let (end, gone) = crossbeam_channel::bounded(0);
    let waiting = {
        let queue = queue.clone();
        thread::spawn(move || queue.next_unless(PATIENCE, &gone).is_none())
    };
    drop(end);
    assert!(waiting.join().unwrap());
    queue.push_call(call(1, message()));
    assert_eq!(number(queue.next(PATIENCE)), 1);
}

fn batch(queue: &HostQueue, max: usize) -> (usize, bool) {
    let is_armed = std::cell::Cell::new(false);
    let items = queue.next_batch(max, || is_armed.set(true));
    (items.len(), is_armed.get())
}

#[test]
fn host_takes_batches_then_a_short_one_arms_its_bell() {
    let (queue, _inputs) = queue();
    for n in 1..=3 {
        queue.push_call(call(n, message()));
    }
    queue.push_hook(hook());
    assert_eq!(batch(&queue, 2), (2, false));
    assert_eq!(batch(&queue, 2), (2, false));
    assert_eq!(batch(&queue, 2), (0, true));
}

/// A batch was taken as a whole while the lease lasted, and its later calls were made after it.
#[test]
fn r11_lease_ends_while_the_host_is_in_a_batch_then_the_rest_of_what_waited_is_not_called() {
    let (queue, inputs) = queue();
    queue.set_lease(crate::hub::now() + PATIENCE, CallNumber(0));
    for n in 1..=3 {
        queue.push_call(call(n, message()));
    }
    queue.push_call(call(4, HostRequest::Discard));
    assert_eq!(batch(&queue, 8), (1, false));
    // The host was busy with the first one until the lease was over.
    queue.set_lease(Timestamp(0), CallNumber(0));
    let left = queue.next_batch(8, || {});
    assert!(matches!(left.as_slice(), [HostItem::Call(call)] if call.number == CallNumber(4)), "{left:?}");
    let answers = std::iter::from_fn(|| inputs.receiver.try_recv().ok());
    let refused: Vec<u64> = answers
        .map(|input| match input {
            DriverInput::Engine(Input::HostDone(
                number,
                HostAnswer::Failed(HostFailure { kind: Some(ErrorKind::Partitioned), .. }),
            )) => number.0,
            DriverInput::Engine(_)
            | DriverInput::Frame(..)
            | DriverInput::Command(..)
            | DriverInput::Fail(_)
            | DriverInput::Halt => {
                panic!("an unexpected {input:?}")
            }
        })
        .collect();
    assert_eq!(refused, [2, 3]);
}

#[test]
fn something_comes_while_the_bell_is_armed_then_it_is_in_the_batch() {
    let (queue, _inputs) = queue();
    let is_first = std::cell::Cell::new(true);
    let items = queue.next_batch(8, || {
        if is_first.replace(false) {
            queue.push_call(call(1, message()));
        }
    });
    assert_eq!(items.len(), 1);
}

#[test]
fn host_takes_a_batch_then_it_waits_until_the_next_is_taken() {
    let (queue, _inputs) = queue();
    queue.push_call(call(1, message()));
    assert_eq!(batch(&queue, 8).0, 1);
    assert_eq!(queue.waiting(), 1);
    assert_eq!(batch(&queue, 8).0, 0);
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn hook_of_the_end_is_fired_then_it_comes_before_the_queue_is_closed() {
    let (queue, _inputs) = queue();
    // Every so often a hook is served first; the first turn is such a one.
    queue.push_hook(hook());
    assert_eq!(queue.next_batch(8, || {}).len(), 1);
    queue.push_call(call(1, message()));
    queue.push_hook(hook());
    queue.close();
    let items = queue.next_batch(8, || {});
    assert!(matches!(items.as_slice(), [HostItem::Call(_), HostItem::Hook(_), HostItem::Closed]), "{items:?}");
}

#[test]
fn queue_is_closed_then_a_batch_ends_with_it() {
    let (queue, _inputs) = queue();
    queue.push_call(call(1, message()));
    queue.close();
    assert!(matches!(queue.next_batch(8, || {}).as_slice(), [HostItem::Call(_), HostItem::Closed]));
    assert!(matches!(queue.next_batch(8, || {}).as_slice(), [HostItem::Closed]));
}

#[test]
fn thread_completes_and_asks_for_no_more_then_another_one_gets_what_waits() {
    let (queue, _inputs) = queue();
    let puller = queue.clone();
    let thread = thread::spawn(move || puller.next_call(PATIENCE));
    // As a turn on a thread of the host leaves it: queued, and nobody woken.
    queue.queue_call(call(1, message()));
    while !thread.is_finished() {
        queue.leave_to_others();
        thread::yield_now();
    }
    assert_eq!(number(thread.join().unwrap()), 1);
}
