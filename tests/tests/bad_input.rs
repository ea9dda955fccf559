//! Bad input from users, host code, peers and strangers: each gets its named error or is contained, and the hub
//! serves afterwards.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use process_hub::config::{HubConfig, Migration, Profile};
use process_hub::engine::MessageCommand;
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::{HostFailure, StopReason};
use process_hub::host::{Child, Context, kind_fn};
use process_hub::hub::{Hub, Node};
use process_hub::observe::HookName;
use process_hub::payload::{MAX_MESSAGE_BYTES, MAX_STATE_BYTES, Payload};
use process_hub::spec::{ChildSpec, OnError};
use process_hub_tests::cluster::{
    Cluster, PATIENCE, Step, ask, call, child_id, config, eventually, message, options, owner, spec, text,
};
use serde_json::json;

/// Every hub still starts, calls and stops a child.
fn assert_serves(cluster: &Cluster) {
    for (number, hub) in cluster.hubs.iter().enumerate() {
        let id = format!("still-serves:{number}");
        hub.start_child(spec(&id), options()).wait().unwrap();
        assert_eq!(ask(hub, &id, "add"), "1");
        hub.stop_child(&child_id(&id), PATIENCE).wait().unwrap();
    }
}

/// A call that gives up early.
fn call_within(hub: &Hub, id: &str, said: &str, timeout: Duration) -> Result<Payload, Error> {
    hub.call(MessageCommand { timeout, ..message(id, said) }).wait()
}

#[test]
fn spec_without_id_then_invalid_argument_names_the_key() {
    let cluster = Cluster::of(&["a"]);
    let error = ChildSpec::from_json(&json!({"kind": "counter"})).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("`id`"), "{error}");
    let error = ChildSpec::new("", "counter").unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert_serves(&cluster);
}

#[test]
fn unknown_kind_then_the_start_says_so_and_wants_nothing() {
    let cluster = Cluster::of(&["a", "b"]);
    let error = cluster.hubs[0].start_child(ChildSpec::new("x", "nobody").unwrap(), options()).wait().unwrap_err();
    assert_eq!((error.kind, error.child_id.as_deref()), (ErrorKind::UnknownKind, Some("x")));
    assert!(error.message.contains("nobody"), "{error}");
    assert!(cluster.hubs.iter().all(|hub| hub.child_lookup("x").is_none()));
    assert_serves(&cluster);
}

#[test]
fn config_with_three_mistakes_then_all_three_are_told_with_their_paths() {
    let document = json!({
        "hub_id": "orders",
        "migration": {"type": "hot_swap", "retention_ms": "soon"},
        "restart": {"max_restarts": -1},
        "synchronisation": {"type": "pub_sub"},
    });
    let error = HubConfig::from_json(&document).map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    for path in ["migration.retention_ms", "restart.max_restarts", "synchronisation"] {
        assert!(error.message.contains(path), "{path} is missing in {error}");
    }
}

#[test]
fn child_fails_or_panics_in_start_then_start_failed_with_its_words() {
    let mut cluster = Cluster::new();
    let hub = cluster.builder("a").kind("panics", kind_fn(false, || Box::new(Rude::in_start()))).start().unwrap();
    cluster.add(hub);
    let refusing = spec("refuses").with_args(Payload::json(&b"\"refuse\""[..]));
    let error = cluster.hubs[0].start_child(refusing, options()).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::StartFailed);
    assert!(error.message.contains("refused on purpose"), "{error}");
    let panicking = ChildSpec::new("panics", "panics").unwrap();
    let error = cluster.hubs[0].start_child(panicking, options()).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::StartFailed);
    assert!(error.message.contains("rude on purpose"), "{error}");
    assert_eq!(cluster.hubs[0].child_count(), 0);
    assert_serves(&cluster);
}

/// Panics in one callback.
#[derive(Default)]
struct Rude {
    in_start: bool,
    in_stop: bool,
}

impl Rude {
    fn in_start() -> Self {
        Self { in_start: true, ..Self::default() }
    }
}

impl Child for Rude {
    fn start(&mut self, _: &Context, _: Payload) -> Result<(), HostFailure> {
        assert!(!self.in_start, "rude on purpose");
        Ok(())
    }

    fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
        Ok(message)
    }

    fn stop(&mut self, _: StopReason) {
        assert!(!self.in_stop, "rude on purpose");
    }
}

#[test]
fn handle_fails_or_panics_then_the_caller_hears_it_and_the_state_lives_on() {
    let cluster = Cluster::of(&["a", "b"]);
    cluster.hubs[0].start_child(spec("one"), options()).wait().unwrap();
    assert_eq!(ask(&cluster.hubs[0], "one", "add"), "1");
    for hub in &cluster.hubs {
        for (said, kind) in [("fail", ErrorKind::ChildFailed), ("panic", ErrorKind::Panic)] {
            let error = call(hub, "one", said).unwrap_err();
            assert_eq!(error.kind, kind, "{said}");
            assert!(error.message.contains("on purpose"), "{error}");
            assert!(error.maybe_executed);
        }
    }
    assert_eq!(ask(&cluster.hubs[1], "one", "total"), "1");
    assert_eq!(cluster.census.starts("one"), 1);
}

#[test]
fn handle_fails_and_the_spec_asks_for_a_restart_then_a_new_instance_answers() {
    let cluster = Cluster::of(&["a"]);
    let fragile = ChildSpec { on_error: OnError::Restart, ..spec("fragile") };
    cluster.hubs[0].start_child(fragile, options()).wait().unwrap();
    assert_eq!(ask(&cluster.hubs[0], "fragile", "add"), "1");
    assert_eq!(call(&cluster.hubs[0], "fragile", "fail").unwrap_err().kind, ErrorKind::ChildFailed);
    assert_eq!(ask(&cluster.hubs[0], "fragile", "total"), "0");
    assert_eq!(cluster.census.starts("fragile"), 2);
}

#[test]
fn stop_panics_then_the_stop_is_answered_all_the_same() {
    let mut cluster = Cluster::new();
    let kind = kind_fn(false, || Box::new(Rude { in_stop: true, ..Rude::default() }));
    let hub = cluster.builder("a").kind("rude", kind).start().unwrap();
    cluster.add(hub);
    cluster.hubs[0].start_child(ChildSpec::new("rude", "rude").unwrap(), options()).wait().unwrap();
    let stopped = cluster.hubs[0].stop_child(&child_id("rude"), PATIENCE).wait().unwrap();
    assert_eq!(stopped.nodes.len(), 1);
    assert_eq!(cluster.hubs[0].child_count(), 0);
    assert_serves(&cluster);
}

