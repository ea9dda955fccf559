//! Machines and the processes on them: how nodes start, die, stand still and go on.

use process_hub::engine::{Engine, EngineSetup};
use process_hub::ids::{Contact, Incarnation, NodeName, NodeRef};
use process_hub::swim::SwimSetup;

use super::config::Swarm;
use super::draw::Streams;
use super::fact::Fact;
use super::ghost::Life;
use super::host::Kind;
use super::links::{SwimCell, address};
use super::queue::{Event, HubIndex, ProcessId};
use super::script::Trap;
use super::time::{NodeClock, WorldTime};
use super::turns::HubCell;
use super::violation::Check;
use super::world::World;

/// The wall clock at the beginning of every run, in Unix milliseconds.
const FIRST_WALL_MS: u64 = 1_790_000_000_000;

/// One start of a node.
pub(crate) struct Process {
    pub(crate) node: NodeRef,
    pub(crate) slot: usize,
    pub(crate) life: Life,
    pub(crate) clock: NodeClock,
    pub(crate) hubs: Vec<HubCell>,
    /// Real membership; without it the detector decides.
    pub(crate) swim: Option<SwimCell>,
    /// What happened while it was paused.
    pub(crate) deferred: Vec<Event>,
    /// What makes it die.
    pub(crate) trap: Option<Trap>,
    pub(crate) is_leaving: bool,
    pub(crate) has_left: bool,
    /// When it last went on after a pause.
    pub(crate) resumed: WorldTime,
}

/// One machine: its name now, and the process on it.
pub(crate) struct Machine {
    pub(crate) process: Option<ProcessId>,
    name_generation: u32,
    kinds: Vec<Kind>,
    weight: f64,
    wall_skew_ms: u64,
    rate: u64,
}

