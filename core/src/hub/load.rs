//! What this process has to do, measured for a distribution that goes by loads.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::strategy::LoadSample;
use crate::time::Timestamp;

/// Measures in another way: see [`super::HubBuilder::load_probe`].
pub(crate) type LoadProbe = Arc<dyn Fn() -> LoadSample + Send + Sync>;

/// Measures the load of this process from one sample to the next.
pub(crate) struct LoadMeter {
    probe: Option<LoadProbe>,
    /// When the last sample was, and the CPU time used until then.
    last: (Timestamp, Duration),
    cores: u32,
}

impl LoadMeter {
    pub(crate) fn new(now: Timestamp, probe: Option<LoadProbe>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        Self { probe, last: (now, cpu_time()), cores }
    }

    /// The load since the last sample; `waiting` calls wait for the host.
    pub(crate) fn sample(&mut self, now: Timestamp, waiting: usize) -> LoadSample {
        if let Some(probe) = &self.probe {
            return probe();
        }
        let (before, used_before) = std::mem::replace(&mut self.last, (now, cpu_time()));
        let could_use = now.since(before).saturating_mul(self.cores).as_micros().max(1);
        let used = self.last.1.saturating_sub(used_before).as_micros();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        LoadSample { cpu: u16::try_from(used * 1000 / could_use).unwrap_or(u16::MAX), waiting }
    }
}

/// The CPU time this process has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_works_between_two_samples_then_its_share_of_the_cores_is_measured() {
        let begin = Timestamp(1_000_000);
        let mut meter = LoadMeter::new(begin, None);
        meter.cores = 1;
        let until = cpu_time() + Duration::from_millis(50);
        let mut sum = 0u64;
        while cpu_time() < until {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let sample = meter.sample(begin + Duration::from_millis(100), 7);
        assert!(sample.cpu >= 500, "{sample:?}");
        assert_eq!(sample.waiting, 7);
        let later = meter.sample(begin + Duration::from_secs(1_000), 0);
        assert!(later.cpu < 10, "what was used before counts no more: {later:?}");
    }

    #[test]
    fn probe_is_given_then_it_is_what_is_told() {
        let told = LoadSample { cpu: 300, waiting: 2 };
        let mut meter = LoadMeter::new(Timestamp(0), Some(Arc::new(move || told)));
        assert_eq!(meter.sample(Timestamp(1), 9), told);
    }
}
