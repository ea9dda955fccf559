//! Every node is restarted in turn, or killed: no child is missing, doubled, or without its state.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use process_hub::hub::Hub;
use process_hub::ids::ChildId;
use process_hub::observe::HookName;
use process_hub::spec::Row;
use process_hub_tests::cluster::{
    COUNTER, Cluster, PATIENCE, ask_all, config, counter_kind, eventually, eventually_or, nodes_of, options, owner,
    spec,
};
use serde_json::Value;

const CHILD_COUNT: usize = 1_000;
/// Set for the process that is one node of a test.
const NODE_PROCESS: &str = "PROCESS_HUB_TEST_NODE";

/// Gives every child a state of its own.
fn fill(cluster: &Cluster, ids: &[String]) {
    let messages = ids.iter().map(|id| (id.as_str(), format!("set name {id}")));
    ask_all(&cluster.hubs[0], messages);
}

/// The children that lost their state.
fn without_state(cluster: &Cluster, ids: &[String]) -> BTreeSet<String> {
    let names = ask_all(&cluster.hubs[0], ids.iter().map(|id| (id.as_str(), "get name".into())));
    ids.iter().zip(names).filter(|(id, name)| *id != name).map(|(id, _)| id.clone()).collect()
}

fn restart_in_turn(new_names: [&str; 3]) {
    let mut cluster = Cluster::new()
        .listening(HookName::StateLost)
        .listening(HookName::PostClusterJoin)
        .listening(HookName::PostClusterLeave)
        .listening(HookName::LostOwnership)
        .listening(HookName::ConflictResolved)
        .listening(HookName::ChildrenMigrated)
        .listening(HookName::HandoverFailed);
    cluster.join_all(&["a", "b", "c"]);
    let ids = cluster.start_counters(CHILD_COUNT);
    fill(&cluster, &ids);
    for (old, new) in ["a", "b", "c"].into_iter().zip(new_names) {
        let hub = cluster.take(old);
        let report = hub.stop(PATIENCE).unwrap();
        drop(hub);
        assert_eq!((report.stopped, report.restarted, report.failed), (vec![], vec![], vec![]), "{old}");
        cluster.join(new);
        cluster.settle();
        assert_eq!(cluster.registry().len(), CHILD_COUNT);
        assert_eq!(without_state(&cluster, &ids), BTreeSet::new(), "{old} was restarted as {new}");
    }
    cluster.assert_each_lives_once(&ids);
    for name in ["a", "b", "c"].into_iter().chain(new_names) {
        assert_eq!(cluster.heard(name, HookName::StateLost), Vec::<Value>::new(), "{name}");
    }
}

#[test]
fn three_nodes_are_restarted_under_new_names_then_each_of_1000_children_is_there_once_with_its_state() {
    restart_in_turn(["d", "e", "f"]);
}

#[test]
fn three_nodes_are_restarted_under_their_names_then_each_of_1000_children_is_there_once_with_its_state() {
    restart_in_turn(["a", "b", "c"]);
}

#[test]
fn two_nodes_are_restarted_at_once_then_each_of_1000_children_is_there_once_with_its_state() {
    let mut cluster = Cluster::new().listening(HookName::StateLost);
    cluster.join_all(&["a", "b", "c"]);
    let ids = cluster.start_counters(CHILD_COUNT);
    fill(&cluster, &ids);
    let leavers = [cluster.take("b"), cluster.take("c")];
    let stops = leavers.map(|hub| std::thread::spawn(move || hub.stop(PATIENCE).unwrap()));
    for stop in stops {
        let report = stop.join().unwrap();
        assert_eq!((report.stopped, report.restarted, report.failed), (vec![], vec![], vec![]));
    }
    cluster.join_all(&["b", "c"]);
    cluster.assert_each_lives_once(&ids);
    assert_eq!(without_state(&cluster, &ids), BTreeSet::new());
    assert_eq!(cluster.heard("a", HookName::StateLost), Vec::<Value>::new());
}

