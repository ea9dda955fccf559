use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};

use super::*;
use crate::config::{
    Distribution, HubConfig, Migration, NodeConfig, PartitionTolerance, Profile, Redundancy, RestartConfig, Security,
    Synchronization,
};
use crate::engine::{Command, HubStatus, Lane, Outcome, StartOptions};
use crate::host::call::{HostAnswer, StartContext, StartReason};
use crate::host::queue::{HostItem, HostQueue};
use crate::hub::{Hub, Node};
use crate::ids::{Contact, Epoch, HubId, NodeName, NodeRef};
use crate::net::{SendError, Transport, TransportSink, TransportStats};
use crate::spec::{ChildError, ChildSpec, Mode, Row, StartResult, Started};

const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the frames; links to nobody.
struct Recorder {
    node: NodeRef,
    frames: Sender<Bytes>,
    closed: Arc<AtomicUsize>,
    _sink: Arc<dyn TransportSink>,
}

impl Transport for Recorder {
    fn node(&self) -> &NodeRef {
        &self.node
    }
    fn address(&self) -> &str {
        "127.0.0.1:1"
    }
    fn connect(&self, _: &str) {}
    fn send(&self, _: &NodeRef, _: Lane, _: &Channel, bytes: Bytes) -> Result<(), SendError> {
        self.frames.send(bytes).map_err(|_| SendError::Closed)
    }
    fn disconnect(&self, _: &NodeRef) {}
    fn links(&self) -> Vec<Contact> {
        Vec::new()
    }
    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }
    fn close(&self, _: Duration) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

type Script = Box<dyn FnMut(Input, &mut Vec<Effect>) + Send>;

/// Does what a test says for each input; `Shutdown` stops it.
struct Scripted(Script);

impl Machine for Scripted {
    fn handle(&mut self, _: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        if let Input::Command(id, Command::Shutdown(_)) = &input {
            let report = DrainReport { stopped: vec![child("c")], ..DrainReport::default() };
            effects.push(Effect::Reply(*id, Ok(Outcome::Drained(report))));
            effects.push(Effect::Stopped);
            return;
        }
        (self.0)(input, effects);
    }
    fn flush(&mut self, _: Timestamp, _: &mut Vec<Effect>) {}
    fn next_deadline(&self) -> Timestamp {
        Timestamp::NEVER
    }
}

struct Rig {
    hub: Hub,
    queue: HostQueue,
    node: Node,
    frames: Receiver<Bytes>,
    closed: Arc<AtomicUsize>,
}

fn child(id: &str) -> ChildId {
    ChildId::new(id).unwrap()
}

fn node_config() -> NodeConfig {
    NodeConfig {
        name: Some(NodeName::new("a").unwrap()),
        listen: "127.0.0.1:0".into(),
        advertise: None,
        seeds: Vec::new(),
        security: Security::InsecurePlaintext,
        labels: BTreeMap::new(),
        weight: 1.0,
    }
}

fn config(child_specs: Vec<ChildSpec>) -> HubConfig {
    HubConfig {
        hub_id: HubId::new("orders").unwrap(),
        node: None,
        child_specs,
        redundancy: Redundancy::Singularity,
        migration: Migration::ColdSwap { handover: false, handover_data_wait: Duration::from_secs(3) },
        synchronization: Synchronization::PubSub { sync_interval: Duration::from_secs(15) },
        partition_tolerance: PartitionTolerance::Divergence,
        distribution: Distribution::ConsistentHashing,
        restart: RestartConfig {
            max_restarts: 10,
            window: Duration::from_secs(60),
            backoff: (Duration::from_millis(10), Duration::from_secs(30)),
        },
        hubs_discover_interval: Duration::from_millis(20),
        deadlock_recovery_timeout: Duration::from_secs(60),
        migration_base_timeout: Duration::from_secs(15),
        shutdown_timeout: Duration::from_secs(5),
        host_threads: 2,
        profile: Profile::lan(),
    }
}

