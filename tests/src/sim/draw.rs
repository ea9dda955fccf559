//! Seeded random streams, one per purpose, so that dropping a fault does not shift the workload.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One stream of random draws. Integers only: the same seed gives the same run on every machine.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of `purpose` for `seed`.
    #[must_use]
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose);
        Self(rng)
    }

    /// A uniform 64-bit number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.random()
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low { low } else { self.0.random_range(low..=high) }
    }

    /// Uniform below `bound`; zero when there is nothing below it.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    /// True in `ppm` of a million draws.
    pub(crate) fn chance_ppm(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.0.random_range(0..1_000_000) < ppm
    }

    /// True in `percent` of a hundred draws.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.chance_ppm(percent * 10_000)
    }

    /// Uniform over the orders of magnitude (base 2) from `low` to `high`: short times are as likely as long ones.
    pub(crate) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let low = low.max(1);
        let high = high.max(low);
        let doublings = (high / low).ilog2();
        let floor = low << self.between(0, u64::from(doublings));
        self.between(floor, (floor.saturating_mul(2)).min(high))
    }

    /// One of `items`.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

/// The streams of one run.
pub(crate) struct Streams {
    pub(crate) config: Draw,
    pub(crate) schedule: Draw,
    pub(crate) network: Draw,
    pub(crate) faults: Draw,
    pub(crate) workload: Draw,
    pub(crate) host: Draw,
    pub(crate) life: Draw,
    pub(crate) detector: Draw,
    /// Strategies that the configuration of a seed did not know once: it stays what it was.
    pub(crate) strategies: Draw,
    /// Strategies with a quorum: the rest of a seed stays what it was before there were any.
    pub(crate) quorum: Draw,
    /// The same for the distribution by loads, and the loads.
    pub(crate) loads: Draw,
}

impl Streams {
    pub(crate) fn new(seed: u64) -> Self {
        let stream = |purpose| Draw::new(seed, purpose);
        Self {
            config: stream(1),
            schedule: stream(2),
            network: stream(3),
            faults: stream(4),
            workload: stream(5),
            host: stream(6),
            life: stream(7),
            detector: stream(8),
            strategies: stream(9),
            quorum: stream(10),
            loads: stream(11),
        }
    }
}
