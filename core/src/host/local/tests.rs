#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; the rest fails it")]

mod decisions;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::*;
use crate::engine::{Command, Input, Outcome};
use crate::host::call::{HandoverTarget, InstanceEvent, StartReason, StopReason};
use crate::host::child::{Body, kind_fn};
use crate::hub::inputs::{self, DriverInput, InputReceiver};
use crate::hub::now;
use crate::ids::{ChildId, Epoch, HubId, NodeName};
use crate::spec::{ChildSpec, Mode};
use crate::time::Timestamp;

const PATIENCE: Duration = Duration::from_secs(20);

/// The engine's side of a host: what a test issues and what came back.
struct Rig {
    host: LocalHost,
    queue: HostQueue,
    inputs: InputReceiver,
    next: u64,
}

impl Rig {
    fn new(threads: usize) -> Self {
        Self::with(threads, Strategies::new())
    }

    fn with(threads: usize, strategies: Strategies) -> Self {
        let (sender, inputs) = inputs::channel();
        let queue = HostQueue::new(sender.clone());
        let requests = Arc::new(Requests::new(sender, queue.clone()));
        let observers = Arc::new(Observers::default());
        let host = LocalHost::start(queue.clone(), requests, observers, strategies, threads);
        Self { host, queue, inputs, next: 1 }
    }

    fn kind(self, name: &str, create: impl Fn() -> Box<dyn Child> + Send + Sync + 'static) -> Self {
        let name = KindName::new(name).unwrap();
        self.host.register(name, Arc::new(kind_fn(false, create)));
        self
    }

    fn issue_until(&mut self, deadline: Timestamp, child: u64, request: HostRequest) -> CallNumber {
        let number = CallNumber(self.next);
        self.next += 1;
        self.queue.push_call(HostCall {
            number,
            instance: InstanceId(child),
            child: child_id(child),
            deadline,
            request,
        });
        number
    }

    fn issue(&mut self, child: u64, request: HostRequest) -> CallNumber {
        self.issue_until(now() + PATIENCE, child, request)
    }

    fn next_input(&self) -> DriverInput {
        let input = self.inputs.receiver.recv_timeout(PATIENCE).unwrap();
        self.inputs.taken(&input);
        input
    }

    fn completion(&self) -> (CallNumber, HostAnswer) {
        match self.next_input() {
            DriverInput::Engine(Input::HostDone(number, answer)) => (number, answer),
            other => panic!("expected a completion, not {other:?}"),
        }
    }

    /// Starts an instance and gives its number.
    fn started(&mut self, child: u64, kind: &str) -> u64 {
        let number = self.issue(child, start(child, kind));
        assert_eq!(self.completion(), (number, HostAnswer::Done(None)));
        child
    }
}

fn child_id(child: u64) -> ChildId {
    ChildId::new(format!("child-{child}")).unwrap()
}

fn start(child: u64, kind: &str) -> HostRequest {
    HostRequest::Start(Arc::new(StartContext {
        hub_id: HubId::new("orders").unwrap(),
        node: NodeName::new("a").unwrap(),
        spec: Arc::new(ChildSpec::new(child_id(child).as_str(), kind).unwrap()),
        epoch: Epoch(7),
        mode: Mode::Active,
        reason: StartReason::Initial,
    }))
}

fn message(text: &str) -> HostRequest {
    HostRequest::Handle { message: Payload::bytes(text.as_bytes().to_vec()), chain: Arc::new([]) }
}

fn reply(text: &str) -> HostAnswer {
    HostAnswer::Done(Some(Payload::bytes(text.as_bytes().to_vec())))
}

/// Answers with what it was sent; panics, blocks and calls on demand.
#[derive(Default)]
struct Actor {
    gate: Option<Receiver<()>>,
    entered: Option<Sender<()>>,
    stopped: Option<Sender<StopReason>>,
    body: Option<Sender<bool>>,
}

impl Child for Actor {
    fn handle(&mut self, ctx: &Context, message: Payload) -> Result<Payload, HostFailure> {
        match &message.data[..] {
            b"panic" => panic!("on purpose"),
            b"block" => {
                if let (Some(entered), Some(gate)) = (&self.entered, &self.gate) {
                    entered.send(()).unwrap();
                    gate.recv().unwrap();
                }
            }
            b"call" => {
                return ctx
                    .call("child-2", Payload::bytes(&b"inner"[..]), PATIENCE)
                    .map_err(|error| HostFailure::new(error.to_string()));
            }
            b"epoch" => {
                return Ok(Payload::bytes(ctx.epoch().to_string().into_bytes()));
            }
            b"exit" => ctx.exit(Some("enough".into())),
            _ => {}
        }
        Ok(message)
    }

