//! Whole hubs in one process: Rust children, the engine, membership and TCP.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use process_hub::config::{HubConfig, Migration, NodeConfig, Profile, Security};
use process_hub::engine::{IfExists, MessageCommand, Recipient, StartOptions};
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::{HostFailure, StopReason};
use process_hub::host::{Body, Child, Context, kind_fn};
use process_hub::hub::{Hub, HubBuilder, Node};
use process_hub::ids::{ChildId, NodeName};
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;

const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what it was sent; its reply is how much that is.
#[derive(Default)]
struct Cart {
    items: Vec<u8>,
    stopped: Option<Sender<StopReason>>,
}

impl Child for Cart {
    fn start(&mut self, _: &Context, args: Payload) -> Result<(), HostFailure> {
        match &args.data[..] {
            b"\"refuse\"" => Err(HostFailure::new("refused on purpose")),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, ctx: &Context, message: Payload) -> Result<Payload, HostFailure> {
        match &message.data[..] {
            b"panic" => panic!("on purpose"),
            b"node" => return Ok(text(ctx.node().as_str())),
            b"count" => {}
            data if data.starts_with(b"call ") => {
                let target = String::from_utf8_lossy(&data[5..]).into_owned();
                return ctx
                    .call(&target, text(&format!("call {}", ctx.child_id())), PATIENCE)
                    .map_err(|error| HostFailure { kind: Some(error.kind), ..HostFailure::new(error.message) });
            }
            data => self.items.extend(data),
        }
        Ok(text(&self.items.len().to_string()))
    }

    fn prepare_handover_state(&mut self) -> Result<Option<Payload>, HostFailure> {
        Ok(Some(Payload::bytes(self.items.clone())))
    }

    fn alter_handover_state(&mut self, state: Payload) -> Result<(), HostFailure> {
        self.items = state.data.to_vec();
        Ok(())
    }

    fn stop(&mut self, reason: StopReason) {
        if let Some(stopped) = &self.stopped {
            let _ = stopped.send(reason);
        }
    }
}

fn text(text: &str) -> Payload {
    Payload::bytes(text.as_bytes().to_vec())
}

fn node_config(name: &str, seeds: &[&str]) -> NodeConfig {
    NodeConfig::default()
        .with_name(NodeName::new(name).unwrap())
        .with_security(Security::InsecurePlaintext)
        .with_seeds(seeds.iter().copied())
}

fn config(node: NodeConfig) -> HubConfig {
    let mut config = HubConfig::new("orders")
        .unwrap()
        .with_node(node)
        .with_profile(Profile::fast())
        .with_migration(Migration::hot_swap().with_handover(true));
    config.hubs_discover_interval = Duration::from_millis(200);
    config
}

fn builder(name: &str, seeds: &[&str]) -> HubBuilder {
    Hub::builder(config(node_config(name, seeds))).kind("cart", kind_fn(true, || Box::new(Cart::default())))
}

/// Hubs on nodes of these names, the first of which is the others' seed.
fn cluster(names: &[&str]) -> Vec<Hub> {
    let mut hubs: Vec<Hub> = Vec::new();
    for name in names {
        let seed = hubs.first().map(|hub| hub.address().to_owned());
        let seeds: Vec<&str> = seed.iter().map(String::as_str).collect();
        hubs.push(builder(name, &seeds).start().unwrap());
    }
    for hub in &hubs {
        until("every hub sees the others", || hub.nodes(true).len() == names.len());
    }
    hubs
}

/// Waits for something that has no event, or panics.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn spec(id: &str) -> ChildSpec {
    ChildSpec::new(id, "cart").unwrap()
}

fn options() -> StartOptions {
    StartOptions { timeout: PATIENCE, ..StartOptions::default() }
}

fn start(hub: &Hub, id: &str) {
    hub.start_child(spec(id), options()).wait().unwrap();
}

