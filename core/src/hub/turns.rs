//! Who runs the turns of a hub.
//!
//! The engine belongs to the hub and not to a thread: one turn runs at a time, on the thread that has the *duty*.
//! The hub's own thread begins with it, keeps the deadlines, and takes over what a turn on another thread left. A
//! hub at rest gives the duty to the thread that brings an input and would only wait for its effects, and else to a
//! thread that stands by because it waits for this hub: a caller for its answer, a thread of the host for its next
//! call. Each of these saves waking a thread that would wake another: a call between two nodes takes four
//! hand-overs instead of eight. The threads of the network never run a turn (A7).

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::clock::now;
use super::driver::Driver;
use super::inputs::DriverInput;
use crate::time::Timestamp;

/// How often the hub's own thread looks whether it has the duty again before it sleeps: a few microseconds, which is
/// less than waking it takes.
const LOOKS_BEFORE_SLEEP: u32 = 200;
/// Most turns in a row on a thread that is not the hub's own.
const MAX_TURNS_ELSEWHERE: usize = 8;

/// Nobody told the thread anything.
const WAITING: u8 = 0;
/// It shall look again at what it waits for.
const WOKEN: u8 = 1;
/// It has the duty.
const ON_DUTY: u8 = 2;

/// Where a thread waits. Each thread has one.
#[derive(Debug)]
struct Place {
    thread: Thread,
    told: AtomicU8,
}

impl Place {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), told: AtomicU8::new(WAITING) })
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.thread.unpark();
    }
}

thread_local! {
    static PLACE: Arc<Place> = Place::new();
}

/// The threads that stand by, the latest last.
#[derive(Debug, Default)]
struct StandingBy {
    callers: Vec<Arc<Place>>,
    hosts: Vec<Arc<Place>>,
}

impl StandingBy {
    fn of(&mut self, role: Role) -> &mut Vec<Arc<Place>> {
        match role {
            Role::Caller => &mut self.callers,
            Role::Host => &mut self.hosts,
        }
    }
}

/// What a thread that stands by waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The answer of an operation.
    Caller,
    /// The next call.
    Host,
}

/// How large a turn an input may bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weight {
    /// Of a message or a completion: a caller that waits may run it.
    Light,
    /// Of any operation: it shall not hold up a caller of another one.
    Any,
}

/// The duty of one hub.
pub(crate) struct Turns {
    driver: Mutex<Option<Driver>>,
    /// Somebody has the duty, or is being told that it does. From the beginning the hub's own thread has it.
    is_taken: AtomicBool,
    standing_by: Mutex<StandingBy>,
    own: OnceLock<Arc<Place>>,
    /// When the hub's own thread wakes by itself; zero while it does not sleep.
    sleeps_until: AtomicU64,
    /// To see whether inputs wait.
    inputs: Sender<DriverInput>,
}

impl Turns {
    pub(crate) fn new(inputs: Sender<DriverInput>) -> Self {
        Self {
            driver: Mutex::new(None),
            is_taken: AtomicBool::new(true),
            standing_by: Mutex::default(),
            own: OnceLock::new(),
            sleeps_until: AtomicU64::new(0),
            inputs,
        }
    }

    /// Runs the hub on its own thread, to its end.
    pub(crate) fn run(&self, driver: Driver) {
        let own = Place::new();
        let _ = self.own.set(Arc::clone(&own));
        *self.driver.lock() = Some(driver);
        while let Some(deadline) = self.turn(None, None) {
            if !self.inputs.is_empty() {
                continue;
            }
            self.sleeps_until.store(deadline.0, Ordering::SeqCst);
            self.is_taken.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.inputs.is_empty() || !self.try_take() {
                self.sleep(&own, deadline);
            }
            self.sleeps_until.store(0, Ordering::SeqCst);
        }
        // Nobody else takes the duty from now on.
        let driver = self.driver.lock().take();
        if let Some(driver) = driver {
            driver.finish();
        }
    }

