//! The one place that compares what is wanted with what runs here, and acts (A3).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexSet;
use serde_json::json;

use super::calls::CALLBACK_LIMIT;
use super::children::Slot;
use super::hash::FixedHash;
use super::local::{Local, Phase};
use super::move_order::MoveOrder;
use super::outgoing::Aim;
use super::registry::Entry;
use super::{Engine, RECONCILE_LIMIT, TimerKey};
use crate::host::call::{StartReason, StopReason};
use crate::ids::{ChildId, Epoch, NodeName, NodeRef, Token};
use crate::observe::HookName;
use crate::payload::MAX_STATE_BYTES;
use crate::spec::{Mode, StateLost};
use crate::strategy::Family;
use crate::swim::Evidence;
use crate::time::Timestamp;
use crate::wire::Stage;

/// Moves a node has open as the source at a time; the others wait their turn.
pub(super) const MAX_OPEN_MOVES: usize = 1024;
/// First and longest pause after a failed move.
const MOVE_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// The moves of this node as the source.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) open: usize,
    /// Bytes of the states on their way, by child, and their sum.
    states: BTreeMap<Slot, usize>,
    state_bytes: usize,
    /// Those whose order is not decided yet.
    pub(super) order: MoveOrder,
    /// Beyond the limit.
    waiting: IndexSet<Slot, FixedHash>,
    /// Until the target acts on our view.
    blocked: BTreeMap<NodeRef, Vec<Slot>>,
    /// The latest moves from this node, oldest first.
    latest: VecDeque<FinishedMove>,
}

/// One finished move, for `where`.
#[derive(Debug)]
struct FinishedMove {
    child: ChildId,
    at: Timestamp,
    from: NodeName,
    to: NodeName,
}

/// Finished moves that are remembered.
const MAX_LATEST: usize = 1024;

/// Bytes of states on their way at a time; further children are frozen when there is room again.
const MAX_STATE_BYTES_IN_FLIGHT: usize = 2 * MAX_STATE_BYTES;

impl Moves {
    /// Whether another state may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.state_bytes < MAX_STATE_BYTES_IN_FLIGHT
    }

    /// Whether children move, or are to.
    pub(super) fn is_busy(&self) -> bool {
        self.open > 0 || !self.order.is_empty() || !self.waiting.is_empty() || !self.blocked.is_empty()
    }

    /// A state of this size is on its way.
    pub(super) fn hold_state(&mut self, child: Slot, bytes: usize) {
        self.release_state(child);
        self.states.insert(child, bytes);
        self.state_bytes += bytes;
    }

    fn release_state(&mut self, child: Slot) {
        self.state_bytes -= self.states.remove(&child).unwrap_or(0);
    }

    pub(super) fn remember(&mut self, child: ChildId, at: Timestamp, from: &NodeName, to: &NodeName) {
        if self.latest.len() >= MAX_LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(FinishedMove { child, at, from: from.clone(), to: to.clone() });
    }
}

/// What a child needs done here.
pub(super) enum Need {
    Nothing,
    Stop(StopReason),
    Start,
    StartReplica,
    /// Nobody is the child, and this replica comes first.
    Promote,
    Follow((Epoch, Mode)),
    Move(NodeRef),
    /// It is mapped to nodes that are not where it belongs now.
    Remap(Vec<NodeName>, Option<NodeRef>),
    Conflict(NodeRef, Token),
    Given(u64),
    AbortMove,
    /// A gone node had the child under a higher token: what it did is lost, and the instance here goes on above it.
    Outlive(NodeName),
    Unplaced,
}

impl Engine {
    pub(super) fn arm_reconcile(&mut self) {
        self.timers.arm(TimerKey::Reconcile, self.now);
    }

    /// Reconciles some of the children that changed, and goes on with a pass over all of them.
    pub(super) fn reconcile_some(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        while batch.len() < RECONCILE_LIMIT
            && let Some(child) = self.children.pop_dirty()
        {
            batch.push(child);
        }
        while batch.len() < RECONCILE_LIMIT
            && let Some(next) = self.sweep
        {
            // Children that come meanwhile are dirty.
            self.sweep = next.checked_sub(1);
            batch.extend(self.sweep.and_then(|index| self.children.at(index)));
        }
        if batch.is_empty() {
            self.batch = batch;
            return;
        }
        // Those that another member has are its business, whoever the owner is.
        let number = self.membership.view.number;
        let has_replicas = self.factor > 1;
        let is_open = |child: &Slot| {
            self.children[*child].entry.placed_in != number && (has_replicas || !self.is_elsewhere(*child))
        };
        let open: Vec<Slot> = batch.iter().copied().filter(is_open).collect();
        self.place(open);
        for child in batch.drain(..) {
            self.reconcile(child);
        }
        self.batch = batch;
        self.tell_mappings();
        if !self.children.has_dirty() && self.sweep.is_none() {
            self.timers.disarm(&TimerKey::Reconcile);
            self.end_redistribution();
            self.forget_adopted();
            self.drain_progress();
        } else {
            self.arm_reconcile();
        }
    }

