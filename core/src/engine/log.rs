//! The log of this node, and what we have of the members' logs (A4).
//!
//! Every change of our rows and every wanted entry we write gets the next number. The journal keeps one item per
//! row and per wanted entry, the latest; so any suffix of the log is a range of it. A receiver that sees a gap asks
//! for the rest. A `Gone` is kept until every member has it; whoever is further behind gets a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::membership::PartialSnapshot;
use super::registry::Holder;
use super::{Engine, Lane, TimerKey};
use crate::ids::{ChildId, NodeRef};
use crate::observe::HookName;
use crate::wire::{InstanceRow, LogEntry, Message, RequestKey, Stage, Version, Wanted};

/// Entries in one message.
const CHUNK: usize = 256;
/// How long a gap may stay before it is asked for.
pub(super) const PULL_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
/// Pieces of one snapshot; a bound on what a peer can make us keep.
const MAX_PIECES: u32 = 1 << 16;

/// Most `Gone` dropped at a time.
const COMPACTED_PER_TURN: usize = 4096;

#[derive(Clone, Debug)]
enum Item {
    Row(ChildId),
    Wanted(ChildId),
    Gone(ChildId, Option<Box<(NodeRef, u64)>>),
}

/// The log of this node.
#[derive(Debug, Default)]
pub(super) struct OwnLog {
    pub(super) seq: u64,
    journal: BTreeMap<u64, Item>,
    /// Where the journal has a `Gone`.
    gone: BTreeSet<u64>,
    /// Below this entry some `Gone` was dropped: such a suffix cannot be told.
    floor: u64,
    /// Rows of others that were given to a node whose log is not that far yet: node → (entry, child, giver).
    awaited: BTreeMap<NodeRef, BTreeSet<(u64, ChildId, NodeRef)>>,
}

impl OwnLog {
    fn append(&mut self, replaces: u64, item: Item) -> u64 {
        if replaces != 0 {
            self.journal.remove(&replaces);
            self.gone.remove(&replaces);
        }
        self.seq += 1;
        if matches!(item, Item::Gone(..)) {
            self.gone.insert(self.seq);
        }
        self.journal.insert(self.seq, item);
        self.seq
    }
}

impl Engine {
    /// Writes our row of a child, if it changed.
    pub(super) fn put_row(&mut self, child: &ChildId, row: InstanceRow) {
        let me = self.me.clone();
        let entry = self.registry.entry(child);
        match entry.holder_mut(&me) {
            Some(holder) if holder.row == row => return,
            Some(holder) => holder.row = row.clone(),
            None => entry.add_holder(Holder { node: me, row: row.clone(), is_departed: false, gone_after: None }),
        }
        entry.own_row_seq = self.log.append(entry.own_row_seq, Item::Row(child.clone()));
        self.row_seen(child, &row);
    }

    /// Removes our row. `given` names who has the child now, and which entry of that log says so.
    pub(super) fn drop_row(&mut self, child: &ChildId, given: Option<(NodeRef, u64)>) {
        let Some(entry) = self.registry.get_mut(child) else {
            return;
        };
        let Some(at) = entry.holders.iter().position(|holder| holder.node == self.me) else {
            return;
        };
        entry.own_row_seq = self.log.append(entry.own_row_seq, Item::Gone(child.clone(), given.clone().map(Box::new)));
        match given {
            Some((to, seq)) => self.row_given(child, &self.me.clone(), to, seq),
            None => {
                entry.holders.swap_remove(at);
            }
        }
        self.row_changed(child);
    }

    /// Writes a wanted entry: a spec, or a tombstone.
    pub(super) fn write_wanted(
        &mut self,
        child: &ChildId,
        spec: Option<std::sync::Arc<crate::spec::ChildSpec>>,
        request: RequestKey,
    ) {
        let counter = (self.registry.clock() + 1).max(self.unix_ms());
        let entry = self.registry.entry(child);
        let epoch = entry.highest_epoch();
        let seq = self.log.append(entry.own_wanted_seq, Item::Wanted(child.clone()));
        entry.own_wanted_seq = seq;
        let version = Version { counter, author: self.me.incarnation };
        let wanted = Wanted { version, request, spec, epoch, seq };
        let me = self.me.clone();
        self.registry.merge_wanted(child, &me, wanted, self.now.0);
        self.row_changed(child);
    }

