//! Membership without packets: a detector that is right in the end, late and sometimes wrong before.
//!
//! It is far more hostile than SWIM can be and costs no events while nothing changes; seeds draw which of the
//! two they run.

use std::collections::BTreeMap;
use std::time::Duration;

use process_hub::swim::Evidence;

use super::draw::Draw;
use super::queue::{ProcessId, Verdict};
use super::time::{WorldTime, micros};

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
}

impl Detector {
    /// A newer incarnation took the peer's name.
    pub(crate) fn replace(&mut self, observer: ProcessId, subject: ProcessId) {
        if let Some(belief) = self.beliefs.get_mut(&(observer, subject)) {
            belief.is_up = false;
            belief.pending = None;
            belief.generation += 1;
        }
    }
}
