//! Links to other nodes, and the wish for them.

use std::time::Duration;

use rand::RngExt;

use super::admission::Admission;
use super::timers::Due;
use super::{Evidence, Step, Swim, SwimEffect};
use crate::ids::{Contact, NodeRef};
use crate::time::Timestamp;

/// Of two nodes that learn of each other the smaller dials; the other one after this time. A newcomer dials at
/// once: the others may hear of it a round of gossip later.
pub(super) const LARGER_DIALS_AFTER: Duration = Duration::from_millis(500);
/// The smaller one's second attempt; later ones are the rounds of anti-entropy.
const SMALLER_DIALS_AGAIN_AFTER: Duration = Duration::from_millis(1000);

/// One authenticated link.
pub(super) struct Link {
    /// Told from timers of an earlier link by this.
    pub(super) session: u64,
    pub(super) admission: Admission,
    pub(super) last_heard: Timestamp,
    /// The other end accepted this node.
    pub(super) is_welcomed: bool,
    /// What the last hello on this link said of this node.
    pub(super) told_established: bool,
    pub(super) next_hello_after: Duration,
}

impl Link {
    pub(super) const fn is_accepted(&self) -> bool {
        self.admission.is_accepted()
    }
}

impl Swim {
    pub(super) fn link_up(&mut self, contact: Contact, step: &mut Step<'_>) {
        let Contact { node, .. } = contact;
        if node == self.me.node {
            step.effects.push(SwimEffect::Disconnect(node));
            return;
        }
        let session = self.next_nonce();
        let link = Link {
            session,
            admission: Admission::Unknown,
            last_heard: step.now,
            is_welcomed: false,
            told_established: false,
            next_hello_after: super::admission::FIRST_HELLO_PAUSE,
        };
        self.links.insert(node.clone(), link);
        if self.leaving.is_some() {
            self.tell_leave(&node, step);
        } else if !self.is_going() {
            self.say_hello(&node, step);
        }
    }

    pub(super) fn link_down(&mut self, node: &NodeRef, refused: bool, step: &mut Step<'_>) {
        self.links.remove(node);
        if refused {
            self.declare_down(node, Evidence::Refused, step);
        } else {
            self.suspect_now(node, step);
        }
        self.name_holder_lost(node, step);
        self.leave_acknowledged(node, step);
        if let Some(contact) = self.known_active(node).map(|member| member.id().contact()) {
            self.want_link(contact, step);
        }
    }

    /// This node leaves, or has to: it seeks nobody any more.
    pub(super) const fn is_going(&self) -> bool {
        self.leaving.is_some() || self.told_name_taken
    }

    pub(super) fn is_linked(&self, node: &NodeRef) -> bool {
        self.links.get(node).is_some_and(Link::is_accepted)
    }

    /// Everybody with an accepted link.
    pub(super) fn linked_peers(&self) -> Vec<NodeRef> {
        self.links.iter().filter(|(_, link)| link.is_accepted()).map(|(node, _)| node.clone()).collect()
    }

    /// At most `count` linked members that are up, at random.
    pub(super) fn pick_peers(&mut self, count: usize, is_wanted: impl Fn(&NodeRef) -> bool) -> Vec<NodeRef> {
        let mut candidates: Vec<NodeRef> = self
            .published
            .values()
            .map(|contact| &contact.node)
            .filter(|node| self.is_linked(node) && is_wanted(node))
            .cloned()
            .collect();
        let mut picked = Vec::new();
        while picked.len() < count && !candidates.is_empty() {
            let index = self.rng.random_range(0..candidates.len());
            picked.push(candidates.swap_remove(index));
        }
        picked
    }

    /// The mesh is complete: a member that is up gets a link.
    pub(super) fn want_link(&mut self, contact: Contact, step: &mut Step<'_>) {
        if self.links.contains_key(&contact.node) || self.is_going() {
            return;
        }
        let node = contact.node.clone();
        let again_after = if self.me.node < node || step.now < self.is_newcomer_until {
            step.effects.push(SwimEffect::Connect(contact));
            SMALLER_DIALS_AGAIN_AFTER
        } else {
            LARGER_DIALS_AFTER
        };
        self.timers.add(step.now + again_after, Due::Dial(node));
    }

    pub(super) fn dial_member(&mut self, node: &NodeRef, step: &mut Step<'_>) {
        if self.links.contains_key(node) || self.is_going() {
            return;
        }
        if let Some(contact) = self.published.get(&node.name).filter(|contact| contact.node == *node) {
            step.effects.push(SwimEffect::Connect(contact.clone()));
        }
    }

    /// Asks for a link to one member without one, up or down: this is how halves find each other again.
    pub(super) fn dial_someone(&mut self, step: &mut Step<'_>) {
        let departed = self
            .departed
            .values()
            .filter(|departed| departed.evidence != Evidence::Left)
            .map(|departed| &departed.contact);
        let mut candidates =
            self.published.values().chain(departed).filter(|contact| !self.links.contains_key(&contact.node));
        let count = candidates.clone().count();
        if count == 0 {
            return;
        }
        let index = self.rng.random_range(0..count);
        if let Some(contact) = candidates.nth(index) {
            step.effects.push(SwimEffect::Connect(contact.clone()));
        }
    }
}
