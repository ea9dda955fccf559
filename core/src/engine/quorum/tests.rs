//! Whole clusters of the machine under random schedules: no two sides ever act, and after a heal everybody does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::ids::Incarnation;
use crate::strategy::QuorumRule;

const LEASE: Duration = Duration::from_millis(1500);

fn majority(initial: u32, track: bool) -> QuorumOptions {
    let rule = QuorumRule::Majority { initial_cluster_size: initial, track_max_size: track };
    QuorumOptions { rule, startup_confirm: false, lease: LEASE }
}

struct Node {
    me: NodeRef,
    quorum: Quorum,
    /// Parts per million.
    drift: i64,
    offset: u64,
    is_paused: bool,
    /// Runs children, or is not done with stopping them.
    stops_until: Option<u64>,
    is_leaving: bool,
}

impl Node {
    fn now(&self, real: u64) -> Timestamp {
        let real = i64::try_from(real).unwrap();
        Timestamp(self.offset + u64::try_from(real + real / 1_000_000 * self.drift).unwrap())
    }
}

/// A cluster on virtual time, in microseconds.
struct World {
    options: QuorumOptions,
    rng: ChaCha8Rng,
    real: u64,
    nodes: BTreeMap<usize, Node>,
    /// Links that are cut, one way.
    cut: BTreeSet<(usize, usize)>,
    /// What each node takes for its members; follows the links after a while.
    views: BTreeMap<usize, BTreeSet<usize>>,
    pending: VecDeque<(u64, usize, NodeRef, usize, QuorumMessage)>,
    incarnations: u64,
    names: usize,
}

impl World {
    fn new(options: QuorumOptions, names: usize, seed: u64) -> Self {
        let mut world = Self {
            options,
            rng: ChaCha8Rng::seed_from_u64(seed),
            real: 0,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            views: BTreeMap::new(),
            pending: VecDeque::new(),
            incarnations: 0,
            names,
        };
        for name in 0..names {
            world.start(name);
        }
        world
    }

    fn start(&mut self, name: usize) {
        self.incarnations += 1;
        let me = NodeRef {
            name: crate::ids::NodeName::new(format!("n{name}")).unwrap(),
            incarnation: Incarnation(self.incarnations),
        };
        let drift = self.rng.random_range(-10_000..=10_000);
        let offset = self.rng.random_range(0..1_000_000_000);
        let mut node = Node {
            quorum: Quorum::new(me.clone(), self.options, Timestamp(0), 0),
            me: me.clone(),
            drift,
            offset,
            is_paused: false,
            stops_until: None,
            is_leaving: false,
        };
        let now = node.now(self.real);
        node.quorum = Quorum::new(me, self.options, now, self.incarnations);
        self.nodes.insert(name, node);
        self.views.insert(name, BTreeSet::new());
        for view in self.views.values_mut() {
            view.remove(&name);
        }
    }

    fn stop(&mut self, name: usize) {
        self.nodes.remove(&name);
        self.views.remove(&name);
        for view in self.views.values_mut() {
            view.remove(&name);
        }
    }

    fn around(&self, name: usize) -> Around {
        let node = &self.nodes[&name];
        let view = &self.views[&name];
        let members: BTreeSet<NodeRef> =
            view.iter().filter_map(|other| Some(self.nodes.get(other)?.me.clone())).collect();
        let whole: BTreeSet<usize> = view.iter().copied().chain([name]).collect();
        let agrees = view.iter().all(|other| {
            let theirs = self.views.get(other).cloned().unwrap_or_default();
            theirs.into_iter().chain([*other]).collect::<BTreeSet<usize>>() == whole
        });
        Around {
            members,
            agrees,
            is_idle: node.stops_until.is_none(),
            is_leaving: node.is_leaving,
            dead: BTreeSet::new(),
            term: 1000 + self.real / 1_000_000,
        }
    }

    /// Views follow the links that work both ways.
    fn look(&mut self, name: usize) {
        let up: Vec<usize> = self.nodes.iter().filter(|(_, node)| !node.is_paused).map(|(name, _)| *name).collect();
        let view = up
            .into_iter()
            .filter(|other| {
                *other != name && !self.cut.contains(&(name, *other)) && !self.cut.contains(&(*other, name))
            })
            .collect();
        self.views.insert(name, view);
    }

