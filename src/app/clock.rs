//! The only place that reads a clock.
//!
//! `now` starts at the wall clock and then follows the monotonic one, so that a step of the wall clock moves no
//! timer. How far the two have parted since is told by [`Clock::drift`].
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Engine time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// Engine time at `origin`.
    base: Timestamp,
}

impl Clock {
    pub fn start() -> Self {
        Clock { origin: Instant::now(), base: wall() }
    }

    pub fn now(&self) -> Timestamp {
        self.base + self.origin.elapsed()
    }

    /// How far the wall clock is ahead of engine time; zero when it is behind.
    pub fn drift(&self) -> Duration {
        wall().since(self.now())
    }

    /// Moves engine time forward, after a gap was told to the engine.
    pub fn advance(&mut self, by: Duration) {
        self.base = self.base + by;
    }
}

fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
