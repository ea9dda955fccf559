//! Notices a host that does not pull its queue: an event loop that is blocked, threads that are all stuck.

use std::time::Duration;

use crate::time::Timestamp;

/// A host that leaves calls waiting for so long counts as unresponsive; told again each time this doubled, and once
/// more, with the whole time, when it goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was last seen of a host's queue.
#[derive(Debug)]
pub(crate) struct HostWatch {
    pulled: u64,
    since: Timestamp,
    next: Timestamp,
    was_told: bool,
}

impl HostWatch {
    pub(crate) fn new() -> Self {
        Self { pulled: 0, since: Timestamp(0), next: Timestamp::NEVER, was_told: false }
    }

    /// When to look again; never while nothing waits.
    pub(crate) fn next_deadline(&self) -> Timestamp {
        self.next
    }

    /// Looks at the queue: how many items wait, and how many were pulled since the start. Says how long the host
    /// has pulled none, when that is to be told.
    pub(crate) fn look(&mut self, now: Timestamp, waiting: usize, pulled: u64) -> Option<Duration> {
        let is_idle = waiting == 0;
        if is_idle || pulled != self.pulled || self.next == Timestamp::NEVER {
            let told = std::mem::take(&mut self.was_told).then(|| now - self.since);
            self.pulled = pulled;
            self.since = now;
            self.next = if is_idle { Timestamp::NEVER } else { now + PATIENCE };
            return told;
        }
        if now < self.next {
            return None;
        }
        let blocked = now - self.since;
        self.next = now + blocked;
        self.was_told = true;
        Some(blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(ms * 1000)
    }

    #[test]
    fn host_pulls_nothing_then_it_is_told_each_time_the_wait_doubled() {
        let mut watch = HostWatch::new();
        assert_eq!(watch.look(at(0), 3, 7), None);
        assert_eq!(watch.next_deadline(), at(1000));
        assert_eq!(watch.look(at(500), 4, 7), None);
        assert_eq!(watch.look(at(1000), 4, 7), Some(Duration::from_secs(1)));
        assert_eq!(watch.look(at(1500), 4, 7), None);
        assert_eq!(watch.look(at(2000), 4, 7), Some(Duration::from_secs(2)));
        assert_eq!(watch.next_deadline(), at(4000));
    }

    #[test]
    fn host_goes_on_then_the_whole_time_is_told_once() {
        let mut watch = HostWatch::new();
        watch.look(at(0), 3, 7);
        assert_eq!(watch.look(at(1000), 3, 7), Some(Duration::from_secs(1)));
        assert_eq!(watch.look(at(1700), 2, 8), Some(Duration::from_millis(1700)));
        assert_eq!(watch.look(at(1800), 0, 10), None);
    }

    #[test]
    fn host_pulls_or_nothing_waits_then_nothing_is_told() {
        let mut watch = HostWatch::new();
        for n in 0..10 {
            assert_eq!(watch.look(at(n * 900), 1, n), None);
        }
        assert_eq!(watch.look(at(9_500), 0, 10), None);
        assert_eq!(watch.next_deadline(), Timestamp::NEVER);
        assert_eq!(watch.look(at(90_000), 1, 10), None);
    }
}
