//! Deadlines. Arming a key again replaces its deadline, so a stale firing cannot happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use indexmap::IndexMap;

use super::KEPT_CAPACITY;
use super::children::Slot;
use super::hash::FixedHash;
use crate::ids::{InstanceId, NodeRef};
use crate::time::Timestamp;

/// What a deadline is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum TimerKey {
    /// Children wait to be reconciled.
    Reconcile,
    /// View changes are acted on (R14).
    ViewChange,
    /// The next heartbeat, or the next try to agree on the view.
    Status,
    /// The next comparison of wanted hashes.
    Sync,
    /// Something of the quorum is due.
    Quorum,
    /// A step of a move takes too long.
    Move(Slot),
    /// The whole move takes too long.
    MoveBudget(Slot),
    /// A move that failed may be tried again.
    MoveAgain(Slot),
    /// A crashed child is started again.
    Restart(Slot),
    /// An ending instance is written off, or its retention is over.
    Ending(InstanceId),
    /// A request's next try.
    RequestRetry(u64),
    /// A request's end.
    RequestEnd(u64),
    /// A message's end.
    MessageEnd(u64),
    /// A message that was bounced is routed again.
    MessageRoute(u64),
    /// A gap in a member's log is asked for again.
    Pull(NodeRef),
    /// Others are told of our log that still lack something.
    Spread,
    /// The load of this node is measured.
    Load,
    /// Open moves are aborted and the lock is released (R16).
    DeadlockRecovery,
    /// A drain's end.
    DrainEnd,
    /// A shutdown's end.
    ShutdownEnd,
}

/// When a deadline is, and which of those at the same time it is: the one armed first comes first.
type Place = (Timestamp, u64);

/// The deadlines: a heap, and for each key which of its entries counts. The others stay in the heap until they come
/// to its top or are the larger part of it; so arming and disarming, which each step of a move does, cost next to
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Place, TimerKey)>>,
    armed: IndexMap<TimerKey, Place, FixedHash>,
    armed_count: u64,
}

impl Timers {
    /// Sets the deadline of a key, whatever it was before.
    pub(super) fn arm(&mut self, key: TimerKey, at: Timestamp) {
        self.armed_count += 1;
        let place = (at, self.armed_count);
        self.heap.push(Reverse((place, key.clone())));
        if let Some(before) = self.armed.insert(key, place) {
            self.superseded(before);
        }
    }

    /// Sets the deadline of a key that has none, or a later one.
    pub(super) fn arm_earlier(&mut self, key: TimerKey, at: Timestamp) {
        if self.armed.get(&key).is_none_or(|&(before, _)| before > at) {
            self.arm(key, at);
        }
    }

    /// Forgets a key.
    pub(super) fn disarm(&mut self, key: &TimerKey) {
        if let Some(before) = self.armed.swap_remove(key) {
            self.superseded(before);
        }
    }

    pub(super) fn is_armed(&self, key: &TimerKey) -> bool {
        self.armed.contains_key(key)
    }

    /// Takes the next key that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<TimerKey> {
        if self.next() > now {
            return None;
        }
        let Reverse((_, key)) = self.heap.pop()?;
        self.armed.swap_remove(&key);
        self.tidy_top();
        Some(key)
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Timestamp {
        self.heap.peek().map_or(Timestamp::NEVER, |Reverse(((at, _), _))| *at)
    }

    /// The entry at this place does not count any more.
    fn superseded(&mut self, before: Place) {
        if self.heap.peek().is_some_and(|Reverse((place, _))| *place == before) {
            self.tidy_top();
        }
        if self.heap.len() > KEPT_CAPACITY.max(2 * self.armed.len()) {
            let armed = &self.armed;
            self.heap.retain(|Reverse((place, key))| armed.get(key) == Some(place));
        }
    }

    /// Brings an entry that counts to the top.
    fn tidy_top(&mut self) {
        let armed = &self.armed;
        while self.heap.peek().is_some_and(|Reverse((place, key))| armed.get(key) != Some(place)) {
            self.heap.pop();
        }
    }

    /// Gives back what a burst of timers needed.
    pub(super) fn shrink(&mut self) {
        if self.armed.is_empty() && self.armed.capacity() > KEPT_CAPACITY {
            self.armed.shrink_to(KEPT_CAPACITY);
            self.heap.shrink_to(KEPT_CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_armed_twice_then_only_the_later_deadline_fires() {
        let mut timers = Timers::default();
        timers.arm(TimerKey::Sync, Timestamp(5));
        timers.arm(TimerKey::Sync, Timestamp(9));
        assert_eq!(timers.pop_due(Timestamp(8)), None);
        assert_eq!(timers.pop_due(Timestamp(9)), Some(TimerKey::Sync));
        assert_eq!(timers.pop_due(Timestamp(99)), None);
        assert_eq!(timers.next(), Timestamp::NEVER);
    }

    #[test]
    fn key_disarmed_then_it_never_fires() {
        let mut timers = Timers::default();
        timers.arm(TimerKey::Sync, Timestamp(5));
        timers.disarm(&TimerKey::Sync);
        assert_eq!(timers.pop_due(Timestamp(99)), None);
    }

    #[test]
    fn key_armed_again_and_again_then_the_superseded_entries_go() {
        let mut timers = Timers::default();
        timers.arm(TimerKey::Status, Timestamp(1));
        for at in 2..5 * KEPT_CAPACITY as u64 {
            timers.arm(TimerKey::Sync, Timestamp(at));
        }
        assert!(timers.heap.len() <= KEPT_CAPACITY + 1, "{}", timers.heap.len());
        assert_eq!(timers.pop_due(Timestamp(1)), Some(TimerKey::Status));
        assert_eq!(timers.next(), Timestamp(5 * KEPT_CAPACITY as u64 - 1));
    }

    #[test]
    fn keys_with_one_deadline_then_they_fire_in_the_order_they_were_armed() {
        let mut timers = Timers::default();
        for key in [TimerKey::Sync, TimerKey::Reconcile, TimerKey::Status, TimerKey::Sync] {
            timers.arm(key, Timestamp(5));
        }
        let fired: Vec<TimerKey> = std::iter::from_fn(|| timers.pop_due(Timestamp(5))).collect();
        assert_eq!(fired, [TimerKey::Reconcile, TimerKey::Status, TimerKey::Sync]);
    }
}
