//! One deadline heap. Arming a key again replaces its deadline, so a stale firing cannot happen.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::hash::FixedHash;
use crate::ids::{CallNumber, ChildId, InstanceId, NodeRef};
use crate::time::Timestamp;

/// What a deadline is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum TimerKey {
    /// Children wait to be reconciled.
    Reconcile,
    /// View changes are acted on (R14).
    ViewChange,
    /// The next heartbeat, or the next try to agree on the view.
    Status,
    /// The next comparison of wanted hashes.
    Sync,
    /// A host call takes too long.
    HostCall(CallNumber),
    /// A step of a move takes too long.
    Move(ChildId),
    /// The whole move takes too long.
    MoveBudget(ChildId),
    /// A move that failed may be tried again.
    MoveAgain(ChildId),
    /// A crashed child is started again.
    Restart(ChildId),
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
    /// Open moves are aborted and the lock is released (R16).
    DeadlockRecovery,
    /// A drain's end.
    DrainEnd,
    /// A shutdown's end.
    ShutdownEnd,
}

/// When a deadline is, and which of those at the same time it is: the one armed first comes first.
type Place = (Timestamp, u64);

/// The deadlines. Moves and host calls arm and disarm several for each child, many of them for the same time, so
/// the order compares numbers and never keys.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeMap<Place, TimerKey>,
    by_key: IndexMap<TimerKey, Place, FixedHash>,
    armed_count: u64,
}

impl Timers {
    /// Sets the deadline of a key, whatever it was before.
    pub(super) fn arm(&mut self, key: TimerKey, at: Timestamp) {
        self.armed_count += 1;
        let place = (at, self.armed_count);
        if let Some(before) = self.by_key.insert(key.clone(), place) {
            self.by_time.remove(&before);
        }
        self.by_time.insert(place, key);
    }

    /// Sets the deadline of a key that has none, or a later one.
    pub(super) fn arm_earlier(&mut self, key: TimerKey, at: Timestamp) {
        if self.by_key.get(&key).is_none_or(|&(before, _)| before > at) {
            self.arm(key, at);
        }
    }

    /// Forgets a key.
    pub(super) fn disarm(&mut self, key: &TimerKey) {
        if let Some(before) = self.by_key.swap_remove(key) {
            self.by_time.remove(&before);
        }
    }

    pub(super) fn is_armed(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Takes the next key that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<TimerKey> {
        if self.by_time.first_key_value()?.0.0 > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.swap_remove(&key);
        Some(key)
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Timestamp {
        self.by_time.first_key_value().map_or(Timestamp::NEVER, |(&(at, _), _)| at)
    }

    /// Gives back what a burst of timers needed.
    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.by_key.shrink_to(capacity);
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
    fn keys_with_one_deadline_then_they_fire_in_the_order_they_were_armed() {
        let mut timers = Timers::default();
        for key in [TimerKey::Sync, TimerKey::Reconcile, TimerKey::Status, TimerKey::Sync] {
            timers.arm(key, Timestamp(5));
        }
        let fired: Vec<TimerKey> = std::iter::from_fn(|| timers.pop_due(Timestamp(5))).collect();
        assert_eq!(fired, [TimerKey::Reconcile, TimerKey::Status, TimerKey::Sync]);
    }
}
