//! Raw verdicts of a check, smoothed: so many equal ones in a row turn it.
//!
//! Invariant: what a replica's earlier process did says nothing about the one that runs now.

use std::collections::VecDeque;
use std::time::Duration;

use smol_str::SmolStr;

use super::series::Span;
use crate::model::{Check, CheckStatus, FailureReason, Health, HealthyWhen, Timestamp};

/// Verdicts that are remembered for rates and for looking back to an action.
const MAX_VERDICTS: usize = 1_024;

/// How many equal verdicts in a row count.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    pub failures: u32,
    pub successes: u32,
    /// Failures do not count yet so long after a start.
    pub start_period: Duration,
    /// A verdict older than this is none.
    pub stale_after: Duration,
}

/// A newest value older than this is missing (SPEC §2.3).
pub const STALE_AFTER: Duration = Duration::from_secs(300);

impl Thresholds {
    pub fn of(check: Option<&Check>) -> Thresholds {
        match check {
            Some(check) => Thresholds {
                failures: check.failure_threshold.max(1),
                successes: check.success_threshold.max(1),
                start_period: check.start_period,
                stale_after: STALE_AFTER.max(check.every * 3),
            },
            // somebody else's check: it has smoothed its verdicts, or does not want to
            None => Thresholds { failures: 1, successes: 1, start_period: Duration::ZERO, stale_after: STALE_AFTER },
        }
    }
}

/// One verdict as it came.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub at: Timestamp,
    pub status: CheckStatus,
    pub latency_ms: Option<f64>,
    pub reason: Option<FailureReason>,
    pub message: SmolStr,
}

/// One check of one replica, or of a deployment as a whole.
#[derive(Clone, Debug)]
pub struct CheckState {
    /// Since when it can answer at all: the replica's start, or the first sight of the deployment.
    pub started: Timestamp,
    pub incarnation: u64,
    newest: Option<Verdict>,
    /// Verdicts that count, oldest first.
    counted: VecDeque<(Timestamp, CheckStatus)>,
    run: u32,
    smoothed: Health,
}

impl CheckState {
    pub fn new(started: Timestamp, incarnation: u64) -> Self {
        CheckState { started, incarnation, newest: None, counted: VecDeque::new(), run: 0, smoothed: Health::Unknown }
    }

    pub fn newest(&self) -> Option<&Verdict> {
        self.newest.as_ref()
    }

    pub fn smoothed(&self) -> Health {
        self.smoothed
    }

    pub fn take(&mut self, verdict: Verdict, thresholds: Thresholds) {
        let counts = verdict.status == CheckStatus::Healthy
            || verdict.at >= self.started + thresholds.start_period
            || thresholds.start_period.is_zero();
        if counts {
            let same = self.counted.back().is_some_and(|(_, status)| *status == verdict.status);
            self.run = if same { self.run.saturating_add(1) } else { 1 };
            if self.counted.len() == MAX_VERDICTS {
                self.counted.pop_front();
            }
            self.counted.push_back((verdict.at, verdict.status));
            self.smoothed = turned(self.smoothed, verdict.status, self.run, thresholds);
        }
        if self.newest.as_ref().is_none_or(|newest| newest.at <= verdict.at) {
            self.newest = Some(verdict);
        }
    }

    /// How many of these came in a row up to now; 0 when the newest is another.
    pub fn run_of(&self, status: CheckStatus) -> u32 {
        if self.counted.back().is_some_and(|(_, newest)| *newest == status) { self.run } else { 0 }
    }

    pub fn within(&self, span: Span) -> impl DoubleEndedIterator<Item = (Timestamp, CheckStatus)> + '_ {
        self.counted.iter().copied().filter(move |(at, _)| *at > span.from && *at <= span.to)
    }

    /// The smoothed verdict as it would be if nothing were known from before `span`.
    pub fn smoothed_within(&self, span: Span, thresholds: Thresholds) -> Health {
        let (mut health, mut run, mut last) = (Health::Unknown, 0, None);
        for (_, status) in self.within(span) {
            run = if last == Some(status) { run + 1 } else { 1 };
            last = Some(status);
            health = turned(health, status, run, thresholds);
        }
        health
    }
}

