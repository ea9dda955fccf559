//! A cluster under a script: what happens to it, what is asked of it, and what can be seen of it.

use std::time::Duration;

use process_hub::engine::{Command, MessageCommand, Outcome, Recipient, StartOptions};
use process_hub::error::Error;
use process_hub::host::call::InstanceEvent;
use process_hub::ids::{NodeName, RequestId};
use process_hub::observe::HookName;

use super::super::Options;
use super::super::fact::{Fact, child_id};
use super::super::ghost::{GhostOp, GhostRow, Run};
use super::super::host::{OpId, encode_message};
use super::super::invariants::liveness;
use super::super::queue::{Event, ProcessId};
use super::super::time::micros;
use super::super::violation::{Check, Violation};
use super::super::world::World;
use super::record::Told;
use super::shape::Shape;
use super::trap::{Moment, Trap};

/// Longer than any request of a script may take.
const PATIENCE: Duration = Duration::from_secs(200);
/// How often a settling cluster is looked at.
const LOOK_US: u64 = 20_000;

/// A request of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    at: ProcessId,
    request: RequestId,
}

/// The cluster of one run.
pub struct Stage {
    world: World,
}

impl Stage {
    pub(super) fn new(shape: &Shape, seed: u64, is_traced: bool) -> Self {
        let nodes = Some(shape.machines);
        let quorum = Some(false);
        let options = Options { seed, nodes, minutes: None, plain: true, quorum, trace: is_traced, child: None };
        Self { world: World::scripted(shape, &options) }
    }

    /// Everything heals, nobody else comes or goes, and the cluster settles.
    pub(super) fn finish(&mut self) -> Check {
        let mut everybody = self.world.alive();
        everybody.retain(|id| !self.world.process(*id).is_leaving);
        self.world.heal_with(everybody)?;
        self.world.run()
    }

    // ---- machines and links ----

    /// Starts the node of a machine under its name.
    pub fn boot(&mut self, machine: usize) -> Check {
        self.world.start_process(machine, false)
    }

    /// Starts the node of a machine under a new name.
    pub fn boot_renamed(&mut self, machine: usize) -> Check {
        self.world.start_process(machine, true)
    }

    /// Starts the nodes of these machines and waits until they have settled.
    pub fn boot_all(&mut self, machines: impl IntoIterator<Item = usize>) -> Check {
        for machine in machines {
            self.boot(machine)?;
        }
        self.settle()
    }

    /// A node dies at once.
    pub fn crash(&mut self, machine: usize) -> Check {
        let process = self.node(machine)?;
        self.world.kill(process, "killed")
    }

    /// A node will die before the first such effect of its hub.
    pub fn crash_before(&mut self, machine: usize, moment: Moment) -> Check {
        self.set_trap(machine, Trap::Before(moment))
    }

    /// A node will die after the first such effect of its hub.
    pub fn crash_after(&mut self, machine: usize, moment: Moment) -> Check {
        self.set_trap(machine, Trap::After(moment))
    }

    /// A node will die after so many more effects of its hub.
    pub fn crash_after_effects(&mut self, machine: usize, count: u32) -> Check {
        self.set_trap(machine, Trap::Effects(count))
    }

    fn set_trap(&mut self, machine: usize, trap: Trap) -> Check {
        let process = self.node(machine)?;
        self.world.process_mut(process).trap = Some(trap);
        Ok(())
    }

    /// A node stands still for this long.
    pub fn pause(&mut self, machine: usize, time: Duration) -> Check {
        let process = self.node(machine)?;
        self.world.suspend(process, micros(time))
    }

    /// Parts machines: no frame passes between the two sides.
    pub fn split(&mut self, side: &[usize], other: &[usize]) -> Check {
        for (a, b) in pairs(side, other) {
            self.cut(a, b)?;
            self.cut(b, a)?;
        }
        Ok(())
    }

    /// Joins two sides again.
    pub fn join(&mut self, side: &[usize], other: &[usize]) -> Check {
        for (a, b) in pairs(side, other) {
            self.mend(a, b)?;
            self.mend(b, a)?;
        }
        Ok(())
    }

