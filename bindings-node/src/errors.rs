//! Core errors to what JavaScript throws.

use napi::Status;
use process_hub::error::{Error, ErrorKind};

/// The error as JavaScript gets it: its message is the JSON of the core's error, of which `errors.ts` makes ours.
pub(crate) fn raise(error: &Error) -> napi::Error {
    napi::Error::new(Status::GenericFailure, error.to_json().to_string())
}

/// `invalid_argument`.
pub(crate) fn invalid_argument(operation: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, operation, message)
}
