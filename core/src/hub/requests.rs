//! How operations of the public API reach the engine.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::inputs::Inputs;
use super::pending::{Pending, Sink};
use crate::engine::{Command, Input, MessageCommand, Outcome};
use crate::error::{Error, ErrorKind};
use crate::host::queue::HostQueue;
use crate::ids::RequestId;
use crate::payload::{MAX_MESSAGE_BYTES, Payload};

/// How long an operation without a timeout of its own may take.
const SHORT: Duration = Duration::from_secs(5);

/// The door to one hub's engine.
#[derive(Debug)]
pub(crate) struct Requests {
    inputs: Inputs,
    queue: HostQueue,
    next: AtomicU64,
    process: u32,
    ended: OnceLock<Error>,
}

impl Requests {
    pub(crate) fn new(inputs: Inputs, queue: HostQueue) -> Self {
        Self { inputs, queue, next: AtomicU64::new(1), process: std::process::id(), ended: OnceLock::new() }
    }

    /// Every later operation answers this error, with its own name.
    pub(crate) fn end(&self, reason: Error) {
        let _ = self.ended.set(reason);
    }

    /// Why the hub takes no operations any more.
    pub(crate) fn ended(&self) -> Option<&Error> {
        self.ended.get()
    }

    pub(crate) fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Sends a command; the answer is waited for.
    pub(crate) fn submit<T>(&self, command: Command, convert: fn(Outcome) -> Option<Result<T, Error>>) -> Pending<T> {
        let id = self.number();
        let operation = operation(&command);
        let (pending, sink) = Pending::open(id, operation, timeout(&command), convert, self.inputs.turns());
        if let Err((error, sink)) = self.hand_over(id, command, sink, true) {
            sink.answer(Err(error));
        }
        pending
    }

    /// `call`.
    pub(crate) fn call(&self, message: MessageCommand) -> Pending<Payload> {
        self.submit(Command::Call(message), |outcome| outcome.into_reply().map(Ok))
    }

    /// `send`.
    pub(crate) fn send(&self, message: MessageCommand) -> Pending<()> {
        self.submit(Command::Send(message), |outcome| outcome.into_done().map(Ok))
    }

    /// Sends a command; the answer comes as an item of the host queue. `register` runs before it can.
    pub(crate) fn submit_to_queue(
        &self,
        command: Command,
        register: impl FnOnce(RequestId),
    ) -> Result<RequestId, Error> {
        let id = self.number();
        let sink = Sink::queue(operation(&command), id, self.queue.clone());
        register(id);
        self.hand_over(id, command, sink, false).map_err(|(error, sink)| {
            sink.forget();
            error
        })?;
        Ok(id)
    }

    /// Sends a command whose answer nobody reads.
    pub(crate) fn submit_unread(&self, command: Command) {
        let sink = Sink::nobody(operation(&command));
        let _ = self.hand_over(self.number(), command, sink, false);
    }

    /// Tells the engine that nobody waits for this operation any more.
    pub(crate) fn cancel(&self, id: RequestId) {
        if self.check("cancel").is_ok() {
            self.inputs.send(Input::Cancel(id));
        }
    }

    /// Whether operations are possible.
    pub(crate) fn check(&self, operation: &'static str) -> Result<(), Error> {
        if self.is_forked() {
            let message = "the process was forked after the hub started; start a hub of its own here";
            return Err(Error::new(ErrorKind::Forked, operation, message));
        }
        match self.ended.get() {
            Some(reason) => Err(Error { operation: operation.into(), ..reason.clone() }),
            None => Ok(()),
        }
    }

    fn number(&self) -> RequestId {
        RequestId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn hand_over(&self, id: RequestId, command: Command, sink: Sink, is_waited_for: bool) -> Result<(), (Error, Sink)> {
        let name = sink.operation();
        if let Err(error) = self.check(name).and_then(|()| check_arguments(&command)) {
            return Err((error, sink));
        }
        self.inputs.command(id, command, sink, is_waited_for).map_err(|sink| {
            let message = format!("{} operations wait for the hub already", super::inputs::MAX_WAITING_COMMANDS);
            (Error::new(ErrorKind::Overloaded, name, message), sink)
        })
    }
}

/// What can be refused without asking the engine.
fn check_arguments(command: &Command) -> Result<(), Error> {
    let refuse = |kind, message: String| Err(Error::new(kind, operation(command), message));
    match command {
        Command::Start(specs, _) if specs.is_empty() => {
            refuse(ErrorKind::NoChildren, "the list of children is empty".into())
        }
        Command::Stop(ids, _) if ids.is_empty() => {
            refuse(ErrorKind::NoChildren, "the list of children is empty".into())
        }
        Command::Call(message) | Command::Send(message) if message.message.len() > MAX_MESSAGE_BYTES => {
            let actual = message.message.len();
            refuse(
                ErrorKind::PayloadTooLarge,
                format!("a message may have {MAX_MESSAGE_BYTES} bytes, this one has {actual}"),
            )
            .map_err(|error| error.with_child(message.child.as_str()))
        }
        Command::Start(specs, _) => match specs.iter().find(|spec| spec.args.len() > MAX_MESSAGE_BYTES) {
            Some(spec) => refuse(
                ErrorKind::PayloadTooLarge,
                format!("arguments may have {MAX_MESSAGE_BYTES} bytes, those of this child have {}", spec.args.len()),
            )
            .map_err(|error| error.with_child(spec.id.as_str())),
            None => Ok(()),
        },
        Command::Call(_)
        | Command::Send(_)
        | Command::Stop(..)
        | Command::Register(_)
        | Command::Drain(_)
        | Command::Shutdown(_)
        | Command::Where(_)
        | Command::Plan(_)
        | Command::Sync(_)
        | Command::WhichChildren(_)
        | Command::AcknowledgeLoss(_)
        | Command::ResetClusterSize(..)
        | Command::SubscribeHooks(_) => Ok(()),
    }
}

/// The public name of a command, for errors.
pub(crate) fn operation(command: &Command) -> &'static str {
    match command {
        Command::Start(..) => "start_children",
        Command::Stop(..) => "stop_children",
        Command::Call(_) => "call",
        Command::Send(_) => "send",
        Command::Register(_) => "register",
        Command::Drain(_) => "drain",
        Command::Shutdown(_) => "stop",
        Command::Where(_) => "where",
        Command::Plan(_) => "plan",
        Command::Sync(_) => "sync",
        Command::WhichChildren(_) => "which_children",
        Command::AcknowledgeLoss(_) => "acknowledge_loss",
        Command::ResetClusterSize(..) => "reset_cluster_size",
        Command::SubscribeHooks(_) => "on",
    }
}

fn timeout(command: &Command) -> Duration {
    match command {
        Command::Start(_, options) => options.timeout,
        Command::Call(message) | Command::Send(message) => message.timeout,
        Command::Stop(_, timeout)
        | Command::Drain(timeout)
        | Command::Shutdown(timeout)
        | Command::Sync(timeout)
        | Command::WhichChildren(timeout)
        | Command::ResetClusterSize(_, timeout) => *timeout,
        Command::Register(_)
        | Command::Where(_)
        | Command::Plan(_)
        | Command::AcknowledgeLoss(_)
        | Command::SubscribeHooks(_) => SHORT,
    }
}

#[cfg(test)]
mod tests;
