//! What operations answer.

use process_hub::engine::Outcome;
use process_hub::error::Error;
use process_hub::spec::StartResult;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::decode::{decode, from_json};

/// The result of `start_children`: converted when it is read, since it may tell of many children.
#[pyclass(frozen, module = "process_hub._native")]
pub(crate) struct NativeStartResult {
    result: StartResult,
    /// Specs that were no specs, so that the core never saw them.
    refused: Vec<Error>,
}

impl NativeStartResult {
    pub(crate) const fn new(result: StartResult, refused: Vec<Error>) -> Self {
        Self { result, refused }
    }
}

type StartedRow<'a> = (&'a str, Vec<(&'a str, u64)>);
type ErrorRow<'a> = (Option<&'a str>, Option<&'a str>, &'static str, &'a str);

#[pymethods]
impl NativeStartResult {
    #[getter]
    fn is_ok(&self) -> bool {
        self.result.errors.is_empty() && self.refused.is_empty()
    }

    #[getter]
    const fn rollback(&self) -> bool {
        self.result.rollback
    }

    #[getter]
    const fn started_count(&self) -> usize {
        self.result.started.len()
    }

    /// Each child: id and `(node, epoch)` of its instances.
    fn started(&self) -> Vec<StartedRow<'_>> {
        let started = self.result.started.iter();
        started
            .map(|child| {
                let instances = child.instances.iter();
                let instances = instances.map(|it| (it.node.as_str(), it.epoch.0));
                (child.id.as_str(), instances.collect())
            })
            .collect()
    }

    /// Each failure: id, node, kind, message.
    fn errors(&self) -> Vec<ErrorRow<'_>> {
        let refused = self
            .refused
            .iter()
            .map(|error| (error.child_id.as_deref(), None, error.kind.name(), error.message.as_str()));
        let failed = self.result.errors.iter().map(|error| {
            let node = error.node.as_ref().map(process_hub::ids::NodeName::as_str);
            (Some(error.id.as_str()), node, error.kind.name(), &*error.message)
        });
        refused.chain(failed).collect()
    }
}

/// The answer to a command as Python values. `refused` belongs to `start_children` alone.
pub(crate) fn outcome<'py>(py: Python<'py>, outcome: Outcome, refused: Vec<Error>) -> PyResult<Bound<'py, PyAny>> {
    match outcome {
        Outcome::Done => Ok(py.None().into_bound(py)),
        Outcome::Started(result) => Ok(Bound::new(py, NativeStartResult::new(result, refused))?.into_any()),
        Outcome::Stopped(result) => document(py, &result),
        Outcome::Reply(payload) => decode(py, &payload),
        Outcome::Drained(report) => document(py, &report),
        Outcome::Json(value) => from_json(py, &value),
        Outcome::Children(nodes) => {
            let dict = PyDict::new(py);
            for (node, children) in &nodes {
                let ids = PyList::new(py, children.iter().map(process_hub::ids::ChildId::as_str))?;
                dict.set_item(node.as_str(), ids)?;
            }
            Ok(dict.into_any())
        }
    }
}

/// A value of the core as its JSON document.
pub(crate) fn document<'py, T: serde::Serialize>(py: Python<'py>, value: &T) -> PyResult<Bound<'py, PyAny>> {
    let value =
        serde_json::to_value(value).map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
    from_json(py, &value)
}
