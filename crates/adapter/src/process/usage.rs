//! Figures that need several samples of a replica: its CPU usage, and how long it has been over its memory limit.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a replica must be over its memory limit before the fact `over_memory` is true: a short peak is no leak.
pub const OVER_MEMORY_FOR: Duration = Duration::from_secs(30);

/// The kernel counts processor time in hundredths of a second; over a shorter interval the figure is mostly noise.
const CPU_OVER_AT_LEAST: Duration = Duration::from_millis(500);

/// The previous sample of each replica.
#[derive(Debug, Default)]
pub struct UsageMeter {
    by_replica: BTreeMap<u32, Sample>,
}

#[derive(Debug)]
struct Sample {
    incarnation: u64,
    at: Instant,
    cpu_ticks: u64,
    cpu_percent: Option<f64>,
    over_since: Option<Instant>,
}

/// The usage of a replica, computed from this sample and the ones before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// In percent of one core; `None` at the first sample of an incarnation.
    pub cpu_percent: Option<f64>,
    /// Over the limit at every sample for [`OVER_MEMORY_FOR`].
    pub over_memory: bool,
}

impl UsageMeter {
    pub fn sample(&mut self, index: u32, incarnation: u64, cpu_ticks: u64, over_limit: bool, now: Instant) -> Usage {
        let fresh = || Sample { incarnation, at: now, cpu_ticks, cpu_percent: None, over_since: None };
        let sample = self.by_replica.entry(index).or_insert_with(fresh);
        if sample.incarnation != incarnation {
            *sample = fresh();
        }
        let span = now - sample.at;
        if span >= CPU_OVER_AT_LEAST {
            let seconds = cpu_ticks.saturating_sub(sample.cpu_ticks) as f64 / procfs::ticks_per_second() as f64;
            sample.cpu_percent = Some(100.0 * seconds / span.as_secs_f64());
            (sample.at, sample.cpu_ticks) = (now, cpu_ticks);
        }
        sample.over_since = if over_limit { sample.over_since.or(Some(now)) } else { None };
        Usage {
            cpu_percent: sample.cpu_percent,
            over_memory: sample.over_since.is_some_and(|since| now - since >= OVER_MEMORY_FOR),
        }
    }

    /// Drops the samples of a replica that is down.
    pub fn forget(&mut self, index: u32) {
        self.by_replica.remove(&index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_what_was_used_between_two_looks() {
        let (mut meter, begin) = (UsageMeter::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let tick = procfs::ticks_per_second();
        assert_eq!(meter.sample(0, 1, 50 * tick, false, begin).cpu_percent, None);
        assert_eq!(meter.sample(0, 1, 53 * tick, false, after(2)).cpu_percent, Some(150.0));
        let soon = after(2) + Duration::from_millis(10);
        assert_eq!(meter.sample(0, 1, 53 * tick, false, soon).cpu_percent, Some(150.0), "too soon to say anything new");
        assert_eq!(meter.sample(0, 2, 0, false, after(4)).cpu_percent, None, "another incarnation begins anew");
    }

    #[test]
    fn only_memory_over_the_limit_all_the_time_counts() {
        let (mut meter, begin) = (UsageMeter::default(), Instant::now());
        let mut over = |seconds, over| meter.sample(0, 1, 0, over, begin + Duration::from_secs(seconds)).over_memory;
        assert!(!over(0, true));
        assert!(!over(20, false));
        assert!(!over(21, true));
        assert!(!over(50, true));
        assert!(over(51, true));
        assert!(!over(52, false));
    }
}
