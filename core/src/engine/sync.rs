//! Comparing what is wanted with the members, and passing on the last words of gone ones (R1, R2).

use std::time::Duration;

use serde_json::json;

use super::children::{Record, Slot};
use super::registry::{BUCKETS, Holder, bucket_of};
use super::{Engine, Lane, TimerKey, setup};
use crate::ids::{ChildId, Epoch, NodeRef};
use crate::observe::HookName;
use crate::wire::{InstanceRow, Message, Stage, Wanted};

/// Entries in one message.
const CHUNK: usize = 256;
/// A term further ahead than this of our own clock is not believed (R4): one day, in seconds.
const MAX_TERM_AHEAD: u64 = 86_400;
/// A tombstone younger than this is kept: no older start can still be under way after it.
const TOMBSTONE_AGE: Duration = Duration::from_secs(60);
/// Tombstones looked at in one turn.
const TOMBSTONES_PER_TURN: usize = 4096;

impl Engine {
    /// Believes the counter of a wanted version, unless it is absurd.
    pub(super) fn note_clock(&mut self, clock: u64) {
        if clock <= self.unix_ms() + MAX_TERM_AHEAD * 1000 {
            self.registry.note_clock(clock);
        }
    }

    /// Believes a term, unless it is absurd.
    pub(super) fn note_term(&mut self, term: u64) {
        if term <= self.unix_ms() / 1000 + MAX_TERM_AHEAD {
            self.term = self.term.max(term);
        }
    }

    pub(super) fn note_epoch(&mut self, epoch: Epoch) {
        self.note_term(epoch.0 >> setup::TERM_SHIFT);
    }

    /// Merges a wanted entry from a member.
    pub(super) fn learn_wanted(&mut self, child: Slot, author: &NodeRef, wanted: Wanted) {
        self.note_epoch(wanted.epoch);
        let record = &mut self.children[child];
        let was_stopped = record.entry.wanted.as_ref().is_some_and(|known| known.spec.is_none());
        let is_spec = wanted.spec.is_some();
        let is_heal = !self.membership.peers.contains_key(author) && *author != self.me;
        if !self.registry.merge_wanted(record, author, wanted, self.now.0) {
            return;
        }
        if was_stopped && is_spec && is_heal {
            self.fire_of(HookName::StopUndone, child, |id| json!({"child_id": id}));
        }
        let holders = self.children[child].entry.holders.iter();
        let active = holders.filter(|holder| !holder.is_departed && holder.row.stage == Stage::Active);
        let losses: Vec<_> = active.filter_map(|holder| holder.row.lost.clone()).collect();
        for lost in losses {
            self.tell_loss(child, &lost);
        }
        self.row_changed(child);
    }

    /// The slow comparison: the members get our digests, and those whose wanted hash differs our buckets; old
    /// tombstones go.
    pub(super) fn compare_wanted(&mut self) {
        let interval = self.strategies.synchronization.sync_interval();
        self.timers.arm(TimerKey::Sync, self.now + interval);
        let others: Vec<NodeRef> = self.membership.others(&self.me).cloned().collect();
        if self.strategies.synchronization.begins_comparison(&self.me, &others) {
            if self.strategies.synchronization.is_passed_on() {
                self.begin_digest();
            } else {
                self.compare_with_all();
            }
        }
        self.compact_log();
        self.forget_old_tombstones();
    }

    fn compare_with_all(&mut self) {
        self.send_status_to_all();
        let hash = self.registry.wanted_hash();
        let different: Vec<NodeRef> = self
            .membership
            .peers
            .iter()
            .filter(|(_, peer)| peer.status.as_ref().is_some_and(|status| status.wanted_hash != hash))
            .map(|(node, _)| node.clone())
            .collect();
        for node in different {
            self.send_buckets(&node);
        }
    }

    pub(super) fn send_buckets(&mut self, to: &NodeRef) {
        let buckets: Vec<u8> = self.registry.buckets().iter().flat_map(|hash| hash.to_le_bytes()).collect();
        self.send_ctl(to, &Message::WantedBuckets(buckets.into()));
    }

