//! The world: machines, processes, virtual time, and the loop over events.

use bytes::Bytes;
use process_hub::engine::{Effect, Engine, EngineSetup, Input};
use process_hub::host::call::HostAnswer;
use process_hub::ids::{Contact, Incarnation, NodeName, NodeRef};
use process_hub::swim::SwimSetup;
use process_hub::time::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::Options;
use super::config::Swarm;
use super::detector::{Detector, Sight};
use super::draw::Streams;
use super::fact::Fact;
use super::faults::Faults;
use super::ghost::{Ghost, Life};
use super::handovers::Handovers;
use super::heal::Healing;
use super::host::{Host, Kind};
use super::links::{SwimCell, address};
use super::network::Network;
use super::oracle::Oracle;
use super::queue::{Event, HubIndex, ProcessId, Queue, Verdict};
use super::time::{NodeClock, WorldTime};
use super::trace::Trace;
use super::user::Users;
use super::violation::Check;

/// The wall clock at the beginning of every run, in Unix milliseconds.
const FIRST_WALL_MS: u64 = 1_790_000_000_000;
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
    turns: (WorldTime, u32),
}

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
    deferred: Vec<Event>,
    /// It dies after this many more effects.
    pub(crate) dies_in_effects: Option<u32>,
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

/// A whole cluster on virtual time.
pub(crate) struct World {
    pub(crate) swarm: Swarm,
    pub(crate) streams: Streams,
    pub(crate) now: WorldTime,
    pub(crate) queue: Queue,
    pub(crate) machines: Vec<Machine>,
    pub(crate) processes: Vec<Process>,
    pub(crate) network: Network,
    pub(crate) oracle: Oracle,
    pub(crate) detector: Detector,
    pub(crate) users: Users,
    pub(crate) faults: Faults,
    pub(crate) handovers: Handovers,
    pub(crate) healing: Option<Healing>,
    pub(crate) events: u64,
    pub(crate) digest: Xxh3,
    scratch: Vec<Effect>,
    seed: u64,
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let mut streams = Streams::new(options.seed);
        let swarm = Swarm::new(options, &mut streams.config);
        let machines = (0..swarm.nodes).map(|_| Machine::new(&swarm, &mut streams)).collect();
        let users = Users::new(&swarm, &mut streams.workload);
        let ghost = Ghost {
            now: WorldTime::default(),
            hubs: swarm.hubs.clone(),
            processes: Vec::new(),
            children: users.ghosts(),
            ops: Vec::new(),
            requests: std::collections::BTreeMap::new(),
            links: std::collections::BTreeMap::new(),
            disturbed: WorldTime::default(),
            core: None,
            healed: None,
            motions: 0,
            settle_us: swarm.settle_us(),
            has_skew: swarm.drifting_clocks,
        };
        let trace = Trace { is_on: options.trace, child: options.child.clone() };
        let worst = swarm.hubs[0].profile.worst_detection();
        let mut world = Self {
            network: Network::new(swarm.nodes, swarm.network),
            swarm,
            streams,
            now: WorldTime::default(),
            queue: Queue::new(),
            machines,
            processes: Vec::new(),
            oracle: Oracle::new(ghost, trace),
            detector: Detector::new(worst),
            users,
            faults: Faults::default(),
            handovers: Handovers::default(),
            healing: None,
            events: 0,
            digest: Xxh3::new(),
            scratch: Vec::new(),
            seed: options.seed,
        };
        if options.trace {
            println!("{:#?}", world.swarm);
        }
        world.begin();
        world
    }

    fn begin(&mut self) {
        for slot in 0..self.swarm.nodes {
            let at = WorldTime(self.streams.life.between(0, 2_000_000));
            let boot = Event::Boot { slot, new_name: false };
            self.queue.push(at, boot, &mut self.streams.schedule);
        }
        self.push_us(2_500_000, Event::UserActs);
        self.push_us(5_000_000, Event::FaultStrikes);
    }

    /// Queues an event this much later.
    pub(crate) fn push_us(&mut self, delay_us: u64, event: Event) {
        let at = self.now.plus_us(delay_us);
        self.queue.push(at, event, &mut self.streams.schedule);
    }

    pub(crate) fn observe(&mut self, fact: &Fact<'_>) -> Check {
        self.oracle.observe(self.now, fact)
    }

    pub(crate) fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0 as usize]
    }

    pub(crate) fn process_mut(&mut self, id: ProcessId) -> &mut Process {
        &mut self.processes[id.0 as usize]
    }

    /// The processes that run or are paused.
    pub(crate) fn alive(&self) -> Vec<ProcessId> {
        self.machines.iter().filter_map(|machine| machine.process).collect()
    }

    /// Runs to the end: safety, then healing.
    pub(crate) fn run(&mut self) -> Check {
        while !self.is_over() {
            if self.healing.is_none() && self.now >= WorldTime(self.swarm.safety_us) {
                self.heal()?;
            }
            let Some((at, event)) = self.queue.pop() else {
                break;
            };
            self.now = at;
            self.events += 1;
            self.step(event)?;
        }
        self.oracle.conclude()
    }

    fn is_over(&self) -> bool {
        self.healing.as_ref().is_some_and(|healing| healing.is_over)
    }

    fn step(&mut self, event: Event) -> Check {
        if let Some(id) = event.process() {
            match self.process(id).life {
                Life::Up => {}
                Life::Paused => {
                    self.process_mut(id).deferred.push(event);
                    return Ok(());
                }
                Life::Down => return Ok(()),
            }
        }
        match event {
            Event::Frame { from, to, hub, frame } => self.receive(from, to, hub, frame),
            Event::Tick { at, hub } => self.tick(at, hub),
            Event::Flush { at, hub } => self.flush(at, hub),
            Event::HostWork { at, hub, call } => self.work(at, hub, call),
            Event::RunEnds { at, hub, instance, number, crash } => self.run_ends(at, hub, instance, number, crash),
            Event::InstanceActs { at, hub, instance, event } => self.instance_acts(at, hub, instance, event),
            Event::Verdict { observer, subject, generation, verdict } => {
                self.verdict(observer, subject, generation, verdict)
            }
            Event::Packet { from, to, bytes } => self.packet(from, to, bytes),
            Event::SwimTick { at } => self.swim_tick(at),
            Event::Dialed { from, slot } => self.dialed(from, slot),
            Event::Discover { at } => self.discover(at),
            Event::LinkBreaks { at, peer, refused } => self.link_breaks(at, peer, refused),
            Event::LinkSilent { at, peer } => self.link_silent(at, peer),
            Event::UserActs => self.user_acts(),
            Event::RequestDue { at, hub, request, extended } => self.request_due(at, hub, request, extended),
            Event::UserCancels { at, hub, request } => self.user_cancels(at, hub, request),
            Event::FaultStrikes => self.fault_strikes(),
            Event::FaultEnds(end) => self.fault_ends(end),
            // What was planned before the healing does not happen any more.
            Event::Kill { .. } if self.healing.is_some() => Ok(()),
            Event::Kill { process } => self.kill(process, "killed"),
            Event::Suspend { process, for_us } => self.suspend(process, for_us),
            Event::Resume { process } => self.resume(process),
            Event::Boot { slot, new_name } => self.boot(slot, new_name),
            Event::Inspect => self.inspect(),
        }
    }

    // ---- turns of an engine ----

    fn receive(&mut self, from: ProcessId, to: ProcessId, hub: HubIndex, frame: Bytes) -> Check {
        let sender = self.process(from).node.clone();
        self.turn(to, hub, Input::Frame(sender, frame))
    }

    fn tick(&mut self, at: ProcessId, hub: HubIndex) -> Check {
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

    fn flush(&mut self, at: ProcessId, hub: HubIndex) -> Check {
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

    // ---- life of processes ----

    fn boot(&mut self, slot: usize, new_name: bool) -> Check {
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
                labels: std::collections::BTreeMap::new(),
                weight,
                node: node.clone(),
                kinds: kinds.iter().map(|kind| kind.info()).collect(),
                wall_ms,
                seed: self.seed ^ self.streams.life.number(),
            };
            hubs.push(HubCell {
                engine: Engine::new(local, setup),
                host: Host::default(),
                tick_at: WorldTime::NEVER,
                is_flush_queued: false,
                has_stopped: false,
                next_request: 1,
                turns: (self.now, 0),
            });
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
            dies_in_effects: None,
            is_leaving: false,
            has_left: false,
            resumed: self.now,
        });
        self.observe(&Fact::ProcessUp { node: &node, slot, kinds, weight, hub_count })?;
        for hub in 0..u8::try_from(hub_count).unwrap_or(u8::MAX) {
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
        if self.healing.is_none() {
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

    // ---- membership ----

    /// Lets every process look at every other again, after something changed between them.
    pub(crate) fn look_around(&mut self) {
        if self.swarm.uses_swim {
            return self.look_at_links();
        }
        let alive = self.alive();
        for observer in &alive {
            let mut subjects = self.detector.believed_up(*observer);
            subjects.extend(alive.iter().copied());
            subjects.sort_unstable();
            subjects.dedup();
            for subject in subjects {
                if subject == *observer {
                    continue;
                }
                let sight = self.sight(*observer, subject);
                let pair = (*observer, subject);
                let draw = &mut self.streams.detector;
                if let Some((at, generation, verdict)) = self.detector.look(self.now, pair, sight, draw) {
                    let event = Event::Verdict { observer: *observer, subject, generation, verdict };
                    self.queue.push(at, event, &mut self.streams.schedule);
                }
            }
        }
    }

    fn sight(&self, observer: ProcessId, subject: ProcessId) -> Sight {
        let (from, to) = (self.process(observer).slot, self.process(subject).slot);
        let is_joined = self.network.is_joined(from, to);
        let seen = self.process(subject);
        match seen.life {
            Life::Down if is_joined && seen.has_left => Sight::Left,
            Life::Down if is_joined => Sight::Refused,
            Life::Down | Life::Paused => Sight::Silent,
            Life::Up if is_joined => Sight::Reachable,
            Life::Up => {
                let helps = |id: &ProcessId| {
                    let helper = self.process(*id);
                    helper.life == Life::Up
                        && self.network.is_joined(from, helper.slot)
                        && self.network.is_joined(helper.slot, to)
                };
                if self.alive().iter().any(helps) { Sight::Reachable } else { Sight::Silent }
            }
        }
    }

    fn verdict(&mut self, observer: ProcessId, subject: ProcessId, generation: u32, verdict: Verdict) -> Check {
        let is_up = verdict == Verdict::Up;
        if !self.detector.settle(observer, subject, generation, is_up) {
            return Ok(());
        }
        if is_up {
            let name = &self.process(subject).node.name;
            let is_older = |id: &ProcessId| *id != subject && self.process(*id).node.name == *name;
            let older: Vec<_> = self.detector.believed_up(observer).into_iter().filter(is_older).collect();
            for id in older {
                self.detector.replace(observer, id);
                self.tell_member(observer, id, Self::REPLACED)?;
            }
        }
        self.tell_member(observer, subject, verdict)?;
        self.look_around();
        Ok(())
    }

    fn tell_member(&mut self, observer: ProcessId, subject: ProcessId, verdict: Verdict) -> Check {
        let peer = self.process(subject).node.clone();
        self.observe(&Fact::Member { process: observer, peer: &peer, verdict })?;
        for hub in 0..u8::try_from(self.process(observer).hubs.len()).unwrap_or(u8::MAX) {
            let input = match verdict {
                Verdict::Up => Input::NodeUp(peer.clone()),
                Verdict::Down(evidence) => Input::NodeDown(peer.clone(), evidence),
            };
            self.turn(observer, hub, input)?;
        }
        Ok(())
    }

    /// Completes a host call.
    pub(crate) fn complete(
        &mut self,
        at: ProcessId,
        hub: HubIndex,
        number: process_hub::ids::CallNumber,
        answer: HostAnswer,
    ) -> Check {
        self.turn(at, hub, Input::HostDone(number, answer))
    }

    /// The process that is this node, if it is alive.
    pub(crate) fn find(&self, node: &NodeRef) -> Option<ProcessId> {
        let slot = slot_of(&node.name)?;
        let id = self.machines.get(slot)?.process?;
        (self.process(id).node == *node).then_some(id)
    }
}

impl Machine {
    fn new(swarm: &Swarm, streams: &mut Streams) -> Self {
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
fn node_name(slot: usize, generation: u32) -> NodeName {
    let name = if generation == 0 { format!("n{slot}") } else { format!("n{slot}x{generation}") };
    NodeName::new(name).unwrap()
}

fn slot_of(name: &NodeName) -> Option<usize> {
    let digits = name.as_str().strip_prefix('n')?;
    digits.split('x').next()?.parse().ok()
}
