//! Membership without packets: a detector that is right in the end, late and sometimes wrong before.
//!
//! It is far more hostile than SWIM can be and costs no events while nothing changes; seeds draw which of the
//! two they run.

use std::collections::BTreeMap;
use std::time::Duration;

use process_hub::swim::Evidence;

use super::draw::Draw;
use super::ghost::Life;
use super::queue::{Event, ProcessId, Verdict};
use super::time::{WorldTime, micros};
use super::violation::Check;
use super::world::World;

/// What one process believes of another.
#[derive(Clone, Copy, Default, Debug)]
struct Belief {
    is_up: bool,
    /// The verdict that is under way.
    pending: Option<bool>,
    generation: u32,
}

/// All beliefs.
pub(crate) struct Detector {
    beliefs: BTreeMap<(ProcessId, ProcessId), Belief>,
    worst_us: u64,
}

/// How a peer looks from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sight {
    /// It runs, and frames pass both ways, perhaps over a third node.
    Reachable,
    /// Frames do not pass, or it does not run on.
    Silent,
    /// Its process ended and its machine says so.
    Refused,
    /// It said that it leaves.
    Left,
}

impl Detector {
    pub(crate) fn new(worst: Duration) -> Self {
        Self { beliefs: BTreeMap::new(), worst_us: micros(worst) }
    }

    /// Looks at a peer again. Answers when which verdict falls, if one is to be queued.
    pub(crate) fn look(
        &mut self,
        now: WorldTime,
        (observer, subject): (ProcessId, ProcessId),
        sight: Sight,
        draw: &mut Draw,
    ) -> Option<(WorldTime, u32, Verdict)> {
        let belief = self.beliefs.entry((observer, subject)).or_default();
        let shall_be_up = sight == Sight::Reachable;
        if belief.pending.unwrap_or(belief.is_up) == shall_be_up {
            return None;
        }
        belief.generation += 1;
        if belief.is_up == shall_be_up {
            belief.pending = None;
            return None;
        }
        belief.pending = Some(shall_be_up);
        let (delay_us, verdict) = match sight {
            Sight::Reachable => (draw.spread(5_000, 2_000_000), Verdict::Up),
            Sight::Silent => (draw.between(self.worst_us / 4, self.worst_us), Verdict::Down(Evidence::Suspected)),
            Sight::Refused => (draw.between(20_000, 60_000), Verdict::Down(Evidence::Refused)),
            Sight::Left => (draw.between(200, 60_000), Verdict::Down(Evidence::Left)),
        };
        Some((now.plus_us(delay_us), belief.generation, verdict))
    }

    /// A false alarm: the peer is declared down although it can be reached.
    pub(crate) fn alarm(&mut self, observer: ProcessId, subject: ProcessId) -> Option<u32> {
        let belief = self.beliefs.get_mut(&(observer, subject))?;
        if !belief.is_up || belief.pending.is_some() {
            return None;
        }
        belief.generation += 1;
        belief.pending = Some(false);
        Some(belief.generation)
    }

    /// A verdict falls. False when it was overtaken.
    pub(crate) fn settle(&mut self, observer: ProcessId, subject: ProcessId, generation: u32, is_up: bool) -> bool {
        match self.beliefs.get_mut(&(observer, subject)) {
            Some(belief) if belief.generation == generation && belief.is_up != is_up => {
                belief.is_up = is_up;
                belief.pending = None;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Forgets what a dead process believed.
    pub(crate) fn forget(&mut self, process: ProcessId) {
        self.beliefs.retain(|(observer, _), _| *observer != process);
    }

    /// Whom a process believes to be up.
    pub(crate) fn believed_up(&self, observer: ProcessId) -> Vec<ProcessId> {
        let range = (observer, ProcessId(0))..=(observer, ProcessId(u32::MAX));
        let up = self.beliefs.range(range).filter(|(_, belief)| belief.is_up);
        up.map(|((_, subject), _)| *subject).collect()
    }

    /// A newer incarnation took the peer's name.
    pub(crate) fn replace(&mut self, observer: ProcessId, subject: ProcessId) {
        if let Some(belief) = self.beliefs.get_mut(&(observer, subject)) {
            belief.is_up = false;
            belief.pending = None;
            belief.generation += 1;
        }
    }
}

impl World {
    /// Lets every process look at every other again.
    pub(crate) fn look_at_peers(&mut self) {
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

    /// A verdict of the detector falls.
    pub(crate) fn verdict(
        &mut self,
        observer: ProcessId,
        subject: ProcessId,
        generation: u32,
        verdict: Verdict,
    ) -> Check {
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
                let peer = self.process(id).node.clone();
                self.tell_member(observer, &peer, Verdict::Down(Evidence::Replaced))?;
            }
        }
        let peer = self.process(subject).node.clone();
        self.tell_member(observer, &peer, verdict)?;
        self.look_around();
        Ok(())
    }
}
