//! Three processes with a majority quorum, one of which stands still for longer than its lease and goes on (R11).
//!
//! `PROCESS_HUB_STOP_ROUNDS` and `PROCESS_HUB_STOP_SECONDS` ask for more and longer stops than a quick run has.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test: real processes on real clocks, and a panic is how it fails"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use process_hub::config::{HubConfig, NodeConfig, PartitionTolerance, Profile, Security};
use process_hub::engine::{IfExists, MessageCommand, Recipient, StartOptions};
use process_hub::host::call::{HostFailure, StopReason};
use process_hub::host::{Child, Context, kind_fn};
use process_hub::hub::Hub;
use process_hub::ids::{ChildId, NodeName};
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;

const PATIENCE: Duration = Duration::from_secs(60);
const CHILDREN: usize = 12;
/// The environment of a process that is a node: its name, and the seed, if any.
const NODE: &str = "PROCESS_HUB_TEST_NODE";
const SEED: &str = "PROCESS_HUB_TEST_SEED";

/// Says on stdout what it handles.
struct Probe;

impl Child for Probe {
    fn handle(&mut self, ctx: &Context, _: Payload) -> Result<Payload, HostFailure> {
        say(&format!("handled {} {}", ctx.child_id(), ctx.epoch()));
        Ok(Payload::bytes(format!("{} {}", ctx.node(), ctx.epoch()).into_bytes()))
    }

    fn stop(&mut self, reason: StopReason) {
        say(&format!("stopped {reason:?}"));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n@{line}");
    let _ = out.flush();
}

/// No test: the body of the processes that the test below starts.
#[test]
#[ignore = "the test of paused processes runs it"]
fn node_of_another_process() {
    let Ok(name) = std::env::var(NODE) else {
        return;
    };
    let node = NodeConfig::default()
        .with_name(NodeName::new(name).unwrap())
        .with_security(Security::InsecurePlaintext)
        .with_seeds(std::env::var(SEED).ok());
    let mut config = HubConfig::new("orders")
        .unwrap()
        .with_node(node)
        .with_profile(Profile::fast())
        .with_partition_tolerance(PartitionTolerance::majority_quorum(3));
    config.hubs_discover_interval = Duration::from_millis(200);
    let hub = Hub::builder(config).kind("probe", kind_fn(true, || Box::new(Probe))).start().unwrap();
    say(&format!("address {}", hub.address()));
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("start", _) => {
                let specs = (0..CHILDREN).map(|n| ChildSpec::new(&format!("child-{n}"), "probe").unwrap());
                let options =
                    StartOptions { timeout: PATIENCE, if_exists: IfExists::Return, ..StartOptions::default() };
                let result = hub.start_children(specs.collect(), options).wait();
                result.map(|result| format!("{} started", result.started.len())).unwrap_or_else(|e| e.to_string())
            }
            ("call", id) => {
                let command = MessageCommand {
                    child: ChildId::new(id).unwrap(),
                    message: Payload::bytes(&b"x"[..]),
                    recipient: Recipient::Active,
                    timeout: Duration::from_secs(2),
                    chain: Arc::new([]),
                };
                let reply = hub.call(command).wait();
                reply.map_or_else(|e| format!("error {e}"), |reply| String::from_utf8_lossy(&reply.data).into_owned())
            }
            ("partitioned", _) => hub.is_partitioned().to_string(),
            (other, _) => panic!("no such command: {other}"),
        };
        say(&format!("answer {answer}"));
    }
}

struct Node {
    process: Process,
    lines: Receiver<String>,
    /// What its children told and was not looked at.
    told: Mutex<Vec<String>>,
    address: String,
}

