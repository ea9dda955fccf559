//! Leaving, and others' leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use super::timers::Due;
use super::wire::Message;
use super::{Evidence, Step, Swim, SwimEffect};
use crate::ids::NodeRef;

/// How long acknowledgements are waited for, in four rounds.
const LEAVE_ROUND: Duration = Duration::from_millis(250);
const LEAVE_ROUNDS_COUNT: u32 = 4;

/// This node's leave.
pub(super) struct Leaving {
    waiting: BTreeSet<NodeRef>,
    rounds_left: u32,
}

impl Swim {
    pub(super) fn start_leave(&mut self, step: &mut Step<'_>) {
        if self.leaving.is_some() {
            return;
        }
        let peers = self.linked_peers();
        let waiting = peers.iter().filter(|peer| self.is_up(peer)).cloned().collect();
        self.leaving = Some(Leaving { waiting, rounds_left: LEAVE_ROUNDS_COUNT });
        for peer in &peers {
            self.tell_leave(peer, step);
        }
        self.next_leave_round(step);
    }

    pub(super) fn tell_leave(&self, peer: &NodeRef, step: &mut Step<'_>) {
        self.send(peer, &Message::Leave, step);
    }

    fn next_leave_round(&mut self, step: &mut Step<'_>) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        if leaving.waiting.is_empty() || leaving.rounds_left == 0 {
            self.has_left = true;
            self.timers.clear();
            step.effects.push(SwimEffect::Left);
            return;
        }
        leaving.rounds_left -= 1;
        self.timers.add(step.now + LEAVE_ROUND, Due::Leave);
    }

    pub(super) fn step_leave(&mut self, step: &mut Step<'_>) {
        let waiting = match &self.leaving {
            Some(leaving) if leaving.rounds_left > 0 => leaving.waiting.clone(),
            Some(_) | None => BTreeSet::new(),
        };
        for peer in &waiting {
            self.tell_leave(peer, step);
        }
        self.next_leave_round(step);
    }

    pub(super) fn leave_acknowledged(&mut self, from: &NodeRef, step: &mut Step<'_>) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        leaving.waiting.remove(from);
        if leaving.waiting.is_empty() {
            self.next_leave_round(step);
        }
    }

    pub(super) fn peer_leaves(&mut self, from: &NodeRef, step: &mut Step<'_>) {
        self.mark_final(from.clone(), Evidence::Left, step.now);
        self.declare_down(from, Evidence::Left, step);
        self.send(from, &Message::LeaveAck, step);
    }
}