    /// No frame passes in this direction any more.
    pub fn cut(&mut self, from: usize, to: usize) -> Check {
        self.world.network.cut(from, to);
        self.link_changed(from, to)
    }

    /// Frames pass in this direction again.
    pub fn mend(&mut self, from: usize, to: usize) -> Check {
        self.world.network.mend(from, to);
        self.link_changed(from, to)
    }

    fn link_changed(&mut self, from: usize, to: usize) -> Check {
        let passes = self.world.network.passes(from, to);
        self.world.observe(&Fact::Link { from, to, passes })?;
        self.world.look_around();
        Ok(())
    }

    // ---- host code ----

    /// From now on this callback of a child never ends.
    pub fn hang(&mut self, child: usize, callback: &'static str) {
        self.world.plans.hanging.insert((child, callback));
    }

    /// From now on this callback of a child fails.
    pub fn fail(&mut self, child: usize, callback: &'static str) {
        self.world.plans.failing.insert((child, callback));
    }

    /// The child's code is as good as any other again.
    pub fn mend_host(&mut self, child: usize) {
        self.world.plans.forget(child);
    }

    /// The instance of a child ends by itself: well, or with a reason.
    pub fn exit(&mut self, child: usize, reason: Option<&str>) -> Check {
        let Some((at, instance)) = self.active_run(child).map(|run| (run.process, run.instance)) else {
            return self.missed(format!("{} has no instance that could exit", child_id(child)));
        };
        let event = InstanceEvent::Exit(reason.map(Into::into));
        self.world.push_us(0, Event::InstanceActs { at, hub: 0, instance, event });
        self.pass(Duration::from_micros(1))
    }

    // ---- requests ----

    /// Asks for children to be started.
    pub fn start(
        &mut self,
        machine: usize,
        children: impl IntoIterator<Item = usize>,
        options: StartOptions,
    ) -> Result<Asked, Violation> {
        let specs = children.into_iter().map(|index| self.world.spec(index)).collect();
        let timeout = options.timeout;
        self.ask(machine, Command::Start(specs, options), timeout)
    }

    /// Starts children, and waits until all of them run.
    pub fn start_all(&mut self, machine: usize, children: impl IntoIterator<Item = usize>) -> Check {
        let asked = self.start(machine, children, StartOptions::default())?;
        match self.answer(asked)? {
            Ok(Outcome::Started(result)) if result.errors.is_empty() => Ok(()),
            other => self.missed(format!("not all children started: {other:?}")),
        }
    }

    /// Asks for children to be stopped.
    pub fn stop(
        &mut self,
        machine: usize,
        children: impl IntoIterator<Item = usize>,
        timeout: Duration,
    ) -> Result<Asked, Violation> {
        let ids = children.into_iter().map(child_id).collect();
        self.ask(machine, Command::Stop(ids, timeout), timeout)
    }

    /// Calls a child.
    pub fn call(&mut self, machine: usize, child: usize, timeout: Duration) -> Result<Asked, Violation> {
        let op = OpId(u32::try_from(self.world.oracle.ghost.ops.len()).unwrap_or(u32::MAX));
        self.world.oracle.ghost.ops.push(GhostOp { child, is_bound: false, ended: None, handled: Vec::new() });
        let command = MessageCommand {
            child: child_id(child),
            message: encode_message(op),
            recipient: Recipient::Active,
            timeout,
            chain: std::sync::Arc::from([]),
        };
        self.ask(machine, Command::Call(command), timeout)
    }

    /// Calls each of these children once from a machine, and waits for all answers.
    pub fn call_all(&mut self, machine: usize, children: impl IntoIterator<Item = usize>) -> Check {
        let timeout = Duration::from_secs(5);
        let mut open = Vec::new();
        for child in children {
            open.push((child, self.call(machine, child, timeout)?));
        }
        for (child, asked) in open {
            if let Err(error) = self.answer(asked)? {
                return self.missed(format!("the call of {} failed: {error:?}", child_id(child)));
            }
        }
        Ok(())
    }

