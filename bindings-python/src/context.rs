//! What an instance is told about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use process_hub::host::call::StartContext;
use process_hub::spec::Mode;
use pyo3::prelude::*;

use crate::decode::from_json;

/// The facts of a start, converted when they are read, and what changed since.
#[pyclass(frozen, module = "process_hub._native")]
pub(crate) struct NativeContext {
    start: Arc<StartContext>,
    epoch: AtomicU64,
    is_active: AtomicBool,
}

impl NativeContext {
    pub(crate) fn new(start: Arc<StartContext>) -> Self {
        Self { epoch: AtomicU64::new(start.epoch.0), is_active: AtomicBool::new(start.mode == Mode::Active), start }
    }
}

#[pymethods]
impl NativeContext {
    #[getter]
    fn kind(&self) -> &str {
        self.start.spec.kind.as_str()
    }

    #[getter]
    fn hub_id(&self) -> &str {
        self.start.hub_id.as_str()
    }

    #[getter]
    fn node(&self) -> &str {
        self.start.node.as_str()
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    #[setter]
    fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    #[getter]
    fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Acquire)
    }

    #[setter]
    fn set_is_active(&self, is_active: bool) {
        self.is_active.store(is_active, Ordering::Release);
    }

    #[getter]
    fn start_reason(&self) -> &'static str {
        self.start.reason.name()
    }

    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_json(py, &self.start.spec.metadata_value())
    }
}
