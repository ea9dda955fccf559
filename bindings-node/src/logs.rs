//! `tracing` events of the core into a bounded buffer of each environment that asked for them.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, Once};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::cell::Cell;
use crate::environment::Shared;

/// Most records that wait for JavaScript; more are dropped and counted.
const MAX_WAITING_RECORDS: usize = 4_096;
/// Where records of other crates are told from ours.
const TARGET: &str = "process_hub";
/// The level of a record that says how many were dropped.
const WARNING: u8 = 4;

#[derive(Clone)]
struct Record {
    level: u8,
    target: &'static str,
    message: String,
    unix_ms: u64,
}

/// The records one environment has not taken yet.
#[derive(Default)]
pub(crate) struct Records {
    /// The lowest level that is recorded; zero for none.
    level: AtomicU8,
    waiting: Mutex<(VecDeque<Record>, u64)>,
}

impl Records {
    pub(crate) fn take(&self) -> Vec<Cell> {
        let (mut records, dropped) = std::mem::take(&mut *self.waiting.lock());
        if dropped > 0 {
            records.push_back(Record {
                level: WARNING,
                target: "process_hub::logs",
                message: format!("{dropped} records were dropped"),
                unix_ms: process_hub::hub::wall_ms(),
            });
        }
        let cells = |record: Record| {
            let number = Cell::Number(record.level.into());
            [number, Cell::text(record.target), Cell::Text(record.message), Cell::number(record.unix_ms)]
        };
        records.into_iter().flat_map(cells).collect()
    }

    /// Says whether the record is the first that waits.
    fn push(&self, record: &Record) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.0.len() >= MAX_WAITING_RECORDS {
            waiting.1 += 1;
            return false;
        }
        waiting.0.push_back(record.clone());
        waiting.0.len() == 1
    }
}

/// The environments that ever asked; those that ended are forgotten at the next change.
static LISTENERS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();

/// From 1, trace, to 5, error.
const fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 5,
        Level::WARN => WARNING,
        Level::INFO => 3,
        Level::DEBUG => 2,
        Level::TRACE => 1,
    }
}

/// Sets the lowest level an environment gets. A `tracing` subscriber that the process has already stays, and gets
/// the records.
pub(crate) fn set_level(shared: &Arc<Shared>, level: u8) {
    shared.records.level.store(level, Ordering::Relaxed);
    let mut listeners = LISTENERS.lock();
    listeners.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(shared)));
    if level > 0 {
        listeners.push(Arc::downgrade(shared));
    }
    drop(listeners);
    INSTALL.call_once(|| drop(tracing::subscriber::set_global_default(Bridge)));
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            // Writing into a String does not fail.
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

struct Bridge;

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target().starts_with(TARGET) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with(TARGET)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let level = number(metadata.level());
        let wants = |shared: &Arc<Shared>| (1..=level).contains(&shared.records.level.load(Ordering::Relaxed));
        let listeners: Vec<Arc<Shared>> = LISTENERS.lock().iter().filter_map(Weak::upgrade).filter(wants).collect();
        if listeners.is_empty() {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let record = Record { level, target: metadata.target(), message: text.0, unix_ms: process_hub::hub::wall_ms() };
        for shared in listeners {
            if shared.records.push(&record) {
                shared.ring();
            }
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