fn turned(before: Health, status: CheckStatus, run: u32, thresholds: Thresholds) -> Health {
    match status {
        CheckStatus::Healthy if run >= thresholds.successes => Health::Healthy,
        CheckStatus::Unhealthy if run >= thresholds.failures => Health::Unhealthy,
        _ => before,
    }
}

/// Many replicas' verdicts as one.
pub fn together(replicas: &[Health], when: HealthyWhen) -> Health {
    let count = |wanted: Health| replicas.iter().filter(|health| **health == wanted).count();
    let (healthy, unhealthy) = (count(Health::Healthy), count(Health::Unhealthy));
    if replicas.is_empty() {
        return Health::Unknown;
    }
    let needed = match when {
        HealthyWhen::All => replicas.len(),
        HealthyWhen::Any => 1,
        HealthyWhen::Ratio(part) => libm::ceil(part * replicas.len() as f64) as usize,
    };
    if unhealthy > replicas.len() - needed.min(replicas.len()) {
        Health::Unhealthy
    } else if healthy >= needed {
        Health::Healthy
    } else {
        Health::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn thresholds() -> Thresholds {
        Thresholds { failures: 3, successes: 2, start_period: Duration::from_secs(10), stale_after: STALE_AFTER }
    }

    fn verdict(seconds: i64, status: CheckStatus) -> Verdict {
        Verdict { at: at(seconds), status, latency_ms: None, reason: None, message: SmolStr::default() }
    }

    #[test]
    fn so_many_in_a_row_turn_it_and_one_alone_does_not() {
        use CheckStatus::{Healthy, Unhealthy};
        let mut state = CheckState::new(at(0), 1);
        let mut seen = Vec::new();
        let verdicts =
            [Healthy, Healthy, Unhealthy, Unhealthy, Healthy, Unhealthy, Unhealthy, Unhealthy, Healthy, Healthy];
        for (second, status) in verdicts.into_iter().enumerate() {
            state.take(verdict(20 + second as i64, status), thresholds());
            seen.push(state.smoothed());
        }
        use Health as H;
        assert_eq!(
            seen,
            [
                H::Unknown,
                H::Healthy,
                H::Healthy,
                H::Healthy,
                H::Healthy,
                H::Healthy,
                H::Healthy,
                H::Unhealthy,
                H::Unhealthy,
                H::Healthy
            ]
        );
    }

    #[test]
    fn a_slow_start_is_no_failure() {
        let mut state = CheckState::new(at(0), 1);
        (1..9).for_each(|second| state.take(verdict(second, CheckStatus::Unhealthy), thresholds()));
        assert_eq!(state.smoothed(), Health::Unknown);
        assert_eq!(state.newest().map(|verdict| verdict.status), Some(CheckStatus::Unhealthy), "the raw one is seen");
        (10..13).for_each(|second| state.take(verdict(second, CheckStatus::Unhealthy), thresholds()));
        assert_eq!(state.smoothed(), Health::Unhealthy);
    }

    #[test]
    fn after_an_action_only_what_came_since_counts() {
        let mut state = CheckState::new(at(0), 1);
        (20..30).for_each(|second| state.take(verdict(second, CheckStatus::Healthy), thresholds()));
        let since = Span { from: at(28), to: at(40) };
        assert_eq!(state.smoothed_within(since, thresholds()), Health::Unknown, "one is not enough");
        state.take(verdict(30, CheckStatus::Healthy), thresholds());
        assert_eq!(state.smoothed_within(since, thresholds()), Health::Healthy);
    }

    #[test]
    fn replicas_make_a_deployment() {
        use Health::{Healthy as H, Unhealthy as U, Unknown as N};
        for (replicas, when, expected) in [
            (&[H, H][..], HealthyWhen::All, H),
            (&[H, U], HealthyWhen::All, U),
            (&[H, N], HealthyWhen::All, N),
            (&[H, U], HealthyWhen::Any, H),
            (&[U, U], HealthyWhen::Any, U),
            (&[H, U, U], HealthyWhen::Ratio(0.5), U),
            (&[H, H, U], HealthyWhen::Ratio(0.5), H),
            (&[], HealthyWhen::All, N),
        ] {
            assert_eq!(together(replicas, when), expected, "{replicas:?} {when:?}");
        }
    }
}
