//! Payloads to Python values.

use std::fmt;

use process_hub::payload::{ContentType, Payload};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::payload::EncodedPayload;

/// JSON as values, bytes as `bytes`, anything else as the payload itself, for the kind's own codec.
///
/// JSON that does not parse (a broken peer) is handed over as the payload too, never as an error: the child or
/// the caller sees what arrived.
pub(crate) fn decode<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
    match payload.content_type {
        ContentType::Bytes => Ok(PyBytes::new(py, &payload.data).into_any()),
        ContentType::Json => match decode_json(py, &payload.data) {
            Ok(value) => Ok(value),
            Err(_) => opaque(py, payload),
        },
        ContentType::Other(_) => opaque(py, payload),
    }
}

fn opaque<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
    Ok(Bound::new(py, EncodedPayload(payload.clone()))?.into_any())
}

/// JSON text as Python values.
pub(crate) fn decode_json<'py>(py: Python<'py>, text: &[u8]) -> Result<Bound<'py, PyAny>, serde_json::Error> {
    if text == b"null" {
        return Ok(py.None().into_bound(py));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Value(py).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// A `serde_json` value as a Python one.
pub(crate) fn from_json<'py>(py: Python<'py>, value: &serde_json::Value) -> PyResult<Bound<'py, PyAny>> {
    Value(py).deserialize(value).map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
}

#[derive(Clone, Copy)]
struct Value<'py>(Python<'py>);

fn from_python<E: serde::de::Error>(error: PyErr) -> E {
    E::custom(error)
}

impl<'de, 'py> DeserializeSeed<'de> for Value<'py> {
    type Value = Bound<'py, PyAny>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, 'py> Visitor<'de> for Value<'py> {
    type Value = Bound<'py, PyAny>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(self.0.None().into_bound(self.0))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(PyBool::new(self.0, value).to_owned().into_any())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(PyInt::new(self.0, value).into_any())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(PyInt::new(self.0, value).into_any())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(PyFloat::new(self.0, value).into_any())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(PyString::new(self.0, value).into_any())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let list = PyList::empty(self.0);
        while let Some(item) = items.next_element_seed(self)? {
            list.append(item).map_err(A::Error::custom)?;
        }
        Ok(list.into_any())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let dict = PyDict::new(self.0);
        while let Some(key) = entries.next_key_seed(self)? {
            let value = entries.next_value_seed(self)?;
            dict.set_item(key, value).map_err(from_python)?;
        }
        Ok(dict.into_any())
    }
}

/// Reads an encoded value, the other way round.
#[pyfunction(name = "decode")]
pub(crate) fn decode_value<'py>(py: Python<'py>, payload: &EncodedPayload) -> PyResult<Bound<'py, PyAny>> {
    decode(py, &payload.0)
}