    fn send(&mut self, from: usize, out: Out) {
        let sender = self.nodes[&from].me.clone();
        for (to, message) in out {
            let Some(index) = self.nodes.iter().find(|(_, node)| node.me == to).map(|(index, _)| *index) else {
                continue;
            };
            if self.cut.contains(&(from, index)) || self.rng.random_bool(0.02) {
                continue;
            }
            let delay = if self.rng.random_bool(0.05) { 400_000 } else { 3_000 };
            let at = self.real + self.rng.random_range(100..delay);
            let place = self.pending.partition_point(|(other, ..)| *other <= at);
            self.pending.insert(place, (at, from, sender.clone(), index, message));
        }
    }

    /// One turn of a node.
    fn turn(&mut self, name: usize, message: Option<(NodeRef, QuorumMessage)>) {
        if self.nodes.get(&name).is_none_or(|node| node.is_paused) {
            return;
        }
        let real = self.real;
        let around = self.around(name);
        let node = self.nodes.get_mut(&name).unwrap();
        let now = node.now(real);
        // As the engine does: without a lease what runs is stopped, before anything else counts.
        match node.stops_until {
            Some(u64::MAX) if !node.quorum.has_lease(now) => node.stops_until = Some(real + 50_000),
            Some(until) if until <= real => node.stops_until = None,
            Some(_) | None => {}
        }
        let around = Around { is_idle: node.stops_until.is_none(), ..around };
        let mut out = Out::new();
        if let Some((from, message)) = message {
            node.quorum.received(now, &from, message, &around, &mut out);
        }
        node.quorum.tick(now, &around, &mut out);
        node.quorum.flush(now, &mut out);
        if node.quorum.may_start(now, |member| around.members.contains(member)) {
            node.stops_until = Some(u64::MAX);
        }
        self.send(name, out);
        self.check();
    }