#[test]
fn start_hangs_past_its_deadline_then_host_timeout_and_the_child_stays_wanted() {
    let impatient = Migration::HotSwap {
        retention: Duration::from_secs(1),
        handover: true,
        confirm_handover: false,
        handover_data_wait: Duration::from_secs(1),
        child_migration_timeout: Duration::from_millis(300),
    };
    let mut cluster = Cluster::migrating_by(impatient);
    cluster.join_all(&["a"]);
    cluster.census.close_gate(Step::Start, "hangs");
    let begin = Instant::now();
    let quick = process_hub::engine::StartOptions { timeout: Duration::from_millis(500), ..options() };
    let error = cluster.hubs[0].start_child(spec("hangs"), quick).wait().unwrap_err();
    assert!([ErrorKind::HostTimeout, ErrorKind::Timeout].contains(&error.kind), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_serves(&cluster);
    cluster.census.open_gate(Step::Start, "hangs");
    assert_eq!(ask(&cluster.hubs[0], "hangs", "add"), "1", "it stayed wanted and started in the end");
}

#[test]
fn stop_hangs_past_its_deadline_then_the_instance_is_written_off() {
    let cluster = Cluster::of(&["a"]);
    cluster.census.close_gate(Step::Stop, "hangs");
    let hasty = ChildSpec { shutdown_ms: 200, ..spec("hangs") };
    cluster.hubs[0].start_child(hasty, options()).wait().unwrap();
    let begin = Instant::now();
    let stopped = cluster.hubs[0].stop_child(&child_id("hangs"), PATIENCE).wait();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    stopped.unwrap();
    assert!(cluster.hubs[0].child_lookup("hangs").is_none());
    assert_serves(&cluster);
    cluster.census.open_gate(Step::Stop, "hangs");
}

#[test]
fn many_children_hang_then_the_others_are_still_served() {
    let cluster = Cluster::of(&["a"]);
    let ids: Vec<String> = (0..24).map(|n| format!("hangs:{n}")).collect();
    let specs = ids.iter().map(|id| ChildSpec { shutdown_ms: 100, ..spec(id) }).collect();
    cluster.hubs[0].start_children(specs, options()).wait().unwrap();
    for id in &ids {
        cluster.census.close_gate(Step::Stop, id);
    }
    // Three times as many as there are host threads, all past their deadline.
    let stop = cluster.hubs[0].stop_children(ids.iter().map(|id| child_id(id)).collect(), PATIENCE);
    assert_serves(&cluster);
    assert_eq!(stop.wait().unwrap().errors, []);
    for id in &ids {
        cluster.census.open_gate(Step::Stop, id);
    }
}

/// Hands over as many bytes as it was told to have, and says how many it got.
#[derive(Default)]
struct Ballast {
    bytes: usize,
}

impl Child for Ballast {
    fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
        if !message.is_empty() {
            self.bytes = String::from_utf8_lossy(&message.data).parse().unwrap();
        }
        Ok(text(self.bytes.to_string()))
    }

    fn prepare_handover_state(&mut self) -> Result<Option<Payload>, HostFailure> {
        Ok(Some(Payload::bytes(vec![7; self.bytes])))
    }

    fn alter_handover_state(&mut self, state: Payload) -> Result<(), HostFailure> {
        // Compared as a whole: byte by byte it would take its time where nothing is optimized.
        if state.data[..] != vec![7; state.len()] {
            return Err(HostFailure::new("these are not the bytes that were sent"));
        }
        self.bytes = state.len();
        Ok(())
    }
}

#[test]
fn state_of_64_mib_then_it_arrives_whole_and_with_one_byte_more_the_child_stays_where_it_is() {
    let mut cluster = Cluster::new().listening(HookName::HandoverFailed).listening(HookName::StateLost);
    let ballast = || kind_fn(true, || Box::new(Ballast::default()));
    let hub = cluster.builder("a").kind("ballast", ballast()).start().unwrap();
    cluster.add(hub);
    let moves = |id: &String| owner(&["a", "b"], id) == "b";
    let ids: Vec<String> = (0..).map(|n| format!("ballast:{n}")).filter(moves).take(2).collect();
    let sizes = [MAX_STATE_BYTES, MAX_STATE_BYTES + 1];
    for (id, size) in ids.iter().zip(sizes) {
        let spec = ChildSpec::new(id, "ballast").unwrap();
        cluster.hubs[0].start_child(spec, options()).wait().unwrap();
        assert_eq!(ask(&cluster.hubs[0], id, &size.to_string()), size.to_string());
    }
    let hub = cluster.builder("b").kind("ballast", ballast()).start().unwrap();
    cluster.add(hub);
    let node_of = |id: &str| cluster.hubs[0].child_lookup(id).unwrap().instances[0].node.to_string();
    eventually("the one within the limit moves", || node_of(&ids[0]) == "b");
    eventually("the other's move fails", || {
        let failed = cluster.heard("a", HookName::HandoverFailed);
        failed.iter().any(|it| it["child_id"] == ids[1].as_str())
    });
    let failed = cluster.heard("a", HookName::HandoverFailed);
    let why = failed[0]["why"].as_str().unwrap();
    assert!(why.contains(&MAX_STATE_BYTES.to_string()), "the limit is told: {why}");
    for (id, size) in ids.iter().zip(sizes) {
        assert_eq!(ask(&cluster.hubs[0], id, ""), size.to_string());
        assert!(cluster.hubs[0].child_lookup(id).unwrap().state_lost.is_none());
    }
    assert_eq!(node_of(&ids[1]), "a");
    assert!(cluster.heard("a", HookName::StateLost).is_empty());
    assert_serves(&cluster);
}