fn command(id: &str, message: &str) -> MessageCommand {
    MessageCommand {
        child: ChildId::new(id).unwrap(),
        message: text(message),
        recipient: Recipient::Active,
        timeout: PATIENCE,
        chain: Arc::new([]),
    }
}

fn call(hub: &Hub, id: &str, message: &str) -> Result<String, Error> {
    let reply = hub.call(command(id, message)).wait()?;
    Ok(String::from_utf8_lossy(&reply.data).into_owned())
}

fn stop_all(hubs: &[Hub]) {
    for hub in hubs {
        hub.stop(PATIENCE).unwrap();
    }
}

#[test]
fn one_hub_starts_calls_and_stops_a_child() {
    let (told, stopped) = channel();
    let told = Mutex::new(told);
    let hub = Hub::builder(config(node_config("a", &[])))
        .kind(
            "cart",
            kind_fn(true, move || Box::new(Cart { stopped: Some(told.lock().unwrap().clone()), ..Cart::default() })),
        )
        .start()
        .unwrap();
    let started = hub.start_child(spec("cart:1"), options()).wait().unwrap();
    assert_eq!(started.id.as_str(), "cart:1");
    assert_eq!(started.instances[0].node.as_str(), "a");
    assert_eq!(call(&hub, "cart:1", "sku").unwrap(), "3");
    assert_eq!(call(&hub, "cart:1", "sku").unwrap(), "6");
    let row = hub.child_lookup("cart:1").unwrap();
    assert_eq!(row.instances.len(), 1);
    assert_eq!(row.instances[0].epoch, started.instances[0].epoch);
    assert_eq!(hub.process_registry().len(), 1);
    hub.send(command("cart:1", "xx")).wait().unwrap();
    until("the message arrived", || call(&hub, "cart:1", "count").unwrap() == "8");
    let id = ChildId::new("cart:1").unwrap();
    let ended = hub.stop_child(&id, PATIENCE).wait().unwrap();
    assert_eq!(ended.nodes.len(), 1);
    assert_eq!(stopped.recv_timeout(PATIENCE), Ok(StopReason::Stopped));
    assert!(hub.child_lookup("cart:1").is_none());
    let gone = call(&hub, "cart:1", "x").unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
    start(&hub, "cart:2");
    let report = hub.stop(PATIENCE).unwrap();
    assert_eq!(report.stopped, [ChildId::new("cart:2").unwrap()]);
    assert_eq!(stopped.recv_timeout(PATIENCE), Ok(StopReason::Shutdown));
    assert_eq!(call(&hub, "cart:2", "x").unwrap_err().kind, ErrorKind::Closed);
}

#[test]
fn host_code_fails_then_each_failure_says_which() {
    let hub = builder("a", &[]).start().unwrap();
    let refused = spec("bad").with_args(Payload::json(&b"\"refuse\""[..]));
    let error = hub.start_child(refused, options()).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::StartFailed);
    assert!(error.message.contains("refused on purpose"), "{error}");
    assert!(hub.child_lookup("bad").is_none());
    let unknown = ChildSpec::new("x", "nobody").unwrap();
    let error = hub.start_child(unknown, options()).wait().unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownKind);
    start(&hub, "cart:1");
    let error = hub.start_child(spec("cart:1"), options()).wait();
    assert_eq!(error.unwrap_err().kind, ErrorKind::AlreadyStarted);
    let error = call(&hub, "cart:1", "panic").unwrap_err();
    assert!(error.message.contains("on purpose"), "{error}");
    assert_eq!(call(&hub, "cart:1", "ab").unwrap(), "2");
    hub.stop(PATIENCE).unwrap();
}

#[test]
fn r7_children_call_each_other_then_a_circle_would_deadlock() {
    let hub = builder("a", &[]).start().unwrap();
    start(&hub, "one");
    start(&hub, "two");
    // "one" calls "two", which calls back "one", which waits.
    let error = call(&hub, "one", "call two").unwrap_err();
    assert_eq!(error.kind, ErrorKind::WouldDeadlock, "{error}");
    assert_eq!(call(&hub, "one", "abc").unwrap(), "3");
    hub.stop(PATIENCE).unwrap();
}

