//! `tracing` events of the core into a bounded buffer, which a Python thread empties into `logging` (P-12).

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Most records that wait for Python; more are dropped and counted.
const MAX_WAITING_RECORDS: usize = 4_096;
/// Where records of other crates are told from ours.
const TARGET: &str = "process_hub";

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

const fn python_level(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a String cannot fail.
        let _ = if field.name() == "message" {
            let message = format!("{value:?}");
            self.0.insert_str(0, &message);
            Ok(())
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

struct Bridge;

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target().starts_with(TARGET) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with(TARGET)
            && python_level(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(buffer) = buffer() else { return };
        let mut text = Text(String::new());
        event.record(&mut text);
        let metadata = event.metadata();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let record = (python_level(metadata.level()), metadata.target().replace("::", "."), text.0, seconds);
        let mut waiting = buffer.lock();
        if waiting.records.len() >= MAX_WAITING_RECORDS {
            waiting.dropped += 1;
            return;
        }
        waiting.records.push_back(record);
        drop(waiting);
        buffer.filled.notify_one();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Begins to record, once per process. A subscriber the program has set already stays, and gets the records.
#[pyfunction]
pub(crate) fn open_logs() {
    if BUFFER.load(Ordering::Acquire).is_null() {
        BUFFER.store(Box::leak(Box::default()), Ordering::Release);
        let _ = tracing::subscriber::set_global_default(Bridge);
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
