//! The faults of the safety phase: which, when, to whom, for how long.

#![allow(clippy::wildcard_enum_match_arm, reason = "the host calls that matter are named; the others pass")]

use process_hub::host::call::{HostCall, HostRequest, StartReason};
use process_hub::swim::Evidence;

use super::fact::Fact;
use super::ghost::Life;
use super::queue::{Event, FaultEnd, ProcessId, Verdict};
use super::script::Trap;
use super::violation::Check;
use super::world::World;

/// Counts what was done to the cluster.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) count: u64,
}

/// The kinds of faults that strike now and then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Partition,
    OneWay,
    Clog,
    Crash,
    CrashAtEffect,
    Pause,
    Storm,
    FalseAlarm,
}

impl World {
    /// A fault strikes, and the next is queued.
    pub(crate) fn fault_strikes(&mut self) -> Check {
        if self.healing.is_some() {
            return Ok(());
        }
        let pause_us = self.swarm.fault_pause_us;
        let delay_us = self.streams.faults.spread(pause_us / 4, pause_us * 2);
        self.push_us(delay_us, Event::FaultStrikes);
        let classes = self.swarm.faults;
        let kinds = [
            (classes.partition, Fault::Partition),
            (classes.one_way_cut, Fault::OneWay),
            (classes.clog, Fault::Clog),
            (classes.crash, Fault::Crash),
            (classes.crash_at_effect, Fault::CrashAtEffect),
            (classes.pause, Fault::Pause),
            (classes.storm, Fault::Storm),
            (classes.storm && !self.swarm.uses_swim, Fault::FalseAlarm),
        ];
        let on: Vec<_> = kinds.iter().filter(|(is_on, _)| *is_on).map(|(_, kind)| *kind).collect();
        let Some(kind) = self.streams.faults.pick(&on).copied() else {
            return Ok(());
        };
        let alive = self.alive();
        let Some(victim) = self.streams.faults.pick(&alive).copied() else {
            return Ok(());
        };
        self.faults.count += 1;
        self.strike(kind, victim)
    }

    fn strike(&mut self, kind: Fault, victim: ProcessId) -> Check {
        match kind {
            Fault::Partition => self.partition(),
            Fault::OneWay => {
                let pairs = self.some_pairs();
                self.cut(pairs)
            }
            Fault::Clog => {
                let pairs = self.some_pairs();
                let mut text = String::from("clog");
                for (from, to) in pairs {
                    let until = self.now.plus_us(self.streams.faults.spread(100_000, 5_000_000));
                    self.network.clog(from, to, until);
                    text.push_str(&format!(" {from}->{to} until {until}"));
                }
                self.observe(&Fact::Fault(text))
            }
            Fault::Crash => self.kill(victim, "killed"),
            Fault::CrashAtEffect => {
                let effects = self.streams.faults.spread(1, 64);
                let effects = u32::try_from(effects).unwrap_or(1);
                self.process_mut(victim).trap = Some(Trap::Effects(effects));
                Ok(())
            }
            Fault::Pause => {
                let for_us = self.streams.faults.spread(100_000, 60_000_000);
                self.suspend(victim, for_us)
            }
            Fault::Storm => {
                let for_us = self.streams.faults.spread(1_000_000, 60_000_000);
                self.network.is_stormy = true;
                self.push_us(for_us, Event::FaultEnds(FaultEnd::Storm));
                self.observe(&Fact::Fault("storm".into()))
            }
            Fault::FalseAlarm => {
                let alive = self.alive();
                let other = self.streams.faults.pick(&alive).copied().unwrap_or(victim);
                if let Some(generation) = self.detector.alarm(other, victim) {
                    let event = Event::Verdict {
                        observer: other,
                        subject: victim,
                        generation,
                        verdict: Verdict::Down(Evidence::Suspected),
                    };
                    self.push_us(0, event);
                }
                Ok(())
            }
        }
    }

