//! Who may act under a quorum strategy (R10, R11): a pure machine beside the engine.
//!
//! A **configuration** names the members that count. Each version is decided by a quorum of the one before, as in
//! Paxos: `agree` decides, `plan` says what is to be changed, `found` makes the first version. A node that does not
//! know a configuration in which it has a *seat* is unproven: it consents to nothing, and a node that forgot what it
//! agreed to takes a new seat. Nothing is kept on disk.
//!
//! A node may run children while it holds a **lease**: a quorum of the seated has granted it one of its latest
//! beats, at the very version it acts on (`lease`). A configuration that fences a member takes that right away;
//! nobody who knows it grants by an earlier one. So a node may start what another had once the configuration that
//! fences the other is **cleared**: a quorum says that no grant of theirs to somebody without the right is younger
//! than a lease lasts, and nobody took a seat for as long. ARCHITECTURE.md tells why this is enough.

mod agree;
mod found;
mod lease;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{NodeName, NodeRef};
use crate::strategy::QuorumOptions;
use crate::time::Timestamp;
use crate::wire::{Beat, ConfigId, Configuration, QuorumMessage, Remains, Seat};

use agree::Agreement;
use found::Founding;
use lease::{Grants, Lease};

/// A term that is further ahead than this, in seconds, is somebody's wrong clock (R4).
const MAX_TERM_AHEAD: u64 = 24 * 3600;
/// Beats within the time of one lease.
const BEATS_PER_LEASE: u32 = 5;

/// What the machine has to know of the hub around it.
#[derive(Debug)]
pub(super) struct Around {
    /// The other members of the view.
    pub(super) members: BTreeSet<NodeRef>,
    /// They all act on the same view.
    pub(super) agrees: bool,
    /// No instance is here.
    pub(super) is_idle: bool,
    /// The hub ends, and gives up its slot.
    pub(super) is_leaving: bool,
    /// Members that are certainly gone.
    pub(super) dead: BTreeSet<NodeRef>,
    /// The highest term the hub may use.
    pub(super) term: u64,
}

impl Around {
    /// The member of this name.
    fn member(&self, name: &NodeName) -> Option<&NodeRef> {
        self.members.iter().find(|node| node.name == *name)
    }
}

/// What is to be sent, and to whom.
pub(super) type Out = Vec<(NodeRef, QuorumMessage)>;

/// The configuration a node acts on.
#[derive(Debug)]
struct Known {
    config: Configuration,
    id: ConfigId,
    /// How many grants a lease takes.
    quorum: usize,
    /// How many of the seated decide on the next version: more than half, as any two of those share one. A quorum may
    /// be larger, and out of reach for who is left.
    consent: usize,
    /// Since when it is known who is seated.
    seated_at: Timestamp,
    /// The version that gave this node the right to a lease, as far as it knows.
    admitted: u64,
}

/// Who may act, as one node knows it.
#[derive(Debug)]
pub(super) struct Quorum {
    me: NodeRef,
    options: QuorumOptions,
    now: Timestamp,
    life: u64,
    known: Option<Known>,
    remains: Remains,
    founding: Founding,
    agreement: Agreement,
    /// The latest beats of the members.
    beats: BTreeMap<NodeRef, Beat>,
    told: Option<Beat>,
    beat_at: Timestamp,
    lease: Lease,
    grants: Grants,
    /// Nothing is granted before: an earlier start of this node may have granted something just before it ended.
    gate: Timestamp,
    /// The version that was seen to be cleared.
    cleared: Option<u64>,
    /// The term that a quorum has to know before it counts: above all that were used before (R4).
    clearing: Option<u64>,
    /// For how long members are lost, while there was a quorum.
    lost: BTreeMap<NodeName, Duration>,
    looked_at: Timestamp,
    /// The size that a user asked for.
    reset: Option<u32>,
    term_seen: u64,
}

impl Quorum {
    /// A node that knows nothing. `started_ms` is larger than at every earlier start of this hub.
    pub(super) fn new(me: NodeRef, options: QuorumOptions, now: Timestamp, started_ms: u64) -> Self {
        Self {
            me,
            options,
            now,
            life: started_ms << 16,
            known: None,
            remains: Remains::default(),
            founding: Founding::default(),
            agreement: Agreement::default(),
            beats: BTreeMap::new(),
            told: None,
            beat_at: now,
            lease: Lease::default(),
            grants: Grants::default(),
            gate: now + options.wait(),
            cleared: None,
            clearing: None,
            lost: BTreeMap::new(),
            looked_at: now,
            reset: None,
            term_seen: 0,
        }
    }

