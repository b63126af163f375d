//! The two guards that remember: a playbook's breaker and the storm.

use std::collections::{BTreeSet, VecDeque};

use selfheal_model::{DeploymentId, Timestamp};
use selfheal_policy::guards::{BreakerLimits, Storm};

/// Failures kept of one playbook, and starts kept of the storm's window: beyond these no limit counts.
const MAX_KEPT: usize = 1_000;

/// What is remembered of a playbook's failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Breaker {
    failures: VecDeque<(Timestamp, DeploymentId)>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Open {
    since: Timestamp,
    /// A run is trying whether it cures again.
    probing: bool,
}

/// Whether a playbook may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    Closed {
        failures: u32,
        deployments: u32,
    },
    /// Out of service; one run may try it from `probe_at` on.
    Open {
        since: Timestamp,
        probe_at: Timestamp,
    },
    /// One run is trying it.
    Probing {
        since: Timestamp,
        /// It is of the same rung, for another of its targets.
        beside: bool,
    },
    /// The next run tries whether it cures again.
    ProbeDue {
        since: Timestamp,
    },
}

impl Breaker {
    pub fn circuit(&self, limits: BreakerLimits, now: Timestamp) -> Circuit {
        match self.open {
            Some(Open { since, probing: true }) => Circuit::Probing { since, beside: false },
            Some(Open { since, .. }) if now < since + limits.probe_after => {
                Circuit::Open { since, probe_at: since + limits.probe_after }
            }
            Some(Open { since, .. }) => Circuit::ProbeDue { since },
            None => {
                let (failures, deployments) = self.counted(limits, now);
                Circuit::Closed { failures, deployments }
            }
        }
    }

    fn counted(&self, limits: BreakerLimits, now: Timestamp) -> (u32, u32) {
        let inside = || self.failures.iter().filter(|(at, _)| now < *at + limits.within);
        let deployments: BTreeSet<_> = inside().map(|(_, deployment)| deployment).collect();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (count(inside().count()), count(deployments.len()))
    }

