//! Anti-entropy of the view: hashes every second, whole states where they differ.

use std::time::Duration;

use foca::State;
use rand::RngExt;
use xxhash_rust::xxh3::xxh3_64;

use super::identity::{Condition, Id, Record};
use super::timers::Due;
use super::wire::{Message, STATE_BUDGET_BYTES};
use super::{Step, Swim};
use crate::ids::NodeRef;
use crate::time::Timestamp;

/// Bytes of a record without its name and address, at most.
const RECORD_FIXED_BYTES: usize = 48;

impl Swim {
    /// The next round, in a second give or take a tenth, so that the nodes do not speak all at once.
    pub(super) fn schedule_sync(&mut self, now: Timestamp) {
        let pause = Duration::from_millis(self.rng.random_range(900..1100));
        self.timers.add(now + pause, Due::Sync);
    }

    /// One round: a hash to one member that is up and to one that is thought down, and one wish for a link.
    pub(super) fn sync(&mut self, step: &mut Step<'_>) {
        self.schedule_sync(step.now);
        self.forget_old_finals(step.now);
        self.forget_old_departed(step);
        if self.is_going() {
            return;
        }
        let mut peers = self.pick_peers(1, |_| true);
        peers.extend(self.pick_buried_peer());
        if !peers.is_empty() {
            let view_hash = self.view_hash();
            for peer in peers {
                self.send(&peer, &Message::Digest { view_hash }, step);
            }
        }
        self.dial_someone(step);
    }

    /// A node thought down whose link still stands: packets may pass again.
    fn pick_buried_peer(&mut self) -> Option<NodeRef> {
        let mut buried: Vec<NodeRef> = self
            .departed
            .values()
            .map(|departed| &departed.contact.node)
            .filter(|node| self.is_linked(node) && self.final_evidence(node).is_none())
            .cloned()
            .collect();
        if buried.is_empty() {
            return None;
        }
        Some(buried.swap_remove(self.rng.random_range(0..buried.len())))
    }

    /// The hash of who is up, how, and under which identity. Departed members are left out: each node forgets
    /// them at its own time.
    pub(super) fn view_hash(&mut self) -> u64 {
        let own = self.own_record();
        let mut bytes = Vec::with_capacity(64);
        // A sum, because each node has the others in an order of its own.
        let mut sum = record_hash(&own.id, own.refutation, false, &mut bytes);
        for member in self.foca.iter_members() {
            let is_suspect = member.state() == State::Suspect;
            sum = sum.wrapping_add(record_hash(member.id(), member.incarnation(), is_suspect, &mut bytes));
        }
        sum
    }

    pub(super) fn compare_digest(&mut self, from: &NodeRef, view_hash: u64, step: &mut Step<'_>) {
        if view_hash != self.view_hash() {
            self.send_state(from, true, step);
        }
    }

    /// Sends everything this node knows, in as many packets as it takes.
    pub(super) fn send_state(&mut self, to: &NodeRef, wants_reply: bool, step: &mut Step<'_>) {
        let mut records = vec![self.own_record()];
        let mut bytes = 0;
        for record in self.known_records(step.now) {
            if bytes > STATE_BUDGET_BYTES {
                let records = std::mem::take(&mut records);
                let part = Message::State { records, wants_reply: false };
                self.send(to, &part, step);
                bytes = 0;
            }
            bytes += RECORD_FIXED_BYTES + record.id.node.name.as_str().len();
            bytes += record.id.address.len();
            records.push(record);
        }
        let last = Message::State { records, wants_reply };
        self.send(to, &last, step);
    }

    fn known_records(&self, now: Timestamp) -> Vec<Record> {
        let mut records: Vec<Record> = self.foca.iter_membership_state().map(Record::of).collect();
        for record in &mut records {
            if let Condition::Down { evidence, age_secs } = &mut record.condition
                && let Some(departed) = self.departed.get(&record.id.node.name)
                && departed.contact.node == record.id.node
            {
                *evidence = departed.evidence;
                let secs = departed.age(now).as_secs();
                *age_secs = u32::try_from(secs).unwrap_or(u32::MAX);
            }
        }
        records
    }

    pub(super) fn take_state(&mut self, from: &NodeRef, records: Vec<Record>, wants_reply: bool, step: &mut Step<'_>) {
        let is_doubted =
            records.iter().any(|record| record.id == *self.foca.identity() && record.condition != Condition::Alive);
        self.apply_vetted(records, false, step);
        if wants_reply {
            self.send_state(from, false, step);
        } else if is_doubted {
            let records = vec![self.own_record()];
            let answer = Message::State { records, wants_reply: false };
            self.send(from, &answer, step);
        }
    }

    /// Whether foca counts this node as a member that is up.
    pub(super) fn is_up(&self, node: &NodeRef) -> bool {
        self.known(&node.name).is_some_and(|member| member.id().node == *node && member.state() != State::Down)
    }
}

fn record_hash(id: &Id, refutation: u16, is_suspect: bool, bytes: &mut Vec<u8>) -> u64 {
    bytes.clear();
    bytes.extend_from_slice(&id.node.incarnation.0.to_le_bytes());
    bytes.extend_from_slice(&id.rank.to_le_bytes());
    bytes.extend_from_slice(&id.bump.to_le_bytes());
    bytes.extend_from_slice(&refutation.to_le_bytes());
    bytes.push(u8::from(is_suspect));
    bytes.extend_from_slice(id.node.name.as_str().as_bytes());
    xxh3_64(bytes)
}
