//! Schedules: a playbook that is run when its time comes, alert or not.
//!
//! Invariant: when a schedule comes follows from its text and the time alone, so that a restart moves nothing.

#[cfg(test)]
mod tests;

use std::time::Duration;

use smol_str::SmolStr;

use selfheal_model::ids::fingerprint;
use selfheal_model::{Cron, DeploymentId, PlaybookName, Selector, SourceRef, Timestamp, Zone};
use selfheal_script::Param;

#[derive(Clone)]
pub struct Schedule {
    /// Its identity: what is remembered of it is kept under this.
    pub name: SmolStr,
    pub source: SourceRef,
    pub playbook: PlaybookName,
    pub with: Vec<(String, Param)>,
    /// On which deployments; each has a run of its own, under every guard.
    pub select: Selector,
    pub when: When,
    /// Each deployment's run begins so much later at most; see [`Schedule::delay`].
    pub jitter: Duration,
    /// So many of its runs at a time, at least one.
    pub at_once: u32,
    /// A time that was missed or refused is made up once while it is no older than this.
    pub catch_up: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// By the wall clock of a time zone.
    Cron { cron: Cron, zone: Zone },
    /// Longer than nothing.
    Every(Duration),
}

impl Schedule {
    /// The first time later than `after`, `Timestamp::MAX` where there is none.
    ///
    /// `every` counts from midnight UTC of 1970, moved by a hash of the name so that not all come together.
    pub fn next_after(&self, after: Timestamp) -> Timestamp {
        match &self.when {
            When::Cron { cron, zone } => cron.next_after(after, zone),
            When::Every(every) => {
                let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
                let moved = below(fingerprint([self.name.as_str()]), every);
                let past = after.as_millis().saturating_sub(moved).rem_euclid(every);
                Timestamp::from_millis(after.as_millis().saturating_add(every - past))
            }
        }
    }

    /// The newest time later than `after` that has come by `until`.
    pub fn newest_within(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // looked for from the end in spans that double: a long absence costs no more than a short one
        let mut span = Duration::from_secs(60);
        loop {
            let from = after.max(until - span);
            let mut newest = None;
            let mut next = self.next_after(from);
            while next <= until {
                newest = Some(next);
                next = self.next_after(next);
            }
            if newest.is_some() || from == after {
                return newest;
            }
            span = span.saturating_mul(2);
        }
    }

    /// How much later than `at` the run on a deployment begins: less than `jitter`, the same whenever it is asked.
    pub fn delay(&self, deployment: &DeploymentId, at: Timestamp) -> Duration {
        let jitter = i64::try_from(self.jitter.as_millis()).unwrap_or(i64::MAX);
        let key = fingerprint([self.name.as_str(), deployment.as_str(), &at.as_millis().to_string()]);
        Duration::from_millis(below(key, jitter).unsigned_abs())
    }
}

/// A hash as a number from 0 up to but without `bound`; 0 where there is none.
fn below(hash: u64, bound: i64) -> i64 {
    let bound = u128::from(bound.unsigned_abs());
    // by the upper bits, which are better mixed than the lower ones
    i64::try_from((u128::from(hash) * bound) >> u64::BITS).unwrap_or(0)
}
