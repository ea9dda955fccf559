//! Members that fell silent and may come back with what they had (R1). All members remember them together, newcomers
//! too, and while there is one no stop is forgotten and every member holds every tombstone: else a stop would be undone
//! once all who heard of it were restarted in turn.

use std::time::Duration;

use super::children::Record;
use super::{Engine, Lane};
use crate::ids::{ChildId, NodeRef};
use crate::time::Timestamp;
use crate::wire::{Message, Silent, Status, Wanted};

/// Silent members that a status tells of.
const MAX_TOLD: usize = 64;
/// Tombstones in one message.
const CHUNK: usize = 256;

impl Engine {
    /// What a status tells of silent members.
    pub(super) fn silent_told(&self) -> Silent {
        let silent = &self.membership.silent;
        let members = silent.iter().map(|(node, since)| (node.clone(), self.now.since(*since).as_secs()));
        let stopped_hash = if silent.is_empty() { 0 } else { self.registry.stopped_hash() };
        Silent { members: members.take(MAX_TOLD).collect(), stopped_hash }
    }

    /// A member tells of silent ones, and what is stopped as far as it knows.
    pub(super) fn silent_received(&mut self, from: &NodeRef, status: &Status) {
        let told = &status.silent;
        for (node, age_s) in &told.members {
            let age = Duration::from_secs(*age_s);
            let age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            let since = Timestamp(self.now.0.saturating_sub(age_us));
            let has_its_name = |member: &NodeRef| member.name == node.name;
            let is_here = self.me.name == node.name || self.membership.peers.keys().any(has_its_name);
            if !is_here {
                self.membership.remember_silent(node, since, self.now);
            }
        }
        let is_told = !told.members.is_empty() && !self.membership.silent.is_empty();
        // What is on its way in a log makes no difference that lasts.
        let known_seq = self.membership.peers.get(from).map_or(0, |peer| peer.known_seq);
        let is_caught_up = known_seq >= status.seq && status.acked_seq >= self.log.seq;
        if is_told && is_caught_up && told.stopped_hash != self.registry.stopped_hash() {
            self.send_tombstones(from);
        }
    }

    /// Sends what is stopped to a member that knows of other stops.
    fn send_tombstones(&mut self, to: &NodeRef) {
        let entries: Vec<(ChildId, NodeRef, Wanted)> = self
            .children
            .iter()
            .filter_map(|(_, Record { id, entry, .. })| {
                let wanted = entry.wanted.as_ref().filter(|wanted| wanted.spec.is_none())?;
                Some((id.clone(), entry.author.clone()?, wanted.clone()))
            })
            .collect();
        for entries in entries.chunks(CHUNK) {
            let push = Message::WantedPush { buckets: Vec::new(), entries: entries.to_vec(), wants_answer: false };
            self.send(to, Lane::Bulk, &push);
        }
    }
}
