//! What the public API adds to the engine's values: reading answers as results, and defaults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::engine::{MessageCommand, Outcome, Recipient};
use crate::error::{Error, ErrorKind};
use crate::ids::{ChildId, NodeName};
use crate::payload::Payload;
use crate::spec::{ChildError, DrainReport, StartResult, Started, StopResult, Stopped};

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($result:ty);)*) => {
        impl Outcome {
            $($(#[$doc])*
            #[must_use]
            #[allow(clippy::wildcard_enum_match_arm, reason = "every other answer is not the one asked for")]
            pub fn $name(self) -> Option<$result> {
                match self {
                    Self::$variant(result) => Some(result),
                    _ => None,
                }
            })*
        }
    };
}

readers! {
    /// The answer of `start_children`.
    into_start_result: Started(StartResult);
    /// The answer of `stop_children`.
    into_stop_result: Stopped(StopResult);
    /// The answer of `call`.
    into_reply: Reply(Payload);
    /// The answer of `drain` and `stop`.
    into_report: Drained(DrainReport);
    /// The answer of `where` and `plan`.
    into_json: Json(Value);
    /// The answer of `which_children`.
    into_children: Children(BTreeMap<NodeName, Vec<ChildId>>);
}

impl Outcome {
    /// Whether it is the answer of an operation that says nothing.
    #[must_use]
    pub fn into_done(self) -> Option<()> {
        (self == Self::Done).then_some(())
    }
}

impl MessageCommand {
    /// A message from outside of any child to the active instance, with the default timeout of 5 s.
    #[must_use]
    pub fn new(child: ChildId, message: Payload) -> Self {
        Self { child, message, recipient: Recipient::Active, timeout: Duration::from_secs(5), chain: Arc::new([]) }
    }
}

fn child_error(operation: &str, errors: Vec<ChildError>) -> Error {
    match errors.into_iter().next() {
        Some(error) => {
            let base = Error::new(error.kind, operation, error.message).with_child(error.id.as_str());
            match error.node {
                Some(node) => base.with_node(node.as_str()),
                None => base,
            }
        }
        None => Error::new(ErrorKind::Internal, operation, "an answer without a child"),
    }
}

impl StartResult {
    /// The result of `start_child`: the only child of this one.
    ///
    /// # Errors
    /// The child's own.
    pub fn into_one(mut self) -> Result<Started, Error> {
        match self.started.pop() {
            Some(started) if self.errors.is_empty() => Ok(started),
            Some(_) | None => Err(child_error("start_child", self.errors)),
        }
    }
}

impl StopResult {
    /// The result of `stop_child`: the only child of this one.
    ///
    /// # Errors
    /// The child's own.
    pub fn into_one(mut self) -> Result<Stopped, Error> {
        match self.stopped.pop() {
            Some(stopped) if self.errors.is_empty() => Ok(stopped),
            Some(_) | None => Err(child_error("stop_child", self.errors)),
        }
    }
}
