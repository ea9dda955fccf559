//! The world: machines, processes, virtual time, and the loop over events.

use process_hub::engine::{Effect, Input};

use super::Options;
use super::config::Swarm;
use super::detector::Detector;
use super::digest::Digest;
use super::draw::Streams;
use super::fact::Fact;
use super::faults::Faults;
use super::ghost::{Ghost, Life};
use super::handovers::Handovers;
use super::heal::Healing;
use super::machines::{Machine, Process};
use super::network::Network;
use super::oracle::Oracle;
use super::queue::{Event, Queue};
use super::script::{Plans, Record, Shape};
use super::time::WorldTime;
use super::trace::Trace;
use super::user::Users;
use super::violation::{Check, Violation};

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
    pub(crate) plans: Plans,
    pub(crate) record: Record,
    pub(crate) events: u64,
    pub(crate) digest: Digest,
    pub(crate) scratch: Vec<Effect>,
    pub(crate) seed: u64,
}

impl World {
    /// The world of a random run.
    pub(crate) fn new(options: &Options) -> Self {
        let mut streams = Streams::new(options.seed);
        let mut swarm = Swarm::new(options, &mut streams.config);
        if !options.plain {
            swarm.draw_strategies(&mut streams.strategies);
            swarm.draw_loads(&mut streams.loads);
        }
        let is_drawn = streams.quorum.chance(33) && !options.plain;
        if options.quorum.unwrap_or(is_drawn) {
            swarm.draw_quorum(&mut streams.quorum);
        }
        let mut world = Self::of(options, swarm, streams, None);
        world.begin();
        world
    }

    /// The world of a script: the same, but nothing happens by itself.
    pub(crate) fn scripted(shape: &Shape, options: &Options) -> Self {
        let mut streams = Streams::new(options.seed);
        let mut swarm = Swarm::new(options, &mut streams.config);
        shape.overrule(&mut swarm);
        Self::of(options, swarm, streams, Some(Users::new(shape.roles.clone())))
    }

    fn of(options: &Options, swarm: Swarm, mut streams: Streams, users: Option<Users>) -> Self {
        let machines = (0..swarm.nodes).map(|_| Machine::new(&swarm, &mut streams)).collect();
        let users = users.unwrap_or_else(|| Users::drawn(&swarm, &mut streams.workload));
        let trace = Trace { is_on: options.trace, child: options.child.clone() };
        if trace.is_on {
            println!("{swarm:#?}");
        }
        Self {
            network: Network::new(swarm.nodes, swarm.network),
            now: WorldTime::default(),
            queue: Queue::new(),
            machines,
            processes: Vec::new(),
            oracle: Oracle::new(Ghost::new(&swarm, users.ghosts()), trace),
            detector: Detector::new(swarm.hubs[0].profile.worst_detection()),
            users,
            faults: Faults::default(),
            handovers: Handovers::default(),
            healing: None,
            plans: Plans::default(),
            record: Record::new(swarm.is_scripted),
            events: 0,
            digest: Digest::default(),
            scratch: Vec::new(),
            seed: options.seed,
            swarm,
            streams,
        }
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

    /// Runs to the end: safety, then healing.
    pub(crate) fn run(&mut self) -> Check {
        while !self.is_over() {
            if self.healing.is_none() && self.now >= WorldTime(self.swarm.safety_us) {
                self.heal()?;
            }
            if !self.happens_by(WorldTime::NEVER)? {
                break;
            }
        }
        self.oracle.conclude()
    }

    /// The next event happens, if it comes until then; else only time passes.
    pub(crate) fn happens_by(&mut self, limit: WorldTime) -> Result<bool, Violation> {
        if self.queue.next_at().is_none_or(|at| at > limit) {
            self.now = limit;
            return Ok(false);
        }
        let Some((at, event)) = self.queue.pop() else {
            return Ok(false);
        };
        self.now = at;
        self.events += 1;
        self.step(event)?;
        Ok(true)
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
            Event::Decided { at, hub, number, answer } => self.complete(at, hub, number, answer),
            Event::RunEnds { at, hub, instance, number, crash } => self.run_ends(at, hub, instance, number, crash),
            Event::InstanceActs { at, hub, instance, event } => self.instance_acts(at, hub, instance, event),
            Event::Load { at, hub, sample } => self.turn(at, hub, Input::Load(sample)),
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
}