    /// Splits the machines, in one of several shapes.
    fn partition(&mut self) -> Check {
        let count = self.swarm.nodes;
        let draw = &mut self.streams.faults;
        let mut pairs = Vec::new();
        let shape = draw.below(5);
        let sides: Vec<usize> = match shape {
            // One node alone.
            0 => {
                let alone = draw.below(count);
                (0..count).map(|slot| usize::from(slot == alone)).collect()
            }
            // Two sides, or three.
            1 | 2 => {
                let parts = shape + 1;
                (0..count).map(|_| draw.below(parts)).collect()
            }
            _ => Vec::new(),
        };
        for a in 0..count {
            for b in 0..a {
                let is_cut = match sides.get(a).zip(sides.get(b)) {
                    Some((a, b)) => a != b,
                    // A chain, or a star around the first: some pairs only meet through others.
                    None if shape == 3 => a - b > 1,
                    None => b != 0,
                };
                if is_cut {
                    pairs.extend([(a, b), (b, a)]);
                }
            }
        }
        self.cut(pairs)
    }

    fn some_pairs(&mut self) -> Vec<(usize, usize)> {
        let draw = &mut self.streams.faults;
        let count = draw.between(1, self.swarm.nodes as u64);
        (0..count)
            .map(|_| (draw.below(self.swarm.nodes), draw.below(self.swarm.nodes)))
            .filter(|(from, to)| from != to)
            .collect()
    }

    fn cut(&mut self, pairs: Vec<(usize, usize)>) -> Check {
        for (from, to) in &pairs {
            self.network.cut(*from, *to);
            self.observe(&Fact::Link { from: *from, to: *to, passes: false })?;
            let (a, b) = (self.machines[*from].process, self.machines[*to].process);
            if let (Some(a), Some(b)) = (a, b) {
                self.handovers.parted(a, b);
            }
        }
        let for_us = self.streams.faults.spread(200_000, 40_000_000);
        self.push_us(for_us, Event::FaultEnds(FaultEnd::Cut(pairs)));
        self.look_around();
        Ok(())
    }

    pub(crate) fn fault_ends(&mut self, end: FaultEnd) -> Check {
        if self.healing.is_some() {
            return Ok(());
        }
        match end {
            FaultEnd::Cut(pairs) => {
                for (from, to) in pairs {
                    self.network.mend(from, to);
                    let passes = self.network.passes(from, to);
                    self.observe(&Fact::Link { from, to, passes })?;
                }
                self.look_around();
                Ok(())
            }
            FaultEnd::Storm => {
                self.network.is_stormy = false;
                self.look_around();
                self.observe(&Fact::Fault("the storm ends".into()))
            }
        }
    }

    /// Now and then a fault is aimed at a handover that is open.
    pub(crate) fn aim(&mut self, at: ProcessId, call: &HostCall) {
        let is_step = match &call.request {
            HostRequest::Start(context) => context.reason == StartReason::Migration,
            HostRequest::PrepareState | HostRequest::AlterState(_) => true,
            _ => false,
        };
        if !is_step || !self.swarm.faults.aimed || self.healing.is_some() {
            return;
        }
        let draw = &mut self.streams.faults;
        if !draw.chance(4) {
            return;
        }
        let peer = self.handovers.peer(at, call);
        let victim = peer.filter(|_| draw.chance(50)).unwrap_or(at);
        let delay_us = draw.spread(10, 300_000);
        self.faults.count += 1;
        let event = if draw.chance(50) {
            Event::Kill { process: victim }
        } else {
            let for_us = draw.spread(100_000, 60_000_000);
            Event::Suspend { process: victim, for_us }
        };
        self.push_us(delay_us, event);
    }

    /// Ends all faults; used once, by healing.
    pub(crate) fn end_faults(&mut self) -> Check {
        for from in 0..self.swarm.nodes {
            for to in 0..self.swarm.nodes {
                if !self.network.passes(from, to) {
                    self.observe(&Fact::Link { from, to, passes: true })?;
                }
            }
        }
        self.network.heal(self.now);
        for process in &mut self.processes {
            process.trap = None;
        }
        for id in self.alive() {
            if self.process(id).life == Life::Paused {
                self.resume(id)?;
            }
        }
        Ok(())
    }
}
