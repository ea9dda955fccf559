//! The host's end: pull an item, run it in Python, complete it.

use std::time::Duration;

use process_hub::error::ErrorKind;
use process_hub::host::call::{HostAnswer, HostFailure, InstanceEvent};
use process_hub::host::queue::HostItem;
use process_hub::ids::{CallNumber, InstanceId};
use process_hub::payload::Payload;
use process_hub::time::Timestamp;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::{Inner, NativeHub};
use crate::decode::from_json;
use crate::encode::encode;
use crate::errors::invalid_argument;
use crate::pool::{Turn, Worker};
use crate::{items, spec};

/// How long a thread waits in the queue before it asks the pool again.
const PULL: Duration = Duration::from_secs(5);

enum Pulled {
    /// Something came, and waits until it is taken under the interpreter's lock: a lock that others hold for long is
    /// noticed by what waits.
    Ready,
    AddThread,
    Closed,
}

/// A call that was carried out, and what came of it.
type Completion = (CallNumber, HostAnswer);

impl Inner {
    /// Completes the call before and gives the next item for `worker`. Detaches from the interpreter only when it has
    /// to wait: then the hub may run a turn here.
    fn next<'py>(&self, py: Python<'py>, worker: Worker, done: Option<Completion>) -> PyResult<Bound<'py, PyTuple>> {
        let may_pull = self.pool.resume(worker);
        let at_once = match may_pull {
            true => self.queue.next_call(Duration::ZERO),
            false => None,
        };
        if let Some(item) = at_once {
            if let Some((number, answer)) = done {
                self.queue.complete(number, answer);
            }
            return self.begin(py, worker, item);
        }
        let pulled = py.detach(|| {
            match done {
                Some((number, answer)) if may_pull => {
                    self.queue.complete_last(number, answer);
                    if !self.queue.is_empty() {
                        return Pulled::Ready;
                    }
                }
                Some((number, answer)) => self.queue.complete(number, answer),
                None => {}
            }
            self.pull(worker)
        });
        match pulled {
            Pulled::Ready => match self.queue.next_call(Duration::ZERO) {
                Some(item) => self.begin(py, worker, item),
                None => items::nothing(py),
            },
            Pulled::AddThread => items::add_thread(py),
            Pulled::Closed => items::closed(py),
        }
    }

    fn pull(&self, worker: Worker) -> Pulled {
        loop {
            match self.pool.wait(worker) {
                Turn::AddThread => return Pulled::AddThread,
                Turn::Closed => return Pulled::Closed,
                Turn::Pull => {
                    if self.queue.await_call(PULL) {
                        return Pulled::Ready;
                    }
                }
            }
        }
    }

    fn begin<'py>(&self, py: Python<'py>, worker: Worker, item: HostItem) -> PyResult<Bound<'py, PyTuple>> {
        let deadline = match &item {
            HostItem::Call(call) => call.deadline,
            HostItem::Decide(decision) => decision.deadline,
            HostItem::Completed(..) => Timestamp::NEVER,
            // Hooks are pulled by a thread of their own, and nobody asks for tasks.
            HostItem::Hook(_) | HostItem::Task(_) => return items::nothing(py),
            HostItem::Closed => {
                self.pool.close();
                return items::closed(py);
            }
        };
        if self.pool.begin(worker, deadline) {
            self.held.lock().insert(worker, item);
            return items::add_thread(py);
        }
        self.convert(py, item)
    }

    fn convert<'py>(&self, py: Python<'py>, item: HostItem) -> PyResult<Bound<'py, PyTuple>> {
        let (converted, number) = match item {
            HostItem::Call(call) => (items::call(py, &call), call.number),
            HostItem::Decide(decision) => (items::decision(py, &decision), decision.number),
            HostItem::Completed(request, answer) => {
                let refused = self.refused.lock().remove(&request).unwrap_or_default();
                return items::completed(py, request, answer, refused);
            }
            HostItem::Hook(_) | HostItem::Task(_) | HostItem::Closed => return items::nothing(py),
        };
        converted.or_else(|error| {
            let failure = HostFailure::new(format!("the call has no Python form: {error}"));
            self.queue.complete(number, HostAnswer::Failed(failure));
            items::nothing(py)
        })
    }
}

/// The answer with this value. A value that cannot be encoded fails the call.
fn answer(value: &Bound<'_, PyAny>) -> HostAnswer {
    match encode(value) {
        Ok(payload) => HostAnswer::Done(Some(payload)),
        Err(fault) => HostAnswer::Failed(HostFailure {
            kind: Some(ErrorKind::NotEncodable),
            ..HostFailure::new(fault.into_error("complete").message)
        }),
    }
}

fn failure(message: String, trace: Option<String>, kind: Option<&str>) -> HostAnswer {
    let kind = kind.and_then(|name| {
        let mut all = ErrorKind::ALL.iter().copied();
        all.find(|kind| kind.name() == name)
    });
    HostAnswer::Failed(HostFailure { message, trace, kind })
}

