//! The messages this hub sent and that have no answer yet, and the routes they take; `routing` tells how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::hash::FixedHash;
use super::io::Recipient;
use crate::error::Error;
use crate::ids::{ChildId, NodeRef, RequestId};
use crate::payload::Payload;
use crate::time::Timestamp;

/// Where an open message is.
#[derive(Debug)]
pub(super) enum Place {
    /// At the origin.
    Waiting,
    /// On the way to, or at, this node.
    Sent(NodeRef),
}

/// A message without an answer yet.
#[derive(Debug)]
pub(super) struct OpenMessage {
    pub(super) child: ChildId,
    pub(super) message: Payload,
    pub(super) chain: Arc<[ChildId]>,
    pub(super) recipient: Recipient,
    pub(super) deadline: Timestamp,
    pub(super) timeout: Duration,
    pub(super) wants_reply: bool,
    /// Part of a `send` to all instances.
    pub(super) group: Option<u64>,
    pub(super) place: Place,
    pub(super) bounces: u32,
}

/// The open messages to one child.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// Where the latest message for the active instance went.
    pub(super) node: Option<NodeRef>,
    /// How many of those have no answer yet.
    pub(super) outstanding: usize,
    pub(super) waiting: BTreeSet<u64>,
    /// How many of those that wait are for the instance on a node.
    pub(super) bound: usize,
    /// Not before this time, unless the registry changes.
    pub(super) hold_until: Timestamp,
    /// Members that have not said yet whether they know the child.
    pub(super) asked: Option<BTreeSet<NodeRef>>,
}

impl Route {
    pub(super) fn wait(&mut self, id: u64, is_bound: bool) {
        if self.waiting.insert(id) {
            self.bound += usize::from(is_bound);
        }
    }

    /// A message has ended, wherever it was.
    pub(super) fn done(&mut self, id: u64, open: &OpenMessage) {
        let is_bound = open.recipient.is_bound();
        if self.waiting.remove(&id) {
            self.bound -= usize::from(is_bound);
        }
        if matches!(open.place, Place::Sent(_)) && !is_bound {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
    }
}

impl Recipient {
    /// Whether it is the instance on a node, whatever its role.
    pub(super) fn is_bound(&self) -> bool {
        matches!(self, Self::Node(_))
    }
}

/// A `send` to all: one message to each instance.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) request: RequestId,
    /// Messages without an answer.
    pub(super) open: usize,
    /// The first error.
    pub(super) error: Option<Error>,
    /// Some instance handled its message, or may have.
    pub(super) may_have_run: bool,
}

/// The messages this hub sent.
#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) open: IndexMap<u64, OpenMessage, FixedHash>,
    pub(super) routes: IndexMap<ChildId, Route, FixedHash>,
    pub(super) groups: BTreeMap<u64, Group>,
}
