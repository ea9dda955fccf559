//! Leases: what was granted to this node, and what it granted (R11).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::NodeRef;
use crate::time::Timestamp;
use crate::wire::{Configuration, Seat};

/// Beats that may still be granted.
const MAX_BEATS: usize = 32;

/// What the others granted to this node.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// The latest beats, when they were sent, and the term they told.
    sent: VecDeque<(u64, Timestamp, u64)>,
    granted: BTreeMap<NodeRef, (Timestamp, u64)>,
    pub(super) until: Timestamp,
    /// A term that a quorum knows this node may use.
    pub(super) term: u64,
}

impl Lease {
    pub(super) fn sent(&mut self, number: u64, at: Timestamp, term: u64) {
        if self.sent.len() >= MAX_BEATS {
            self.sent.pop_front();
        }
        self.sent.push_back((number, at, term));
    }

    pub(super) fn granted(&mut self, by: &NodeRef, number: u64) {
        if let Some((_, at, term)) = self.sent.iter().find(|(sent, ..)| *sent == number) {
            let known = self.granted.entry(by.clone()).or_default();
            *known = (*known).max((*at, *term));
        }
    }

    /// The lease lasts from the beat that a quorum has granted: this node grants itself whatever it sends.
    pub(super) fn renew(
        &mut self,
        others: impl Iterator<Item = NodeRef>,
        grants_self: bool,
        quorum: usize,
        lasts: Duration,
    ) {
        let own = grants_self.then_some((Timestamp::NEVER, self.sent.back().map_or(0, |(_, _, term)| *term)));
        let mut grants: Vec<(Timestamp, u64)> = others.filter_map(|node| self.granted.get(&node).copied()).collect();
        grants.extend(own);
        grants.sort_unstable_by(|left, right| right.cmp(left));
        match quorum.checked_sub(1).and_then(|last| grants.get(last)) {
            Some((at, _)) => {
                self.until = *at + lasts;
                self.term = grants.iter().take(quorum).map(|(_, term)| *term).min().unwrap_or(0).max(self.term);
            }
            None => self.end(),
        }
    }

    pub(super) const fn end(&mut self) {
        self.until = Timestamp(0);
    }

    /// Nothing that was granted counts any more.
    pub(super) fn forget(&mut self) {
        self.granted.clear();
        self.sent.clear();
        self.end();
    }
}

/// What this node granted to the others.
#[derive(Debug, Default)]
pub(super) struct Grants {
    asked: Vec<(NodeRef, u64, u64)>,
    latest: BTreeMap<(NodeRef, Seat), Timestamp>,
}

impl Grants {
    /// A node asked for a lease with this life and beat.
    pub(super) fn ask(&mut self, by: NodeRef, life: u64, number: u64) {
        self.asked.push((by, life, number));
    }

    pub(super) fn take_asked(&mut self) -> Vec<(NodeRef, u64, u64)> {
        std::mem::take(&mut self.asked)
    }

    pub(super) fn note(&mut self, to: &NodeRef, seat: Seat, at: Timestamp) {
        self.latest.insert((to.clone(), seat), at);
    }

    /// From when on nobody whom the configuration gives no right holds a lease by our grants.
    pub(super) fn clean_at(&self, config: &Configuration, wait: Duration) -> Timestamp {
        let others = self.latest.iter().filter(|((node, seat), _)| !config.entitles(&node.name, *seat));
        others.map(|(_, at)| *at + wait).max().unwrap_or_default()
    }

    /// Forgets what is over for long.
    pub(super) fn forget(&mut self, now: Timestamp, wait: Duration) {
        self.latest.retain(|_, at| *at + wait > now);
    }
}
