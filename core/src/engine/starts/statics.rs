//! Static children that nobody can run (R15): whoever lists them asks for them again and again, and tells of it once.

use std::collections::BTreeMap;

use serde_json::json;

use crate::engine::{Engine, FIRST_OWN_REQUEST};
use crate::error::ErrorKind;
use crate::ids::ChildId;
use crate::observe::HookName;
use crate::spec::StartResult;

impl Engine {
    /// Takes note of what a start for the static children could not place.
    pub(super) fn note_unplaced_statics(&mut self, request: u64, result: &StartResult) {
        if request < FIRST_OWN_REQUEST {
            return;
        }
        let is_unplaced = |kind| matches!(kind, ErrorKind::UnknownKind | ErrorKind::Unreachable);
        let unplaced = result.errors.iter().filter(|error| is_unplaced(error.kind));
        let unplaced: BTreeMap<ChildId, String> =
            unplaced.map(|error| (error.id.clone(), error.message.clone())).collect();
        let told = std::mem::replace(&mut self.unplaced_statics, unplaced.clone());
        for (id, why) in unplaced.iter().filter(|(id, _)| !told.contains_key(*id)) {
            self.fire(HookName::ChildUnplaced, || json!({"child_id": id, "why": why}));
        }
    }
}