#[test]
fn three_hubs_share_children_then_each_calls_all_of_them() {
    let hubs = cluster(&["a", "b", "c"]);
    let ids: Vec<String> = (0..60).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    let result = hubs[0].start_children(specs, options()).wait().unwrap();
    assert_eq!(result.errors, []);
    let mut owners = BTreeSet::new();
    for id in &ids {
        let from: Vec<String> = (hubs.iter()).map(|hub| call(hub, id, "node").unwrap()).collect();
        assert!(from.iter().all(|node| *node == from[0]), "{from:?}");
        owners.insert(from[0].clone());
    }
    assert_eq!(owners.len(), 3, "every node runs some");
    for hub in &hubs {
        until("every registry has every child", || hub.child_count() == ids.len());
    }
    let global = hubs[1].which_children_global(PATIENCE).wait().unwrap();
    assert_eq!(global.values().map(Vec::len).sum::<usize>(), ids.len());
    hubs[2].sync(PATIENCE).wait().unwrap();
    stop_all(&hubs);
}

#[test]
fn node_leaves_then_its_children_run_elsewhere_with_their_state() {
    let hubs = cluster(&["a", "b", "c"]);
    let ids: Vec<String> = (0..30).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    let result = hubs[0].start_children(specs, options()).wait().unwrap();
    assert_eq!(result.errors, []);
    for id in &ids {
        assert_eq!(call(&hubs[0], id, "abc").unwrap(), "3");
    }
    let report = hubs[2].stop(PATIENCE).unwrap();
    assert_eq!((report.failed.len(), report.stopped.len()), (0, 0), "{report:?}");
    assert!(!report.moved.is_empty());
    for id in &ids {
        assert_eq!(call(&hubs[1], id, "count").unwrap(), "3", "{id}");
        assert_ne!(call(&hubs[1], id, "node").unwrap(), "c");
    }
    until("the leaver is gone", || hubs[0].nodes(true).len() == 2);
    stop_all(&hubs[..2]);
}

