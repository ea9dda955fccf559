//! `start_children`: the asking side, and the owner who alone decides (R1).

mod altering;
mod choosing;
mod known;
mod statics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexSet;

use super::arbiter::{Asked, START_IS_OVER};
use super::hash::FixedHash;
use super::io::{IfExists, OnFailure, StartOptions};
use super::requests::{Request, Unconfirmed};
use super::{Engine, Outcome, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::ids::{ChildId, Epoch, NodeRef, RequestId};
use crate::observe::HookName;
use crate::spec::{ChildError, ChildSpec, StartResult, Started, StartedInstance};
use crate::time::Timestamp;
use crate::wire::{Message, StartAnswer};

/// Specs planned in one turn.
const PLANNED_PER_TURN: usize = 2048;
/// Specs in one message.
pub(super) const CHUNK: usize = 128;
/// An owner that is silent this long is asked again; it knows its own work by the request's key.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// After a `view_mismatch`.
pub(super) const PLAN_AGAIN: Duration = Duration::from_millis(20);

/// How far one child of a start is.
#[derive(Debug)]
enum State {
    /// An interceptor of `child_data_alter` looks at the spec.
    Altering,
    /// Others are asked about first.
    Held,
    Planned,
    Asked {
        node: NodeRef,
        at: Timestamp,
    },
    Confirming {
        instances: Instances,
        /// Entries of logs that are not known here yet.
        open: usize,
    },
    Started(Instances),
    Failed(Box<ChildError>),
}

/// Where a child runs: first where it is the child, then its replicas.
#[derive(Debug)]
struct Instances {
    node: NodeRef,
    replicas: Vec<NodeRef>,
    epoch: Epoch,
}

impl Instances {
    fn has(&self, node: &NodeRef) -> bool {
        self.node == *node || self.replicas.contains(node)
    }

    fn started(self) -> Vec<StartedInstance> {
        let epoch = self.epoch;
        let nodes = std::iter::once(self.node).chain(self.replicas);
        nodes.map(|node| StartedInstance { node: node.name, epoch }).collect()
    }
}

#[derive(Debug)]
struct Item {
    spec: Arc<ChildSpec>,
    state: State,
    /// Who was asked last.
    asked: Option<NodeRef>,
    /// The number of the view in which its nodes were chosen.
    assigned_in: u64,
}

/// One `start_children`.
#[derive(Debug)]
pub(super) struct StartRequest {
    options: StartOptions,
    deadline: Timestamp,
    /// A child's place here is its number in messages.
    items: Vec<Item>,
    /// No item before this one is planned and not asked for.
    planned_from: usize,
    /// What is known here is to be asked about before anything is started.
    is_unchecked: bool,
    /// Items that wait for that.
    held: usize,
    /// Second specs with an id that the request has already.
    duplicates: Vec<ChildError>,
    open: usize,
    pub(super) unconfirmed: Unconfirmed,
}

impl StartRequest {
    /// What was asked of a gone node is planned again; what it started counts once somebody runs it.
    pub(super) fn lose(&mut self, node: &NodeRef) {
        self.unconfirmed.lose(node);
        for (number, item) in (0..).zip(&mut self.items) {
            let is_lost = match &item.state {
                State::Asked { node: asked, .. } => asked == node,
                State::Confirming { instances, .. } => {
                    let is_lost = instances.has(node);
                    if is_lost && !instances.replicas.is_empty() {
                        self.unconfirmed.forget(number);
                    }
                    is_lost
                }
                State::Altering | State::Held | State::Planned | State::Started(_) | State::Failed(_) => false,
            };
            if is_lost {
                item.state = State::Planned;
            }
        }
    }

    pub(super) fn ask_again(&mut self, now: Timestamp) {
        for item in &mut self.items {
            if let State::Asked { at, .. } = &item.state
                && now.since(*at) >= ASK_AGAIN
            {
                item.state = State::Planned;
            }
        }
    }

    fn fail(&mut self, item: u32, error: ChildError) {
        if let Some(item) = self.items.get_mut(item as usize)
            && !item.is_done()
        {
            item.state = State::Failed(Box::new(error));
            self.open -= 1;
        }
    }
}

impl Item {
    fn is_done(&self) -> bool {
        match self.state {
            State::Started(_) | State::Failed(_) => true,
            State::Altering | State::Held | State::Planned | State::Asked { .. } | State::Confirming { .. } => false,
        }
    }
}

pub(super) fn child_error(
    child: &ChildId,
    node: Option<&NodeRef>,
    kind: ErrorKind,
    message: impl Into<String>,
) -> ChildError {
    ChildError { id: child.clone(), node: node.map(|node| node.name.clone()), kind, message: message.into() }
}

impl Engine {
    pub(super) fn start_request(&mut self, request: RequestId, specs: Vec<Arc<ChildSpec>>, options: StartOptions) {
        if specs.is_empty() {
            let error = Error::new(ErrorKind::NoChildren, "start_children", "the list of children is empty");
            self.reply(request, Err(error));
            return;
        }
        let specs = match self.map_children(specs, &options) {
            Ok(specs) => specs,
            Err(error) => return self.reply(request, Err(error)),
        };
        let deadline = self.now + options.timeout;
        let mut started = StartRequest {
            deadline,
            items: Vec::with_capacity(specs.len()),
            planned_from: 0,
            duplicates: Vec::new(),
            open: 0,
            unconfirmed: Unconfirmed::default(),
            is_unchecked: options.checks_first(),
            held: 0,
            options,
        };
        let mut ids = IndexSet::with_capacity_and_hasher(specs.len(), FixedHash);
        for spec in specs {
            let spec = altering::with_metadata(spec, started.options.metadata.as_ref());
            if ids.insert(spec.id.clone()) {
                started.items.push(Item { spec, state: State::Planned, asked: None, assigned_in: 0 });
            } else {
                let error = child_error(&spec.id, None, ErrorKind::AlreadyStarted, "the id is twice in this call");
                started.duplicates.push(error);
            }
        }
        started.open = started.items.len();
        self.children.reserve(started.open);
        self.requests.insert(request.0, Request::Start(started));
        self.timers.arm(TimerKey::RequestEnd(request.0), deadline);
        if self.hooks.wants(HookName::ChildDataAlter) {
            self.ask_interceptors(request.0);
        } else {
            self.plan_start(request.0);
        }
    }

    /// Asks again for what is planned. First what is over by now ends: the owner that carried it out may be gone, and
    /// its successor a newcomer that was told neither of the start nor of the stop, and would start it once more.
    pub(super) fn plan_start_again(&mut self, id: u64) {
        let key = self.request_key(id);
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let is_over = |child: &ChildId| {
            let child = self.children.find(child.as_str());
            child.is_some_and(|child| self.children[child].entry.is_start_over(key))
        };
        for item in &mut request.items {
            if matches!(item.state, State::Planned) && is_over(&item.spec.id) {
                let error = child_error(&item.spec.id, None, ErrorKind::Cancelled, START_IS_OVER);
                item.state = State::Failed(Box::new(error));
                request.open -= 1;
            }
        }
        self.plan_start(id);
    }

    /// Asks the owners for what is planned: for a part of it now, for another in each turn that follows.
    pub(super) fn plan_start(&mut self, id: u64) {
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        request.planned_from = 0;
        if std::mem::take(&mut request.is_unchecked) {
            Self::hold_unknown(&self.children, request);
        }
        self.timers.arm(TimerKey::RequestRetry(id), self.now + ASK_AGAIN);
        self.plan_part(id);
    }

    /// Asks the owners for the next part of what is planned.
    pub(super) fn plan_part(&mut self, id: u64) {
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let items = (0..).zip(&request.items).skip(request.planned_from);
        let items = items.filter(|(_, item)| matches!(item.state, State::Planned)).take(PLANNED_PER_TURN);
        let mut planned: Vec<(u32, Arc<ChildSpec>)> = items.map(|(at, item)| (at, item.spec.clone())).collect();
        if let Some((last, _)) = planned.last().filter(|_| planned.len() == PLANNED_PER_TURN) {
            request.planned_from = *last as usize + 1;
            self.arbiter.plan_later(id);
        }
        if planned.is_empty() {
            return self.start_finished(id);
        }
        if self.strategies.distribution.is_assigned() {
            self.assign_items(id, &mut planned);
        }
        let specs: Vec<&ChildSpec> = planned.iter().map(|(_, spec)| spec.as_ref()).collect();
        let (groups, unplaced) = self.asked_to_start(&specs).group();
        let taken = |at: usize| planned[at].clone();
        self.fail_unplaced(id, unplaced.into_iter().map(taken).collect());
        let now = self.now;
        for (owner, group) in groups {
            let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
                return;
            };
            let specs: Vec<(u32, Arc<ChildSpec>)> = group.into_iter().map(taken).collect();
            let mut forwarded = Vec::new();
            for (item, _) in &specs {
                if let Some(item) = request.items.get_mut(*item as usize) {
                    item.state = State::Asked { node: owner.clone(), at: now };
                    let before = item.asked.replace(owner.clone());
                    forwarded.extend(before.filter(|before| *before != owner).map(|_| item.spec.id.clone()));
                }
            }
            let left = request.deadline.since(now);
            let return_existing = request.options.if_exists == IfExists::Return;
            for child in forwarded {
                self.note_forwarded(&child, &owner);
            }
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
        specs: Vec<(u32, Arc<ChildSpec>)>,
    ) {
        let (key, view_hash) = (self.request_key(id), self.membership.view.hash);
        if *owner == self.me {
            let (from, until) = (owner.clone(), self.now + left);
            self.start_received(Asked { from, key, view_hash, until, return_existing, is_passed: false, specs });
            return;
        }
        self.numbers.asked_from = Some(self.numbers.asked_from.map_or(id, |first| first.min(id)));
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        for specs in specs.chunks(CHUNK) {
            let specs = specs.to_vec();
            let message = Message::Start { request: key, view_hash, left_ms, return_existing, specs };
            self.send_ctl(owner, &message);
        }
    }

    /// R15: a start nobody can carry out fails and wants nothing; but who is there must be known first, and a
    /// kind registered just before counts.
    fn fail_unplaced(&mut self, id: u64, unplaced: Vec<(u32, Arc<ChildSpec>)>) {
        if unplaced.is_empty() {
            return;
        }
        let is_view_changing = self.timers.is_armed(&TimerKey::ViewChange);
        if !self.membership.is_settled || is_view_changing {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
            return;
        }
        let errors = unplaced.into_iter().map(|(item, spec)| {
            let (kind, message) = self.why_nobody_runs(&spec);
            (item, child_error(&spec.id, None, kind, message))
        });
        let errors: Vec<(u32, ChildError)> = errors.collect();
        if let Some(Request::Start(request)) = self.requests.get_mut(&id) {
            for (item, error) in errors {
                request.fail(item, error);
            }
        }
    }

    /// The owner's answers.
    pub(super) fn started_received(&mut self, from: &NodeRef, id: u64, answers: Vec<(u32, StartAnswer)>) {
        let confirmed_seq = self.confirmed_seq(from);
        let confirmed_seqs = self.confirmed_seqs(&answers);
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let (mut confirmed, mut unconfirmed) = (Vec::new(), Vec::new());
        let mut plans_again = false;
        for (number, answer) in answers {
            let Some(item) = request.items.get_mut(number as usize) else {
                continue;
            };
            match (&item.state, answer) {
                (
                    State::Altering | State::Held | State::Started(_) | State::Failed(_) | State::Confirming { .. },
                    _,
                ) => {}
                (State::Planned | State::Asked { .. }, StartAnswer::Started { epoch, seq, replicas }) => {
                    let mut open = usize::from(seq > confirmed_seq);
                    if open > 0 {
                        unconfirmed.push((seq, number));
                    }
                    for (node, seq) in &replicas {
                        if confirmed_seqs.get(node).is_some_and(|known| seq > known) {
                            request.unconfirmed.add(node, [(*seq, number)]);
                            open += 1;
                        }
                    }
                    if open == 0 {
                        confirmed.push(number);
                    }
                    let replicas = replicas.into_iter().map(|(node, _)| node).collect();
                    let instances = Instances { node: from.clone(), replicas, epoch };
                    item.state = State::Confirming { instances, open };
                }
                (State::Planned | State::Asked { .. }, StartAnswer::Failed(error)) => request.fail(number, *error),
                (State::Planned | State::Asked { .. }, StartAnswer::ViewMismatch) => {
                    item.state = State::Planned;
                    plans_again = true;
                }
            }
        }
        request.unconfirmed.add(from, unconfirmed);
        if plans_again {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
        }
        self.starts_confirmed(id, confirmed);
        self.start_finished(id);
    }

    /// How far the logs of the replicas' nodes are known here, other than this one's.
    fn confirmed_seqs(&self, answers: &[(u32, StartAnswer)]) -> BTreeMap<NodeRef, u64> {
        let mut seqs = BTreeMap::new();
        for (_, answer) in answers {
            if let StartAnswer::Started { replicas, .. } = answer {
                for (node, _) in replicas.iter().filter(|(node, _)| *node != self.me) {
                    if !seqs.contains_key(node) {
                        seqs.insert(node.clone(), self.confirmed_seq(node));
                    }
                }
            }
        }
        seqs
    }

    pub(super) fn starts_confirmed(&mut self, id: u64, confirmed: Vec<u32>) {
        if confirmed.is_empty() {
            return;
        }
        if let Some(Request::Start(request)) = self.requests.get_mut(&id) {
            for number in confirmed {
                let Some(item) = request.items.get_mut(number as usize) else {
                    continue;
                };
                let State::Confirming { open, .. } = &mut item.state else {
                    continue;
                };
                *open = open.saturating_sub(1);
                if *open == 0
                    && let State::Confirming { instances, .. } = std::mem::replace(&mut item.state, State::Planned)
                {
                    item.state = State::Started(instances);
                    request.open -= 1;
                }
            }
        }
        self.start_finished(id);
    }

    pub(super) fn start_timed_out(&mut self, id: u64) {
        if let Some(Request::Start(request)) = self.requests.get_mut(&id) {
            let timeout = request.options.timeout;
            for item in request.items.iter_mut().filter(|item| !item.is_done()) {
                let node = match &item.state {
                    State::Asked { node, .. } => Some(node),
                    State::Confirming { instances, .. } => Some(&instances.node),
                    State::Altering | State::Held | State::Planned | State::Started(_) | State::Failed(_) => None,
                };
                let message = format!("not started within {} ms", timeout.as_millis());
                let error = child_error(&item.spec.id, node, ErrorKind::Timeout, message);
                item.state = State::Failed(Box::new(error));
            }
            request.open = 0;
        }
        self.start_finished(id);
    }

    fn start_finished(&mut self, id: u64) {
        if self.let_held_begin(id) {
            return self.plan_start(id);
        }
        if !matches!(self.requests.get(&id), Some(Request::Start(request)) if request.open == 0) {
            return;
        }
        let Some(Request::Start(request)) = self.close_request(id) else {
            return;
        };
        let mut result = StartResult { errors: request.duplicates, ..StartResult::default() };
        result.started.reserve(request.items.len());
        let mut undone = Vec::new();
        let is_undone = request.options.on_failure == OnFailure::Rollback;
        for item in request.items {
            let id = item.spec.id.clone();
            match item.state {
                State::Started(instances) => {
                    undone.extend(is_undone.then(|| id.clone()));
                    result.started.push(Started { id, instances: instances.started() });
                }
                State::Failed(error) => {
                    undone.extend((is_undone && error.kind == ErrorKind::Timeout).then_some(id));
                    result.errors.push(*error);
                }
                // Held back until another was refused: never begun.
                State::Held => {}
                State::Altering | State::Planned | State::Asked { .. } | State::Confirming { .. } => {}
            }
        }
        self.note_unplaced_statics(id, &result);
        if result.errors.is_empty() || undone.is_empty() {
            result.rollback = !result.errors.is_empty() && is_undone;
            self.reply(RequestId(id), Ok(Outcome::Started(result)));
            return;
        }
        result.rollback = true;
        let left = request.deadline.since(self.now);
        self.roll_back(RequestId(id), self.request_key(id), undone, result, left);
    }
}