    fn stop(&mut self, reason: StopReason) {
        if let Some(stopped) = &self.stopped {
            stopped.send(reason).unwrap();
        }
    }

    fn body(&mut self) -> Option<Body> {
        let told = self.body.clone()?;
        Some(Box::new(move |ctx: Context| {
            told.send(ctx.is_cancelled()).unwrap();
            let cancelled = ctx.wait_cancelled(PATIENCE);
            told.send(cancelled).unwrap();
            Ok(())
        }))
    }
}

fn actor() -> Box<dyn Child> {
    Box::new(Actor::default())
}

#[test]
fn messages_are_handled_then_replies_complete_their_calls() {
    let mut rig = Rig::new(2).kind("actor", actor);
    let child = rig.started(1, "actor");
    let number = rig.issue(child, message("hello"));
    assert_eq!(rig.completion(), (number, reply("hello")));
    assert_eq!(rig.host.instance_count(), 1);
}

#[test]
fn unknown_kind_is_started_then_start_fails_with_its_kind() {
    let mut rig = Rig::new(1);
    let number = rig.issue(1, start(1, "nobody"));
    let (completed, answer) = rig.completion();
    assert_eq!(completed, number);
    let HostAnswer::Failed(failure) = answer else { panic!("the start must fail") };
    assert_eq!(failure.kind, Some(ErrorKind::UnknownKind));
    assert_eq!(rig.host.instance_count(), 0);
}

#[test]
fn handle_panics_then_call_fails_and_the_instance_and_its_thread_live() {
    let mut rig = Rig::new(1).kind("actor", actor);
    let child = rig.started(1, "actor");
    rig.issue(child, message("panic"));
    let (_, answer) = rig.completion();
    let HostAnswer::Failed(failure) = answer else { panic!("the call must fail") };
    assert_eq!(failure.kind, Some(ErrorKind::Panic));
    assert!(failure.message.contains("on purpose"), "{failure:?}");
    let number = rig.issue(child, message("again"));
    assert_eq!(rig.completion(), (number, reply("again")));
}

#[test]
fn r18_callback_overruns_its_deadline_then_its_thread_is_replaced() {
    let (entered, inside) = unbounded();
    let (open, gate) = unbounded();
    let mut rig = Rig::new(1).kind("actor", actor).kind("stuck", move || {
        Box::new(Actor { gate: Some(gate.clone()), entered: Some(entered.clone()), ..Actor::default() })
    });
    rig.started(1, "stuck");
    rig.started(2, "actor");
    let late = rig.issue_until(now() + Duration::from_millis(5), 1, message("block"));
    inside.recv_timeout(PATIENCE).unwrap();
    let number = rig.issue(2, message("next"));
    assert_eq!(rig.completion(), (number, reply("next")));
    assert_eq!(rig.host.pool.written_off(), 1);
    open.send(()).unwrap();
    assert_eq!(rig.completion(), (late, reply("block")));
    let number = rig.issue(2, message("after"));
    assert_eq!(rig.completion(), (number, reply("after")));
    rig.host.close();
    assert!(rig.host.join(PATIENCE));
    assert_eq!(rig.host.pool.written_off(), 0);
}

#[test]
fn r18_child_waits_in_call_then_its_slot_runs_the_child_it_waits_for() {
    let mut rig = Rig::new(1).kind("actor", actor);
    rig.started(1, "actor");
    rig.started(2, "actor");
    let outer = rig.issue(1, message("call"));
    let DriverInput::Command(_, Command::Call(inner), sink) = rig.next_input() else {
        panic!("expected the nested call")
    };
    assert_eq!(inner.chain.to_vec(), vec![child_id(1)]);
    let number = rig.issue(2, message("inner"));
    assert_eq!(rig.completion(), (number, reply("inner")));
    sink.answer(Ok(Outcome::Reply(Payload::bytes(&b"inner"[..]))));
    assert_eq!(rig.completion(), (outer, reply("inner")));
    let number = rig.issue(1, message("after"));
    assert_eq!(rig.completion(), (number, reply("after")));
}