    /// Asks a hub to give its children away and to end, and its node with it.
    pub fn shut_down(&mut self, machine: usize, timeout: Duration) -> Result<Asked, Violation> {
        let process = self.node(machine)?;
        self.world.process_mut(process).is_leaving = true;
        self.ask(machine, Command::Shutdown(timeout), timeout)
    }

    /// Any other request.
    pub fn ask(&mut self, machine: usize, command: Command, timeout: Duration) -> Result<Asked, Violation> {
        let at = self.node(machine)?;
        let request = RequestId(self.world.process(at).hubs[0].next_request);
        self.world.issue(at, 0, command, timeout)?;
        Ok(Asked { at, request })
    }

    /// What a request was answered, if it was.
    #[must_use]
    pub fn reply(&self, asked: Asked) -> Option<&Result<Outcome, Error>> {
        self.world.record.replies.get(&(asked.at, asked.request))
    }

    /// Waits for the answer of a request.
    pub fn answer(&mut self, asked: Asked) -> Result<Result<Outcome, Error>, Violation> {
        self.until("the request is answered", PATIENCE, |stage| stage.reply(asked).is_some())?;
        self.reply(asked).cloned().ok_or_else(|| self.violation("the answer is lost".to_owned()))
    }

    // ---- time ----

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) -> Check {
        let limit = self.world.now.plus(time);
        while self.world.happens_by(limit)? {}
        Ok(())
    }

    /// Lets events happen until this is so.
    pub fn until(&mut self, what: &str, patience: Duration, mut is_so: impl FnMut(&Self) -> bool) -> Check {
        let limit = self.world.now.plus(patience);
        while !is_so(self) {
            if !self.world.happens_by(limit)? {
                return self.missed(format!("after {patience:?} it is not so that {what}"));
            }
        }
        Ok(())
    }

    /// Waits until views agree, nothing moves, all registries are equal and true, and every child is where it belongs.
    pub fn settle(&mut self) -> Check {
        let limit = self.world.now.plus_us(self.world.oracle.ghost.settle_us);
        loop {
            let core = self.world.alive();
            let ghost = &self.world.oracle.ghost;
            let busy = ghost.children.iter().position(|child| child.live_runs().any(|run| run.in_flight.is_some()));
            let reason = match (liveness::unsettled_in(ghost, &core), busy) {
                (Some(unsettled), _) => format!("{}: {}", unsettled.invariant, unsettled.facts),
                (None, Some(child)) => format!("{} is in a callback", child_id(child)),
                (None, None) => return Ok(()),
            };
            if self.world.now >= limit {
                return self.missed(format!("the cluster does not settle: {reason}"));
            }
            self.pass(Duration::from_micros(LOOK_US))?;
        }
    }

    /// Virtual time since the run began.
    #[must_use]
    pub const fn now(&self) -> Duration {
        Duration::from_micros(self.world.now.0)
    }

    // ---- what can be seen ----

    /// The machine whose node has the active instance of a child.
    #[must_use]
    pub fn machine_of(&self, child: usize) -> Option<usize> {
        Some(self.world.process(self.active_run(child)?.process).slot)
    }

    /// Whether a child has an instance that was started and is not being stopped.
    #[must_use]
    pub fn is_active(&self, child: usize) -> bool {
        self.active_run(child).is_some_and(|run| !run.has_exited)
    }

    /// How many instances of a child there are.
    #[must_use]
    pub fn instances(&self, child: usize) -> usize {
        self.world.oracle.ghost.children[child].live.len()
    }

    /// How many instances of a child were ever started.
    #[must_use]
    pub fn starts(&self, child: usize) -> usize {
        self.world.oracle.ghost.children[child].runs.len()
    }

    /// How many messages the active instance of a child remembers.
    #[must_use]
    pub fn count(&self, child: usize) -> usize {
        self.active_run(child).map_or(0, |run| run.state.ops.len())
    }

    /// Whether a child's instance is in this callback now.
    #[must_use]
    pub fn is_in(&self, child: usize, callback: &str) -> bool {
        let mut runs = self.world.oracle.ghost.children[child].live_runs();
        runs.any(|run| run.in_flight.is_some_and(|(_, name)| name == callback))
    }

    /// Whether a node has a child in its registry.
    #[must_use]
    pub fn knows(&self, machine: usize, child: usize) -> bool {
        self.row(machine, child).is_some()
    }

    /// Whether a node tells that exactly this machine's node runs a child.
    #[must_use]
    pub fn tells(&self, machine: usize, child: usize, there: usize) -> bool {
        let name = self.name(there);
        let is_there = |row: &GhostRow| row.instances.len() == 1 && Some(&row.instances[0].0) == name.as_ref();
        self.row(machine, child).is_some_and(is_there)
    }

    /// How often a node told a hook, about this child or about any.
    #[must_use]
    pub fn told(&self, machine: usize, name: HookName, child: Option<usize>) -> usize {
        let is_it = |told: &&Told| {
            self.world.process(told.by).slot == machine && told.name == name && (child.is_none() || told.child == child)
        };
        self.world.record.told.iter().filter(is_it).count()
    }

    /// The machine a child belongs on among those that run and stay.
    #[must_use]
    pub fn owner_of(&self, child: usize) -> Option<usize> {
        let ghost = &self.world.oracle.ghost;
        let core: Vec<_> = self.world.alive().into_iter().filter(|id| !ghost.process(*id).is_leaving).collect();
        let owner = liveness::owner(ghost, &core, child)?;
        let id = core.into_iter().find(|id| ghost.process(*id).node == owner)?;
        Some(self.world.process(id).slot)
    }

    /// Whether the node of a machine runs.
    #[must_use]
    pub fn is_up(&self, machine: usize) -> bool {
        self.world.machines[machine].process.is_some()
    }

    /// Whether a node tells exactly so many other members.
    #[must_use]
    pub fn has_members(&self, machine: usize, count: usize) -> bool {
        let process = self.world.machines[machine].process;
        process.is_some_and(|id| self.world.oracle.ghost.process(id).hubs[0].members.len() == count)
    }

    /// Whether a node tells that it is partitioned.
    #[must_use]
    pub fn is_partitioned(&self, machine: usize) -> bool {
        let process = self.world.machines[machine].process;
        process.is_some_and(|id| self.world.oracle.ghost.process(id).hubs[0].is_partitioned)
    }

    /// An expectation of the script.
    pub fn expect(&self, is_so: bool, what: impl Into<String>) -> Check {
        if is_so { Ok(()) } else { self.missed(what.into()) }
    }

    fn missed(&self, what: String) -> Check {
        Err(self.violation(what))
    }

    fn violation(&self, facts: String) -> Violation {
        Violation { invariant: "the script", at: self.world.now, facts }
    }

    fn node(&self, machine: usize) -> Result<ProcessId, Violation> {
        let process = self.world.machines[machine].process;
        process.ok_or_else(|| self.violation(format!("the node of machine {machine} does not run")))
    }

    fn name(&self, machine: usize) -> Option<NodeName> {
        Some(self.world.process(self.world.machines[machine].process?).node.name.clone())
    }

    fn row(&self, machine: usize, child: usize) -> Option<&GhostRow> {
        self.world.oracle.ghost.children[child].rows.get(&self.world.machines[machine].process?)
    }

    fn active_run(&self, child: usize) -> Option<&Run> {
        let child = &self.world.oracle.ghost.children[child];
        child.live_runs().filter(|run| run.started.is_some() && run.stopping.is_none()).max_by_key(|run| run.epoch)
    }
}

fn pairs<'a>(side: &'a [usize], other: &'a [usize]) -> impl Iterator<Item = (usize, usize)> + 'a {
    side.iter().flat_map(move |a| other.iter().map(move |b| (*a, *b)))
}
