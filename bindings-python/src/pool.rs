//! Which of the host's threads pulls the next call (R18).
//!
//! One thread at a time, the *leader*, pulls and runs callbacks one after the other: threads that share the
//! interpreter's lock only get in each other's way. A thread that stands by looks every [`LOOK`] whether the leader
//! still runs the callback it ran two looks ago; if so, that callback blocks, the watcher takes over, and for
//! [`SPREAD`] every free thread pulls. When nothing happens, nobody looks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use process_hub::time::Timestamp;

/// How often a blocked leader is looked for while calls run.
const LOOK: Duration = Duration::from_micros(500);
/// After so many looks without a call nobody looks any more.
const IDLE_LOOKS: u32 = 40;
/// How long several threads pull after a callback blocked.
const SPREAD: Duration = Duration::from_millis(100);
/// Threads that were written off or wait in a call are replaced up to so many times the pool's size.
const MAX_REPLACEMENTS: usize = 8;

/// A thread of the pool.
pub(crate) type Worker = u32;

/// What a thread that asked for work is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Pull the next call.
    Pull,
    /// Start another thread, then ask again.
    AddThread,
    /// The hub ended: end the thread.
    Closed,
}

#[derive(Debug)]
struct Busy {
    /// When the core gives the callback up.
    deadline: Timestamp,
    /// Waits for another child, so its slot is free.
    is_waiting: bool,
}

#[derive(Debug, Default)]
struct State {
    leader: Option<Worker>,
    /// The leader runs a callback until this deadline.
    leader_busy: Option<Timestamp>,
    /// Threads that run a callback without being the leader.
    busy: BTreeMap<Worker, Busy>,
    /// Calls handed out.
    turns: u64,
    threads: usize,
    standing_by: usize,
    is_watched: bool,
    spread_until: Option<Instant>,
    is_closed: bool,
}

/// The threads of one hub.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    size: usize,
    now: fn() -> Timestamp,
}

impl State {
    fn is_spread(&mut self) -> bool {
        match self.spread_until {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.spread_until = None;
                false
            }
            None => false,
        }
    }

    /// Threads that run no callback.
    fn idle_threads(&self) -> usize {
        let busy = self.busy.len() + usize::from(self.leader_busy.is_some());
        self.threads.saturating_sub(busy)
    }

    /// Callbacks that hold a slot: those that neither wait nor were given up.
    fn slots_taken(&self, now: Timestamp) -> usize {
        let leader = self.leader_busy.is_some_and(|deadline| deadline > now);
        usize::from(leader) + self.busy.values().filter(|busy| !busy.is_waiting && busy.deadline > now).count()
    }
}

