//! `ChildSpec` of Python, or its document, to the core's.

use process_hub::error::{Error, ErrorKind};
use process_hub::payload::Payload;
use process_hub::spec::{ChildSpec, OnError, RestartPolicy};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::encode::{encode, encode_json};

const OPERATION: &str = "start_children";

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, OPERATION, message)
}

/// Reads a spec; an error names the child where it can be known.
pub(crate) fn read(value: &Bound<'_, PyAny>) -> Result<ChildSpec, Error> {
    if let Ok(document) = value.cast::<PyDict>() {
        return read_document(document);
    }
    let py = value.py();
    let Ok(id) = value.getattr(intern!(py, "id")) else {
        let what = value.get_type().to_string();
        return Err(refuse(format!("a child spec must be a ChildSpec or a dict, not {what}")));
    };
    let id = text(&id, "id")?;
    read_attributes(value, &id).map_err(|error| {
        if error.child_id.is_some() {
            return error;
        }
        error.with_child(id)
    })
}

fn read_document(document: &Bound<'_, PyDict>) -> Result<ChildSpec, Error> {
    let id = document.get_item("id").ok().flatten().and_then(|id| id.extract::<String>().ok());
    let named = |error: Error| match &id {
        Some(id) => error.with_child(id.clone()),
        None => error,
    };
    // Arguments may be bytes, which the JSON document cannot hold.
    let args = document.get_item("args").ok().flatten();
    let rest = document.copy().map_err(|error| refuse(error.to_string()))?;
    if args.is_some() {
        rest.del_item("args").map_err(|error| refuse(error.to_string()))?;
    }
    let text = encode_json(&rest).map_err(|fault| named(fault.into_error(OPERATION)))?;
    let value = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    let spec = ChildSpec::from_json(&value).map_err(named)?;
    match args {
        Some(args) => {
            let args = encode(&args).map_err(|fault| named(fault.into_error(OPERATION)))?;
            Ok(spec.with_args(args))
        }
        None => Ok(spec),
    }
}

fn text(value: &Bound<'_, PyAny>, what: &str) -> Result<String, Error> {
    let text = value.cast::<PyString>().map_err(|_| refuse(format!("`{what}` must be a text, not {value}")))?;
    let text = text.to_str().map_err(|_| refuse(format!("`{what}` has no UTF-8 form")))?;
    Ok(text.to_owned())
}

fn attribute<'py>(value: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> Result<Bound<'py, PyAny>, Error> {
    value.getattr(name).map_err(|error| refuse(error.to_string()))
}

fn read_attributes(value: &Bound<'_, PyAny>, id: &str) -> Result<ChildSpec, Error> {
    let py = value.py();
    let kind = text(&attribute(value, intern!(py, "kind"))?, "kind")?;
    let mut spec = ChildSpec::new(id, &kind)?;
    let args = attribute(value, intern!(py, "args"))?;
    if !args.is_none() {
        spec.args = encode(&args).map_err(|fault| fault.into_error(OPERATION))?;
    }
    let metadata = attribute(value, intern!(py, "metadata"))?;
    if !metadata.is_none() {
        spec.metadata = read_metadata(&metadata)?;
    }
    spec.restart = match text(&attribute(value, intern!(py, "restart"))?, "restart")?.as_str() {
        "permanent" => RestartPolicy::Permanent,
        "transient" => RestartPolicy::Transient,
        "temporary" => RestartPolicy::Temporary,
        other => {
            let known = "permanent, transient or temporary";
            return Err(refuse(format!("`restart` must be {known}, not {other}")));
        }
    };
    spec.on_error = match text(&attribute(value, intern!(py, "on_error"))?, "on_error")?.as_str() {
        "continue" => OnError::Continue,
        "restart" => OnError::Restart,
        other => {
            return Err(refuse(format!("`on_error` must be continue or restart, not {other}")));
        }
    };
    let require = attribute(value, intern!(py, "require"))?;
    if !require.is_none() {
        spec.require = require.extract().map_err(|_| refuse("`require` must be a dict of texts"))?;
    }
    spec.shutdown_ms = shutdown_ms(&attribute(value, intern!(py, "shutdown"))?)?;
    Ok(spec)
}

fn read_metadata(metadata: &Bound<'_, PyAny>) -> Result<Option<std::sync::Arc<str>>, Error> {
    let dict = match metadata.cast::<PyDict>() {
        Ok(dict) => dict.clone(),
        Err(_) => metadata
            .py()
            .get_type::<PyDict>()
            .call1((metadata,))
            .and_then(|dict| dict.cast_into::<PyDict>().map_err(Into::into))
            .map_err(|_| refuse("`metadata` must be a dict"))?,
    };
    if dict.is_empty() {
        return Ok(None);
    }
    let text = encode_json(&dict).map_err(|fault| fault.into_error(OPERATION))?;
    Ok(String::from_utf8(text).ok().map(Into::into))
}

fn shutdown_ms(shutdown: &Bound<'_, PyAny>) -> Result<u32, Error> {
    let seconds: f64 = match shutdown.extract() {
        Ok(seconds) => seconds,
        Err(_) => shutdown
            .call_method0("total_seconds")
            .and_then(|seconds| seconds.extract())
            .map_err(|_| refuse("`shutdown` must be seconds or a timedelta"))?,
    };
    let ms = seconds * 1000.0;
    if !(0.0..=f64::from(u32::MAX)).contains(&ms) {
        return Err(refuse(format!("`shutdown` of {seconds} s is out of range")));
    }
    // In range: checked above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(ms.round() as u32)
}

/// The document of a spec as text, for interceptors.
pub(crate) fn document_text(spec: &ChildSpec) -> String {
    spec.to_json().to_string()
}

/// The payload of an interceptor's answer.
pub(crate) fn altered(text: String) -> Payload {
    Payload::json(text.into_bytes())
}
