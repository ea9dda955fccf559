//! What an instance is told about itself.

use std::sync::Arc;

use process_hub::host::call::{StartContext, StartReason};
use process_hub::spec::Mode;
use pyo3::prelude::*;

use crate::decode::from_json;

/// The facts of a start, converted when they are read.
#[pyclass(frozen, module = "process_hub._native")]
pub(crate) struct NativeContext(pub(crate) Arc<StartContext>);

#[pymethods]
impl NativeContext {
    #[getter]
    fn kind(&self) -> &str {
        self.0.spec.kind.as_str()
    }

    #[getter]
    fn hub_id(&self) -> &str {
        self.0.hub_id.as_str()
    }

    #[getter]
    fn node(&self) -> &str {
        self.0.node.as_str()
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch.0
    }

    #[getter]
    fn is_active(&self) -> bool {
        self.0.mode == Mode::Active
    }

    #[getter]
    fn start_reason(&self) -> &'static str {
        match self.0.reason {
            StartReason::Initial => "initial",
            StartReason::Restart => "restart",
            StartReason::Migration => "migration",
            StartReason::Failover => "failover",
        }
    }

    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_json(py, &self.0.spec.metadata_value())
    }
}

/// The name of a mode in every language.
pub(crate) const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Active => "active",
        Mode::Passive => "passive",
    }
}
