//! The owner's side of `start_children`: it alone decides what is started and what is already there (R1).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::json;

use super::Engine;
use super::children::Slot;
use super::hash::FixedHash;
use super::local::{Phase, Waiter};
use super::requests::Answers;
use super::starts::child_error;
use crate::error::ErrorKind;
use crate::host::call::StartReason;
use crate::ids::NodeRef;
use crate::observe::HookName;
use crate::spec::{ChildError, ChildSpec};
use crate::time::Timestamp;
use crate::wire::{RequestKey, StartAnswer, StopAnswer};

/// Start messages that wait for a settled view.
const MAX_PARKED: usize = 4096;
/// Specs decided in one turn.
const DECIDED_PER_TURN: usize = 1024;
/// Failures remembered for repeated requests.
const MAX_FAILURES: usize = 4096;

/// What a start is answered that is repeated when its child has ended.
pub(super) const START_IS_OVER: &str = "it was started, and stopped since";

/// A start message as the owner got it.
#[derive(Debug)]
pub(super) struct Asked {
    /// Who asked, and is answered.
    pub(super) from: NodeRef,
    pub(super) key: RequestKey,
    pub(super) view_hash: u64,
    pub(super) until: Timestamp,
    pub(super) return_existing: bool,
    /// An arbiter has found that this node is the owner.
    pub(super) is_passed: bool,
    pub(super) specs: Vec<(u32, Arc<ChildSpec>)>,
}

impl Asked {
    /// Who waits for the answer about an item.
    pub(super) fn waiter(&self, item: u32) -> Waiter {
        Waiter { node: self.from.clone(), request: self.key.request, item }
    }
}

/// What the owner remembers for requests that come again, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Arbiter {
    /// By the request and the item of it.
    failures: IndexMap<(RequestKey, u32), ChildError, FixedHash>,
    parked: Vec<Asked>,
    /// Not decided yet: what was asked in this turn waits for its end, so that the other owners have their share on its
    /// way before this node begins with its own.
    queue: VecDeque<Asked>,
    /// Requests of this node that are planned in part.
    planning: VecDeque<u64>,
    is_turn_over: bool,
    /// Answers of this turn.
    pub(super) started: Answers<StartAnswer>,
    pub(super) stopped: Answers<StopAnswer>,
}

impl Arbiter {
    /// A turn is over: what was asked in it may be decided.
    pub(super) fn end_turn(&mut self) {
        self.is_turn_over = !self.queue.is_empty() || !self.planning.is_empty();
    }

    /// The rest of a request is planned in the turns that follow.
    pub(super) fn plan_later(&mut self, request: u64) {
        if !self.planning.contains(&request) {
            self.planning.push_back(request);
        }
    }

    /// Whether there is something to decide now.
    pub(super) fn is_due(&self) -> bool {
        self.is_turn_over
    }
}

/// What the owner does about one child of a start.
enum Decision {
    Answer(StartAnswer),
    /// The answer comes later.
    Wait,
    Start,
}

impl Engine {
    /// The owner's side of a start.
    pub(super) fn start_received(&mut self, asked: Asked) {
        self.arbiter.queue.push_back(asked);
    }

    /// Decides what was asked before, ahead of what may ask about it.
    pub(super) fn decide_all(&mut self) {
        while let Some(asked) = self.arbiter.queue.pop_front() {
            self.decide(asked);
        }
    }

    /// Plans the rest of every request, ahead of a command that may ask about it.
    pub(super) fn plan_all(&mut self) {
        while let Some(request) = self.arbiter.planning.pop_front() {
            self.plan_part(request);
        }
    }

