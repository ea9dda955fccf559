//! Errors as C reads them.

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use process_hub::error::{Error, ErrorKind};

use crate::boundary::{HandlePointer as _, OutPointer as _, ask, c_text, lend};
use crate::table::Handled;
use crate::types::{ph_error, ph_status};

/// An error, with its texts in C's form.
pub(crate) struct ErrorObject {
    pub(crate) error: Error,
    operation: CString,
    message: CString,
    child_id: Option<CString>,
    node: Option<CString>,
    trace: Option<CString>,
    json: OnceLock<CString>,
}

impl Handled for ErrorObject {
    const TYPE: u64 = 4;
    const NAME: &'static str = "ph_error";
}

impl ErrorObject {
    pub(crate) fn new(error: Error) -> Self {
        Self {
            operation: c_text(&error.operation),
            message: c_text(&error.message),
            child_id: error.child_id.as_deref().map(c_text),
            node: error.node.as_deref().map(c_text),
            trace: error.trace.as_deref().map(c_text),
            json: OnceLock::new(),
            error,
        }
    }
}

/// The kind with this number.
pub(crate) fn kind_of(number: ph_status) -> Option<ErrorKind> {
    ErrorKind::ALL.iter().copied().find(|kind| ph_status::from(kind.number()) == number)
}

/// The names and meanings of the kinds, as C reads them.
struct KindTexts {
    number: ph_status,
    name: CString,
    meaning: CString,
}

fn kind_texts(number: ph_status) -> Option<&'static KindTexts> {
    static TEXTS: OnceLock<Vec<KindTexts>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        let all = ErrorKind::ALL.iter();
        all.map(|kind| KindTexts {
            number: kind.number().into(),
            name: c_text(kind.name()),
            meaning: c_text(kind.meaning()),
        })
        .collect()
    });
    texts.iter().find(|texts| texts.number == number)
}

/// A text of an error; the error keeps it until it is freed.
fn text(error: *mut ph_error, read: impl FnOnce(&ErrorObject) -> Option<&CStr>) -> *const c_char {
    ask("ph_error", std::ptr::null(), || {
        let object = error.object("ph_error")?;
        Ok(read(&object).map_or(std::ptr::null(), lend))
    })
}

/// The number of the error; 0 if the handle is none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_number(error: *mut ph_error) -> ph_status {
    ask("ph_error_number", 0, || Ok(error.object("ph_error_number")?.error.kind.number().into()))
}

/// The name of the error's kind, such as "timeout"; NULL if the handle is none. Never freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_kind(error: *mut ph_error) -> *const c_char {
    ph_kind_name(ph_error_number(error))
}

/// The operation that failed; NULL if the handle is none. The error keeps the text until it is freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_operation(error: *mut ph_error) -> *const c_char {
    text(error, |error| Some(&error.operation))
}

/// One line for a person, with ids, limits and actual values; NULL if the handle is none. The error keeps the text
/// until it is freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_message(error: *mut ph_error) -> *const c_char {
    text(error, |error| Some(&error.message))
}

/// The child concerned; NULL if there is none or the handle is none. The error keeps the text until it is freed. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_child_id(error: *mut ph_error) -> *const c_char {
    text(error, |error| error.child_id.as_deref())
}

/// The node concerned; NULL if there is none or the handle is none. The error keeps the text until it is freed. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_node(error: *mut ph_error) -> *const c_char {
    text(error, |error| error.node.as_deref())
}

/// What the language that failed told of it, such as a stack trace; NULL if nothing or the handle is none. The error
/// keeps the text until it is freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_trace(error: *mut ph_error) -> *const c_char {
    text(error, |error| error.trace.as_deref())
}

/// Whether the message of a call may have been handled all the same; false if the handle is none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_maybe_executed(error: *mut ph_error) -> bool {
    ask("ph_error_maybe_executed", false, || Ok(error.object("ph_error_maybe_executed")?.error.maybe_executed))
}

/// The error as a JSON object `{kind, code, operation, message, child_id, node, maybe_executed, trace}`; NULL if the
/// handle is none. The error keeps the text until it is freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_json(error: *mut ph_error) -> *const c_char {
    text(error, |error| Some(error.json.get_or_init(|| c_text(&error.error.to_json().to_string()))))
}

/// Frees an error and sets the handle to NULL. NULL, and a handle that is NULL or freed, is no harm. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_error_free(error: *mut *mut ph_error) {
    ask("ph_error_free", (), || {
        if let Some(handle) = error.present() {
            error.put(std::ptr::null_mut());
            handle.release("ph_error_free")?;
        }
        Ok(())
    });
}

/// The name of the error with this number, such as "timeout" for 9001; NULL if there is none. Never freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_kind_name(number: ph_status) -> *const c_char {
    ask("ph_kind_name", std::ptr::null(), || Ok(kind_texts(number).map_or(std::ptr::null(), |texts| lend(&texts.name))))
}

/// One sentence on the error with this number; NULL if there is none. Never freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_kind_meaning(number: ph_status) -> *const c_char {
    ask("ph_kind_meaning", std::ptr::null(), || {
        Ok(kind_texts(number).map_or(std::ptr::null(), |texts| lend(&texts.meaning)))
    })
}
