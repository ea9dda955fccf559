//! The net change of the members after an input.

use std::mem;
use std::time::Duration;

use foca::State;

use super::identity::Id;
use super::wire::Message;
use super::{Evidence, Step, Swim, SwimEffect};
use crate::ids::{Contact, NodeName, NodeRef};
use crate::time::Timestamp;

/// How long a member that is down is remembered, and with it that it is down.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How many of them; the one to be forgotten first goes first.
const MAX_DEPARTED: usize = 1024;

/// A name whose last known incarnation is down.
pub(super) struct Departed {
    pub(super) contact: Contact,
    pub(super) evidence: Evidence,
    pub(super) until: Timestamp,
}

impl Departed {
    /// How long ago it went down, as far as anybody told this node.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        REMEMBERED_FOR.saturating_sub(self.until.since(now))
    }
}

/// What this input brought about one name.
#[derive(Default)]
pub(super) struct Touch {
    /// Why it is down and since when, if foca has it down now.
    down: Option<(Evidence, Duration)>,
    /// A peer says so, and this node checks.
    pub(super) doubted: Option<Evidence>,
    /// This node's own probe failed or its link was lost.
    pub(super) is_own_finding: bool,
}

impl Swim {
    pub(super) fn touch(&mut self, name: NodeName) -> &mut Touch {
        self.touched.entry(name).or_default()
    }

    /// Looks at every member again.
    pub(super) fn touch_members(&mut self) {
        let members = self.foca.iter_members();
        let names: Vec<NodeName> = members.map(|member| member.id().node.name.clone()).collect();
        for name in names {
            self.touch(name);
        }
    }

    pub(super) fn touch_departed(&mut self, name: NodeName, evidence: Evidence, age: Duration) {
        self.touch(name).down = Some((evidence, age));
    }

    pub(super) fn touch_doubted(&mut self, name: NodeName, evidence: Evidence) {
        self.touch(name).doubted = Some(evidence);
    }

    /// Another incarnation is known under the name of this one. If it lives, this one never comes back.
    pub(super) fn displaced(&mut self, node: NodeRef, step: &mut Step<'_>) {
        let by =
            self.known(&node.name).filter(|member| member.state() != State::Down).map(|member| member.id().contact());
        if let Some(by) = by {
            self.mark_final(node.clone(), Evidence::Replaced, step.now);
            self.refuse(&node, by, step);
        }
    }

    /// Brings suspicions, departed members and what the hubs know up to date.
    pub(super) fn settle(&mut self, step: &mut Step<'_>) {
        let member_count = self.published.len();
        for (name, touch) in mem::take(&mut self.touched) {
            let Some(member) = self.known(&name) else {
                continue;
            };
            let (id, state, refutation) = (member.id().clone(), member.state(), member.incarnation());
            match state {
                State::Alive => {
                    self.suspicions.remove(&name);
                    self.publish_up(&id, step);
                }
                State::Suspect => {
                    self.publish_up(&id, step);
                    self.suspect(id, refutation, &touch, step);
                }
                State::Down => {
                    self.suspicions.remove(&name);
                    self.publish_down(&id, &touch, step);
                }
            }
        }
        self.limit_departed(step);
        if self.published.len() != member_count {
            self.adjust_to_size();
        }
        if mem::take(&mut self.has_new_identity) {
            self.tell_own_record(step);
        }
    }

    fn publish_up(&mut self, id: &Id, step: &mut Step<'_>) {
        let name = &id.node.name;
        self.departed.remove(name);
        let published = self.published.get(name).map(|contact| &contact.node);
        if published == Some(&id.node) || !self.is_established {
            return;
        }
        if let Some(old) = published.cloned() {
            self.publish_replaced(old, step);
        }
        self.published.insert(name.clone(), id.contact());
        step.effects.push(SwimEffect::Up(id.contact()));
        self.want_link(id.contact(), step);
    }

    fn publish_down(&mut self, id: &Id, touch: &Touch, step: &mut Step<'_>) {
        let name = &id.node.name;
        let (evidence, age) = touch.down.unwrap_or((Evidence::Suspected, Duration::ZERO));
        if let Some(old) = self.published.remove(name) {
            if old.node == id.node {
                step.effects.push(SwimEffect::Down(old.node, evidence));
            } else {
                self.publish_replaced(old.node, step);
            }
        }
        let is_known = self.departed.get(name).is_some_and(|departed| departed.contact.node == id.node);
        if !is_known || touch.down.is_some_and(|(evidence, _)| evidence == Evidence::Left) {
            self.departed.insert(
                name.clone(),
                Departed { contact: id.contact(), evidence, until: step.now + REMEMBERED_FOR.saturating_sub(age) },
            );
        }
    }

    fn publish_replaced(&self, old: NodeRef, step: &mut Step<'_>) {
        let evidence = self.final_evidence(&old).unwrap_or(Evidence::Replaced);
        step.effects.push(SwimEffect::Down(old, evidence));
    }

    fn limit_departed(&mut self, step: &mut Step<'_>) {
        while self.departed.len() > MAX_DEPARTED {
            let first = self.departed.iter().min_by_key(|(_, departed)| departed.until).map(|(name, _)| name.clone());
            if let Some(name) = first {
                self.departed.remove(&name);
                self.forget(&name, step);
            }
        }
    }

    pub(super) fn forget_old_departed(&mut self, step: &mut Step<'_>) {
        let old: Vec<NodeName> = self
            .departed
            .iter()
            .filter(|(_, departed)| departed.until <= step.now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in old {
            self.departed.remove(&name);
            self.forget(&name, step);
        }
    }

    /// Peers that buried the old identity learn the new one without waiting for gossip.
    fn tell_own_record(&mut self, step: &mut Step<'_>) {
        let message = Message::State { records: vec![self.own_record()], wants_reply: false };
        for peer in self.linked_peers() {
            self.send(&peer, &message, step);
        }
    }
}
