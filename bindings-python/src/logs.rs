//! `tracing` events of the core into a bounded buffer, which a Python thread empties into `logging` (P-12).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use process_hub::observe::logs::{self, Level, LogSink};
use pyo3::prelude::*;

/// Most records that wait for Python; more are dropped and counted.
const MAX_WAITING_RECORDS: usize = 4_096;

/// Level (of Python's `logging`), target, message, seconds since 1970.
type Record = (u8, String, String, f64);

#[derive(Default)]
struct Waiting {
    records: VecDeque<Record>,
    dropped: u64,
    is_closed: bool,
}

/// With the locks of the standard library: those of parking_lot share a table, which another thread may have
/// locked at a fork.
#[derive(Default)]
struct Buffer {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Null until the first hub. Buffers are leaked, one per forked process: another thread may hold the lock of the
/// old one at the fork.
static BUFFER: AtomicPtr<Buffer> = AtomicPtr::new(std::ptr::null_mut());
/// The lowest Python level that is recorded.
static LEVEL: AtomicU8 = AtomicU8::new(30);

fn buffer() -> Option<&'static Buffer> {
    let pointer = BUFFER.load(Ordering::Acquire);
    // SAFETY: the pointer is null or came from `Box::leak` and is never freed.
    unsafe { pointer.as_ref() }
}

/// Gives a forked process a buffer of its own, if the parent had one.
pub(crate) fn start_afresh() {
    if !BUFFER.load(Ordering::Acquire).is_null() {
        BUFFER.store(Box::leak(Box::default()), Ordering::Release);
    }
}

const fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct Sink;

impl LogSink for Sink {
    fn wants(&self, level: Level) -> bool {
        python_level(level) >= LEVEL.load(Ordering::Relaxed)
    }

    fn take(&self, record: logs::Record) {
        let Some(buffer) = buffer() else { return };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let target = record.target.replace("::", ".");
        let mut waiting = buffer.lock();
        if waiting.records.len() >= MAX_WAITING_RECORDS {
            waiting.dropped += 1;
            return;
        }
        waiting.records.push_back((python_level(record.level), target, record.message, seconds));
        drop(waiting);
        buffer.filled.notify_one();
    }
}

/// Begins to record, once per process. A subscriber the program has set already stays, and gets the records.
#[pyfunction]
pub(crate) fn open_logs() {
    if BUFFER.load(Ordering::Acquire).is_null() {
        BUFFER.store(Box::leak(Box::default()), Ordering::Release);
        let _ = logs::forward(Sink);
    }
}

/// Sets the lowest level that is recorded, as a number of Python's `logging`.
#[pyfunction]
pub(crate) fn set_log_level(level: u8) {
    LEVEL.store(level, Ordering::Relaxed);
}

/// Waits for records: `(records, dropped since the last call)`, or `None` once the logs are closed.
#[pyfunction]
pub(crate) fn next_logs(py: Python<'_>, timeout_ms: u64) -> Option<(Vec<Record>, u64)> {
    let buffer = buffer()?;
    py.detach(|| {
        let mut waiting = buffer.lock();
        if waiting.records.is_empty() && !waiting.is_closed {
            let waited = buffer.filled.wait_timeout(waiting, Duration::from_millis(timeout_ms));
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.records.is_empty() && waiting.is_closed {
            return None;
        }
        let records = std::mem::take(&mut waiting.records).into();
        Some((records, std::mem::take(&mut waiting.dropped)))
    })
}

/// Ends [`next_logs`] after what is recorded already.
#[pyfunction]
pub(crate) fn close_logs(py: Python<'_>) {
    if let Some(buffer) = buffer() {
        py.detach(|| buffer.lock().is_closed = true);
        buffer.filled.notify_all();
    }
}