    /// Plans and decides some of what was asked in earlier turns: the owners and the host begin while the rest waits.
    pub(super) fn go_on_with_starts(&mut self) {
        if !std::mem::take(&mut self.arbiter.is_turn_over) {
            return;
        }
        if let Some(request) = self.arbiter.planning.pop_front() {
            self.plan_part(request);
        }
        let mut left = DECIDED_PER_TURN;
        while left > 0
            && let Some(mut asked) = self.arbiter.queue.pop_front()
        {
            if asked.specs.len() > left {
                let specs = asked.specs.split_off(left);
                let rest = Asked { from: asked.from.clone(), specs, ..asked };
                self.arbiter.queue.push_front(rest);
            }
            left -= asked.specs.len();
            self.decide(asked);
        }
    }

    fn decide(&mut self, mut asked: Asked) {
        let is_current = asked.view_hash == self.membership.view.hash;
        if is_current && !self.membership.is_settled {
            if self.arbiter.parked.len() < MAX_PARKED {
                self.arbiter.parked.push(asked);
            }
            return;
        }
        let mut specs = std::mem::take(&mut asked.specs);
        if !is_current || self.info.is_leaving {
            for (item, _) in specs {
                self.arbiter.started.add(&asked.waiter(item), StartAnswer::ViewMismatch);
            }
            return;
        }
        if self.strategies.distribution.is_assigned() && !asked.is_passed {
            specs = self.pass_to_owners(&asked, specs);
            if specs.is_empty() {
                return;
            }
        }
        let Asked { key, until, return_existing, .. } = asked;
        if self.hooks.wants(HookName::PreChildrenStart) {
            let children: Vec<_> = specs.iter().map(|(_, spec)| spec.id.clone()).collect();
            self.fire(HookName::PreChildrenStart, || json!({ "children": children }));
        }
        self.children.reserve(specs.len());
        self.instances.reserve(specs.len());
        self.calls.reserve(specs.len());
        self.effects.reserve(specs.len());
        let left = until.since(self.now).max(Duration::from_millis(1));
        for (item, spec) in specs {
            let child = self.children.intern(&spec.id);
            let waiter = asked.waiter(item);
            match self.decision(child, &spec, key, &waiter, return_existing) {
                Decision::Answer(answer) => self.arbiter.started.add(&waiter, answer),
                Decision::Wait => {}
                Decision::Start => {
                    self.write_wanted(child, Some(spec.clone()), key);
                    self.begin(child, spec, StartReason::Initial, None, vec![waiter], left);
                }
            }
        }
    }

    fn decision(
        &mut self,
        child: Slot,
        spec: &ChildSpec,
        key: RequestKey,
        waiter: &Waiter,
        return_existing: bool,
    ) -> Decision {
        let failed = |me: &NodeRef, kind, message: &str| {
            Decision::Answer(StartAnswer::Failed(Box::new(child_error(&spec.id, Some(me), kind, message))))
        };
        let record = &self.children[child];
        if let Some(wanted) = record.entry.wanted.as_ref().filter(|wanted| wanted.spec.is_some()) {
            let is_ours = wanted.request == key;
            let is_quarantined = record.local().is_some_and(|local| matches!(local.phase, Phase::Quarantined { .. }));
            if is_quarantined && !is_ours {
                // R21: a start ends the quarantine.
                self.remove_local(child);
                self.drop_row(child, None);
            } else if let Some(spec) = self.spec_of_quarantined_replica(child).filter(|_| !is_ours) {
                // The same for a replica: its node sees that the child was started again.
                self.write_wanted(child, Some(Arc::new(spec)), key);
                return self.existing(child, waiter);
            } else if is_ours || return_existing {
                return self.existing(child, waiter);
            } else {
                return failed(&self.me, ErrorKind::AlreadyStarted, "it is already wanted");
            }
        }
        let failure = self.arbiter.failures.get(&(key, waiter.item));
        // A hub that was started again counts its requests from one again.
        if let Some(error) = failure.filter(|error| error.id == spec.id) {
            return Decision::Answer(StartAnswer::Failed(Box::new(error.clone())));
        }
        let record = &self.children[child];
        if record.entry.is_start_over(key) {
            return failed(&self.me, ErrorKind::Cancelled, START_IS_OVER);
        }
        let is_free = !self.is_ending(child)
            && record.local().is_none()
            && record.entry.living_holder(&self.me).is_none()
            && self.kinds.contains_key(&spec.kind);
        if is_free { Decision::Start } else { Decision::Answer(StartAnswer::ViewMismatch) }
    }