#[test]
fn message_or_reply_of_one_mib_then_it_passes_and_one_byte_more_is_too_large() {
    let cluster = Cluster::of(&["a", "b"]);
    cluster.hubs[0].start_child(spec("one"), options()).wait().unwrap();
    for hub in &cluster.hubs {
        let reply = hub.call(message("one", &format!("reply {MAX_MESSAGE_BYTES}"))).wait().unwrap();
        assert_eq!(reply.len(), MAX_MESSAGE_BYTES);
        let error = hub.call(message("one", &format!("reply {}", MAX_MESSAGE_BYTES + 1))).wait().unwrap_err();
        assert_eq!(error.kind, ErrorKind::PayloadTooLarge, "{error}");
        let long = |bytes: usize| format!("set k {}", "x".repeat(bytes - "set k ".len()));
        assert!(call(hub, "one", &long(MAX_MESSAGE_BYTES)).is_ok());
        let error = call(hub, "one", &long(MAX_MESSAGE_BYTES + 1)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::PayloadTooLarge, "{error}");
        assert!(!error.maybe_executed);
    }
    assert_serves(&cluster);
}

#[test]
fn name_is_taken_then_the_newcomer_is_refused_and_the_holder_serves() {
    let cluster = Cluster::of(&["a", "b"]);
    let error = cluster.builder("b").start().map(drop).unwrap_err();
    assert_eq!((error.kind, error.node.as_deref()), (ErrorKind::NodeNameTaken, Some("b")));
    cluster.see_each_other();
    assert_serves(&cluster);
}

#[test]
fn two_hubs_with_one_id_on_a_node_then_the_second_is_refused() {
    let node_config = config("a", &[]).node.unwrap();
    let node = Node::start(&node_config, &Profile::fast(), Duration::from_secs(1)).unwrap();
    let make = || Hub::builder(HubConfig::new("orders").unwrap()).node(&node).start();
    let first = make().unwrap();
    let error = make().map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::HubExists);
    assert!(first.is_alive());
    first.stop(PATIENCE).unwrap();
    make().unwrap().stop(PATIENCE).unwrap();
    assert!(node.stop(PATIENCE));
}

#[test]
fn garbage_and_foreign_programs_come_to_the_port_then_the_hubs_go_on() {
    let cluster = Cluster::of(&["a", "b"]);
    let port = cluster.hubs[0].address().to_owned();
    let mut silent = Vec::new();
    let mut state = 0x9e37_79b9_u32;
    let mut garbage = vec![0; 100_000];
    for byte in &mut garbage {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let foreign: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client",
        &[0xff; 4096],
        &[0; 4096],
        &garbage,
    ];
    for bytes in foreign {
        let mut stream = TcpStream::connect(&port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The other end may close while this is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut answer);
        assert!(answer.len() < 4096, "a stranger is told {} bytes", answer.len());
        silent.push(TcpStream::connect(&port).unwrap());
    }
    cluster.see_each_other();
    assert_serves(&cluster);
}

#[test]
fn call_to_a_child_that_does_not_exist_then_not_found_from_every_node() {
    let cluster = Cluster::of(&["a", "b"]);
    for hub in &cluster.hubs {
        let error = call(hub, "nobody", "add").unwrap_err();
        assert_eq!((error.kind, error.maybe_executed), (ErrorKind::NotFound, false), "{error}");
        assert_eq!(error.child_id.as_deref(), Some("nobody"));
    }
    assert_serves(&cluster);
}

#[test]
fn call_to_a_child_that_moves_then_it_waits_and_is_handled_by_the_new_instance() {
    let mut cluster = Cluster::new();
    cluster.join_all(&["a"]);
    let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
    cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
    cluster.census.close_gate(Step::Prepare, &id);
    cluster.join("b");
    cluster.census.await_at_gate(Step::Prepare, &id, 1);
    // One that cannot wait so long is told that it was not handled, or that nobody knows.
    let error = call_within(&cluster.hubs[0], &id, "add", Duration::from_millis(200)).unwrap_err();
    assert!([ErrorKind::Timeout, ErrorKind::NotActive].contains(&error.kind), "{error}");
    let waits = cluster.hubs[0].call(message(&id, "node"));
    cluster.census.open_gate(Step::Prepare, &id);
    assert_eq!(&waits.wait().unwrap().data[..], b"b");
    assert_serves(&cluster);
}

