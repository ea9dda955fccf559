//! What belongs to one JavaScript environment: its doorbell, its open hubs and nodes, and the work it waits for.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use parking_lot::Mutex;
use process_hub::config::HubConfig;
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::{Hub, Node};
use process_hub::observe::HookName;

use crate::cell::Cell;
use crate::errors::raise;
use crate::logs::Records;

/// How long an environment that ends waits for its hubs and nodes to leave, altogether.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// Weak: it keeps no loop alive. One place: a second ring before the loop woke says nothing new.
type Bell = ThreadsafeFunction<(), (), (), Status, false, true, 1>;

/// What must have ended before the environment is gone.
pub(crate) enum Opened {
    Hub(Hub),
    Node(Node),
}

/// An answer of work on a thread of its own: its number and what it gives.
type Answer = (u32, Result<Cell, Error>);

#[derive(Default)]
struct Open {
    is_closing: bool,
    things: BTreeMap<u32, Opened>,
}

/// The parts that threads of the core may hold. Nothing in here enters JavaScript.
pub(crate) struct Shared {
    bell: Bell,
    next: AtomicU32,
    answers: Mutex<VecDeque<Answer>>,
    open: Mutex<Open>,
    pub(crate) records: Records,
}

impl Shared {
    /// Wakes the event loop. A full queue means that it was woken already; a closing one, that it ends.
    pub(crate) fn ring(&self) {
        let _ = self.bell.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }

    /// Runs work that blocks on a thread of its own; the answer comes out of [`Environment::answers`] under the
    /// number returned.
    pub(crate) fn begin(
        self: &Arc<Self>,
        operation: &'static str,
        work: impl FnOnce(u32) -> Result<Cell, Error> + Send + 'static,
    ) -> napi::Result<u32> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        let body = move || {
            let panicked = |_| Err(Error::new(ErrorKind::Panic, operation, "the operation panicked"));
            let answer = catch_unwind(AssertUnwindSafe(|| work(number))).unwrap_or_else(panicked);
            shared.answers.lock().push_back((number, answer));
            shared.ring();
        };
        let spawned = std::thread::Builder::new().name(format!("process-hub-{operation}")).spawn(body);
        spawned.map(|_| number).map_err(|error| {
            let message = format!("no thread could be started: {error}");
            raise(&Error::new(ErrorKind::Internal, operation, message))
        })
    }

    /// Notes what was opened. If the environment ended meanwhile, it is closed here.
    pub(crate) fn opened(&self, number: u32, thing: Opened) {
        let mut open = self.open.lock();
        if open.is_closing {
            drop(open);
            end([thing].iter());
            return;
        }
        open.things.insert(number, thing);
    }

    /// Notes that what was opened under this number has ended.
    pub(crate) fn closed(&self, number: u32) {
        self.open.lock().things.remove(&number);
    }

    /// The environment ends: JavaScript runs no more, so the hubs leave without it, and their threads end before
    /// this returns, as far as the time allows.
    fn close(&self) {
        let things = {
            let mut open = self.open.lock();
            open.is_closing = true;
            std::mem::take(&mut open.things)
        };
        end(things.values());
    }
}

/// Ends hubs, then nodes.
fn end<'a>(things: impl Iterator<Item = &'a Opened> + Clone) {
    let until = Instant::now() + LEAVE_TIME;
    let left = || until.saturating_duration_since(Instant::now());
    let hubs = things.clone().filter_map(|thing| match thing {
        Opened::Hub(hub) => Some(hub),
        Opened::Node(_) => None,
    });
    // All are told before the first is waited for.
    hubs.clone().for_each(|hub| {
        hub.halt(Duration::ZERO);
    });
    hubs.for_each(|hub| {
        hub.halt(left());
    });
    for thing in things {
        match thing {
            Opened::Node(node) => {
                node.stop(left());
            }
            Opened::Hub(_) => {}
        }
    }
}

/// One per JavaScript environment, made when the package is loaded.
#[napi]
pub struct Environment {
    pub(crate) shared: Arc<Shared>,
}

#[napi]
impl Environment {
    /// `bell` is called on the event loop when something waits.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, bell: Function<'_, (), ()>) -> napi::Result<Self> {
        let bell =
            bell.build_threadsafe_function().callee_handled::<false>().weak::<true>().max_queue_size::<1>().build()?;
        let shared = Arc::new(Shared {
            bell,
            next: AtomicU32::new(1),
            answers: Mutex::default(),
            open: Mutex::default(),
            records: Records::default(),
        });
        env.add_env_cleanup_hook(Arc::clone(&shared), |shared| {
            // Unwinding out of the hook would abort the process.
            let _ = catch_unwind(AssertUnwindSafe(|| shared.close()));
        })?;
        Ok(Self { shared })
    }

    /// The answers that have come: number, error or null, value; three cells each.
    #[napi(catch_unwind)]
    pub fn answers(&self) -> Vec<Cell> {
        let answers = std::mem::take(&mut *self.shared.answers.lock());
        answers
            .into_iter()
            .flat_map(|(number, answer)| {
                let number = Cell::number(number.into());
                match answer {
                    Ok(value) => [number, Cell::Null, value],
                    Err(error) => [number, Cell::text(error.to_json().to_string()), Cell::Null],
                }
            })
            .collect()
    }

    /// The process exits, or this thread: hubs and nodes that are still open leave, within bounds.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.shared.close();
    }

    /// Begins to record what the core logs, from this level on; zero ends it.
    #[napi(catch_unwind)]
    pub fn set_log_level(&self, level: u8) {
        crate::logs::set_level(&self.shared, level);
    }

    /// The records that have come: level, target, message, Unix milliseconds; four cells each.
    #[napi(catch_unwind)]
    pub fn records(&self) -> Vec<Cell> {
        self.shared.records.take()
    }

    /// The tables of the core as JSON, `{errors: [[kind, number, meaning]], hooks: [name]}`, for tests.
    #[napi(catch_unwind)]
    pub fn tables(&self) -> String {
        let errors: Vec<_> = ErrorKind::ALL.iter().map(|kind| (kind.name(), kind.number(), kind.meaning())).collect();
        let hooks: Vec<_> = HookName::ALL.iter().map(|hook| hook.name()).collect();
        serde_json::json!({ "errors": errors, "hooks": hooks }).to_string()
    }

    /// Reads a configuration document without starting anything, for tests.
    #[napi(catch_unwind)]
    pub fn check_config(&self, document: String) -> napi::Result<()> {
        HubConfig::from_text(&document).map(drop).map_err(|error| raise(&error))
    }
}
