//! The thread of a node: membership, and nothing that could hold it up (A7).

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::{Condvar, Mutex};

use super::clock::now;
use super::end::Flag;
use super::router::{NodeInput, Router};
use crate::discovery::Seeds;
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::host::local::panic_text;
use crate::net::{Channel, Transport};
use crate::swim::{Swim, SwimEffect, SwimInput};
use crate::time::Timestamp;

/// How long a start waits for a seed to answer a dial.
const WAIT_FOR_LINK: Duration = Duration::from_millis(300);
/// How long a start waits for a member's verdict once a seed answered (R13).
const WAIT_FOR_VERDICT: Duration = Duration::from_secs(1);
/// What of the time of a stop is kept for the transport.
const CLOSE_TIME: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Arrival {
    dialled: BTreeSet<String>,
    is_linked: bool,
    verdict: Option<Result<(), Error>>,
}

/// How a node's start is seen to end: no seed answers, or a member takes it in or refuses it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    arrival: Mutex<Arrival>,
    changed: Condvar,
}

impl Gate {
    fn dialled(&self, addresses: &[String]) {
        (self.arrival.lock().dialled).extend(addresses.iter().cloned());
    }

    fn change(&self, change: impl FnOnce(&mut Arrival)) {
        change(&mut self.arrival.lock());
        self.changed.notify_all();
    }

    /// Waits for the first verdict as long as there may be one.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        let begin = Instant::now();
        let mut arrival = self.arrival.lock();
        loop {
            if let Some(verdict) = &arrival.verdict {
                return verdict.clone();
            }
            let until = match arrival.is_linked {
                true => begin + WAIT_FOR_LINK + WAIT_FOR_VERDICT,
                false if arrival.dialled.is_empty() => return Ok(()),
                false => begin + WAIT_FOR_LINK,
            };
            if self.changed.wait_until(&mut arrival, until).timed_out() {
                return arrival.verdict.clone().unwrap_or(Ok(()));
            }
        }
    }
}

/// What the threads of a node share.
pub(crate) struct Core {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) router: Arc<Router>,
    pub(crate) gate: Gate,
    /// The node left and its transport is closed.
    pub(crate) ended: Flag,
    /// The node begins to leave: nothing is dialled any more.
    pub(crate) leaving: Flag,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("node", self.transport.node()).finish_non_exhaustive()
    }
}

/// Membership and what carries out its effects.
pub(crate) struct Membership {
    swim: Swim,
    core: Arc<Core>,
    inputs: Receiver<NodeInput>,
    effects: Vec<SwimEffect>,
    leave_until: Option<Instant>,
    has_left: bool,
}

impl Membership {
    pub(crate) fn new(swim: Swim, core: Arc<Core>, inputs: Receiver<NodeInput>) -> Self {
        Self { swim, core, inputs, effects: Vec::new(), leave_until: None, has_left: false }
    }

    /// Runs until the node left; then closes the transport.
    pub(crate) fn run(mut self) {
        let core = Arc::clone(&self.core);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            let text = panic_text(&*panic);
            let message = format!("an invariant of membership is broken: {text}");
            tracing::error!(target: "process_hub::node", message, "the node fences itself");
            core.router.refuse(&Error::new(ErrorKind::HubFailed, "node", message));
        }
        core.leaving.set();
        core.transport.close(CLOSE_TIME);
        core.ended.set();
    }

    fn serve(&mut self) {
        while !self.has_left && !self.is_late() {
            match self.inputs.recv_timeout(self.wait_time()) {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => {}
                // Every node keeps a sender in its router.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(input) = self.inputs.try_recv() {
                self.take(input);
            }
            if self.swim.next_deadline() <= now() {
                self.step(SwimInput::Tick);
            }
        }
    }

    fn is_late(&self) -> bool {
        self.leave_until.is_some_and(|until| until <= Instant::now())
    }

    fn wait_time(&self) -> Duration {
        let tick = match self.swim.next_deadline() {
            Timestamp::NEVER => Duration::from_secs(3600),
            deadline => deadline.since(now()),
        };
        match self.leave_until {
            Some(until) => tick.min(until.saturating_duration_since(Instant::now())),
            None => tick,
        }
    }

    fn take(&mut self, input: NodeInput) {
        match input {
            NodeInput::LinkUp(contact) => {
                self.core.gate.change(|arrival| arrival.is_linked = true);
                self.core.router.linked(&contact.node);
                self.step(SwimInput::LinkUp(contact));
            }
            NodeInput::LinkDown { node, refused } => {
                self.step(SwimInput::LinkDown { node, refused });
            }
            NodeInput::Packet(from, bytes) => {
                self.core.router.packet_taken();
                self.step(SwimInput::Packet { from, bytes });
            }
            NodeInput::DialFailed(address) => self.core.gate.change(|arrival| {
                arrival.dialled.remove(&address);
            }),
            NodeInput::Leave(until) => {
                self.core.leaving.set();
                self.leave_until = Some(until - CLOSE_TIME.min(until - Instant::now()));
                self.step(SwimInput::Leave);
            }
        }
    }

    fn step(&mut self, input: SwimInput) {
        self.swim.handle(now(), input, &mut self.effects);
        let effects = std::mem::take(&mut self.effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: SwimEffect) {
        let core = &self.core;
        match effect {
            SwimEffect::Packet { to, bytes } => {
                // Packets may be lost: membership asks again.
                let sent = core.transport.send(&to, Lane::Ctl, &Channel::Swim, bytes);
                if let Err(error) = sent {
                    tracing::trace!(target: "process_hub::node", %to, %error, "a packet was not sent");
                }
            }
            SwimEffect::Connect(contact) => core.transport.connect(&contact.address),
            SwimEffect::Disconnect(node) => core.transport.disconnect(&node),
            SwimEffect::Up(contact) => {
                tracing::info!(target: "process_hub::node", node = %contact.node, address = contact.address, "a node is up");
                core.router.up(contact);
            }
            SwimEffect::Down(node, evidence) => {
                tracing::info!(target: "process_hub::node", %node, ?evidence, "a node is down");
                core.router.down(&node, evidence);
            }
            SwimEffect::Welcome => core.gate.change(|arrival| {
                arrival.verdict.get_or_insert(Ok(()));
            }),
            SwimEffect::NameTaken { by } => {
                let message = format!("{} at {} has this name", by.node, by.address);
                let error = Error::new(ErrorKind::NodeNameTaken, "start", message).with_node(by.node.name.as_str());
                core.router.refuse(&error);
                core.gate.change(|arrival| {
                    arrival.verdict.get_or_insert(Err(error));
                });
            }
            SwimEffect::Left => self.has_left = true,
        }
    }
}

/// Dials the seeds that are not linked.
pub(crate) fn dial(core: &Core, seeds: &Seeds) {
    let own = core.transport.address();
    let linked: BTreeSet<String> = (core.transport.links().into_iter()).map(|contact| contact.address).collect();
    let mut addresses = seeds.addresses();
    addresses.retain(|address| address != own && !linked.contains(address));
    // Known before a dial can fail.
    core.gate.dialled(&addresses);
    for address in &addresses {
        core.transport.connect(address);
    }
}

/// Tries the seeds again at every interval, until the node leaves. On a thread of its own: seed files are read
/// from disk. Seeds that are linked cost nothing; the others are how two halves of a cluster find each other.
pub(crate) fn keep_dialling(core: &Core, seeds: &Seeds, interval: Duration) {
    while !core.leaving.wait(interval) {
        dial(core, seeds);
    }
}
