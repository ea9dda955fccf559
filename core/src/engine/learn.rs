//! The logs of the members as they come in: deltas, snapshots, and asking for what is missing (A4).

use std::collections::{BTreeMap, BTreeSet};

use super::children::{Record, Slot};
use super::log::{MAX_PIECES, PULL_AFTER};
use super::membership::PartialSnapshot;
use super::registry::Holder;
use super::{Engine, TimerKey};
use crate::ids::{ChildId, NodeRef};
use crate::wire::{InstanceRow, LogEntry, Message};

impl Engine {
    /// Entries of a member's log, sent by itself or by `via`.
    pub(super) fn delta_received(
        &mut self,
        from: &NodeRef,
        via: &NodeRef,
        after: u64,
        to: u64,
        entries: Vec<LogEntry>,
    ) {
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
        self.pass_on(from, via, after, to, &entries);
        for entry in entries {
            self.apply_entry(from, entry);
        }
        self.log_known(from, to);
    }

    fn apply_entry(&mut self, from: &NodeRef, entry: LogEntry) {
        match entry {
            LogEntry::Wanted(child, wanted) => {
                let child = self.children.intern(&child);
                self.learn_wanted(child, from, wanted);
            }
            LogEntry::Row(child, row) => {
                let child = self.children.intern(&child);
                self.learn_row(child, from, row);
            }
            LogEntry::Begun(wanted, row) => {
                let Some(child) = wanted.spec.as_ref().map(|spec| self.children.intern(&spec.id)) else {
                    return;
                };
                self.learn_wanted(child, from, wanted);
                self.learn_row(child, from, row);
            }
            LogEntry::Gave(child, (to, seq), row) => {
                let child = self.children.intern(&child);
                self.row_given(child, from, to, seq);
                self.learn_row(child, from, row);
            }
            LogEntry::Gone(child, given) => {
                let child = self.children.intern(&child);
                match given {
                    Some((to, seq)) => self.row_given(child, from, to, seq),
                    None => self.row_gone(child, from),
                }
                self.row_changed(child);
            }
        }
    }

    fn learn_row(&mut self, child: Slot, from: &NodeRef, row: InstanceRow) {
        self.note_epoch(row.token.epoch);
        let entry = &mut self.children[child].entry;
        let is_told = |holder: &Holder| holder.node == *from && holder.is_told(&row);
        if entry.holders.iter().any(is_told) {
            // Passed on by several, or asked for twice.
            return;
        }
        let was_quarantined =
            entry.holders.iter().any(|holder| holder.node == *from && holder.row.stage.is_quarantined());
        entry.write_row(from, &row);
        if row.stage.is_quarantined() && !was_quarantined {
            self.tell_quarantine(child, from, row.restarts);
        }
        self.row_seen(child, &row);
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
        self.compare_by_logs();
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
            let id = match &entry {
                LogEntry::Row(child, _) | LogEntry::Gave(child, ..) => Some(child),
                LogEntry::Begun(wanted, _) => wanted.spec.as_ref().map(|spec| &spec.id),
                LogEntry::Wanted(..) | LogEntry::Gone(..) => None,
            };
            told.extend(id.map(|id| self.children.intern(id)));
            self.apply_entry(from, entry);
        }
        let has_row = |record: &Record| record.entry.holders.iter().any(|holder| holder.node == *from);
        let known = self.children.iter().filter(|(_, record)| has_row(record));
        let untold: Vec<ChildId> =
            known.filter(|(child, _)| !told.contains(child)).map(|(_, record)| record.id.clone()).collect();
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
}
