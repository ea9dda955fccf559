//! Rows of the registry, converted field by field when they are read: a lookup costs a lookup.

use std::sync::Arc;

use process_hub::spec::Row;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use crate::context::mode_name;
use crate::decode::from_json;

static RESULTS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn results(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    RESULTS.get_or_try_init(py, || py.import("process_hub._results").map(Bound::unbind)).map(|module| module.bind(py))
}

/// What the registry knows of one child.
#[pyclass(frozen, module = "process_hub", name = "Row")]
pub(crate) struct PyRow(pub(crate) Arc<Row>);

#[pymethods]
impl PyRow {
    #[getter]
    fn id(&self) -> &str {
        self.0.spec.id.as_str()
    }

    #[getter]
    fn kind(&self) -> &str {
        self.0.spec.kind.as_str()
    }

    #[getter]
    fn spec<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let document = from_json(py, &self.0.spec.to_json())?;
        py.import("process_hub._spec")?.getattr("ChildSpec")?.call_method1("from_json", (document,))
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_json(py, &self.0.spec.metadata_value())
    }

    #[getter]
    fn instances<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let make = results(py)?.getattr("row_instance")?;
        let list = PyList::empty(py);
        for instance in &self.0.instances {
            let (node, mode) = (instance.node.as_str(), mode_name(instance.mode));
            list.append(make.call1((node, mode, instance.epoch.0, instance.since_ms))?)?;
        }
        Ok(list)
    }

    #[getter]
    fn state_lost<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(lost) = &self.0.state_lost else {
            return Ok(None);
        };
        let make = results(py)?.getattr("StateLost")?;
        make.call1((lost.epoch.0, lost.version)).map(Some)
    }

    /// The row as the document every language has it in.
    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_json(py, &serde_json::to_value(&*self.0).unwrap_or_default())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __repr__(&self) -> String {
        let row = &*self.0;
        let instances: Vec<String> = (row.instances.iter())
            .map(|it| format!("{} on {} (epoch {})", mode_name(it.mode), it.node, it.epoch))
            .collect();
        let lost = if row.state_lost.is_some() { ", state lost" } else { "" };
        format!("<Row {:?} [{}]{lost}>", row.spec.id, instances.join(", "))
    }
}
