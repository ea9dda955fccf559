//! Loads, and children whose nodes were chosen once and are others now.
//!
//! A child that was mapped to nodes of which one is gone runs where hashing says in its place. Its node writes that down,
//! so that a node that comes back pulls nothing back. Where the option says so, a newcomer is given its share of what
//! the others run. Only the node that *is* the child maps it anew, in a settled view: whoever knows that mapping knows
//! of the instance too, and starts no other.

use std::collections::{BTreeMap, BTreeSet};

use super::children::Slot;
use super::registry::Entry;
use super::{Engine, TimerKey};
use crate::ids::{NodeName, NodeRef};
use crate::strategy::{History, LoadSample, ZONE_LABEL, capacity};

/// What this node tells of its load, and which children it gives to newcomers.
#[derive(Debug, Default)]
pub(super) struct Balance {
    history: History,
    pub(super) load: u16,
    /// Readers have not seen all loads.
    pub(super) is_changed: bool,
    /// Mappings were written that nobody was told of.
    has_remapped: bool,
    /// Members that came, and have not been given anything.
    newcomers: BTreeSet<NodeRef>,
    /// How many children each of them is given still.
    gives: BTreeMap<NodeRef, u64>,
}

impl Engine {
    pub(super) fn arm_load(&mut self) {
        if let Some(options) = self.strategies.distribution.load_options() {
            self.timers.arm(TimerKey::Load, self.now + options.push_interval);
        }
    }

    pub(super) fn measure_load(&mut self) {
        self.effects.push(super::Effect::MeasureLoad);
        self.arm_load();
    }

    /// The others are told at once, if it is news.
    pub(super) fn load_measured(&mut self, sample: LoadSample) {
        let Some(options) = self.strategies.distribution.load_options() else {
            return;
        };
        let score = sample.score(self.children.local_count() as u64);
        self.balance.history.push(score, &options);
        let load = self.balance.history.mean(&options);
        if load != self.balance.load {
            self.balance.load = load;
            self.balance.is_changed = true;
            self.send_status_to_all();
        }
    }

    /// The load of a member, in thousandths. One that told none has none.
    pub(super) fn load_of(&self, node: &NodeRef) -> u16 {
        if *node == self.me {
            return self.balance.load;
        }
        let status = self.membership.peers.get(node).and_then(|peer| peer.status.as_ref());
        status.map_or(0, |status| status.load)
    }

    /// The loads of all members, where the distribution goes by them.
    pub(super) fn loads(&self) -> BTreeMap<NodeName, u16> {
        if self.strategies.distribution.load_options().is_none() {
            return BTreeMap::new();
        }
        self.membership.view.members.keys().map(|node| (node.name.clone(), self.load_of(node))).collect()
    }

    /// The members are others.
    pub(super) fn note_newcomers(&mut self, removed: &[NodeRef], added: &[NodeRef]) {
        let options = self.strategies.distribution.load_options();
        if !options.is_some_and(|options| options.nodeup_redistribution) {
            return;
        }
        let unfinished = std::mem::take(&mut self.balance.gives).into_keys();
        self.balance.newcomers.extend(unfinished.chain(added.iter().cloned()));
        self.balance.newcomers.retain(|node| !removed.contains(node));
    }