    pub(super) fn buckets_received(&mut self, from: &NodeRef, buckets: &[u8]) {
        let (buckets, rest) = buckets.as_chunks::<8>();
        // Before the logs are here nearly everything differs, and is on its way with them. It is asked again.
        if buckets.len() != BUCKETS || !rest.is_empty() || !self.membership.has_all_logs() {
            return;
        }
        if let Some(peer) = self.membership.peers.get_mut(from) {
            peer.is_comparing = true;
        }
        let own = self.registry.buckets();
        let is_different = |at: &usize| own[*at].to_le_bytes() != buckets[*at];
        let different: Vec<u16> = (0..BUCKETS).filter(is_different).map(|at| at as u16).collect();
        let wants_answer = !different.is_empty();
        self.send_wanted(from, different, wants_answer);
    }

    /// Sends our entries of some buckets. The last message names the buckets.
    fn send_wanted(&mut self, to: &NodeRef, buckets: Vec<u16>, wants_answer: bool) {
        let mut is_asked = [false; BUCKETS];
        for &bucket in &buckets {
            if let Some(slot) = is_asked.get_mut(usize::from(bucket)) {
                *slot = true;
            }
        }
        let mut messages = Vec::new();
        let mut entries = Vec::new();
        if !buckets.is_empty() {
            for (_, record) in self.children.iter() {
                if let (Some(wanted), Some(author)) = (&record.entry.wanted, &record.entry.author)
                    && is_asked[bucket_of(record)]
                {
                    entries.push((record.id.clone(), author.clone(), wanted.clone()));
                    if entries.len() >= CHUNK {
                        let entries = std::mem::take(&mut entries);
                        messages.push(Message::WantedPush { buckets: Vec::new(), entries, wants_answer: false });
                    }
                }
            }
        }
        messages.push(Message::WantedPush { buckets, entries, wants_answer });
        // One lane keeps the order in production; where it is lost, the next comparison finds the rest.
        for message in &messages {
            self.send(to, Lane::Bulk, message);
        }
    }

    pub(super) fn wanted_received(
        &mut self,
        from: &NodeRef,
        buckets: &[u16],
        entries: Vec<(ChildId, NodeRef, Wanted)>,
        wants_answer: bool,
    ) {
        let is_part = buckets.is_empty() && !entries.is_empty();
        for (child, author, wanted) in entries {
            let child = self.children.intern(&child);
            self.learn_wanted(child, &author, wanted);
        }
        if is_part {
            // The last part names the buckets.
            return;
        }
        if buckets.is_empty() || self.is_wanted_equal(from) {
            self.wanted_agreed(from);
            // The sender sees by our hash that nothing is missing here either.
            self.send_status(from, false);
            return;
        }
        if wants_answer {
            self.send_wanted(from, buckets.to_vec(), false);
        }
        // What is here now is what the sender had: ask for its hash to see that nothing was missed.
        self.send_status(from, true);
    }

    fn is_wanted_equal(&self, node: &NodeRef) -> bool {
        let hash = self.registry.wanted_hash();
        self.membership
            .member(node)
            .and_then(|peer| peer.status.as_ref())
            .is_some_and(|status| status.wanted_hash == hash)
    }

    /// Our wanted children were compared with this member's.
    pub(super) fn wanted_agreed(&mut self, node: &NodeRef) {
        let now = self.now;
        if let Some(peer) = self.membership.peers.get_mut(node) {
            peer.is_wanted_synced = true;
            peer.agreed_at = now;
        }
        self.check_settled();
    }

    /// Tombstones go once no member can still have the start they buried.
    fn forget_old_tombstones(&mut self) {
        let is_everybody_here = self.membership.is_everybody_here(self.now);
        let agreed = self.membership.peers.values().filter(|peer| peer.is_member()).map(|peer| peer.agreed_at).min();
        if !is_everybody_here {
            return;
        }
        let agreed_us = agreed.unwrap_or(self.now).0;
        let horizon = agreed_us.saturating_sub(TOMBSTONE_AGE.as_micros() as u64);
        let is_old = |record: &Record| {
            let entry = &record.entry;
            entry.wanted.as_ref().is_some_and(|wanted| wanted.spec.is_none())
                && entry.stopped_at < horizon
                && entry.holders.is_empty()
                && record.local().is_none()
        };
        let old = self.children.iter().filter(|(_, record)| is_old(record)).map(|(child, _)| child);
        let old: Vec<Slot> = old.take(TOMBSTONES_PER_TURN).collect();
        for child in old {
            // Whoever starts the child again knows nothing of its epochs: they rise with the term, on every node.
            let epoch = self.children[child].entry.highest_epoch();
            self.note_term((epoch.0 >> setup::TERM_SHIFT) + 1);
            self.registry.forget_tombstone(&mut self.children[child]);
            self.children.mark_changed(child);
        }
    }

