//! How the next configuration is decided: Paxos, one instance per version, among the seated of the version before.
//!
//! Who forgets what it promised is seated no longer, so no memory is kept beyond one instance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Around, Out, Quorum};
use crate::ids::{NodeName, NodeRef};
use crate::time::Timestamp;
use crate::wire::{Ballot, ConfigId, Configuration, QuorumMessage, Seat};

/// A try that has not ended by then is begun again.
const TRY_AGAIN: Duration = Duration::from_millis(300);
/// Whoever stands behind others in the order of names waits so long for each of them.
const STAGGER: Duration = Duration::from_millis(400);
/// After so many tries nobody is waited for who does not answer.
const PATIENT_TRIES: u32 = 2;

/// What a seated node promised and accepted for the next version, and what it tries itself.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    promised: Ballot,
    accepted: Option<(Ballot, Configuration)>,
    proposal: Option<Proposal>,
    /// The highest round heard of.
    round: u64,
    /// Since when a change is due.
    due_since: Option<Timestamp>,
    again_at: Timestamp,
    tries: u32,
}

#[derive(Debug)]
struct Proposal {
    ballot: Ballot,
    value: Configuration,
    promises: BTreeMap<NodeRef, Option<(Ballot, Configuration)>>,
    /// Once enough have promised.
    accepted: Option<BTreeSet<NodeRef>>,
}

impl Agreement {
    /// For another version.
    pub(super) fn next_instance(&self) -> Self {
        Self { round: self.round, ..Self::default() }
    }

    pub(super) fn next(&self) -> Timestamp {
        if self.due_since.is_some() { self.again_at } else { Timestamp::NEVER }
    }

    /// Whether this node consented to take the right to a lease from somebody.
    pub(super) fn revokes(&self, name: &NodeName, seat: Seat) -> bool {
        self.accepted.as_ref().is_some_and(|(_, config)| !config.entitles(name, seat))
    }
}

impl Quorum {
    /// Changes the configuration where it has to be.
    pub(super) fn coordinate(&mut self, around: &Around, out: &mut Out) {
        let Some(next) = self.next_step(around).or_else(|| self.unfinished()) else {
            self.agreement.due_since = None;
            self.agreement.proposal = None;
            return;
        };
        let now = self.now;
        if self.agreement.due_since.is_none() {
            self.agreement.due_since = Some(now);
            let wait = if self.reset.is_some() { Duration::ZERO } else { STAGGER * self.rank(around) };
            self.agreement.again_at = now + wait;
        }
        if now < self.agreement.again_at {
            return;
        }
        self.agreement.again_at = now + TRY_AGAIN + STAGGER * self.rank(around);
        self.ask(next, around, out);
    }

    /// Something was accepted and not decided: it holds up grants until the next version, which may change nothing.
    fn unfinished(&self) -> Option<Configuration> {
        self.agreement.accepted.as_ref()?;
        let mut next = self.known.as_ref()?.config.clone();
        next.version += 1;
        Some(next)
    }

    /// How many of the seated that are here come before this node.
    fn rank(&self, around: &Around) -> u32 {
        let before = around.members.iter().filter(|node| {
            let is_seated = self.known.as_ref().is_some_and(|known| known.config.slots.contains_key(&node.name));
            is_seated && node.name < self.me.name && self.beats.get(*node).is_some_and(|beat| beat.config.is_some())
        });
        u32::try_from(before.count()).unwrap_or(u32::MAX).min(16)
    }