fn rig_with(child_specs: Vec<ChildSpec>, script: impl FnMut(Input, &mut Vec<Effect>) + Send + 'static) -> Rig {
    let (sender, frames) = unbounded();
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let interval = Duration::from_secs(10);
    let node = Node::start_with(&node_config(), &Profile::lan(), interval, |node, sink| {
        Ok(Arc::new(Recorder { node: node.clone(), frames: sender, closed: counter, _sink: sink }))
    })
    .unwrap();
    let (hub, queue) = Hub::builder(config(child_specs))
        .node(&node)
        .begin(false, |_, _| Box::new(Scripted(Box::new(script))))
        .unwrap();
    Rig { hub, queue, node, frames, closed }
}

fn rig(script: impl FnMut(Input, &mut Vec<Effect>) + Send + 'static) -> Rig {
    rig_with(Vec::new(), script)
}

fn start_call(number: u64) -> HostCall {
    HostCall {
        number: CallNumber(number),
        instance: InstanceId(3),
        child: child("c"),
        deadline: Timestamp::NEVER,
        request: HostRequest::Start(Arc::new(StartContext {
            hub_id: HubId::new("orders").unwrap(),
            node: NodeName::new("a").unwrap(),
            spec: Arc::new(ChildSpec::new("c", "k").unwrap()),
            epoch: Epoch(1),
            mode: Mode::Active,
            reason: StartReason::Initial,
        })),
    }
}

fn peer() -> NodeRef {
    NodeRef { name: NodeName::new("b").unwrap(), incarnation: crate::ids::Incarnation(2) }
}

#[test]
fn effects_come_then_they_are_carried_out_before_the_reply_is_read() {
    let rig = rig(|input, effects| {
        if let Input::Command(id, Command::Sync(_)) = input {
            let row =
                Row { spec: Arc::new(ChildSpec::new("c", "k").unwrap()), instances: Vec::new(), state_lost: None };
            let frame = Bytes::from_static(b"hello");
            effects.extend([
                Effect::Publish(child("c"), Some(Arc::new(row))),
                Effect::Status(HubStatus { members: vec![peer()], is_locked: true, ..HubStatus::default() }),
                Effect::Send { to: peer(), lane: Lane::Ctl, frame },
                Effect::Host(start_call(1)),
                Effect::Reply(id, Ok(Outcome::Done)),
            ]);
        }
    });
    rig.hub.sync(PATIENCE).wait().unwrap();
    assert!(rig.hub.child_lookup("c").is_some());
    assert!(rig.hub.child_lookup("d").is_none());
    assert!(rig.hub.is_locked());
    let names: Vec<String> = (rig.hub.nodes(true).iter()).map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(rig.frames.try_recv().unwrap(), "hello");
    assert!(matches!(rig.queue.try_next(), Some(HostItem::Call(call)) if call.number.0 == 1));
    assert!(rig.hub.metrics_text().contains("process_hub_host_calls_total"));
    assert_eq!(rig.hub.debug_stats().children, 1);
}

#[test]
fn host_completes_a_call_then_the_engine_gets_it() {
    let (told, seen) = unbounded();
    let rig = rig(move |input, _| {
        if let Input::HostDone(number, answer) = input {
            told.send((number, answer)).unwrap();
        }
    });
    rig.queue.complete(CallNumber(5), HostAnswer::Done(None));
    let got = seen.recv_timeout(PATIENCE).unwrap();
    assert_eq!(got, (CallNumber(5), HostAnswer::Done(None)));
}

#[test]
fn operation_is_begun_with_notify_then_its_answer_is_an_item_of_the_queue() {
    let rig = rig(|input, effects| {
        if let Input::Command(id, Command::Sync(_)) = input {
            effects.push(Effect::Reply(id, Ok(Outcome::Done)));
        }
    });
    let mut registered = None;
    let register = |id| registered = Some(id);
    let id = rig.hub.request_notify_with(Command::Sync(PATIENCE), register).unwrap();
    assert_eq!(registered, Some(id));
    match rig.queue.next(PATIENCE) {
        Some(HostItem::Completed(answered, answer)) => {
            assert_eq!((answered, answer), (id, Ok(Outcome::Done)));
        }
        other => panic!("expected an answer, not {other:?}"),
    }
}

