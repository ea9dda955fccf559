//! Values: payloads as C sees them.

use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;

use bytes::Bytes;
use process_hub::error::{Error, ErrorKind};
use process_hub::payload::{ContentType, Payload};
use serde::de::IgnoredAny;

use crate::boundary::{OutPointer as _, TextPointer as _, ask, c_text, refuse};
use crate::table::{self, Handled};
use crate::types::ph_value;

const JSON: &CStr = c"application/json";
const BYTES: &CStr = c"application/octet-stream";

/// What a [`ph_value`] of the library points to.
pub(crate) struct ValueObject {
    data: Bytes,
    content_type: Option<CString>,
}

impl Handled for ValueObject {
    const TYPE: u64 = 7;
    const NAME: &'static str = "owner of a ph_value";
}

impl ValueObject {
    /// JSON is copied, to end with a NUL.
    pub(crate) fn new(payload: Payload) -> (Self, usize) {
        let len = payload.data.len();
        let data = match payload.content_type {
            ContentType::Json => {
                let mut text = Vec::with_capacity(len + 1);
                text.extend_from_slice(&payload.data);
                text.push(0);
                text.into()
            }
            ContentType::Bytes | ContentType::Other(_) => payload.data,
        };
        let content_type = match payload.content_type {
            ContentType::Json | ContentType::Bytes => None,
            ContentType::Other(name) => Some(c_text(&name)),
        };
        (Self { data, content_type }, len)
    }

    /// The value as C sees it, for as long as this object lives.
    pub(crate) fn lend(&self, is_json: bool, len: usize) -> ph_value {
        let content_type = match &self.content_type {
            Some(name) => name,
            None if is_json => JSON,
            None => BYTES,
        };
        ph_value { data: self.data.as_ptr().cast::<c_char>(), len, content_type: content_type.as_ptr(), owner: 0 }
    }
}

/// Lends a payload to a callback.
pub(crate) fn lent<T>(payload: Payload, callback: impl FnOnce(ph_value) -> T) -> T {
    let is_json = payload.content_type == ContentType::Json;
    let (object, len) = ValueObject::new(payload);
    callback(object.lend(is_json, len))
}

impl ph_value {
    pub(crate) const fn none() -> Self {
        Self { data: std::ptr::null(), len: 0, content_type: std::ptr::null(), owner: 0 }
    }

    /// A value that the program owns.
    pub(crate) fn give(payload: Payload) -> Result<Self, Error> {
        let is_json = payload.content_type == ContentType::Json;
        let (object, len) = ValueObject::new(payload);
        let object = Arc::new(object);
        let value = object.lend(is_json, len);
        Ok(Self { owner: table::insert(object)?, ..value })
    }

    /// Reads a value of the program. JSON is checked.
    pub(crate) fn read(self, operation: &str) -> Result<Payload, Error> {
        let name = self.content_type.text_if_any(operation, "content_type")?;
        let content_type = name.map_or(ContentType::Bytes, ContentType::from_name);
        if self.len > isize::MAX as usize {
            return Err(refuse(operation, format!("a value of {} bytes cannot be", self.len)));
        }
        let data: &[u8] = if self.data.is_null() || self.len == 0 {
            if self.len > 0 {
                return Err(refuse(operation, format!("`data` is NULL, and `len` is {}", self.len)));
            }
            &[]
        } else {
            // SAFETY: the caller gives `len` bytes that live for the call; null and too many were refused.
            unsafe { std::slice::from_raw_parts(self.data.cast::<u8>(), self.len) }
        };
        if content_type == ContentType::Json {
            serde_json::from_slice::<IgnoredAny>(data).map_err(|error| {
                Error::new(ErrorKind::NotEncodable, operation, format!("$: the value is not JSON: {error}"))
            })?;
        }
        Ok(Payload { content_type, data: Bytes::copy_from_slice(data) })
    }
}

/// Writes a value that the program owns; nobody's is dropped.
pub(crate) fn write(out: *mut ph_value, payload: impl FnOnce() -> Payload) -> Result<(), Error> {
    if !out.is_null() {
        out.put(ph_value::give(payload())?);
    }
    Ok(())
}

/// Writes a JSON document.
pub(crate) fn write_json(out: *mut ph_value, document: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(document)
        .map_err(|error| Error::new(ErrorKind::Internal, "ph_value", format!("no document: {error}")))?;
    write(out, || Payload::json(text))
}

/// Writes a text, NUL-terminated.
pub(crate) fn write_text(out: *mut ph_value, text: &str) -> Result<(), Error> {
    if out.is_null() {
        return Ok(());
    }
    let terminated = c_text(text).into_bytes_with_nul();
    let len = terminated.len() - 1;
    let plain = ContentType::from_name("text/plain");
    let value = ph_value::give(Payload { content_type: plain, data: terminated.into() })?;
    out.put(ph_value { len, ..value });
    Ok(())
}

/// A value of JSON text, which is borrowed: it must live until the function it is passed to returns. That function
/// checks the text; NULL is refused there. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_json(text: *const c_char) -> ph_value {
    // SAFETY: the caller gives null or a NUL-terminated text.
    let len = if text.is_null() { 0 } else { unsafe { CStr::from_ptr(text) }.count_bytes() };
    ph_value { data: text, len, content_type: JSON.as_ptr(), owner: 0 }
}

/// A value of bytes as they are, which are borrowed: they must live until the function it is passed to returns. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_bytes(data: *const std::ffi::c_void, len: usize) -> ph_value {
    ph_value { data: data.cast(), len, content_type: BYTES.as_ptr(), owner: 0 }
}

/// Frees a value of the library and empties the struct. NULL, an empty value, one of the program and one that was freed
/// before are no harm. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_value_free(value: *mut ph_value) {
    ask("ph_value_free", (), || {
        if let Some(present) = value.present() {
            value.put(ph_value::none());
            if present.owner != 0 {
                table::remove::<ValueObject>(present.owner, "ph_value_free")?;
            }
        }
        Ok(())
    });
}
