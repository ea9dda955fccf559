//! What a script may ask for later: answers and hooks. Random runs keep none of it.

use std::collections::BTreeMap;

use process_hub::engine::Outcome;
use process_hub::error::Error;
use process_hub::ids::RequestId;
use process_hub::observe::{HookEvent, HookName};

use super::super::fact::child_index;
use super::super::queue::ProcessId;

/// One hook: who told it, and about which child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) by: ProcessId,
    pub(crate) name: HookName,
    pub(crate) child: Option<usize>,
}

/// Answers and hooks of a run.
#[derive(Default)]
pub(crate) struct Record {
    is_on: bool,
    pub(crate) replies: BTreeMap<(ProcessId, RequestId), Result<Outcome, Error>>,
    pub(crate) told: Vec<Told>,
}

impl Record {
    /// A record that keeps what it hears, or nothing.
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    pub(crate) fn reply(&mut self, by: ProcessId, request: RequestId, result: &Result<Outcome, Error>) {
        if self.is_on {
            self.replies.insert((by, request), result.clone());
        }
    }

    pub(crate) fn hook(&mut self, by: ProcessId, event: &HookEvent) {
        if self.is_on {
            let id = event.payload.get("child_id").and_then(|id| id.as_str());
            let child = id.and_then(|id| process_hub::ids::ChildId::new(id).ok()).as_ref().and_then(child_index);
            self.told.push(Told { by, name: event.name, child });
        }
    }
}
