//! One table of errors for all languages, and the error type.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! table {
    ($($variant:ident = $number:literal, $name:literal, $meaning:literal;)*) => {
        /// What went wrong. The numbers are fixed for ever and the same in every language.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant = $number,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The kind's name in every language's documents, such as `not_found`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence saying when this kind is raised.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

table! {
    InvalidArgument = 1001, "invalid_argument", "An argument has the wrong form or is out of range.";
    InvalidConfig = 1002, "invalid_config", "The configuration has problems; all of them are listed with their paths.";
    UnknownKind = 1003, "unknown_kind", "No member of the hub registered this kind.";
    NoChildren = 1004, "no_children", "An empty list of children was given.";
    NotEncodable = 1005, "not_encodable", "A value cannot be encoded; the path in the value is given.";
    NotStarted = 2001, "not_started", "The hub was made but not started.";
    Closed = 2002, "closed", "The hub was stopped.";
    HubExists = 2003, "hub_exists", "This node already runs a hub with this id.";
    Forked = 2004, "forked", "The process was forked after the hub started; a hub belongs to one process.";
    WouldDeadlock = 2005, "would_deadlock", "A chain of calls came back to a child that waits in it.";
    HubFailed = 2006, "hub_failed", "The hub found one of its invariants broken and fenced itself.";
    Unreachable = 3001, "unreachable", "The node that would have to answer is gone.";
    Partitioned = 3002, "partitioned", "This side of the cluster has no quorum.";
    Locked = 3003, "locked", "The hub is locked by moves that are open.";
    Leaving = 3004, "leaving", "The node is leaving the cluster.";
    VersionMismatch = 3005, "version_mismatch", "The peer speaks no protocol version that this node speaks.";
    StrategyMismatch = 3006, "strategy_mismatch", "The peer's hub is configured with another strategy.";
    AuthenticationFailed = 3007, "authentication_failed", "The peer did not prove the shared key.";
    NodeNameTaken = 3008, "node_name_taken", "A living node of the cluster has this name.";
    AlreadyStarted = 4001, "already_started", "The child is already wanted.";
    NotFound = 4002, "not_found", "No such child is wanted.";
    StartFailed = 4003, "start_failed", "The child's start callback failed.";
    RestartLimit = 4004, "restart_limit", "The child used up its restart budget and is quarantined.";
    Overloaded = 4005, "overloaded", "A bounded queue is full.";
    ChildFailed = 4006, "child_failed", "The child raised while it handled the message.";
    NotActive = 4007, "not_active", "The child is wanted but no instance became active in time.";
    HandoverTimeout = 5001, "handover_timeout", "A step of a handover did not end in time.";
    HostTimeout = 5002, "host_timeout", "A callback did not end in time.";
    PayloadTooLarge = 5003, "payload_too_large", "A message or state is larger than its limit.";
    InvalidAnswer = 6001, "invalid_answer", "A custom strategy gave an answer that makes no sense.";
    MissingChildMapping = 6002, "missing_child_mapping", "Guided distribution needs a child mapping.";
    InvalidChildMapping = 6003, "invalid_child_mapping", "The child mapping is not a map of ids to nodes.";
    ChildMappingMismatch = 6004, "child_mapping_mismatch", "The child mapping and the children differ.";
    ChildReplicationMismatch = 6005, "child_replication_mismatch", "The child mapping names the wrong number of nodes.";
    Timeout = 9001, "timeout", "The operation did not end in the time given.";
    Cancelled = 9002, "cancelled", "The operation was cancelled.";
    Panic = 9003, "panic", "Host code panicked.";
    Internal = 9004, "internal", "A fault of this library.";
}

impl ErrorKind {
    /// The fixed number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error with the operation it came from and the facts a reader needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The operation that failed, such as `start_children`.
    pub operation: String,
    /// One line for a person, with ids, limits and actual values.
    pub message: String,
    /// The child concerned.
    pub child_id: Option<String>,
    /// The node concerned.
    pub node: Option<String>,
    /// For `call` and `send`: whether the message may have been handled (R7).
    pub maybe_executed: bool,
    /// The host's own account of the failure, such as a stack trace, as text.
    pub trace: Option<String>,
}

impl Error {
    /// An error of `kind` raised by `operation`.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            operation: operation.into(),
            message: message.into(),
            child_id: None,
            node: None,
            maybe_executed: false,
            trace: None,
        }
    }

    /// Names the child concerned.
    #[must_use]
    pub fn with_child(mut self, child: impl Into<String>) -> Self {
        self.child_id = Some(child.into());
        self
    }

    /// Names the node concerned.
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Says that the message may have been handled.
    #[must_use]
    pub fn with_maybe_executed(mut self, maybe_executed: bool) -> Self {
        self.maybe_executed = maybe_executed;
        self
    }

    /// Keeps the host's own account of the failure.
    #[must_use]
    pub fn with_trace(mut self, trace: Option<String>) -> Self {
        self.trace = trace;
        self
    }

    /// The error as the JSON object every binding builds its exception from:
    /// `{kind, code, operation, message, child_id, node, maybe_executed, trace}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.kind.name(),
            "code": self.kind.number(),
            "operation": self.operation,
            "message": self.message,
            "child_id": self.child_id,
            "node": self.node,
            "maybe_executed": self.maybe_executed,
            "trace": self.trace,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.operation, self.message, self.kind)
    }
}

impl std::error::Error for Error {}
