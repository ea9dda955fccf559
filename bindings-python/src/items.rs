//! Items of the host queue as tuples that begin with a number; `process_hub/_items.py` names the numbers.

use std::time::Duration;

use process_hub::error::Error;
use process_hub::host::call::{HandoverTarget, HostCall, HostDecision, HostRequest};
use process_hub::hub::Answer;
use process_hub::ids::{ChildId, NodeName, RequestId};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::context::NativeContext;
use crate::decode::{decode, from_json};
use crate::{errors, results, spec};

// What is no call: the calls have the numbers of the core.
const NOTHING: u8 = 0;
const COMPLETED: u8 = HostRequest::LAST_NUMBER + 1;
const ADD_THREAD: u8 = HostRequest::LAST_NUMBER + 2;
const CLOSED: u8 = HostRequest::LAST_NUMBER + 3;
const DECIDE: u8 = HostRequest::LAST_NUMBER + 4;

/// Ask again.
pub(crate) fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    (NOTHING,).into_pyobject(py)
}

/// Start another thread, then ask again.
pub(crate) fn add_thread(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    (ADD_THREAD,).into_pyobject(py)
}

/// The hub ended.
pub(crate) fn closed(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    (CLOSED,).into_pyobject(py)
}

/// The answer of a request: `(COMPLETED, request, error, value)`.
pub(crate) fn completed<'py>(
    py: Python<'py>,
    request: RequestId,
    answer: Answer,
    refused: Vec<Error>,
) -> PyResult<Bound<'py, PyTuple>> {
    let (error, value) = match answer {
        Ok(outcome) => (None, Some(results::outcome(py, outcome, refused)?)),
        Err(error) => (Some(errors::exception(py, &error)?), None),
    };
    (COMPLETED, request.0, error, value).into_pyobject(py)
}

/// How long an answer that comes later is still waited for.
const LATENESS: Duration = Duration::from_secs(1);

/// A decision: `(DECIDE, number, family, strategy, question, seconds)`; nobody waits for it after so many seconds.
pub(crate) fn decision<'py>(py: Python<'py>, decision: &HostDecision) -> PyResult<Bound<'py, PyTuple>> {
    let question = &decision.question;
    let value = from_json(py, &question.question)?;
    let (family, strategy) = (question.family.name(), question.strategy.as_str());
    let seconds = (decision.deadline.since(process_hub::hub::now()) + LATENESS).as_secs_f64();
    (DECIDE, decision.number.0, family, strategy, value, seconds).into_pyobject(py)
}

/// A call: its operation, its number, its instance, and what belongs to the operation.
pub(crate) fn call<'py>(py: Python<'py>, call: &HostCall) -> PyResult<Bound<'py, PyTuple>> {
    let (operation, number, instance) = (call.request.number(), call.number.0, call.instance.0);
    let plain = || (operation, number, instance).into_pyobject(py);
    match &call.request {
        HostRequest::Start(context) => {
            let args = decode(py, &context.spec.args)?;
            let kind = context.spec.kind.as_str();
            let native = NativeContext::new(context.clone());
            let child = call.child.as_str();
            (operation, number, instance, child, kind, args, native).into_pyobject(py)
        }
        HostRequest::Run | HostRequest::CancelRun | HostRequest::PrepareState | HostRequest::Discard => plain(),
        HostRequest::Handle { message, chain } => {
            let message = decode(py, message)?;
            let waiting = chain.iter().chain([&call.child]).map(ChildId::as_str);
            let chain = match chain.len() {
                0 => (call.child.as_str(),).into_pyobject(py)?,
                _ => PyTuple::new(py, waiting.collect::<Vec<_>>())?,
            };
            (operation, number, instance, message, chain).into_pyobject(py)
        }
        HostRequest::AlterState(state) | HostRequest::ResolveConflict(state) => {
            (operation, number, instance, decode(py, state)?).into_pyobject(py)
        }
        HostRequest::RedundancySignal(mode) => (operation, number, instance, mode.name()).into_pyobject(py),
        HostRequest::HandoverStart(target) => {
            let (node, epoch, error) = match target {
                HandoverTarget::Node { node, epoch } => (Some(node.as_str()), Some(epoch.0), None),
                HandoverTarget::Error(error) => (None, None, Some(error.as_str())),
            };
            (operation, number, instance, node, epoch, error).into_pyobject(py)
        }
        HostRequest::SetRole(epoch, mode) => (operation, number, instance, epoch.0, mode.name()).into_pyobject(py),
        HostRequest::Stop(reason) => (operation, number, instance, reason.name()).into_pyobject(py),
        HostRequest::AlterSpec { spec, nodes } => {
            let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            let document = spec::document_text(spec);
            (operation, number, instance, document, nodes).into_pyobject(py)
        }
    }
}
