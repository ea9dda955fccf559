//! The owner's side of `start_children`: it alone decides what is started and what is already there (R1).

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::json;

use super::Engine;
use super::hash::FixedHash;
use super::local::{Phase, Waiter};
use super::starts::{CHUNK, child_error};
use crate::error::ErrorKind;
use crate::host::call::StartReason;
use crate::ids::{ChildId, NodeRef};
use crate::observe::HookName;
use crate::spec::{ChildError, ChildSpec};
use crate::time::Timestamp;
use crate::wire::{Message, RequestKey, StartAnswer, Wanted};

/// Start messages that wait for a settled view.
const MAX_PARKED: usize = 4096;
/// Failures remembered for repeated requests.
const MAX_FAILURES: usize = 4096;

/// What a start is answered that is repeated when its child has ended.
pub(super) const START_IS_OVER: &str = "it was started, and stopped since";

/// A start message as the owner got it.
#[derive(Debug)]
struct Asked {
    from: NodeRef,
    key: RequestKey,
    view_hash: u64,
    until: Timestamp,
    return_existing: bool,
    specs: Vec<Arc<ChildSpec>>,
}

/// What the owner remembers for requests that come again, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Arbiter {
    failures: IndexMap<(RequestKey, ChildId), ChildError, FixedHash>,
    parked: Vec<Asked>,
    /// Answers of this turn.
    answers: std::collections::BTreeMap<(NodeRef, u64), Vec<(ChildId, StartAnswer)>>,
}

impl Engine {
    /// The owner's side of a start.
    pub(super) fn start_received(
        &mut self,
        from: &NodeRef,
        key: RequestKey,
        view_hash: u64,
        left_ms: u64,
        return_existing: bool,
        specs: Vec<Arc<ChildSpec>>,
    ) {
        let until = self.now + Duration::from_millis(left_ms);
        self.decide(Asked { from: from.clone(), key, view_hash, until, return_existing, specs });
    }

    fn decide(&mut self, asked: Asked) {
        let is_current = asked.view_hash == self.membership.view.hash;
        if is_current && !self.membership.is_settled {
            if self.arbiter.parked.len() < MAX_PARKED {
                self.arbiter.parked.push(asked);
            }
            return;
        }
        if !is_current || self.info.is_leaving {
            for spec in &asked.specs {
                self.answer(&asked.from, asked.key.request, &spec.id, StartAnswer::ViewMismatch);
            }
            return;
        }
        if self.hooks.wants(HookName::PreChildrenStart) {
            let children: Vec<_> = asked.specs.iter().map(|spec| spec.id.clone()).collect();
            self.fire(HookName::PreChildrenStart, || json!({ "children": children }));
        }
        self.registry.reserve(asked.specs.len());
        self.locals.reserve(asked.specs.len());
        self.instances.reserve(asked.specs.len());
        self.calls.reserve(asked.specs.len());
        self.effects.reserve(asked.specs.len());
        for spec in asked.specs {
            let child = spec.id.clone();
            let left = asked.until.since(self.now).max(Duration::from_millis(1));
            let waiter = Waiter { node: asked.from.clone(), request: asked.key.request };
            if let Some(answer) = self.decide_one(spec, asked.key, waiter, left, asked.return_existing) {
                self.answer(&asked.from, asked.key.request, &child, answer);
            }
        }
    }

    /// `None`: the answer comes later.
    fn decide_one(
        &mut self,
        spec: Arc<ChildSpec>,
        key: RequestKey,
        waiter: Waiter,
        left: Duration,
        return_existing: bool,
    ) -> Option<StartAnswer> {
        let child = spec.id.clone();
        let wanted = self.registry.get(child.as_str()).and_then(|entry| entry.wanted.as_ref());
        let existing = wanted.filter(|wanted| wanted.spec.is_some()).map(|wanted| wanted.request);
        if let Some(request) = existing {
            let is_ours = request == key;
            let is_quarantined =
                self.locals.get(&child).is_some_and(|local| matches!(local.phase, Phase::Quarantined { .. }));
            if is_quarantined && !is_ours {
                // R21: a start ends the quarantine.
                self.remove_local(&child);
                self.drop_row(&child, None);
            } else if is_ours || return_existing {
                return self.answer_existing(&child, waiter);
            } else {
                let message = "it is already wanted";
                return Some(StartAnswer::Failed(child_error(
                    &child,
                    Some(&self.me),
                    ErrorKind::AlreadyStarted,
                    message,
                )));
            }
        }
        if let Some(error) = self.arbiter.failures.get(&(key, child.clone())) {
            return Some(StartAnswer::Failed(error.clone()));
        }
        if self.is_start_over(&child, key) {
            return Some(StartAnswer::Failed(child_error(&child, Some(&self.me), ErrorKind::Cancelled, START_IS_OVER)));
        }
        let is_free = !self.is_ending(&child)
            && !self.locals.contains_key(&child)
            && self.registry.get(child.as_str()).is_none_or(|entry| entry.living_holder(&self.me).is_none());
        if !is_free || !self.kinds.contains_key(&spec.kind) {
            return Some(StartAnswer::ViewMismatch);
        }
        self.write_wanted(&child, Some(spec.clone()), key);
        self.begin(spec, StartReason::Initial, None, vec![waiter], left);
        None
    }