#[test]
fn killed_node_returns_under_its_name_at_once_then_exactly_its_children_are_named_as_lost() {
    let mut cluster = Cluster::new().listening(HookName::StateLost).listening(HookName::PostClusterJoin);
    cluster.join_all(&["a", "b"]);
    let seeds = [cluster.hub("a").address().to_owned(), cluster.hub("b").address().to_owned()];
    let killed = NodeProcess::start("c", &seeds);
    three_members(&cluster);
    let ids: Vec<String> = (0..CHILD_COUNT).map(|n| format!("counter:{n}")).collect();
    let specs = ids.iter().map(|id| spec(id)).collect();
    assert_eq!(cluster.hubs[0].start_children(specs, options()).wait().unwrap().errors, []);
    fill(&cluster, &ids);
    settled_with(&cluster, "c");
    let held: BTreeSet<String> = on_node(&cluster, "c");
    assert!(held.len() > CHILD_COUNT / 5, "c holds only {}", held.len());

    killed.kill();
    let mut returned = NodeProcess::start("c", &seeds);
    for node in ["a", "b"] {
        let is_of_c = |event: &Value| event["node"] == "c";
        eventually("the other members take it in again", || {
            cluster.heard(node, HookName::PostClusterJoin).iter().filter(|it| is_of_c(it)).count() == 2
        });
    }
    settled_with(&cluster, "c");

    assert_eq!(without_state(&cluster, &ids), held);
    assert_eq!(on_node(&cluster, "c"), held, "the name decides the placement");
    eventually_or("every row on every node says what was lost", || {
        let rows = [lost_rows(&cluster, "a"), lost_rows(&cluster, "b"), returned.lost_rows()];
        let wrong = rows.iter().position(|lost| *lost != held)?;
        Some(format!("node {wrong} names {}, lost are {}", rows[wrong].len(), held.len()))
    });
    for node in ["a", "b"] {
        let heard = cluster.heard(node, HookName::StateLost);
        let lost: BTreeSet<String> = heard.iter().map(|it| it["child_id"].as_str().unwrap().into()).collect();
        assert_eq!(lost, held, "{node} heard of others");
        assert!(heard.iter().all(|it| it["node"] == "c"), "{node}: c had the states");
    }
    returned.stop();
}

fn three_members(cluster: &Cluster) {
    for hub in &cluster.hubs {
        eventually("three members", || hub.nodes(true).len() == 3);
    }
}

/// Waits until no child moves and each is on exactly one node, `other` being the one outside of this process.
fn settled_with(cluster: &Cluster, other: &str) {
    let names: Vec<&str> = cluster.hubs.iter().map(|hub| hub.node_name().as_str()).chain([other]).collect();
    eventually_or("each child is on its owner", || {
        for hub in &cluster.hubs {
            let rows = hub.process_registry();
            if rows.len() != CHILD_COUNT || hub.is_locked() {
                return Some(format!("{} has {} rows, locked: {}", hub.node_name(), rows.len(), hub.is_locked()));
            }
            for (id, row) in &rows {
                let owner = owner(&names, id.as_str());
                if nodes_of(row).iter().map(|node| node.as_str()).ne([owner.as_str()]) {
                    return Some(format!("{} has {id} on {:?}, not {owner}", hub.node_name(), nodes_of(row)));
                }
            }
        }
        None
    });
}

fn on_node(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    let rows = cluster.registry();
    let is_there = |row: &&Arc<Row>| nodes_of(row).iter().any(|it| it.as_str() == name);
    rows.values().filter(is_there).map(|row| row.spec.id.to_string()).collect()
}

fn lost_rows(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    lost(cluster.hub(name).process_registry().values())
}

fn lost<'a>(rows: impl Iterator<Item = &'a Arc<Row>>) -> BTreeSet<String> {
    let ids = rows.filter(|row| row.state_lost.is_some()).map(|row| &row.spec.id);
    ids.map(ChildId::to_string).collect()
}

/// One node in a process of its own, which can be killed.
struct NodeProcess {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl NodeProcess {
    /// Runs [`node_process`] of this very program; returns when its hub runs.
    fn start(name: &str, seeds: &[String]) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "node_process", "--nocapture"])
            .env(NODE_PROCESS, format!("{name} {}", seeds.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut node = Self { process, input, output };
        node.read("ready");
        node
    }

    /// The rest of the next line that begins with this word; the test harness prints lines of its own.
    fn read(&mut self, word: &str) -> String {
        loop {
            let line = self.output.next().expect("the node process ended").unwrap();
            if let Some((_, rest)) = line.split_once(&format!("{word}:")) {
                return rest.to_owned();
            }
        }
    }

    fn lost_rows(&mut self) -> BTreeSet<String> {
        writeln!(self.input, "lost").unwrap();
        self.read("lost").split_whitespace().map(str::to_owned).collect()
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn stop(mut self) {
        writeln!(self.input, "stop").unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

/// Not a test: what [`NodeProcess`] runs. It ends with its input, so that it never outlives the test.
#[test]
fn node_process() {
    let Ok(setting) = env::var(NODE_PROCESS) else { return };
    let words: Vec<&str> = setting.split(' ').collect();
    let config = config(words[0], &words[1..]);
    let mut cluster = Cluster::new();
    let kind = counter_kind(cluster.census.clone());
    let hub = Hub::builder(config).kind(COUNTER, kind).start().unwrap();
    let hub = cluster.add(hub).clone();
    println!("ready:");
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "lost" => {
                let ids: Vec<String> = lost(hub.process_registry().values()).into_iter().collect();
                println!("lost:{}", ids.join(" "));
            }
            "stop" => break,
            other => panic!("unknown command {other:?}"),
        }
    }
    cluster.hubs.clear();
    hub.stop(PATIENCE).unwrap();
}
