//! Native half of the Python package: converts, forwards, converts back, and decides nothing.
//!
//! No thread of the core ever attaches to the interpreter, and no value that such a thread may drop holds a
//! Python object (P-01): calls are pulled by threads that Python made.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a binding drives threads and the clock; only the pure parts of the core may not"
)]

mod context;
mod decode;
mod encode;
mod errors;
mod fork;
mod hub;
mod items;
mod logs;
mod message;
mod node;
mod payload;
mod pool;
mod results;
mod row;
mod spec;
mod wait;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::context::NativeContext;
    #[pymodule_export]
    use super::decode::decode_value;
    #[pymodule_export]
    use super::encode::encode_value;
    #[pymodule_export]
    use super::errors::{error_table, hook_names};
    #[pymodule_export]
    use super::fork::{generation, mark_forked};
    #[pymodule_export]
    use super::hub::NativeHub;
    #[pymodule_export]
    use super::logs::{close_logs, next_logs, open_logs, set_log_level};
    #[pymodule_export]
    use super::node::NativeNode;
    #[pymodule_export]
    use super::payload::EncodedPayload;
    #[pymodule_export]
    use super::results::NativeStartResult;
    #[pymodule_export]
    use super::row::{PyRow, RowInstance};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
