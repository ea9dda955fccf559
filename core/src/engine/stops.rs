//! `stop_children`: the asking side, and the owner who writes the tombstone and waits for the ends (R1).

use std::time::Duration;

use indexmap::IndexMap;

use super::hash::FixedHash;
use super::requests::{Request, Unconfirmed};
use super::starts::{ASK_AGAIN, PLAN_AGAIN};
use super::{Engine, Outcome, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::ids::{ChildId, NodeName, NodeRef, RequestId};
use crate::spec::{ChildError, StartResult, StopResult, Stopped};
use crate::time::Timestamp;
use crate::wire::{Message, RequestKey, StopAnswer};

/// Ids in one message.
const CHUNK: usize = 512;
/// How long a rollback may take.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum State {
    Planned,
    Asked { node: NodeRef, at: Timestamp },
    Confirming { nodes: Vec<NodeName> },
    Done(Result<Stopped, ChildError>),
}

/// One `stop_children`, or the rollback of a start.
#[derive(Debug)]
pub(super) struct StopRequest {
    /// Whom to answer.
    api: RequestId,
    /// The start this one rolls back.
    rolls_back: Option<StartResult>,
    /// The start that is undone.
    undoes: Option<RequestKey>,
    /// The user has the answer; what is open goes on.
    is_answered: bool,
    timeout: Duration,
    items: IndexMap<ChildId, State, FixedHash>,
    open: usize,
    pub(super) unconfirmed: Unconfirmed,
}

impl StopRequest {
    pub(super) fn lose(&mut self, node: &NodeRef) {
        let unconfirmed = self.unconfirmed.lose(node);
        for (child, state) in &mut self.items {
            let is_lost = match state {
                State::Asked { node: asked, .. } => asked == node,
                State::Confirming { .. } => unconfirmed.contains(child),
                State::Planned | State::Done(_) => false,
            };
            if is_lost {
                *state = State::Planned;
            }
        }
    }

    pub(super) fn ask_again(&mut self, now: Timestamp) {
        for state in self.items.values_mut() {
            if let State::Asked { at, .. } = state
                && now.since(*at) >= ASK_AGAIN
            {
                *state = State::Planned;
            }
        }
    }

    fn finish(&mut self, child: &ChildId, result: Result<Stopped, ChildError>) {
        if let Some(state) = self.items.get_mut(child)
            && !matches!(state, State::Done(_))
        {
            *state = State::Done(result);
            self.open -= 1;
        }
    }
}

/// Who waits on the owner for the end of a child, and who ran it.
#[derive(Debug, Default)]
pub(super) struct StopWaiters {
    waiters: Vec<(NodeRef, u64)>,
    nodes: Vec<NodeName>,
}

impl Engine {
    pub(super) fn stop_request(&mut self, request: Option<RequestId>, ids: Vec<ChildId>, timeout: Duration) {
        let Some(api) = request else {
            return;
        };
        if ids.is_empty() {
            let error = Error::new(ErrorKind::NoChildren, "stop_children", "the list of children is empty");
            self.reply(api, Err(error));
            return;
        }
        self.open_stop(api.0, api, None, ids, timeout);
    }

    /// Stops again what a failed start had started.
    pub(super) fn roll_back(
        &mut self,
        api: RequestId,
        start: RequestKey,
        ids: Vec<ChildId>,
        result: StartResult,
        left: Duration,
    ) {
        let id = self.next_internal_request();
        self.open_stop(id, api, Some((start, result)), ids, left);
    }

    fn open_stop(
        &mut self,
        id: u64,
        api: RequestId,
        rolls_back: Option<(RequestKey, StartResult)>,
        ids: Vec<ChildId>,
        timeout: Duration,
    ) {
        let items: IndexMap<_, _, _> = ids.into_iter().map(|child| (child, State::Planned)).collect();
        let open = items.len();
        let (undoes, rolls_back) = rolls_back.unzip();
        let request = StopRequest {
            api,
            undoes,
            rolls_back,
            is_answered: false,
            timeout,
            items,
            open,
            unconfirmed: Unconfirmed::default(),
        };
        self.requests.insert(id, Request::Stop(request));
        self.timers.arm(TimerKey::RequestEnd(id), self.now + timeout);
        self.plan_stop(id);
    }

