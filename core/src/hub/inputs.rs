//! The one channel into the driver of a hub.
//!
//! It is not bounded by its type but by what may be put into it (R17): commands and frames are counted and
//! refused above a limit, completions are as many as the calls the engine issued, and membership changes are as
//! many as the members. A sender therefore never blocks, and a completion is never lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::pending::Sink;
use super::turns::{Role, Turns, Weight};
use crate::engine::{Command, Input};
use crate::error::Error;
use crate::ids::{NodeRef, RequestId};
use crate::sync::{Receiver, Sender, unbounded};

/// Most commands of the public API that may wait for the driver; above it callers get `overloaded`.
pub(crate) const MAX_WAITING_COMMANDS: usize = 65_536;
/// Most bytes of frames that may wait for the driver; above it frames are dropped and counted.
pub(crate) const MAX_WAITING_FRAME_BYTES: usize = 64 << 20;
/// What a frame counts beside its bytes.
const FRAME_OVERHEAD_BYTES: usize = 64;
/// A frame up to this size is taken for a light one.
const LIGHT_FRAME_BYTES: usize = 4 << 10;

/// What the driver of a hub takes.
#[derive(Debug)]
pub(crate) enum DriverInput {
    /// Straight into the engine.
    Engine(Input),
    /// A frame of a member.
    Frame(NodeRef, Bytes),
    /// An operation of the public API and where its answer goes.
    Command(RequestId, Command, Sink),
    /// Fence the hub for this reason (R13, R20).
    Fail(Box<Error>),
    /// End at once: nobody waits any more.
    Halt,
}

/// What the driver has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    commands: AtomicUsize,
    frame_bytes: AtomicUsize,
    frames_dropped: AtomicUsize,
}

impl Waiting {
    /// Bytes of frames that wait.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_bytes.load(Ordering::Relaxed)
    }

    /// Frames dropped because too many bytes waited.
    pub(crate) fn frames_dropped(&self) -> usize {
        self.frames_dropped.load(Ordering::Relaxed)
    }

    fn taken(&self, input: &DriverInput) {
        match input {
            DriverInput::Command(..) => {
                self.commands.fetch_sub(1, Ordering::Relaxed);
            }
            DriverInput::Frame(_, frame) => {
                self.frame_bytes.fetch_sub(frame.len() + FRAME_OVERHEAD_BYTES, Ordering::Relaxed);
            }
            DriverInput::Engine(_) | DriverInput::Fail(_) | DriverInput::Halt => {}
        }
    }
}

/// The sending end of a driver's channel.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    sender: Sender<DriverInput>,
    waiting: Arc<Waiting>,
    turns: Arc<Turns>,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct InputReceiver {
    pub(crate) receiver: Receiver<DriverInput>,
    waiting: Arc<Waiting>,
}

/// The channel of one driver.
pub(crate) fn channel() -> (Inputs, InputReceiver) {
    let (sender, receiver) = unbounded();
    let waiting = Arc::new(Waiting::default());
    let turns = Arc::new(Turns::new(sender.clone()));
    (Inputs { sender, waiting: Arc::clone(&waiting), turns }, InputReceiver { receiver, waiting })
}

impl Inputs {
    /// Counts of what waits.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Who runs the turns.
    pub(crate) fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Queues an input and sees to it that somebody takes it; false when the driver ended.
    fn queue(&self, input: DriverInput, weight: Weight) -> bool {
        let is_sent = self.sender.send(input).is_ok();
        if is_sent {
            self.turns.call(weight);
        }
        is_sent
    }

    /// Hands over an input that is bounded by its nature. A driver that ended ignores it.
    pub(crate) fn send(&self, input: Input) {
        let weight = if matches!(input, Input::HostDone(..)) { Weight::Light } else { Weight::Any };
        self.queue(DriverInput::Engine(input), weight);
    }

    /// The same on a thread of the host: turns may run here until it `has_call`.
    pub(crate) fn run(&self, input: Input, has_call: impl Fn() -> bool) {
        if let Err(input) = self.turns.try_run(DriverInput::Engine(input), Role::Host, has_call) {
            self.queue(input, Weight::Light);
        }
    }

    /// Hands over a frame, or drops and counts it.
    pub(crate) fn frame(&self, from: NodeRef, frame: Bytes) {
        let bytes = frame.len() + FRAME_OVERHEAD_BYTES;
        let before = self.waiting.frame_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > MAX_WAITING_FRAME_BYTES {
            self.waiting.frame_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.waiting.frames_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let weight = if bytes <= LIGHT_FRAME_BYTES { Weight::Light } else { Weight::Any };
        if !self.queue(DriverInput::Frame(from, frame), weight) {
            self.waiting.frame_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Hands over a command. Gives the sink back when too many wait; a driver that ended drops the sink, which
    /// answers `closed`. The turn of a message `is_waited_for` may run here.
    pub(crate) fn command(&self, id: RequestId, command: Command, sink: Sink, is_waited_for: bool) -> Result<(), Sink> {
        if self.waiting.commands.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING_COMMANDS {
            self.waiting.commands.fetch_sub(1, Ordering::Relaxed);
            return Err(sink);
        }
        let is_message = matches!(command, Command::Call(_) | Command::Send(_));
        let weight = if is_message { Weight::Light } else { Weight::Any };
        let mut input = DriverInput::Command(id, command, sink);
        if is_message && is_waited_for {
            match self.turns.try_run(input, Role::Caller, || true) {
                Ok(()) => return Ok(()),
                Err(given_back) => input = given_back,
            }
        }
        if !self.queue(input, weight) {
            self.waiting.commands.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fences the hub.
    pub(crate) fn fail(&self, reason: Error) {
        self.queue(DriverInput::Fail(Box::new(reason)), Weight::Any);
    }

    /// Asks for an orderly end; nobody reads the report.
    pub(crate) fn shut_down(&self, timeout: Duration) {
        let command = Command::Shutdown(timeout);
        let id = RequestId(0);
        let _ = self.command(id, command, Sink::nobody("stop"), false);
    }

    /// Ends the driver.
    pub(crate) fn halt(&self) {
        self.queue(DriverInput::Halt, Weight::Any);
    }
}

impl InputReceiver {
    /// Notes that the driver took `input` out of the channel.
    pub(crate) fn taken(&self, input: &DriverInput) {
        self.waiting.taken(input);
    }
}
