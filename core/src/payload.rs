//! Opaque bytes with a content type: what children exchange and hand over.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Largest message of `call` and `send`, in bytes: 1 MiB.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Largest state a child may hand over, in bytes: 64 MiB.
pub const MAX_STATE_BYTES: usize = 64 << 20;

/// How the bytes of a [`Payload`] are to be read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum ContentType {
    /// JSON text (`application/json`).
    Json,
    /// Bytes as they are (`application/octet-stream`).
    #[default]
    Bytes,
    /// Whatever the host's codec names.
    Other(Arc<str>),
}

impl ContentType {
    /// The MIME name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
            Self::Other(name) => name,
        }
    }

    /// The content type with this MIME name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "application/json" => Self::Json,
            "application/octet-stream" => Self::Bytes,
            other => Self::Other(other.into()),
        }
    }
}

/// Bytes and their content type. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Payload {
    /// How to read `data`.
    pub content_type: ContentType,
    /// The bytes.
    #[serde(deserialize_with = "read_bytes")]
    pub data: Bytes,
}

/// What most arguments are.
const NULL: &[u8] = b"null";

/// Reads bytes; those of a child without arguments are kept once for all.
fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    struct Data;

    impl Visitor<'_> for Data {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(if bytes == NULL { Bytes::from_static(NULL) } else { Bytes::copy_from_slice(bytes) })
        }
    }

    deserializer.deserialize_bytes(Data)
}

impl Payload {
    /// Bytes as they are.
    #[must_use]
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        Self { content_type: ContentType::Bytes, data: data.into() }
    }

    /// JSON text. The text is not checked here.
    #[must_use]
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self { content_type: ContentType::Json, data: text.into() }
    }

    /// Encodes a value as JSON.
    #[must_use]
    pub fn from_value(value: &serde_json::Value) -> Self {
        Self::json(value.to_string().into_bytes())
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}
