//! The turns of an engine: one input in, its effects carried out, the next deadline queued.

use bytes::Bytes;
use process_hub::engine::{Engine, Input};
use process_hub::host::call::HostAnswer;
use process_hub::ids::CallNumber;
use process_hub::time::Timestamp;

use super::fact::Fact;
use super::ghost::Life;
use super::host::Host;
use super::queue::{Event, HubIndex, ProcessId};
use super::time::WorldTime;
use super::violation::Check;
use super::world::World;

/// More ticks than this at one moment mean that an engine spins.
const MAX_TURNS_AT_ONCE: u32 = 200;

/// One hub of a process.
pub(crate) struct HubCell {
    pub(crate) engine: Engine,
    pub(crate) host: Host,
    /// The earliest queued tick.
    tick_at: WorldTime,
    is_flush_queued: bool,
    pub(crate) has_stopped: bool,
    pub(crate) next_request: u64,
    /// The moment of the latest tick, and how many there were at it.
    turns: (WorldTime, u32),
}

impl HubCell {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            host: Host::default(),
            tick_at: WorldTime::NEVER,
            is_flush_queued: false,
            has_stopped: false,
            next_request: 1,
            turns: (WorldTime::NEVER, 0),
        }
    }
}

impl World {
    pub(crate) fn receive(&mut self, from: ProcessId, to: ProcessId, hub: HubIndex, frame: Bytes) -> Check {
        let sender = self.process(from).node.clone();
        self.turn(to, hub, Input::Frame(sender, frame))
    }

    pub(crate) fn tick(&mut self, at: ProcessId, hub: HubIndex) -> Check {
        let now = self.now;
        let process = self.process_mut(at);
        let local = process.clock.read(now);
        let cell = &mut process.hubs[usize::from(hub)];
        if cell.tick_at > now {
            return Ok(());
        }
        cell.tick_at = WorldTime::NEVER;
        if cell.has_stopped {
            return Ok(());
        }
        if cell.engine.next_deadline() > local {
            self.arm(at, hub);
            return Ok(());
        }
        self.turn(at, hub, Input::Tick)
    }

    pub(crate) fn flush(&mut self, at: ProcessId, hub: HubIndex) -> Check {
        let now = self.now;
        let mut effects = std::mem::take(&mut self.scratch);
        let process = self.process_mut(at);
        let local = process.clock.read(now);
        let cell = &mut process.hubs[usize::from(hub)];
        cell.is_flush_queued = false;
        if !cell.has_stopped {
            cell.engine.flush(local, &mut effects);
        }
        let check = self.carry_out(at, hub, &mut effects);
        self.scratch = effects;
        self.arm(at, hub);
        check
    }

    /// Hands one input to an engine and carries out what it wants done.
    pub(crate) fn turn(&mut self, at: ProcessId, hub: HubIndex, input: Input) -> Check {
        let now = self.now;
        let is_batched = self.swarm.batch_us > 0;
        let process = &mut self.processes[at.0 as usize];
        let Some(cell) = process.hubs.get_mut(usize::from(hub)).filter(|cell| !cell.has_stopped) else {
            return Ok(());
        };
        if process.life != Life::Up {
            return Ok(());
        }
        let mut effects = std::mem::take(&mut self.scratch);
        let local = process.clock.read(now);
        if matches!(input, Input::Tick) {
            let before = if cell.turns.0 == now { cell.turns.1 } else { 0 };
            cell.turns = (now, before + 1);
        }
        let spins = cell.turns.1 > MAX_TURNS_AT_ONCE;
        cell.engine.handle(local, input, &mut effects);
        let mut queues_flush = false;
        if is_batched {
            queues_flush = !cell.is_flush_queued;
            cell.is_flush_queued = true;
        } else {
            cell.engine.flush(local, &mut effects);
        }
        if queues_flush {
            let delay_us = self.streams.schedule.between(1, self.swarm.batch_us);
            self.push_us(delay_us, Event::Flush { at, hub });
        }
        let check = self.carry_out(at, hub, &mut effects);
        self.scratch = effects;
        check?;
        self.arm(at, hub);
        if spins {
            return self.observe(&Fact::Spins { process: at, hub });
        }
        Ok(())
    }

    /// Queues the engine's next tick, unless an earlier one is queued.
    fn arm(&mut self, at: ProcessId, hub: HubIndex) {
        let now = self.now;
        let process = &mut self.processes[at.0 as usize];
        if process.life == Life::Down {
            return;
        }
        let Some(cell) = process.hubs.get_mut(usize::from(hub)) else {
            return;
        };
        let deadline = cell.engine.next_deadline();
        if cell.has_stopped || deadline == Timestamp::NEVER {
            return;
        }
        let when = process.clock.when(deadline).max(now);
        if when < cell.tick_at {
            cell.tick_at = when;
            let tick = Event::Tick { at, hub };
            self.queue.push(when, tick, &mut self.streams.schedule);
        }
    }

    /// Completes a host call.
    pub(crate) fn complete(&mut self, at: ProcessId, hub: HubIndex, number: CallNumber, answer: HostAnswer) -> Check {
        self.turn(at, hub, Input::HostDone(number, answer))
    }
}