impl Pool {
    /// A pool for `size` callbacks at a time. `now` reads the clock of the deadlines.
    pub(crate) fn new(size: usize, now: fn() -> Timestamp) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), size, now }
    }

    /// Counts a new thread and numbers it.
    pub(crate) fn add_thread(&self) -> Worker {
        let mut state = self.state.lock();
        state.threads += 1;
        Worker::try_from(state.threads).unwrap_or(Worker::MAX)
    }

    /// Forgets a thread that could not be started.
    pub(crate) fn remove_thread(&self) {
        self.state.lock().threads -= 1;
    }

    /// Whether `worker`, done with its last call, may pull at once. Never blocks.
    pub(crate) fn resume(&self, worker: Worker) -> bool {
        let mut state = self.state.lock();
        if !state.busy.is_empty() {
            state.busy.remove(&worker);
        }
        if state.leader == Some(worker) {
            state.leader_busy = None;
        }
        if state.is_closed || self.needs_thread(&state) {
            return false;
        }
        self.may_pull(&mut state, worker)
    }

    /// Makes `worker` the leader if there is none; says whether it may pull, as the leader or beside it.
    fn may_pull(&self, state: &mut State, worker: Worker) -> bool {
        if state.leader == Some(worker) {
            return true;
        }
        if !self.has_free_slot(state) {
            return false;
        }
        if state.leader.is_none() {
            state.leader = Some(worker);
            return true;
        }
        state.is_spread()
    }

    /// Blocks until `worker` has something to do.
    pub(crate) fn wait(&self, worker: Worker) -> Turn {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return Turn::Closed;
            }
            if self.may_pull(&mut state, worker) {
                if self.needs_thread(&state) {
                    return Turn::AddThread;
                }
                return Turn::Pull;
            }
            state.standing_by += 1;
            if state.is_watched {
                self.changed.wait(&mut state);
            } else {
                self.watch(&mut state, worker);
            }
            state.standing_by -= 1;
        }
    }

    /// Whether the last idle thread asks: nobody would stand by when it runs a callback.
    fn needs_thread(&self, state: &State) -> bool {
        state.idle_threads() <= 1 && self.may_add(state)
    }

    fn may_add(&self, state: &State) -> bool {
        state.threads <= self.size * (1 + MAX_REPLACEMENTS)
    }

    fn has_free_slot(&self, state: &State) -> bool {
        state.slots_taken((self.now)()) < self.size
    }

    /// Looks after the leader until it blocks, or there is nothing to look at, or another thread leads.
    fn watch(&self, state: &mut parking_lot::MutexGuard<'_, State>, worker: Worker) {
        state.is_watched = true;
        let (mut seen, mut same, mut idle) = (state.turns, 0_u32, 0_u32);
        while !state.is_closed && !self.may_pull(state, worker) {
            if idle >= IDLE_LOOKS {
                state.is_watched = false;
                self.changed.wait(state);
                return;
            }
            self.changed.wait_for(state, LOOK);
            let is_same = state.turns == seen;
            seen = state.turns;
            let is_leader_idle = state.leader.is_some() && state.leader_busy.is_none();
            idle = if is_same && is_leader_idle { idle + 1 } else { 0 };
            same = if is_same && state.leader_busy.is_some() { same + 1 } else { 0 };
            if same >= 2 && self.has_free_slot(state) {
                Self::overtake(state, worker);
            }
        }
        state.is_watched = false;
        // Another thread that stands by watches from now on.
        self.changed.notify_one();
    }

    fn overtake(state: &mut State, worker: Worker) {
        let deadline = state.leader_busy.take();
        if let (Some(old), Some(deadline)) = (state.leader, deadline) {
            let is_waiting = false;
            state.busy.insert(old, Busy { deadline, is_waiting });
        }
        state.leader = Some(worker);
        state.spread_until = Some(Instant::now() + SPREAD);
    }

    /// `worker` pulled a call and runs it now. Says whether another thread must be started first, because nobody
    /// is left to stand by.
    pub(crate) fn begin(&self, worker: Worker, deadline: Timestamp) -> bool {
        let mut state = self.state.lock();
        state.turns += 1;
        if state.leader == Some(worker) {
            state.leader_busy = Some(deadline);
            if !state.is_watched && state.standing_by > 0 {
                self.changed.notify_one();
            }
        } else {
            let is_waiting = false;
            state.busy.insert(worker, Busy { deadline, is_waiting });
        }
        state.idle_threads() == 0 && self.may_add(&state)
    }

    /// The callback that `worker` runs waits for another child: its slot is free. Says whether another thread
    /// must be started to use it.
    pub(crate) fn begin_wait(&self, worker: Worker) -> bool {
        let mut state = self.state.lock();
        if state.leader == Some(worker) {
            let deadline = state.leader_busy.take().unwrap_or(Timestamp::NEVER);
            state.leader = None;
            let is_waiting = true;
            state.busy.insert(worker, Busy { deadline, is_waiting });
        } else if let Some(busy) = state.busy.get_mut(&worker) {
            busy.is_waiting = true;
        }
        self.changed.notify_all();
        state.idle_threads() == 0 && self.may_add(&state)
    }

    /// The callback goes on.
    pub(crate) fn end_wait(&self, worker: Worker) {
        if let Some(busy) = self.state.lock().busy.get_mut(&worker) {
            busy.is_waiting = false;
        }
    }

    /// Ends every thread that stands by.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const FAR: Timestamp = Timestamp(1_000_000);

    fn pool(size: usize) -> Arc<Pool> {
        Arc::new(Pool::new(size, || Timestamp(0)))
    }

    fn wait_on_thread(pool: &Arc<Pool>, worker: Worker) -> std::thread::JoinHandle<Turn> {
        let pool = Arc::clone(pool);
        std::thread::spawn(move || {
            loop {
                match pool.wait(worker) {
                    Turn::AddThread => {
                        pool.add_thread();
                    }
                    turn @ (Turn::Pull | Turn::Closed) => return turn,
                }
            }
        })
    }

    #[test]
    fn leader_done_with_a_call_then_pulls_again_without_blocking() {
        let pool = pool(2);
        let (worker, _) = (pool.add_thread(), pool.add_thread());
        assert!(pool.resume(worker));
        pool.begin(worker, FAR);
        assert!(pool.resume(worker));
    }

    #[test]
    fn only_thread_then_asks_for_another() {
        let pool = pool(2);
        let worker = pool.add_thread();
        assert!(!pool.resume(worker));
        assert_eq!(pool.wait(worker), Turn::AddThread);
    }

    #[test]
    fn leader_blocks_in_a_callback_then_a_thread_that_stands_by_takes_over() {
        let pool = pool(2);
        let (first, second) = (pool.add_thread(), pool.add_thread());
        assert!(pool.resume(first));
        pool.begin(first, FAR);
        assert_eq!(wait_on_thread(&pool, second).join().unwrap(), Turn::Pull);
        assert_eq!(pool.state.lock().leader, Some(second));
    }

    #[test]
    fn every_slot_is_taken_then_nobody_takes_over_until_one_waits() {
        let pool = pool(1);
        let (first, second) = (pool.add_thread(), pool.add_thread());
        assert!(pool.resume(first));
        pool.begin(first, FAR);
        let waiting = wait_on_thread(&pool, second);
        while !pool.state.lock().is_watched {
            std::thread::yield_now();
        }
        assert_eq!(pool.state.lock().leader, Some(first));
        assert!(!pool.begin_wait(first));
        assert_eq!(waiting.join().unwrap(), Turn::Pull);
        assert_eq!(pool.state.lock().leader, Some(second));
    }

    #[test]
    fn callback_past_its_deadline_then_its_slot_is_free() {
        let pool = Arc::new(Pool::new(1, || Timestamp(2_000_000)));
        let (first, second) = (pool.add_thread(), pool.add_thread());
        assert!(pool.resume(first));
        pool.begin(first, FAR);
        assert_eq!(wait_on_thread(&pool, second).join().unwrap(), Turn::Pull);
    }

    #[test]
    fn last_idle_thread_takes_a_call_then_another_is_asked_for() {
        let pool = pool(4);
        let (first, second) = (pool.add_thread(), pool.add_thread());
        assert!(pool.resume(first));
        assert!(!pool.begin(first, FAR));
        assert!(pool.begin(second, FAR));
    }

    #[test]
    fn closed_then_every_thread_ends() {
        let pool = pool(2);
        let (first, second) = (pool.add_thread(), pool.add_thread());
        assert!(pool.resume(first));
        let waiting = wait_on_thread(&pool, second);
        pool.close();
        assert_eq!(waiting.join().unwrap(), Turn::Closed);
        assert!(!pool.resume(first));
        assert_eq!(pool.wait(first), Turn::Closed);
    }
}