    /// The others that are seated in the present version and are here.
    fn voters(&self, around: &Around) -> Vec<NodeRef> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let seated = known.config.seated();
        let nodes = seated.map(|(name, seat)| NodeRef { name: name.clone(), incarnation: seat.incarnation });
        nodes.filter(|node| around.members.contains(node)).collect()
    }

    fn is_voter(&self, node: &NodeRef) -> bool {
        self.known.as_ref().is_some_and(|known| {
            known.config.seated().any(|(name, seat)| *name == node.name && seat.incarnation == node.incarnation)
        })
    }

    fn ask(&mut self, value: Configuration, around: &Around, out: &mut Out) {
        let Some(id) = self.known.as_ref().map(|known| known.id) else {
            return;
        };
        self.agreement.round += 1;
        self.agreement.tries += 1;
        let ballot = Ballot { round: self.agreement.round, proposer: self.me.incarnation };
        let own = self.agreement.accepted.clone();
        self.agreement.promised = ballot;
        let promises = BTreeMap::from([(self.me.clone(), own)]);
        self.agreement.proposal = Some(Proposal { ballot, value, promises, accepted: None });
        for voter in self.voters(around) {
            out.push((voter, QuorumMessage::Ask(id, ballot)));
        }
        self.propose_if_promised(around, out);
    }

    pub(super) fn asked(&mut self, from: &NodeRef, id: ConfigId, ballot: Ballot, out: &mut Out) {
        if !self.is_at(id) || !self.is_voter(from) {
            return;
        }
        self.agreement.round = self.agreement.round.max(ballot.round);
        let answer = if ballot > self.agreement.promised {
            self.agreement.promised = ballot;
            QuorumMessage::Promise(id, ballot, self.agreement.accepted.clone())
        } else {
            QuorumMessage::Nack(id, self.agreement.promised)
        };
        out.push((from.clone(), answer));
    }

    pub(super) fn promised(
        &mut self,
        from: &NodeRef,
        id: ConfigId,
        ballot: Ballot,
        accepted: Option<(Ballot, Configuration)>,
        around: &Around,
        out: &mut Out,
    ) {
        if !self.is_at(id) || !self.is_voter(from) {
            return;
        }
        if let Some(proposal) = self.agreement.proposal.as_mut().filter(|proposal| proposal.ballot == ballot) {
            proposal.promises.insert(from.clone(), accepted);
            self.propose_if_promised(around, out);
        }
    }

    fn propose_if_promised(&mut self, around: &Around, out: &mut Out) {
        let Some(known) = &self.known else {
            return;
        };
        let (id, needed, seats) = (known.id, known.consent, known.config.seated().count());
        let voters = self.voters(around);
        let is_patient = self.agreement.tries <= PATIENT_TRIES;
        let Some(proposal) = self.agreement.proposal.as_mut().filter(|proposal| proposal.accepted.is_none()) else {
            return;
        };
        let promises = &proposal.promises;
        let earlier = promises.values().flatten().max_by_key(|(ballot, _)| *ballot).map(|(_, config)| config.clone());
        let is_awaited = earlier.is_some() && is_patient && !voters.iter().all(|voter| promises.contains_key(voter));
        if promises.len() < needed || is_awaited {
            return;
        }
        // What was accepted before may be decided, unless too few can have accepted it.
        let carried = earlier.filter(|config| {
            let accepted = promises.values().flatten().filter(|(_, other)| other == config).count();
            accepted + seats.saturating_sub(promises.len()) >= needed
        });
        let is_carried = carried.is_some();
        if let Some(config) = carried {
            proposal.value = config;
        }
        proposal.accepted = Some(BTreeSet::new());
        let (ballot, config) = (proposal.ballot, proposal.value.clone());
        for voter in voters {
            let config = config.clone();
            out.push((voter, QuorumMessage::Accept { id, ballot, config, is_carried }));
        }
        let me = self.me.clone();
        if let Some(QuorumMessage::Accepted(..)) = self.accept(&me, id, ballot, config, is_carried, around) {
            self.accepted(&me, id, ballot, around, out);
        }
    }

    /// Accepts what is proposed, or says why not.
    pub(super) fn accept(
        &mut self,
        from: &NodeRef,
        id: ConfigId,
        ballot: Ballot,
        config: Configuration,
        is_carried: bool,
        around: &Around,
    ) -> Option<QuorumMessage> {
        let is_voter = self.is_voter(from);
        let known = self.known.as_ref().filter(|known| known.id == id && is_voter)?;
        let is_next = config.version == known.config.version + 1 && config.origin == known.config.origin;
        if !is_next || (!is_carried && self.takes_from_present(&known.config, &config, around)) {
            return None;
        }
        if ballot < self.agreement.promised {
            return Some(QuorumMessage::Nack(id, self.agreement.promised));
        }
        self.agreement.promised = ballot;
        self.agreement.accepted = Some((ballot, config));
        self.renew();
        Some(QuorumMessage::Accepted(id, ballot))
    }

    fn is_at(&self, id: ConfigId) -> bool {
        self.known.as_ref().is_some_and(|known| known.id == id)
    }

    /// Whether a change takes the right to a lease from a member that is here and wants to stay (R11).
    fn takes_from_present(&self, present: &Configuration, next: &Configuration, around: &Around) -> bool {
        present.entitled().filter(|(name, seat)| !next.entitles(name, *seat)).any(|(name, seat)| {
            if *name == self.me.name {
                return seat == self.seat() && !around.is_leaving;
            }
            around.member(name).is_some_and(|node| {
                self.beats.get(node).is_some_and(|beat| beat.seat(node) == seat && !beat.is_leaving)
            })
        })
    }

    pub(super) fn accepted(&mut self, from: &NodeRef, id: ConfigId, ballot: Ballot, around: &Around, out: &mut Out) {
        let Some(needed) = self.known.as_ref().filter(|known| known.id == id).map(|known| known.consent) else {
            return;
        };
        if !self.is_voter(from) {
            return;
        }
        let Some(proposal) = self.agreement.proposal.as_mut().filter(|proposal| proposal.ballot == ballot) else {
            return;
        };
        let Some(accepted) = proposal.accepted.as_mut() else {
            return;
        };
        accepted.insert(from.clone());
        if accepted.len() < needed {
            return;
        }
        let config = proposal.value.clone();
        for member in &around.members {
            out.push((member.clone(), QuorumMessage::Decided(config.clone())));
        }
        self.decided(&self.me.clone(), config, out);
    }

    pub(super) fn refused(&mut self, id: ConfigId, ballot: Ballot) {
        if self.is_at(id) {
            self.agreement.round = self.agreement.round.max(ballot.round);
            self.agreement.proposal = None;
        }
    }
}
