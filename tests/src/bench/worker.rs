//! The Rust side: a process with one hub that obeys the bench.

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use process_hub::config::{HubConfig, Migration, NodeConfig};
use process_hub::engine::{MessageCommand, StartOptions};
use process_hub::error::Error;
use process_hub::host::call::HostFailure;
use process_hub::host::{Child, Context, kind_fn};
use process_hub::hub::Hub;
use process_hub::ids::{ChildId, NodeName};
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;
use serde_json::{Value, json};

use super::{KIND, PATIENCE, STATE, child_id};

/// Pause between two looks at the registry.
const POLL: Duration = Duration::from_millis(1);
/// Calls on their way at a time when every child is called.
const PIPELINE: usize = 64;

/// A child with a number for its state.
#[derive(Default)]
struct Worker {
    state: u64,
}

impl Child for Worker {
    fn handle(&mut self, _: &Context, message: Payload) -> Result<Payload, HostFailure> {
        if &message.data[..] == b"put" {
            self.state = STATE;
        }
        Ok(Payload::bytes(self.state.to_le_bytes().to_vec()))
    }

    fn prepare_handover_state(&mut self) -> Result<Option<Payload>, HostFailure> {
        Ok(Some(Payload::bytes(self.state.to_le_bytes().to_vec())))
    }

    fn alter_handover_state(&mut self, state: Payload) -> Result<(), HostFailure> {
        let bytes = state.data[..].try_into().map_err(|_| HostFailure::new("a state of another length"))?;
        self.state = u64::from_le_bytes(bytes);
        Ok(())
    }
}

