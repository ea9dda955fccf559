//! The log of this node (A4).
//!
//! Every change of our rows and every wanted entry we write gets the next number; a row written right after its
//! wanted entry shares that one's. The journal keeps the numbers in order, and the child's entry the latest of each
//! kind; so any suffix of the log is a range of the journal. A receiver that sees a gap asks for the rest. A `Gone` is
//! kept until every member has it; whoever is further behind gets a snapshot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::assigning::with_mapping;
use super::children::{Children, Record, Slot};
use super::registry::{Entry, Holder};
use super::{Engine, Lane};
use crate::ids::{NodeName, NodeRef};
use crate::wire::{InstanceRow, LogEntry, Message, RequestKey, Stage, Version, Wanted, encode};

/// Entries in one message.
const CHUNK: usize = 256;
/// How long a gap may stay before it is asked for.
pub(super) const PULL_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
/// Pieces of one snapshot; a bound on what a peer can make us keep.
pub(super) const MAX_PIECES: u32 = 1 << 16;

/// Most `Gone` dropped at a time.
const COMPACTED_PER_TURN: usize = 4096;

/// What an item of the journal tells. It is told while the child's entry still bears its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Row,
    Wanted,
    /// A wanted entry, and the row of the instance that was started for it.
    Begun,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    seq: u64,
    child: Slot,
    kind: Kind,
}

impl Item {
    fn tells_row(&self, entry: &Entry) -> bool {
        entry.own_row_seq == self.seq
    }

    fn tells_wanted(&self, entry: &Entry) -> bool {
        entry.own_wanted_seq == self.seq
    }

    fn is_superseded(&self, children: &Children) -> bool {
        let entry = &children[self.child].entry;
        !self.tells_row(entry) && !self.tells_wanted(entry)
    }
}

/// The log of this node.
#[derive(Debug, Default)]
pub(super) struct OwnLog {
    pub(super) seq: u64,
    /// By number. Superseded items go when they are half of it.
    journal: Vec<Item>,
    tidied_len: usize,
    /// Where the journal has a `Gone`, by number.
    gone: VecDeque<(u64, Slot)>,
    /// Below this entry some `Gone` was dropped: such a suffix cannot be told.
    floor: u64,
    /// Up to this entry the log was sent to somebody.
    told: u64,
    /// Who is told of it at present, where not everybody is.
    pub(super) recipients: Vec<NodeRef>,
    /// Rows of others that were given to a node whose log is not that far yet: node → (entry, child, giver).
    awaited: BTreeMap<NodeRef, BTreeSet<(u64, Slot, NodeRef)>>,
}

/// The journal is looked through for superseded items from this length on.
const TIDIED_FROM: usize = 4096;

impl OwnLog {
    fn append(&mut self, child: Slot, kind: Kind) -> u64 {
        self.seq += 1;
        if kind == Kind::Gone {
            self.gone.push_back((self.seq, child));
        }
        self.journal.push(Item { seq: self.seq, child, kind });
        self.seq
    }

    /// Writes a row into the entry for its child that was written last, if nobody was told of that yet.
    fn append_row(&mut self, child: Slot) -> u64 {
        match self.journal.last_mut() {
            Some(last) if last.child == child && last.kind == Kind::Wanted && last.seq > self.told => {
                last.kind = Kind::Begun;
                last.seq
            }
            Some(_) | None => self.append(child, Kind::Row),
        }
    }

    fn after(&self, seq: u64) -> &[Item] {
        let first = self.journal.partition_point(|item| item.seq <= seq);
        &self.journal[first..]
    }

    fn tidy(&mut self, children: &Children) {
        if self.journal.len() >= TIDIED_FROM.max(2 * self.tidied_len) {
            self.journal.retain(|item| !item.is_superseded(children));
            self.tidied_len = self.journal.len();
        }
    }
}

impl Engine {
    /// Writes our row of a child, if it changed.
    pub(super) fn put_row(&mut self, child: Slot, row: InstanceRow) {
        let entry = &mut self.children[child].entry;
        if entry.holder(&self.me).is_some_and(|holder| holder.row == row) {
            return;
        }
        entry.write_row(&self.me, &row);
        if !row.stage.is_replica() {
            entry.given = None;
        }
        entry.own_row_seq = self.log.append_row(child);
        if entry.given.is_some() {
            // The members have to hear of both: who has the child now, and what this node has.
            self.log.gone.push_back((entry.own_row_seq, child));
        }
        self.row_seen(child, &row);
    }