    /// The giver's instance counts until we have the receiver's log up to `seq`.
    fn row_given(&mut self, child: &ChildId, giver: &NodeRef, to: NodeRef, seq: u64) {
        let known = if to == self.me {
            self.log.seq
        } else {
            match self.membership.peers.get(&to) {
                Some(peer) => peer.known_seq,
                // Not a member: its last word decides, and the giver's stands for it.
                None => self.membership.heard.get(&to).copied().unwrap_or(0),
            }
        };
        let is_member = to == self.me || self.membership.peers.contains_key(&to);
        let Some(entry) = self.registry.get_mut(child) else {
            return;
        };
        if known >= seq {
            entry.holders.retain(|holder| holder.node != *giver);
            return;
        }
        let Some(holder) = entry.holder_mut(giver) else {
            return;
        };
        if is_member {
            holder.gone_after = Some((to.clone(), seq));
            self.log.awaited.entry(to).or_default().insert((seq, child.clone(), giver.clone()));
        } else {
            holder.node = to;
            holder.is_departed = true;
        }
    }

    /// A member's log is known up to `known`: what was given to it is told by its own rows now.
    fn settle_given(&mut self, node: &NodeRef, known: u64) {
        let Some(awaited) = self.log.awaited.get_mut(node) else {
            return;
        };
        while let Some((seq, child, giver)) = awaited.first().cloned() {
            if seq > known {
                break;
            }
            awaited.pop_first();
            if let Some(entry) = self.registry.get_mut(&child) {
                entry.holders.retain(|holder| holder.node != giver || holder.gone_after != Some((node.clone(), seq)));
            }
            self.changed.insert(child.clone());
            self.dirty.insert(child);
        }
    }

    /// A node that was given children is gone before it said so: the givers' rows are its last word.
    pub(super) fn depart_given(&mut self, node: &NodeRef) {
        for (_, child, giver) in self.log.awaited.remove(node).unwrap_or_default() {
            if let Some(entry) = self.registry.get_mut(&child)
                && let Some(holder) = entry.holder_mut(&giver)
                && holder.gone_after.as_ref().is_some_and(|(to, _)| to == node)
            {
                holder.node = node.clone();
                holder.gone_after = None;
                holder.is_departed = true;
            }
        }
    }

    /// A row of ours or of a member is new or changed.
    fn row_seen(&mut self, child: &ChildId, row: &InstanceRow) {
        let entry = self.registry.entry(child);
        entry.seen_epoch = entry.seen_epoch.max(row.token.epoch);
        if row.stage == Stage::Active {
            let entry = self.registry.entry(child);
            entry.holders.retain(|holder| !holder.is_departed || holder.row.token.epoch >= row.token.epoch);
            if let Some(lost) = row.lost.clone() {
                self.tell_loss(child, &lost);
            }
        }
        self.row_changed(child);
    }

    pub(super) fn row_changed(&mut self, child: &ChildId) {
        self.changed.insert(child.clone());
        self.dirty.insert(child.clone());
        self.wake_messages(child);
    }

