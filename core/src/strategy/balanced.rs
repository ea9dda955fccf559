//! Children where there is capacity, by the loads that the members report.
//!
//! The load that one node knows of another, others do not know: so a node is chosen once, by the hub that asks for a
//! start, and written into [`ChildSpec::mapping`]. From there on the placement is that of [`Guided`], the same for all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::{Rng, RngExt};

use super::distribution::{Candidate, Distribution, LoadOptions, Placements, ZONE_LABEL};
use super::guided::Guided;
use crate::config::Fallback;
use crate::ids::NodeRef;
use crate::spec::ChildSpec;

/// A load, a share of it, or a weight of one.
const WHOLE: u64 = 1000;
/// What a node has left at least, however much it has to do.
const LEAST_CAPACITY: u64 = 100;
/// So many calls that wait for the host are a full load of them.
const FULL_QUEUE: u64 = 1_000;
/// So many children are a full load of them.
const FULL_CHILDREN: u64 = 10_000;
/// One child, in the unit of credits.
const UNIT: u64 = 1 << 32;
/// Credits stay within so many children: a node that could not be given its share is not given all of it later.
const LONGEST_CREDIT: i64 = 16;
/// Sets of nodes of which the shares are remembered.
const MAX_ACCOUNTS: usize = 64;

/// Each start goes to the nodes with most capacity left, relative to what they were given before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadBalanced {
    /// How many measured loads a member's score is made of.
    pub max_history_size: usize,
    /// What each of them counts relative to the one after it, in thousandths.
    pub weight_decay: u32,
    /// How often each member measures its load and tells the others.
    pub push_interval: Duration,
    /// Whether a node that joins is given its share of the children that run already.
    pub nodeup_redistribution: bool,
}

impl Distribution for LoadBalanced {
    fn name(&self) -> &'static str {
        "load_balanced"
    }

    fn place(&self, candidates: &[Candidate<'_>], children: &[&ChildSpec], factor: usize, placements: &mut Placements) {
        Guided { fallback: Fallback::ConsistentHashing }.place(candidates, children, factor, placements);
    }

    fn is_assigned(&self) -> bool {
        true
    }

    fn load_options(&self) -> Option<LoadOptions> {
        let Self { max_history_size, weight_decay, push_interval, nodeup_redistribution } = *self;
        Some(LoadOptions { max_history_size, weight_decay, push_interval, nodeup_redistribution })
    }

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        let ms = |time: Duration| time.as_millis().to_string();
        vec![
            ("max_history_size", self.max_history_size.to_string()),
            ("weight_decay_factor", format!("{}/1000", self.weight_decay)),
            ("push_interval_ms", ms(self.push_interval)),
            ("nodeup_redistribution", self.nodeup_redistribution.to_string()),
        ]
    }
}

/// What is measured of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadSample {
    /// The CPU time it used since the last sample, in thousandths of what the cores have that it may use.
    pub cpu: u16,
    /// How many calls wait for the host.
    pub waiting: u32,
}

impl LoadSample {
    /// The load, in thousandths: half of it is CPU, three tenths the calls that wait (of 1,000), two tenths the children
    /// here (of 10,000). Each part counts as full at most.
    #[must_use]
    pub fn score(self, children: u64) -> u16 {
        let full = |part: u64| part.min(WHOLE);
        let children = full(children.saturating_mul(WHOLE) / FULL_CHILDREN);
        let waiting = full(u64::from(self.waiting) * WHOLE / FULL_QUEUE);
        let sum = 5 * full(self.cpu.into()) + 3 * waiting + 2 * children;
        u16::try_from(sum / 10).unwrap_or(u16::MAX)
    }
}

/// The latest scores of this node, and their weighted mean: what the others are told. It is the node itself that
/// remembers, so that a lost message loses nothing of it and a newcomer is told all there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The latest first.
    scores: VecDeque<u16>,
}

impl History {
    pub(crate) fn push(&mut self, score: u16, options: &LoadOptions) {
        self.scores.push_front(score);
        self.scores.truncate(options.max_history_size.max(1));
    }

    /// The mean of the scores, each weighted `weight_decay` times the one that came after it.
    pub(crate) fn mean(&self, options: &LoadOptions) -> u16 {
        let (mut weight, mut sum, mut weights) = (UNIT, 0u64, 0u64);
        for score in &self.scores {
            sum += weight * u64::from(*score);
            weights += weight;
            weight = weight * u64::from(options.weight_decay) / WHOLE;
        }
        u16::try_from(sum.checked_div(weights).unwrap_or(0)).unwrap_or(u16::MAX)
    }
}

