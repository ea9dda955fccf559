//! Telling a few: where the strategy does not send everything to everybody, those who are told pass it on (A4).
//!
//! What is passed on are entries of a member's log, as that member wrote and numbered them, under its name and the
//! start of its hub: each node stays the only one that writes its rows (R2), and a receiver takes the entries in as if
//! the author had sent them, in order and once. It acknowledges them to the author, who tells a few more of those that
//! have not, until all have. A digest goes the same way, once around: who lacks something asks the author for it.

use std::time::Duration;

use super::log::PULL_AFTER;
use super::{Engine, Lane, TimerKey};
use crate::ids::NodeRef;
use crate::strategy::Recipients;
use crate::wire::{LogEntry, LogSeen, Message, encode};

/// How long the same members are told, before others are that still lack something.
const SPREAD_AGAIN: Duration = Duration::from_millis(50);

impl Engine {
    /// Which of these members are sent something now.
    fn some_of(&mut self, members: &[NodeRef]) -> Vec<NodeRef> {
        match self.strategies.synchronization.recipients(members, &mut self.random) {
            Recipients::All => members.to_vec(),
            Recipients::Some(positions) => positions.into_iter().filter_map(|at| members.get(at).cloned()).collect(),
        }
    }

    /// The other members, without these two.
    fn others_than(&self, one: &NodeRef, other: &NodeRef) -> Vec<NodeRef> {
        let members = self.membership.peers.iter().filter(|(_, peer)| peer.is_member()).map(|(node, _)| node);
        members.filter(|node| *node != one && *node != other).cloned().collect()
    }

    /// Leaves those of the members behind our log that are sent it in this turn.
    pub(super) fn keep_recipients(&mut self, behind: &mut Vec<(NodeRef, u64)>) {
        if !self.timers.is_armed(&TimerKey::Spread) {
            let members: Vec<NodeRef> = behind.iter().map(|(node, _)| node.clone()).collect();
            self.log.recipients = self.some_of(&members);
            if self.log.recipients.len() == members.len() {
                return;
            }
            self.timers.arm(TimerKey::Spread, self.now + SPREAD_AGAIN);
        }
        let (recipients, peers) = (&self.log.recipients, &self.membership.peers);
        behind.retain(|(node, _)| recipients.contains(node) || peers.get(node).is_some_and(|peer| !peer.is_served));
    }

    /// This member is sent our log whomever the strategy chooses.
    pub(super) fn serve(&mut self, node: &NodeRef) {
        if let Some(peer) = self.membership.peers.get_mut(node) {
            peer.is_served = false;
        }
    }

    /// Passes on entries of a member's log that are new here.
    pub(super) fn pass_on(&mut self, author: &NodeRef, via: &NodeRef, after: u64, to: u64, entries: &[LogEntry]) {
        if !self.strategies.synchronization.is_passed_on() {
            return;
        }
        let others = self.others_than(author, via);
        let recipients = self.some_of(&others);
        let Some(started_ms) = self.membership.peers.get(author).map(|peer| peer.started_ms) else {
            return;
        };
        let author = LogSeen { node: author.clone(), started_ms, seq: to };
        let Some(message) = encode(&Message::Passed { author, from: after, entries: entries.to_vec() }) else {
            return;
        };
        for node in recipients {
            if let Some(peer) = self.membership.peers.get_mut(&node) {
                peer.outboxes[Lane::Ctl as usize].push_encoded(Lane::Ctl, &message);
            }
        }
    }

    /// Entries of another member's log.
    pub(super) fn passed_received(&mut self, via: &NodeRef, author: &LogSeen, after: u64, entries: Vec<LogEntry>) {
        // An earlier hub of that node wrote another log.
        if self.is_log_of(author) {
            self.delta_received(&author.node, via, after, author.seq, entries);
        }
    }

    fn is_log_of(&self, seen: &LogSeen) -> bool {
        self.membership.peers.get(&seen.node).is_some_and(|peer| peer.started_ms == seen.started_ms)
    }

    /// Sends a digest around.
    pub(super) fn begin_digest(&mut self) {
        self.numbers.digest += 1;
        let (me, round) = (self.me.clone(), self.numbers.digest);
        let others = self.others_than(&me, &me);
        let logs = self.logs_seen();
        self.send_digest(&others, &me, round, &logs);
    }

    /// How far this node has each log, its own included.
    fn logs_seen(&self) -> Vec<LogSeen> {
        let own = LogSeen { node: self.me.clone(), started_ms: self.wall_ms, seq: self.log.seq };
        let members = self.membership.peers.iter().filter(|(_, peer)| peer.is_member());
        let seen = |(node, peer): (&NodeRef, &super::membership::Peer)| LogSeen {
            node: node.clone(),
            started_ms: peer.started_ms,
            seq: peer.known_seq,
        };
        std::iter::once(own).chain(members.map(seen)).collect()
    }

    fn send_digest(&mut self, members: &[NodeRef], starter: &NodeRef, round: u64, logs: &[LogSeen]) {
        let wanted_hash = self.registry.wanted_hash();
        let digest = Message::Digest { starter: starter.clone(), round, logs: logs.to_vec(), wanted_hash };
        for node in self.some_of(members) {
            self.send_ctl(&node, &digest);
        }
    }

    /// Compares a digest with what is known here, and passes it on if this round of it is new.
    pub(super) fn digest_received(
        &mut self,
        via: &NodeRef,
        starter: &NodeRef,
        round: u64,
        told: &[LogSeen],
        wanted_hash: u64,
    ) {
        let mut logs = self.logs_seen();
        let (mut lacks, mut is_ahead) = (false, false);
        for seen in &mut logs {
            let same = |log: &&LogSeen| log.node == seen.node && log.started_ms == seen.started_ms;
            let told_seq = told.iter().find(same).map_or(0, |log| log.seq);
            is_ahead |= told_seq < seen.seq;
            if told_seq > seen.seq && seen.node != self.me {
                lacks = true;
                seen.seq = told_seq;
                self.timers.arm_earlier(TimerKey::Pull(seen.node.clone()), self.now + PULL_AFTER);
            }
        }
        if is_ahead {
            // The sender lacked something when it sent this. Its round is not new to it: it only compares.
            self.send_digest(std::slice::from_ref(via), starter, round, &logs);
        } else if !lacks && wanted_hash != self.registry.wanted_hash() {
            self.send_buckets(via);
        }
        let is_new = self.membership.peers.get_mut(starter).is_some_and(|peer| {
            let is_new = peer.digest_round < round;
            peer.digest_round = peer.digest_round.max(round);
            is_new
        });
        if is_new {
            let others = self.others_than(starter, via);
            self.send_digest(&others, starter, round, &logs);
        }
    }
}