#[test]
fn node_joins_then_children_move_to_it_with_their_state() {
    let mut hubs = cluster(&["a"]);
    let ids: Vec<String> = (0..30).map(|n| format!("cart:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    hubs[0].start_children(specs, options()).wait().unwrap();
    for id in &ids {
        assert_eq!(call(&hubs[0], id, "abc").unwrap(), "3");
    }
    let seed = hubs[0].address().to_owned();
    hubs.push(builder("b", &[&seed]).start().unwrap());
    until("the newcomer runs some", || {
        let local = hubs[1].which_children_local();
        local.values().any(|ids| !ids.is_empty())
    });
    until("the moves are done", || !hubs.iter().any(Hub::is_locked));
    for id in &ids {
        assert_eq!(call(&hubs[1], id, "count").unwrap(), "3", "{id}");
    }
    stop_all(&hubs);
}

#[test]
fn every_node_lists_a_static_child_then_it_runs_once() {
    let make = |name: &str, seeds: &[&str]| {
        let mut config = config(node_config(name, seeds));
        config.child_specs = vec![spec("static")];
        Hub::builder(config).kind("cart", kind_fn(true, || Box::new(Cart::default()))).start().unwrap()
    };
    let a = make("a", &[]);
    let seed = a.address().to_owned();
    let b = make("b", &[&seed]);
    for hub in [&a, &b] {
        until("the child runs", || {
            let row = hub.child_lookup("static");
            hub.nodes(true).len() == 2 && row.is_some_and(|row| row.instances.len() == 1)
        });
        call(hub, "static", "x").unwrap();
    }
    let again = StartOptions { if_exists: IfExists::Return, ..options() };
    let started = b.start_child(spec("static"), again).wait().unwrap();
    assert_eq!(started.instances.len(), 1);
    stop_all(&[a, b]);
}

#[test]
fn two_hubs_run_on_one_node_then_each_has_its_own_children() {
    let interval = Duration::from_secs(10);
    let node = Node::start(&node_config("a", &[]), &Profile::fast(), interval).unwrap();
    let make = |id: &str| {
        let mut config = HubConfig::new(id).unwrap();
        config.node = None;
        Hub::builder(config).node(&node).kind("cart", kind_fn(true, || Box::new(Cart::default()))).start().unwrap()
    };
    let (orders, users) = (make("orders"), make("users"));
    start(&orders, "one");
    assert!(users.child_lookup("one").is_none());
    assert_eq!(orders.debug_stats().hubs, 2);
    orders.stop(PATIENCE).unwrap();
    start(&users, "one");
    assert!(node.stop(PATIENCE));
    assert!(!users.is_alive());
}

/// Counts in a body of its own until it is cancelled.
struct Worker(Sender<&'static str>);

impl Child for Worker {
    fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
        Ok(message)
    }

    fn body(&mut self) -> Option<Body> {
        let told = self.0.clone();
        Some(Box::new(move |ctx: Context| {
            let _ = told.send("began");
            let was_cancelled = ctx.wait_cancelled(PATIENCE);
            let _ = told.send(if was_cancelled { "cancelled" } else { "late" });
            Ok(())
        }))
    }
}

#[test]
fn hub_starts_anew_on_its_living_node_then_what_it_started_before_still_starts_elsewhere() {
    let first = Hub::builder(config(node_config("a", &[]))).start().unwrap();
    let b = node_config("b", &[first.address()]);
    let node = Node::start(&b, &Profile::fast(), Duration::from_millis(200)).unwrap();
    let author = builder("b", &[]).node(&node).start().unwrap();
    until("both see each other", || first.nodes(false).len() == 1 && author.nodes(false).len() == 1);
    let ids: Vec<String> = (0..10).map(|n| format!("cart:{n}")).collect();
    ids.iter().for_each(|id| start(&author, id));
    let report = author.stop(PATIENCE).unwrap();
    assert_eq!(report.stopped.len(), ids.len(), "nobody else offers the kind: {report:?}");
    let again = Hub::builder(config(b)).node(&node).start().unwrap();
    until("it is back", || first.nodes(false).len() == 1 && again.nodes(false).len() == 1);
    let taker = builder("c", &[first.address()]).start().unwrap();
    for id in &ids {
        until("the child starts", || taker.child_lookup(id).is_some_and(|row| row.instances.len() == 1));
    }
    stop_all(&[first, again, taker]);
    assert!(node.stop(PATIENCE));
}

#[test]
fn child_has_a_body_then_it_runs_until_the_child_is_stopped() {
    let (told, seen): (_, Receiver<&'static str>) = channel();
    let told = Mutex::new(told);
    let worker = kind_fn(false, move || Box::new(Worker(told.lock().unwrap().clone())));
    let hub = Hub::builder(config(node_config("a", &[]))).kind("worker", worker.with_run()).start().unwrap();
    let spec = ChildSpec::new("w", "worker").unwrap();
    hub.start_child(spec, options()).wait().unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE), Ok("began"));
    assert_eq!(call(&hub, "w", "beside").unwrap(), "beside");
    let id = ChildId::new("w").unwrap();
    hub.stop_child(&id, PATIENCE).wait().unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE), Ok("cancelled"));
    hub.stop(PATIENCE).unwrap();
}

#[test]
fn node_joins_then_observers_hear_of_it() {
    let (told, seen) = channel();
    let told = Mutex::new(told);
    let a = builder("a", &[])
        .hook(HookName::PostClusterJoin, "test", 0, move |event| {
            let _ = told.lock().unwrap().send(event.payload["node"].clone());
        })
        .start()
        .unwrap();
    let seed = a.address().to_owned();
    let b = builder("b", &[&seed]).start().unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "b");
    stop_all(&[b, a]);
}

