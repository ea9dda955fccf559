//! `stop_children`: the asking side, and the owner who writes the tombstone and waits for the ends (R1).

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexSet;

use super::children::Slot;
use super::hash::FixedHash;
use super::hearing::Hearing;
use super::local::Waiter;
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
    Confirming { node: NodeRef, nodes: Vec<NodeName> },
    Stopped { nodes: Vec<NodeName> },
    Failed(Box<ChildError>),
}

#[derive(Debug)]
struct Item {
    child: ChildId,
    state: State,
}

impl Item {
    fn is_done(&self) -> bool {
        match self.state {
            State::Stopped { .. } | State::Failed(_) => true,
            State::Planned | State::Asked { .. } | State::Confirming { .. } => false,
        }
    }
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
    /// A child's place here is its number in messages.
    items: Vec<Item>,
    open: usize,
    pub(super) unconfirmed: Unconfirmed,
    /// For children that are not known here.
    pub(super) hearing: Hearing,
}

impl StopRequest {
    pub(super) fn lose(&mut self, node: &NodeRef) {
        self.hearing.lose(node);
        self.unconfirmed.lose(node);
        for item in &mut self.items {
            let is_lost = match &item.state {
                State::Asked { node: asked, .. } | State::Confirming { node: asked, .. } => asked == node,
                State::Planned | State::Stopped { .. } | State::Failed(_) => false,
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

    fn fail(&mut self, item: u32, kind: ErrorKind, message: String) {
        let Some(item) = self.items.get_mut(item as usize).filter(|item| !item.is_done()) else {
            return;
        };
        let node = match &item.state {
            State::Asked { node, .. } => Some(node.name.clone()),
            State::Planned | State::Confirming { .. } | State::Stopped { .. } | State::Failed(_) => None,
        };
        item.state = State::Failed(Box::new(ChildError { id: item.child.clone(), node, kind, message }));
        self.open -= 1;
    }
}

/// Who waits on the owner for the end of a child, and who ran it.
#[derive(Debug, Default)]
pub(super) struct StopWaiters {
    waiters: Vec<Waiter>,
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
        let ids: IndexSet<ChildId, FixedHash> = ids.into_iter().collect();
        let items: Vec<Item> = ids.into_iter().map(|child| Item { child, state: State::Planned }).collect();
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
            hearing: Hearing::default(),
        };
        self.requests.insert(id, Request::Stop(request));
        self.timers.arm(TimerKey::RequestEnd(id), self.now + timeout);
        self.plan_stop(id);
    }

    pub(super) fn plan_stop(&mut self, id: u64) {
        // A rollback may be of a start that this node has not decided yet.
        self.decide_all();
        let Some(Request::Stop(request)) = self.requests.get(&id) else {
            return;
        };
        let planned = (0..).zip(&request.items).filter(|(_, item)| matches!(item.state, State::Planned));
        let planned: Vec<(u32, ChildId)> = planned.map(|(at, item)| (at, item.child.clone())).collect();
        self.timers.arm(TimerKey::RequestRetry(id), self.now + ASK_AGAIN);
        let (key, undoes) = (self.request_key(id), request.undoes);
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (item, id) in planned {
            let child = self.children.find(id.as_str()).filter(|child| {
                let wanted = self.children[*child].entry.wanted.as_ref();
                wanted.is_some_and(|wanted| wanted.spec.is_some() || wanted.request == key)
            });
            match child {
                Some(child) => known.push((child, item, id)),
                None => unknown.push(item),
            }
        }
        self.place(known.iter().map(|(child, ..)| *child));
        let mut by_owner: BTreeMap<NodeRef, Vec<(u32, ChildId)>> = BTreeMap::new();
        for (child, item, id) in known {
            // A child nobody can run has no owner: this node decides.
            let owner = self.children[child].entry.owner.as_ref().unwrap_or(&self.me);
            match by_owner.get_mut(owner) {
                Some(ids) => ids.push((item, id)),
                None => {
                    by_owner.insert(owner.clone(), vec![(item, id)]);
                }
            }
        }
        self.fail_unknown(id, unknown);
        let (now, view_hash) = (self.now, self.membership.view.hash);
        for (owner, ids) in by_owner {
            if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
                for (item, _) in &ids {
                    if let Some(item) = request.items.get_mut(*item as usize) {
                        item.state = State::Asked { node: owner.clone(), at: now };
                    }
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

    fn fail_unknown(&mut self, id: u64, unknown: Vec<u32>) {
        if unknown.is_empty() {
            return;
        }
        if !self.membership.is_settled {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
            return;
        }
        if !self.is_everybody_heard(id) {
            return;
        }
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
            for item in unknown {
                request.fail(item, ErrorKind::NotFound, "it is not wanted".to_owned());
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
        ids: Vec<(u32, ChildId)>,
    ) {
        let is_current = view_hash == self.membership.view.hash && self.membership.is_settled;
        for (item, id) in ids {
            let waiter = Waiter { node: from.clone(), request: key.request, item };
            if !is_current {
                self.arbiter.stopped.add(&waiter, StopAnswer::ViewMismatch);
                continue;
            }
            let child = self.children.intern(&id);
            let record = &mut self.children[child];
            let (entry, is_wanted) = (&record.entry, record.entry.is_wanted());
            let is_under_way = record.stop_waiters.is_some();
            let is_ours = entry.wanted.as_ref().is_some_and(|wanted| wanted.request == key);
            let is_of_another = is_wanted
                && undoes.is_some_and(|start| entry.wanted.as_ref().is_some_and(|wanted| wanted.request != start));
            if is_of_another || !is_wanted && !is_under_way && !is_ours {
                let error = ChildError {
                    id,
                    node: Some(self.me.name.clone()),
                    kind: ErrorKind::NotFound,
                    message: "it is not wanted".to_owned(),
                };
                self.arbiter.stopped.add(&waiter, StopAnswer::Failed(Box::new(error)));
                continue;
            }
            let waiters = record.stop_waiters.get_or_insert_default();
            if is_wanted {
                let holders = entry.holders.iter();
                let living = holders.filter(|holder| !holder.is_departed && holder.gone_after.is_none());
                waiters.nodes = living.map(|holder| holder.node.name.clone()).collect();
            }
            if !waiters.waiters.contains(&waiter) {
                waiters.waiters.push(waiter);
            }
            if is_wanted {
                self.write_wanted(child, None, key);
            }
            self.children.mark_dirty(child);
        }
    }

    /// Answers those who wait for the end of a child once nobody runs it.
    pub(super) fn check_stopped(&mut self, child: Slot) {
        let record = &mut self.children[child];
        if record.stop_waiters.is_none() {
            return;
        }
        let is_held = record.entry.holders.iter().any(|holder| !holder.is_departed);
        if !record.entry.is_wanted() && (is_held || record.local().is_some() || record.ending_count > 0) {
            return;
        }
        let Some(ended) = record.stop_waiters.take() else {
            return;
        };
        self.children.mark_changed(child);
        let seq = self.log.seq;
        let StopWaiters { waiters, nodes } = *ended;
        for waiter in waiters {
            self.arbiter.stopped.add(&waiter, StopAnswer::Stopped { nodes: nodes.clone(), seq });
        }
    }

    pub(super) fn stop_waiters_lose(&mut self, node: &NodeRef) {
        self.children.for_each_stop_waiters(|waiters| waiters.waiters.retain(|waiter| waiter.node != *node));
    }

    pub(super) fn stopped_received(&mut self, from: &NodeRef, id: u64, answers: Vec<(u32, StopAnswer)>) {
        let confirmed_seq = self.confirmed_seq(from);
        let Some(Request::Stop(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let (mut confirmed, mut unconfirmed) = (Vec::new(), Vec::new());
        let mut plans_again = false;
        for (number, answer) in answers {
            let Some(item) = request.items.get_mut(number as usize) else {
                continue;
            };
            match (&item.state, answer) {
                (State::Stopped { .. } | State::Failed(_) | State::Confirming { .. }, _) => {}
                (State::Planned | State::Asked { .. }, StopAnswer::Stopped { nodes, seq }) => {
                    item.state = State::Confirming { node: from.clone(), nodes };
                    if seq <= confirmed_seq {
                        confirmed.push(number);
                    } else {
                        unconfirmed.push((seq, number));
                    }
                }
                (State::Planned | State::Asked { .. }, StopAnswer::Failed(error)) => {
                    item.state = State::Failed(error);
                    request.open -= 1;
                }
                (State::Planned | State::Asked { .. }, StopAnswer::ViewMismatch) => {
                    item.state = State::Planned;
                    plans_again = true;
                }
            }
        }
        request.unconfirmed.add(from, unconfirmed);
        if plans_again {
            self.timers.arm_earlier(TimerKey::RequestRetry(id), self.now + PLAN_AGAIN);
        }
        self.stops_confirmed(id, confirmed);
        self.stop_finished(id);
    }

    pub(super) fn stops_confirmed(&mut self, id: u64, confirmed: Vec<u32>) {
        if confirmed.is_empty() {
            return;
        }
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
            for number in confirmed {
                let Some(item) = request.items.get_mut(number as usize) else {
                    continue;
                };
                if let State::Confirming { nodes, .. } = &mut item.state {
                    item.state = State::Stopped { nodes: std::mem::take(nodes) };
                    request.open -= 1;
                }
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
            for item in 0..request.items.len() {
                request.fail(item as u32, ErrorKind::Timeout, message.clone());
            }
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
        for Item { child: id, state } in request.items {
            match state {
                State::Stopped { nodes } => result.stopped.push(Stopped { id, nodes }),
                State::Failed(error) => result.errors.push(*error),
                State::Planned | State::Asked { .. } | State::Confirming { .. } => {}
            }
        }
        self.reply(request.api, Ok(Outcome::Stopped(result)));
    }
}
