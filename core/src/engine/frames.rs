//! Frames: what comes in goes to the file that knows the message, what goes out is collected and sent once a turn.
//!
//! The ids of children are turned into slots here, for all messages about one child.

use std::time::Duration;

use bytes::Bytes;

use super::arbiter::Asked;
use super::{Effect, Engine, FIRST_OWN_REQUEST, Lane};
use crate::ids::NodeRef;
use crate::wire::{Header, Inbox, Message, open};

impl Engine {
    pub(super) fn frame(&mut self, from: &NodeRef, frame: &Bytes) {
        self.counters.frames_in += 1;
        let Ok((header, body)) = open(frame) else {
            self.counters.bad_frames += 1;
            return;
        };
        let Some(peer) = self.membership.peers.get(from) else {
            return;
        };
        let was_known = peer.started_ms == header.from_start;
        if !was_known {
            if peer.started_ms > header.from_start {
                return;
            }
            // A hub that was started again, or one not met yet: its status says so before anything else of it counts.
            let Ok(messages) = Inbox::default().accept(header, &body) else {
                self.counters.bad_frames += 1;
                return;
            };
            for message in messages {
                if let Message::Status(status) = message {
                    self.status_received(from, header, *status);
                }
            }
        }
        let is_for_us = header.to_start == self.wall_ms;
        let peer = self.membership.peers.get_mut(from).filter(|peer| peer.started_ms == header.from_start);
        let Some(peer) = peer else {
            return;
        };
        peer.open_from = peer.open_from.max(header.open_from);
        let open_from = peer.open_from;
        let Ok(messages) = peer.inbox.accept(header, &body) else {
            self.counters.bad_frames += 1;
            return;
        };
        for message in messages {
            if self.is_ended {
                return;
            }
            if let Message::Status(status) = message {
                if was_known {
                    self.status_received(from, header, *status);
                }
                continue;
            }
            let asked = if let Message::Start { request, .. } | Message::Stop { request, .. } = &message {
                Some((request, open_from))
            } else if let Message::StartFor { asker, request, .. } = &message {
                Some((request, self.membership.peers.get(asker).map_or(0, |asker| asker.open_from)))
            } else {
                None
            };
            let is_overtaken = if let Some((request, open_from)) = asked {
                // Late on its way: the asker has had its answer, whatever it was.
                let is_answered = request.request < FIRST_OWN_REQUEST && request.request < open_from;
                // Asked before this node was stalled: the asker may have given up, or got it elsewhere. It asks again.
                is_answered || header.to_generation < self.membership.generation
            } else {
                false
            };
            if is_for_us && !is_overtaken {
                self.message(from, message);
            }
        }
    }