    /// Removes our row. `given` names who has the child now, and which entry of that log says so.
    pub(super) fn drop_row(&mut self, child: Slot, given: Option<(NodeRef, u64)>) {
        let entry = &mut self.children[child].entry;
        if entry.holder(&self.me).is_none() {
            return;
        }
        entry.own_row_seq = self.log.append(child, Kind::Gone);
        match given {
            Some((to, seq)) => {
                entry.given = Some(Box::new((to.clone(), seq)));
                self.row_given(child, &self.me.clone(), to, seq);
            }
            None => self.row_gone(child, &self.me.clone()),
        }
        self.row_changed(child);
    }

    /// Writes a wanted entry: a spec, or a tombstone.
    pub(super) fn write_wanted(
        &mut self,
        child: Slot,
        spec: Option<std::sync::Arc<crate::spec::ChildSpec>>,
        request: RequestKey,
    ) {
        let counter = (self.registry.clock() + 1).max(self.unix_ms());
        let seq = self.log.append(child, Kind::Wanted);
        let record = &mut self.children[child];
        record.entry.own_wanted_seq = seq;
        let version = Version { counter, author: self.me.incarnation, ..Version::default() };
        let ended = if spec.is_none() { record.entry.told_start().map(Box::new) } else { None };
        let wanted = Wanted { version, request, spec, ended, epoch: record.entry.highest_epoch(), seq };
        self.registry.merge_wanted(record, &self.me, wanted, self.now.0);
        self.row_changed(child);
    }

    /// Maps a wanted child to other nodes. It is the same start as before, and any later write of a user's goes before it.
    pub(super) fn write_mapping(&mut self, child: Slot, mapping: Vec<NodeName>) {
        let revision = (self.registry.clock() + 1).max(self.unix_ms());
        let record = &mut self.children[child];
        let Some((known, spec)) = record.entry.wanted.clone().and_then(|wanted| Some((wanted.clone(), wanted.spec?)))
        else {
            return;
        };
        let seq = self.log.append(child, Kind::Wanted);
        record.entry.own_wanted_seq = seq;
        let version = Version { revision, reviser: self.me.incarnation, ..known.version };
        let epoch = record.entry.highest_epoch();
        let wanted = Wanted { version, spec: Some(with_mapping(spec, mapping)), epoch, seq, ..known };
        self.registry.merge_wanted(record, &self.me, wanted, self.now.0);
        self.row_changed(child);
    }

    /// A node has no instance of the child any more. One that it gave away counts until the receiver is heard.
    pub(super) fn row_gone(&mut self, child: Slot, node: &NodeRef) {
        let holders = &mut self.children[child].entry.holders;
        holders.retain(|holder| holder.node != *node || holder.gone_after.is_some());
    }

    /// The giver's instance counts until we have the receiver's log up to `seq`.
    pub(super) fn row_given(&mut self, child: Slot, giver: &NodeRef, to: NodeRef, seq: u64) {
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
        let entry = &mut self.children[child].entry;
        if known >= seq {
            entry.holders.retain(|holder| holder.node != *giver);
            return;
        }
        let of_giver = entry.holders.iter_mut().filter(|holder| holder.node == *giver);
        // A replica that became the child and gave it away before its log came this far is known as a replica only.
        let Some(holder) = of_giver.max_by_key(|holder| !holder.row.stage.is_replica()) else {
            return;
        };
        if holder.row.stage.is_replica() {
            holder.row.stage = Stage::Active;
        }
        if is_member {
            holder.gone_after = Some(Box::new((to.clone(), seq)));
            self.log.awaited.entry(to).or_default().insert((seq, child, giver.clone()));
        } else {
            holder.node = to;
            holder.is_departed = true;
        }
        // What it was beside that, a replica that it became and that ended since, is over; `Gave` tells of it anew.
        entry.holders.retain(|holder| holder.node != *giver || holder.gone_after.is_some());
    }

    /// A member's log is known up to `known`: what was given to it is told by its own rows now.
    pub(super) fn settle_given(&mut self, node: &NodeRef, known: u64) {
        let Some(awaited) = self.log.awaited.get_mut(node) else {
            return;
        };
        while awaited.first().is_some_and(|(seq, ..)| *seq <= known) {
            let Some((seq, child, giver)) = awaited.pop_first() else {
                return;
            };
            let is_settled = |holder: &Holder| holder.node == giver && holder.is_given(node, Some(seq));
            self.children[child].entry.holders.retain(|holder| !is_settled(holder));
            self.children.mark_changed(child);
            self.children.mark_dirty(child);
        }
    }

    /// A node that was given children is gone before it said so: the givers' rows are its last word.
    pub(super) fn depart_given(&mut self, node: &NodeRef) {
        for (_, child, giver) in self.log.awaited.remove(node).unwrap_or_default() {
            let holder = self.children[child].entry.lead_of_mut(&giver);
            if let Some(holder) = holder.filter(|holder| holder.is_given(node, None)) {
                holder.node = node.clone();
                holder.gone_after = None;
                holder.is_departed = true;
            }
        }
    }