#[pymethods]
impl NativeHub {
    /// Counts a thread that is about to start and numbers it.
    fn add_thread(&self, py: Python<'_>) -> PyResult<Worker> {
        Ok(self.inner(py, "add_thread")?.pool.add_thread())
    }

    /// Takes back [`Self::add_thread`]: the thread could not start.
    fn remove_thread(&self, py: Python<'_>) -> PyResult<()> {
        self.inner(py, "remove_thread")?.pool.remove_thread();
        Ok(())
    }

    /// The next item for a thread, waiting for it: first of all the one that was held until a thread was added.
    fn next_item<'py>(&self, py: Python<'py>, worker: Worker) -> PyResult<Bound<'py, PyTuple>> {
        let inner = self.inner(py, "next_item")?;
        let held = inner.held.lock().remove(&worker);
        match held {
            Some(item) => inner.convert(py, item),
            None => inner.next(py, worker, None),
        }
    }

    /// Completes a call with a value, then pulls. A value that cannot be encoded fails the call.
    fn complete_and_next<'py>(
        &self,
        py: Python<'py>,
        worker: Worker,
        number: u64,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.inner(py, "complete")?.next(py, worker, Some((CallNumber(number), answer(value))))
    }

    /// Completes a call without a value, then pulls.
    fn done_and_next<'py>(&self, py: Python<'py>, worker: Worker, number: u64) -> PyResult<Bound<'py, PyTuple>> {
        self.inner(py, "complete")?.next(py, worker, Some((CallNumber(number), HostAnswer::Done(None))))
    }

    /// Completes a call as failed, then pulls.
    fn fail_and_next<'py>(
        &self,
        py: Python<'py>,
        worker: Worker,
        number: u64,
        message: String,
        trace: Option<String>,
        kind: Option<&str>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.inner(py, "complete")?.next(py, worker, Some((CallNumber(number), failure(message, trace, kind))))
    }

    /// Completes a call with a value. A value that cannot be encoded fails the call.
    fn complete(&self, py: Python<'_>, number: u64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner(py, "complete")?.queue.complete(CallNumber(number), answer(value));
        Ok(())
    }

    /// Completes a call without a value.
    fn done(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        self.inner(py, "complete")?.queue.complete(CallNumber(number), HostAnswer::Done(None));
        Ok(())
    }

    /// Completes `ALTER_SPEC` with the document of the spec.
    fn complete_json(&self, py: Python<'_>, number: u64, document: String) -> PyResult<()> {
        let answer: Payload = spec::altered(document);
        self.inner(py, "complete")?.queue.complete(CallNumber(number), HostAnswer::Done(Some(answer)));
        Ok(())
    }

    /// Completes a call as failed.
    fn fail(
        &self,
        py: Python<'_>,
        number: u64,
        message: String,
        trace: Option<String>,
        kind: Option<&str>,
    ) -> PyResult<()> {
        self.inner(py, "complete")?.queue.complete(CallNumber(number), failure(message, trace, kind));
        Ok(())
    }

    /// The thread's callback waits for another child. Says whether another thread must be started.
    fn begin_wait(&self, py: Python<'_>, worker: Worker) -> PyResult<bool> {
        Ok(self.inner(py, "begin_wait")?.pool.begin_wait(worker))
    }

    /// The thread's callback goes on.
    fn end_wait(&self, py: Python<'_>, worker: Worker) -> PyResult<()> {
        self.inner(py, "end_wait")?.pool.end_wait(worker);
        Ok(())
    }

    /// Ends the threads that pull.
    fn close_threads(&self, py: Python<'_>) -> PyResult<()> {
        self.inner(py, "close_threads")?.pool.close();
        Ok(())
    }

    /// The next hook event, `(name, payload)`, or `None` after the timeout.
    fn next_hook<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Option<(&'static str, Bound<'py, PyAny>)>> {
        let queue = &self.inner(py, "next_hook")?.queue;
        let Some(event) = py.detach(|| queue.next_hook(Duration::from_millis(timeout_ms))) else {
            return Ok(None);
        };
        Ok(Some((event.name.name(), from_json(py, &event.payload)?)))
    }

    /// Tells what an instance does of its own accord: `exit`, `stop_self`, `retention_handled`.
    fn instance_event(&self, py: Python<'_>, instance: u64, what: &str, reason: Option<String>) -> PyResult<()> {
        let event = match what {
            "exit" => InstanceEvent::Exit(reason),
            "stop_self" => InstanceEvent::StopSelf,
            "retention_handled" => InstanceEvent::RetentionHandled,
            other => {
                let message = format!("no instance event is named {other}");
                return Err(invalid_argument(py, "instance_event", message));
            }
        };
        self.inner(py, what)?.queue.instance_event(InstanceId(instance), event);
        Ok(())
    }
}
