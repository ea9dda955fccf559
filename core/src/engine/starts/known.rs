//! `check_existing`: where all or none is to start, what this node knows already is asked about first.

use super::{StartRequest, State};
use crate::engine::Engine;
use crate::engine::children::Children;
use crate::engine::io::{IfExists, OnFailure, StartOptions};
use crate::engine::requests::Request;

impl StartOptions {
    /// Whether a child that is there already undoes all others, and is to be found out before they are started.
    pub(super) fn checks_first(&self) -> bool {
        self.check_existing && self.on_failure == OnFailure::Rollback && self.if_exists == IfExists::Error
    }
}

impl Engine {
    /// Holds back what this node does not know, if there is something it does. The registry here may be behind: whether
    /// a child is there its owner decides (R1).
    pub(super) fn hold_unknown(children: &Children, request: &mut StartRequest) {
        let is_known = |id: &str| children.find(id).is_some_and(|child| children[child].entry.is_wanted());
        if !request.items.iter().any(|item| is_known(item.spec.id.as_str())) {
            return;
        }
        for item in &mut request.items {
            if matches!(item.state, State::Planned) && !is_known(item.spec.id.as_str()) {
                item.state = State::Held;
                request.held += 1;
            }
        }
    }

    /// What was asked about first is answered: the rest begins, or is over if one was refused. Says whether it begins.
    pub(super) fn let_held_begin(&mut self, id: u64) -> bool {
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return false;
        };
        if request.held == 0 || request.open > request.held {
            return false;
        }
        request.held = 0;
        if request.items.iter().any(|item| matches!(item.state, State::Failed(_))) {
            request.open = 0;
            return false;
        }
        for item in request.items.iter_mut().filter(|item| matches!(item.state, State::Held)) {
            item.state = State::Planned;
        }
        true
    }
}
