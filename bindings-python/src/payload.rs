//! Bytes that a kind's own codec made or is to read.

use process_hub::payload::{ContentType, Payload};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes with a content type that is neither JSON nor plain bytes. A kind's `encode` and `decode` make and read
/// them; a value whose content type no registered kind reads is handed over as this.
#[pyclass(frozen, module = "process_hub", name = "Payload")]
pub(crate) struct EncodedPayload(pub(crate) Payload);

#[pymethods]
impl EncodedPayload {
    #[new]
    fn new(data: &[u8], content_type: &str) -> Self {
        Self(Payload { content_type: ContentType::from_name(content_type), data: data.to_vec().into() })
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.data)
    }

    #[getter]
    fn content_type(&self) -> &str {
        self.0.content_type.name()
    }

    fn __repr__(&self) -> String {
        format!("Payload({} bytes, content_type={:?})", self.0.len(), self.0.content_type.name())
    }
}
