//! Python values to payloads, strictly: a value that would not come back equal is refused, with its path.

use process_hub::error::{Error, ErrorKind};
use process_hub::payload::Payload;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::payload::EncodedPayload;

/// Deepest nesting that is encoded; what `serde_json` reads back by default.
const MAX_DEPTH: usize = 127;
/// Largest integer that every language's numbers can hold: 2^53.
const MAX_INTEGER: i64 = 1 << 53;

/// Why a value cannot be encoded, and where in it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Steps from the faulty value outwards.
    steps: Vec<String>,
    problem: String,
}

impl Fault {
    fn new(problem: impl Into<String>) -> Box<Self> {
        Box::new(Self { steps: Vec::new(), problem: problem.into() })
    }

    fn inside(mut self: Box<Self>, step: String) -> Box<Self> {
        self.steps.push(step);
        self
    }

    /// The fault as the error `not_encodable` of `operation`.
    pub(crate) fn into_error(self, operation: &str) -> Error {
        let path: String = self.steps.iter().rev().map(String::as_str).collect();
        Error::new(ErrorKind::NotEncodable, operation, format!("${path}: {}", self.problem))
    }
}

/// Bytes as they are, an already encoded payload as it is, everything else as JSON.
pub(crate) fn encode(value: &Bound<'_, PyAny>) -> Result<Payload, Box<Fault>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Payload::bytes(bytes.as_bytes().to_vec()));
    }
    if let Ok(encoded) = value.cast::<EncodedPayload>() {
        return Ok(encoded.get().0.clone());
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Payload::bytes(bytes.to_vec()));
    }
    encode_json(value).map(Payload::json)
}

/// JSON text of a value.
pub(crate) fn encode_json(value: &Bound<'_, PyAny>) -> Result<Vec<u8>, Box<Fault>> {
    let mut text = Vec::with_capacity(32);
    write(value, &mut text, MAX_DEPTH)?;
    Ok(text)
}

fn write(value: &Bound<'_, PyAny>, text: &mut Vec<u8>, depth: usize) -> Result<(), Box<Fault>> {
    if let Ok(string) = value.cast::<PyString>() {
        write_string(string, text)
    } else if value.is_none() {
        text.extend_from_slice(b"null");
        Ok(())
    } else if let Ok(boolean) = value.cast::<PyBool>() {
        text.extend_from_slice(if boolean.is_true() { b"true" } else { b"false" });
        Ok(())
    } else if let Ok(integer) = value.cast::<PyInt>() {
        write_integer(integer, text)
    } else if let Ok(float) = value.cast::<PyFloat>() {
        write_float(float.value(), text)
    } else if depth == 0 {
        Err(Fault::new(format!("nested deeper than {MAX_DEPTH} levels")))
    } else if let Ok(dict) = value.cast::<PyDict>() {
        write_dict(dict, text, depth - 1)
    } else if let Ok(list) = value.cast::<PyList>() {
        write_list(list, text, depth - 1)
    } else {
        Err(Fault::new(refusal(value)))
    }
}

fn refusal(value: &Bound<'_, PyAny>) -> String {
    if value.is_instance_of::<PyTuple>() {
        return "a tuple would come back as a list; use a list".into();
    }
    if value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() {
        return "bytes are sent only as the whole value, not inside another".into();
    }
    let name = value.get_type().fully_qualified_name();
    match name {
        Ok(name) => format!("a value of type {name} is neither JSON nor bytes"),
        Err(_) => "a value of this type is neither JSON nor bytes".into(),
    }
}

fn write_string(string: &Bound<'_, PyString>, text: &mut Vec<u8>) -> Result<(), Box<Fault>> {
    let string = string.to_str().map_err(|_| Fault::new("the text holds a lone surrogate and has no UTF-8 form"))?;
    write_number_or_text(string, text)
}

fn write_integer(integer: &Bound<'_, PyInt>, text: &mut Vec<u8>) -> Result<(), Box<Fault>> {
    let too_large = || Fault::new("the integer is past 2^53 and would not survive in every language");
    let value: i64 = integer.extract().map_err(|_| too_large())?;
    if !(-MAX_INTEGER..=MAX_INTEGER).contains(&value) {
        return Err(too_large());
    }
    write_number_or_text(&value, text)
}

fn write_float(value: f64, text: &mut Vec<u8>) -> Result<(), Box<Fault>> {
    if !value.is_finite() {
        return Err(Fault::new(format!("{value} has no JSON form")));
    }
    write_number_or_text(&value, text)
}

fn write_number_or_text<T: serde::Serialize + ?Sized>(value: &T, text: &mut Vec<u8>) -> Result<(), Box<Fault>> {
    serde_json::to_writer(text, value).map_err(|error| Fault::new(error.to_string()))
}

fn write_dict(dict: &Bound<'_, PyDict>, text: &mut Vec<u8>, depth: usize) -> Result<(), Box<Fault>> {
    text.push(b'{');
    // Encoding runs no Python code, so nobody changes the dict meanwhile.
    for (index, (key, value)) in dict.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        let Ok(key) = key.cast::<PyString>() else {
            let shown = key.repr().map_or_else(|_| "?".into(), |repr| repr.to_string());
            return Err(Fault::new(format!("the key {shown} is not a text")));
        };
        write_string(key, text)?;
        text.push(b':');
        write(&value, text, depth).map_err(|fault| fault.inside(key_step(&key.to_string())))?;
    }
    text.push(b'}');
    Ok(())
}

fn write_list(list: &Bound<'_, PyList>, text: &mut Vec<u8>, depth: usize) -> Result<(), Box<Fault>> {
    text.push(b'[');
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write(&value, text, depth).map_err(|fault| fault.inside(format!("[{index}]")))?;
    }
    text.push(b']');
    Ok(())
}

fn key_step(key: &str) -> String {
    let is_plain = key.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_plain { format!(".{key}") } else { format!("[{key:?}]") }
}

/// Encodes a value, for callers that want the bytes and for tests.
#[pyfunction(name = "encode")]
pub(crate) fn encode_value(value: &Bound<'_, PyAny>) -> PyResult<EncodedPayload> {
    encode(value).map(EncodedPayload).map_err(|fault| crate::errors::raise(value.py(), &fault.into_error("encode")))
}
