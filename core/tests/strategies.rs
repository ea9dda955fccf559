//! Strategies of the program's own, on whole hubs: registered, asked, and replaced by the built-in.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use process_hub::config::{HubConfig, Migration, NodeConfig, Profile, Security};
use process_hub::engine::StartOptions;
use process_hub::error::ErrorKind;
use process_hub::host::call::HostFailure;
use process_hub::host::{Child, Context, kind_fn};
use process_hub::hub::{Hub, HubBuilder};
use process_hub::ids::NodeName;
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;
use process_hub::strategy::Family;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

struct Echo;

impl Child for Echo {
    fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
        Ok(message)
    }
}

fn builder(name: &str, seeds: &[&str]) -> HubBuilder {
    let node = NodeConfig::default()
        .with_name(NodeName::new(name).unwrap())
        .with_security(Security::InsecurePlaintext)
        .with_seeds(seeds.iter().copied());
    let config = HubConfig::new("orders")
        .unwrap()
        .with_node(node)
        .with_profile(Profile::fast())
        .with_hubs_discover_interval(Duration::from_millis(200))
        .with_migration(Migration::hosted("mine", Migration::hot_swap()));
    Hub::builder(config).kind("echo", kind_fn(false, || Box::new(Echo)))
}

/// Twenty children on `a`, whose strategy this is; then `b` joins. Gives both hubs and why the built-in decided, if so.
fn join(decide: impl Fn(&Value) -> Result<Value, HostFailure> + Send + Sync + 'static) -> (Hub, Hub, Receiver<String>) {
    let (told, fallbacks) = channel();
    let told = Mutex::new(told);
    let a = builder("a", &[])
        .decide(Family::Migration, "mine", decide)
        .hook(HookName::StrategyFallback, "test", 0, move |event| {
            let _ = told.lock().unwrap().send(event.payload.to_string());
        })
        .start()
        .unwrap();
    let specs = (0..20).map(|n| ChildSpec::new(&format!("e:{n}"), "echo").unwrap()).collect();
    let options = StartOptions { timeout: PATIENCE, ..StartOptions::default() };
    assert_eq!(a.start_children(specs, options).wait().unwrap().errors, []);
    let b =
        builder("b", &[a.address()]).decide(Family::Migration, "mine", |_: &Value| Ok(Value::Null)).start().unwrap();
    (a, b, fallbacks)
}

fn children_of(hub: &Hub, node: &str) -> BTreeSet<String> {
    let rows = hub.process_registry();
    let here = rows.into_iter().filter(|(_, row)| row.instances.iter().any(|one| one.node.as_str() == node));
    here.map(|(id, _)| id.to_string()).collect()
}

/// Waits for something that has no event, or panics.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn strategy_is_not_registered_then_the_hub_does_not_start() {
    let error = builder("a", &[]).start().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    let expected = "migration.name: no strategy of the name mine is registered for it: none is";
    assert_eq!(error.message, expected);
    let other = builder("a", &[]).decide(Family::Distribution, "mine", |_: &Value| Ok(Value::Null));
    assert_eq!(other.start().unwrap_err().message, expected, "of another family");
    let other = builder("a", &[]).decide(Family::Migration, "yours", |_: &Value| Ok(Value::Null));
    assert!(other.start().unwrap_err().message.ends_with("registered is yours"));
}

#[test]
fn closure_orders_the_moves_then_the_children_of_its_question_move() {
    let (asked, questions) = channel();
    let asked = Mutex::new(asked);
    let (a, b, fallbacks) = join(move |question| {
        let ids: Vec<Value> = question["moves"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        asked.lock().unwrap().send(ids.clone()).unwrap();
        Ok(ids.into_iter().rev().collect())
    });
    let ids = questions.recv_timeout(PATIENCE).unwrap();
    let moving: BTreeSet<String> = ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    until("they move", || children_of(&a, "b") == moving && !a.is_locked());
    assert!(fallbacks.try_recv().is_err());
    drop(b.stop(PATIENCE));
    drop(a.stop(PATIENCE));
}

#[test]
fn closure_does_not_return_then_the_children_move_all_the_same_and_strategy_fallback_tells() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let (a, b, fallbacks) = join(move |_| {
        let _ = held.lock().unwrap().recv();
        Ok(Value::Null)
    });
    let why = fallbacks.recv_timeout(PATIENCE).unwrap();
    assert_eq!(why, r#"{"strategy":"mine","why":"`decide` did not end in time"}"#);
    until("they move", || !children_of(&a, "b").is_empty() && !a.is_locked());
    assert_eq!(children_of(&a, "a").len() + children_of(&a, "b").len(), 20);
    drop(release);
    drop(b.stop(PATIENCE));
    drop(a.stop(PATIENCE));
}