    /// A member knows more of a gone one's log than we do.
    pub(super) fn pull_departed_received(&mut self, from: &NodeRef, gone: &NodeRef) {
        let Some(&seq) = self.membership.departed.get(gone) else {
            return;
        };
        let rows: Vec<(ChildId, InstanceRow)> = self
            .children
            .iter()
            .filter_map(|(_, Record { id, entry, .. })| {
                let holder = entry.holders.iter().find(|holder| holder.is_departed && holder.node == *gone)?;
                Some((id.clone(), holder.row.clone()))
            })
            .collect();
        self.send(from, Lane::Bulk, &Message::Departed { node: gone.clone(), seq, rows });
    }

    pub(super) fn departed_received(&mut self, gone: &NodeRef, seq: u64, rows: Vec<(ChildId, InstanceRow)>) {
        if *gone == self.me || self.membership.has_heard(gone, seq) {
            return;
        }
        self.membership.hear(gone, seq);
        self.membership.departed.insert(gone.clone(), seq);
        for (child, row) in rows.into_iter().filter(|(_, row)| !row.stage.is_replica()) {
            self.note_epoch(row.token.epoch);
            let child = self.children.intern(&child);
            let entry = &mut self.children[child].entry;
            let is_adopted = entry.active_holder().is_some_and(|holder| holder.row.token.epoch > row.token.epoch);
            match entry.lead_of_mut(gone) {
                Some(holder) => holder.row = row,
                None if is_adopted => {}
                None => {
                    let node = gone.clone();
                    entry.holders.push(Holder { node, row, is_departed: true, gone_after: None });
                }
            }
            self.children.mark_dirty(child);
        }
        self.moves_try_again();
        self.check_settled();
    }

    /// Turns the rows of a node that left the view into its last words.
    pub(super) fn depart(&mut self, node: &NodeRef, known_seq: u64) {
        self.depart_given(node);
        let is_held = |record: &Record| record.entry.holders.iter().any(|holder| holder.node == *node);
        let held = self.children.iter().filter(|(_, record)| is_held(record));
        let held: Vec<Slot> = held.map(|(child, _)| child).collect();
        let mut is_remembered = false;
        for child in held {
            let entry = &mut self.children[child].entry;
            let successor = entry.active_holder().filter(|holder| holder.node != *node).map(|holder| holder.row.token);
            entry.holders.retain_mut(|holder| {
                if holder.node != *node {
                    return true;
                }
                holder.is_departed = true;
                holder.gone_after = None;
                let was_it = holder.row.stage != Stage::Incoming && !holder.row.stage.is_replica();
                was_it && successor.is_none_or(|token| token < holder.row.token)
            });
            is_remembered |= entry.holders.iter().any(|holder| holder.node == *node);
            self.row_changed(child);
        }
        self.membership.hear(node, known_seq);
        if is_remembered {
            // A node may depart twice, its hub and then its process: the second time nothing of it is known.
            let seq = self.membership.departed.entry(node.clone()).or_default();
            *seq = known_seq.max(*seq);
        }
    }

    /// Forgets gone members whose children are all adopted or stopped.
    pub(super) fn forget_adopted(&mut self) {
        if self.membership.departed.is_empty() {
            return;
        }
        let departed = &mut self.membership.departed;
        let mut needed = std::collections::BTreeSet::new();
        for (_, record) in self.children.iter() {
            for holder in record.entry.holders.iter().filter(|holder| holder.is_departed) {
                if departed.contains_key(&holder.node) && !needed.contains(&holder.node) {
                    needed.insert(holder.node.clone());
                }
                if needed.len() == departed.len() {
                    // Asked after every child that is adopted: most answers come early.
                    return;
                }
            }
        }
        departed.retain(|node, _| needed.contains(node));
    }
}
