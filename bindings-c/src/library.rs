//! What concerns the library as a whole.

use std::ffi::c_char;

use crate::boundary::{enter, lend};
use crate::types::{ph_error, ph_status, ph_value};
use crate::{table, value};

/// Raised when a function or struct changes in a way that breaks programs built before.
pub const PH_ABI_VERSION: u32 = 0;

/// The version of the library, such as "0.1.0". Never freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_version_string() -> *const c_char {
    const VERSION: &std::ffi::CStr =
        match std::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    lend(VERSION)
}

/// The ABI of the library. A program built against another `PH_ABI_VERSION` cannot use it. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_abi_version() -> u32 {
    PH_ABI_VERSION
}

/// Counts of what this library holds in the process, as the JSON object `{handles, threads, descriptors}`: handles that are
/// not freed, threads of the library, open descriptors of the whole process.
///
/// On `PH_OK`, `*stats` is the program's and freed by `ph_value_free`; it is not counted. On failure it is untouched, and
/// `*err`, unless NULL, is the program's. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_debug_stats(stats: *mut ph_value, err: *mut *mut ph_error) -> ph_status {
    enter("debug_stats", err, || {
        let (threads, descriptors) = process_hub::hub::process_counts();
        let document = serde_json::json!({
            "handles": table::len(), "threads": threads, "descriptors": descriptors,
        });
        value::write_json(stats, &document)
    })
}
