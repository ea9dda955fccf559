//! What every exported function goes through: pointers of C, panics, errors.
//!
//! Each sort of pointer is read and written in one place here, so that the exported functions themselves need no
//! `unsafe`.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use process_hub::error::{Error, ErrorKind};

use crate::errors::ErrorObject;
use crate::table::{self, Handled};
use crate::types::{ph_error, ph_status};

/// No wait is longer: ten years.
const FOREVER_MS: u64 = 10 * 365 * 86_400_000;

/// The type of a handle.
pub(crate) trait Opaque: Sized {
    /// What is behind it.
    type Object: Handled;
}

/// A handle: a pointer that is never followed.
pub(crate) trait HandlePointer<T: Opaque> {
    /// The number in it.
    fn number(self) -> u64;
    /// What the handle stands for.
    fn object(self, operation: &str) -> Result<Arc<T::Object>, Error>;
    /// Frees the handle.
    fn release(self, operation: &str) -> Result<Arc<T::Object>, Error>;
}

impl<T: Opaque> HandlePointer<T> for *mut T {
    fn number(self) -> u64 {
        self as u64
    }

    fn object(self, operation: &str) -> Result<Arc<T::Object>, Error> {
        table::get(self.number(), operation)
    }

    fn release(self, operation: &str) -> Result<Arc<T::Object>, Error> {
        table::remove(self.number(), operation)
    }
}

/// The handle with this number.
pub(crate) fn handle<T: Opaque>(number: u64) -> *mut T {
    number as *mut T
}

/// A handle of a new object.
pub(crate) fn make_handle<T: Opaque>(object: Arc<T::Object>) -> Result<*mut T, Error> {
    table::insert(object).map(handle)
}

/// Where a result is written; null when nobody wants it.
pub(crate) trait OutPointer<T> {
    /// Writes the result, or drops it.
    fn put(self, value: T);
    /// What is there.
    fn present(self) -> Option<T>
    where
        T: Copy;
}

impl<T> OutPointer<T> for *mut T {
    fn put(self, value: T) {
        if !self.is_null() {
            // SAFETY: the caller gives null or a place for a `T`, which may hold anything yet.
            unsafe { self.write(value) };
        }
    }

    fn present(self) -> Option<T>
    where
        T: Copy,
    {
        // SAFETY: the caller gives null or a place that holds a `T`.
        (!self.is_null()).then(|| unsafe { self.read() })
    }
}

/// A NUL-terminated text of the program.
pub(crate) trait TextPointer: Sized {
    /// The text, if there is one.
    fn text_if_any<'a>(self, operation: &str, what: &str) -> Result<Option<&'a str>, Error>;

    /// The text.
    fn text<'a>(self, operation: &str, what: &str) -> Result<&'a str, Error> {
        self.text_if_any(operation, what)?.ok_or_else(|| refuse(operation, format!("`{what}` is NULL")))
    }

    /// The text as JSON.
    fn json(self, operation: &str, what: &str) -> Result<serde_json::Value, Error> {
        let text = self.text(operation, what)?;
        serde_json::from_str(text).map_err(|error| refuse(operation, format!("`{what}` is not JSON: {error}")))
    }
}

impl TextPointer for *const c_char {
    fn text_if_any<'a>(self, operation: &str, what: &str) -> Result<Option<&'a str>, Error> {
        if self.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller gives null or a NUL-terminated text that lives for the call.
        let text = unsafe { CStr::from_ptr(self) };
        text.to_str().map(Some).map_err(|error| refuse(operation, format!("`{what}` is not UTF-8: {error}")))
    }
}

/// A text that its owner keeps.
pub(crate) fn lend(text: &CStr) -> *const c_char {
    text.as_ptr()
}

/// A text for C; a NUL inside, which C cannot hold, is shown as a replacement character.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

/// A pointer of the program that the library only passes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opaquely(pub(crate) *mut c_void);

// SAFETY: the library never follows the pointer; the header says that callbacks run on any thread.
unsafe impl Send for Opaquely {}
// SAFETY: as above.
unsafe impl Sync for Opaquely {}

/// Called once with what it was given, when the library needs that no more.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type ph_drop = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Data of the program that goes along with callbacks, and the destructor it came with.
pub(crate) struct UserData {
    data: Opaquely,
    drop: ph_drop,
}

impl UserData {
    pub(crate) fn new(data: *mut c_void, drop: ph_drop) -> Self {
        Self { data: Opaquely(data), drop }
    }

    pub(crate) fn get(&self) -> *mut c_void {
        self.data.0
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            let _inside = crate::current::enter(0, None);
            // SAFETY: the program gave the function for this pointer; it is called once, here.
            unsafe { drop(self.data.0) };
        }
    }
}

/// `invalid_argument`.
pub(crate) fn refuse(operation: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, operation, message)
}

/// Milliseconds of C.
pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms.min(FOREVER_MS))
}

/// Runs the body of an exported function: a panic becomes an error, and an error is written and gives the status.
pub(crate) fn enter(
    operation: &'static str,
    err: *mut *mut ph_error,
    body: impl FnOnce() -> Result<(), Error>,
) -> ph_status {
    match guarded(operation, body) {
        Ok(()) => {
            err.put(std::ptr::null_mut());
            0
        }
        Err(error) => {
            let status = ph_status::from(error.kind.number());
            if !err.is_null() {
                let object = Arc::new(ErrorObject::new(error));
                err.put(make_handle(object).unwrap_or(std::ptr::null_mut()));
            }
            status
        }
    }
}

/// Like [`enter`] for functions that answer a value: `neutral` where they fail.
pub(crate) fn ask<T>(operation: &'static str, neutral: T, body: impl FnOnce() -> Result<T, Error>) -> T {
    guarded(operation, body).unwrap_or(neutral)
}

fn guarded<T>(operation: &'static str, body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What a panic leaves behind is behind locks that do not poison, or is not used again.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = (panic.downcast_ref::<&str>().copied())
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Err(Error::new(ErrorKind::Panic, operation, format!("panicked: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_panics_then_the_status_says_panic_and_the_error_has_its_text() {
        let mut error: *mut ph_error = std::ptr::null_mut();
        let status = enter("test", &raw mut error, || panic!("on purpose"));
        assert_eq!(status, 9003);
        let object = error.release("test").unwrap();
        assert!(object.error.message.contains("on purpose"));
        assert_eq!(ask("test", 7, || panic!("again")), 7);
    }

    #[test]
    fn text_is_null_or_no_utf8_then_refused_by_name() {
        let null: *const c_char = std::ptr::null();
        assert!(null.text("test", "id").unwrap_err().message.contains("`id` is NULL"));
        let bytes = CString::new(vec![0xff_u8]).unwrap();
        assert!(bytes.as_ptr().text("test", "id").unwrap_err().message.contains("not UTF-8"));
        assert_eq!(c_text("a\0b").to_str().unwrap(), "a\u{fffd}b");
    }
}
