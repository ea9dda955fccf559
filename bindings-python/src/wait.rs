//! Waits that end when the user presses Ctrl-C (P-07): in slices, detached from the interpreter.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use process_hub::error::{Error, ErrorKind};
use process_hub::hub::Pending;
use pyo3::prelude::*;

use crate::errors::raise;

/// Longest time without a look for signals.
const SLICE: Duration = Duration::from_millis(100);
/// How much later than its own deadline an answer may come.
const GRACE: Duration = Duration::from_secs(5);

/// Begins an operation and waits for its answer, detached: the hub may run a turn here meanwhile. Ctrl-C leaves the
/// operation running.
pub(crate) fn answer<T: Send>(
    py: Python<'_>,
    begin: impl FnOnce() -> Pending<T> + Send,
    timeout: Duration,
) -> PyResult<Result<T, Error>> {
    let until = Instant::now().checked_add(timeout.saturating_add(GRACE));
    let (mut pending, mut answered) = py.detach(|| {
        let mut pending = begin();
        let answered = pending.wait_timeout(SLICE);
        (pending, answered)
    });
    loop {
        if let Some(answer) = answered {
            return Ok(answer);
        }
        py.check_signals()?;
        if until.is_some_and(|until| Instant::now() > until) {
            return Ok(py.detach(|| pending.wait()));
        }
        answered = py.detach(|| pending.wait_timeout(SLICE));
    }
}

/// Runs work that blocks on a thread of its own, which never attaches. Ctrl-C leaves it running.
pub(crate) fn on_thread<T: Send + 'static>(
    py: Python<'_>,
    operation: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let fault = |message: String| raise(py, &Error::new(ErrorKind::Internal, operation, message));
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name(format!("process-hub-{operation}"))
        .spawn(move || sender.send(work()))
        .map_err(|error| fault(format!("no thread could be started: {error}")))?;
    // A `Receiver` is not `Sync`, so it moves into each wait and back.
    let mut receiver = receiver;
    loop {
        let (waited, back) = py.detach(move || (receiver.recv_timeout(SLICE), receiver));
        receiver = back;
        match waited {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(fault("the thread of the operation panicked".into()));
            }
        }
    }
}
