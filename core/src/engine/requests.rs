//! What users wait for: open requests, their retries, deadlines and confirmation.
//!
//! An answer of the owner names an entry of its log. The request is confirmed once our registry has that entry; for
//! an owner that is this node, once another member has it, so that at least min(2, N) nodes know (R1).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::local::Waiter;
use super::{Engine, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::ids::{NodeRef, RequestId};
use crate::wire::Message;

/// One open request.
#[derive(Debug)]
pub(super) enum Request {
    Start(super::starts::StartRequest),
    Stop(super::stops::StopRequest),
    Sync(super::queries::SyncRequest),
    WhichChildren(super::queries::WhichChildrenRequest),
}

/// Answers that wait until our registry has what they tell of: node → (log entry, item of the request).
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    by_node: BTreeMap<NodeRef, BinaryHeap<Reverse<(u64, u32)>>>,
}

impl Unconfirmed {
    pub(super) fn add(&mut self, node: &NodeRef, answers: impl IntoIterator<Item = (u64, u32)>) {
        self.by_node.entry(node.clone()).or_default().extend(answers.into_iter().map(Reverse));
    }

    /// Takes the items whose entries of this node's log are known.
    pub(super) fn take(&mut self, node: &NodeRef, known: u64) -> Vec<u32> {
        let mut confirmed = Vec::new();
        if let Some(waiting) = self.by_node.get_mut(node) {
            while waiting.peek().is_some_and(|Reverse((seq, _))| *seq <= known) {
                confirmed.extend(waiting.pop().map(|Reverse((_, item))| item));
            }
        }
        confirmed
    }

    /// Forgets what an item waits for.
    pub(super) fn forget(&mut self, item: u32) {
        for waiting in self.by_node.values_mut() {
            waiting.retain(|Reverse((_, other))| *other != item);
        }
    }

    /// Takes the items that wait for a node that is gone.
    pub(super) fn lose(&mut self, node: &NodeRef) -> Vec<u32> {
        self.by_node.remove(node).unwrap_or_default().into_iter().map(|Reverse((_, item))| item).collect()
    }
}

/// What an owner answers in one turn, by who asked.
#[derive(Debug)]
pub(super) struct Answers<T> {
    by_asker: Vec<Asker<T>>,
}

#[derive(Debug)]
struct Asker<T> {
    node: NodeRef,
    request: u64,
    answers: Vec<(u32, T)>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { by_asker: Vec::new() }
    }
}

impl<T> Answers<T> {
    pub(super) fn add(&mut self, to: &Waiter, answer: T) {
        // Many answers of a turn are for the same request.
        let is_to = |asker: &Asker<T>| asker.request == to.request && asker.node == to.node;
        let at = self.by_asker.iter().rposition(is_to).unwrap_or_else(|| {
            self.by_asker.push(Asker { node: to.node.clone(), request: to.request, answers: Vec::new() });
            self.by_asker.len() - 1
        });
        self.by_asker[at].answers.push((to.item, answer));
    }

    /// Takes the answers to one request, at most so many.
    fn take(&mut self, limit: usize) -> Option<Asker<T>> {
        let last = self.by_asker.last_mut()?;
        if last.answers.len() > limit {
            let rest = last.answers.split_off(limit);
            let answers = std::mem::replace(&mut last.answers, rest);
            return Some(Asker { node: last.node.clone(), request: last.request, answers });
        }
        self.by_asker.pop()
    }
}

/// Answers in one message.
const ANSWERS: usize = 512;

impl Engine {
    /// Sends the answers of this turn.
    pub(super) fn send_answers(&mut self) {
        // An answer to ourselves may finish a request, which may begin the next.
        loop {
            if let Some(Asker { node: to, request, answers }) = self.arbiter.started.take(ANSWERS) {
                if to == self.me {
                    self.started_received(&to, request, answers);
                } else {
                    self.serve(&to);
                    self.send_ctl(&to, &Message::Started(request, answers));
                }
            } else if let Some(Asker { node: to, request, answers }) = self.arbiter.stopped.take(ANSWERS) {
                if to == self.me {
                    self.stopped_received(&to, request, answers);
                } else {
                    self.serve(&to);
                    self.send_ctl(&to, &Message::Stopped(request, answers));
                }
            } else {
                break;
            }
        }
        if self.children.has_dirty() {
            self.arm_reconcile();
        }
    }

    /// How far this node's own log is safe: known to one more node, where there is one.
    fn safe_seq(&self) -> u64 {
        if self.is_alone() {
            return self.log.seq;
        }
        let me = &self.me;
        let others = self.membership.others(me).filter_map(|node| self.membership.peers.get(node));
        others.map(|peer| peer.acked_seq).max().unwrap_or(0)
    }

    /// How far the log of a node is confirmed here.
    pub(super) fn confirmed_seq(&self, node: &NodeRef) -> u64 {
        if *node == self.me {
            self.safe_seq()
        } else {
            self.membership.peers.get(node).map_or(0, |peer| peer.known_seq)
        }
    }

    /// A member's log is known further.
    pub(super) fn log_advanced(&mut self, from: &NodeRef, seq: u64) {
        self.confirm(&from.clone(), seq);
    }

