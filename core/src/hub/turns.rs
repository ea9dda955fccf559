//! Who runs the turns of a hub.
//!
//! The engine belongs to the hub and not to a thread: one turn runs at a time, on the thread that has the *duty*.
//! The hub's own thread begins with it, keeps the deadlines, and takes over what a turn on another thread left. A
//! hub at rest gives the duty to the thread that brings an input and would only wait for its effects, and else to a
//! thread that stands by because it waits for this hub: a caller for its answer, a thread of the host for its next
//! call. Each of these saves waking a thread that would wake another: a call between two nodes takes four
//! hand-overs instead of eight. The threads of the network never run a turn (A7).

use std::hint;
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use super::clock::now;
use super::driver::Driver;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::sync::{self, Mutex, Parker, Sender, Sole};
use crate::time::Timestamp;

/// How often the hub's own thread looks whether it has the duty again before it sleeps: a few microseconds, which is
/// less than waking it takes. A model sleeps at once.
const LOOKS_BEFORE_SLEEP: u32 = if cfg!(all(test, feature = "loom")) { 0 } else { 200 };
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
    parker: Parker,
    told: AtomicU8,
}

impl Place {
    /// Of the calling thread.
    fn new() -> Arc<Self> {
        Arc::new(Self { parker: Parker::new(), told: AtomicU8::new(WAITING) })
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.parker.unpark();
    }
}

sync::thread_local! {
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

/// What takes the turns of a hub: its driver.
pub(crate) trait TakeTurns: Send {
    /// What a turn takes.
    type Input;

    /// Takes `first` and what waits, and carries out what follows. Says how many calls the host got.
    fn turn(&mut self, first: Option<Self::Input>) -> usize;

    /// When a turn is due without an input.
    fn next_deadline(&self) -> Timestamp;

    /// Whether a turn with `input` brings little else.
    fn is_at_rest_for(&self, input: &Self::Input) -> bool;

    /// Whether the hub ended: only [`Self::finish`] is left to do.
    fn has_ended(&self) -> bool;

    /// Ends what belongs to the hub.
    fn finish(self);
}

/// The duty of one hub.
pub(crate) struct Turns<D: TakeTurns = Driver> {
    driver: Sole<Option<D>>,
    /// Somebody has the duty, or is being told that it does. From the beginning the hub's own thread has it.
    is_taken: AtomicBool,
    standing_by: Mutex<StandingBy>,
    own: OnceLock<Arc<Place>>,
    /// When the hub's own thread wakes by itself; zero while it does not sleep.
    sleeps_until: AtomicU64,
    /// To see whether inputs wait.
    inputs: Sender<D::Input>,
}

impl<D: TakeTurns> Turns<D> {
    pub(crate) fn new(inputs: Sender<D::Input>) -> Self {
        Self {
            driver: Sole::new(None),
            is_taken: AtomicBool::new(true),
            standing_by: Mutex::default(),
            own: OnceLock::new(),
            sleeps_until: AtomicU64::new(0),
            inputs,
        }
    }

    /// Runs the hub on its own thread, to its end.
    pub(crate) fn run(&self, driver: D) {
        let own = Place::new();
        let _ = self.own.set(Arc::clone(&own));
        *self.driver.lock() = Some(driver);
        while let Some(deadline) = self.turn(None, None) {
            if !self.inputs.is_empty() {
                continue;
            }
            self.sleeps_until.store(deadline.0, Ordering::Relaxed);
            self.give_back();
            if self.inputs.is_empty() || !self.try_take() {
                self.sleep(&own, deadline);
            }
            self.sleeps_until.store(0, Ordering::Relaxed);
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
            if own.told.load(Ordering::Acquire) == ON_DUTY {
                own.told.store(WAITING, Ordering::Relaxed);
                return;
            }
            if looks < LOOKS_BEFORE_SLEEP {
                looks += 1;
                hint::spin_loop();
                continue;
            }
            if !is_over(deadline) {
                own.parker.park_until(deadline);
                continue;
            }
            if self.try_take() {
                return;
            }
            // Whoever has the duty sees from this that no deadline is kept, and hands the duty back.
            self.sleeps_until.store(u64::MAX, Ordering::Relaxed);
            if self.try_take() {
                return;
            }
            deadline = Timestamp::NEVER;
        }
    }

    /// Takes the duty, unless somebody has it. Whoever has it then sees, once it gave it back, all that this thread did
    /// before: it looks for more to do then, and this thread need not.
    fn try_take(&self) -> bool {
        !self.is_taken.swap(true, Ordering::AcqRel)
    }

    /// Gives the duty back: an exchange, so that it is ordered with each [`Self::try_take`], also of those that failed.
    fn give_back(&self) {
        self.is_taken.swap(false, Ordering::AcqRel);
    }

    /// Runs one turn and wakes the host for what it brought. Says when the next one is due; nothing when the hub
    /// ended. Only for who has the duty.
    fn turn(&self, first: Option<D::Input>, role: Option<Role>) -> Option<Timestamp> {
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
    fn turn_elsewhere(&self, mut first: Option<D::Input>, role: Role, mut is_done: impl FnMut() -> bool) {
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
        self.give_back();
        let is_more = !self.inputs.is_empty() || deadline.0 < self.sleeps_until.load(Ordering::Relaxed);
        if is_more && self.try_take() {
            self.tell_own();
        }
    }

    fn tell_own(&self) {
        if let Some(own) = self.own.get() {
            own.told.store(ON_DUTY, Ordering::Release);
            own.parker.unpark();
        }
    }

    /// Runs the turn of `input` here if the hub is at rest; else gives it back, to be queued. `role` is what the
    /// thread waits for next, `is_done` whether it needs to wait no more.
    pub(crate) fn try_run(&self, input: D::Input, role: Role, is_done: impl Fn() -> bool) -> Result<(), D::Input> {
        if !self.try_take() {
            return Err(input);
        }
        let is_at_rest = |driver: &D| driver.is_at_rest_for(&input);
        if self.inputs.is_empty() && self.driver.lock().as_ref().is_some_and(is_at_rest) {
            self.turn_elsewhere(Some(input), role, is_done);
            return Ok(());
        }
        self.give_back();
        // The caller queues its input and calls for a turn: others that came meanwhile are seen with it.
        Err(input)
    }

    /// An input was queued: somebody has to run a turn.
    pub(crate) fn call(&self, weight: Weight) {
        if !self.try_take() {
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
        place.parker.unpark();
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
            place.parker.unpark();
        }
    }

    /// Blocks until `take` gives something, at most until `until`; meanwhile the thread stands by for a turn.
    /// `take` is given a waker that makes it be asked again.
    pub(crate) fn stand_by<T>(
        &self,
        role: Role,
        until: Timestamp,
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
                is_late = is_over(until);
                if taken.is_some() || is_late {
                    break;
                }
                place.parker.park_until(until);
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

/// Whether this time has come.
fn is_over(deadline: Timestamp) -> bool {
    deadline != Timestamp::NEVER && now() >= deadline
}

impl<D: TakeTurns> std::fmt::Debug for Turns<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("is_taken", &self.is_taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "loom")]
mod models;
#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;