    /// Decides how many children this node gives to those that came: of what it has above its own share, the part that
    /// makes up for what they lack. All that have too much decide alike, as far as they know the same.
    pub(super) fn plan_redistribution(&mut self) {
        let newcomers = std::mem::take(&mut self.balance.newcomers);
        if newcomers.is_empty() {
            return;
        }
        let candidates = self.membership.view.candidates();
        let places: BTreeMap<&NodeName, usize> =
            candidates.iter().enumerate().map(|(at, candidate)| (&candidate.node.name, at)).collect();
        let mut counts = vec![0u64; candidates.len()];
        for (_, record) in self.children.iter() {
            let first = record.entry.mapping().and_then(<[NodeName]>::first);
            if let Some(at) = first.and_then(|name| places.get(name)) {
                counts[*at] += 1;
            }
        }
        let capacities: Vec<u64> = candidates.iter().map(|one| capacity(one, self.load_of(one.node))).collect();
        let (all, total): (u64, u64) = (counts.iter().sum(), capacities.iter().sum());
        let share = |at: usize| {
            let share = u128::from(all) * u128::from(capacities[at]) / u128::from(total.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let surplus = |at: usize| counts[at].saturating_sub(share(at));
        let surpluses: u64 = (0..candidates.len()).map(surplus).sum();
        let Some(me) = candidates.iter().position(|one| *one.node == self.me).filter(|_| surpluses > 0) else {
            return;
        };
        let before: u64 = (0..me).map(surplus).sum();
        let mut gives = BTreeMap::new();
        for (at, candidate) in candidates.iter().enumerate().filter(|(_, one)| newcomers.contains(one.node)) {
            let lacks = share(at).saturating_sub(counts[at]);
            // Rounded over all that give, so that their parts sum up.
            let part = |surplus: u64| surplus.saturating_mul(lacks) / surpluses;
            let given = part(before + surplus(me)) - part(before);
            if given > 0 {
                gives.insert(candidate.node.clone(), given);
            }
        }
        self.balance.gives = gives;
    }

    /// A newcomer has to know of the mapping before it is asked to take the child.
    pub(super) fn tell_mappings(&mut self) {
        if std::mem::take(&mut self.balance.has_remapped) {
            self.send_log();
        }
    }

    /// Every child was looked at.
    pub(super) fn end_redistribution(&mut self) {
        self.balance.gives.clear();
    }

    /// Where a child that runs here, as its placement says, is to be mapped, and the newcomer it goes to; `None` if it is
    /// mapped well.
    pub(super) fn better_mapping(&self, entry: &Entry) -> Option<(Vec<NodeName>, Option<NodeRef>)> {
        if !self.strategies.distribution.is_assigned() || !self.membership.is_settled {
            return None;
        }
        let mapping = entry.mapping()?;
        let others = entry.others.iter().flat_map(|others| others.iter());
        let placement: Vec<&NodeRef> = entry.owner.iter().chain(others).collect();
        if !mapping.iter().all(|name| placement.iter().any(|node| node.name == *name)) {
            return Some((placement.into_iter().map(|node| node.name.clone()).collect(), None));
        }
        let others = placement.get(1..).unwrap_or_default();
        let (to, _) = self.balance.gives.iter().find(|(to, left)| **left > 0 && self.may_take(entry, to, others))?;
        let nodes = std::iter::once(to).chain(others.iter().copied());
        Some((nodes.map(|node| node.name.clone()).collect(), Some(to.clone())))
    }

    /// Whether a child that runs here may go to a node, with its replicas in as many zones as before.
    fn may_take(&self, entry: &Entry, to: &NodeRef, others: &[&NodeRef]) -> bool {
        let spec = entry.wanted.as_ref().and_then(|wanted| wanted.spec.as_ref());
        let (Some(spec), Some(candidate)) = (spec, self.membership.view.candidate(to)) else {
            return false;
        };
        let zone = |node: &NodeRef| {
            let member = self.membership.view.members.get(node);
            member.and_then(|member| member.info.labels.get(ZONE_LABEL))
        };
        let is_shared = |node: &NodeRef| others.iter().any(|other| zone(other) == zone(node));
        candidate.qualifies(spec) && !others.contains(&to) && (!is_shared(to) || is_shared(&self.me))
    }

    /// Maps a child of this node anew, and lets it move if that is to another node.
    pub(super) fn remap(&mut self, child: Slot, mapping: Vec<NodeName>, to: Option<NodeRef>) {
        self.write_mapping(child, mapping);
        if let Some(to) = to {
            if let Some(left) = self.balance.gives.get_mut(&to) {
                *left -= 1;
            }
            self.serve(&to);
        }
        self.balance.has_remapped = true;
    }
}
