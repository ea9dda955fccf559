//! Who is there: statuses, the debounced view, and agreement on it. The idea is told in `membership`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::membership::{Peer, View};
use super::{Effect, Engine, HubStatus, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
use crate::observe::HookName;
use crate::strategy::strategy_difference;
use crate::swim::Evidence;
use crate::wire::{Header, MemberInfo, Message, Status};

/// Between tries to agree on a view, at first. A status that changes something is sent and answered at once; this only
/// repairs what was lost, and doubles while nothing changes.
const AGREE_AGAIN: Duration = Duration::from_millis(150);
/// The pause is doubled so often at most.
const AGREE_DOUBLINGS: u32 = 3;
/// Between heartbeats of a settled hub. Liveness is SWIM's business; this only repairs.
const HEARTBEAT: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn node_up(&mut self, node: NodeRef) {
        if node == self.me {
            return;
        }
        self.membership.gone.remove(&node);
        self.quorum_hears_of(&node, None);
        let inbox = self.membership.inboxes.remove(&node);
        let peer = self.membership.peers.entry(node.clone()).or_default();
        peer.up_at = self.now;
        if let Some(inbox) = inbox {
            peer.inbox = inbox;
        }
        self.membership.is_settled = false;
        self.send_status(&node, true);
        self.arm_heartbeat();
    }

    pub(super) fn node_down(&mut self, node: &NodeRef, evidence: Evidence) {
        if !self.membership.peers.contains_key(node) {
            return;
        }
        self.membership.gone.insert(node.clone(), evidence);
        match evidence {
            // Nothing of it can still act: no reason to wait (R14).
            Evidence::Refused | Evidence::Left => self.apply_view(),
            Evidence::Suspected | Evidence::Replaced => self.view_changes(),
        }
    }

    /// A view change is due after the debounce.
    fn view_changes(&mut self) {
        if !self.timers.is_armed(&TimerKey::ViewChange) {
            self.timers.arm(TimerKey::ViewChange, self.now + self.settings.view_debounce);
        }
    }

    /// Our own record changed.
    pub(super) fn info_changed(&mut self) {
        self.info.version += 1;
        self.view_changes();
    }

    fn own_status(&self, to: &NodeRef, wants_answer: bool) -> Status {
        let peer = self.membership.peers.get(to);
        let is_info_heard = peer.is_some_and(|peer| peer.heard_info == self.info.version);
        Status {
            info: (!is_info_heard).then(|| self.info.clone()),
            info_version: self.info.version,
            heard_info: peer.and_then(|peer| peer.info.as_ref()).map_or(0, |info| info.version),
            fingerprint: self.settings.fingerprint,
            view_hash: self.membership.view.hash,
            seq: self.log.seq,
            acked_seq: peer.map_or(0, |peer| peer.known_seq),
            wanted_hash: self.registry.wanted_hash(),
            departed: self.membership.departed.iter().map(|(node, seq)| (node.clone(), *seq)).collect(),
            term: self.term,
            clock: self.registry.clock(),
            generation: self.membership.generation,
            heard_generation: peer.and_then(|peer| peer.status.as_ref()).map_or(0, |status| status.generation),
            wants_answer,
            started_ms: self.wall_ms,
            silent: self.silent_told(),
            load: self.balance.load,
        }
    }

    pub(super) fn send_status(&mut self, to: &NodeRef, wants_answer: bool) {
        let status = self.own_status(to, wants_answer);
        self.send_ctl(to, &Message::Status(Box::new(status)));
    }

    /// Tells all peers.
    pub(super) fn send_status_to_all(&mut self) {
        self.membership.told_all_at = self.now;
        self.send_statuses(true);
    }

    /// Tells those peers of whom more has to be known before the view is settled, and asks for their status; the others
    /// too if they are due.
    fn send_statuses(&mut self, are_all_due: bool) {
        let is_asked = |peer: &Peer| !self.membership.is_agreed_with(peer, &self.me);
        let peers = self.membership.peers.iter().map(|(node, peer)| (node.clone(), is_asked(peer)));
        for (node, is_asked) in peers.filter(|(_, is_asked)| *is_asked || are_all_due).collect::<Vec<_>>() {
            self.send_status(&node, is_asked);
        }
    }

    pub(super) fn heartbeat(&mut self) {
        self.check_settled();
        let is_settled = self.membership.is_settled;
        let lacks_status = self.membership.peers.values().any(|peer| peer.status.is_none());
        if self.now.since(self.membership.told_all_at) >= HEARTBEAT {
            self.send_status_to_all();
        } else {
            self.send_statuses(false);
        }
        if !is_settled {
            self.compare_with_unsynced();
        }
        let next = if is_settled && !lacks_status {
            self.membership.tries = 0;
            self.membership.told_all_at + HEARTBEAT
        } else {
            self.membership.tries += 1;
            self.now + AGREE_AGAIN * (1 << self.membership.tries.min(AGREE_DOUBLINGS))
        };
        self.timers.arm(TimerKey::Status, next);
        self.forget_refused_moves();
        self.check_invariants();
    }

    pub(super) fn arm_heartbeat(&mut self) {
        self.membership.tries = 0;
        self.timers.arm_earlier(TimerKey::Status, self.now + AGREE_AGAIN);
        let interval = self.strategies.synchronization.sync_interval();
        self.timers.arm_earlier(TimerKey::Sync, self.now + interval);
    }

    /// What this node believes of the members may be over, as it did not run for so long that it may have been declared
    /// dead, or stopped everything without a quorum: it starts nothing before they have answered.
    pub(super) fn doubt_members(&mut self) {
        self.membership.generation += 1;
        self.membership.is_settled = self.is_alone() && self.may_start();
        self.send_status_to_all();
        self.timers.arm_earlier(TimerKey::Status, self.now + AGREE_AGAIN);
    }

    /// More of the members' logs is here. With all of them a newcomer wants what the others want, as a rule; only what
    /// differs then is compared.
    pub(super) fn compare_by_logs(&mut self) {
        let hash = self.registry.wanted_hash();
        let unsynced = self.membership.peers.iter().filter(|(_, peer)| peer.is_member() && !peer.is_wanted_synced);
        let unsynced: Vec<(NodeRef, bool)> = unsynced
            .filter_map(|(node, peer)| Some((node.clone(), peer.status.as_ref()?.wanted_hash == hash)))
            .collect();
        for (node, is_equal) in unsynced {
            if is_equal {
                self.wanted_agreed(&node);
                // It sees by our hash that nothing is missing there either.
                self.send_status(&node, false);
            } else {
                self.compare_once(&node);
            }
        }
    }

    /// Begins to compare what is wanted with a peer that answered us, and so knows us, unless it began. One end is
    /// enough: were both to begin, all of it would travel twice in each direction.
    pub(super) fn compare_once(&mut self, node: &NodeRef) {
        if !self.membership.has_all_logs() {
            return;
        }
        if let Some(peer) = self.membership.peers.get_mut(node)
            && !peer.is_wanted_synced
            && !std::mem::replace(&mut peer.is_comparing, true)
        {
            self.send_buckets(node);
        }
    }

    fn compare_with_unsynced(&mut self) {
        if !self.membership.has_all_logs() {
            return;
        }
        let unsynced: Vec<NodeRef> = self
            .membership
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_member() && !peer.is_wanted_synced)
            .map(|(node, _)| node.clone())
            .collect();
        for node in unsynced {
            self.send_buckets(&node);
        }
    }

    pub(super) fn status_received(&mut self, from: &NodeRef, header: Header, mut status: Status) {
        let Some(peer) = self.membership.peers.get(from) else {
            return;
        };
        if peer.started_ms != 0 && peer.started_ms < header.from_start {
            // The hub was started again on the same node: what we knew was another hub.
            self.membership.gone.insert(from.clone(), Evidence::Left);
            self.apply_view();
            self.membership.gone.remove(from);
            self.membership.peers.insert(from.clone(), Peer::default());
        }
        if status.fingerprint != self.settings.fingerprint {
            self.strategy_differs(from, &status);
            return;
        }
        // A newcomer knows nothing of what was stopped before it came: its epochs rise above all of that (R4).
        let is_newcomer = self.is_alone() && status.started_ms < self.wall_ms;
        self.note_term(status.term + u64::from(is_newcomer));
        self.note_clock(status.clock);
        self.silent_received(from, &status);
        let is_wanted_equal = status.wanted_hash == self.registry.wanted_hash();
        let (now, view_hash) = (self.now, self.membership.view.hash);
        let Some(peer) = self.membership.peers.get_mut(from) else {
            return;
        };
        // One frame may carry two: the later one is what is true, as when the view changed in the turn of an answer.
        if peer.status.is_some() && peer.status_number > header.number {
            return;
        }
        peer.status_number = header.number;
        peer.started_ms = header.from_start;
        peer.heard_info = status.heard_info;
        let told = status.info.take();
        let is_told = told.is_some();
        if !is_told && peer.info.as_ref().is_none_or(|info| info.version != status.info_version) {
            // It told us before this hub, or what we knew of it, began.
            return self.send_status(from, true);
        }
        let is_new_info = is_told && peer.info != told;
        if is_told {
            peer.info = told;
        }
        let is_first = peer.status.is_none();
        let is_doubting = peer.status.as_ref().is_some_and(|known| known.generation < status.generation);
        let had_agreed = peer.status.as_ref().is_some_and(|known| known.view_hash == view_hash);
        let agrees = status.view_hash == view_hash;
        let lacks_log = peer.known_seq < status.seq;
        if is_wanted_equal {
            peer.is_wanted_synced = true;
            peer.agreed_at = now;
        }
        let (acked, wants_answer, departed) = (status.acked_seq, status.wants_answer, status.departed.clone());
        self.balance.is_changed |= peer.status.as_ref().is_none_or(|known| known.load != status.load);
        peer.status = Some(status);
        self.ack_received(from, acked);
        if wants_answer {
            self.send_status(from, false);
        }
        if is_first {
            self.membership.is_settled = false;
        } else if is_doubting && self.partition.is_some() && self.membership.is_settled {
            // It begins anew, with nothing that ran: that is known here before anything else is started.
            self.membership.is_settled = false;
            self.arm_heartbeat();
        }
        if !wants_answer {
            self.compare_once(from);
        }
        if is_new_info {
            self.view_changes();
        }
        if !self.membership.view.contains(from) {
            // It may run what we miss: nothing is started before the view has it (R3).
            self.membership.is_settled = false;
        }
        if lacks_log {
            self.timers.arm_earlier(TimerKey::Pull(from.clone()), self.now + super::log::PULL_AFTER);
        }
        for (gone, seq) in departed {
            if gone != self.me && !self.membership.has_heard(&gone, seq) {
                self.send_ctl(from, &Message::PullDeparted(gone));
            }
        }
        if agrees && !had_agreed {
            self.moves_unblocked(from);
        }
        self.check_settled();
    }

    fn strategy_differs(&mut self, from: &NodeRef, status: &Status) {
        let is_ours_older = (self.wall_ms, &self.me) < (status.started_ms, from);
        let was_member = self.membership.member(from).is_some();
        if let Some(peer) = self.membership.peers.get_mut(from) {
            peer.is_refused = true;
            peer.started_ms = status.started_ms;
        }
        if was_member {
            self.apply_view();
        }
        if is_ours_older {
            let options = self.strategies.fingerprint();
            self.send_ctl(from, &Message::StrategyMismatch(options));
        }
    }

    /// A hub that was here before us is configured differently: this one must not run (api.md §1).
    pub(super) fn strategy_refused(&mut self, from: &NodeRef, theirs: &[(String, String)]) {
        let difference = strategy_difference(&self.strategies.fingerprint(), theirs);
        let Some(why) = difference.filter(|_| self.is_alone()) else {
            return;
        };
        self.is_ended = true;
        let error = Error::new(ErrorKind::StrategyMismatch, "join", why).with_node(from.name.as_str());
        self.effects.push(Effect::Refused(error));
    }

    /// Acts on the net changes of the members since the last view.
    pub(super) fn apply_view(&mut self) {
        self.timers.disarm(&TimerKey::ViewChange);
        self.quorum_is_due();
        let mut infos: BTreeMap<NodeRef, MemberInfo> = self
            .membership
            .peers
            .iter()
            .filter(|(node, peer)| peer.is_member() && !self.membership.gone.contains_key(*node))
            .filter_map(|(node, peer)| Some((node.clone(), peer.info.clone()?)))
            .collect();
        infos.insert(self.me.clone(), self.info.clone());
        let gone = std::mem::take(&mut self.membership.gone);
        let next = View::new(self.membership.view.number + 1, infos);
        let before = &self.membership.view;
        let is_changed = before.hash != next.hash || before.number == 0;
        let removed: Vec<NodeRef> = before.members.keys().filter(|node| !next.contains(node)).cloned().collect();
        let added: Vec<NodeRef> =
            next.members.keys().filter(|node| !before.contains(node) && **node != self.me).cloned().collect();
        if is_changed {
            self.tell_view("pre", &removed, &added);
            self.membership.view = next;
            self.factor = self.strategies.redundancy.factor(self.membership.view.candidates().len());
            self.membership.is_settled = false;
            self.forget_claims();
            self.note_newcomers(&removed, &added);
        }
        for node in &removed {
            let evidence = gone.get(node).copied().unwrap_or(Evidence::Left);
            self.member_gone(node, evidence);
        }
        for (node, evidence) in &gone {
            if !removed.contains(node) {
                // Not in the view yet, but heard: its rows become last words all the same.
                self.member_gone(node, *evidence);
            }
            if let Some(peer) = self.membership.peers.remove(node) {
                self.membership.keep_inbox(node, peer.inbox);
            }
            self.timers.disarm(&TimerKey::Pull(node.clone()));
        }
        if !is_changed {
            if !gone.is_empty() {
                // Children may have waited to hear of a node that never became a member.
                self.sweep = Some(self.children.slot_count());
                self.arm_reconcile();
            }
            self.check_settled();
            return;
        }
        for node in &added {
            self.membership.departed.remove(node);
            self.membership.heard.remove(node);
            // Back, or replaced by another process of its name (R13).
            self.membership.silent.retain(|silent, _| silent.name != node.name);
        }
        self.tell_view("post", &removed, &added);
        self.send_status_to_all();
        self.membership.tries = 0;
        self.timers.arm(TimerKey::Status, self.now + AGREE_AGAIN);
        self.plan_requests_again();
        self.moves_unblocked_all();
        self.sweep = Some(self.children.slot_count());
        self.arm_reconcile();
        self.check_settled();
    }

    fn member_gone(&mut self, node: &NodeRef, evidence: Evidence) {
        self.membership.note_gone(node, evidence, self.now);
        self.quorum_hears_of(node, Some(evidence));
        let known_seq = self.membership.peers.get(node).map_or(0, |peer| peer.known_seq);
        self.depart(node, known_seq);
        self.moves_lose(node, evidence);
        self.messages_lose(node);
        self.requests_lose(node);
    }

    fn tell_view(&mut self, when: &str, removed: &[NodeRef], added: &[NodeRef]) {
        let is_before = when == "pre";
        for (nodes, event, before, after) in [
            (removed, "nodedown", HookName::PreClusterLeave, HookName::PostClusterLeave),
            (added, "nodeup", HookName::PreClusterJoin, HookName::PostClusterJoin),
        ] {
            for node in nodes {
                let name = &node.name;
                self.fire(if is_before { before } else { after }, || json!({ "node": name }));
                if !is_before {
                    self.begin_redistribution(event, name);
                }
            }
        }
    }

    /// Notices when the view becomes settled: everything may act on it now.
    pub(super) fn check_settled(&mut self) {
        if self.membership.is_settled || !self.membership.compute_settled(&self.me, self.now) || !self.may_start() {
            return;
        }
        self.membership.is_settled = true;
        self.plan_redistribution();
        self.sweep = Some(self.children.slot_count());
        self.arm_reconcile();
        self.starts_unparked();
        self.wake_all_messages();
        self.timers.arm(TimerKey::Status, self.now + HEARTBEAT);
    }

    /// A member's hub ends: it has given everything away.
    pub(super) fn leave_received(&mut self, from: &NodeRef) {
        self.send_ctl(from, &Message::LeaveAck);
        self.send_frames();
        let Some(peer) = self.membership.peers.get_mut(from) else {
            return;
        };
        if peer.is_refused {
            return;
        }
        peer.is_refused = true;
        let is_down = self.membership.gone.insert(from.clone(), Evidence::Left).is_some();
        let started_ms = peer.started_ms;
        self.apply_view();
        if is_down {
            return;
        }
        // The node is still up: a hub may start there again.
        let peer = self.membership.peers.entry(from.clone()).or_default();
        peer.started_ms = started_ms;
        peer.is_refused = true;
    }

    pub(super) fn publish_status(&mut self) {
        let has_loads = std::mem::take(&mut self.balance.is_changed);
        let (number, is_partitioned) = (self.membership.view.number, self.is_partitioned());
        let is_locked = self.moves.open > 0 || is_partitioned;
        let is_same = is_locked == self.status.is_locked && is_partitioned == self.status.is_partitioned;
        if number == self.status_of && is_same && !has_loads {
            return;
        }
        let is_first = self.status_of == 0;
        self.status_of = number;
        let members = self.membership.others(&self.me).cloned().collect();
        let status = HubStatus { members, is_locked, is_partitioned, loads: self.loads() };
        if status != self.status {
            if is_partitioned != self.status.is_partitioned && !is_first {
                self.fire(HookName::PartitionChanged, || json!({ "partitioned": is_partitioned }));
            }
            if status.is_locked != self.status.is_locked && !is_first {
                let locked = status.is_locked;
                self.fire(HookName::PriorityStateUpdated, || json!({ "locked": locked }));
            }
            self.status = status.clone();
            self.effects.push(Effect::Status(status));
        }
    }
}
