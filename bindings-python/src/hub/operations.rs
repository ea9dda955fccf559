//! Operations: each becomes one command of the core. All but `call`, `send` and `stop` return the number under
//! which the answer comes out of the queue.

use std::sync::Arc;
use std::time::Duration;

use process_hub::engine::{Command, PlanChange, StartOptions};
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::SpecList;
use process_hub::ids::{ChildId, RequestId};
use process_hub::observe::HookName;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::{Inner, KindRow, NativeHub, kind_infos};
use crate::decode::decode;
use crate::encode::encode_json;
use crate::errors::raise;
use crate::results::{NativeStartResult, document};
use crate::{message, spec, wait};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn refuse(operation: &str, message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, operation, message)
}

fn start_options(options: &Bound<'_, PyDict>) -> Result<StartOptions, Error> {
    const OPERATION: &str = "start_children";
    let text = encode_json(options).map_err(|fault| fault.into_error(OPERATION))?;
    let document = serde_json::from_slice(&text).map_err(|error| refuse(OPERATION, error.to_string()))?;
    StartOptions::from_json(&document)
}

impl Inner {
    /// Sends a command whose answer comes out of the queue under the number returned.
    fn request(&self, py: Python<'_>, command: Command) -> PyResult<u64> {
        let request = self.hub.request_notify(command);
        request.map(|request| request.0).map_err(|error| raise(py, &error))
    }

    /// Starts what is a spec; what is none is refused by itself and refuses no other, unless all or none are asked
    /// for. Returns a number, or the result if nothing was started.
    fn start<'py>(
        &self,
        py: Python<'py>,
        specs: &Bound<'py, PyList>,
        options: StartOptions,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut list = SpecList::default();
        for value in specs.iter() {
            match spec::read(&value) {
                Ok(spec) => list.specs.push(Arc::new(spec)),
                Err(error) => list.refused.push(error),
            }
        }
        if let Some(result) = list.refusal(&options) {
            return Ok(Bound::new(py, NativeStartResult::new(result, list.refused))?.into_any());
        }
        // Held until the refusals are noted, or the answer could come first.
        let mut noted = self.refused.lock();
        let command = Command::Start(list.specs, options);
        let request = self.hub.request_notify(command).map_err(|error| raise(py, &error))?;
        if !list.refused.is_empty() {
            noted.insert(request, list.refused);
        }
        Ok(request.0.into_pyobject(py)?.into_any())
    }
}

fn child_ids(ids: Vec<String>) -> Result<Vec<ChildId>, Error> {
    ids.into_iter().map(ChildId::new).collect()
}