    /// Sends each member what it has not been sent of our log.
    pub(super) fn send_log(&mut self) {
        let seq = self.log.seq;
        let behind: Vec<(NodeRef, u64)> = self
            .membership
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_member() && peer.sent_seq < seq)
            .map(|(node, peer)| (node.clone(), peer.sent_seq))
            .collect();
        let mut suffix: Option<(u64, Vec<Message>)> = None;
        for (node, from) in behind {
            if let Some(peer) = self.membership.peers.get_mut(&node) {
                peer.sent_seq = seq;
            }
            if from < self.log.floor {
                self.send_snapshot(&node);
                continue;
            }
            if suffix.as_ref().is_none_or(|(after, _)| *after != from) {
                suffix = Some((from, self.suffix(from)));
            }
            for message in suffix.iter().flat_map(|(_, messages)| messages) {
                // The borrow of `suffix` is ours; `send` needs the peers only.
                if let Some(peer) = self.membership.peers.get_mut(&node) {
                    peer.outboxes[Lane::Ctl as usize].push(Lane::Ctl, message);
                }
            }
        }
    }

    fn suffix(&self, from: u64) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut entries = Vec::new();
        let mut after = from;
        for (seq, item) in self.log.journal.range(from + 1..) {
            entries.extend(self.entry_of(item));
            if entries.len() >= CHUNK {
                messages.push(Message::Delta { from: after, to: *seq, entries: std::mem::take(&mut entries) });
                after = *seq;
            }
        }
        if after < self.log.seq {
            messages.push(Message::Delta { from: after, to: self.log.seq, entries });
        }
        messages
    }

    fn entry_of(&self, item: &Item) -> Option<LogEntry> {
        match item {
            Item::Row(child) => {
                let entry = self.registry.get(child.as_str())?;
                let holder = entry.holders.iter().find(|holder| holder.node == self.me)?;
                Some(LogEntry::Row(child.clone(), holder.row.clone()))
            }
            Item::Wanted(child) => {
                let entry = self.registry.get(child.as_str())?;
                let is_ours = entry.author.as_ref() == Some(&self.me);
                let wanted = entry.wanted.clone().filter(|_| is_ours)?;
                Some(LogEntry::Wanted(child.clone(), wanted))
            }
            Item::Gone(child, given) => Some(LogEntry::Gone(child.clone(), given.as_deref().cloned())),
        }
    }

    fn send_snapshot(&mut self, to: &NodeRef) {
        let entries: Vec<LogEntry> = self
            .log
            .journal
            .values()
            .filter(|item| !matches!(item, Item::Gone(..)))
            .filter_map(|item| self.entry_of(item))
            .collect();
        let pieces = u32::try_from(entries.len().div_ceil(CHUNK).max(1)).unwrap_or(MAX_PIECES);
        let seq = self.log.seq;
        let mut entries = entries.into_iter();
        for piece in 0..pieces {
            let entries = entries.by_ref().take(CHUNK).collect();
            self.send(to, Lane::Bulk, &Message::Snapshot { seq, piece, pieces, entries });
        }
    }

    /// A member lacks our log from `seq` on.
    pub(super) fn pull_received(&mut self, from: &NodeRef, seq: u64) {
        if let Some(peer) = self.membership.peers.get_mut(from) {
            peer.sent_seq = seq.min(self.log.seq);
        }
    }

    pub(super) fn delta_received(&mut self, from: &NodeRef, after: u64, to: u64, entries: Vec<LogEntry>) {
        let Some(peer) = self.membership.peers.get_mut(from) else {
            return;
        };
        peer.owes_ack = true;
        if to <= peer.known_seq {
            return;
        }
        if after > peer.known_seq {
            self.timers.arm_earlier(TimerKey::Pull(from.clone()), self.now + PULL_AFTER / 4);
            return;
        }
        for entry in entries {
            self.apply_entry(from, entry);
        }
        self.log_known(from, to);
    }

    fn apply_entry(&mut self, from: &NodeRef, entry: LogEntry) {
        match entry {
            LogEntry::Wanted(child, wanted) => self.learn_wanted(&child, from, wanted),
            LogEntry::Row(child, row) => {
                self.note_epoch(row.token.epoch);
                let entry = self.registry.entry(&child);
                let was_quarantined = entry.holders.iter().any(|holder| holder.row.stage == Stage::Quarantined);
                let change = match entry.holder_mut(from) {
                    Some(holder) => {
                        let before = std::mem::replace(&mut holder.row, row.clone());
                        holder.is_departed = false;
                        holder.gone_after = None;
                        (before.token != row.token && before.stage == Stage::Active)
                            .then_some(HookName::ChildProcessPidUpdated)
                    }
                    None => {
                        let (node, row) = (from.clone(), row.clone());
                        entry.add_holder(Holder { node, row, is_departed: false, gone_after: None });
                        None
                    }
                };
                self.tell_row(&child, from, &row, change);
                if row.stage == Stage::Quarantined && !was_quarantined {
                    self.tell_quarantine(&child, from, row.restarts);
                }
                self.row_seen(&child, &row);
            }
            LogEntry::Gone(child, given) => {
                match given {
                    Some((to, seq)) => self.row_given(&child, from, to, seq),
                    None => {
                        if let Some(entry) = self.registry.get_mut(&child) {
                            entry.holders.retain(|holder| holder.node != *from);
                        }
                    }
                }
                self.fire(
                    HookName::RegistryPidRemoved,
                    || json!({"child_id": child, "instances": [{"node": from.name}]}),
                );
                self.row_changed(&child);
            }
        }
    }

    fn log_known(&mut self, from: &NodeRef, seq: u64) {
        if let Some(peer) = self.membership.peers.get_mut(from) {
            peer.known_seq = seq;
            if peer.status.as_ref().is_some_and(|status| seq >= status.seq) {
                self.timers.disarm(&TimerKey::Pull(from.clone()));
            }
        }
        self.settle_given(from, seq);
        self.log_advanced(from, seq);
        self.check_settled();
    }

    pub(super) fn snapshot_received(
        &mut self,
        from: &NodeRef,
        seq: u64,
        piece: u32,
        pieces: u32,
        entries: Vec<LogEntry>,
    ) {
        let Some(peer) = self.membership.peers.get_mut(from) else {
            return;
        };
        peer.owes_ack = true;
        if seq <= peer.known_seq || piece >= pieces || pieces > MAX_PIECES {
            return;
        }
        let partial = peer
            .snapshot
            .take()
            .filter(|partial| partial.seq >= seq)
            .unwrap_or(PartialSnapshot { seq, pieces: BTreeMap::new() });
        let partial = peer.snapshot.insert(partial);
        if partial.seq != seq {
            return;
        }
        partial.pieces.insert(piece, entries);
        if partial.pieces.len() < pieces as usize {
            return;
        }
        let pieces = peer.snapshot.take().map(|partial| partial.pieces).unwrap_or_default();
        let mut told = BTreeSet::new();
        for entry in pieces.into_values().flatten() {
            if let LogEntry::Row(child, _) = &entry {
                told.insert(child.clone());
            }
            self.apply_entry(from, entry);
        }
        let untold: Vec<ChildId> = self
            .registry
            .iter()
            .filter(|(child, entry)| !told.contains(*child) && entry.holders.iter().any(|holder| holder.node == *from))
            .map(|(child, _)| child.clone())
            .collect();
        for child in untold {
            self.apply_entry(from, LogEntry::Gone(child, None));
        }
        self.log_known(from, seq);
    }

    /// Asks for what is missing of a member's log.
    pub(super) fn pull_log(&mut self, node: &NodeRef) {
        let Some(peer) = self.membership.member(node) else {
            return;
        };
        let known = peer.known_seq;
        self.send_ctl(node, &Message::PullLog(known));
        self.timers.arm(TimerKey::Pull(node.clone()), self.now + PULL_AFTER * 3);
    }

    /// Acknowledges the deltas of this turn, once per member.
    pub(super) fn send_acks(&mut self) {
        for peer in self.membership.peers.values_mut() {
            if std::mem::take(&mut peer.owes_ack) {
                let ack = Message::DeltaAck(peer.known_seq);
                peer.outboxes[Lane::Ctl as usize].push(Lane::Ctl, &ack);
            }
        }
    }

    pub(super) fn ack_received(&mut self, from: &NodeRef, seq: u64) {
        let Some(peer) = self.membership.peers.get_mut(from) else {
            return;
        };
        if seq > self.log.seq || seq <= peer.acked_seq {
            return;
        }
        peer.acked_seq = seq;
        self.compact_log();
        self.log_acked();
    }

    /// Drops each `Gone` that every member has; a hub alone needs none.
    pub(super) fn compact_log(&mut self) {
        let members = self.membership.peers.values().filter(|peer| peer.is_member());
        let acked = members.map(|peer| peer.acked_seq).min().unwrap_or(self.log.seq);
        for _ in 0..COMPACTED_PER_TURN {
            let Some(seq) = self.log.gone.first().copied().filter(|&seq| seq <= acked) else {
                return;
            };
            self.log.gone.remove(&seq);
            if let Some(Item::Gone(child, _)) = self.log.journal.remove(&seq)
                && let Some(entry) = self.registry.get_mut(&child)
                && entry.own_row_seq == seq
            {
                entry.own_row_seq = 0;
            }
            self.log.floor = seq;
        }
    }
}
