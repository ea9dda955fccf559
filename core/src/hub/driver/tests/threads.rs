//! On which thread a turn runs, and that none is missed.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test's engine takes few inputs")]

use std::thread::{self, JoinHandle, ThreadId};

use super::*;
use crate::engine::MessageCommand;
use crate::payload::Payload;

fn message() -> MessageCommand {
    MessageCommand::new(child("c"), Payload::default())
}

/// Every call becomes a host call, every completion of it the reply; tells on which threads.
fn calling(seen: Sender<(&'static str, ThreadId)>) -> impl FnMut(Input, &mut Vec<Effect>) + Send + 'static {
    let mut open = BTreeMap::new();
    let mut next = 0;
    move |input, effects| {
        let what = match input {
            Input::Command(id, Command::Call(_)) => {
                next += 1;
                open.insert(CallNumber(next), id);
                effects.push(Effect::Host(start_call(next)));
                "call"
            }
            Input::Frame(..) => {
                next += 1;
                effects.push(Effect::Host(start_call(next)));
                "frame"
            }
            Input::HostDone(number, _) => {
                let reply = Ok(Outcome::Reply(Payload::default()));
                effects.extend(open.remove(&number).map(|id| Effect::Reply(id, reply)));
                "done"
            }
            input => return subscribe(input, effects),
        };
        let _ = seen.send((what, thread::current().id()));
    }
}

/// Answers the operation that every hub begins with, so that none is open.
fn subscribe(input: Input, effects: &mut Vec<Effect>) {
    if let Input::Command(id, Command::SubscribeHooks(_)) = input {
        effects.push(Effect::Reply(id, Ok(Outcome::Done)));
    }
}

/// Pulls and completes until the hub ends.
fn host(queue: HostQueue) -> JoinHandle<()> {
    thread::spawn(move || {
        loop {
            match queue.next_call(PATIENCE) {
                Some(HostItem::Call(call)) => queue.complete_last(call.number, HostAnswer::Done(None)),
                _ => return,
            }
        }
    })
}

/// Tries until `holds`: a hub that has just started may still be at its first turn.
fn soon(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not true within {PATIENCE:?}");
        thread::yield_now();
    }
}

#[test]
fn hub_is_at_rest_then_the_caller_and_the_host_run_the_turns_of_a_call_themselves() {
    let (told, seen) = unbounded();
    let rig = rig(calling(told));
    let host = host(rig.queue.clone());
    let expected = [("call", thread::current().id()), ("done", host.thread().id())];
    soon(|| {
        rig.hub.call(message()).wait().unwrap();
        seen.try_iter().collect::<Vec<_>>() == expected
    });
    rig.hub.stop(PATIENCE).unwrap();
    host.join().unwrap();
}

#[test]
fn frame_comes_then_a_thread_of_the_host_that_stands_by_runs_its_turn_and_gets_its_call() {
    let (told, seen) = unbounded();
    let rig = rig(calling(told));
    let host = host(rig.queue.clone());
    let expected = ["frame", "done"].map(|what| (what, host.thread().id()));
    soon(|| {
        rig.hub.shared().requests.inputs().frame(peer(), Bytes::from_static(b"hello"));
        let turns: Vec<_> = (0..2).map(|_| seen.recv_timeout(PATIENCE).unwrap()).collect();
        turns == expected
    });
    rig.hub.stop(PATIENCE).unwrap();
    host.join().unwrap();
}

#[test]
fn r20_engine_panics_on_a_callers_thread_then_the_hub_fences_itself_and_the_caller_lives() {
    let here = thread::current().id();
    let rig = rig(move |input, effects| {
        if let Input::Command(id, Command::Call(_)) = input {
            assert_ne!(thread::current().id(), here, "on purpose");
            effects.push(Effect::Reply(id, Ok(Outcome::Reply(Payload::default()))));
        } else {
            subscribe(input, effects);
        }
    });
    let mut answer = Ok(Payload::default());
    soon(|| {
        answer = rig.hub.call(message()).wait();
        answer.is_err()
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ErrorKind::HubFailed);
    assert!(error.message.contains("on purpose"), "{error}");
    assert_eq!(rig.hub.stop(PATIENCE).unwrap_err().kind, ErrorKind::HubFailed);
}

#[test]
fn turn_on_a_callers_thread_brings_a_deadline_then_the_hubs_own_thread_keeps_it() {
    struct Timer {
        open: Option<RequestId>,
        due: Timestamp,
    }
    impl Machine for Timer {
        fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
            match input {
                Input::Command(id, Command::Call(_)) => {
                    self.open = Some(id);
                    self.due = now + Duration::from_millis(1);
                }
                Input::Tick => {
                    self.due = Timestamp::NEVER;
                    let reply = |id| Effect::Reply(id, Ok(Outcome::Reply(Payload::default())));
                    effects.extend(self.open.take().map(reply));
                }
                Input::Command(_, Command::Shutdown(_)) => effects.push(Effect::Stopped),
                input => subscribe(input, effects),
            }
        }
        fn flush(&mut self, _: Timestamp, _: &mut Vec<Effect>) {}
        fn next_deadline(&self) -> Timestamp {
            self.due
        }
    }
    let rig = rig(|_, _| {});
    let mut other = config(Vec::new());
    other.hub_id = HubId::new("timer").unwrap();
    let machine = Timer { open: None, due: Timestamp::NEVER };
    let (hub, _queue) = Hub::builder(other).node(&rig.node).begin(false, |_, _| Box::new(machine)).unwrap();
    for _ in 0..200 {
        hub.call(message()).wait().unwrap();
    }
    hub.stop(PATIENCE).unwrap();
}

#[test]
fn many_callers_hosts_and_frames_come_at_once_then_every_call_is_answered() {
    let (told, seen) = unbounded();
    let rig = rig(calling(told));
    let hosts: Vec<_> = (0..3).map(|_| host(rig.queue.clone())).collect();
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let hub = rig.hub.clone();
            thread::spawn(move || {
                for n in 0..500 {
                    let pending = hub.call(message());
                    if n % 5 == caller {
                        hub.shared().requests.inputs().frame(peer(), Bytes::from_static(b"hello"));
                    }
                    pending.wait().unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    soon(|| rig.queue.is_empty());
    rig.hub.stop(PATIENCE).unwrap();
    for host in hosts {
        host.join().unwrap();
    }
    assert_eq!(seen.try_iter().filter(|(what, _)| *what == "call").count(), 2000);
}
