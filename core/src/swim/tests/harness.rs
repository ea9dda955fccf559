//! Many nodes on virtual time, with links that lose packets, are cut, or break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::Profile;
use crate::ids::{Contact, Incarnation, NodeName, NodeRef};
use crate::swim::{Evidence, Swim, SwimEffect, SwimInput, SwimSetup};
use crate::time::Timestamp;

/// One process; a restart is another one.
pub(super) type Process = usize;

pub(super) struct Node {
    pub(super) swim: Swim,
    pub(super) contact: Contact,
    pub(super) is_running: bool,
    stalled_until: Timestamp,
    /// Nodes with another number get no packets through.
    side: u8,
    pub(super) sent_bytes: usize,
    /// How often its deadline came.
    pub(super) ticks: usize,
    up: BTreeMap<NodeName, NodeRef>,
}

enum Event {
    Input(SwimInput),
    Packet { from: Process, bytes: Bytes },
    Dial(Contact),
}

pub(super) struct Cluster {
    pub(super) now: Timestamp,
    pub(super) nodes: Vec<Node>,
    pub(super) log: Vec<(Timestamp, Process, SwimEffect)>,
    /// Packets lost, in thousandths.
    pub(super) loss_permille: u32,
    /// Every effect, for comparisons of whole runs.
    pub(super) trace: Option<Vec<String>>,
    pub(super) packets: Vec<Bytes>,
    /// Pairs that cannot reach each other.
    blocked: BTreeSet<(Process, Process)>,
    links: BTreeSet<(Process, Process)>,
    queue: BTreeMap<(Timestamp, u64), (Process, Event)>,
    next_number: u64,
    profile: Profile,
    rng: ChaCha8Rng,
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn contact(name: &str, incarnation: u64, address: &str) -> Contact {
    Contact {
        node: NodeRef { name: NodeName::new(name).expect("a valid name"), incarnation: Incarnation(incarnation) },
        address: address.to_owned(),
    }
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Timestamp(1_000_000),
            nodes: Vec::new(),
            log: Vec::new(),
            loss_permille: 0,
            trace: None,
            packets: Vec::new(),
            blocked: BTreeSet::new(),
            links: BTreeSet::new(),
            queue: BTreeMap::new(),
            next_number: 0,
            profile: Profile::lan(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// `count` nodes that know each other and are settled.
    pub(super) fn settled(count: usize, seed: u64) -> Self {
        Self::settled_with(count, seed, Profile::lan())
    }

    /// The same with these timers.
    pub(super) fn settled_with(count: usize, seed: u64, profile: Profile) -> Self {
        let mut cluster = Self { profile, ..Self::new(seed) };
        for index in 0..count {
            cluster.start(&format!("node-{index}"), 1000 + index as u64);
            if index > 0 {
                cluster.dial(index, 0);
            }
        }
        cluster.run_until(ms(20_000), Self::is_complete);
        cluster.run(ms(3000));
        cluster.assert_complete();
        cluster.log.clear();
        cluster
    }

    pub(super) fn start(&mut self, name: &str, incarnation: u64) -> Process {
        let address = format!("10.0.0.{}:7000", self.nodes.len());
        self.start_at(contact(name, incarnation, &address))
    }

    pub(super) fn start_at(&mut self, contact: Contact) -> Process {
        let setup = SwimSetup { contact: contact.clone(), profile: self.profile.clone(), seed: self.rng.random() };
        self.nodes.push(Node {
            swim: Swim::new(self.now, setup),
            contact,
            is_running: true,
            stalled_until: Timestamp(0),
            side: 0,
            sent_bytes: 0,
            ticks: 0,
            up: BTreeMap::new(),
        });
        self.nodes.len() - 1
    }

    /// Starts a process under the name and address of a stopped one.
    pub(super) fn restart(&mut self, old: Process, incarnation: u64) -> Process {
        let mut contact = self.nodes[old].contact.clone();
        contact.node.incarnation = Incarnation(incarnation);
        self.start_at(contact)
    }

    pub(super) fn dial(&mut self, from: Process, to: Process) {
        let contact = self.nodes[to].contact.clone();
        self.push(self.now, from, Event::Dial(contact));
    }

    /// The process ends and its peers are refused when they connect again.
    pub(super) fn crash_refused(&mut self, process: Process) {
        self.end(process, Some(true));
    }

    /// The process ends, its links break, and something answers at its address again.
    pub(super) fn crash_broken(&mut self, process: Process) {
        self.end(process, Some(false));
    }

    /// The process and its machine fall silent.
    pub(super) fn crash_silent(&mut self, process: Process) {
        self.end(process, None);
    }

    fn end(&mut self, process: Process, refused: Option<bool>) {
        self.nodes[process].is_running = false;
        let Some(refused) = refused else { return };
        for peer in self.peers(process) {
            self.break_link(process, peer, refused);
        }
    }

    pub(super) fn peers(&self, process: Process) -> Vec<Process> {
        (0..self.nodes.len()).filter(|peer| self.links.contains(&pair(process, *peer))).collect()
    }

    /// Breaks one link; the ends hear of it 20 ms later.
    pub(super) fn break_link(&mut self, a: Process, b: Process, refused: bool) {
        self.links.remove(&pair(a, b));
        for (end, other) in [(a, b), (b, a)] {
            let node = self.nodes[other].contact.node.clone();
            let input = SwimInput::LinkDown { node, refused };
            self.push(self.now + ms(20), end, Event::Input(input));
        }
    }

    /// From now on these two reach each other only through others.
    pub(super) fn block(&mut self, a: Process, b: Process) {
        self.blocked.insert(pair(a, b));
    }

    /// One end of a link begins anew, and the other end notices nothing.
    pub(super) fn renew_link_at(&mut self, process: Process, peer: Process) {
        let contact = self.nodes[peer].contact.clone();
        let node = contact.node.clone();
        let refused = false;
        self.input(process, SwimInput::LinkDown { node, refused });
        self.input(process, SwimInput::LinkUp(contact));
    }

    /// From now on only nodes of one side hear each other; links stay as they are.
    pub(super) fn cut(&mut self, is_other_side: impl Fn(Process) -> bool) {
        for (process, node) in self.nodes.iter_mut().enumerate() {
            node.side = u8::from(is_other_side(process));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut(|_| false);
    }

    pub(super) fn stall(&mut self, process: Process, duration: Duration) {
        self.nodes[process].stalled_until = self.now + duration;
    }

    pub(super) fn input(&mut self, process: Process, input: SwimInput) {
        let mut effects = Vec::new();
        let node = &mut self.nodes[process];
        node.swim.handle(self.now, input, &mut effects);
        for effect in effects {
            self.carry_out(process, effect);
        }
        let node = &self.nodes[process];
        let members: BTreeMap<NodeName, NodeRef> =
            node.swim.members().map(|contact| (contact.node.name.clone(), contact.node.clone())).collect();
        assert_eq!(members, node.up, "members() is what Up and Down said");
    }

    pub(super) fn run(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs until the condition holds, at most this long; returns how long it took.
    pub(super) fn run_until(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start + limit;
        loop {
            if condition(self) {
                return Some(self.now.since(start));
            }
            let tick = self.next_tick();
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = event.unwrap_or(Timestamp::NEVER).min(tick.0);
            if next > end {
                self.now = end;
                return None;
            }
            self.now = self.now.max(next);
            if event == Some(next) {
                self.step_event();
            } else {
                self.nodes[tick.1].ticks += 1;
                self.input(tick.1, SwimInput::Tick);
            }
        }
    }

    fn next_tick(&self) -> (Timestamp, Process) {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.is_running)
            .map(|(process, node)| (node.swim.next_deadline().max(node.stalled_until), process))
            .min()
            .unwrap_or((Timestamp::NEVER, 0))
    }

    fn step_event(&mut self) {
        let Some((_, (process, event))) = self.queue.pop_first() else {
            return;
        };
        if !self.nodes[process].is_running {
            return;
        }
        let stalled_until = self.nodes[process].stalled_until;
        if stalled_until > self.now {
            self.push(stalled_until, process, event);
            return;
        }
        match event {
            Event::Input(input) => self.input(process, input),
            Event::Packet { from, bytes } => {
                if self.links.contains(&pair(from, process)) && self.is_reachable(from, process) {
                    let from = self.nodes[from].contact.node.clone();
                    self.input(process, SwimInput::Packet { from, bytes });
                }
            }
            Event::Dial(contact) => self.connect(process, &contact),
        }
    }

    fn is_reachable(&self, a: Process, b: Process) -> bool {
        self.nodes[a].side == self.nodes[b].side && !self.blocked.contains(&pair(a, b))
    }

    fn connect(&mut self, from: Process, contact: &Contact) {
        let target = (0..self.nodes.len()).rev().find(|process| {
            let node = &self.nodes[*process];
            node.is_running && node.contact.address == contact.address
        });
        let Some(to) = target.filter(|to| self.is_reachable(from, *to)) else {
            return;
        };
        if from == to || !self.links.insert(pair(from, to)) {
            return;
        }
        for (end, other) in [(from, to), (to, from)] {
            let contact = self.nodes[other].contact.clone();
            self.push(self.now, end, Event::Input(SwimInput::LinkUp(contact)));
        }
    }

    fn carry_out(&mut self, process: Process, effect: SwimEffect) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {process} {effect:?}", self.now.0));
        }
        match &effect {
            SwimEffect::Packet { to, bytes } => {
                assert!(bytes.len() <= 60 << 10, "{} bytes", bytes.len());
                self.send(process, to, bytes.clone());
                return;
            }
            SwimEffect::Connect(contact) => {
                let delay = Duration::from_micros(self.rng.random_range(400..3000));
                self.push(self.now + delay, process, Event::Dial(contact.clone()));
                return;
            }
            SwimEffect::Disconnect(node) => {
                // What is on its way is lost.
                if let Some(peer) = self.process_of(node) {
                    self.break_link(process, peer, false);
                }
            }
            SwimEffect::Up(contact) => {
                let node = contact.node.clone();
                let old = self.nodes[process].up.insert(node.name.clone(), node);
                assert_eq!(old, None, "Up comes once, and after Down of the old one");
            }
            SwimEffect::Down(node, _) => {
                let old = self.nodes[process].up.remove(&node.name);
                assert_eq!(old.as_ref(), Some(node), "Down is for what was Up");
            }
            SwimEffect::Left => self.nodes[process].is_running = false,
            SwimEffect::Welcome | SwimEffect::NameTaken { .. } => {}
        }
        self.log.push((self.now, process, effect));
    }

    fn send(&mut self, from: Process, to: &NodeRef, bytes: Bytes) {
        self.nodes[from].sent_bytes += bytes.len();
        if self.packets.len() < 2000 {
            self.packets.push(bytes.clone());
        }
        let is_lost = self.rng.random_range(0..1000) < self.loss_permille;
        let Some(to) = self.process_of(to).filter(|_| !is_lost) else {
            return;
        };
        if self.links.contains(&pair(from, to)) {
            let delay = Duration::from_micros(self.rng.random_range(200..1500));
            self.push(self.now + delay, to, Event::Packet { from, bytes });
        }
    }

    fn process_of(&self, node: &NodeRef) -> Option<Process> {
        self.nodes.iter().position(|process| process.contact.node == *node)
    }

    fn push(&mut self, at: Timestamp, process: Process, event: Event) {
        self.queue.insert((at, self.next_number), (process, event));
        self.next_number += 1;
    }

    pub(super) fn sees(&self, process: Process, other: Process) -> bool {
        let node = &self.nodes[other].contact.node;
        self.nodes[process].up.get(&node.name) == Some(node)
    }

    /// Every running node sees every other running node, and nobody else.
    pub(super) fn is_complete(&self) -> bool {
        let running: Vec<Process> = (0..self.nodes.len()).filter(|process| self.nodes[*process].is_running).collect();
        running.iter().all(|a| {
            self.nodes[*a].up.len() + 1 == running.len() && running.iter().all(|b| a == b || self.sees(*a, *b))
        })
    }

    pub(super) fn assert_complete(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running) {
            let names: Vec<String> = node.up.values().map(NodeRef::to_string).collect();
            assert!(self.is_complete(), "{} sees only {names:?}", node.contact.node);
        }
    }

    /// Every Down that was told, with who told it.
    pub(super) fn downs(&self) -> Vec<(Process, NodeRef, Evidence)> {
        self.log
            .iter()
            .filter_map(|(_, process, effect)| match effect {
                SwimEffect::Down(node, evidence) => Some((*process, node.clone(), *evidence)),
                SwimEffect::Packet { .. }
                | SwimEffect::Connect(_)
                | SwimEffect::Disconnect(_)
                | SwimEffect::Up(_)
                | SwimEffect::Welcome
                | SwimEffect::NameTaken { .. }
                | SwimEffect::Left => None,
            })
            .collect()
    }

    pub(super) fn count(&self, wanted: impl Fn(Process, &SwimEffect) -> bool) -> usize {
        self.log.iter().filter(|(_, process, effect)| wanted(*process, effect)).count()
    }
}

fn pair(a: Process, b: Process) -> (Process, Process) {
    (a.min(b), a.max(b))
}
