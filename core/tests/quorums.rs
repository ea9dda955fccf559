//! Whole hubs with quorum strategies, in one process.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test: real hubs on real clocks, and a panic is how it fails"
)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use process_hub::config::{HubConfig, NodeConfig, PartitionTolerance, Profile, Security};
use process_hub::engine::{MessageCommand, Recipient, StartOptions};
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::{HostFailure, StopReason};
use process_hub::host::{Child, Context, kind_fn};
use process_hub::hub::Hub;
use process_hub::ids::{ChildId, NodeName};
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;

const PATIENCE: Duration = Duration::from_secs(30);

struct Probe(Sender<StopReason>);

impl Child for Probe {
    fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
        Ok(message)
    }

    fn stop(&mut self, reason: StopReason) {
        let _ = self.0.send(reason);
    }
}

struct Node {
    hub: Hub,
    stopped: Receiver<StopReason>,
    changes: Receiver<bool>,
}

fn start_node(name: &str, seeds: &[String], quorum: PartitionTolerance) -> Node {
    let node = NodeConfig::default()
        .with_name(NodeName::new(name).unwrap())
        .with_security(Security::InsecurePlaintext)
        .with_seeds(seeds.iter().cloned());
    let mut config = HubConfig::new("orders")
        .unwrap()
        .with_node(node)
        .with_profile(Profile::fast())
        .with_partition_tolerance(quorum.with_lease(Duration::from_millis(900)));
    config.hubs_discover_interval = Duration::from_millis(200);
    let (tell_stop, stopped) = channel();
    let (tell_change, changes) = channel();
    let (tell_stop, tell_change) = (Mutex::new(tell_stop), Mutex::new(tell_change));
    let hub = Hub::builder(config)
        .kind("probe", kind_fn(false, move || Box::new(Probe(tell_stop.lock().unwrap().clone()))))
        .hook(HookName::PartitionChanged, "test", 0, move |event| {
            let _ = tell_change.lock().unwrap().send(event.payload["partitioned"] == true);
        })
        .start()
        .unwrap();
    Node { hub, stopped, changes }
}

fn cluster(names: &[&str], quorum: &PartitionTolerance) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for name in names {
        let seeds: Vec<String> = nodes.first().map(|node| node.hub.address().to_owned()).into_iter().collect();
        nodes.push(start_node(name, &seeds, quorum.clone()));
    }
    nodes
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start_child(hub: &Hub, id: &str, timeout: Duration) -> Result<(), Error> {
    let options = StartOptions { timeout, ..StartOptions::default() };
    hub.start_child(ChildSpec::new(id, "probe").unwrap(), options).wait().map(|_| ())
}

fn call(hub: &Hub, id: &str) -> Result<Payload, Error> {
    let command = MessageCommand {
        child: ChildId::new(id).unwrap(),
        message: Payload::bytes(&b"x"[..]),
        recipient: Recipient::Active,
        timeout: PATIENCE,
        chain: Arc::new([]),
    };
    hub.call(command).wait()
}

#[test]
fn r10_members_leave_gracefully_then_the_majority_of_the_peak_decides() {
    let nodes = cluster(&["a", "b", "c"], &PartitionTolerance::majority_quorum(3));
    for index in 0..9 {
        start_child(&nodes[index % 3].hub, &format!("child-{index}"), PATIENCE).unwrap();
    }
    for node in &nodes {
        assert!(!node.hub.is_partitioned());
        assert_eq!(node.changes.recv_timeout(PATIENCE), Ok(false));
    }
    nodes[2].hub.stop(PATIENCE).unwrap();
    for index in 0..9 {
        call(&nodes[0].hub, &format!("child-{index}")).unwrap();
    }
    assert!(!nodes[0].hub.is_partitioned());
    nodes[1].hub.stop(PATIENCE).unwrap();
    // One of at most three is no majority: nothing runs, and whoever asks hears it at once.
    until("the last one is partitioned", || nodes[0].hub.is_partitioned());
    assert_eq!(nodes[0].changes.recv_timeout(PATIENCE), Ok(true));
    assert!(nodes[0].hub.is_locked());
    assert_eq!(call(&nodes[0].hub, "child-0").unwrap_err().kind, ErrorKind::Partitioned);
    let refused = start_child(&nodes[0].hub, "late", PATIENCE).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Partitioned, "{refused}");
    assert_eq!(nodes[0].stopped.recv_timeout(PATIENCE), Ok(StopReason::Partitioned));
    // It heals by itself.
    let seeds = [nodes[0].hub.address().to_owned()];
    let back = start_node("b", &seeds, PartitionTolerance::majority_quorum(3));
    until("there is a quorum again", || !nodes[0].hub.is_partitioned() && !back.hub.is_partitioned());
    for index in 0..9 {
        call(&back.hub, &format!("child-{index}")).unwrap();
    }
    back.hub.stop(PATIENCE).unwrap();
    nodes[0].hub.stop(PATIENCE).unwrap();
}

