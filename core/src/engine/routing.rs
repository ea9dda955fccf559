//! Messages to children: find the active instance, keep the order, repeat only what was not handled (A12, R7).
//!
//! At the origin each child with open messages has a route: the node they went to, how many have no answer yet,
//! and what waits. A message waits while earlier ones are still on the way to another node, so that the order of
//! one sender holds over a move. A node that does not have the child sends a message back unhandled (`Bounce`);
//! one that gives the child away tells where its waiting messages went (`Rerouted`).

use std::collections::BTreeSet;
use std::time::Duration;

use super::children::Slot;
use super::io::{MessageCommand, Recipient};
use super::local::{Local, Phase};
use super::routes::{Group, OpenMessage, Place};
use super::{Engine, Outcome, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::ids::{ChildId, NodeName, NodeRef, RequestId};
use crate::payload::{MAX_MESSAGE_BYTES, Payload};
use crate::spec::Mode;
use crate::time::Timestamp;
use crate::wire::{HeldMessage, Message};

/// Children in a chain of calls.
const MAX_CHAIN: usize = 64;
/// After a bounce.
const ROUTE_AGAIN: Duration = Duration::from_millis(5);
/// Messages one hub has open.
const MAX_OPEN: usize = 100_000;

impl Engine {
    pub(super) fn message_request(&mut self, request: RequestId, command: MessageCommand, wants_reply: bool) {
        let operation = if wants_reply { "call" } else { "send" };
        if let Err(error) = self.check_message(&command, operation) {
            self.reply(request, Err(error));
            return;
        }
        if command.recipient == Recipient::All {
            self.send_to_all(request, &command);
            return;
        }
        self.open_message(request.0, command, wants_reply, None);
    }

    fn check_message(&self, command: &MessageCommand, operation: &str) -> Result<(), Error> {
        let child = command.child.as_str();
        let length = command.message.len();
        if length > MAX_MESSAGE_BYTES {
            let message = format!("the message has {length} bytes, the limit is {MAX_MESSAGE_BYTES}");
            return Err(Error::new(ErrorKind::PayloadTooLarge, operation, message).with_child(child));
        }
        if command.chain.contains(&command.child) || command.chain.len() >= MAX_CHAIN {
            let chain: Vec<&str> = command.chain.iter().map(ChildId::as_str).collect();
            let message = format!("the chain of calls {} leads back to {child}", chain.join(" → "));
            return Err(Error::new(ErrorKind::WouldDeadlock, operation, message).with_child(child));
        }
        if self.router.open.len() >= MAX_OPEN {
            let message = format!("{MAX_OPEN} messages of this hub have no answer yet");
            return Err(Error::new(ErrorKind::Overloaded, operation, message).with_child(child));
        }
        Ok(())
    }

    fn send_to_all(&mut self, request: RequestId, command: &MessageCommand) {
        let child = self.children.intern(&command.child);
        let holders = self.children[child].entry.holders.iter();
        let listed =
            holders.filter(|holder| !holder.is_departed && holder.gone_after.is_none() && holder.row.stage.is_listed());
        let nodes: Vec<NodeName> = listed.map(|holder| holder.node.name.clone()).collect();
        if nodes.len() <= 1 {
            let command = MessageCommand { recipient: Recipient::Active, ..command.clone() };
            self.open_message(request.0, command, false, None);
            return;
        }
        let group = self.next_internal_request();
        self.router.groups.insert(group, Group { request, open: nodes.len(), error: None, may_have_run: false });
        for node in nodes {
            let id = self.next_internal_request();
            let command = MessageCommand { recipient: Recipient::Node(node), ..command.clone() };
            self.open_message(id, command, false, Some(group));
        }
    }

    fn open_message(&mut self, id: u64, command: MessageCommand, wants_reply: bool, group: Option<u64>) {
        let deadline = self.now + command.timeout;
        let (child, is_bound) = (command.child.clone(), command.recipient.is_bound());
        let open = OpenMessage {
            child: command.child,
            message: command.message,
            chain: command.chain,
            recipient: command.recipient,
            deadline,
            timeout: command.timeout,
            wants_reply,
            group,
            place: Place::Waiting,
            bounces: 0,
        };
        self.router.open.insert(id, open);
        self.timers.arm(TimerKey::MessageEnd(id), deadline);
        self.router.routes.entry(child.clone()).or_default().wait(id, is_bound);
        self.pump_route(&child);
    }

    /// The registry's view of a child changed.
    pub(super) fn wake_messages(&mut self, child: Slot) {
        let child = &self.children[child].id;
        if let Some(route) = self.router.routes.get_mut(child) {
            route.hold_until = Timestamp::default();
            let child = child.clone();
            self.pump_route(&child);
        }
    }

    /// Whether a child is wanted as far as this node knows.
    pub(super) fn is_wanted(&self, child: &ChildId) -> bool {
        self.children.find(child.as_str()).is_some_and(|child| self.children[child].entry.is_wanted())
    }

    /// The view is settled: what waited for somebody to ask is looked at.
    pub(super) fn wake_all_messages(&mut self) {
        let waiting: Vec<ChildId> = self
            .router
            .routes
            .iter()
            .filter(|(_, route)| !route.waiting.is_empty())
            .map(|(child, _)| child.clone())
            .collect();
        for child in waiting {
            self.pump_route(&child);
        }
    }

    pub(super) fn route_message(&mut self, id: u64) {
        if let Some(child) = self.router.open.get(&id).map(|open| open.child.clone()) {
            self.pump_route(&child);
        }
    }

    /// Sends what can go now, in order. What is for the instance on a node waits for nothing but that.
    fn pump_route(&mut self, child: &ChildId) {
        let (mut next, mut is_held) = (0, false);
        loop {
            let Some(route) = self.router.routes.get(child) else {
                return;
            };
            if route.waiting.is_empty() && route.outstanding == 0 {
                self.router.routes.swap_remove(child);
                return;
            }
            if route.hold_until > self.now || self.is_partitioned() {
                return;
            }
            let Some(&id) = route.waiting.range(next..).next() else {
                return;
            };
            next = id + 1;
            let recipient = self.router.open.get(&id).map(|open| open.recipient.clone()).unwrap_or_default();
            let is_bound = recipient.is_bound();
            if is_held && !is_bound {
                if route.bound == 0 {
                    return;
                }
                continue;
            }
            match self.target_of(child, &recipient) {
                Some(target) if is_bound || route.outstanding == 0 || route.node.as_ref() == Some(&target) => {
                    self.send_message(child, id, target, is_bound);
                }
                target => {
                    if target.is_none() {
                        self.nobody_yet(child);
                    }
                    is_held |= !is_bound;
                }
            }
        }
    }

    fn target_of(&self, child: &ChildId, recipient: &Recipient) -> Option<NodeRef> {
        let record = &self.children[self.children.find(child.as_str())?];
        let entry = &record.entry;
        match recipient {
            Recipient::Active | Recipient::All => {
                // Of several active instances the one here is the nearest.
                let is_nearest = |local: &Local| {
                    local.is_replica && local.mode == Mode::Active && matches!(local.phase, Phase::Active)
                };
                if record.local().is_some_and(is_nearest) {
                    return Some(self.me.clone());
                }
                if let Some(holder) = entry.active_holder() {
                    return Some(holder.node.clone());
                }
                // It starts here, or comes here: it waits in the instance's own queue.
                let starts = record.local().filter(|local| !local.is_replica && entry.is_wanted());
                starts.map(|_| self.me.clone())
            }
            Recipient::Node(name) => entry
                .holders
                .iter()
                .find(|holder| !holder.is_departed && holder.node.name == *name && holder.row.stage.is_listed())
                .map(|holder| holder.node.clone()),
        }
    }

    fn send_message(&mut self, child: &ChildId, id: u64, target: NodeRef, is_bound: bool) {
        let now = self.now;
        let Some(route) = self.router.routes.get_mut(child) else {
            return;
        };
        route.waiting.remove(&id);
        let Some(open) = self.router.open.get_mut(&id) else {
            return;
        };
        if is_bound {
            route.bound = route.bound.saturating_sub(1);
        } else {
            route.outstanding += 1;
            route.node = Some(target.clone());
        }
        open.place = Place::Sent(target.clone());
        let held = HeldMessage {
            origin: self.me.clone(),
            id,
            message: open.message.clone(),
            chain: open.chain.clone(),
            left_ms: u64::try_from(open.deadline.since(now).as_millis()).unwrap_or(u64::MAX),
            wants_reply: open.wants_reply,
            is_bound,
        };
        if target == self.me {
            let child = self.children.intern(child);
            self.call_received(child, held);
        } else {
            self.send_ctl(&target, &Message::Call { child: child.clone(), held });
        }
    }

    /// No instance to send to: wait, or find out whether the child exists at all.
    fn nobody_yet(&mut self, child: &ChildId) {
        if self.is_wanted(child) {
            return;
        }
        if !self.membership.is_settled {
            // Who is there is not known yet: asked again once it is.
            return;
        }
        let members: BTreeSet<NodeRef> = self.membership.others(&self.me).cloned().collect();
        if members.is_empty() {
            self.fail_unknown_child(child);
            return;
        }
        let Some(route) = self.router.routes.get_mut(child).filter(|route| route.asked.is_none()) else {
            return;
        };
        route.asked = Some(members.clone());
        let Some(&id) = route.waiting.first() else {
            return;
        };
        for member in members {
            self.send_ctl(&member, &Message::Query(id, child.clone()));
        }
    }

    pub(super) fn query_answered(&mut self, from: &NodeRef, id: u64, is_wanted: bool) {
        let Some(child) = self.router.open.get(&id).map(|open| open.child.clone()) else {
            return;
        };
        let is_known = self.is_wanted(&child);
        let Some(asked) = self.router.routes.get_mut(&child).and_then(|route| route.asked.as_mut()) else {
            return;
        };
        if is_wanted {
            // Somebody knows it: its row is on the way here.
            return;
        }
        asked.remove(from);
        if asked.is_empty() && !is_known {
            self.fail_unknown_child(&child);
        }
    }

    fn fail_unknown_child(&mut self, child: &ChildId) {
        let waiting = match self.router.routes.get_mut(child) {
            Some(route) => {
                route.asked = None;
                route.waiting.clone()
            }
            None => return,
        };
        for id in waiting {
            // Ending one message may have sent the next.
            if !self.router.routes.get(child).is_some_and(|route| route.waiting.contains(&id)) {
                continue;
            }
            let error = Error::new(ErrorKind::NotFound, "call", "no such child is wanted").with_child(child.as_str());
            self.message_done(id, Err(error));
        }
    }

    pub(super) fn accepted_received(&mut self, id: u64) {
        self.message_done(id, Ok(Outcome::Done));
    }

    pub(super) fn reply_received(&mut self, id: u64, result: Result<Payload, Error>) {
        self.message_done(id, result.map(Outcome::Reply));
    }

    pub(super) fn bounce_received(&mut self, from: &NodeRef, id: u64, _hint: Option<NodeRef>) {
        let Some(open) = self.router.open.get_mut(&id) else {
            return;
        };
        if !matches!(&open.place, Place::Sent(node) if node == from) {
            return;
        }
        open.place = Place::Waiting;
        open.bounces += 1;
        let pause = ROUTE_AGAIN * open.bounces.min(20);
        let (child, is_bound) = (open.child.clone(), open.recipient.is_bound());
        let route = self.router.routes.entry(child).or_default();
        if !is_bound {
            route.outstanding = route.outstanding.saturating_sub(1);
        }
        route.wait(id, is_bound);
        route.hold_until = self.now + pause;
        self.timers.arm(TimerKey::MessageRoute(id), self.now + pause);
    }

    pub(super) fn rerouted_received(&mut self, from: &NodeRef, id: u64, to: NodeRef) {
        let Some(open) = self.router.open.get_mut(&id) else {
            return;
        };
        if !matches!(&open.place, Place::Sent(node) if node == from) {
            return;
        }
        open.place = Place::Sent(to.clone());
        if let Some(route) = self.router.routes.get_mut(&open.child) {
            route.node = Some(to);
        }
    }

    /// Ends all messages: what was sent may have been handled.
    pub(super) fn fail_messages(&mut self, error: &Error) {
        for id in self.open_messages() {
            let is_sent = self.router.open.get(&id).is_some_and(|open| matches!(open.place, Place::Sent(_)));
            self.message_done(id, Err(error.clone().with_maybe_executed(is_sent)));
        }
    }

    pub(super) fn open_messages(&self) -> Vec<u64> {
        self.router.open.keys().copied().collect()
    }

    /// A message has its answer.
    pub(super) fn message_done(&mut self, id: u64, result: Result<Outcome, Error>) {
        let Some(open) = self.router.open.swap_remove(&id) else {
            return;
        };
        self.timers.disarm(&TimerKey::MessageEnd(id));
        if open.bounces > 0 {
            self.timers.disarm(&TimerKey::MessageRoute(id));
        }
        if let Some(route) = self.router.routes.get_mut(&open.child) {
            route.done(id, &open);
        }
        match open.group {
            None => self.reply(RequestId(id), result),
            Some(group) => self.group_done(group, result.err()),
        }
        self.pump_route(&open.child);
    }

    fn group_done(&mut self, group: u64, error: Option<Error>) {
        let Some(of) = self.router.groups.get_mut(&group) else {
            return;
        };
        of.open -= 1;
        of.may_have_run |= error.as_ref().is_none_or(|error| error.maybe_executed);
        of.error = of.error.take().or(error);
        if of.open == 0
            && let Some(Group { request, error, may_have_run, .. }) = self.router.groups.remove(&group)
        {
            let error = error.map(|error| error.with_maybe_executed(may_have_run));
            self.reply(request, error.map_or(Ok(Outcome::Done), Err));
        }
    }

    /// A message's time is over.
    pub(super) fn message_end(&mut self, id: u64) {
        let Some(open) = self.router.open.get(&id) else {
            return;
        };
        let child = open.child.as_str();
        let ms = open.timeout.as_millis();
        let is_wanted = self.is_wanted(&open.child);
        let error = match &open.place {
            Place::Sent(node) => Error::new(ErrorKind::Timeout, "call", format!("no answer within {ms} ms"))
                .with_node(node.name.as_str())
                .with_maybe_executed(true),
            Place::Waiting if is_wanted => {
                Error::new(ErrorKind::NotActive, "call", format!("no active instance within {ms} ms"))
            }
            Place::Waiting => {
                Error::new(ErrorKind::Timeout, "call", format!("not known whether it exists within {ms} ms"))
            }
        };
        let error = error.with_child(child);
        self.message_done(id, Err(error));
    }

    /// What was sent to a node that is gone may have been handled there.
    pub(super) fn messages_lose(&mut self, node: &NodeRef) {
        let lost: Vec<u64> = self
            .router
            .open
            .iter()
            .filter(|(_, open)| matches!(&open.place, Place::Sent(to) if to == node))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let error = Error::new(ErrorKind::Unreachable, "call", "the node that had the message is gone")
                .with_node(node.name.as_str())
                .with_maybe_executed(true);
            self.message_done(id, Err(error));
        }
        let asking: Vec<ChildId> = self
            .router
            .routes
            .iter_mut()
            .filter_map(|(child, route)| {
                let asked = route.asked.as_mut()?;
                (asked.remove(node) && asked.is_empty()).then(|| child.clone())
            })
            .collect();
        for child in asking {
            self.fail_unknown_child(&child);
        }
    }

    /// Whether there was such a message.
    pub(super) fn cancel_message(&mut self, id: u64) -> bool {
        let Some(open) = self.router.open.swap_remove(&id) else {
            return false;
        };
        self.timers.disarm(&TimerKey::MessageEnd(id));
        self.timers.disarm(&TimerKey::MessageRoute(id));
        if let Some(route) = self.router.routes.get_mut(&open.child) {
            route.done(id, &open);
        }
        self.pump_route(&open.child);
        true
    }
}
