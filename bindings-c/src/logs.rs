//! The log: records of the core, told to a callback by a thread of its own.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use process_hub::error::{Error, ErrorKind};
use process_hub::observe::logs::{self, Level, LogSink, Record};

use crate::boundary::{UserData, c_text, enter, lend, ph_drop, refuse};
use crate::current;
use crate::types::{ph_error, ph_log_callback, ph_status};

/// Most records that wait for the callback; more are dropped and counted.
const MAX_WAITING: usize = 4096;
/// Names the log among the "hubs" whose callbacks a thread may be in.
const LOG: u64 = u64::MAX;

#[derive(Default)]
struct Waiting {
    records: VecDeque<Record>,
    dropped: u64,
    is_closed: bool,
}

/// With the locks of the standard library: those of parking_lot share a table, which another thread may hold at a fork.
#[derive(Default)]
struct Log {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Null before the first callback, and again in the child process of a fork. Leaked: one per process.
static PRESENT: AtomicPtr<Log> = AtomicPtr::new(std::ptr::null_mut());
/// The least grave level that is told; 0 for none.
static LEVEL: AtomicI32 = AtomicI32::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn present() -> Option<&'static Log> {
    let log = PRESENT.load(Ordering::Acquire);
    // SAFETY: the pointer is null or came from `Box::leak` below and is never freed.
    unsafe { log.as_ref() }
}

/// In the child process of a fork nobody is told any more. Touches atomics only.
pub(crate) fn after_fork() {
    LEVEL.store(0, Ordering::Relaxed);
    PRESENT.store(std::ptr::null_mut(), Ordering::Release);
}

const fn number(level: Level) -> i32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

struct Sink;

impl LogSink for Sink {
    fn wants(&self, level: Level) -> bool {
        number(level) <= LEVEL.load(Ordering::Relaxed)
    }

    fn take(&self, record: Record) {
        let Some(log) = present() else { return };
        let mut waiting = lock(&log.waiting);
        if waiting.records.len() >= MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.records.push_back(record);
        drop(waiting);
        log.filled.notify_one();
    }
}

struct Callback {
    function: unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char),
    user_data: UserData,
}

impl Callback {
    fn tell(&self, record: &Record) {
        let (target, message) = (c_text(record.target), c_text(&record.message));
        let _inside = current::enter(LOG, None);
        // SAFETY: the program gave this function for this pointer; the texts live for the call.
        unsafe { (self.function)(self.user_data.get(), number(record.level), lend(&target), lend(&message)) };
    }
}

impl Log {
    /// Tells records until the log is closed.
    fn run(&self, callback: &Callback) {
        loop {
            let mut waiting = lock(&self.waiting);
            while waiting.records.is_empty() && !waiting.is_closed {
                waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.records.is_empty() {
                return;
            }
            let records = std::mem::take(&mut waiting.records);
            let dropped = std::mem::take(&mut waiting.dropped);
            drop(waiting);
            for record in &records {
                callback.tell(record);
            }
            if dropped > 0 {
                let message = format!("{dropped} records were dropped: the log callback is too slow");
                callback.tell(&Record { level: Level::WARN, target: "process_hub::log", message });
            }
        }
    }

    /// Ends the thread after what it has to tell.
    fn close(&self) {
        let thread = lock(&self.thread).take();
        lock(&self.waiting).is_closed = true;
        self.filled.notify_all();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        *lock(&self.waiting) = Waiting::default();
    }

    fn open(&'static self, callback: Callback) -> Result<(), Error> {
        let spawned = std::thread::Builder::new().name("process-hub-log".into()).spawn(move || self.run(&callback));
        let thread = spawned.map_err(|error| {
            let message = format!("the thread of the log did not start: {error}");
            Error::new(ErrorKind::Internal, "log_set", message)
        })?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }
}

/// Has `callback` told the library's log: what is at least as grave as `level`, `PH_LOG_ERROR` to `PH_LOG_TRACE`. It takes
/// the place of the one before. With `PH_LOG_OFF` nothing is told and `callback` may be NULL.
///
/// `user_data` is the library's from now on, also on failure: `drop`, unless NULL, is called with it once, after the last
/// call. The callback before is not called any more when this returns. `*err`, unless NULL, is the program's on failure.
/// Any thread; in a log callback it is `PH_ERR_WOULD_DEADLOCK`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_log_set(
    level: i32,
    callback: ph_log_callback,
    user_data: *mut c_void,
    drop: ph_drop,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "log_set";
    let user_data = UserData::new(user_data, drop);
    enter(OPERATION, err, || {
        if !(0..=5).contains(&level) {
            return Err(refuse(OPERATION, format!("`level` must be PH_LOG_OFF (0) to PH_LOG_TRACE (5), not {level}")));
        }
        current::refuse_inside(LOG, OPERATION)?;
        let log = present().unwrap_or_else(|| {
            let fresh: &'static Log = Box::leak(Box::default());
            let mine = std::ptr::from_ref(fresh).cast_mut();
            match PRESENT.compare_exchange(std::ptr::null_mut(), mine, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                // The few bytes of the one that came second stay leaked.
                Err(_) => present().unwrap_or(fresh),
            }
        });
        LEVEL.store(0, Ordering::Relaxed);
        log.close();
        if level == 0 {
            return Ok(());
        }
        let function = callback.ok_or_else(|| refuse(OPERATION, "the callback is NULL"))?;
        log.open(Callback { function, user_data })?;
        static FORWARDS: AtomicBool = AtomicBool::new(false);
        if !FORWARDS.swap(true, Ordering::AcqRel) {
            logs::forward(Sink);
        }
        LEVEL.store(level, Ordering::Relaxed);
        Ok(())
    })
}