#[test]
fn r10_before_the_first_quorum_then_requests_wait_for_it() {
    let quorum = PartitionTolerance::majority_quorum(2);
    let first = start_node("a", &[], quorum.clone());
    let late = start_child(&first.hub, "late", Duration::from_millis(300)).unwrap_err();
    assert_eq!(late.kind, ErrorKind::Timeout, "{late}");
    let options = StartOptions { timeout: PATIENCE, ..StartOptions::default() };
    let waiting = first.hub.start_child(ChildSpec::new("early", "probe").unwrap(), options);
    let second = start_node("b", &[first.hub.address().to_owned()], quorum);
    waiting.wait().unwrap();
    call(&second.hub, "early").unwrap();
    first.hub.stop(PATIENCE).unwrap();
    second.hub.stop(PATIENCE).unwrap();
}

#[test]
fn r10_startup_confirm_then_partitioned_is_answered_from_the_beginning() {
    let quorum =
        PartitionTolerance::StaticQuorum { quorum_size: 2, startup_confirm: true, lease: Duration::from_millis(900) };
    let node = start_node("a", &[], quorum);
    let refused = start_child(&node.hub, "child", PATIENCE).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Partitioned, "{refused}");
    node.hub.stop(PATIENCE).unwrap();
}

#[test]
fn r10_cluster_size_is_reset_then_fewer_members_are_a_quorum() {
    let nodes = cluster(&["a", "b", "c"], &PartitionTolerance::majority_quorum(3));
    start_child(&nodes[0].hub, "child", PATIENCE).unwrap();
    let refused = nodes[0].hub.reset_cluster_size(2).unwrap().wait().unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument, "{refused}");
    nodes[2].hub.stop(PATIENCE).unwrap();
    nodes[1].hub.reset_cluster_size(2).unwrap().wait().unwrap();
    // Two of two: still both are needed; then one is asked for.
    nodes[1].hub.stop(PATIENCE).unwrap();
    until("one of two is partitioned", || nodes[0].hub.is_partitioned());
    let refused = nodes[0].hub.reset_cluster_size(1).unwrap().wait().unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Partitioned, "{refused}");
    nodes[0].hub.stop(PATIENCE).unwrap();
}

#[test]
fn dynamic_quorum_alone_then_it_runs_and_others_join_it() {
    let nodes = cluster(&["a", "b"], &PartitionTolerance::dynamic_quorum(60));
    start_child(&nodes[0].hub, "child", PATIENCE).unwrap();
    until("both have a quorum", || nodes.iter().all(|node| !node.hub.is_partitioned()));
    call(&nodes[1].hub, "child").unwrap();
    let refused = nodes[0].hub.reset_cluster_size(2).unwrap().wait().unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument, "{refused}");
    nodes[1].hub.stop(PATIENCE).unwrap();
    call(&nodes[0].hub, "child").unwrap();
    nodes[0].hub.stop(PATIENCE).unwrap();
}

#[test]
fn r10_node_without_a_name_of_its_own_then_a_quorum_is_refused() {
    let config = HubConfig::new("orders")
        .unwrap()
        .with_node(NodeConfig::default().with_security(Security::InsecurePlaintext))
        .with_partition_tolerance(PartitionTolerance::majority_quorum(1));
    let refused = Hub::builder(config).start().unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidConfig);
    assert!(refused.message.contains("node.name"), "{refused}");
}
