//! What is due when.

use std::collections::BTreeMap;

use foca::Timer;

use super::identity::Id;
use crate::ids::{NodeName, NodeRef};
use crate::time::Timestamp;

/// Something that is due at a moment. The numbers tell a stale firing, which does nothing.
#[derive(Debug)]
pub(super) enum Due {
    /// A timer foca asked for.
    Foca(Timer<Id>),
    /// The next step of a suspicion.
    Suspicion(NodeName, u64),
    /// The next step of a check whether a name is taken.
    NameCheck(NodeRef, u64),
    /// Say hello again on this link, unless its other end welcomed us.
    Hello(NodeRef, u64),
    /// Close the link to a refused node.
    Close(NodeRef, u64),
    /// A link to this member is wanted if there is none yet.
    Dial(NodeRef),
    /// The next step of our leave.
    Leave,
    /// The next round of anti-entropy.
    Sync,
}

/// A queue by time, and by age at the same time.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Timestamp, u64), Due>,
    next_number: u64,
}

impl Timers {
    pub(super) fn add(&mut self, at: Timestamp, due: Due) {
        self.queue.insert((at, self.next_number), due);
        self.next_number += 1;
    }

    pub(super) fn next_deadline(&self) -> Timestamp {
        self.queue.first_key_value().map_or(Timestamp::NEVER, |((at, _), _)| *at)
    }

    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Due> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}
