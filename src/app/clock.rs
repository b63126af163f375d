//! The only place that reads a clock.
//!
//! Engine time starts at the wall clock, or at the last journalled instant where that is later, and then follows the
//! monotonic clock: a step of the wall clock moves no timer, and time never runs backwards over a restart. How far
//! the two are apart is told by [`Clock::offset_ms`].
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use selfheal_model::{Timestamp, units};

/// A journal that ends further ahead of the wall clock than this was written under another clock: one of the two is
/// wrong, and only a person knows which.
const FAR_AHEAD: Duration = Duration::from_secs(3600);

/// The journal ends in what the wall clock calls the future.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journal ends at {last}, which is {} ahead of this machine's clock ({wall}). If the machine's clock is wrong, set \
     it right. If the journal was written under a wrong clock, start once with --accept-clock: selfheal's time goes on \
     from where the journal ends",
    units::format_duration(last.since(*wall))
)]
pub struct ClockFarBehind {
    last: Timestamp,
    wall: Timestamp,
}

/// Engine time. Clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// Engine time at `origin`, in milliseconds. Only ever grows.
    base: Arc<AtomicI64>,
}

impl Clock {
    pub fn start() -> Self {
        Clock { origin: Instant::now(), base: Arc::new(AtomicI64::new(wall().as_millis())) }
    }

    /// Goes on after `last`, the last instant the journal knows, where that is later than now.
    ///
    /// # Errors
    /// That instant is far in the future, and nobody said that this is as it should be.
    pub fn go_on_after(&self, last: Timestamp, accept: bool) -> Result<(), ClockFarBehind> {
        let now = self.now();
        if last.since(now) > FAR_AHEAD && !accept {
            return Err(ClockFarBehind { last, wall: now });
        }
        self.advance(last.since(now));
        Ok(())
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.base.load(Ordering::SeqCst)) + self.origin.elapsed()
    }

    /// How far the wall clock is ahead of engine time; negative when it is behind.
    pub fn offset_ms(&self) -> i64 {
        wall().as_millis().saturating_sub(self.now().as_millis())
    }

    /// Moves engine time forward, after a gap was told to the engine.
    pub fn advance(&self, by: Duration) {
        self.base.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

/// Measures how long something takes, for figures: nothing is decided by it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// What the machine calls now; what events and peers mean by it.
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_where_the_journal_ends() {
        let last = wall() + Duration::from_secs(600);
        let clock = Clock::start();
        clock.go_on_after(last, false).expect("ten minutes are no other clock");
        assert!(clock.now() >= last, "engine time never runs backwards");
        assert!(clock.offset_ms() < -590_000, "the wall clock is behind: {}", clock.offset_ms());
        let before = clock.now();
        clock.go_on_after(wall() - FAR_AHEAD, false).expect("the past is fine");
        assert!(clock.now() >= before);
    }

    #[test]
    fn a_journal_from_the_far_future_is_accepted_only_by_word() {
        let last = wall() + Duration::from_secs(86_400);
        let clock = Clock::start();
        let refused = clock.go_on_after(last, false).expect_err("far ahead").to_string();
        assert!(refused.contains("--accept-clock") && refused.contains(&last.to_string()), "{refused}");
        assert!(clock.now() < last, "a refused one changes nothing");
        clock.go_on_after(last, true).expect("accepted");
        assert!(clock.now() >= last);
    }
}
