//! Random faults, then calm: everybody has to agree.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::harness::{Cluster, Process, ms};
use crate::swim::{SwimEffect, SwimInput};

const NAMES_COUNT: usize = 6;
const SEEDS_COUNT: u64 = 60;

struct Soak {
    cluster: Cluster,
    rng: ChaCha8Rng,
    next_incarnation: u64,
}

impl Soak {
    fn new(seed: u64) -> Self {
        Self {
            cluster: Cluster::settled(NAMES_COUNT, seed),
            rng: ChaCha8Rng::seed_from_u64(seed),
            next_incarnation: 10_000,
        }
    }

    /// The latest process of a random name.
    fn pick(&mut self) -> Process {
        let name = self.cluster.nodes[self.rng.random_range(0..NAMES_COUNT)].contact.node.name.clone();
        let latest = self.cluster.nodes.iter().rposition(|node| node.contact.node.name == name);
        latest.expect("the name has a process")
    }

    fn disturb(&mut self) {
        let process = self.pick();
        let other = self.pick();
        let is_running = self.cluster.nodes[process].is_running;
        match self.rng.random_range(0..10) {
            0 if is_running => self.cluster.crash_refused(process),
            1 if is_running => self.cluster.crash_silent(process),
            2 if is_running => {
                self.cluster.crash_broken(process);
                self.revive(process, other);
            }
            3 if is_running => self.cluster.input(process, SwimInput::Leave),
            4 => self.cluster.cut(|process| (process * 7) % 13 >= 6),
            5 => self.cluster.heal(),
            6 if process != other => self.cluster.break_link(process, other, false),
            7 => {
                let duration = ms(self.rng.random_range(100..3000));
                self.cluster.stall(process, duration);
            }
            8 => self.cluster.loss_permille = self.rng.random_range(0..200),
            _ if !is_running => self.revive(process, other),
            _ => {}
        }
    }

    fn revive(&mut self, old: Process, seed: Process) {
        self.next_incarnation += 1;
        // Now and then the clock was set back.
        let incarnation = match self.rng.random_range(0..4) {
            0 => 20_000 - self.next_incarnation,
            _ => self.next_incarnation,
        };
        let new = self.cluster.restart(old, incarnation);
        if new != seed {
            self.cluster.dial(new, seed);
        }
    }
}

#[test]
fn random_faults_for_a_minute_and_then_calm_then_all_agree_and_no_name_was_taken() {
    for seed in 0..SEEDS_COUNT {
        let mut soak = Soak::new(seed);
        for _ in 0..60 {
            soak.disturb();
            let pause = ms(soak.rng.random_range(10..2000));
            soak.cluster.run(pause);
        }
        soak.cluster.heal();
        soak.cluster.loss_permille = 0;
        // A seed list would find nodes that started during the cut; here they dial once more.
        let running: Vec<Process> =
            (0..soak.cluster.nodes.len()).filter(|process| soak.cluster.nodes[*process].is_running).collect();
        for pair in running.windows(2) {
            soak.cluster.dial(pair[0], pair[1]);
        }
        // The last stall lasts at most three seconds.
        soak.cluster.run(ms(4000));
        let calm = soak.cluster.run_until(ms(20_000), Cluster::is_complete);
        assert!(calm.is_some(), "seed {seed}: they do not agree");
        let taken = soak.cluster.count(|_, effect| matches!(effect, SwimEffect::NameTaken { .. }));
        assert_eq!(taken, 0, "seed {seed}");
        soak.cluster.log.clear();
        soak.cluster.run(ms(20_000));
        let changes = soak.cluster.count(|_, effect| matches!(effect, SwimEffect::Up(_) | SwimEffect::Down(..)));
        assert_eq!(changes, 0, "seed {seed}: calm stays calm");
    }
}
