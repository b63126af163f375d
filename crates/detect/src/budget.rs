//! How much a rule may spend: one that costs too much is asked on a slow beat instead, so that it holds up no other.
//!
//! Invariant: spending is counted in operations, never in time: the same inputs are asked at the same instants.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use selfheal_model::Timestamp;

/// Operations one rule may spend in a second of the engine's time, over all its scopes: far more than any sensible
/// rule takes, far less than holds up the others.
pub(super) const OPERATIONS_A_SECOND: u64 = 5_000_000;
/// The beat of a rule that spends more: each of its scopes is asked once in it, at its end.
pub(super) const SLOW_EVERY: Duration = Duration::from_secs(5);

/// What one rule has spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Budget {
    /// The second that is counted.
    second: i64,
    spent: u64,
    /// Of the newest evaluation.
    last: u64,
    /// When its slow beat began and when it ends, while it is slow.
    beat: Option<(Timestamp, Timestamp)>,
    /// Where a beat ended, all that waited is asked at once: that instant is not counted.
    free: Option<Timestamp>,
    /// What would have been spent since the beat began had it not been slow.
    asked_for: u64,
}

/// Whether a rule may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// At that instant, not before.
    At(Timestamp),
}

/// What spending comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    AsBefore,
    /// From now on it is slow.
    Slow,
}

impl Budget {
    /// Somebody wants it asked.
    pub fn ask(&mut self, now: Timestamp) -> Turn {
        match self.beat {
            Some((began, end)) if now > began && now < end => {
                self.asked_for = self.asked_for.saturating_add(self.last);
                Turn::At(end)
            }
            _ => Turn::Now,
        }
    }

    /// An evaluation took so many operations.
    pub fn spend(&mut self, operations: u64, now: Timestamp) -> Pace {
        let second = now.as_millis().div_euclid(1_000);
        if second != self.second {
            (self.second, self.spent) = (second, 0);
        }
        self.last = operations;
        if self.free == Some(now) {
            return Pace::AsBefore;
        }
        self.spent = self.spent.saturating_add(operations);
        if self.beat.is_some() || self.spent <= OPERATIONS_A_SECOND {
            return Pace::AsBefore;
        }
        self.begin_beat(now);
        Pace::Slow
    }

    fn begin_beat(&mut self, now: Timestamp) {
        self.beat = Some((now, now + SLOW_EVERY));
        self.asked_for = 0;
    }

    /// The beat is over: the scopes that wait are asked at this instant. Whether another begins after it; `None`: it is
    /// not over yet.
    pub fn beat_ended(&mut self, now: Timestamp) -> Option<bool> {
        self.beat.filter(|(_, end)| now >= *end)?;
        let goes_on = self.asked_for > OPERATIONS_A_SECOND * SLOW_EVERY.as_secs();
        if goes_on {
            self.begin_beat(now);
        } else {
            *self = Budget { free: Some(now), ..Budget::default() };
        }
        Some(goes_on)
    }

    pub fn is_slow(&self) -> bool {
        self.beat.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_rule_that_spends_too_much_in_a_second_is_slow_until_it_is_asked_for_less() {
        let mut budget = Budget::default();
        assert_eq!(budget.spend(OPERATIONS_A_SECOND, at(100)), Pace::AsBefore);
        assert_eq!(budget.spend(OPERATIONS_A_SECOND, at(1_100)), Pace::AsBefore, "another second");
        assert_eq!((budget.ask(at(1_200)), budget.spend(1, at(1_200))), (Turn::Now, Pace::Slow));
        let end = at(6_200);
        assert_eq!((budget.ask(at(1_300)), budget.beat_ended(at(6_199))), (Turn::At(end), None));
        budget.last = OPERATIONS_A_SECOND;
        (0..6).for_each(|_| assert_eq!(budget.ask(at(2_000)), Turn::At(end)));
        assert_eq!((budget.beat_ended(end), budget.ask(end)), (Some(true), Turn::Now), "as much as before");
        assert_eq!(budget.ask(at(7_000)), Turn::At(at(11_200)));
        assert_eq!((budget.beat_ended(at(11_200)), budget.ask(at(11_200))), (Some(false), Turn::Now));
        assert_eq!(budget.spend(OPERATIONS_A_SECOND * 2, at(11_200)), Pace::AsBefore, "what waited is asked at once");
        assert!(!budget.is_slow());
        assert_eq!(budget.spend(OPERATIONS_A_SECOND * 2, at(11_300)), Pace::Slow);
    }
}