#[test]
fn r20_engine_panics_then_open_calls_answer_hub_failed_and_children_are_stopped() {
    let mut begun = 0;
    let rig = rig(move |input, effects| {
        if let Input::Command(id, Command::Sync(_)) = input {
            begun += 1;
            match begun {
                1 => {
                    effects.push(Effect::Host(start_call(1)));
                    effects.push(Effect::Reply(id, Ok(Outcome::Done)));
                }
                2 => {}
                _ => panic!("on purpose"),
            }
        }
    });
    rig.hub.sync(PATIENCE).wait().unwrap();
    let open = rig.hub.sync(PATIENCE);
    let fatal = rig.hub.sync(PATIENCE);
    for pending in [open, fatal] {
        let error = pending.wait().unwrap_err();
        assert_eq!(error.kind, ErrorKind::HubFailed);
        assert_eq!(error.operation, "sync");
        assert!(error.message.contains("on purpose"), "{error}");
    }
    assert!(matches!(rig.queue.next(PATIENCE), Some(HostItem::Call(call)) if call.number.0 == 1));
    match rig.queue.next(PATIENCE) {
        Some(HostItem::Call(call)) => {
            let stop = HostRequest::Stop(StopReason::LostOwnership);
            assert_eq!(call.instance, InstanceId(3));
            assert_eq!(call.request.callback(), stop.callback());
        }
        other => panic!("expected a stop, not {other:?}"),
    }
    assert!(matches!(rig.queue.next(PATIENCE), Some(HostItem::Closed)));
    assert!(!rig.hub.is_alive());
    assert_eq!(rig.hub.stop(PATIENCE).unwrap_err().kind, ErrorKind::HubFailed);
    assert_eq!(rig.node.hub_count(), 0);
}

#[test]
fn hub_is_stopped_then_later_calls_answer_closed_and_a_second_stop_the_same_report() {
    let rig = rig(|_, _| {});
    let open = rig.hub.sync(PATIENCE);
    let report = rig.hub.stop(PATIENCE).unwrap();
    assert_eq!(report.stopped, [child("c")]);
    assert_eq!(open.wait().unwrap_err().kind, ErrorKind::Closed);
    assert_eq!(rig.hub.sync(PATIENCE).wait().unwrap_err().kind, ErrorKind::Closed);
    assert_eq!(rig.hub.stop(PATIENCE).unwrap(), report);
    let refused = rig.hub.request_notify(Command::Sync(PATIENCE)).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Closed);
    assert!(matches!(rig.queue.next(PATIENCE), Some(HostItem::Closed)));
}

#[test]
fn engine_does_not_stop_in_time_then_stop_gives_up_and_the_hub_is_closed() {
    struct Deaf;
    impl Machine for Deaf {
        fn handle(&mut self, _: Timestamp, _: Input, _: &mut Vec<Effect>) {}
        fn flush(&mut self, _: Timestamp, _: &mut Vec<Effect>) {}
        fn next_deadline(&self) -> Timestamp {
            Timestamp::NEVER
        }
    }
    let rig = rig(|_, _| {});
    let mut other = config(Vec::new());
    other.hub_id = HubId::new("deaf").unwrap();
    let builder = Hub::builder(other).node(&rig.node);
    let (hub, _queue) = builder.begin(false, |_, _| Box::new(Deaf)).unwrap();
    assert_eq!(rig.node.hub_count(), 2);
    let begin = Instant::now();
    let error = hub.stop(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(begin.elapsed() < PATIENCE);
    assert!(!hub.is_alive());
    assert_eq!(rig.node.hub_count(), 1);
}

#[test]
fn two_hubs_have_one_id_on_one_node_then_the_second_is_refused() {
    let rig = rig(|_, _| {});
    let builder = Hub::builder(config(Vec::new())).node(&rig.node);
    let refused = builder.start_with_queue().map(drop).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::HubExists);
    assert!(rig.hub.is_alive());
}

