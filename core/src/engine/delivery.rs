//! Messages at the node that has, or had, the child: take them in, answer them, send them back unhandled (R6, R7).

use super::calls::split;
use super::children::Slot;
use super::local::{Phase, Work};
use super::{Engine, MAX_HELD_MESSAGES};
use crate::error::{Error, ErrorKind};
use crate::host::call::HostAnswer;
use crate::ids::{ChildId, NodeRef};
use crate::payload::Payload;
use crate::wire::{HeldMessage, Message};

impl Engine {
    /// A message for a child of this node, or one that was.
    pub(super) fn call_received(&mut self, child: Slot, held: HeldMessage) {
        let (origin, id) = (held.origin.clone(), held.id);
        let record = &mut self.children[child];
        if held.chain.contains(&record.id) {
            let error = Error::new(ErrorKind::WouldDeadlock, "call", "the chain of calls comes back to this child")
                .with_child(record.id.as_str());
            return self.send_reply(&origin, id, Err(error));
        }
        if record.local().is_none() {
            let hint = record.entry.active_holder();
            let hint = hint.map(|holder| holder.node.clone()).filter(|node| *node != self.me);
            return self.bounce(&origin, id, hint.as_ref());
        }
        let child_id = record.id.clone();
        let Some(local) = record.local_mut() else {
            return;
        };
        if !held.is_bound && !local.takes_calls() {
            let hint = self.children[child].entry.active_holder().map(|holder| holder.node.clone());
            return self.bounce(&origin, id, hint.filter(|node| *node != self.me).as_ref());
        }
        let (wants_reply, is_bound) = (held.wants_reply, held.is_bound);
        let work = Work::from_held(held, self.now);
        let queue = match &mut local.phase {
            Phase::Ending => return self.bounce(&origin, id, None),
            Phase::Quarantined { restarts } => {
                let message = format!("the child is quarantined after {restarts} restarts");
                let error = Error::new(ErrorKind::RestartLimit, "call", message).with_child(child_id.as_str());
                return self.send_reply(&origin, id, Err(error));
            }
            Phase::Outgoing(outgoing) if outgoing.is_given() && !is_bound => {
                let to = outgoing.to.clone();
                return self.bounce(&origin, id, Some(&to));
            }
            Phase::Incoming(incoming) => &mut incoming.held,
            Phase::Starting { .. } | Phase::Active | Phase::Resting { .. } | Phase::Outgoing(_) => &mut local.inbox,
        };
        if queue.len() >= MAX_HELD_MESSAGES {
            let message = format!("{MAX_HELD_MESSAGES} messages wait for the child");
            let error = Error::new(ErrorKind::Overloaded, "call", message).with_child(child_id.as_str());
            return self.send_reply(&origin, id, Err(error));
        }
        queue.push_back(work);
        if !wants_reply {
            self.accept(&origin, id);
        }
        self.instance_free(child);
    }

    pub(super) fn accept(&mut self, origin: &NodeRef, id: u64) {
        if *origin == self.me {
            self.accepted_received(id);
        } else {
            self.send_ctl(origin, &Message::Accepted(id));
        }
    }

    /// The instance handled a message, or failed to.
    pub(super) fn answer_message(
        &mut self,
        child: Slot,
        origin: &NodeRef,
        id: u64,
        wants_reply: bool,
        answer: HostAnswer,
    ) {
        if !wants_reply {
            return;
        }
        let result = match split(answer) {
            Ok(payload) => Ok(payload.unwrap_or_else(|| Payload::json(&b"null"[..]))),
            Err(failure) => {
                let kind = failure.kind.unwrap_or(ErrorKind::ChildFailed);
                Err(Error::new(kind, "call", failure.message)
                    .with_child(self.children[child].id.as_str())
                    .with_node(self.me.name.as_str())
                    .with_maybe_executed(true)
                    .with_trace(failure.trace))
            }
        };
        self.send_reply(origin, id, result);
    }

    /// The instance is gone with a message in its hands.
    pub(super) fn message_lost(&mut self, child: Slot, origin: &NodeRef, id: u64, wants_reply: bool) {
        if wants_reply {
            let error = Error::new(ErrorKind::ChildFailed, "call", "the child crashed while it handled the message")
                .with_child(self.children[child].id.as_str())
                .with_node(self.me.name.as_str())
                .with_maybe_executed(true);
            self.send_reply(origin, id, Err(error));
        }
    }

    fn send_reply(&mut self, origin: &NodeRef, id: u64, result: Result<Payload, Error>) {
        if *origin == self.me {
            self.reply_received(id, result);
        } else {
            self.send_ctl(origin, &Message::Reply(id, result.map_err(Box::new)));
        }
    }

    /// Sends a message back unhandled.
    pub(super) fn bounce(&mut self, origin: &NodeRef, id: u64, hint: Option<&NodeRef>) {
        if *origin == self.me {
            self.bounce_received(&self.me.clone(), id, hint.cloned());
        } else {
            self.send_ctl(origin, &Message::Bounce(id, hint.cloned()));
        }
    }

    /// A message travels with its child: its answer comes from there.
    pub(super) fn reroute(&mut self, origin: &NodeRef, id: u64, to: &NodeRef) {
        if *origin == self.me {
            self.rerouted_received(&self.me.clone(), id, to.clone());
        } else {
            self.send_ctl(origin, &Message::Rerouted(id, to.clone()));
        }
    }

    pub(super) fn query_received(&mut self, from: &NodeRef, id: u64, child: &ChildId) {
        let is_wanted = self.is_wanted(child);
        self.send_ctl(from, &Message::QueryAnswer(id, is_wanted));
    }

    /// Sends back what waits for an instance that will not handle it.
    pub(super) fn return_inbox(&mut self, child: Slot, hint: Option<&NodeRef>) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let mut waiting = std::mem::take(&mut local.inbox);
        if let Phase::Incoming(incoming) = &mut local.phase {
            waiting.extend(std::mem::take(&mut incoming.held));
        }
        for work in waiting {
            match work {
                Work::Message { origin, id, .. } => self.bounce(&origin, id, hint),
                Work::Conflict { from, loser, .. } => {
                    self.send_ctl(&from, &Message::ConflictSeen(self.id(child), loser, false));
                }
            }
        }
    }
}