/// A factor from 0 to 1 in thousandths.
pub(crate) fn thousandths(factor: f64) -> u32 {
    (factor.clamp(0.0, 1.0) * WHOLE as f64).round() as u32
}

/// What a node may be given, relative to others: its weight, of which the load leaves at least a tenth.
pub(crate) fn capacity(candidate: &Candidate<'_>, load: u16) -> u64 {
    let left = WHOLE.saturating_sub(load.into()).max(LEAST_CAPACITY);
    u64::from(candidate.weight) * left
}

/// Who was given how much of what: of the nodes that can run a child, each gets credit for its share of it, and the
/// one with most credit gets the child and pays for it.
///
/// A credit never falls to -1 child: whoever gets one had the most, and the credits of a set never sum below zero. So
/// of the children that a hub starts on the same nodes, whatever the loads are meanwhile, a node gets less than its
/// share, and its share of one more child, and 1. The hubs keep their accounts by themselves; what one node gets of
/// them all exceeds its share by less than two children a hub.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    credits: BTreeMap<Vec<NodeRef>, Vec<i64>>,
}

impl Accounts {
    /// Up to `factor` nodes for a child, as indices into `candidates`: of as many zones as there are. `capacities` are
    /// those of the candidates.
    pub(crate) fn choose(
        &mut self,
        candidates: &[Candidate<'_>],
        capacities: &[u64],
        child: &ChildSpec,
        factor: usize,
        random: &mut dyn Rng,
    ) -> Vec<usize> {
        let able: Vec<usize> = (0..candidates.len()).filter(|at| candidates[*at].qualifies(child)).collect();
        let nodes: Vec<NodeRef> = able.iter().map(|at| candidates[*at].node.clone()).collect();
        if self.credits.len() >= MAX_ACCOUNTS && !self.credits.contains_key(&nodes) {
            self.credits.clear();
        }
        let capacities: Vec<u64> = able.iter().map(|at| capacities[*at]).collect();
        let credits = self.credits.entry(nodes).or_insert_with(|| first_credits(&capacities, random));
        let zone = |place: usize| candidates[able[place]].labels.get(ZONE_LABEL);
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < factor.min(able.len()) {
            let used = |place: usize| chosen.iter().filter(|other| zone(**other) == zone(place)).count();
            let free: Vec<usize> = (0..able.len()).filter(|place| !chosen.contains(place)).collect();
            let least = free.iter().map(|place| used(*place)).min().unwrap_or(0);
            let free: Vec<usize> = free.into_iter().filter(|place| used(*place) == least).collect();
            let Some(place) = pick(credits, &capacities, &free) else {
                break;
            };
            chosen.push(place);
        }
        chosen.into_iter().map(|place| able[place]).collect()
    }
}

/// The shares that these capacities have of one child.
fn shares(capacities: impl Iterator<Item = u64> + Clone) -> impl Iterator<Item = i64> {
    let total: u128 = capacities.clone().map(u128::from).sum();
    let share = move |capacity: u64| (u128::from(capacity) * u128::from(UNIT)).checked_div(total).unwrap_or(0);
    capacities.map(move |capacity| i64::try_from(share(capacity)).unwrap_or(0))
}

/// A part of a share each, at random: hubs that start one child each do not all take the same node.
fn first_credits(capacities: &[u64], random: &mut dyn Rng) -> Vec<i64> {
    let part = |share: i64| share / 1024 * i64::from(random.random_range(0..1024u16));
    shares(capacities.iter().copied()).map(part).collect()
}

/// Gives the places that are free credit for their shares of a child, and takes it from the one that has most.
fn pick(credits: &mut [i64], capacities: &[u64], free: &[usize]) -> Option<usize> {
    let mut given = 0;
    for (place, share) in free.iter().zip(shares(free.iter().map(|place| capacities[*place]))) {
        credits[*place] += share;
        given += share;
    }
    let first = free.iter().copied().max_by_key(|place| (credits[*place], std::cmp::Reverse(*place)))?;
    credits[first] -= given;
    let longest = LONGEST_CREDIT << 32;
    for credit in credits {
        *credit = (*credit).clamp(-longest, longest);
    }
    Some(first)
}

#[cfg(test)]
mod tests;
