#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; the rest fails it")]

use super::*;
use crate::config::Security;
use crate::engine::Input;
use crate::hub::inputs::{self, DriverInput, InputReceiver};
use crate::swim::Evidence;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(name: &str, seeds: &[&Node]) -> NodeConfig {
    NodeConfig::default()
        .with_name(NodeName::new(name).unwrap())
        .with_security(Security::InsecurePlaintext)
        .with_seeds(seeds.iter().map(|node| node.address()))
}

fn start(name: &str, seeds: &[&Node]) -> Result<Node, Error> {
    let interval = Duration::from_millis(200);
    Node::start(&config(name, seeds), &Profile::fast(), interval)
}

/// What a hub on the node would hear.
fn listen(node: &Node) -> InputReceiver {
    let (sender, receiver) = inputs::channel();
    node.attach(&HubId::new("orders").unwrap(), sender).unwrap();
    receiver
}

/// The next that is heard of which `is_it` holds: a member is told of again when a link to it comes later.
fn heard_next(hub: &InputReceiver, is_it: impl Fn(&(String, Option<Evidence>)) -> bool) -> (String, Option<Evidence>) {
    std::iter::repeat_with(|| heard(hub)).find(is_it).unwrap()
}

fn heard(hub: &InputReceiver) -> (String, Option<Evidence>) {
    match hub.receiver.recv_timeout(PATIENCE).unwrap() {
        DriverInput::Engine(Input::NodeUp(node)) => (node.name.to_string(), None),
        DriverInput::Engine(Input::NodeDown(node, evidence)) => (node.name.to_string(), Some(evidence)),
        other => panic!("expected a change of the members, not {other:?}"),
    }
}

#[test]
fn three_nodes_start_then_each_sees_the_others_and_a_leaver_goes() {
    let a = start("a", &[]).unwrap();
    let hub_a = listen(&a);
    let b = start("b", &[&a]).unwrap();
    assert_eq!(heard(&hub_a), ("b".into(), None));
    let c = start("c", &[&a]).unwrap();
    assert_eq!(heard(&hub_a), ("c".into(), None));
    // Added late, it hears of the members all the same.
    let hub_b = listen(&b);
    let first = heard(&hub_b);
    let mut seen = [heard_next(&hub_b, |next| *next != first), first.clone()];
    seen.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(seen, [("a".into(), None), ("c".into(), None)]);
    assert!(c.stop(PATIENCE));
    for hub in [&hub_a, &hub_b] {
        assert_eq!(heard_next(hub, |(_, evidence)| evidence.is_some()), ("c".into(), Some(Evidence::Left)));
    }
    for (node, hub) in [(&a, hub_a), (&b, hub_b)] {
        drop(hub);
        node.detach(&HubId::new("orders").unwrap());
        assert!(node.stop(PATIENCE));
        assert!(node.stop(PATIENCE), "a second stop only waits");
    }
}

#[test]
fn no_seed_answers_then_the_start_does_not_wait_for_a_verdict() {
    let gone = start("gone", &[]).unwrap();
    let seed = config("a", &[&gone]);
    assert!(gone.stop(PATIENCE));
    let begin = Instant::now();
    let a = Node::start(&seed, &Profile::fast(), PATIENCE).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(a.stop(PATIENCE));
}

#[test]
fn r13_living_node_has_the_name_then_the_newcomer_is_refused() {
    let a = start("a", &[]).unwrap();
    let b = start("b", &[&a]).unwrap();
    let refused = start("b", &[&a]).map(drop).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NodeNameTaken);
    assert_eq!(refused.node.as_deref(), Some("b"));
    assert_eq!(a.members().len(), 1);
    b.stop(PATIENCE);
    a.stop(PATIENCE);
}

#[test]
fn last_clone_is_dropped_then_the_node_leaves_in_the_background() {
    let a = start("a", &[]).unwrap();
    let hub = listen(&a);
    let b = start("b", &[&a]).unwrap();
    assert_eq!(heard(&hub), ("b".into(), None));
    drop(b);
    assert_eq!(heard(&hub), ("b".into(), Some(Evidence::Left)));
    drop(hub);
    a.detach(&HubId::new("orders").unwrap());
    a.stop(PATIENCE);
}

#[test]
fn no_name_is_given_then_names_and_incarnations_differ_and_incarnations_rise() {
    let names = [default_name().unwrap(), default_name().unwrap()];
    assert_ne!(names[0], names[1]);
    let first = new_incarnation().unwrap();
    let second = new_incarnation().unwrap();
    assert_eq!(first.0 >> 53, 0);
    assert!(second.0 >> 12 >= first.0 >> 12);
}