    /// Whether this start was carried out and its child has ended since, stopped by somebody or by itself: then the
    /// tombstone bears the request of the start.
    pub(super) fn is_start_over(&self, child: &ChildId, key: RequestKey) -> bool {
        self.registry.get(child.as_str()).is_some_and(|entry| {
            let has_ended = |wanted: &Wanted| wanted.spec.is_none() && wanted.request == key;
            entry.past_starts.contains(&key) || entry.wanted.as_ref().is_some_and(has_ended)
        })
    }

    fn answer_existing(&mut self, child: &ChildId, waiter: Waiter) -> Option<StartAnswer> {
        let seq = self.log.seq;
        if let Some(local) = self.locals.get_mut(child) {
            let is_waited_for = match &local.phase {
                Phase::Starting { .. } | Phase::Resting { .. } => true,
                Phase::Quarantined { restarts } => {
                    let message = format!("quarantined after {restarts} restarts");
                    let error = child_error(child, Some(&self.me), ErrorKind::RestartLimit, message);
                    return Some(StartAnswer::Failed(error));
                }
                Phase::Active | Phase::Outgoing(_) | Phase::Incoming(_) | Phase::Ending => false,
            };
            if is_waited_for {
                if !local.waiters.contains(&waiter) {
                    local.waiters.push(waiter);
                }
                return None;
            }
        }
        // It runs here or where it moved to; if nobody runs it, reconcile starts it and the request asks again.
        let holder = self.registry.get(child.as_str()).and_then(super::registry::Entry::active_holder);
        holder.map(|holder| StartAnswer::Started { epoch: holder.row.token.epoch, seq })
    }

    /// The view is settled, or another one: what waited is decided.
    pub(super) fn starts_unparked(&mut self) {
        for asked in std::mem::take(&mut self.arbiter.parked) {
            if asked.until > self.now {
                self.decide(asked);
            }
        }
    }

    fn answer(&mut self, to: &NodeRef, request: u64, child: &ChildId, answer: StartAnswer) {
        let answers = self.arbiter.answers.entry((to.clone(), request)).or_default();
        answers.push((child.clone(), answer));
    }

    /// Sends the answers of this turn.
    pub(super) fn send_start_answers(&mut self) {
        // An answer to ourselves may finish a request, which may begin the next.
        while let Some(((to, request), mut answers)) = self.arbiter.answers.pop_first() {
            if to == self.me {
                self.started_received(&to, request, answers);
                continue;
            }
            while !answers.is_empty() {
                let rest = answers.split_off(answers.len().min(CHUNK));
                self.send_ctl(&to, &Message::Started(request, std::mem::replace(&mut answers, rest)));
            }
        }
    }

    pub(super) fn answer_waiters_started(&mut self, child: &ChildId, waiters: Vec<Waiter>) {
        let seq = self.log.seq;
        let epoch = self.locals.get(child).map(|local| local.token.epoch).unwrap_or_default();
        for waiter in waiters {
            self.answer(&waiter.node, waiter.request, child, StartAnswer::Started { epoch, seq });
        }
    }

    pub(super) fn answer_waiters_failed(
        &mut self,
        child: &ChildId,
        waiters: Vec<Waiter>,
        kind: ErrorKind,
        message: &str,
    ) {
        let error = child_error(child, Some(&self.me), kind, message);
        for waiter in waiters {
            let key = RequestKey { incarnation: waiter.node.incarnation, request: waiter.request };
            if self.arbiter.failures.len() >= MAX_FAILURES {
                self.arbiter.failures.shift_remove_index(0);
            }
            self.arbiter.failures.insert((key, child.clone()), error.clone());
            self.answer(&waiter.node, waiter.request, child, StartAnswer::Failed(error.clone()));
        }
    }

    pub(super) fn answer_waiters_stopped(&mut self, child: &ChildId) {
        let waiters = self.locals.get_mut(child).map(|local| std::mem::take(&mut local.waiters)).unwrap_or_default();
        self.answer_waiters_failed(child, waiters, ErrorKind::Cancelled, "it was stopped while it started");
    }

    /// The request a wanted entry was written for.
    pub(super) fn wanted_request(&self, child: &ChildId) -> RequestKey {
        let wanted = self.registry.get(child.as_str()).and_then(|entry| entry.wanted.as_ref());
        wanted.map(|wanted| wanted.request).unwrap_or_default()
    }
}
