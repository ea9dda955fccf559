//! The log for hosts of other languages: `tracing` events as plain records.

use std::fmt::{Debug, Write};

pub use tracing::Level;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// Where records of other crates are told from ours.
const TARGET: &str = "process_hub";

/// One line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// How grave it is.
    pub level: Level,
    /// The part of the library it comes from, such as `process_hub::hub`.
    pub target: &'static str,
    /// The message, and its fields as `name=value`.
    pub message: String,
}

/// Takes records, on any thread of the library: it must only pass them on.
pub trait LogSink: Send + Sync + 'static {
    /// Whether records of this level are wanted.
    fn wants(&self, level: Level) -> bool;
    /// Takes one record.
    fn take(&self, record: Record);
}

/// Gives the library's records to `sink` from now on. False if the program has a subscriber of its own already, which
/// keeps them.
pub fn forward(sink: impl LogSink) -> bool {
    tracing::subscriber::set_global_default(Bridge(sink)).is_ok()
}

struct Bridge<S>(S);

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

impl<S: LogSink> Subscriber for Bridge<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target().starts_with(TARGET) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with(TARGET) && self.0.wants(*metadata.level())
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let metadata = event.metadata();
        self.0.take(Record { level: *metadata.level(), target: metadata.target(), message: text.0 });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
