//! The arguments of a request.

use std::time::Duration;

use process_hub::error::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The error of a request that makes no sense.
pub(crate) fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "agent", message)
}

/// A request. An argument that is `null` counts as left out.
pub(crate) struct Arguments(Map<String, Value>);

impl Arguments {
    pub(crate) fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let read = |value: &Value| T::deserialize(value).map_err(|error| bad(format!("`{key}`: {error}")));
        self.value(key).map(read).transpose()
    }

    pub(crate) fn required<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        self.optional(key)?.ok_or_else(|| bad(format!("`{key}` is missing")))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    pub(crate) fn timeout(&self, default_ms: u64) -> Result<Duration, Error> {
        Ok(Duration::from_millis(self.optional("timeout_ms")?.unwrap_or(default_ms)))
    }
}
