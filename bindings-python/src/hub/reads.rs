//! Local reads: what the hub published, without a wait.

use process_hub::hub::DebugStats;
use process_hub::ids::{ChildId, NodeName};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::NativeHub;
use crate::results::document;
use crate::row::PyRow;

#[pymethods]
impl NativeHub {
    fn child_lookup(&self, py: Python<'_>, child_id: &str) -> PyResult<Option<PyRow>> {
        let hub = &self.inner(py, "child_lookup")?.hub;
        Ok(hub.child_lookup(child_id).map(PyRow))
    }

    fn process_registry<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rows = self.inner(py, "process_registry")?.hub.process_registry();
        let dict = PyDict::new(py);
        for (id, row) in rows {
            dict.set_item(id.as_str(), PyRow(row))?;
        }
        Ok(dict)
    }

    fn which_children_local<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let nodes = self.inner(py, "which_children")?.hub.which_children_local();
        let dict = PyDict::new(py);
        for (node, children) in &nodes {
            let ids: Vec<&str> = children.iter().map(ChildId::as_str).collect();
            dict.set_item(node.as_str(), ids)?;
        }
        Ok(dict)
    }

    fn tag_query(&self, py: Python<'_>, tag: &str) -> PyResult<Vec<PyRow>> {
        let rows = self.inner(py, "tag_query")?.hub.tag_query(tag);
        Ok(rows.into_iter().map(PyRow).collect())
    }

    fn metadata_query(&self, py: Python<'_>, key: &str) -> PyResult<Vec<PyRow>> {
        let rows = self.inner(py, "metadata_query")?.hub.metadata_query(key);
        Ok(rows.into_iter().map(PyRow).collect())
    }

    fn nodes(&self, py: Python<'_>, include_local: bool) -> PyResult<Vec<String>> {
        let names = self.inner(py, "nodes")?.hub.nodes(include_local);
        Ok(names.iter().map(NodeName::to_string).collect())
    }

    #[getter]
    fn node_name(&self, py: Python<'_>) -> PyResult<&str> {
        Ok(self.inner(py, "node_name")?.hub.node_name().as_str())
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<&str> {
        Ok(self.inner(py, "address")?.hub.address())
    }

    fn is_alive(&self) -> bool {
        let inner = self.inner.as_ref();
        !self.generation.is_past() && inner.is_some_and(|inner| inner.hub.is_alive())
    }

    fn is_locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner(py, "is_locked")?.hub.is_locked())
    }

    fn is_partitioned(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner(py, "is_partitioned")?.hub.is_partitioned())
    }

    fn metrics_text(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.inner(py, "metrics_text")?.hub.metrics_text())
    }

    fn debug_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats: DebugStats = self.inner(py, "debug_stats")?.hub.debug_stats();
        document(py, &stats)
    }
}
