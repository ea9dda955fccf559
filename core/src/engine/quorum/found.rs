//! The first configuration: made by so many unproven nodes that all see each other, and no proven one (R10).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Around, Out, Quorum};
use crate::ids::{NodeName, NodeRef};
use crate::time::Timestamp;
use crate::wire::{Configuration, Origin, QuorumMessage, QuorumSlot, Seat};

/// A first configuration that this node proposes, or has consented to.
#[derive(Debug, Default)]
pub(super) struct Founding {
    /// Ours, and who consented.
    proposed: Option<(Configuration, BTreeSet<NodeRef>)>,
    /// Another's, and who proposed it.
    consented: Option<(Origin, NodeRef, Seat)>,
    /// Until when either counts.
    until: Timestamp,
    /// When ours was sent last.
    sent_at: Timestamp,
}

/// Between two sends of a proposal.
const SEND_AGAIN: Duration = Duration::from_millis(150);

impl Founding {
    pub(super) fn next(&self) -> Timestamp {
        match (&self.proposed, &self.consented) {
            (Some(_), _) => self.until.min(self.sent_at + SEND_AGAIN),
            (None, Some(_)) => self.until,
            (None, None) => Timestamp::NEVER,
        }
    }
}

impl Quorum {
    /// Whether this node and all it sees are unproven, run nothing, and see each other.
    fn may_found(&self, around: &Around) -> bool {
        let is_ready = |node: &NodeRef| {
            self.beats.get(node).is_some_and(|beat| beat.config.is_none() && beat.is_idle && !beat.is_leaving)
        };
        around.agrees && around.is_idle && !around.is_leaving && around.members.iter().all(is_ready)
    }

    /// How many members it takes.
    fn founders_needed(&self) -> usize {
        let known = self.beats.values().map(|beat| beat.remains.quorum).chain([self.remains.quorum]).max();
        match known.unwrap_or(0) {
            0 => self.options.rule.founders(),
            quorum => quorum as usize,
        }
    }

    pub(super) fn found(&mut self, around: &Around, out: &mut Out) {
        if self.now >= self.founding.until {
            if self.founding.consented.is_some() {
                // It may have been decided without our hearing of it: this stay is over.
                self.unseat();
            }
            self.founding = Founding::default();
        }
        if self.founding.consented.is_some() {
            return;
        }
        let needed = self.founders_needed();
        // Alone, a node first looks for others.
        let is_early = needed <= 1 && self.now < self.gate;
        let is_first = around.members.first().is_none_or(|first| self.me < *first);
        if is_early || !is_first || around.members.len() + 1 < needed || !self.may_found(around) {
            self.founding = Founding::default();
            return;
        }
        let seats = self.seats_here(around);
        let is_same = self.founding.proposed.as_ref().is_some_and(|(config, _)| config.slots == seats);
        if !is_same {
            let term = self.term_seen + 1;
            self.term_seen = term;
            let before = self.beats.values().map(|beat| beat.remains.peak).chain([self.remains.peak]).max();
            let peak = self.options.rule.peak(seats.len(), before.unwrap_or(0));
            let origin = Origin { term, founder: self.me.incarnation };
            let config = Configuration { origin, version: 1, slots: seats, peak, seated: 1, revoked: 1 };
            let until = self.now + self.options.lease / 2;
            self.founding = Founding { proposed: Some((config, BTreeSet::new())), until, ..Founding::default() };
        }
        if !is_same || self.now >= self.founding.sent_at + SEND_AGAIN {
            self.founding.sent_at = self.now;
            if let Some((config, consents)) = &self.founding.proposed {
                for member in around.members.iter().filter(|member| !consents.contains(*member)) {
                    out.push((member.clone(), QuorumMessage::Found(config.clone())));
                }
            }
        }
        self.found_if_all(around, out);
    }

    fn found_if_all(&mut self, around: &Around, out: &mut Out) {
        let Some((config, consents)) = &self.founding.proposed else {
            return;
        };
        if consents.len() < around.members.len() || !around.members.is_superset(consents) {
            return;
        }
        let config = config.clone();
        for member in &around.members {
            out.push((member.clone(), QuorumMessage::Decided(config.clone())));
        }
        self.adopt(config);
    }

    pub(super) fn found_received(&mut self, from: &NodeRef, config: Configuration, around: &Around, out: &mut Out) {
        let Some(proposer) = config.slots.get(&from.name).and_then(|slot| slot.seat) else {
            return;
        };
        // Who proposes another one in the same stay has not decided on the one before, and never will.
        let consented = (config.origin, from.clone(), proposer);
        let before = self.founding.consented.as_ref();
        let is_bound = before.is_some_and(|(_, by, seat)| (by, *seat) != (from, proposer));
        let is_free = self.known.is_none() && self.founding.proposed.is_none() && !is_bound;
        if !is_free || !around.members.contains(from) || !self.may_found(around) {
            return;
        }
        if config.slots != self.seats_here(around) || config.slots.len() < self.founders_needed() {
            return;
        }
        out.push((from.clone(), QuorumMessage::FoundConsent(config.origin)));
        if self.founding.consented.as_ref() != Some(&consented) {
            let until = self.now + self.options.lease / 2;
            self.founding = Founding { consented: Some(consented), until, ..Founding::default() };
        }
    }

    pub(super) fn consent_received(&mut self, from: &NodeRef, origin: Origin, around: &Around, out: &mut Out) {
        if let Some((config, consents)) = &mut self.founding.proposed
            && config.origin == origin
            && config.slots.contains_key(&from.name)
        {
            consents.insert(from.clone());
            if self.may_found(around) {
                self.found_if_all(around, out);
            }
        }
    }

    /// A slot for everybody here.
    fn seats_here(&self, around: &Around) -> BTreeMap<NodeName, QuorumSlot> {
        let others = around.members.iter().map(|node| {
            let life = self.beats.get(node).map_or(0, |beat| beat.life);
            (node.name.clone(), Seat { incarnation: node.incarnation, life })
        });
        let seats = others.chain([(self.me.name.clone(), self.seat())]);
        seats.map(|(name, seat)| (name, QuorumSlot { seat: Some(seat), is_fenced: false })).collect()
    }
}
