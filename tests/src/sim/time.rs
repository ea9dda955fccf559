//! Virtual time: the world's clock and the clocks of its nodes.

use std::fmt;
use std::time::Duration;

use process_hub::time::Timestamp;

/// Microseconds of the world's own time since the run began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct WorldTime(pub u64);

impl WorldTime {
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Microseconds since `earlier`.
    #[must_use]
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This many microseconds later.
    #[must_use]
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_us(micros(duration))
    }
}

impl fmt::Display for WorldTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A node's clock: it starts somewhere and runs a little fast or slow, also while the node is paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    pub(crate) born: WorldTime,
    pub(crate) offset_us: u64,
    /// Ticks per million microseconds of the world.
    pub(crate) rate: u64,
}

impl NodeClock {
    pub(crate) const EXACT_RATE: u64 = 1_000_000;

    pub(crate) fn read(&self, now: WorldTime) -> Timestamp {
        let elapsed = u128::from(now.since_us(self.born)) * u128::from(self.rate) / 1_000_000;
        Timestamp(self.offset_us + u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// The first moment of the world at which this clock shows `at` or later.
    pub(crate) fn when(&self, at: Timestamp) -> WorldTime {
        if at == Timestamp::NEVER {
            return WorldTime::NEVER;
        }
        let elapsed = u128::from(at.0.saturating_sub(self.offset_us));
        let world = (elapsed * 1_000_000).div_ceil(u128::from(self.rate));
        self.born.plus_us(u64::try_from(world).unwrap_or(u64::MAX))
    }
}
