//! Before a child is called unknown: what any member did before the question must be known here (R1).

use std::collections::BTreeMap;

use super::log::PULL_AFTER;
use super::requests::Request;
use super::{Engine, TimerKey};
use crate::ids::NodeRef;
use crate::wire::Message;

/// Which members' logs are still to be heard.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// How far each has to be heard, once it said so. `None` before anybody was asked.
    open: Option<BTreeMap<NodeRef, Option<u64>>>,
}

impl Hearing {
    /// Everybody was heard.
    pub(super) fn is_done(&self) -> bool {
        self.open.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// Asks these, unless it began already. Answers who has not said how far.
    fn unanswered(&mut self, members: impl Iterator<Item = NodeRef>) -> Vec<NodeRef> {
        let open = self.open.get_or_insert_with(|| members.map(|node| (node, None)).collect());
        open.iter().filter(|(_, seq)| seq.is_none()).map(|(node, _)| node.clone()).collect()
    }

    /// A member says how far its log is.
    fn told(&mut self, node: &NodeRef, seq: u64) {
        if let Some(far) = self.open.as_mut().and_then(|open| open.get_mut(node)) {
            *far = Some(far.unwrap_or(seq).min(seq));
        }
    }

    /// A member's log is known up to `seq`.
    pub(super) fn heard(&mut self, node: &NodeRef, seq: u64) {
        if let Some(open) = &mut self.open
            && open.get(node).is_some_and(|far| far.is_some_and(|far| far <= seq))
        {
            open.remove(node);
        }
    }

    /// A member is gone.
    pub(super) fn lose(&mut self, node: &NodeRef) {
        if let Some(open) = &mut self.open {
            open.remove(node);
        }
    }
}

impl Engine {
    /// Asks the members how far their logs are, for a request; those that have not answered are asked again. Whether
    /// all of them were heard.
    pub(super) fn is_everybody_heard(&mut self, id: u64) -> bool {
        let Some(Request::Stop(request)) = self.requests.get_mut(&id) else {
            return true;
        };
        let (me, members) = (&self.me, &self.membership.view.members);
        let others = members.keys().filter(|node| *node != me).cloned();
        let unanswered = request.hearing.unanswered(others);
        let is_done = request.hearing.is_done();
        for node in unanswered {
            self.send_ctl(&node, &Message::AskSeq(id));
        }
        is_done
    }

    pub(super) fn ask_seq_received(&mut self, from: &NodeRef, id: u64) {
        let seq = self.log.seq;
        self.serve(from);
        self.send_ctl(from, &Message::Seq(id, seq));
    }

    pub(super) fn seq_received(&mut self, from: &NodeRef, id: u64, seq: u64) {
        let known = self.membership.peers.get(from).map_or(0, |peer| peer.known_seq);
        if let Some(Request::Stop(request)) = self.requests.get_mut(&id) {
            request.hearing.told(from, seq);
        }
        if seq > known {
            self.timers.arm_earlier(TimerKey::Pull(from.clone()), self.now + PULL_AFTER);
        }
        self.hear(id, from, known);
    }

    /// A member's log is known further: a request may have waited for that.
    pub(super) fn hear(&mut self, id: u64, node: &NodeRef, seq: u64) {
        let Some(Request::Stop(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let was_done = request.hearing.is_done();
        request.hearing.heard(node, seq);
        if !was_done && request.hearing.is_done() {
            self.plan_stop(id);
        }
    }
}