    /// A run of it begins to act.
    pub fn begins(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// A run of it did not cure. Says whether that took it out of service.
    pub fn failed(&mut self, limits: BreakerLimits, now: Timestamp, deployment: &DeploymentId) -> bool {
        self.failures.push_back((now, deployment.clone()));
        if self.failures.len() > MAX_KEPT {
            self.failures.pop_front();
        }
        if let Some(open) = &mut self.open {
            *open = Open { since: now, probing: false };
            return false;
        }
        let (failures, deployments) = self.counted(limits, now);
        let opens = failures >= limits.failures && deployments >= limits.deployments;
        if opens {
            self.open = Some(Open { since: now, probing: false });
        }
        opens
    }

    /// A run of it cured. Says whether that brought it back into service.
    pub fn cured(&mut self) -> bool {
        self.failures.clear();
        self.open.take().is_some()
    }

    /// A run of it ended without saying anything of it.
    pub fn left(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// A person has put it back into service. Says whether it was out.
    pub fn reset(&mut self) -> bool {
        self.cured()
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// How many ladders want to start, and whether that is a storm. What wants to start is known by a name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StormWatch<K> {
    wanted: VecDeque<(Timestamp, K)>,
    /// Until when as many as the limit wanted to start within its window, the last time.
    over_until: Option<Timestamp>,
}

impl<K> Default for StormWatch<K> {
    fn default() -> Self {
        StormWatch { wanted: VecDeque::new(), over_until: None }
    }
}

impl<K> StormWatch<K> {
    /// A ladder wants to start.
    pub fn wants(&mut self, limits: Storm, now: Timestamp, who: K) {
        self.wanted.push_back((now, who));
        self.forget(limits, now);
    }

    fn forget(&mut self, limits: Storm, now: Timestamp) {
        let old = |(at, _): &(Timestamp, K)| *at + limits.ladders.window <= now;
        while self.wanted.len() > MAX_KEPT || self.wanted.front().is_some_and(old) {
            self.wanted.pop_front();
        }
    }

    /// Whether so many may want to start that it is worth counting those that nothing else holds back.
    pub fn may_be_over(&self, limits: Storm) -> bool {
        self.wanted.len() >= limits.ladders.count.max(1) as usize
    }

    /// Counts those that want to start and that `counts`. Says whether a storm begins with that.
    pub fn judge(&mut self, limits: Storm, now: Timestamp, counts: impl Fn(&K) -> bool) -> bool {
        let was = self.until(limits, now).is_some();
        self.forget(limits, now);
        let counted: Vec<Timestamp> = self.wanted.iter().filter(|(_, who)| counts(who)).map(|(at, _)| *at).collect();
        let limit = limits.ladders.count.max(1) as usize;
        if let Some(at) = counted.len().checked_sub(limit).and_then(|place| counted.get(place)) {
            self.over_until = self.over_until.max(Some(*at + limits.ladders.window));
        }
        !was && self.until(limits, now).is_some()
    }

    /// Until when there is a storm: it leaves after a calm of `cool_down`.
    pub fn until(&self, limits: Storm, now: Timestamp) -> Option<Timestamp> {
        self.over_until.map(|over| over + limits.cool_down).filter(|until| now < *until)
    }

    /// How many wanted to start within the window.
    pub fn count(&self, limits: Storm, now: Timestamp) -> u32 {
        let inside = self.wanted.iter().filter(|(at, _)| now < *at + limits.ladders.window).count();
        u32::try_from(inside).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use selfheal_policy::guards::Guards;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_playbook_that_fails_on_several_is_out_until_a_probe_cures() {
        let limits = Guards::default().breaker;
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(limits, at(0), &"a".into()));
        assert!(!breaker.failed(limits, at(1), &"a".into()));
        // three failures, but all on one deployment: that one is ill, not the playbook
        assert!(!breaker.failed(limits, at(2), &"a".into()));
        assert!(breaker.failed(limits, at(3), &"b".into()));
        assert_eq!(breaker.circuit(limits, at(4)), Circuit::Open { since: at(3), probe_at: at(1803) });
        assert_eq!(breaker.circuit(limits, at(1803)), Circuit::ProbeDue { since: at(3) });
        breaker.begins();
        assert_eq!(breaker.circuit(limits, at(1804)), Circuit::Probing { since: at(3), beside: false });
        breaker.failed(limits, at(1805), &"a".into());
        assert_eq!(breaker.circuit(limits, at(1806)), Circuit::Open { since: at(1805), probe_at: at(3605) });
        breaker.begins();
        assert!(breaker.cured());
        assert_eq!(breaker.circuit(limits, at(3700)), Circuit::Closed { failures: 0, deployments: 0 });
    }

    #[test]
    fn failures_long_ago_count_no_more() {
        let limits = Guards::default().breaker;
        let mut breaker = Breaker::default();
        breaker.failed(limits, at(0), &"a".into());
        breaker.failed(limits, at(10), &"b".into());
        assert!(!breaker.failed(limits, at(3600), &"c".into()), "the first has left the hour");
        assert_eq!(breaker.circuit(limits, at(3605)), Circuit::Closed { failures: 2, deployments: 2 });
    }

    #[test]
    fn a_storm_needs_calm_to_end() {
        let limits = Guards::default().storm;
        let mut storm = StormWatch::default();
        let mut want = |second: u64| {
            storm.wants(limits, at(second), second);
            let begins = storm.judge(limits, at(second), |_| true);
            (begins, storm.until(limits, at(second)))
        };
        for second in 0..49 {
            assert_eq!(want(second), (false, None), "{second}");
        }
        assert!(want(49).0);
        // 51 in the minute up to 50: the second of them leaves at 61
        assert_eq!(want(50), (false, Some(at(61 + 600))), "it has begun already");
        assert!(!want(500).0);
        assert_eq!(storm.until(limits, at(660)), Some(at(661)), "one ladder alone prolongs nothing");
        assert_eq!(storm.until(limits, at(661)), None);
    }

    #[test]
    fn what_something_else_holds_back_is_no_part_of_a_storm() {
        let limits = Guards::default().storm;
        let mut storm = StormWatch::default();
        (0..60).for_each(|who| storm.wants(limits, at(1), who));
        assert!(storm.may_be_over(limits));
        assert!(!storm.judge(limits, at(2), |who| who % 2 == 0));
        assert!(storm.judge(limits, at(3), |who| who % 6 > 0));
    }
}
