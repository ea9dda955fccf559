//! Payloads as JSON, and what is none as the protocol shows it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use process_hub::error::Error;
use process_hub::payload::{ContentType, Payload};
use serde_json::{Value, json};

use crate::arguments::bad;

/// The JSON of a payload; `None` when it is none.
pub(crate) fn value_of(payload: &Payload) -> Option<Value> {
    match payload.content_type {
        ContentType::Json => serde_json::from_slice(&payload.data).ok(),
        ContentType::Bytes | ContentType::Other(_) => None,
    }
}

/// A payload as it appears in a reply.
pub(crate) fn shown(payload: &Payload) -> Value {
    value_of(payload).unwrap_or_else(
        || json!({"content_type": payload.content_type.name(), "base64": STANDARD.encode(&payload.data)}),
    )
}

/// The payload that a request shows as `{"content_type", "base64"}`.
pub(crate) fn given(value: &Value) -> Result<Payload, Error> {
    let text = |key: &str| value[key].as_str().ok_or_else(|| bad(format!("`payload.{key}` must be a text")));
    let data = STANDARD.decode(text("base64")?).map_err(|error| bad(format!("`payload.base64`: {error}")))?;
    Ok(Payload { content_type: ContentType::from_name(text("content_type")?), data: data.into() })
}