    /// A member has our log further.
    pub(super) fn log_acked(&mut self) {
        let (me, safe) = (self.me.clone(), self.safe_seq());
        self.confirm(&me, safe);
        self.syncs_progress();
        self.drain_progress();
    }

    fn confirm(&mut self, node: &NodeRef, seq: u64) {
        let open: Vec<u64> = self.requests.keys().copied().collect();
        for id in open {
            match self.requests.get_mut(&id) {
                Some(Request::Start(request)) => {
                    let confirmed = request.unconfirmed.take(node, seq);
                    self.starts_confirmed(id, confirmed);
                }
                Some(Request::Stop(request)) => {
                    let confirmed = request.unconfirmed.take(node, seq);
                    self.stops_confirmed(id, confirmed);
                    self.hear(id, node, seq);
                }
                Some(Request::Sync(_) | Request::WhichChildren(_)) | None => {}
            }
        }
    }

    /// The view changed: what was asked of nodes that are gone is asked again.
    pub(super) fn plan_requests_again(&mut self) {
        let (me, safe) = (self.me.clone(), self.safe_seq());
        self.confirm(&me, safe);
        self.starts_unparked();
        let open: Vec<u64> = self.requests.keys().copied().collect();
        for id in open {
            match self.requests.get(&id) {
                Some(Request::Start(_)) => self.plan_start_again(id),
                Some(Request::Stop(_)) => self.plan_stop(id),
                Some(Request::Sync(_) | Request::WhichChildren(_)) | None => {}
            }
        }
        self.syncs_progress();
    }

    pub(super) fn requests_lose(&mut self, node: &NodeRef) {
        let open: Vec<u64> = self.requests.keys().copied().collect();
        for id in open {
            match self.requests.get_mut(&id) {
                Some(Request::Start(request)) => request.lose(node),
                Some(Request::Stop(request)) => request.lose(node),
                Some(Request::WhichChildren(_)) => self.which_children_lose(id, node),
                Some(Request::Sync(_)) | None => {}
            }
        }
        self.stop_waiters_lose(node);
    }

    pub(super) fn request_retry(&mut self, id: u64) {
        match self.requests.get_mut(&id) {
            Some(Request::Start(request)) => {
                request.ask_again(self.now);
                self.plan_start_again(id);
            }
            Some(Request::Stop(request)) => {
                request.ask_again(self.now);
                self.plan_stop(id);
            }
            Some(Request::Sync(_) | Request::WhichChildren(_)) | None => {}
        }
    }

    pub(super) fn request_end(&mut self, id: u64) {
        match self.requests.get(&id) {
            Some(Request::Start(_)) => self.start_timed_out(id),
            Some(Request::Stop(_)) => self.stop_timed_out(id),
            Some(Request::Sync(_) | Request::WhichChildren(_)) => {
                self.close_request(id);
                let error = Error::new(ErrorKind::Timeout, "request", "the members did not answer in time");
                self.reply(RequestId(id), Err(error));
            }
            None => self.quorum_wait_over(id),
        }
    }

    /// Forgets a request; its effects stay.
    pub(super) fn close_request(&mut self, id: u64) -> Option<Request> {
        self.timers.disarm(&TimerKey::RequestRetry(id));
        self.timers.disarm(&TimerKey::RequestEnd(id));
        self.requests.remove(&id)
    }

    /// The hub ends: nobody is left waiting.
    pub(super) fn close_all_requests(&mut self) {
        let mut open: Vec<u64> = self.requests.keys().copied().collect();
        open.extend(self.open_messages());
        open.extend(self.held_requests());
        for id in open {
            let error = Error::new(ErrorKind::Closed, "hub", "the hub has ended");
            match self.close_request(id) {
                // A rollback stands for the start whose answer waits for it.
                Some(Request::Stop(stop)) => self.stop_closed(stop, error),
                Some(Request::Start(_) | Request::Sync(_) | Request::WhichChildren(_)) => {
                    self.reply(RequestId(id), Err(error));
                }
                None if self.forget_held(id) => self.reply(RequestId(id), Err(error)),
                None => self.message_done(id, Err(error.with_maybe_executed(true))),
            }
        }
    }

    /// There is no quorum any more: whoever waits for something to be done is told so.
    pub(super) fn fail_requests(&mut self, error: &Error) {
        let open: Vec<u64> = self.requests.keys().copied().collect();
        for id in open {
            match self.requests.get(&id) {
                Some(Request::Start(_)) => {
                    self.close_request(id);
                    self.reply(RequestId(id), Err(error.clone()));
                }
                Some(Request::Stop(_)) => {
                    if let Some(Request::Stop(stop)) = self.close_request(id) {
                        self.stop_closed(stop, error.clone());
                    }
                }
                Some(Request::Sync(_) | Request::WhichChildren(_)) | None => {}
            }
        }
        self.fail_messages(error);
    }

    /// The user no longer waits.
    pub(super) fn cancel(&mut self, request: RequestId) {
        let error = Error::new(ErrorKind::Cancelled, "request", "it was cancelled");
        if self.close_request(request.0).is_some() || self.cancel_message(request.0) || self.forget_held(request.0) {
            self.reply(request, Err(error));
        }
    }
}
