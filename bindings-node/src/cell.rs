//! The one shape in which values cross: a flat array holds these.

use napi::bindgen_prelude::{
    Array, BufferSlice, FromNapiValue, Null, ToNapiValue, TypeName, Unknown, ValidateNapiValue,
};
use napi::{Env, JsValue, Status, ValueType, sys};
use process_hub::payload::{ContentType, Payload};

/// One value on its way from or to JavaScript.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Null,
    Number(f64),
    /// From JavaScript, a payload in JSON is this.
    Text(String),
    /// JSON becomes a string, bytes a Buffer, any other content type the array `[content type, Buffer]`. So does
    /// JSON that is no UTF-8, from a broken peer.
    Payload(Payload),
    List(Vec<Self>),
}

impl Cell {
    #[allow(clippy::cast_precision_loss, reason = "numbers of calls stay below 2^53")]
    pub(crate) fn number(number: u64) -> Self {
        Self::Number(number as f64)
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The JSON text of a value of the core.
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        // Maps of the core have text keys, and its numbers are finite.
        serde_json::to_string(value).map_or(Self::Null, Self::Text)
    }

    /// A payload that JavaScript gives; `None` for null.
    pub(crate) fn into_payload(self) -> Result<Option<Payload>, &'static str> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(Payload::json(text))),
            Self::Payload(payload) => Ok(Some(payload)),
            Self::List(parts) => match <[Self; 2]>::try_from(parts) {
                Ok([Self::Text(name), Self::Payload(bytes)]) => {
                    Ok(Some(Payload { content_type: ContentType::from_name(&name), data: bytes.data }))
                }
                Ok(_) | Err(_) => Err("a payload of another shape"),
            },
            Self::Number(_) => Err("a number is no payload"),
        }
    }
}

impl TypeName for Cell {
    fn type_name() -> &'static str {
        "Cell"
    }

    fn value_type() -> ValueType {
        ValueType::Unknown
    }
}

impl ValidateNapiValue for Cell {}

impl ToNapiValue for Cell {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        // SAFETY: `env` is the environment of the call that napi makes, as this function's contract says; each
        // conversion only hands it on.
        unsafe {
            match value {
                Self::Null => Null::to_napi_value(env, Null),
                Self::Number(number) => f64::to_napi_value(env, number),
                Self::Text(text) => String::to_napi_value(env, text),
                Self::List(cells) => Vec::to_napi_value(env, cells),
                Self::Payload(payload) => match (&payload.content_type, std::str::from_utf8(&payload.data)) {
                    (ContentType::Json, Ok(text)) => <&str>::to_napi_value(env, text),
                    (ContentType::Bytes, _) => bytes_to_napi(env, &payload.data),
                    (ContentType::Json | ContentType::Other(_), _) => {
                        let bytes = Payload::bytes(payload.data.clone());
                        let parts = vec![Self::text(payload.content_type.name()), Self::Payload(bytes)];
                        Vec::to_napi_value(env, parts)
                    }
                },
            }
        }
    }
}

/// # Safety
/// `env` is the environment of the present call.
unsafe fn bytes_to_napi(env: sys::napi_env, bytes: &[u8]) -> napi::Result<sys::napi_value> {
    // A copy: JavaScript may write into its buffer, and the core shares its bytes.
    let buffer = BufferSlice::copy_from(&Env::from_raw(env), bytes)?;
    // SAFETY: as the caller says.
    unsafe { BufferSlice::to_napi_value(env, buffer) }
}

impl FromNapiValue for Cell {
    #[allow(clippy::wildcard_enum_match_arm, reason = "every other type of JavaScript is refused")]
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: `env` and `value` belong to the call that napi makes, as this function's contract says. What is
        // read as a text, a number, an array or a buffer has been seen to be one.
        unsafe {
            let unknown = Unknown::from_napi_value(env, value)?;
            match unknown.get_type()? {
                ValueType::Null | ValueType::Undefined => Ok(Self::Null),
                ValueType::Number => f64::from_napi_value(env, value).map(Self::Number),
                ValueType::String => String::from_napi_value(env, value).map(Self::Text),
                ValueType::Object if unknown.is_buffer()? => {
                    let bytes = BufferSlice::from_napi_value(env, value)?.to_vec();
                    Ok(Self::Payload(Payload::bytes(bytes)))
                }
                ValueType::Object if unknown.is_array()? => {
                    let array = Array::from_napi_value(env, value)?;
                    let cells = (0..array.len()).map(|index| Ok(array.get(index)?.unwrap_or(Self::Null)));
                    cells.collect::<napi::Result<_>>().map(Self::List)
                }
                other => Err(napi::Error::new(Status::InvalidArg, format!("a value of type {other} does not cross"))),
            }
        }
    }
}