    /// A row of ours or of a member is new or changed.
    pub(super) fn row_seen(&mut self, child: Slot, row: &InstanceRow) {
        let entry = &mut self.children[child].entry;
        entry.seen_epoch = entry.seen_epoch.max(row.token.epoch);
        if row.stage == Stage::Active {
            entry.holders.retain(|holder| !holder.is_departed || holder.row.token.epoch >= row.token.epoch);
            if let Some(lost) = row.lost.clone() {
                self.tell_loss(child, &lost);
            }
        }
        self.row_changed(child);
    }

    pub(super) fn row_changed(&mut self, child: Slot) {
        self.children.mark_changed(child);
        self.children.mark_dirty(child);
        self.wake_messages(child);
    }

    /// Sends members what they have not been sent of our log: all of them, or those that the strategy chooses.
    pub(super) fn send_log(&mut self) {
        let seq = self.log.seq;
        let mut behind: Vec<(NodeRef, u64)> = Vec::new();
        for (node, peer) in self.membership.peers.iter_mut().filter(|(_, peer)| peer.is_member()) {
            if peer.sent_seq < seq {
                behind.push((node.clone(), peer.sent_seq));
            } else {
                peer.is_served = true;
            }
        }
        if !behind.is_empty() {
            self.keep_recipients(&mut behind);
        }
        self.log.tidy(&self.children);
        // Encoded once for all who are equally far.
        let mut suffix: Option<(u64, Vec<Vec<u8>>)> = None;
        for (node, from) in behind {
            if let Some(peer) = self.membership.peers.get_mut(&node) {
                peer.sent_seq = seq;
                peer.is_served = true;
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
                    peer.outboxes[Lane::Ctl as usize].push_encoded(Lane::Ctl, message);
                }
            }
        }
        self.log.told = seq;
    }

    fn suffix(&self, from: u64) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut entries = Vec::new();
        let mut after = from;
        for item in self.log.after(from) {
            entries.extend(self.entry_of(item));
            if entries.len() >= CHUNK {
                let message = Message::Delta { from: after, to: item.seq, entries: std::mem::take(&mut entries) };
                messages.extend(encode(&message));
                after = item.seq;
            }
        }
        if after < self.log.seq {
            messages.extend(encode(&Message::Delta { from: after, to: self.log.seq, entries }));
        }
        messages
    }

    /// What an item tells; nothing where it is superseded.
    fn entry_of(&self, item: &Item) -> Option<LogEntry> {
        let Record { id, entry, .. } = &self.children[item.child];
        if item.kind == Kind::Gone {
            return item.tells_row(entry).then(|| LogEntry::Gone(id.clone(), entry.given.as_deref().cloned()));
        }
        let holder = entry.holder(&self.me);
        let row = holder.filter(|_| item.tells_row(entry)).map(|holder| holder.row.clone());
        if let (Some(given), Some(row)) = (entry.given.as_deref(), &row) {
            return Some(LogEntry::Gave(id.clone(), given.clone(), row.clone()));
        }
        let is_told = item.tells_wanted(entry) && entry.author.as_ref() == Some(&self.me);
        match (entry.wanted.clone().filter(|_| is_told), row) {
            (Some(wanted), Some(row)) => Some(LogEntry::Begun(wanted, row)),
            (Some(wanted), None) => Some(LogEntry::Wanted(id.clone(), wanted)),
            (None, Some(row)) => Some(LogEntry::Row(id.clone(), row)),
            (None, None) => None,
        }
    }

    fn send_snapshot(&mut self, to: &NodeRef) {
        let items = self.log.journal.iter().filter(|item| item.kind != Kind::Gone);
        let entries: Vec<LogEntry> = items.filter_map(|item| self.entry_of(item)).collect();
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
            peer.is_served = false;
        }
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
        // Another may have passed it on.
        peer.sent_seq = peer.sent_seq.max(seq);
        self.compact_log();
        self.log_acked();
    }

    /// Drops each `Gone` that every member has; a hub alone needs none.
    pub(super) fn compact_log(&mut self) {
        let members = self.membership.peers.values().filter(|peer| peer.is_member());
        let acked = members.map(|peer| peer.acked_seq).min().unwrap_or(self.log.seq);
        for _ in 0..COMPACTED_PER_TURN {
            let Some(&(seq, child)) = self.log.gone.front().filter(|(seq, _)| *seq <= acked) else {
                return;
            };
            self.log.gone.pop_front();
            let entry = &mut self.children[child].entry;
            if entry.own_row_seq == seq {
                entry.given = None;
                if entry.holder(&self.me).is_none() {
                    entry.own_row_seq = 0;
                    self.log.floor = seq;
                }
                self.children.mark_changed(child);
            }
        }
    }
}