#[test]
fn stop_comes_while_a_message_is_handled_then_it_follows_it() {
    let (entered, inside) = unbounded();
    let (open, gate) = unbounded();
    let (told, stopped) = unbounded();
    let mut rig = Rig::new(2).kind("stuck", move || {
        Box::new(Actor {
            gate: Some(gate.clone()),
            entered: Some(entered.clone()),
            stopped: Some(told.clone()),
            ..Actor::default()
        })
    });
    rig.started(1, "stuck");
    let first = rig.issue(1, message("block"));
    inside.recv_timeout(PATIENCE).unwrap();
    let second = rig.issue(1, HostRequest::Stop(StopReason::Shutdown));
    open.send(()).unwrap();
    assert_eq!(rig.completion(), (first, reply("block")));
    assert_eq!(rig.completion(), (second, HostAnswer::Done(None)));
    assert_eq!(stopped.try_recv(), Ok(StopReason::Shutdown));
    assert_eq!(rig.host.instance_count(), 0);
}

#[test]
fn instance_is_discarded_while_its_callback_is_stuck_then_the_child_is_dropped_on_return() {
    struct Guard(Sender<()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    struct Stuck(Receiver<()>, Sender<()>, #[allow(dead_code, reason = "told on drop")] Guard);
    impl Child for Stuck {
        fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
            self.1.send(()).unwrap();
            self.0.recv().unwrap();
            Ok(message)
        }
    }
    let (entered, inside) = unbounded();
    let (open, gate) = unbounded();
    let (dropped, drops) = unbounded();
    let mut rig = Rig::new(2).kind("stuck", move || {
        let guard = Guard(dropped.clone());
        Box::new(Stuck(gate.clone(), entered.clone(), guard))
    });
    rig.started(1, "stuck");
    rig.issue(1, message("x"));
    inside.recv_timeout(PATIENCE).unwrap();
    let discard = rig.issue(1, HostRequest::Discard);
    assert_eq!(rig.completion(), (discard, HostAnswer::Done(None)));
    assert_eq!(rig.host.instance_count(), 0);
    open.send(()).unwrap();
    drops.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn r6_run_is_cancelled_then_its_body_returns_and_a_later_run_is_not_cancelled() {
    let (told, bodies) = unbounded();
    let mut rig = Rig::new(2).kind("worker", move || Box::new(Actor { body: Some(told.clone()), ..Actor::default() }));
    rig.started(1, "worker");
    let mut last = None;
    for _ in 0..2 {
        let run = rig.issue_until(Timestamp::NEVER, 1, HostRequest::Run);
        assert_eq!(bodies.recv_timeout(PATIENCE), Ok(false));
        let number = rig.issue(1, message("beside"));
        assert_eq!(rig.completion(), (number, reply("beside")));
        let cancel = rig.issue(1, HostRequest::CancelRun);
        assert_eq!(bodies.recv_timeout(PATIENCE), Ok(true));
        let mut both = [rig.completion().0, rig.completion().0];
        both.sort_unstable();
        assert_eq!(both, [run, cancel]);
        last = Some(cancel);
    }
    assert!(last.is_some());
}

#[test]
fn epoch_is_set_out_of_order_then_the_highest_stays() {
    let mut rig = Rig::new(1).kind("actor", actor);
    rig.started(1, "actor");
    for epoch in [9, 8] {
        rig.issue(1, HostRequest::SetRole(Epoch(epoch), Mode::Active));
        assert_eq!(rig.completion().1, HostAnswer::Done(None));
    }
    rig.issue(1, message("epoch"));
    assert_eq!(rig.completion().1, reply("9"));
}

#[test]
fn child_exits_by_its_context_then_the_engine_hears_of_it() {
    let mut rig = Rig::new(1).kind("actor", actor);
    rig.started(1, "actor");
    rig.issue(1, message("exit"));
    match rig.next_input() {
        DriverInput::Engine(Input::Instance(id, event)) => {
            assert_eq!(id, InstanceId(1));
            assert_eq!(event, InstanceEvent::Exit(Some("enough".into())));
        }
        other => panic!("expected an event, not {other:?}"),
    }
}

#[test]
fn calls_for_an_unknown_instance_come_then_each_is_completed() {
    let mut rig = Rig::new(1).kind("actor", actor);
    let target = HandoverTarget::Error("no".into());
    for request in [
        message("x"),
        HostRequest::PrepareState,
        HostRequest::HandoverStart(target),
        HostRequest::Run,
        HostRequest::Stop(StopReason::Stopped),
    ] {
        let number = rig.issue(9, request);
        let (completed, answer) = rig.completion();
        assert_eq!(completed, number);
        assert!(matches!(answer, HostAnswer::Failed(_)));
    }
}

#[test]
fn many_children_are_called_then_no_more_threads_run_than_places() {
    let mut rig = Rig::new(3).kind("actor", actor);
    for child in 1..=50 {
        rig.started(child, "actor");
    }
    for round in 0..20 {
        for child in 1..=50 {
            rig.issue(child, message(&round.to_string()));
        }
        for _ in 1..=50 {
            assert_eq!(rig.completion().1, reply(&round.to_string()));
        }
    }
    // Three places and the watch.
    assert!(rig.host.pool.live() <= 4, "{:?}", rig.host.pool);
    rig.host.close();
    assert!(rig.host.join(PATIENCE));
    assert_eq!(rig.host.pool.live(), 0);
}

/// Answers its messages on another thread, and its start as well.
struct Later {
    replies: Sender<(HostRequest, crate::host::Reply)>,
}

impl Child for Later {
    fn handle(&mut self, _: &Context, _: Payload) -> Result<Payload, HostFailure> {
        unreachable!("`perform` is overridden")
    }

    fn perform(&mut self, ctx: &Context, call: &HostCall) -> Option<HostAnswer> {
        self.replies.send((call.request.clone(), ctx.answer_later(call))).unwrap();
        None
    }
}

#[test]
fn call_is_answered_later_on_another_thread_then_it_completes_and_the_thread_was_free() {
    let (replies, given) = unbounded();
    let mut rig = Rig::new(1).kind("actor", actor).kind("later", move || Box::new(Later { replies: replies.clone() }));
    let start_number = rig.issue(1, start(1, "later"));
    let (_, start_reply) = given.recv_timeout(PATIENCE).unwrap();
    // The only thread is free meanwhile.
    rig.started(2, "actor");
    start_reply.answer(HostAnswer::Done(None));
    assert_eq!(rig.completion(), (start_number, HostAnswer::Done(None)));
    let number = rig.issue(1, message("hello"));
    let (_, given_reply) = given.recv_timeout(PATIENCE).unwrap();
    given_reply.answer(reply("later"));
    assert_eq!(rig.completion(), (number, reply("later")));
}

#[test]
fn start_fails_later_then_the_instance_is_forgotten() {
    let (replies, given) = unbounded();
    let mut rig = Rig::new(1).kind("later", move || Box::new(Later { replies: replies.clone() }));
    let number = rig.issue(1, start(1, "later"));
    let (_, start_reply) = given.recv_timeout(PATIENCE).unwrap();
    let failed = HostAnswer::Failed(HostFailure::new("no"));
    start_reply.answer(failed.clone());
    let completions = [rig.completion(), rig.completion()];
    assert!(completions.contains(&(number, failed)), "{completions:?}");
    assert_eq!(rig.host.instance_count(), 0);
}

#[test]
fn answer_is_dropped_then_its_call_fails() {
    let (replies, given) = unbounded();
    let mut rig = Rig::new(1).kind("later", move || Box::new(Later { replies: replies.clone() }));
    rig.issue(1, start(1, "later"));
    let (_, start_reply) = given.recv_timeout(PATIENCE).unwrap();
    start_reply.answer(HostAnswer::Done(None));
    rig.completion();
    let number = rig.issue(1, message("hello"));
    drop(given.recv_timeout(PATIENCE).unwrap());
    let (completed, answer) = rig.completion();
    assert_eq!(completed, number);
    assert!(matches!(answer, HostAnswer::Failed(_)), "{answer:?}");
}

#[test]
fn host_is_joined_while_instances_live_then_they_are_dropped_before_it_returns() {
    struct Dropped(Sender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    impl Child for Dropped {
        fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
            Ok(message)
        }
    }
    let (told, dropped) = unbounded();
    let mut rig = Rig::new(1).kind("dropped", move || Box::new(Dropped(told.clone())));
    rig.started(1, "dropped");
    rig.host.close();
    assert!(rig.host.join(PATIENCE));
    dropped.try_recv().unwrap();
}