    /// Whether another member has the child, and this node has nothing of it.
    fn is_elsewhere(&self, child: Slot) -> bool {
        let record = &self.children[child];
        record.local().is_none() && record.entry.living_holder(&self.me).is_some()
    }

    fn reconcile(&mut self, child: Slot) {
        match self.need(child) {
            Need::Nothing => {}
            Need::Stop(reason) => self.stop_local(child, reason),
            Need::Start => self.start_orphan(child),
            Need::StartReplica => self.begin_replica(child),
            Need::Promote => self.promote(child),
            Need::Follow(role) => self.follow(child, role),
            Need::Move(to) => self.try_move(child, &to),
            Need::Remap(mapping, to) => self.remap(child, mapping, to),
            Need::Conflict(winner, token) => self.begin_conflict(child, &winner, token),
            Need::Given(seq) => self.given(child, seq),
            Need::AbortMove => self.abort_move(child, "another instance has a higher token"),
            Need::Outlive(node) => self.outlive(child, node),
            Need::Unplaced => self.tell_unplaced(child),
        }
        self.answer_if_complete(child);
        self.check_stopped(child);
    }

    pub(super) fn need(&self, child: Slot) -> Need {
        let record = &self.children[child];
        let entry = &record.entry;
        let Some(local) = record.local() else {
            return if entry.is_wanted() { self.need_of_absent(child, entry) } else { Need::Nothing };
        };
        if !entry.is_wanted() {
            return match &local.phase {
                Phase::Ending => Need::Nothing,
                // Its start is under way; the end is told to those who wait for it.
                Phase::Starting { .. }
                | Phase::Active
                | Phase::Resting { .. }
                | Phase::Quarantined { .. }
                | Phase::Outgoing(_)
                | Phase::Incoming(_) => Need::Stop(StopReason::Stopped),
            };
        }
        if local.is_replica {
            return self.need_of_replica(child, local, entry);
        }
        let superior = entry
            .active_holder()
            .filter(|holder| holder.node != self.me && holder.row.token > local.token)
            .map(|holder| (holder.node.clone(), holder.row.token));
        match (&local.phase, superior) {
            (Phase::Ending | Phase::Incoming(_), _) => Need::Nothing,
            (Phase::Outgoing(outgoing), Some((node, token))) if outgoing.aim == Aim::Move => {
                if outgoing.is_taken_by(&node, token) {
                    let seq = self.membership.peers.get(&node).map_or(0, |peer| peer.known_seq);
                    return Need::Given(seq);
                }
                Need::AbortMove
            }
            (Phase::Outgoing(_), _) => Need::Nothing,
            (Phase::Active, Some((winner, token))) => {
                if self.timers.is_armed(&TimerKey::MoveAgain(child)) {
                    return Need::Nothing;
                }
                Need::Conflict(winner, token)
            }
            (Phase::Starting { .. } | Phase::Resting { .. } | Phase::Quarantined { .. }, Some(_)) => {
                Need::Stop(StopReason::LostOwnership)
            }
            (Phase::Active, None) if entry.departed_active_above(local.token).is_some() => {
                // Before the view is settled somebody may have taken over who is not known yet.
                let departed = entry.departed_active_above(local.token).filter(|_| self.membership.is_settled);
                departed.map_or(Need::Nothing, |holder| Need::Outlive(holder.node.name.clone()))
            }
            (Phase::Active | Phase::Resting { .. }, None) => match &entry.owner {
                Some(owner) if *owner == self.me && matches!(local.phase, Phase::Active) => {
                    self.better_mapping(entry).map_or(Need::Nothing, |(mapping, to)| Need::Remap(mapping, to))
                }
                Some(owner) if *owner == self.me => Need::Nothing,
                // First the losers of a heal show their state: moving away would keep them from it for ever.
                Some(_) if entry.has_other_active(&self.me) => Need::Nothing,
                // A replica there that is quarantined does not become the child.
                Some(owner) if entry.holder(owner).is_some_and(|at| at.row.stage.is_quarantined()) => Need::Nothing,
                Some(owner) => Need::Move(owner.clone()),
                None => Need::Unplaced,
            },
            (Phase::Starting { .. } | Phase::Quarantined { .. }, None) => Need::Nothing,
        }
    }