impl World {
    pub(crate) fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0 as usize]
    }

    pub(crate) fn process_mut(&mut self, id: ProcessId) -> &mut Process {
        &mut self.processes[id.0 as usize]
    }

    /// The hubs of a process; none once it is dead.
    pub(crate) fn hub_indices(&self, id: ProcessId) -> std::ops::Range<HubIndex> {
        0..HubIndex::try_from(self.process(id).hubs.len()).unwrap_or(HubIndex::MAX)
    }

    /// The processes that run or are paused.
    pub(crate) fn alive(&self) -> Vec<ProcessId> {
        self.machines.iter().filter_map(|machine| machine.process).collect()
    }

    /// The process that is this node, if it is alive.
    pub(crate) fn find(&self, node: &NodeRef) -> Option<ProcessId> {
        let slot = slot_of(&node.name)?;
        let id = self.machines.get(slot)?.process?;
        (self.process(id).node == *node).then_some(id)
    }

    pub(crate) fn boot(&mut self, slot: usize, new_name: bool) -> Check {
        if self.healing.is_some() || self.machines[slot].process.is_some() {
            return Ok(());
        }
        self.start_process(slot, new_name)
    }

    /// Starts a node on a machine.
    pub(crate) fn start_process(&mut self, slot: usize, new_name: bool) -> Check {
        let number = u32::try_from(self.processes.len()).unwrap_or(u32::MAX);
        let id = ProcessId(number);
        let machine = &mut self.machines[slot];
        machine.name_generation += u32::from(new_name);
        machine.process = Some(id);
        let wall_ms = FIRST_WALL_MS + self.now.0 / 1_000;
        let node = NodeRef {
            name: node_name(slot, machine.name_generation),
            incarnation: Incarnation(wall_ms * 4_096 + u64::from(number)),
        };
        let clock =
            NodeClock { born: self.now, offset_us: self.streams.life.between(0, 1_000_000_000), rate: machine.rate };
        let local = clock.read(self.now);
        let (kinds, weight) = (machine.kinds.clone(), machine.weight);
        let wall_ms = wall_ms + machine.wall_skew_ms;
        let mut hubs = Vec::new();
        for config in &self.swarm.hubs {
            let setup = EngineSetup {
                config: config.clone(),
                labels: self.swarm.labels(slot),
                weight,
                node: node.clone(),
                kinds: kinds.iter().map(|kind| kind.info()).collect(),
                wall_ms,
                seed: self.seed ^ self.streams.life.number(),
            };
            hubs.push(HubCell::new(Engine::new(local, setup)));
        }
        let swim = self.swarm.uses_swim.then(|| {
            let setup = SwimSetup {
                contact: Contact { node: node.clone(), address: address(slot) },
                profile: self.swarm.hubs[0].profile.clone(),
                seed: self.streams.life.number(),
            };
            SwimCell::new(local, setup, (0..self.swarm.nodes).collect())
        });
        let hub_count = hubs.len();
        self.processes.push(Process {
            node: node.clone(),
            slot,
            life: Life::Up,
            clock,
            hubs,
            swim,
            deferred: Vec::new(),
            trap: None,
            is_leaving: false,
            has_left: false,
            resumed: self.now,
        });
        self.observe(&Fact::ProcessUp { node: &node, slot, kinds, weight, hub_count })?;
        for hub in self.hub_indices(id) {
            self.subscribe(id, hub)?;
        }
        if self.swarm.uses_swim {
            self.arm_swim(id);
            self.push_us(0, Event::Discover { at: id });
        }
        self.look_around();
        Ok(())
    }

    /// Ends a process at once.
    pub(crate) fn kill(&mut self, id: ProcessId, why: &'static str) -> Check {
        if self.process(id).life == Life::Down {
            return Ok(());
        }
        let process = self.process_mut(id);
        process.life = Life::Down;
        process.deferred = Vec::new();
        process.hubs = Vec::new();
        process.swim = None;
        let slot = process.slot;
        self.machines[slot].process = None;
        self.handovers.struck(id);
        self.detector.forget(id);
        self.observe(&Fact::ProcessDown { process: id, why })?;
        self.look_around();
        if self.healing.is_none() && !self.swarm.is_scripted {
            let delay_us = self.streams.life.spread(50_000, 20_000_000);
            let new_name = self.swarm.faults.new_name && self.streams.life.chance(30);
            self.push_us(delay_us, Event::Boot { slot, new_name });
        }
        Ok(())
    }

    pub(crate) fn suspend(&mut self, id: ProcessId, for_us: u64) -> Check {
        if self.process(id).life != Life::Up || self.healing.is_some() {
            return Ok(());
        }
        self.process_mut(id).life = Life::Paused;
        self.handovers.struck(id);
        self.observe(&Fact::Suspended(id))?;
        self.push_us(for_us, Event::Resume { process: id });
        self.look_around();
        Ok(())
    }

    pub(crate) fn resume(&mut self, id: ProcessId) -> Check {
        if self.process(id).life != Life::Paused {
            return Ok(());
        }
        let now = self.now;
        let process = self.process_mut(id);
        process.life = Life::Up;
        process.resumed = now;
        for event in std::mem::take(&mut process.deferred) {
            self.queue.push_in_order(now, event);
        }
        self.observe(&Fact::Resumed(id))?;
        self.look_around();
        Ok(())
    }
}

impl Machine {
    pub(crate) fn new(swarm: &Swarm, streams: &mut Streams) -> Self {
        let draw = &mut streams.life;
        let mut kinds = vec![Kind::Counter, Kind::Worker, Kind::Plain];
        if draw.chance(60) {
            kinds.push(Kind::Rare);
        }
        let rate = if swarm.drifting_clocks { draw.between(990_000, 1_010_000) } else { NodeClock::EXACT_RATE };
        let weight = if draw.chance(20) { 2.0 } else { 1.0 };
        Self {
            process: None,
            name_generation: 0,
            kinds,
            weight,
            wall_skew_ms: if swarm.drifting_clocks { draw.between(0, 600_000) } else { 0 },
            rate,
        }
    }
}

/// The name of a machine's node: `n3`, or `n3x1` after it came back under a new name.
#[allow(clippy::unwrap_used, reason = "the text is ours and short")]
pub(crate) fn node_name(slot: usize, generation: u32) -> NodeName {
    let name = if generation == 0 { format!("n{slot}") } else { format!("n{slot}x{generation}") };
    NodeName::new(name).unwrap()
}

fn slot_of(name: &NodeName) -> Option<usize> {
    let digits = name.as_str().strip_prefix('n')?;
    digits.split('x').next()?.parse().ok()
}