    /// What is answered for a child that is wanted already.
    fn existing(&mut self, child: Slot, waiter: &Waiter) -> Decision {
        let seq = self.log.seq;
        let replicas = self.running_replicas(child);
        let record = &mut self.children[child];
        let id = record.id.clone();
        if let Some(local) = record.local_mut().filter(|local| !local.is_replica) {
            let is_waited_for = match &local.phase {
                Phase::Active if replicas.is_none() => true,
                Phase::Starting { .. } | Phase::Resting { .. } => true,
                Phase::Quarantined { restarts } => {
                    let message = format!("quarantined after {restarts} restarts");
                    let error = child_error(&id, Some(&self.me), ErrorKind::RestartLimit, message);
                    return Decision::Answer(StartAnswer::Failed(Box::new(error)));
                }
                Phase::Active | Phase::Outgoing(_) | Phase::Incoming(_) | Phase::Ending => false,
            };
            if is_waited_for {
                if !local.waiters.contains(waiter) {
                    local.waiters.push(waiter.clone());
                }
                return Decision::Wait;
            }
        }
        // It runs here or where it moved to; if nobody runs it, reconcile starts it and the request asks again.
        match (record.entry.active_holder(), replicas) {
            (Some(holder), Some(replicas)) => {
                Decision::Answer(StartAnswer::Started { epoch: holder.row.token.epoch, seq, replicas })
            }
            (Some(_) | None, _) => Decision::Wait,
        }
    }

    /// The view is settled, or another one: what waited is decided.
    pub(super) fn starts_unparked(&mut self) {
        for asked in std::mem::take(&mut self.arbiter.parked) {
            if asked.until > self.now {
                self.decide(asked);
            }
        }
    }

    pub(super) fn answer_waiters_started(&mut self, child: Slot, waiters: Vec<Waiter>, replicas: &[(NodeRef, u64)]) {
        let seq = self.log.seq;
        let epoch = self.children.local(child).map(|local| local.token.epoch).unwrap_or_default();
        for waiter in waiters {
            let replicas = replicas.to_vec();
            self.arbiter.started.add(&waiter, StartAnswer::Started { epoch, seq, replicas });
        }
    }

    /// `node` is where it failed, if not here.
    pub(super) fn answer_waiters_failed(
        &mut self,
        child: Slot,
        waiters: Vec<Waiter>,
        node: Option<&NodeRef>,
        kind: ErrorKind,
        message: &str,
    ) {
        if waiters.is_empty() {
            return;
        }
        let error = child_error(&self.children[child].id, node.or(Some(&self.me)), kind, message);
        for waiter in waiters {
            let key = RequestKey { incarnation: waiter.node.incarnation, request: waiter.request };
            if self.arbiter.failures.len() >= MAX_FAILURES {
                self.arbiter.failures.shift_remove_index(0);
            }
            self.arbiter.failures.insert((key, waiter.item), error.clone());
            self.arbiter.started.add(&waiter, StartAnswer::Failed(Box::new(error.clone())));
        }
    }

    pub(super) fn answer_waiters_stopped(&mut self, child: Slot) {
        let waiters =
            self.children.local_mut(child).map(|local| std::mem::take(&mut local.waiters)).unwrap_or_default();
        self.answer_waiters_failed(child, waiters, None, ErrorKind::Cancelled, "it was stopped while it started");
    }

    /// The request a wanted entry was written for.
    pub(super) fn wanted_request(&self, child: Slot) -> RequestKey {
        let wanted = self.children[child].entry.wanted.as_ref();
        wanted.map(|wanted| wanted.request).unwrap_or_default()
    }
}