    /// A wanted child that this node does not run.
    fn need_of_absent(&self, child: Slot, entry: &Entry) -> Need {
        if entry.living_holder(&self.me).is_some() {
            let is_free = self.membership.is_settled && !self.is_ending(child) && !self.info.is_leaving;
            return if is_free && entry.wants_replica_on(&self.me) { Need::StartReplica } else { Need::Nothing };
        }
        match &entry.owner {
            None => {
                return if entry.holders.iter().all(|holder| holder.is_departed) {
                    Need::Unplaced
                } else {
                    Need::Nothing
                };
            }
            Some(owner) if *owner != self.me => return Need::Nothing,
            Some(_) => {}
        }
        // R3: nobody has it in any form, and nobody can have it without our knowing.
        let is_free = self.is_all_known(entry) && !self.is_ending(child) && !self.info.is_leaving;
        if is_free { Need::Start } else { Need::Nothing }
    }

    /// A wanted child of which this node runs a replica.
    fn need_of_replica(&self, child: Slot, local: &Local, entry: &Entry) -> Need {
        match local.phase {
            Phase::Ending | Phase::Incoming(_) | Phase::Outgoing(_) => return Need::Nothing,
            Phase::Starting { .. } | Phase::Active | Phase::Resting { .. } | Phase::Quarantined { .. } => {}
        }
        let Some(lead) = entry.lead() else {
            let is_next = entry.successor() == Some(&self.me);
            return if is_next && self.is_all_known(entry) { Need::Promote } else { Need::Nothing };
        };
        let is_elsewhere = lead.gone_after.is_none() && matches!(lead.row.stage, Stage::Active | Stage::Quarantined);
        if is_elsewhere && self.membership.is_settled && entry.place_of(&self.me).is_none() {
            return Need::Stop(StopReason::LostOwnership);
        }
        if let Phase::Quarantined { .. } = local.phase
            && entry
                .wanted
                .as_ref()
                .and_then(|wanted| wanted.spec.as_ref())
                .is_some_and(|it| !Arc::ptr_eq(it, &local.spec))
        {
            // Started again (R21).
            return Need::Stop(StopReason::Stopped);
        }
        self.role_to_follow(child).map_or(Need::Nothing, Need::Follow)
    }

    /// R3: whatever anybody did with a child under an earlier view is known here.
    fn is_all_known(&self, entry: &Entry) -> bool {
        let is_author_heard = match (&entry.author, &entry.wanted) {
            (Some(author), Some(wanted)) => {
                self.membership.member(author).is_none_or(|peer| {
                    // What an earlier hub of that node wrote has a number of another log.
                    peer.known_seq >= wanted.seq || wanted.version.written() < peer.started_ms
                })
            }
            (None, _) | (_, None) => true,
        };
        self.membership.is_settled && is_author_heard
    }

    /// Starts a wanted child that nobody runs any more.
    fn start_orphan(&mut self, child: Slot) {
        let entry = &self.children[child].entry;
        let Some(spec) = entry.wanted.as_ref().and_then(|wanted| wanted.spec.clone()) else {
            return;
        };
        let version = entry.version().counter;
        let author = entry.author.as_ref().map(|author| author.name.clone());
        let departed = entry.departed_holder().map(|holder| (holder.node.name.clone(), holder.row.clone()));
        if let Some((_, row)) = departed.as_ref().filter(|(_, row)| row.stage == Stage::Quarantined) {
            // Quarantine survives its node: only a start or a stop of the child ends it (R21).
            let token = Token { epoch: self.next_epoch(child), transfer: row.token.transfer, ..row.token };
            let token = Token { incarnation: self.me.incarnation, ..token };
            self.new_local(child, spec, token, Phase::Quarantined { restarts: row.restarts });
            self.publish_local(child);
            return;
        }
        let lost = match departed {
            Some((node, row)) => (row.stage == Stage::Active && row.has_state).then_some((node, row.token.epoch)),
            // It was accepted once, and whoever ran it is gone without a word that reached us: what it had is lost.
            None => {
                let has_state = self.kinds.get(&spec.kind).is_some_and(|kind| kind.has_state);
                author.filter(|_| has_state).map(|author| (author, Epoch::default()))
            }
        };
        let lost = lost.map(|(node, epoch)| Arc::new(StateLost { epoch, version, node }));
        self.counters.failovers += 1;
        self.counters.states_lost += u64::from(lost.is_some());
        self.begin(child, spec, StartReason::Failover, lost, Vec::new(), CALLBACK_LIMIT);
    }

    /// Moves a child to its owner: now, or when the host has said in which order.
    pub(super) fn try_move(&mut self, child: Slot, to: &NodeRef) {
        if self.may_move(child, to) {
            match self.strategies.hosted.contains_key(&Family::Migration) {
                true => self.moves.order.collect(child),
                false => self.begin_move(child, to),
            }
        }
    }

