//! A node that several hubs share.

use process_hub::config::NodeSetup;
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::Node;
use pyo3::prelude::*;

use crate::errors::raise;
use crate::fork::Generation;
use crate::wait;

/// How long leaving may take.
const STOP_MS: u64 = 60_000;

/// A node. In a forked process it is neither used nor dropped.
#[pyclass(frozen, module = "process_hub._native")]
pub(crate) struct NativeNode {
    node: Option<Node>,
    generation: Generation,
}

impl Drop for NativeNode {
    fn drop(&mut self) {
        if self.generation.is_past() {
            std::mem::forget(self.node.take());
        }
    }
}

impl NativeNode {
    pub(crate) fn node(&self, py: Python<'_>, operation: &str) -> PyResult<&Node> {
        self.generation.check(operation).map_err(|error| raise(py, &error))?;
        let closed = || Error::new(ErrorKind::Closed, operation, "the node was stopped");
        self.node.as_ref().ok_or_else(|| raise(py, &closed()))
    }
}

#[pymethods]
impl NativeNode {
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let setup = NodeSetup::from_text(config).map_err(|error| raise(py, &error))?;
        let start = move || Node::start(&setup.node, &setup.profile, setup.hubs_discover_interval);
        let node = wait::on_thread(py, "start_node", start)?.map_err(|error| raise(py, &error))?;
        Ok(Self { node: Some(node), generation: Generation::present() })
    }

    fn stop(&self, py: Python<'_>, timeout_ms: Option<u64>) -> PyResult<bool> {
        let node = self.node(py, "stop_node")?.clone();
        let timeout = std::time::Duration::from_millis(timeout_ms.unwrap_or(STOP_MS));
        wait::on_thread(py, "stop_node", move || node.stop(timeout))
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<&str> {
        Ok(self.node(py, "name")?.name().as_str())
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<&str> {
        Ok(self.node(py, "address")?.address())
    }
}
