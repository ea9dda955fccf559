//! `start_children`: the asking side, and the owner who alone decides (R1).

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::json;

use super::hash::FixedHash;
use super::io::{IfExists, OnFailure, StartOptions};
use super::local::{Phase, Waiter};
use super::requests::{Request, Unconfirmed};
use super::{Engine, Outcome, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::host::call::StartReason;
use crate::ids::{ChildId, Epoch, NodeRef, RequestId};
use crate::observe::HookName;
use crate::spec::{ChildError, ChildSpec, StartResult, Started, StartedInstance};
use crate::time::Timestamp;
use crate::wire::{Message, RequestKey, StartAnswer};

/// Specs in one message.
const CHUNK: usize = 128;
/// An owner that is silent this long is asked again; it knows its own work by the request's key.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// After a `view_mismatch`.
pub(super) const PLAN_AGAIN: Duration = Duration::from_millis(20);
/// Start messages that wait for a settled view.
const MAX_PARKED: usize = 4096;
/// Failures remembered for repeated requests.
const MAX_FAILURES: usize = 4096;

/// How far one child of a start is.
#[derive(Debug)]
enum State {
    Planned,
    Asked { node: NodeRef, at: Timestamp },
    Confirming { node: NodeRef, epoch: Epoch },
    Done(Result<Started, ChildError>),
}

#[derive(Debug)]
struct Item {
    spec: Arc<ChildSpec>,
    state: State,
}

/// One `start_children`.
#[derive(Debug)]
pub(super) struct StartRequest {
    options: StartOptions,
    deadline: Timestamp,
    items: IndexMap<ChildId, Item, FixedHash>,
    /// Second specs with an id that the request has already.
    duplicates: Vec<ChildError>,
    open: usize,
    pub(super) unconfirmed: Unconfirmed,
}

impl StartRequest {
    /// What was asked of a gone node is planned again; what it started counts once somebody runs it.
    pub(super) fn lose(&mut self, node: &NodeRef) {
        self.unconfirmed.lose(node);
        for item in self.items.values_mut() {
            let is_lost = match &item.state {
                State::Asked { node: asked, .. } | State::Confirming { node: asked, .. } => asked == node,
                State::Planned | State::Done(_) => false,
            };
            if is_lost {
                item.state = State::Planned;
            }
        }
    }

    pub(super) fn ask_again(&mut self, now: Timestamp) {
        for item in self.items.values_mut() {
            if let State::Asked { at, .. } = &item.state
                && now.since(*at) >= ASK_AGAIN
            {
                item.state = State::Planned;
            }
        }
    }

    fn finish(&mut self, child: &ChildId, result: Result<Started, ChildError>) {
        if let Some(item) = self.items.get_mut(child)
            && !matches!(item.state, State::Done(_))
        {
            item.state = State::Done(result);
            self.open -= 1;
        }
    }
}

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
pub(super) struct RecentFailures {
    failures: IndexMap<(RequestKey, ChildId), ChildError, FixedHash>,
    parked: Vec<Asked>,
    /// Answers of this turn.
    answers: std::collections::BTreeMap<(NodeRef, u64), Vec<(ChildId, StartAnswer)>>,
}

fn child_error(child: &ChildId, node: Option<&NodeRef>, kind: ErrorKind, message: impl Into<String>) -> ChildError {
    ChildError { id: child.clone(), node: node.map(|node| node.name.clone()), kind, message: message.into() }
}

impl Engine {
    pub(super) fn start_request(&mut self, request: RequestId, specs: Vec<Arc<ChildSpec>>, options: StartOptions) {
        if specs.is_empty() {
            let error = Error::new(ErrorKind::NoChildren, "start_children", "the list of children is empty");
            self.reply(request, Err(error));
            return;
        }
        let deadline = self.now + options.timeout;
        let mut started = StartRequest {
            deadline,
            items: IndexMap::with_capacity_and_hasher(specs.len(), FixedHash),
            duplicates: Vec::new(),
            open: 0,
            unconfirmed: Unconfirmed::default(),
            options,
        };
        for spec in specs {
            let spec = with_metadata(spec, started.options.metadata.as_ref());
            if started.items.contains_key(&spec.id) {
                let error = child_error(&spec.id, None, ErrorKind::AlreadyStarted, "the id is twice in this call");
                started.duplicates.push(error);
                continue;
            }
            started.open += 1;
            started.items.insert(spec.id.clone(), Item { spec, state: State::Planned });
        }
        self.registry.reserve(started.open);
        self.requests.insert(request.0, Request::Start(started));
        self.timers.arm(TimerKey::RequestEnd(request.0), deadline);
        self.plan_start(request.0);
    }

    /// Asks the owners for what is planned.
    pub(super) fn plan_start(&mut self, id: u64) {
        let Some(Request::Start(request)) = self.requests.get(&id) else {
            return;
        };
        let planned: Vec<Arc<ChildSpec>> = request
            .items
            .values()
            .filter(|item| matches!(item.state, State::Planned))
            .map(|item| item.spec.clone())
            .collect();
        self.timers.arm(TimerKey::RequestRetry(id), self.now + ASK_AGAIN);
        if planned.is_empty() {
            return;
        }
        let specs: Vec<&ChildSpec> = planned.iter().map(AsRef::as_ref).collect();
        let owners = self.owners_of(&specs);
        let mut by_owner: std::collections::BTreeMap<NodeRef, Vec<Arc<ChildSpec>>> = Default::default();
        let mut unplaced = Vec::new();
        for (spec, owner) in planned.into_iter().zip(owners) {
            match owner {
                Some(owner) => by_owner.entry(owner).or_default().push(spec),
                None => unplaced.push(spec),
            }
        }
        self.fail_unplaced(id, unplaced);
        let now = self.now;
        for (owner, specs) in by_owner {
            let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
                return;
            };
            for spec in &specs {
                if let Some(item) = request.items.get_mut(&spec.id) {
                    item.state = State::Asked { node: owner.clone(), at: now };
                }
            }
            let left = request.deadline.since(now);
            let return_existing = request.options.if_exists == IfExists::Return;
            self.ask_start(id, &owner, left, return_existing, specs);
        }
        self.start_finished(id);
    }

    fn ask_start(
        &mut self,
        id: u64,
        owner: &NodeRef,
        left: Duration,
        return_existing: bool,
        specs: Vec<Arc<ChildSpec>>,
    ) {
        let (key, view_hash) = (self.request_key(id), self.membership.view.hash);
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if *owner == self.me {
            self.start_received(owner, key, view_hash, left_ms, return_existing, specs);
            return;
        }
        for specs in specs.chunks(CHUNK) {
            let specs = specs.to_vec();
            let message = Message::Start { request: key, view_hash, left_ms, return_existing, specs };
            self.send_ctl(owner, &message);
        }
    }

    /// R15: a start nobody can carry out fails and wants nothing; but who is there must be known first, and a
    /// kind registered just before counts.
    fn fail_unplaced(&mut self, id: u64, unplaced: Vec<Arc<ChildSpec>>) {
        if unplaced.is_empty() {
            return;
        }
        let is_view_changing = self.timers.is_armed(&TimerKey::ViewChange);
        if !self.membership.is_settled || is_view_changing {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
            return;
        }
        let errors: Vec<ChildError> = unplaced
            .iter()
            .map(|spec| {
                let message = if self.membership.view.offers(&spec.kind) {
                    format!(
                        "no member that registered the kind `{}` has the labels {:?} and takes children",
                        spec.kind, spec.require
                    )
                } else {
                    format!("no member of the hub registered the kind `{}`", spec.kind)
                };
                child_error(&spec.id, None, ErrorKind::UnknownKind, message)
            })
            .collect();
        if let Some(Request::Start(request)) = self.requests.get_mut(&id) {
            for error in errors {
                request.finish(&error.id.clone(), Err(error));
            }
        }
    }

    /// The owner's answers.
    pub(super) fn started_received(&mut self, from: &NodeRef, id: u64, answers: Vec<(ChildId, StartAnswer)>) {
        let confirmed_seq = self.confirmed_seq(from);
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let mut confirmed = Vec::new();
        let mut plans_again = false;
        for (child, answer) in answers {
            let Some(item) = request.items.get_mut(&child) else {
                continue;
            };
            match (&item.state, answer) {
                (State::Done(_) | State::Confirming { .. }, _) => {}
                (State::Planned | State::Asked { .. }, StartAnswer::Started { epoch, seq }) => {
                    item.state = State::Confirming { node: from.clone(), epoch };
                    if seq <= confirmed_seq {
                        confirmed.push(child);
                    } else {
                        request.unconfirmed.add(from, seq, &child);
                    }
                }
                (State::Planned | State::Asked { .. }, StartAnswer::Failed(error)) => {
                    request.finish(&child, Err(error))
                }
                (State::Planned | State::Asked { .. }, StartAnswer::ViewMismatch) => {
                    item.state = State::Planned;
                    plans_again = true;
                }
            }
        }
        if plans_again {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
        }
        self.starts_confirmed(id, confirmed);
        self.start_finished(id);
    }

    pub(super) fn starts_confirmed(&mut self, id: u64, children: Vec<ChildId>) {
        if children.is_empty() {
            return;
        }
        if let Some(Request::Start(request)) = self.requests.get_mut(&id) {
            for child in children {
                let Some(State::Confirming { node, epoch }) = request.items.get(&child).map(|item| &item.state) else {
                    continue;
                };
                let instances = vec![StartedInstance { node: node.name.clone(), epoch: *epoch }];
                request.finish(&child, Ok(Started { id: child.clone(), instances }));
            }
        }
        self.start_finished(id);
    }

    pub(super) fn start_timed_out(&mut self, id: u64) {
        if let Some(Request::Start(request)) = self.requests.get_mut(&id) {
            let timeout = request.options.timeout;
            for item in request.items.values_mut() {
                let node = match &item.state {
                    State::Done(_) => continue,
                    State::Asked { node, .. } | State::Confirming { node, .. } => Some(node.clone()),
                    State::Planned => None,
                };
                let message = format!("not started within {} ms", timeout.as_millis());
                item.state = State::Done(Err(child_error(&item.spec.id, node.as_ref(), ErrorKind::Timeout, message)));
            }
            request.open = 0;
        }
        self.start_finished(id);
    }

    fn start_finished(&mut self, id: u64) {
        if !matches!(self.requests.get(&id), Some(Request::Start(request)) if request.open == 0) {
            return;
        }
        let Some(Request::Start(request)) = self.close_request(id) else {
            return;
        };
        let mut result = StartResult { errors: request.duplicates, ..StartResult::default() };
        let mut undone = Vec::new();
        for (child, item) in request.items {
            match item.state {
                State::Done(Ok(started)) => {
                    undone.push(child);
                    result.started.push(started);
                }
                State::Done(Err(error)) => {
                    if error.kind == ErrorKind::Timeout {
                        undone.push(child);
                    }
                    result.errors.push(error);
                }
                State::Planned | State::Asked { .. } | State::Confirming { .. } => {}
            }
        }
        if result.errors.is_empty() || request.options.on_failure == OnFailure::Continue || undone.is_empty() {
            result.rollback = !result.errors.is_empty() && request.options.on_failure == OnFailure::Rollback;
            self.reply(RequestId(id), Ok(Outcome::Started(result)));
            return;
        }
        result.rollback = true;
        let left = request.deadline.since(self.now);
        self.roll_back(RequestId(id), undone, result, left);
    }

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
            if self.start_failures.parked.len() < MAX_PARKED {
                self.start_failures.parked.push(asked);
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
        if self.registry.get(child.as_str()).is_some_and(|entry| entry.past_start == Some(key)) {
            let message = "it was started, and stopped since";
            return Some(StartAnswer::Failed(child_error(&child, Some(&self.me), ErrorKind::Cancelled, message)));
        }
        if let Some(error) = self.start_failures.failures.get(&(key, child.clone())) {
            return Some(StartAnswer::Failed(error.clone()));
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
        for asked in std::mem::take(&mut self.start_failures.parked) {
            if asked.until > self.now {
                self.decide(asked);
            }
        }
    }

    fn answer(&mut self, to: &NodeRef, request: u64, child: &ChildId, answer: StartAnswer) {
        let answers = self.start_failures.answers.entry((to.clone(), request)).or_default();
        answers.push((child.clone(), answer));
    }

    /// Sends the answers of this turn.
    pub(super) fn send_start_answers(&mut self) {
        // An answer to ourselves may finish a request, which may begin the next.
        while let Some(((to, request), mut answers)) = self.start_failures.answers.pop_first() {
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
            if self.start_failures.failures.len() >= MAX_FAILURES {
                self.start_failures.failures.shift_remove_index(0);
            }
            self.start_failures.failures.insert((key, child.clone()), error.clone());
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

/// Fills the metadata keys that a spec leaves out.
fn with_metadata(
    spec: Arc<ChildSpec>,
    defaults: Option<&serde_json::Map<String, serde_json::Value>>,
) -> Arc<ChildSpec> {
    let Some(defaults) = defaults.filter(|defaults| !defaults.is_empty()) else {
        return spec;
    };
    let serde_json::Value::Object(mut metadata) = spec.metadata_value() else {
        return spec;
    };
    for (key, value) in defaults {
        metadata.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let mut spec = Arc::unwrap_or_clone(spec);
    spec.metadata = Some(serde_json::Value::Object(metadata).to_string().into());
    Arc::new(spec)
}