    /// Whether a move can begin; if not, what it waits for has the child looked at again.
    pub(super) fn may_move(&mut self, child: Slot, to: &NodeRef) -> bool {
        if self.timers.is_armed(&TimerKey::MoveAgain(child)) {
            return false;
        }
        if self.moves.open >= MAX_OPEN_MOVES {
            self.moves.waiting.insert(child);
            return false;
        }
        let view_hash = self.membership.view.hash;
        let agrees = self.membership.member(to).and_then(|peer| peer.status.as_ref()).is_some_and(|status| {
            // What it heard of gone nodes may change who the child is.
            let has_heard = |(gone, seq): &(NodeRef, u64)| *gone == self.me || self.membership.has_heard(gone, *seq);
            status.view_hash == view_hash && status.departed.iter().all(has_heard)
        });
        if !agrees {
            self.moves.blocked.entry(to.clone()).or_default().push(child);
        }
        agrees
    }

    /// A member acts on our view now.
    pub(super) fn moves_unblocked(&mut self, node: &NodeRef) {
        for child in self.moves.blocked.remove(node).unwrap_or_default() {
            self.children.mark_dirty(child);
        }
        self.arm_reconcile();
    }

    /// Something is known now that moves may have waited for.
    pub(super) fn moves_try_again(&mut self) {
        for (_, children) in std::mem::take(&mut self.moves.blocked) {
            for child in children {
                self.children.mark_dirty(child);
            }
        }
        self.arm_reconcile();
    }

    /// The view changed: the pass over all children finds the moves again.
    pub(super) fn moves_unblocked_all(&mut self) {
        self.moves.blocked.clear();
    }

    /// A move ended, one way or the other.
    pub(super) fn move_closed(&mut self, child: Slot) {
        self.moves.open = self.moves.open.saturating_sub(1);
        self.moves.release_state(child);
        if let Some(local) = self.children.local(child)
            && local.failed_moves > 0
        {
            let (first, longest) = MOVE_BACKOFF;
            let pause = first.saturating_mul(1 << local.failed_moves.min(16)).min(longest);
            self.timers.arm(TimerKey::MoveAgain(child), self.now + pause);
        }
        if self.moves.open == 0 {
            self.timers.disarm(&TimerKey::DeadlockRecovery);
        }
        if let Some(next) = self.moves.waiting.pop() {
            self.children.mark_dirty(next);
        }
        self.children.mark_dirty(child);
        self.drain_progress();
    }

    /// R16: moves that are open for too long are given up.
    pub(super) fn recover_from_deadlock(&mut self) {
        for child in self.moving_children() {
            self.abort_move(child, "deadlock_recovery_timeout_ms is over");
        }
    }

    fn moving_children(&self) -> Vec<Slot> {
        let moving = self.children.locals().filter(|(_, local)| matches!(local.phase, Phase::Outgoing(_)));
        moving.map(|(child, _)| child).collect()
    }

    /// A node left the view: the moves with it are decided.
    pub(super) fn moves_lose(&mut self, node: &NodeRef, evidence: Evidence) {
        let touched: Vec<(Slot, bool)> = self
            .children
            .locals()
            .filter_map(|(child, local)| match &local.phase {
                Phase::Outgoing(outgoing) if outgoing.to == *node => Some((child, true)),
                Phase::Incoming(incoming) if incoming.from == *node => Some((child, false)),
                Phase::Starting { .. }
                | Phase::Active
                | Phase::Resting { .. }
                | Phase::Quarantined { .. }
                | Phase::Outgoing(_)
                | Phase::Incoming(_)
                | Phase::Ending => None,
            })
            .collect();
        for (child, is_source) in touched {
            if is_source {
                self.outgoing_lost_target(child, evidence);
            } else {
                self.incoming_lost_source(child);
            }
        }
    }

    /// The latest moves of a child from this node, for `where`.
    pub(super) fn last_moves(&self, child: Slot) -> Vec<serde_json::Value> {
        let id = &self.children[child].id;
        let moves = self.moves.latest.iter().filter(|one| one.child == *id);
        moves
            .map(|one| {
                let at_ms = self.unix_ms_at(one.at);
                json!({"at_ms": at_ms, "from": one.from, "to": one.to, "why": "the view changed"})
            })
            .collect()
    }

    fn tell_unplaced(&mut self, child: Slot) {
        if !self.membership.is_settled {
            return;
        }
        let why = self.why_unplaced(child);
        if !std::mem::replace(&mut self.children[child].entry.is_unplaced_told, true) {
            self.fire_of(HookName::ChildUnplaced, child, |id| json!({"child_id": id, "why": why}));
        }
    }

    /// Why nobody can run a child.
    pub(super) fn why_unplaced(&self, child: Slot) -> String {
        let spec = self.children[child].entry.wanted.as_ref().and_then(|wanted| wanted.spec.clone());
        match spec {
            Some(spec) => self.why_nobody_runs(&spec).1,
            None => "it is not wanted".to_owned(),
        }
    }
}