    /// Until when this node may run children.
    pub(super) const fn lease_until(&self) -> Timestamp {
        self.lease.until
    }

    pub(super) fn has_lease(&self, now: Timestamp) -> bool {
        now < self.lease.until
    }

    pub(super) const fn options(&self) -> &QuorumOptions {
        &self.options
    }

    /// The term that a new epoch has: a quorum knows it (R4).
    pub(super) const fn term(&self) -> u64 {
        self.lease.term
    }

    /// Whether nobody but the members of the view can run anything, so that what nobody of them has may be started.
    pub(super) fn may_start(&self, now: Timestamp, mut is_member: impl FnMut(&NodeRef) -> bool) -> bool {
        let Some(known) = self.known.as_ref().filter(|_| self.cleared.is_some() && self.has_lease(now)) else {
            return false;
        };
        known.config.entitled().all(|(name, seat)| {
            if *name == self.me.name {
                return true;
            }
            let node = NodeRef { name: name.clone(), incarnation: seat.incarnation };
            // Who does not know yet that this node is back would start what this node starts.
            let counts_us = self
                .beats
                .get(&node)
                .and_then(|beat| beat.config)
                .is_some_and(|id| id.origin == known.id.origin && id.version >= known.admitted);
            counts_us && is_member(&node)
        })
    }

