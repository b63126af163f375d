//! The demo's clock: wall time at the start, then the monotonic clock.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use selfheal_model::Timestamp;

/// Clones tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    started: Timestamp,
}

impl Clock {
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let started = Timestamp::from_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX));
        Clock { origin: Instant::now(), started }
    }

    pub fn now(&self) -> Timestamp {
        self.started + self.origin.elapsed()
    }
}
