//! How the ghost model follows what users ask for, and what they are told.

use process_hub::engine::{Command, IfExists, Outcome};
use process_hub::error::{Error, ErrorKind};
use process_hub::ids::{ChildId, RequestId};

use super::super::fact::{child_index, spec_number};
use super::super::host::decode_message;
use super::super::queue::{HubIndex, ProcessId};
use super::{Ghost, GhostRequest, Intent, OpEnd, Wish, WishEnd};

impl Ghost {
    pub(super) fn issued(&mut self, process: ProcessId, hub: HubIndex, request: RequestId, command: &Command) {
        let now = self.now;
        let wish = |child: &ChildId, wish: Wish, ghost: &mut Self| {
            ghost.disturbed = now;
            if let Some(child) = child_index(child).and_then(|i| ghost.children.get_mut(i)) {
                child.intents.push(Intent {
                    wish,
                    request: Some((process, request)),
                    issued: now,
                    ended: None,
                    deaths_since: 0,
                    is_held_by_two: false,
                });
            }
        };
        let mut op = None;
        match command {
            Command::Start(specs, _) => {
                for spec in specs {
                    let number = spec_number(&spec.args.data).unwrap_or(u32::MAX);
                    wish(&spec.id, Wish::Start(number), self);
                }
            }
            Command::Stop(children, _) => {
                for child in children {
                    wish(child, Wish::Stop, self);
                }
            }
            Command::Drain(_) | Command::Shutdown(_) => {
                self.disturbed = now;
                self.process_mut(process).is_leaving = true;
            }
            Command::Call(message) => op = decode_message(&message.message),
            Command::Send(message) => op = decode_message(&message.message),
            Command::Register(_)
            | Command::Where(_)
            | Command::Plan(_)
            | Command::Sync(_)
            | Command::WhichChildren(_)
            | Command::AcknowledgeLoss(_)
            | Command::ResetClusterSize(..)
            | Command::SubscribeHooks(_) => {}
        }
        let open = GhostRequest { command: command.clone(), issued: now, op };
        self.requests.insert((process, hub, request), open);
    }

    pub(super) fn end_intents(&mut self, process: ProcessId, request: RequestId, end: impl Fn(usize) -> WishEnd) {
        let now = self.now;
        let hubs = &self.processes[process.0 as usize].hubs;
        let is_held_by_two = hubs.iter().all(|hub| !hub.members.is_empty());
        for (index, child) in self.children.iter_mut().enumerate() {
            let mine = |intent: &&mut Intent| intent.request == Some((process, request)) && intent.ended.is_none();
            for intent in child.intents.iter_mut().rev().filter(mine) {
                intent.ended = Some((now, end(index)));
                intent.is_held_by_two = is_held_by_two;
            }
        }
    }

    pub(super) fn replied(
        &mut self,
        process: ProcessId,
        hub: HubIndex,
        request: RequestId,
        result: &Result<Outcome, Error>,
    ) {
        let now = self.now;
        let Some(open) = self.requests.remove(&(process, hub, request)) else {
            return;
        };
        if let Some(op) = open.op.and_then(|op| self.ops.get_mut(op.0 as usize)) {
            let end = match result {
                Ok(_) => OpEnd::Answered,
                Err(error) if error.maybe_executed => OpEnd::Unknown,
                // `child_failed` answers that the handler ran and raised.
                Err(error) if error.kind == ErrorKind::ChildFailed => OpEnd::Unknown,
                Err(_) => OpEnd::NotExecuted,
            };
            op.ended = Some((now, end));
        }
        if !matches!(open.command, Command::Start(..) | Command::Stop(..)) {
            return;
        }
        self.disturbed = now;
        // A start that returns what exists writes nothing, and a stop elsewhere may stand.
        let returns_existing = if let Command::Start(_, options) = &open.command {
            !options.check_existing || options.if_exists == IfExists::Return
        } else {
            false
        };
        let granted = if returns_existing { WishEnd::Unknown } else { WishEnd::Granted };
        self.end_intents(process, request, |index| match result {
            Ok(Outcome::Started(started)) => {
                let is_child = |id: &ChildId| child_index(id) == Some(index);
                if started.rollback {
                    WishEnd::Unknown
                } else if started.started.iter().any(|child| is_child(&child.id)) {
                    granted
                } else {
                    match started.errors.iter().find(|error| is_child(&error.id)) {
                        Some(error) => refusal(error.kind),
                        None => WishEnd::Unknown,
                    }
                }
            }
            Ok(Outcome::Stopped(stopped)) => {
                let is_child = |id: &ChildId| child_index(id) == Some(index);
                if stopped.stopped.iter().any(|child| is_child(&child.id)) {
                    WishEnd::Granted
                } else {
                    match stopped.errors.iter().find(|error| is_child(&error.id)) {
                        Some(error) => refusal(error.kind),
                        None => WishEnd::Unknown,
                    }
                }
            }
            Ok(_) => WishEnd::Unknown,
            Err(error) => refusal(error.kind),
        });
    }

    /// The hub ended: nobody waits for its requests any more.
    pub(crate) fn close_requests(&mut self, process: ProcessId, hub: HubIndex) {
        let open: Vec<_> = self.requests.keys().filter(|key| (key.0, key.1) == (process, hub)).copied().collect();
        for (process, hub, request) in open {
            self.requests.remove(&(process, hub, request));
            self.end_intents(process, request, |_| WishEnd::Unknown);
        }
    }
}

/// Whether an error of a start or stop says that nothing changed. A failed first start unwants the child, also on
/// another side that has it.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "an error that is not known to change nothing may have changed something"
)]
const fn refusal(kind: ErrorKind) -> WishEnd {
    match kind {
        ErrorKind::AlreadyStarted | ErrorKind::NotFound | ErrorKind::UnknownKind | ErrorKind::InvalidArgument => {
            WishEnd::Refused
        }
        _ => WishEnd::Unknown,
    }
}
