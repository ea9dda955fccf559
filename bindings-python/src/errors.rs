//! Core errors to the exceptions of `process_hub.errors`.

use process_hub::error::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception of `process_hub.errors` for a core error.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let make =
        MAKE.get_or_try_init(py, || py.import("process_hub.errors")?.getattr("from_native").map(Bound::unbind))?;
    make.bind(py).call1((
        error.kind.name(),
        &error.operation,
        &error.message,
        error.child_id.as_deref(),
        error.node.as_deref(),
        error.maybe_executed,
        error.trace.as_deref(),
    ))
}

/// The error, ready to be raised.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(import_error) => import_error,
    }
}

/// `invalid_argument`, ready to be raised.
pub(crate) fn invalid_argument(py: Python<'_>, operation: &str, message: String) -> PyErr {
    raise(py, &Error::new(ErrorKind::InvalidArgument, operation, message))
}

/// Every kind of error: its name, its number and its meaning, in the order of the numbers.
#[pyfunction]
pub(crate) fn error_table() -> Vec<(&'static str, u16, &'static str)> {
    ErrorKind::ALL.iter().map(|kind| (kind.name(), kind.number(), kind.meaning())).collect()
}

/// The names of the hooks.
#[pyfunction]
pub(crate) fn hook_names() -> Vec<&'static str> {
    let all = process_hub::observe::HookName::ALL.iter();
    all.map(|hook| hook.name()).collect()
}