    /// Whether this node has a slot that the members can take from it.
    pub(super) fn can_vacate(&self, is_member: impl Fn(&NodeRef) -> bool) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let seated = known.config.seated();
            let nodes = seated.map(|(name, seat)| NodeRef { name: name.clone(), incarnation: seat.incarnation });
            known.config.slots.len() > 1 && nodes.filter(is_member).count() >= known.consent
        })
    }

    /// Asks for a smaller cluster.
    pub(super) fn reset(&mut self, size: u32) {
        self.reset = Some(size);
    }

    /// Whether what [`Self::reset`] asked for is done.
    pub(super) const fn is_reset(&self) -> bool {
        self.reset.is_none()
    }

    /// The quorum and the members, if two quorums may have nobody in common.
    pub(super) fn below_majority(&self) -> Option<(usize, usize)> {
        let known = self.known.as_ref()?;
        let names = known.config.slots.len();
        (2 * known.quorum <= names).then_some((known.quorum, names))
    }

    /// One line for a person.
    pub(super) fn why(&self) -> String {
        match &self.known {
            None => "this node knows of no quorum of members".to_owned(),
            Some(known) => {
                let (quorum, names) = (known.quorum, known.config.slots.len());
                format!("this node has no lease of {quorum} of the {names} members that count")
            }
        }
    }

    /// When [`Self::tick`] is wanted next.
    pub(super) fn next_due(&self) -> Timestamp {
        let now = self.now;
        let mut due = self.beat_at;
        for at in [self.lease.until, self.gate, self.founding.next(), self.agreement.next()] {
            if at > now {
                due = due.min(at);
            }
        }
        if let Some(known) = self.known.as_ref().filter(|_| self.cleared.is_none()) {
            let wait = self.options.wait();
            for at in [known.seated_at + wait, self.grants.clean_at(&known.config, wait)] {
                if at > now {
                    due = due.min(at);
                }
            }
        }
        due
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Timestamp, around: &Around, out: &mut Out) {
        self.now = self.now.max(now);
        self.term_seen = self.term_seen.max(around.term);
        self.beats.retain(|node, _| around.members.contains(node));
        self.leave_what_is_over(around);
        if self.known.is_some() {
            self.count_lost(around);
            self.coordinate(around, out);
        } else {
            self.found(around, out);
        }
        self.renew();
        self.clear();
        self.beat(around, out);
    }

    /// Takes a message. [`Self::tick`] goes on with what follows.
    pub(super) fn received(
        &mut self,
        now: Timestamp,
        from: &NodeRef,
        message: QuorumMessage,
        around: &Around,
        out: &mut Out,
    ) {
        self.now = self.now.max(now);
        match message {
            QuorumMessage::Beat(beat) => self.beat_received(from, beat, around, out),
            QuorumMessage::Granted(number) => {
                self.lease.granted(from, number);
                self.renew();
            }
            QuorumMessage::Decided(config) => self.decided(from, config, out),
            QuorumMessage::Found(config) => self.found_received(from, config, around, out),
            QuorumMessage::FoundConsent(origin) => self.consent_received(from, origin, around, out),
            QuorumMessage::Ask(id, ballot) => self.asked(from, id, ballot, out),
            QuorumMessage::Promise(id, ballot, accepted) => self.promised(from, id, ballot, accepted, around, out),
            QuorumMessage::Accept { id, ballot, config, is_carried } => {
                if let Some(answer) = self.accept(from, id, ballot, config, is_carried, around) {
                    out.push((from.clone(), answer));
                }
            }
            QuorumMessage::Accepted(id, ballot) => self.accepted(from, id, ballot, around, out),
            QuorumMessage::Nack(id, ballot) => self.refused(id, ballot),
        }
    }

    /// Grants what was asked for since the last flush: as of now, which is after it was read.
    pub(super) fn flush(&mut self, now: Timestamp, out: &mut Out) {
        self.now = self.now.max(now);
        let wait = self.options.wait();
        self.grants.forget(self.now, wait);
        for (to, life, number) in self.grants.take_asked() {
            let seat = Seat { incarnation: to.incarnation, life };
            let is_entitled = self.known.as_ref().is_some_and(|known| known.config.entitles(&to.name, seat));
            if is_entitled && !self.agreement.revokes(&to.name, seat) {
                self.grants.note(&to, seat, self.now);
                out.push((to, QuorumMessage::Granted(number)));
            }
        }
    }

    const fn seat(&self) -> Seat {
        Seat { incarnation: self.me.incarnation, life: self.life }
    }

    fn beat_received(&mut self, from: &NodeRef, beat: Beat, around: &Around, out: &mut Out) {
        if self.beats.get(from).is_some_and(|known| (known.life, known.number) >= (beat.life, beat.number)) {
            return;
        }
        if beat.term <= around.term + MAX_TERM_AHEAD {
            self.term_seen = self.term_seen.max(beat.term);
        }
        let seat = beat.seat(from);
        match (&self.known, beat.config) {
            (Some(known), Some(id)) if id == known.id => {
                let is_open = self.now >= self.gate && known.config.entitles(&from.name, seat);
                if is_open {
                    self.grants.ask(from.clone(), beat.life, beat.number);
                }
            }
            (Some(known), Some(id)) if id < known.id => {
                out.push((from.clone(), QuorumMessage::Decided(known.config.clone())));
            }
            // It sees by our next beat what we do not know.
            (Some(_), Some(_)) => self.beat_at = self.now,
            (Some(known), None) if known.config.seats(&from.name, seat) => {
                out.push((from.clone(), QuorumMessage::Decided(known.config.clone())));
            }
            (Some(_) | None, None | Some(_)) => {}
        }
        self.beats.insert(from.clone(), beat);
    }

    /// Somebody knows what was decided.
    fn decided(&mut self, from: &NodeRef, config: Configuration, out: &mut Out) {
        let id = config.id();
        let seats_me = config.seats(&self.me.name, self.seat());
        match &self.known {
            Some(known) if known.id == id => {}
            Some(known) if known.id > id => {
                out.push((from.clone(), QuorumMessage::Decided(known.config.clone())));
            }
            // Another origin dissolves ours: whoever acted on ours has to stop first.
            Some(known) if known.id.origin != id.origin || !seats_me => self.unseat(),
            Some(_) => self.adopt(config),
            None if seats_me => self.adopt(config),
            None => {}
        }
    }

    fn adopt(&mut self, config: Configuration) {
        let before = self.known.as_ref().filter(|known| known.config.origin == config.origin);
        let is_same_seated = before.filter(|known| known.config.seated == config.seated);
        let seated_at = is_same_seated.map_or(self.now, |known| known.seated_at);
        if before.is_none() || self.cleared.is_none_or(|version| version < config.revoked) {
            self.cleared = None;
            self.clearing = None;
        }
        let entitled = |known: &&Known| known.config.entitles(&self.me.name, self.seat());
        let admitted = before.filter(entitled).map_or(config.version, |known| known.admitted);
        self.remains = Remains::default();
        self.founding = Founding::default();
        self.agreement = self.agreement.next_instance();
        let quorum = self.options.rule.quorum(config.slots.len(), config.peak);
        let consent = quorum.min(config.seated().count() / 2 + 1);
        self.known = Some(Known { id: config.id(), quorum, consent, seated_at, admitted, config });
        self.renew();
    }

    /// This node has no seat any more: what it consented to counts for another.
    fn unseat(&mut self) {
        if let Some(known) = self.known.take() {
            let quorum = u32::try_from(known.quorum).unwrap_or(u32::MAX);
            self.remains = Remains { quorum, peak: known.config.peak };
        }
        self.life += 1;
        self.founding = Founding::default();
        self.agreement = self.agreement.next_instance();
        self.cleared = None;
        self.clearing = None;
        self.lost.clear();
        self.reset = None;
        self.lease.forget();
        self.gate = self.now + self.options.wait();
        self.renew();
    }

    /// A configuration of which so many forgot what they agreed to, or are certainly gone, that it can never be changed.
    fn leave_what_is_over(&mut self, around: &Around) {
        let Some(known) = &self.known else {
            return;
        };
        let is_left = |(name, seat): &(&NodeName, Seat)| {
            if **name == self.me.name {
                return *seat == self.seat();
            }
            match around.member(name) {
                Some(node) => match self.beats.get(node) {
                    Some(beat) => beat.seat(node) == *seat,
                    None => node.incarnation == seat.incarnation,
                },
                None => !around.dead.contains(&NodeRef { name: (*name).clone(), incarnation: seat.incarnation }),
            }
        };
        if known.config.seated().filter(is_left).count() < known.consent {
            self.unseat();
        }
    }

    /// Lost members age only while there is a quorum.
    fn count_lost(&mut self, around: &Around) {
        let passed = self.now.since(self.looked_at);
        self.looked_at = self.now;
        let Some(known) = &self.known else {
            return;
        };
        let is_lost = |name: &NodeName| *name != self.me.name && around.member(name).is_none();
        self.lost.retain(|name, _| known.config.slots.contains_key(name) && is_lost(name));
        if self.now >= self.lease.until {
            return;
        }
        for name in known.config.slots.keys().filter(|name| is_lost(name)) {
            *self.lost.entry(name.clone()).or_default() += passed;
        }
    }

    fn is_clean(&self) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| self.grants.clean_at(&known.config, self.options.wait()) <= self.now)
    }

    fn clear(&mut self) {
        let Some(known) = self.known.as_ref().filter(|_| self.cleared.is_none()) else {
            return;
        };
        let is_at = |beat: &&Beat| beat.config == Some(known.id);
        let seated = || {
            let others = known.config.seated().filter(|(name, _)| **name != self.me.name);
            others.filter_map(|(name, seat)| {
                let node = NodeRef { name: name.clone(), incarnation: seat.incarnation };
                self.beats.get(&node).filter(|beat| beat.life == seat.life).filter(is_at)
            })
        };
        let was_cleared = seated().any(|beat| beat.is_cleared);
        let clean = seated().filter(|beat| beat.is_clean).count() + usize::from(self.is_clean());
        let is_waited = self.now >= known.seated_at + self.options.wait();
        if self.clearing.is_none() && (was_cleared || (is_waited && clean >= known.quorum)) {
            self.term_seen += 1;
            self.clearing = Some(self.term_seen);
            self.beat_at = self.now;
        }
        if self.clearing.is_some_and(|term| self.lease.term >= term) {
            self.cleared = Some(known.config.version);
        }
    }

    /// Finds out until when this node's lease lasts.
    fn renew(&mut self) {
        let Some(known) = &self.known else {
            self.lease.end();
            return;
        };
        let seat = self.seat();
        if !known.config.entitles(&self.me.name, seat) || self.agreement.revokes(&self.me.name, seat) {
            self.lease.end();
            return;
        }
        let others = known.config.seated().filter(|(name, _)| **name != self.me.name);
        let others = others.map(|(name, seat)| NodeRef { name: name.clone(), incarnation: seat.incarnation });
        let grants_self = self.now >= self.gate;
        self.lease.renew(others, grants_self, known.quorum, self.options.lease);
    }

    fn beat(&mut self, around: &Around, out: &mut Out) {
        let beat = Beat {
            number: self.told.as_ref().map_or(0, |told| told.number),
            config: self.known.as_ref().map(|known| known.id),
            life: self.life,
            remains: self.remains,
            is_idle: around.is_idle,
            is_leaving: around.is_leaving,
            is_clean: self.is_clean(),
            is_cleared: self.cleared.is_some(),
            term: self.told.as_ref().map_or(0, |told| told.term),
        };
        if self.now < self.beat_at && self.told.as_ref() == Some(&beat) {
            return;
        }
        let beat = Beat { number: beat.number + 1, term: self.term_seen, ..beat };
        self.lease.sent(beat.number, self.now, beat.term);
        for member in &around.members {
            out.push((member.clone(), QuorumMessage::Beat(beat.clone())));
        }
        self.told = Some(beat);
        self.beat_at = self.now + self.options.lease / BEATS_PER_LEASE;
    }
}