/// Obeys until the input ends.
pub fn obey() {
    let mut node = Node { hub: None };
    println!("{{}}");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = serde_json::from_str(&line)
            .map_err(|error| error.to_string())
            .and_then(|order: Value| node.obey(&order))
            .unwrap_or_else(|error| json!({ "error": error }));
        let mut output = std::io::stdout().lock();
        if writeln!(output, "{answer}").and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

struct Node {
    hub: Option<Hub>,
}

impl Node {
    fn obey(&mut self, order: &Value) -> Result<Value, String> {
        let number = |key: &str| order[key].as_u64().and_then(|number| usize::try_from(number).ok());
        let count = number("count").unwrap_or(0);
        let rounds = number("rounds").unwrap_or(1);
        match order["op"].as_str().unwrap_or_default() {
            "open" => self.open(order).map_err(|error| error.to_string()),
            "rss" => Ok(json!({ "bytes": resident_bytes()? })),
            "members" => wait_until(|| Ok(self.hub()?.nodes(true).len() == count)).map(|()| json!({})),
            "warm_up" => warm_up(self.hub()?).map_err(|error| error.to_string()),
            "start" => start(self.hub()?, count),
            "stop" => stop(self.hub()?, count),
            "gone" => wait_until(|| Ok(self.hub()?.child_count() == 0)).map(|()| json!({})),
            "expect" => expect(self.hub()?, order),
            "put" => call_each(self.hub()?, count, b"put"),
            "states" => call_each(self.hub()?, count, b"get"),
            "lookup" => lookup(self.hub()?, count, rounds),
            "call" => call(self.hub()?, order["remote"] == true, count, rounds),
            "stream" => stream(self.hub()?, count, rounds),
            "close" => close(self.hub()?),
            other => Err(format!("there is no order `{other}`")),
        }
    }

    fn hub(&self) -> Result<&Hub, String> {
        self.hub.as_ref().ok_or_else(|| "no hub is open".into())
    }

    fn open(&mut self, order: &Value) -> Result<Value, Error> {
        let seeds = order["seeds"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let node = NodeConfig::default()
            .with_name(NodeName::new(order["name"].as_str().unwrap_or_default())?)
            .with_seeds(seeds);
        let config = HubConfig::new("bench")?.with_node(node);
        let config = config.with_migration(Migration::hot_swap().with_handover(true));
        let hub = Hub::builder(config).kind(KIND, kind_fn(true, || Box::new(Worker::default()))).start()?;
        let address = hub.address().to_owned();
        self.hub = Some(hub);
        Ok(json!({ "address": address }))
    }
}

fn warm_up(hub: &Hub) -> Result<Value, Error> {
    let id = format!("warm_up:{}", hub.node_name());
    let options = StartOptions { timeout: PATIENCE, ..StartOptions::default() };
    hub.start_child(ChildSpec::new(&id, KIND)?, options).wait()?;
    hub.stop_child(&ChildId::new(id)?, PATIENCE).wait()?;
    Ok(json!({}))
}

fn start(hub: &Hub, count: usize) -> Result<Value, String> {
    let specs: Result<Vec<ChildSpec>, Error> = (0..count).map(|index| ChildSpec::new(&child_id(index), KIND)).collect();
    let specs = specs.map_err(|error| error.to_string())?;
    let options = StartOptions { timeout: PATIENCE, ..StartOptions::default() };
    let before = Instant::now();
    let result = hub.start_children(specs, options).wait().map_err(|error| error.to_string())?;
    let us = micros(before.elapsed());
    match result.errors.first() {
        Some(error) => Err(format!("{} did not start: {}", error.id, error.message)),
        None => Ok(json!({ "us": us, "started": result.started.len() })),
    }
}

fn stop(hub: &Hub, count: usize) -> Result<Value, String> {
    let ids = (0..count).map(id).collect::<Result<Vec<_>, _>>()?;
    let before = Instant::now();
    let result = hub.stop_children(ids, PATIENCE).wait().map_err(|error| error.to_string())?;
    let us = micros(before.elapsed());
    match result.errors.first() {
        Some(error) => Err(format!("{} did not stop: {}", error.id, error.message)),
        None => Ok(json!({ "us": us, "stopped": result.stopped.len() })),
    }
}

/// Waits until each child runs on its owner and nowhere else. A child once seen there is not looked at again
/// until all are; then every one is looked at once more, which is the check whose time the answer tells.
fn expect(hub: &Hub, order: &Value) -> Result<Value, String> {
    let nodes: Vec<&str> = order["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let owners = order["owners"].as_str().unwrap_or_default().bytes();
    let mut expected = Vec::new();
    for (index, digit) in owners.enumerate() {
        let owner = nodes.get(usize::from(digit.wrapping_sub(b'0'))).ok_or("an owner that is no node")?;
        expected.push((child_id(index), *owner));
    }
    let is_there = |(id, owner): &(String, &str)| {
        let row = hub.child_lookup(id);
        row.is_some_and(|row| matches!(&row.instances[..], [one] if one.node.as_str() == *owner))
    };
    let mut left: VecDeque<_> = expected.iter().collect();
    let mut check = Duration::ZERO;
    wait_until(|| {
        while left.front().is_some_and(|child| is_there(child)) {
            left.pop_front();
        }
        if !left.is_empty() {
            return Ok(false);
        }
        let before = Instant::now();
        left.extend(expected.iter().filter(|child| !is_there(child)));
        check = before.elapsed();
        Ok(left.is_empty() && hub.child_count() == expected.len())
    })
    .map_err(|error| format!("{error}: {} of {} children are not where they belong", left.len(), expected.len()))?;
    Ok(json!({ "check_us": micros(check) }))
}

/// Calls every child, a few at a time; says how many answered with the state that `put` gives.
fn call_each(hub: &Hub, count: usize, message: &'static [u8]) -> Result<Value, String> {
    let mut waiting = VecDeque::new();
    let mut kept = 0;
    let mut take = |pending: process_hub::hub::Pending<Payload>| -> Result<(), String> {
        let reply = pending.wait().map_err(|error| error.to_string())?;
        kept += usize::from(reply.data[..] == STATE.to_le_bytes());
        Ok(())
    };
    for index in 0..count {
        if waiting.len() == PIPELINE {
            waiting.pop_front().map_or(Ok(()), &mut take)?;
        }
        waiting.push_back(hub.call(MessageCommand::new(id(index)?, Payload::bytes(message))));
    }
    waiting.into_iter().try_for_each(&mut take)?;
    Ok(json!({ "kept": kept }))
}

/// The mean time of a lookup of a random child.
fn lookup(hub: &Hub, count: usize, rounds: usize) -> Result<Value, String> {
    let ids: Vec<String> = (0..count).map(child_id).collect();
    let mut random = Random(1);
    let picks: Vec<&str> = (0..rounds).map(|_| ids[random.below(count)].as_str()).collect();
    let before = Instant::now();
    let found = picks.iter().filter(|id| hub.child_lookup(id).is_some()).count();
    let elapsed = before.elapsed();
    if found != rounds {
        return Err(format!("{} of {rounds} lookups found nothing", rounds - found));
    }
    Ok(json!({ "ns": elapsed.as_secs_f64() * 1e9 / rounds as f64 }))
}

/// The median time of a call, one after the other, to random children here or elsewhere.
fn call(hub: &Hub, is_remote: bool, count: usize, rounds: usize) -> Result<Value, String> {
    let ids = placed(hub, is_remote, count)?;
    let mut random = Random(1);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let command = MessageCommand::new(ids[random.below(ids.len())].clone(), Payload::bytes(&b"get"[..]));
        let before = Instant::now();
        hub.call(command).wait().map_err(|error| error.to_string())?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| micros(times[(times.len() - 1) * share / 100]);
    Ok(json!({ "p50_us": at(50), "p99_us": at(99) }))
}

/// The mean time of a call of a child of this node, with others on their way.
fn stream(hub: &Hub, count: usize, rounds: usize) -> Result<Value, String> {
    let ids = placed(hub, false, count)?;
    let mut random = Random(1);
    let mut waiting = VecDeque::new();
    let take =
        |pending: process_hub::hub::Pending<Payload>| pending.wait().map(drop).map_err(|error| error.to_string());
    let before = Instant::now();
    for _ in 0..rounds {
        if waiting.len() == PIPELINE {
            waiting.pop_front().map_or(Ok(()), take)?;
        }
        let id = ids[random.below(ids.len())].clone();
        waiting.push_back(hub.call(MessageCommand::new(id, Payload::bytes(&b"get"[..]))));
    }
    waiting.into_iter().try_for_each(take)?;
    Ok(json!({ "us": micros(before.elapsed()) / rounds as f64 }))
}

/// The children that run elsewhere, or here.
fn placed(hub: &Hub, is_remote: bool, count: usize) -> Result<Vec<ChildId>, String> {
    let own = hub.node_name().clone();
    let mut ids = Vec::new();
    for index in 0..count {
        let row = hub.child_lookup(&child_id(index)).ok_or_else(|| format!("{} has no row", child_id(index)))?;
        if row.instances.iter().any(|instance| (instance.node != own) == is_remote) {
            ids.push(id(index)?);
        }
    }
    if ids.is_empty() {
        return Err("no child to call".into());
    }
    Ok(ids)
}

fn close(hub: &Hub) -> Result<Value, String> {
    let before = Instant::now();
    let report = hub.stop(PATIENCE).map_err(|error| error.to_string())?;
    let left = report.restarted.len() + report.stopped.len() + report.failed.len();
    Ok(json!({ "us": micros(before.elapsed()), "moved": report.moved.len(), "not_moved": left }))
}

fn id(index: usize) -> Result<ChildId, String> {
    ChildId::new(child_id(index)).map_err(|error| error.to_string())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn wait_until(mut holds: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() >= until {
            return Err(format!("not true within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The resident memory of this process.
fn resident_bytes() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| "/proc/self/status without VmRSS".into())
}

/// Numbers that are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}
