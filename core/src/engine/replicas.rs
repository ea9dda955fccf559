//! The instances of a child beside the one that is the child (R9).
//!
//! One instance *is* the child: it alone moves, wins or loses after a heal, and answers for the start. It belongs to
//! the first node of the placement. The other nodes of the placement run replicas, which follow it: they bear its
//! epoch, each publishes its own row and role, and each restarts within a budget of its own. When nobody is the child
//! any more, the replica that comes first in the placement becomes it.

use std::collections::BTreeSet;

use super::Engine;
use super::calls::CALLBACK_LIMIT;
use super::children::Slot;
use super::local::{Incoming, Local, Phase};
use super::registry::Entry;
use super::{Queue, TimerKey};
use crate::error::ErrorKind;
use crate::host::call::{HostFailure, HostRequest, StartReason};
use crate::ids::{Epoch, NodeRef, Token};
use crate::spec::{ChildSpec, Mode};
use crate::strategy::Actives;
use crate::wire::{Message, Stage};

impl Local {
    /// Whether it handles messages that are for whoever is active.
    pub(super) fn takes_calls(&self) -> bool {
        !self.is_replica || self.mode == Mode::Active || matches!(self.phase, Phase::Incoming(_))
    }
}

impl Entry {
    /// Whether a node whose place is not the first one lacks a replica: somebody is the child, or will be.
    pub(super) fn wants_replica_on(&self, node: &NodeRef) -> bool {
        self.others.is_some()
            && self.place_of(node).is_some_and(|place| place > 0)
            && self.lead().is_some_and(|lead| {
                let is_it = lead.gone_after.is_none() && matches!(lead.row.stage, Stage::Starting | Stage::Active);
                // It goes on above a gone node that was the child under a higher token: then its replicas do too.
                is_it && self.departed_active_above(lead.row.token).is_none()
            })
    }
}

impl Engine {
    /// Starts a replica under the epoch of the instance that is the child.
    pub(super) fn begin_replica(&mut self, child: Slot) {
        let entry = &self.children[child].entry;
        let spec = entry.wanted.as_ref().and_then(|wanted| wanted.spec.clone());
        let epoch = entry.lead().map(|lead| lead.row.token.epoch);
        let (Some(spec), Some(epoch)) = (spec, epoch) else {
            return;
        };
        let token = Token { epoch, incarnation: self.me.incarnation, transfer: self.next_transfer() };
        let mode = self.replica_mode(child);
        self.new_local(child, spec, token, Phase::Starting { restore: None, is_first: true });
        if let Some(local) = self.children.local_mut(child) {
            local.is_replica = true;
            local.mode = mode;
        }
        self.publish_local(child);
        self.start_instance(child, StartReason::Initial, CALLBACK_LIMIT);
    }

    /// The role of the replicas of a child.
    fn replica_mode(&self, child: Slot) -> Mode {
        let record = &self.children[child];
        let others = record.entry.others.iter().flat_map(|others| others.iter());
        let placement: Vec<&NodeRef> = record.entry.owner.iter().chain(others).collect();
        match self.strategies.redundancy.actives(&record.id, &placement) {
            Actives::All => Mode::Active,
            Actives::One(_) => Mode::Passive,
        }
    }

    /// What a replica has to take over from the instance that is the child: its epoch, and what follows from the
    /// placement. `None` when it has it.
    pub(super) fn role_to_follow(&self, child: Slot) -> Option<(Epoch, Mode)> {
        let record = &self.children[child];
        let (local, lead) = (record.local()?, record.entry.active_holder()?);
        let mode = if record.entry.place_of(&self.me).is_some() { self.replica_mode(child) } else { local.mode };
        let role = (lead.row.token.epoch.max(local.token.epoch), mode);
        (role != (local.token.epoch, local.mode)).then_some(role)
    }