#[test]
fn node_is_stopped_then_its_hubs_end_first_and_its_transport_closes() {
    let rig = rig(|_, _| {});
    // The stand-in for membership does not leave by itself: its share of the time runs out.
    rig.node.stop(Duration::from_secs(3));
    assert!(!rig.hub.is_alive());
    assert_eq!(rig.closed.load(Ordering::SeqCst), 1);
    let refused = Hub::builder(config(Vec::new())).node(&rig.node).start();
    assert_eq!(refused.map(drop).unwrap_err().kind, ErrorKind::Closed);
}

#[test]
fn last_handle_is_dropped_then_the_hub_stops_in_the_background() {
    let rig = rig(|_, _| {});
    drop(rig.hub);
    assert!(matches!(rig.queue.next(PATIENCE), Some(HostItem::Closed)));
}

#[test]
fn static_child_is_not_ensured_then_it_is_asked_for_again_until_it_is() {
    let (told, seen) = unbounded();
    let mut attempts = 0;
    let specs = ["one", "two"].map(|id| ChildSpec::new(id, "k").unwrap());
    let _rig = rig_with(specs.to_vec(), move |input, effects| {
        let Input::Command(id, Command::Start(specs, options)) = input else {
            return;
        };
        assert_eq!(options.if_exists, crate::engine::IfExists::Return);
        told.send(specs.len()).unwrap();
        attempts += 1;
        let started = |id: &str| Started { id: child(id), instances: Vec::new() };
        let result = match attempts {
            1 => StartResult {
                started: vec![started("one")],
                errors: vec![ChildError {
                    id: child("two"),
                    node: None,
                    kind: ErrorKind::UnknownKind,
                    message: String::new(),
                }],
                rollback: false,
            },
            _ => StartResult { started: vec![started("two")], ..StartResult::default() },
        };
        effects.push(Effect::Reply(id, Ok(Outcome::Started(result))));
    });
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(2));
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(1));
}

#[test]
fn bad_arguments_are_given_then_they_are_refused_with_their_limits() {
    let rig = rig(|_, _| {});
    let empty = rig.hub.start_children(Vec::new(), StartOptions::default());
    assert_eq!(empty.wait().unwrap_err().kind, ErrorKind::NoChildren);
    let command = crate::engine::MessageCommand {
        child: child("c"),
        message: crate::payload::Payload::bytes(vec![0; (1 << 20) + 1]),
        recipient: crate::engine::Recipient::Active,
        timeout: PATIENCE,
        chain: Arc::new([]),
    };
    let error = rig.hub.call(command).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::PayloadTooLarge);
    assert_eq!(error.child_id.as_deref(), Some("c"));
    assert!(error.message.contains("1048576") && error.message.contains("1048577"));
}

#[test]
fn observers_are_registered_then_they_are_called_in_order_and_a_panic_stops_none() {
    let rig = rig(|input, effects| {
        if let Input::Command(id, Command::Sync(_)) = input {
            effects.push(Effect::Hook(HookEvent {
                name: HookName::ChildFailed,
                payload: serde_json::json!({"child_id": "c"}),
            }));
            effects.push(Effect::Reply(id, Ok(Outcome::Done)));
        }
    });
    let (told, seen) = unbounded();
    for (id, priority) in [("low", 1), ("panics", 5), ("first", 9), ("second", 9)] {
        let told = told.clone();
        let handler = move |_: &HookEvent| {
            told.send(id).unwrap();
            assert_ne!(id, "panics", "on purpose");
        };
        rig.hub.on(HookName::ChildFailed, id, priority, handler).unwrap();
    }
    rig.hub.sync(PATIENCE).wait().unwrap();
    for expected in ["first", "second", "panics", "low"] {
        assert_eq!(seen.recv_timeout(PATIENCE), Ok(expected));
    }
    assert!(rig.hub.off(HookName::ChildFailed, "first"));
    assert!(!rig.hub.off(HookName::ChildFailed, "first"));
    rig.hub.sync(PATIENCE).wait().unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE), Ok("second"));
}

mod threads;