    fn message(&mut self, from: &NodeRef, message: Message) {
        match message {
            Message::Status(_) => {}
            Message::Delta { from: after, to, entries } => self.delta_received(from, from, after, to, entries),
            Message::Passed { author, from: after, entries } => self.passed_received(from, &author, after, entries),
            Message::Digest { starter, round, logs, wanted_hash } => {
                self.digest_received(from, &starter, round, &logs, wanted_hash);
            }
            Message::DeltaAck(seq) => self.ack_received(from, seq),
            Message::PullLog(seq) => self.pull_received(from, seq),
            Message::Snapshot { seq, piece, pieces, entries } => {
                self.snapshot_received(from, seq, piece, pieces, entries);
            }
            Message::PullDeparted(node) => self.pull_departed_received(from, &node),
            Message::Departed { node, seq, rows } => self.departed_received(&node, seq, rows),
            Message::WantedBuckets(buckets) => self.buckets_received(from, &buckets),
            Message::WantedPush { buckets, entries, wants_answer } => {
                self.wanted_received(from, &buckets, entries, wants_answer);
            }
            Message::Start { request, view_hash, left_ms, return_existing, specs } => {
                let (from, until) = (from.clone(), self.now + Duration::from_millis(left_ms));
                let asked = Asked { from, key: request, view_hash, until, return_existing, is_passed: false, specs };
                self.start_received(asked);
            }
            Message::StartFor { asker, request, view_hash, left_ms, return_existing, specs } => {
                let until = self.now + Duration::from_millis(left_ms);
                let asked =
                    Asked { from: asker, key: request, view_hash, until, return_existing, is_passed: true, specs };
                self.start_received(asked);
            }
            Message::Started(request, answers) => self.started_received(from, request, answers),
            Message::Stop { request, undoes, view_hash, ids } => {
                self.stop_received(from, request, undoes, view_hash, ids);
            }
            Message::Stopped(request, answers) => self.stopped_received(from, request, answers),
            Message::Prepare { child, token, view_hash, version, is_hot } => {
                let child = self.children.intern(&child);
                self.prepare_received(from, child, token, view_hash, version, is_hot);
            }
            Message::Prepared(child, token) => {
                let child = self.children.intern(&child);
                self.prepared_received(from, child, token);
            }
            Message::Refused { child, token, is_transient, why } => {
                let child = self.children.intern(&child);
                self.refused_received(from, child, token, is_transient, &why);
            }
            Message::State { child, token, state, hash } => {
                let child = self.children.intern(&child);
                self.state_received(from, child, token, state, hash);
            }
            Message::Ready { child, token, hash } => {
                let child = self.children.intern(&child);
                self.ready_received(from, child, token, hash);
            }
            Message::Commit { child, token, held, lost } => {
                let child = self.children.intern(&child);
                self.commit_received(from, child, token, held, lost);
            }
            Message::Activated { child, token, seq } => {
                let child = self.children.intern(&child);
                self.activated_received(from, child, token, seq);
            }
            Message::Abort(child, token) => {
                let child = self.children.intern(&child);
                self.abort_received(from, child, token);
            }
            Message::Aborted(child, token) => {
                let child = self.children.intern(&child);
                self.aborted_received(child, token);
            }
            Message::Conflict { child, loser, winner, state } => {
                let child = self.children.intern(&child);
                self.conflict_received(from, child, loser, winner, state);
            }
            Message::ConflictSeen(child, loser, is_seen) => {
                let child = self.children.intern(&child);
                self.conflict_seen(from, child, loser, is_seen);
            }
            Message::Call { child, held } => {
                let child = self.children.intern(&child);
                self.call_received(child, held);
            }
            Message::Reply(id, result) => self.reply_received(id, result.map_err(|error| *error)),
            Message::Accepted(id) => self.accepted_received(id),
            Message::Bounce(id, hint) => self.bounce_received(from, id, hint),
            Message::Rerouted(id, to) => self.rerouted_received(from, id, to),
            Message::Query(id, child) => self.query_received(from, id, &child),
            Message::QueryAnswer(id, is_wanted) => self.query_answered(from, id, is_wanted),
            Message::WhichChildren(request) => self.which_children_received(from, request),
            Message::AskSeq(request) => self.ask_seq_received(from, request),
            Message::ReplicaFailed { child, epoch, kind, message } => {
                let child = self.children.intern(&child);
                self.replica_failed_received(from, child, epoch, kind, &message);
            }
            Message::Seq(request, seq) => self.seq_received(from, request, seq),
            Message::Children(request, children) => self.children_received(from, request, children),
            Message::AcknowledgeLoss(child) => {
                let child = self.children.intern(&child);
                self.clear_loss(child);
            }
            Message::Leave => self.leave_received(from),
            Message::LeaveAck => self.leave_acked(from),
            Message::StrategyMismatch(options) => self.strategy_refused(from, &options),
            Message::Quorum(message) => self.quorum_received(from, *message),
        }
    }

    /// Queues a message to a member.
    pub(super) fn send(&mut self, to: &NodeRef, lane: Lane, message: &Message) {
        if let Some(peer) = self.membership.peers.get_mut(to) {
            peer.outboxes[lane as usize].push(lane, message);
        }
    }

    pub(super) fn send_ctl(&mut self, to: &NodeRef, message: &Message) {
        self.send(to, Lane::Ctl, message);
    }

    pub(super) fn send_frames(&mut self) {
        let open_from = self.open_from();
        self.numbers.asked_from = None;
        for (node, peer) in &mut self.membership.peers {
            for lane in [Lane::Ctl, Lane::Bulk] {
                let outbox = &mut peer.outboxes[lane as usize];
                if outbox.is_empty() {
                    continue;
                }
                let header = Header {
                    number: self.numbers.frame,
                    from_start: self.wall_ms,
                    to_start: peer.started_ms,
                    open_from,
                    to_generation: peer.status.as_ref().map_or(0, |status| status.generation),
                };
                let effects = &mut self.effects;
                self.numbers.frame = outbox.take(lane, header, |frame| {
                    effects.push(Effect::Send { to: node.clone(), lane, frame });
                });
            }
        }
    }

    /// The oldest open request of the users. One that was asked for and is over in the same turn had no time, and is not
    /// late on its way: it counts as open.
    fn open_from(&self) -> u64 {
        let held = self.partition.as_ref().and_then(|partition| partition.first_held());
        let first = self.requests.keys().next().copied().into_iter().chain(held).min();
        let first = first.filter(|id| *id < FIRST_OWN_REQUEST).unwrap_or(self.numbers.api_request + 1);
        self.numbers.asked_from.map_or(first, |asked| asked.min(first))
    }
}