#[test]
fn hubs_end_then_their_threads_and_descriptors_are_gone() {
    // The other tests of this file may run beside this one: it looks at its own node only.
    let hub = builder("a", &[]).start().unwrap();
    start(&hub, "one");
    let stats = hub.debug_stats();
    assert_eq!((stats.hubs, stats.children, stats.instances), (1, 1, 1));
    hub.stop(PATIENCE).unwrap();
    let stats = hub.debug_stats();
    assert_eq!((stats.hubs, stats.instances), (0, 0));
}

#[test]
fn polled_hub_then_callbacks_observers_and_tasks_run_on_the_thread_that_polls() {
    let (seen, events) = channel();
    let here = std::thread::current().id();
    let hook = seen.clone();
    let hub = builder("a", &[])
        .polled()
        .hook(HookName::PostChildrenStart, "test", 0, move |_| {
            hook.send(("hook", std::thread::current().id())).unwrap();
        })
        .start()
        .unwrap();
    let mut started = hub.start_child(ChildSpec::new("a", "cart").unwrap(), StartOptions::default());
    hub.run_on_host(process_hub::host::HostTask::new(move || {
        seen.send(("task", std::thread::current().id())).unwrap();
    }));
    let mut told = BTreeSet::new();
    let mut is_started = false;
    while told.len() < 2 || !is_started {
        assert_ne!(hub.poll(PATIENCE).unwrap(), process_hub::host::Polled::Nothing);
        is_started |= started.wait_timeout(Duration::ZERO).is_some_and(|started| started.is_ok());
        for (what, thread) in events.try_iter() {
            assert_eq!(thread, here, "{what}");
            told.insert(what);
        }
    }
    // Nobody else polls: stopping does what is left.
    assert_eq!(hub.stop(PATIENCE).unwrap().stopped.len(), 1);
    assert_eq!(hub.poll(PATIENCE).unwrap(), process_hub::host::Polled::Closed);
}

#[test]
fn hub_with_threads_is_polled_then_refused() {
    let hub = builder("a", &[]).start().unwrap();
    assert_eq!(hub.poll(PATIENCE).unwrap_err().kind, ErrorKind::InvalidArgument);
    hub.stop(PATIENCE).unwrap();
}

#[test]
fn callback_never_returns_then_host_unresponsive_tells_and_the_others_go_on() {
    struct Stuck(Arc<Mutex<Option<Receiver<()>>>>);
    impl Child for Stuck {
        fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
            Ok(message)
        }
        fn start(&mut self, _: &Context, _: Payload) -> Result<(), HostFailure> {
            let gate = self.0.lock().unwrap().take();
            let _ = gate.map(|gate| gate.recv());
            Ok(())
        }
    }
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let (told, unresponsive) = channel();
    let mut config = config(node_config("a", &[]));
    config.host_threads = 2;
    let hub = Hub::builder(config)
        .kind("cart", kind_fn(true, || Box::new(Cart::default())))
        .kind("stuck", kind_fn(false, move || Box::new(Stuck(Arc::clone(&gate)))))
        .hook(HookName::HostUnresponsive, "test", 0, move |event| {
            told.send(event.payload["blocked_ms"].as_u64().unwrap()).unwrap();
        })
        .start()
        .unwrap();
    hub.start_child(ChildSpec::new("b", "cart").unwrap(), StartOptions::default()).wait().unwrap();
    let options = StartOptions { timeout: Duration::from_millis(1500), ..StartOptions::default() };
    let error = hub.start_child(ChildSpec::new("s", "stuck").unwrap(), options).wait().unwrap_err();
    assert!([ErrorKind::Timeout, ErrorKind::HostTimeout, ErrorKind::StartFailed].contains(&error.kind), "{error}");
    let blocked_ms = unresponsive.recv_timeout(PATIENCE).unwrap();
    assert!((100..10_000).contains(&blocked_ms), "{blocked_ms}");
    let message = MessageCommand::new(ChildId::new("b").unwrap(), text("x"));
    assert_eq!(&hub.call(message).wait().unwrap().data[..], b"1");
    drop(open);
    hub.stop(PATIENCE).unwrap();
}