impl Node {
    fn start(name: &str, seed: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "node_of_another_process", "--ignored", "--nocapture"]).env(NODE, name);
        if let Some(seed) = seed {
            command.env(SEED, seed);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix('@') {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        let mut node = Self { process, lines, told: Mutex::default(), address: String::new() };
        node.address = node.wait_for("address ");
        node
    }

    fn wait_for(&self, start: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(start) {
                    Some(rest) => return rest.to_owned(),
                    None => self.told.lock().unwrap().push(line),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("no {start:?} in time"),
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.wait_for("answer ")
    }

    /// The node and the epoch that answer for a child; only by this node or another, as asked.
    fn call_until(&mut self, child: &str, is_right: impl Fn(&str, u64) -> bool) -> (String, u64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(&format!("call {child}"));
            if let Some((node, epoch)) = answer.split_once(' ')
                && let Ok(epoch) = epoch.parse()
                && is_right(node, epoch)
            {
                return (node.to_owned(), epoch);
            }
            assert!(Instant::now() < end, "{child}: {answer}");
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn told(&self) -> Vec<String> {
        let mut told = std::mem::take(&mut *self.told.lock().unwrap());
        told.extend(self.lines.try_iter());
        told
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_all() -> Vec<Node> {
    let first = Node::start("a", None);
    let seed = first.address.clone();
    let others = ["b", "c"].map(|name| Node::start(name, Some(&seed)));
    let mut nodes = vec![first];
    nodes.extend(others);
    assert_eq!(nodes[0].ask("start"), format!("{CHILDREN} started"));
    nodes
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The epochs of all children, and who runs them.
fn look(nodes: &mut [Node]) -> BTreeMap<String, (String, u64)> {
    (0..CHILDREN)
        .map(|n| {
            let id = format!("child-{n}");
            let found = nodes[0].call_until(&id, |_, _| true);
            (id, found)
        })
        .collect()
}

/// `b` stands still, the others take over, and what `b` ran handles nothing any more.
fn one_stop(nodes: &mut [Node], time: Duration) {
    let before = look(nodes);
    assert!(before.values().any(|(node, _)| node == "b"), "b runs something: {before:?}");
    // Its answer comes behind all that its children said before.
    nodes[1].ask("partitioned");
    nodes[1].told();
    nodes[1].signal("-STOP");
    let stopped = Instant::now();
    for (id, (_, epoch)) in before.iter().filter(|(_, (node, _))| node == "b") {
        let (_, taken) = nodes[0].call_until(id, |node, _| node != "b");
        assert!(taken > *epoch, "{id}: the epoch rises from {epoch}, not to {taken}");
    }
    std::thread::sleep(time.saturating_sub(stopped.elapsed()));
    // What it handled while the signal was on its way to its threads.
    nodes[1].told();
    nodes[1].signal("-CONT");
    let end = Instant::now() + PATIENCE;
    while nodes[1].ask("partitioned") != "false" {
        assert!(Instant::now() < end, "b has a quorum again");
    }
    // Until its children are back it is asked for them: whatever it handles has a higher epoch.
    for (id, (_, epoch)) in before.iter().filter(|(_, (node, _))| node == "b") {
        nodes[2].call_until(id, |node, now| node == "b" && now > *epoch);
    }
    for line in nodes[1].told() {
        if let Some((id, epoch)) = line.strip_prefix("handled ").and_then(|rest| rest.split_once(' ')) {
            let epoch: u64 = epoch.parse().unwrap();
            assert!(epoch > before[id].1, "{id} was handled at epoch {epoch} by the instance of {:?}", before[id]);
        }
    }
}

#[test]
fn r11_process_stands_still_then_its_children_run_elsewhere_and_the_old_ones_handle_nothing() {
    let rounds = number("PROCESS_HUB_STOP_ROUNDS", 2);
    let time = Duration::from_secs(number("PROCESS_HUB_STOP_SECONDS", 5));
    let mut nodes = start_all();
    for _ in 0..rounds {
        one_stop(&mut nodes, time);
    }
    let before = look(&mut nodes);
    // All of them at once, without a word.
    drop(nodes);
    let mut nodes = start_all();
    for (id, (_, epoch)) in look(&mut nodes) {
        assert!(epoch > before[&id].1, "{id}: the epoch rises over a restart of all");
    }
    for _ in 0..rounds {
        one_stop(&mut nodes, time);
    }
}