    /// Whoever may start something knows that nobody else runs anything.
    fn check(&self) {
        for (name, node) in self.nodes.iter().filter(|(_, node)| !node.is_paused) {
            let now = node.now(self.real);
            let around = self.around(*name);
            if !node.quorum.may_start(now, |member| around.members.contains(member)) {
                continue;
            }
            let config = &node.quorum.known.as_ref().unwrap().config;
            for (other, holder) in self.nodes.iter().filter(|(other, node)| *other != name && !node.is_paused) {
                let holds = holder.stops_until == Some(u64::MAX) && holder.quorum.has_lease(holder.now(self.real));
                assert!(
                    !holds || around.members.contains(&holder.me),
                    "at {} n{name} may start with {:?} while n{other} runs children: {config:?}\nand {:?}",
                    self.real,
                    around.members,
                    holder.quorum.known,
                );
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.real + u64::try_from(time.as_micros()).unwrap();
        while self.real < end {
            let next = self.pending.front().map_or(u64::MAX, |(at, ..)| *at).min(self.real + 10_000).min(end);
            self.real = next;
            while self.pending.front().is_some_and(|(at, ..)| *at <= next) {
                let (_, from, sender, to, message) = self.pending.pop_front().unwrap();
                if self.cut.contains(&(from, to)) {
                    continue;
                }
                self.turn(to, Some((sender, message)));
            }
            let names: Vec<usize> = self.nodes.keys().copied().collect();
            for name in names {
                let node = &self.nodes[&name];
                let due = node.quorum.next_due();
                if node.now(self.real) >= due {
                    self.turn(name, None);
                }
            }
        }
    }

    fn strike(&mut self) {
        let (left, right) = (self.rng.random_range(0..self.names), self.rng.random_range(0..self.names));
        match self.rng.random_range(0..12) {
            0..=2 => {
                self.cut.insert((left, right));
            }
            3 => {
                for other in 0..self.names {
                    self.cut.insert((left, other));
                    self.cut.insert((other, left));
                }
            }
            4..=5 => {
                self.cut.remove(&(left, right));
            }
            6 => self.cut.clear(),
            7 => {
                if let Some(node) = self.nodes.get_mut(&left) {
                    node.is_paused = !node.is_paused;
                }
            }
            8 => self.stop(left),
            9 => self.start(left),
            _ => {
                // Whoever looks, looks alone: views differ for a while.
                if self.nodes.contains_key(&left) {
                    self.look(left);
                }
            }
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
        for name in 0..self.names {
            match self.nodes.get_mut(&name) {
                Some(node) => node.is_paused = false,
                None => self.start(name),
            }
        }
        for name in 0..self.names {
            self.look(name);
        }
    }

    fn tell(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (name, node) in &self.nodes {
            let quorum = &node.quorum;
            let config = quorum.known.as_ref().map(|known| {
                let slots: Vec<String> = known
                    .config
                    .slots
                    .iter()
                    .map(|(name, slot)| format!("{name}:{:?}{}", slot.seat.map(|seat| seat.life), slot.is_fenced))
                    .collect();
                (known.id.origin, known.id.version, known.quorum, slots)
            });
            let now = node.now(self.real);
            let _ = writeln!(
                text,
                "\n n{name} {:?} life {} view {:?} stops {:?} lease {} gate {} cleared {:?} remains {:?} config {config:?} {:?}",
                node.me.incarnation,
                quorum.life,
                self.views[name],
                node.stops_until,
                quorum.has_lease(now),
                now >= quorum.gate,
                quorum.cleared,
                quorum.remains,
                quorum.agreement
            );
        }
        text
    }

    fn acting(&self) -> usize {
        let acts = |(name, node): &(&usize, &Node)| {
            let around = self.around(**name);
            node.quorum.may_start(node.now(self.real), |member| around.members.contains(member))
        };
        self.nodes.iter().filter(acts).count()
    }
}

fn one_run(options: QuorumOptions, names: usize, seed: u64) {
    let mut world = World::new(options, names, seed);
    world.heal();
    world.run(Duration::from_secs(6));
    assert_eq!(world.acting(), names, "after the bootstrap, seed {seed}");
    for _ in 0..40 {
        world.strike();
        let pause = world.rng.random_range(0..1200);
        world.run(Duration::from_millis(pause));
    }
    world.heal();
    world.run(Duration::from_secs(15));
    assert_eq!(world.acting(), names, "after the heal, seed {seed}: {}", world.tell());
}

fn static_of_five() -> QuorumOptions {
    QuorumOptions { rule: QuorumRule::Static { quorum_size: 3 }, startup_confirm: false, lease: LEASE }
}

#[test]
fn clearing_of_an_earlier_version_counted_for_the_next_then_it_is_begun_again() {
    one_run(majority(4, true), 5, 1_880_903_063_277_712_452);
}

#[test]
fn readmitted_node_starts_before_all_know_of_it_then_it_waits() {
    one_run(majority(3, true), 3, 17_059_977_496_480_009_579);
}

#[test]
fn founders_are_bound_to_different_proposals_for_ever_then_the_latest_of_a_proposer_counts() {
    one_run(static_of_five(), 5, 17_172_199_526_827_561_404);
    one_run(static_of_five(), 5, 13_563_006_320_977_246_638);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cluster_meets_any_faults_then_no_two_sides_act_and_all_do_after_the_heal(seed: u64, size in 0_usize..3) {
        // So many names that those outside a quorum cannot begin a cluster of their own (R10).
        let (names, initial) = [(3, 3), (4, 3), (5, 4)][size];
        one_run(majority(initial, true), names, seed);
    }

    /// More than half decide who counts, and a quorum is more than that.
    #[test]
    fn cluster_whose_quorum_is_nearly_all_meets_any_faults_then_no_two_sides_act(seed: u64) {
        let rule = QuorumRule::Static { quorum_size: 4 };
        one_run(QuorumOptions { rule, ..static_of_five() }, 5, seed);
    }

    #[test]
    fn cluster_of_a_fixed_size_meets_any_faults_then_no_two_sides_act(seed: u64) {
        one_run(static_of_five(), 5, seed);
    }
}