    /// Sleeps until this thread, the hub's own, has the duty.
    fn sleep(&self, own: &Place, mut deadline: Timestamp) {
        let mut looks = 0;
        loop {
            if own.told.swap(WAITING, Ordering::Acquire) == ON_DUTY {
                return;
            }
            if looks < LOOKS_BEFORE_SLEEP {
                looks += 1;
                hint::spin_loop();
                continue;
            }
            if deadline == Timestamp::NEVER {
                thread::park();
                continue;
            }
            let left = deadline.since(now());
            if left > Duration::ZERO {
                thread::park_timeout(left);
                continue;
            }
            if self.try_take() {
                return;
            }
            // Whoever has the duty sees from this that no deadline is kept, and hands the duty back.
            self.sleeps_until.store(u64::MAX, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.try_take() {
                return;
            }
            deadline = Timestamp::NEVER;
        }
    }

    fn try_take(&self) -> bool {
        self.is_taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Runs one turn and wakes the host for what it brought. Says when the next one is due; nothing when the hub
    /// ended. Only for who has the duty.
    fn turn(&self, first: Option<DriverInput>, role: Option<Role>) -> Option<Timestamp> {
        let mut driver = self.driver.lock();
        let driver = driver.as_mut()?;
        let calls = driver.turn(first);
        // A thread of the host takes one of them itself.
        let others = calls.saturating_sub(usize::from(role == Some(Role::Host)));
        if others > 0 {
            self.wake_hosts(others);
        }
        (!driver.has_ended()).then(|| driver.next_deadline())
    }

    /// Runs turns on a thread that is not the hub's own as long as inputs wait and the thread has nothing else to do;
    /// then passes the duty on.
    fn turn_elsewhere(&self, mut first: Option<DriverInput>, role: Role, mut is_done: impl FnMut() -> bool) {
        let mut due = None;
        for _ in 0..MAX_TURNS_ELSEWHERE {
            due = self.turn(first.take(), Some(role));
            if due.is_none() || self.inputs.is_empty() || is_done() {
                break;
            }
        }
        let Some(deadline) = due else {
            // The end is the hub's own thread's.
            self.tell_own();
            return;
        };
        self.is_taken.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_more = !self.inputs.is_empty() || deadline.0 < self.sleeps_until.load(Ordering::SeqCst);
        if is_more && self.try_take() {
            self.tell_own();
        }
    }

    fn tell_own(&self) {
        if let Some(own) = self.own.get() {
            own.told.store(ON_DUTY, Ordering::Release);
            own.thread.unpark();
        }
    }

    /// Runs the turn of `input` here if the hub is at rest; else gives it back, to be queued. `role` is what the
    /// thread waits for next, `is_done` whether it needs to wait no more.
    pub(crate) fn try_run(
        &self,
        input: DriverInput,
        role: Role,
        is_done: impl Fn() -> bool,
    ) -> Result<(), DriverInput> {
        if !self.try_take() {
            return Err(input);
        }
        let is_at_rest = |driver: &Driver| driver.is_at_rest_for(&input);
        if self.inputs.is_empty() && self.driver.lock().as_ref().is_some_and(is_at_rest) {
            self.turn_elsewhere(Some(input), role, is_done);
            return Ok(());
        }
        self.is_taken.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // The caller queues its input and calls for a turn: others that came meanwhile are seen with it.
        Err(input)
    }

    /// An input was queued: somebody has to run a turn.
    pub(crate) fn call(&self, weight: Weight) {
        if self.is_taken.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut standing_by = self.standing_by.lock();
        let caller = if weight == Weight::Light { standing_by.callers.pop() } else { None };
        let Some(place) = caller.or_else(|| standing_by.hosts.pop()) else {
            drop(standing_by);
            self.tell_own();
            return;
        };
        place.told.store(ON_DUTY, Ordering::Release);
        drop(standing_by);
        place.thread.unpark();
    }

    /// Calls were queued for the host: wakes as many threads that wait for one.
    pub(crate) fn wake_hosts(&self, calls: usize) {
        let mut standing_by = self.standing_by.lock();
        let others = standing_by.hosts.len().saturating_sub(calls);
        let woken = standing_by.hosts.split_off(others);
        for place in &woken {
            place.told.store(WOKEN, Ordering::Release);
        }
        drop(standing_by);
        for place in woken {
            place.thread.unpark();
        }
    }

    /// Blocks until `take` gives something, at most until `until`; meanwhile the thread stands by for a turn.
    /// `take` is given a waker that makes it be asked again.
    pub(crate) fn stand_by<T>(
        &self,
        role: Role,
        until: Option<Instant>,
        mut take: impl FnMut(&Waker) -> Option<T>,
    ) -> Option<T> {
        let place = PLACE.try_with(Arc::clone).unwrap_or_else(|_| Place::new());
        let waker = Waker::from(Arc::clone(&place));
        loop {
            place.told.store(WAITING, Ordering::Relaxed);
            self.standing_by.lock().of(role).push(Arc::clone(&place));
            let (mut taken, mut is_late) = (None, false);
            while place.told.load(Ordering::Acquire) == WAITING {
                taken = take(&waker);
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                is_late = left == Some(Duration::ZERO);
                if taken.is_some() || is_late {
                    break;
                }
                match left {
                    Some(left) => thread::park_timeout(left),
                    None => thread::park(),
                }
            }
            match (self.leave(role, &place), taken.is_some()) {
                (ON_DUTY, true) => self.tell_own(),
                (ON_DUTY, false) => self.turn_elsewhere(None, role, || {
                    taken = take(&waker);
                    taken.is_some()
                }),
                // It was woken for one call and took one, which may be another.
                (WOKEN, true) => self.wake_hosts(1),
                _ => {}
            }
            let taken = taken.or_else(|| take(&waker));
            if taken.is_some() || is_late {
                return taken;
            }
        }
    }

    /// Stands by no more; what the thread was told until then.
    fn leave(&self, role: Role, place: &Arc<Place>) -> u8 {
        let mut standing_by = self.standing_by.lock();
        let told = place.told.load(Ordering::Acquire);
        if told == WAITING {
            let places = standing_by.of(role);
            if let Some(at) = places.iter().rposition(|other| Arc::ptr_eq(other, place)) {
                places.remove(at);
            }
        }
        told
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("is_taken", &self.is_taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
