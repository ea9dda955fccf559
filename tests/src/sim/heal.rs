//! The healed phase: a random core stays, everything else is down for good, and the cluster must settle.

use process_hub::config::Distribution;

use super::fact::Fact;
use super::invariants::liveness;
use super::queue::{Event, ProcessId};
use super::time::WorldTime;
use super::violation::{Check, Violation};
use super::world::World;

/// A settled cluster is watched this long: nothing may move any more (L7).
const WATCH_US: u64 = 10_000_000;
/// Until then requests of the safety phase may still be under way, also those of nodes that are gone.
const FIRST_LOOK_US: u64 = 12_000_000;
/// How often the cluster is looked at.
const LOOK_US: u64 = 1_000_000;

/// How far the healed phase is.
pub(crate) struct Healing {
    began: WorldTime,
    /// Since when everything is settled, and the motions counted then.
    settled: Option<(WorldTime, u64)>,
    pub(crate) is_over: bool,
}

impl World {
    /// Ends all faults and all use, and keeps a random core.
    pub(crate) fn heal(&mut self) -> Check {
        if self.swarm.has_quorum() {
            return self.heal_all();
        }
        let mut staying = self.alive();
        staying.retain(|id| !self.process(*id).is_leaving);
        let core = self.choose_core(&mut staying);
        self.heal_with(core)
    }

    /// Ends all faults and all use, and starts what is down: a part of the members may be no quorum.
    fn heal_all(&mut self) -> Check {
        for slot in 0..self.swarm.nodes {
            let process = self.machines[slot].process;
            if let Some(id) = process.filter(|id| self.process(*id).is_leaving) {
                self.kill(id, "it was leaving")?;
            }
            if self.machines[slot].process.is_none() {
                self.start_process(slot, false)?;
            }
        }
        let core = self.alive();
        self.heal_with(core)
    }

    /// Ends all faults and all use, and keeps these processes.
    pub(crate) fn heal_with(&mut self, core: Vec<ProcessId>) -> Check {
        self.healing = Some(Healing { began: self.now, settled: None, is_over: false });
        self.end_faults()?;
        let leaving: Vec<_> = self.alive().into_iter().filter(|id| !core.contains(id)).collect();
        for id in leaving {
            self.kill(id, "not in the core")?;
        }
        let core = if core.is_empty() {
            self.start_process(0, false)?;
            self.alive()
        } else {
            core
        };
        self.observe(&Fact::Healed(core))?;
        self.look_around();
        self.push_us(FIRST_LOOK_US, Event::Inspect);
        Ok(())
    }

    /// Takes a random core out of the candidates.
    fn choose_core(&mut self, candidates: &mut Vec<ProcessId>) -> Vec<ProcessId> {
        let draw = &mut self.streams.life;
        if candidates.is_empty() {
            return Vec::new();
        }
        let count = if draw.chance(50) {
            candidates.len()
        } else {
            draw.below(candidates.len()).max(draw.below(candidates.len())) + 1
        };
        let mut core: Vec<_> = (0..count).map(|_| candidates.swap_remove(draw.below(candidates.len()))).collect();
        core.sort_unstable();
        core
    }

    /// Looks whether everything is as it must be.
    pub(crate) fn inspect(&mut self) -> Check {
        let now = self.now;
        let Some(healing) = &mut self.healing else {
            return Ok(());
        };
        let motions = self.oracle.ghost.motions;
        let patience_us = self.oracle.ghost.settle_us;
        let redistributes = self
            .swarm
            .hubs
            .iter()
            .any(|hub| matches!(hub.distribution, Distribution::LoadBalanced { nodeup_redistribution: true, .. }));
        match liveness::unsettled(&self.oracle.ghost) {
            None => {
                let (since, before) = *healing.settled.get_or_insert((now, motions));
                if motions != before && redistributes && now.since_us(healing.began) <= patience_us {
                    // Who came back is given a share of what runs, once everybody agrees on who is there.
                    healing.settled = Some((now, motions));
                } else if motions != before {
                    return Err(Violation {
                        invariant: "L7",
                        at: now,
                        facts: format!(
                            "the cluster was settled at {since}, and {} instances were started since",
                            motions - before
                        ),
                    });
                }
                if now.since_us(since) >= WATCH_US {
                    healing.is_over = true;
                    return Ok(());
                }
            }
            Some(reason) => {
                if now.since_us(healing.began) > patience_us {
                    return Err(Violation {
                        invariant: reason.invariant,
                        at: now,
                        facts: format!(
                            "{}, {} s after everything healed",
                            reason.facts,
                            now.since_us(healing.began) / 1_000_000
                        ),
                    });
                }
                healing.settled = None;
            }
        }
        self.push_us(LOOK_US, Event::Inspect);
        Ok(())
    }
}
