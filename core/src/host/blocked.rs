//! Notices threads of the pool that callbacks do not give back.

use std::sync::Arc;
use std::time::Duration;

use super::pool::Worker;
use crate::time::Timestamp;

/// One call that has been running since at least `since`.
#[derive(Debug)]
struct Running {
    worker: Arc<Worker>,
    turn: u64,
    since: Timestamp,
    next_tell: Timestamp,
}

/// The calls that ran when the watch last looked.
#[derive(Debug, Default)]
pub(super) struct Blocked(Vec<Running>);

impl Blocked {
    /// Looks at the threads; says how long calls past their deadline have been running already: when that is first
    /// seen, and each time it doubled.
    pub(super) fn look(&mut self, now: Timestamp, workers: &[Arc<Worker>]) -> Vec<Duration> {
        self.0.retain(|running| running.worker.turn() == Some(running.turn));
        for worker in workers {
            let is_known = self.0.iter().any(|running| Arc::ptr_eq(&running.worker, worker));
            if !is_known && let Some(turn) = worker.turn() {
                let worker = Arc::clone(worker);
                self.0.push(Running { worker, turn, since: now, next_tell: now });
            }
        }
        let overdue = self.0.iter_mut().filter(|running| running.worker.is_written_off() && now >= running.next_tell);
        overdue
            .map(|running| {
                let blocked = now - running.since;
                running.next_tell = now + blocked;
                blocked
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn callback_past_its_deadline_then_told_and_told_again_each_time_it_doubled() {
        let workers = [Arc::new(Worker::default())];
        let mut blocked = Blocked::default();
        workers[0].begin(at(5));
        assert_eq!(blocked.look(at(1), &workers), []);
        assert_eq!(blocked.look(at(4), &workers), []);
        assert!(workers[0].write_off(at(6)));
        assert_eq!(blocked.look(at(6), &workers), [Duration::from_secs(5)]);
        assert_eq!(blocked.look(at(10), &workers), []);
        assert_eq!(blocked.look(at(11), &workers), [Duration::from_secs(10)]);
    }

    #[test]
    fn many_short_callbacks_then_none_counts_as_long() {
        let workers = [Arc::new(Worker::default())];
        let mut blocked = Blocked::default();
        for second in 1..9 {
            workers[0].begin(at(20));
            assert_eq!(blocked.look(at(second), &workers), []);
        }
        assert!(workers[0].write_off(at(21)));
        assert_eq!(blocked.look(at(21), &workers), [Duration::from_secs(13)]);
    }
}