#[pymethods]
impl NativeHub {
    fn start_children<'py>(
        &self,
        py: Python<'py>,
        specs: &Bound<'py, PyList>,
        options: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py, "start_children")?;
        let options = start_options(options).map_err(|error| raise(py, &error))?;
        inner.start(py, specs, options)
    }

    fn stop_children(&self, py: Python<'_>, ids: Vec<String>, timeout_ms: u64) -> PyResult<u64> {
        let inner = self.inner(py, "stop_children")?;
        let ids = child_ids(ids).map_err(|error| raise(py, &error))?;
        inner.request(py, Command::Stop(ids, ms(timeout_ms)))
    }

    /// Sends a message and waits for the reply.
    fn call<'py>(
        &self,
        py: Python<'py>,
        child_id: &str,
        message: &Bound<'py, PyAny>,
        timeout_ms: u64,
        node: Option<&str>,
        chain: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py, "call")?;
        let command = message::recipient(node, false)
            .and_then(|to| message::command("call", child_id, message, timeout_ms, to, chain))
            .map_err(|error| raise(py, &error))?;
        match wait::answer(py, || inner.hub.call(command), ms(timeout_ms))? {
            Ok(reply) => decode(py, &reply),
            Err(error) => Err(raise(py, &error)),
        }
    }

    /// Sends a message; the reply comes out of the queue.
    fn begin_call(
        &self,
        py: Python<'_>,
        child_id: &str,
        message: &Bound<'_, PyAny>,
        timeout_ms: u64,
        node: Option<&str>,
        chain: Option<Vec<String>>,
    ) -> PyResult<u64> {
        let inner = self.inner(py, "call")?;
        let command = message::recipient(node, false)
            .and_then(|to| message::command("call", child_id, message, timeout_ms, to, chain))
            .map_err(|error| raise(py, &error))?;
        inner.request(py, Command::Call(command))
    }

    /// Sends a message and waits until it is on its way.
    #[allow(clippy::too_many_arguments, reason = "the options of the operation")]
    fn send(
        &self,
        py: Python<'_>,
        child_id: &str,
        message: &Bound<'_, PyAny>,
        timeout_ms: u64,
        node: Option<&str>,
        all: bool,
        chain: Option<Vec<String>>,
    ) -> PyResult<()> {
        let inner = self.inner(py, "send")?;
        let command = message::recipient(node, all)
            .and_then(|to| message::command("send", child_id, message, timeout_ms, to, chain))
            .map_err(|error| raise(py, &error))?;
        wait::answer(py, || inner.hub.send(command), ms(timeout_ms))?.map_err(|error| raise(py, &error))
    }

    /// Sends a message; that it is on its way comes out of the queue.
    #[allow(clippy::too_many_arguments, reason = "the options of the operation")]
    fn begin_send(
        &self,
        py: Python<'_>,
        child_id: &str,
        message: &Bound<'_, PyAny>,
        timeout_ms: u64,
        node: Option<&str>,
        all: bool,
        chain: Option<Vec<String>>,
    ) -> PyResult<u64> {
        let inner = self.inner(py, "send")?;
        let command = message::recipient(node, all)
            .and_then(|to| message::command("send", child_id, message, timeout_ms, to, chain))
            .map_err(|error| raise(py, &error))?;
        inner.request(py, Command::Send(command))
    }

    fn which_children(&self, py: Python<'_>, scope: &str, timeout_ms: u64) -> PyResult<u64> {
        let inner = self.inner(py, "which_children")?;
        if scope != "global" {
            let message = format!("the scope must be local or global, not {scope}");
            return Err(raise(py, &refuse("which_children", message)));
        }
        inner.request(py, Command::WhichChildren(ms(timeout_ms)))
    }

    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<u64> {
        self.inner(py, "drain")?.request(py, Command::Drain(ms(timeout_ms)))
    }

    fn r#where(&self, py: Python<'_>, child_id: &str) -> PyResult<u64> {
        let inner = self.inner(py, "where")?;
        let id = ChildId::new(child_id).map_err(|error| raise(py, &error))?;
        inner.request(py, Command::Where(id))
    }

    fn plan(&self, py: Python<'_>, change: &Bound<'_, PyDict>) -> PyResult<u64> {
        let inner = self.inner(py, "plan")?;
        let change = encode_json(change)
            .map_err(|fault| fault.into_error("plan"))
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| refuse("plan", error.to_string())))
            .and_then(|change| PlanChange::from_json(&change))
            .map_err(|error| raise(py, &error))?;
        inner.request(py, Command::Plan(change))
    }

    fn sync(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<u64> {
        self.inner(py, "sync")?.request(py, Command::Sync(ms(timeout_ms)))
    }

    fn acknowledge_loss(&self, py: Python<'_>, child_id: &str) -> PyResult<u64> {
        let inner = self.inner(py, "acknowledge_loss")?;
        let id = ChildId::new(child_id).map_err(|error| raise(py, &error))?;
        inner.request(py, Command::AcknowledgeLoss(id))
    }

    fn reset_cluster_size(&self, py: Python<'_>, size: i64) -> PyResult<u64> {
        let inner = self.inner(py, "reset_cluster_size")?;
        let command = Command::reset_cluster_size(size).map_err(|error| raise(py, &error))?;
        inner.request(py, command)
    }

    fn register(&self, py: Python<'_>, kinds: Vec<KindRow>) -> PyResult<u64> {
        let inner = self.inner(py, "register")?;
        let kinds = kind_infos(kinds).map_err(|error| raise(py, &error))?;
        inner.request(py, Command::Register(kinds))
    }

    /// Which hooks the queue shall deliver.
    fn subscribe_hooks(&self, py: Python<'_>, names: Vec<String>) -> PyResult<()> {
        let inner = self.inner(py, "on")?;
        let mut bits = 0;
        for name in names {
            let hook = HookName::from_name(&name)
                .ok_or_else(|| raise(py, &refuse("on", format!("there is no hook named {name}"))))?;
            bits |= hook.bit();
        }
        inner.hub.subscribe_hooks(bits);
        Ok(())
    }

    /// Says that nobody waits for a request any more.
    fn cancel(&self, py: Python<'_>, request: u64) -> PyResult<()> {
        self.inner(py, "cancel")?.hub.cancel(RequestId(request));
        Ok(())
    }

    /// Drains, leaves and stops; waits for it.
    fn stop<'py>(&self, py: Python<'py>, timeout_ms: Option<u64>) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py, "stop")?;
        let timeout = timeout_ms.map_or(inner.shutdown_timeout, ms);
        let hub = inner.hub.clone();
        let report = wait::on_thread(py, "stop", move || hub.stop(timeout))?.map_err(|error| raise(py, &error))?;
        document(py, &report)
    }

    /// Stops in the background, for a hub that was forgotten. Never blocks.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner(py, "stop")?;
        let _ = inner.hub.request_notify(Command::Shutdown(inner.shutdown_timeout));
        Ok(())
    }
}