    pub(super) fn follow(&mut self, child: Slot, (epoch, mode): (Epoch, Mode)) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.token.epoch = epoch;
        local.highest_epoch = local.highest_epoch.max(epoch);
        local.mode = mode;
        // First of all: what is published may bring it a message.
        self.tell_role(child);
        self.publish_local(child);
        self.instance_free(child);
    }

    /// Nobody is the child any more: this replica becomes it. Its state is what it has, and that is no loss (R8).
    pub(super) fn promote(&mut self, child: Slot) {
        let token =
            Token { epoch: self.next_epoch(child), incarnation: self.me.incarnation, transfer: self.next_transfer() };
        let lost = self.children[child].entry.departed_holder().and_then(|holder| holder.row.lost.clone());
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.is_replica = false;
        local.token = token;
        local.highest_epoch = token.epoch;
        local.mode = Mode::Active;
        local.lost = lost;
        if let Phase::Starting { is_first, .. } = &mut local.phase {
            *is_first = false;
        }
        self.counters.promotions += 1;
        self.tell_role(child);
        self.publish_local(child);
        self.instance_free(child);
        self.children.mark_dirty(child);
    }

    /// Whether this node runs a replica of the child once another one is the child.
    pub(super) fn stays_as_replica(&mut self, child: Slot) -> bool {
        if self.factor <= 1 || self.info.is_leaving {
            return false;
        }
        self.place([child]);
        let entry = &self.children[child].entry;
        entry.is_wanted() && entry.place_of(&self.me).is_some_and(|place| place > 0)
    }

    /// The child was given away, and its placement has this node still: the instance goes on as a replica.
    pub(super) fn demote(&mut self, child: Slot, epoch: Epoch) {
        let token = Token { epoch, incarnation: self.me.incarnation, transfer: self.next_transfer() };
        let mode = self.replica_mode(child);
        for key in [TimerKey::Move(child), TimerKey::MoveBudget(child)] {
            self.timers.disarm(&key);
        }
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.phase = Phase::Active;
        local.is_replica = true;
        local.token = token;
        local.highest_epoch = epoch;
        local.mode = mode;
        local.lost = None;
        local.failed_moves = 0;
        // Who waits for a start asks again, the one who is the child now.
        local.waiters.clear();
        let needs_run = local.has_run && local.body.is_none();
        self.tell_role(child);
        self.publish_local(child);
        if needs_run {
            self.run_body(child);
        }
        self.return_unbound(child);
        self.instance_free(child);
    }

    /// A replica that was about to receive the child does not: the source is told, and it is a replica as before.
    pub(super) fn give_back(&mut self, child: Slot, why: &str) {
        if let Some(Phase::Incoming(incoming)) = self.children.local(child).map(|local| &local.phase)
            && incoming.replica.is_some()
        {
            self.drop_incoming(child, Some(why));
        }
    }

    /// The receiving end of a move ends; the instance goes on as the replica it was.
    pub(super) fn back_to_replica(&mut self, child: Slot) {
        self.timers.disarm(&TimerKey::Move(child));
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        if let Phase::Incoming(incoming) = &mut local.phase
            && let Incoming { replica: Some(token), held, .. } = &mut **incoming
        {
            local.token = *token;
            local.inbox.append(held);
            local.phase = Phase::Active;
        }
        let needs_run = local.has_run && local.body.is_none();
        let (instance, early) = (local.instance, local.early.take());
        self.publish_local(child);
        self.return_unbound(child);
        if let Some(event) = early {
            return self.instance_event(instance, *event);
        }
        if needs_run {
            self.run_body(child);
        }
        self.children.mark_dirty(child);
        self.instance_free(child);
    }

    /// Sends back what waits in a replica for whoever is active.
    fn return_unbound(&mut self, child: Slot) {
        let hint = self.children[child].entry.active_holder().map(|holder| holder.node.clone());
        let hint = hint.filter(|node| *node != self.me);
        let Some(local) = self.children.local_mut(child).filter(|local| !local.takes_calls()) else {
            return;
        };
        let (bound, unbound): (Queue<_>, Queue<_>) =
            std::mem::take(&mut local.inbox).into_iter().partition(super::local::Work::is_bound);
        local.inbox = unbound;
        self.return_inbox(child, hint.as_ref());
        if let Some(local) = self.children.local_mut(child) {
            local.inbox = bound;
        }
    }

    /// The first `start` of a replica failed: it is tried again as after a crash, and whoever answers for the start
    /// of the child is told.
    pub(super) fn replica_start_failed(&mut self, child: Slot, failure: &HostFailure) {
        let record = &self.children[child];
        let epoch = record.local().map(|local| local.token.epoch).unwrap_or_default();
        if let Some(lead) = record.entry.lead().map(|lead| lead.node.clone()) {
            let kind = failure.kind.filter(|kind| *kind == ErrorKind::HostTimeout).unwrap_or(ErrorKind::StartFailed);
            let message = failure.message.clone();
            self.send_ctl(&lead, &Message::ReplicaFailed { child: self.id(child), epoch, kind, message });
        }
        self.discard_instance(child);
        self.rest(child, &failure.message, None);
    }

    /// A start needs all instances (R1): while somebody waits for it, it fails with one of them.
    pub(super) fn replica_failed_received(
        &mut self,
        from: &NodeRef,
        child: Slot,
        epoch: Epoch,
        kind: ErrorKind,
        message: &str,
    ) {
        let Some(local) = self.children.local_mut(child).filter(|local| local.token.epoch == epoch) else {
            return;
        };
        let waiters = std::mem::take(&mut local.waiters);
        if waiters.is_empty() {
            return;
        }
        if kind != ErrorKind::HostTimeout {
            let request = self.wanted_request(child);
            self.write_wanted(child, None, request);
        }
        self.answer_waiters_failed(child, waiters, Some(from), kind, message);
    }

    /// What is wanted of a child of which a replica is quarantined.
    pub(super) fn spec_of_quarantined_replica(&self, child: Slot) -> Option<ChildSpec> {
        let entry = &self.children[child].entry;
        let is_quarantined =
            entry.holders.iter().any(|holder| !holder.is_departed && holder.row.stage == Stage::QuarantinedReplica);
        let spec = entry.wanted.as_ref().and_then(|wanted| wanted.spec.as_ref()).filter(|_| is_quarantined);
        spec.map(|spec| ChildSpec::clone(spec))
    }

    /// The other instances of a child as far as they are known here, with an entry of their nodes' logs that tells of
    /// them; `None` while the placement lacks one.
    pub(super) fn running_replicas(&self, child: Slot) -> Option<Vec<(NodeRef, u64)>> {
        let entry = &self.children[child].entry;
        if self.factor <= 1 {
            return Some(Vec::new());
        }
        if entry.placed_in != self.membership.view.number {
            return None;
        }
        let lead = entry.active_holder()?;
        let others = entry.others.iter().flat_map(|others| others.iter());
        let missing: BTreeSet<&NodeRef> = entry.owner.iter().chain(others).filter(|node| **node != lead.node).collect();
        let running = |node: &NodeRef| {
            let is_running = entry.holder(node).is_some_and(|holder| {
                !holder.is_departed
                    && holder.row.stage == Stage::Replica
                    && holder.row.token.epoch == lead.row.token.epoch
            });
            let seq = self.membership.peers.get(node).map_or(self.log.seq, |peer| peer.known_seq);
            is_running.then(|| (node.clone(), seq))
        };
        missing.into_iter().map(running).collect()
    }

    /// Answers those who wait for a start once every instance runs.
    pub(super) fn answer_if_complete(&mut self, child: Slot) {
        let waits = |local: &Local| !local.waiters.is_empty() && matches!(local.phase, Phase::Active);
        if self.factor <= 1 || !self.children.local(child).is_some_and(waits) {
            return;
        }
        let Some(replicas) = self.running_replicas(child) else {
            return;
        };
        let waiters = self.children.local_mut(child).map(|local| std::mem::take(&mut local.waiters));
        self.answer_waiters_started(child, waiters.unwrap_or_default(), &replicas);
    }

    /// Tells an instance its epoch and role, as far as it has to know.
    pub(super) fn tell_role(&mut self, child: Slot) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let (instance, role) = (local.instance, HostRequest::SetRole(local.token.epoch, local.mode));
        if self.instances.contains_key(&instance) {
            self.tell_host(child, instance, role);
        }
        self.owe_signal(child);
    }

    /// A role that is new to the instance is told before its next message, as `redundancy_signal` filters.
    pub(super) fn owe_signal(&mut self, child: Slot) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let is_told = self.strategies.redundancy.is_told(local.mode);
        local.owes_signal = is_told && local.told_mode != Some(local.mode);
        if !is_told {
            local.told_mode = Some(local.mode);
        }
    }
}
