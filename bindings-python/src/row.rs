//! Rows of the registry, converted field by field when they are read: a lookup costs a lookup.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use process_hub::spec::{self, Mode, Row};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use crate::decode::from_json;

static MODES: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();

/// The member of `process_hub.Mode`.
fn mode_member(py: Python<'_>, mode: Mode) -> PyResult<Bound<'_, PyAny>> {
    let [active, passive] = MODES.get_or_try_init(py, || {
        let modes = py.import("process_hub._child")?.getattr("Mode")?;
        let member = |mode: Mode| modes.call1((mode.name(),)).map(Bound::unbind);
        Ok::<_, PyErr>([member(Mode::Active)?, member(Mode::Passive)?])
    })?;
    let member = match mode {
        Mode::Active => active,
        Mode::Passive => passive,
    };
    Ok(member.bind(py).clone())
}

/// One instance in a `Row`.
#[pyclass(frozen, eq, hash, module = "process_hub")]
#[derive(PartialEq, Eq)]
pub(crate) struct RowInstance(spec::RowInstance);

impl Hash for RowInstance {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.node, self.0.epoch, self.0.since_ms).hash(state);
    }
}

#[pymethods]
impl RowInstance {
    #[getter]
    fn node(&self) -> &str {
        self.0.node.as_str()
    }

    #[getter]
    fn mode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        mode_member(py, self.0.mode)
    }

    #[getter]
    const fn epoch(&self) -> u64 {
        self.0.epoch.0
    }

    #[getter]
    const fn since_ms(&self) -> u64 {
        self.0.since_ms
    }

    fn __repr__(&self) -> String {
        let Self(it) = self;
        let mode = it.mode.name();
        format!("RowInstance(node={:?}, mode={mode:?}, epoch={}, since_ms={})", it.node.as_str(), it.epoch, it.since_ms)
    }
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
        PyList::new(py, self.0.instances.iter().map(|instance| RowInstance(instance.clone())))
    }

    #[getter]
    fn state_lost<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(lost) = &self.0.state_lost else {
            return Ok(None);
        };
        let make = py.import("process_hub._results")?.getattr("StateLost")?;
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
            .map(|it| format!("{} on {} (epoch {})", it.mode.name(), it.node, it.epoch))
            .collect();
        let lost = if row.state_lost.is_some() { ", state lost" } else { "" };
        format!("<Row {:?} [{}]{lost}>", row.spec.id, instances.join(", "))
    }
}
