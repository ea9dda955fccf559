//! Random faults, then calm: everybody has to agree.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::harness::{Cluster, Process, ms};
use crate::swim::{SwimEffect, SwimInput};

const NAMES_COUNT: usize = 6;

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
    for seed in 0..1200 {
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
        let calm = soak.cluster.run_until(ms(20_000), Cluster::is_complete);
        if calm.is_none() {
            eprintln!("SEED {seed}");
            for (i, n) in soak.cluster.nodes.iter().enumerate() {
                if n.is_running {
                    eprintln!(
                        "{i} {} up {:?} links {:?} finals {:?} id {:?} hl {} dl {} now {} leaving {} left {}",
                        n.contact.node,
                        n.swim.members().map(|c| c.node.to_string()).collect::<Vec<_>>(),
                        soak.cluster.peers(i),
                        n.swim.finals.iter().map(|(a, b)| format!("{a}:{:?}", b.0)).collect::<Vec<_>>(),
                        n.swim.foca.identity(),
                        n.swim.health(),
                        n.swim.next_deadline().0,
                        soak.cluster.now.0,
                        n.swim.leaving.is_some(),
                        n.swim.has_left
                    );
                    for (k, l) in &n.swim.links {
                        eprintln!("    {k} acc {} wel {}", l.is_accepted(), l.is_welcomed);
                    }
                    for m in n.swim.foca.iter_membership_state() {
                        eprintln!(
                            "    foca {} r{} b{} {:?} {}",
                            m.id().node,
                            m.id().rank,
                            m.id().bump,
                            m.state(),
                            m.incarnation()
                        );
                    }
                }
            }
            for e in soak.cluster.log.iter().rev().take(40).rev() {
                eprintln!("  {} {} {:?}", (e.0.0 - soak.cluster.now.0.min(e.0.0)) / 1000, e.1, e.2);
            }
            for e in soak.cluster.log.iter().filter(|e| matches!(e.2, SwimEffect::NameTaken { .. })) {
                eprintln!("TAKEN {:?}", e);
            }
            soak.cluster.assert_complete();
        }
        let taken = soak.cluster.count(|_, effect| matches!(effect, SwimEffect::NameTaken { .. }));
        assert_eq!(taken, 0, "seed {seed}");
        soak.cluster.log.clear();
        soak.cluster.run(ms(20_000));
        let changes = soak.cluster.count(|_, effect| matches!(effect, SwimEffect::Up(_) | SwimEffect::Down(..)));
        assert_eq!(changes, 0, "seed {seed}: calm stays calm");
    }
}
