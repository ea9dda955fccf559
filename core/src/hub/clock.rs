//! The clocks of the drivers. The pure parts are handed these values and read no clock themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// Now, on a clock that never goes back and counts the time the machine was suspended (R5, R11).
#[must_use]
#[cfg(not(all(test, feature = "loom")))]
pub fn now() -> Timestamp {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Timestamp(seconds * 1_000_000 + nanos / 1_000)
}

/// The time of the model.
#[cfg(all(test, feature = "loom"))]
pub fn now() -> Timestamp {
    crate::sync::now()
}

/// The wall clock, in Unix milliseconds.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
