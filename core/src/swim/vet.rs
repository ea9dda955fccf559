//! What of a peer's words about a member foca may hear.

use std::time::Duration;

use foca::{Identity, Member, State};

use super::identity::{Condition, Id, Record};
use super::settle::REMEMBERED_FOR;
use super::wire::Message;
use super::{Evidence, Step, Swim};
use crate::ids::NodeRef;
use crate::time::Timestamp;

/// Members and departed members together; updates about further names are ignored.
const MAX_KNOWN: usize = 8192;
/// Incarnations remembered as gone for ever.
const MAX_FINALS: usize = 1024;

impl Swim {
    /// The update to apply, if any.
    pub(super) fn vet(&mut self, mut record: Record, step: &mut Step<'_>) -> Option<Member<Id>> {
        let node = record.id.node.clone();
        if node.name == self.me.node.name {
            return self.vet_own(record);
        }
        let known = self.known(&node.name).cloned();
        match record.condition {
            Condition::Down { evidence, age_secs } => {
                // Who was replaced each node finds out by itself, from the rank of the one that has the name.
                let evidence = match evidence {
                    Evidence::Replaced => Evidence::Suspected,
                    Evidence::Left | Evidence::Refused | Evidence::Suspected => evidence,
                };
                record.condition = Condition::Down { evidence, age_secs };
                let age = Duration::from_secs(age_secs.into());
                self.vet_down(record, known, evidence, age, step)
            }
            Condition::Alive | Condition::Suspect => {
                if self.final_evidence(&node).is_some() {
                    return None;
                }
                match known {
                    Some(known) if known.id().win_addr_conflict(&record.id) => None,
                    None if self.foca.iter_membership_state().len() >= MAX_KNOWN => None,
                    Some(known)
                        if known.id().node != node
                            && known.state() != State::Down
                            && !self.is_hearsay_settled(&known, &record, step) =>
                    {
                        None
                    }
                    Some(_) | None => Some(record.into_member()),
                }
            }
        }
    }

    /// Only words about exactly this identity are answered, by refuting them. Nothing is refuted while leaving.
    fn vet_own(&self, record: Record) -> Option<Member<Id>> {
        let is_me = record.id == *self.foca.identity();
        let is_doubt = record.condition != Condition::Alive;
        (is_me && is_doubt && self.leaving.is_none()).then(|| record.into_member())
    }

    fn vet_down(
        &mut self,
        mut record: Record,
        known: Option<Member<Id>>,
        evidence: Evidence,
        age: Duration,
        step: &mut Step<'_>,
    ) -> Option<Member<Id>> {
        if age >= REMEMBERED_FOR {
            return None;
        }
        let node = record.id.node.clone();
        if evidence == Evidence::Left {
            self.mark_final(node.clone(), evidence, step.now);
        }
        let Some(known) = known else {
            let has_room = self.foca.iter_membership_state().len() < MAX_KNOWN;
            return has_room.then(|| {
                self.touch_departed(node.name, evidence, age);
                record.into_member()
            });
        };
        if known.id().node == node {
            if evidence == Evidence::Left {
                // A leave concerns the incarnation, whatever identity it had last.
                record.id = known.id().clone();
            } else if known.state() != State::Down && self.is_linked(&node) {
                return Some(self.doubt(known, &record, evidence, step));
            }
        }
        if known.id().win_addr_conflict(&record.id) {
            return None;
        }
        if known.id().node != node && known.state() != State::Down {
            // The dead hold no names: a member whose clock was set back is lifted above them.
            if self.is_linked(&known.id().node) {
                let rank = record.id.rank.saturating_add(1);
                self.accept(Record::of(&known), rank, step);
            }
            return None;
        }
        self.touch_departed(node.name, evidence, age);
        Some(record.into_member())
    }

    /// A member with a link of ours is said to be down: it is told, and the last check decides. Without this,
    /// two halves that meet again would bury each other's living members.
    fn doubt(&mut self, known: Member<Id>, down: &Record, evidence: Evidence, step: &mut Step<'_>) -> Member<Id> {
        let node = known.id().node.clone();
        self.touch_doubted(node.name.clone(), evidence);
        self.send(&node, &Message::State { records: vec![down.clone()], wants_reply: false }, step);
        Member::new(known.id().clone(), known.incarnation(), State::Suspect)
    }

    /// Why this incarnation never comes back.
    pub(super) fn final_evidence(&self, node: &NodeRef) -> Option<Evidence> {
        self.finals.get(node).map(|(evidence, _)| *evidence)
    }

    /// Remembers that this incarnation never comes back.
    pub(super) fn mark_final(&mut self, node: NodeRef, evidence: Evidence, now: Timestamp) {
        if self.final_evidence(&node).is_some() {
            return;
        }
        if self.finals.len() >= MAX_FINALS {
            let oldest = self.finals.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
                self.finals.remove(&oldest);
            }
        }
        self.finals.insert(node, (evidence, now + REMEMBERED_FOR));
    }

    pub(super) fn forget_old_finals(&mut self, now: Timestamp) {
        self.finals.retain(|_, (_, until)| *until > now);
    }
}