#[test]
fn children_call_each_other_then_they_answer_and_a_circle_is_would_deadlock() {
    let cluster = Cluster::of(&["a", "b", "c"]);
    let ids = ["one", "two", "three", "four", "five"];
    cluster.hubs[0].start_children(ids.map(spec).to_vec(), options()).wait().unwrap();
    assert_eq!(ask(&cluster.hubs[0], "one", "call two call three call four call five add"), "1");
    let circles = ["call one add", "call two call one add", "call two call three call four call five call one add"];
    for circle in circles {
        let begin = Instant::now();
        let error = call(&cluster.hubs[1], "one", circle).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WouldDeadlock, "{circle}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{circle}: {:?}", begin.elapsed());
    }
    assert_eq!(ask(&cluster.hubs[2], "one", "total"), "0");
    assert_serves(&cluster);
}

#[test]
fn more_calls_than_threads_wait_in_children_for_children_then_all_are_answered() {
    let cluster = Cluster::of(&["a"]);
    let ids: Vec<String> = (0..64).map(|n| format!("child:{n}")).collect();
    cluster.hubs[0].start_children(ids.iter().map(|id| spec(id)).collect(), options()).wait().unwrap();
    // Each calls the next one: 8 threads, 32 that wait in a callback.
    let calls: Vec<_> =
        (0..32).map(|n| cluster.hubs[0].call(message(&ids[2 * n], &format!("call {} add", ids[2 * n + 1])))).collect();
    for call in calls {
        assert_eq!(&call.wait().unwrap().data[..], b"1");
    }
}

#[test]
fn interceptor_fails_or_panics_and_an_observer_panics_then_the_child_starts_as_it_was() {
    let cluster = Cluster::of(&["a"]);
    let hub = &cluster.hubs[0];
    hub.on(HookName::PostChildrenStart, "panics", 0, |_| panic!("on purpose")).unwrap();
    hub.intercept("refuses", 0, |spec, _| match spec.id.as_str() {
        "refused" => Err(HostFailure::new("refused on purpose")),
        "panics" => panic!("on purpose"),
        _ => Ok(spec),
    })
    .unwrap();
    for id in ["refused", "panics"] {
        hub.start_child(spec(id), options()).wait().unwrap();
        assert_eq!(*hub.child_lookup(id).unwrap().spec, spec(id));
        assert_eq!(ask(hub, id, "add"), "1");
    }
    assert_serves(&cluster);
}

#[test]
fn child_data_alter_is_observed_then_told_of_the_spec_as_it_was_asked_for() {
    let cluster = Cluster::of(&["a"]);
    let hub = &cluster.hubs[0];
    let (tell, told) = std::sync::mpsc::channel();
    hub.on(HookName::ChildDataAlter, "sees", 0, move |event| tell.send(event.payload.clone()).unwrap()).unwrap();
    hub.start_child(spec("one"), options()).wait().unwrap();
    let seen = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(seen, serde_json::json!({"spec": spec("one").to_json(), "nodes": ["a"]}));
    hub.intercept("changes", 0, |spec, _| Ok(spec.with_args(Payload::json("7")))).unwrap();
    hub.start_child(spec("two"), options()).wait().unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap()["spec"], spec("two").to_json());
    assert_eq!(hub.child_lookup("two").unwrap().spec.to_json()["args"], 7);
    assert_eq!(told.try_recv().ok(), None, "each child is told of once");
}

#[test]
fn observer_blocks_then_the_hub_goes_on_and_stops() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let mut cluster = Cluster::new();
    let waits = Arc::clone(&gate);
    let hub = cluster.builder("a").hook(HookName::PostChildrenStart, "blocks", 0, move |_| {
        let is_open = waits.0.lock().unwrap();
        drop(waits.1.wait_timeout_while(is_open, Duration::from_secs(20), |is_open| !*is_open));
    });
    cluster.add(hub.start().unwrap());
    for _ in 0..3 {
        assert_serves(&cluster);
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}
