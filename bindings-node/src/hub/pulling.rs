//! The host's end: JavaScript takes items in batches and completes calls in batches.

use napi_derive::napi;
use process_hub::error::ErrorKind;
use process_hub::host::call::{HostAnswer, HostFailure, InstanceEvent};
use process_hub::ids::{CallNumber, InstanceId};

use super::{Inner, NativeHub};
use crate::cell::Cell;
use crate::errors::{invalid_argument, raise};
use crate::items;

fn text(cell: Option<Cell>) -> Option<String> {
    match cell {
        Some(Cell::Text(text)) => Some(text),
        Some(Cell::Null | Cell::Number(_) | Cell::Payload(_) | Cell::List(_)) | None => None,
    }
}

/// A failure is the list `[null, message, trace, kind]`; anything else is a payload.
fn answer(content: Cell) -> HostAnswer {
    match content {
        Cell::List(parts) if matches!(parts.first(), Some(Cell::Null)) => {
            let mut parts = parts.into_iter().skip(1);
            let message = text(parts.next()).unwrap_or_else(|| "it failed without a message".into());
            let trace = text(parts.next());
            let kind =
                text(parts.next()).and_then(|name| ErrorKind::ALL.iter().copied().find(|kind| kind.name() == name));
            HostAnswer::Failed(HostFailure { message, trace, kind })
        }
        content @ (Cell::Null | Cell::Number(_) | Cell::Text(_) | Cell::Payload(_) | Cell::List(_)) => {
            match content.into_payload() {
                Ok(payload) => HostAnswer::Done(payload),
                Err(message) => HostAnswer::Failed(HostFailure::new(message)),
            }
        }
    }
}

#[napi]
impl NativeHub {
    /// Completes calls, a flat array of number and content; then takes what waits, at most `max` items, as a flat
    /// array of [`items::WIDTH`] cells each. When there are fewer, the doorbell rings at the next one.
    #[napi(catch_unwind)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number this hub gave")]
    pub fn turn(&self, completions: Vec<Cell>, max: u32) -> napi::Result<Vec<Cell>> {
        let Inner { queue, bell, .. } = self.inner("turn")?;
        let mut completions = completions.into_iter();
        while let (Some(Cell::Number(number)), Some(content)) = (completions.next(), completions.next()) {
            queue.complete(CallNumber(number as u64), answer(content));
        }
        if max == 0 {
            return Ok(Vec::new());
        }
        let batch = queue.next_batch(max as usize, || bell.arm());
        let mut cells = Vec::with_capacity(batch.len() * items::WIDTH);
        for item in batch {
            cells.extend(items::cells(item));
        }
        Ok(cells)
    }

    /// Tells what an instance does of its own accord: `exit`, `stop_self`, `retention_handled`.
    #[napi(catch_unwind)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number this hub gave")]
    pub fn instance_event(&self, instance: f64, what: String, reason: Option<String>) -> napi::Result<()> {
        let event = match what.as_str() {
            "exit" => InstanceEvent::Exit(reason),
            "stop_self" => InstanceEvent::StopSelf,
            "retention_handled" => InstanceEvent::RetentionHandled,
            other => {
                let message = format!("no instance event is named {other}");
                return Err(raise(&invalid_argument("instance_event", message)));
            }
        };
        self.inner(&what)?.queue.instance_event(InstanceId(instance as u64), event);
        Ok(())
    }
}
