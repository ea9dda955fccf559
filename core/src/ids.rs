//! Names and numbers that identify things, each with a type of its own.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind};

/// Longest accepted id or name, in bytes.
pub const MAX_ID_BYTES: usize = 255;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Up to 23 bytes are kept in place; a longer text is shared by all clones.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks the length (1–255 bytes of UTF-8) and keeps the text.
            ///
            /// # Errors
            /// `invalid_argument` with the length when it is out of range.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
                let text = text.as_ref();
                if text.is_empty() || text.len() > MAX_ID_BYTES {
                    return Err(Error::new(
                        ErrorKind::InvalidArgument,
                        concat!("check_", $what),
                        format!(
                            "{} must have 1 to {MAX_ID_BYTES} bytes, this one has {}",
                            $what,
                            text.len()
                        ),
                    ));
                }
                Ok(Self(SmolStr::new(text)))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        /// By hand, so that what a peer sends is checked as well, and costs no second allocation.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a text of 1 to 255 bytes")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

text_id!(
    /// The name of a node, unique in its cluster.
    NodeName, "node_name"
);
text_id!(
    /// The id of a child, unique in its hub cluster.
    ChildId, "child_id"
);
text_id!(
    /// The name under which a host registered code able to run a child.
    KindName, "kind"
);
text_id!(
    /// The id of a hub; hubs with the same id on connected nodes form one hub cluster.
    HubId, "hub_id"
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_id!(
    /// One start of a node: new at each start, larger than every earlier one of the same name.
    Incarnation
);
number_id!(
    /// The fencing number of a child's owner: rises whenever the owner changes, below 2^53 (R4).
    Epoch
);
number_id!(
    /// One running copy of a child inside one hub of one process; never reused there.
    InstanceId
);
number_id!(
    /// The one-use number of a host call.
    CallNumber
);
number_id!(
    /// One open operation of the public API inside one hub of one process.
    RequestId
);

/// A node at one of its incarnations.
#[derive(Clone, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(
    clippy::derived_hash_with_manual_eq,
    clippy::derive_ord_xor_partial_ord,
    reason = "equality is the derived one"
)]
pub struct NodeRef {
    /// The node's name.
    pub name: NodeName,
    /// Which start of that name.
    pub incarnation: Incarnation,
}

impl PartialEq for NodeRef {
    /// As derived, but two nodes mostly differ in the number already.
    fn eq(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && self.name == other.name
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.incarnation)
    }
}

/// A node and where to reach it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Contact {
    /// The node.
    pub node: NodeRef,
    /// The `host:port` it tells its peers.
    pub address: String,
}

/// Orders the activations of one child (R4): by epoch, then incarnation, then transfer.
///
/// Effects that carry a token at or below the last accepted one have no effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Token {
    /// The fencing number users see.
    pub epoch: Epoch,
    /// The incarnation of the node that runs the activation.
    pub incarnation: Incarnation,
    /// Counts activations of that node: a restart or a retried move gets a new number.
    pub transfer: u64,
}

impl Token {
    /// Whether this is the activation `first`, or a restart of it on the same node.
    #[must_use]
    pub fn is_restart_of(self, first: Self) -> bool {
        (self.epoch, self.incarnation) == (first.epoch, first.incarnation) && self.transfer >= first.transfer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_longer_than_the_limit_comes_from_a_peer_then_it_is_refused() {
        let sent = postcard::to_allocvec(&"x".repeat(MAX_ID_BYTES + 1)).unwrap();
        assert!(postcard::from_bytes::<ChildId>(&sent).is_err());
        let sent = postcard::to_allocvec("").unwrap();
        assert!(postcard::from_bytes::<ChildId>(&sent).is_err());
    }

    #[test]
    fn id_is_sent_then_it_reads_back() {
        let id = ChildId::new("x".repeat(MAX_ID_BYTES)).unwrap();
        let sent = postcard::to_allocvec(&id).unwrap();
        assert_eq!(postcard::from_bytes::<ChildId>(&sent).unwrap(), id);
        assert_eq!(serde_json::from_str::<NodeName>("\"a\\nb\"").unwrap().as_str(), "a\nb");
    }
}
