//! R7: a message is handled at most once; an answer means that it was; `maybe_executed: false` that it was not.

use process_hub::engine::{Command, Recipient};
use process_hub::error::ErrorKind;
use process_hub::host::call::{HostAnswer, HostRequest};
use process_hub::ids::InstanceId;

use super::super::fact::Fact;
use super::super::ghost::{Ghost, OpEnd};
use super::super::host::{OpId, decode_message};
use super::super::queue::ProcessId;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct HandledOnce;

impl Invariant for HandledOnce {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        match fact {
            Fact::Completed { process, call, answer: HostAnswer::Done(_), .. } => {
                let HostRequest::Handle { message, .. } = &call.request else {
                    return Ok(());
                };
                let Some(id) = decode_message(message) else {
                    return broken(ghost, "R7", format!("{} is given a mangled message", call.child));
                };
                let Some(op) = ghost.ops.get(id.0 as usize) else {
                    return broken(ghost, "R7", format!("{} is given an invented message", call.child));
                };
                let here = ghost.describe(*process);
                // One that is for all instances each of them handles, once.
                let is_again = |(other, instance, _): &&(ProcessId, InstanceId, _)| {
                    !op.is_bound || (*other, *instance) == (*process, call.instance)
                };
                if let Some((other, instance, at)) = op.handled.iter().find(is_again) {
                    return broken(
                        ghost,
                        "S11",
                        format!(
                            "message {} to {} is handled on {here} by instance {}, and was handled on {} by instance {instance} at {at}",
                            id.0,
                            call.child,
                            call.instance,
                            ghost.describe(*other)
                        ),
                    );
                }
                if let Some((at, OpEnd::NotExecuted)) = op.ended {
                    return broken(
                        ghost,
                        "R7",
                        format!(
                            "message {} to {} is handled on {here}, and its sender was told at {at} that it was not",
                            id.0, call.child
                        ),
                    );
                }
                Ok(())
            }
            Fact::Replied { process, hub, request, result } => {
                let Some(open) = ghost.requests.get(&(*process, *hub, *request)) else {
                    return Ok(());
                };
                let (Command::Call(message), Some(OpId(number))) = (&open.command, open.op) else {
                    return Ok(());
                };
                let Some(op) = ghost.ops.get(number as usize) else {
                    return Ok(());
                };
                let is_handled = !op.handled.is_empty();
                let text = match result {
                    Ok(_) if !is_handled => "answered, and nobody handled it",
                    Err(error) if is_handled && !error.maybe_executed && error.kind != ErrorKind::ChildFailed => {
                        "refused as not executed, and it was handled"
                    }
                    Ok(_) | Err(_) => return Ok(()),
                };
                let to = match &message.recipient {
                    Recipient::Active => "the active instance".to_owned(),
                    Recipient::Node(name) => name.to_string(),
                    Recipient::All => "all".to_owned(),
                };
                broken(
                    ghost,
                    "R7",
                    format!(
                        "message {number} to {} ({to}) was {text}: {result:?}, handled {:?}",
                        message.child, op.handled
                    ),
                )
            }
            _ => Ok(()),
        }
    }
}