    pub(super) fn plan_stop(&mut self, id: u64) {
        let Some(Request::Stop(request)) = self.requests.get(&id) else {
            return;
        };
        let planned: Vec<ChildId> = request
            .items
            .iter()
            .filter(|(_, state)| matches!(state, State::Planned))
            .map(|(child, _)| child.clone())
            .collect();
        self.timers.arm(TimerKey::RequestRetry(id), self.now + ASK_AGAIN);
        let (key, undoes) = (self.request_key(id), request.undoes);
        let mut by_owner: std::collections::BTreeMap<NodeRef, Vec<ChildId>> = Default::default();
        let mut unknown = Vec::new();
        for child in planned {
            let wanted = self.registry.get(child.as_str()).and_then(|entry| entry.wanted.as_ref());
            let is_known = wanted.is_some_and(|wanted| wanted.spec.is_some() || wanted.request == key);
            if !is_known {
                unknown.push(child);
                continue;
            }
            // A child nobody can run has no owner: this node decides.
            let owner = self.owner_of(&child).unwrap_or_else(|| self.me.clone());
            by_owner.entry(owner).or_default().push(child);
        }
        self.fail_unknown(id, unknown);
        let (now, view_hash) = (self.now, self.membership.view.hash);
        for (owner, ids) in by_owner {
            if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
                for child in &ids {
                    request.items.insert(child.clone(), State::Asked { node: owner.clone(), at: now });
                }
            }
            if owner == self.me {
                self.stop_received(&owner, key, undoes, view_hash, ids);
                continue;
            }
            for ids in ids.chunks(CHUNK) {
                self.send_ctl(&owner, &Message::Stop { request: key, undoes, view_hash, ids: ids.to_vec() });
            }
        }
        self.stop_finished(id);
    }

    fn fail_unknown(&mut self, id: u64, unknown: Vec<ChildId>) {
        if unknown.is_empty() {
            return;
        }
        if !self.membership.is_settled {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
            return;
        }
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
            for child in unknown {
                let error = ChildError {
                    id: child.clone(),
                    node: None,
                    kind: ErrorKind::NotFound,
                    message: "it is not wanted".to_owned(),
                };
                request.finish(&child, Err(error));
            }
        }
    }

    /// The owner's side of a stop.
    pub(super) fn stop_received(
        &mut self,
        from: &NodeRef,
        key: RequestKey,
        undoes: Option<RequestKey>,
        view_hash: u64,
        ids: Vec<ChildId>,
    ) {
        let is_current = view_hash == self.membership.view.hash && self.membership.is_settled;
        let mut answers = Vec::new();
        for child in ids {
            if !is_current {
                answers.push((child, StopAnswer::ViewMismatch));
                continue;
            }
            let Some(entry) = self.registry.get(child.as_str()) else {
                answers.push((child.clone(), self.not_wanted(child)));
                continue;
            };
            let is_under_way = self.stop_waiters.contains_key(&child);
            let is_ours = entry.wanted.as_ref().is_some_and(|wanted| wanted.request == key);
            let is_of_another = entry.is_wanted()
                && undoes.is_some_and(|start| entry.wanted.as_ref().is_some_and(|wanted| wanted.request != start));
            if is_of_another || !entry.is_wanted() && !is_under_way && !is_ours {
                answers.push((child.clone(), self.not_wanted(child)));
                continue;
            }
            let nodes: Vec<NodeName> = entry
                .holders
                .iter()
                .filter(|holder| !holder.is_departed && holder.gone_after.is_none())
                .map(|holder| holder.node.name.clone())
                .collect();
            let is_wanted = entry.is_wanted();
            let waiters = self.stop_waiters.entry(child.clone()).or_default();
            let waiter = (from.clone(), key.request);
            if !waiters.waiters.contains(&waiter) {
                waiters.waiters.push(waiter);
            }
            if is_wanted {
                waiters.nodes = nodes;
                self.write_wanted(&child, None, key);
            }
            self.mark_dirty(&child);
        }
        self.answer_stop(from, key.request, answers);
    }

    fn not_wanted(&self, child: ChildId) -> StopAnswer {
        StopAnswer::Failed(ChildError {
            id: child,
            node: Some(self.me.name.clone()),
            kind: ErrorKind::NotFound,
            message: "it is not wanted".to_owned(),
        })
    }

    /// Answers those who wait for the end of a child once nobody runs it.
    pub(super) fn check_stopped(&mut self, child: &ChildId) {
        if !self.stop_waiters.contains_key(child) {
            return;
        }
        let entry = self.registry.get(child.as_str());
        let is_wanted = entry.is_some_and(super::registry::Entry::is_wanted);
        let is_held = entry.is_some_and(|entry| entry.holders.iter().any(|holder| !holder.is_departed));
        if !is_wanted && (is_held || self.locals.contains_key(child) || self.is_ending(child)) {
            return;
        }
        let Some(StopWaiters { waiters, nodes }) = self.stop_waiters.swap_remove(child) else {
            return;
        };
        let seq = self.log.seq;
        for (node, request) in waiters {
            let answer = StopAnswer::Stopped { nodes: nodes.clone(), seq };
            self.answer_stop(&node, request, vec![(child.clone(), answer)]);
        }
    }

    pub(super) fn stop_waiters_lose(&mut self, node: &NodeRef) {
        for waiters in self.stop_waiters.values_mut() {
            waiters.waiters.retain(|(waiter, _)| waiter != node);
        }
    }

    fn answer_stop(&mut self, to: &NodeRef, request: u64, answers: Vec<(ChildId, StopAnswer)>) {
        if answers.is_empty() {
            return;
        }
        if *to == self.me {
            self.stopped_received(to, request, answers);
        } else {
            self.send_ctl(to, &Message::Stopped(request, answers));
        }
    }

    pub(super) fn stopped_received(&mut self, from: &NodeRef, id: u64, answers: Vec<(ChildId, StopAnswer)>) {
        let confirmed_seq = self.confirmed_seq(from);
        let Some(Request::Stop(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let mut confirmed = Vec::new();
        let mut plans_again = false;
        for (child, answer) in answers {
            let Some(state) = request.items.get_mut(&child) else {
                continue;
            };
            match (&state, answer) {
                (State::Done(_) | State::Confirming { .. }, _) => {}
                (State::Planned | State::Asked { .. }, StopAnswer::Stopped { nodes, seq }) => {
                    *state = State::Confirming { nodes };
                    if seq <= confirmed_seq {
                        confirmed.push(child);
                    } else {
                        request.unconfirmed.add(from, seq, &child);
                    }
                }
                (State::Planned | State::Asked { .. }, StopAnswer::Failed(error)) => request.finish(&child, Err(error)),
                (State::Planned | State::Asked { .. }, StopAnswer::ViewMismatch) => {
                    *state = State::Planned;
                    plans_again = true;
                }
            }
        }
        if plans_again {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
        }
        self.stops_confirmed(id, confirmed);
        self.stop_finished(id);
    }

    pub(super) fn stops_confirmed(&mut self, id: u64, children: Vec<ChildId>) {
        if children.is_empty() {
            return;
        }
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
            for child in children {
                let Some(State::Confirming { nodes }) = request.items.get_mut(&child) else {
                    continue;
                };
                let nodes = std::mem::take(nodes);
                request.finish(&child, Ok(Stopped { id: child.clone(), nodes }));
            }
        }
        self.stop_finished(id);
    }

    pub(super) fn stop_timed_out(&mut self, id: u64) {
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id)
            && let Some(result) = request.rolls_back.take()
        {
            // The start is answered in its time; the rest is stopped all the same.
            let api = request.api;
            request.is_answered = true;
            self.timers.arm(TimerKey::RequestEnd(id), self.now + ROLLBACK_TIMEOUT);
            self.reply(api, Ok(Outcome::Started(result)));
            return;
        }
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
            let message = format!("not stopped within {} ms", request.timeout.as_millis());
            for (child, state) in &mut request.items {
                let node = match &state {
                    State::Done(_) => continue,
                    State::Asked { node, .. } => Some(node.name.clone()),
                    State::Planned | State::Confirming { .. } => None,
                };
                let (id, message) = (child.clone(), message.clone());
                *state = State::Done(Err(ChildError { id, node, kind: ErrorKind::Timeout, message }));
            }
            request.open = 0;
        }
        self.stop_finished(id);
    }

    /// The hub ends before the stops did.
    pub(super) fn stop_closed(&mut self, request: StopRequest, error: Error) {
        if !request.is_answered {
            self.reply(request.api, Err(error));
        }
    }

    fn stop_finished(&mut self, id: u64) {
        if !matches!(self.requests.get(&id), Some(Request::Stop(request)) if request.open == 0) {
            return;
        }
        let Some(Request::Stop(request)) = self.close_request(id) else {
            return;
        };
        if let Some(result) = request.rolls_back {
            self.reply(request.api, Ok(Outcome::Started(result)));
            return;
        }
        if request.is_answered {
            return;
        }
        let mut result = StopResult::default();
        for state in request.items.into_values() {
            match state {
                State::Done(Ok(stopped)) => result.stopped.push(stopped),
                State::Done(Err(error)) => result.errors.push(error),
                State::Planned | State::Asked { .. } | State::Confirming { .. } => {}
            }
        }
        self.reply(request.api, Ok(Outcome::Stopped(result)));
    }
}
