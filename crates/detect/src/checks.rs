//! Checks' verdicts: raw per replica, smoothed by thresholds, folded over replicas by `healthy_when`.
//!
//! Invariant: a smoothed verdict turns only after as many equal raw ones in a row as its threshold says, counted since
//! the replica's incarnation began, of those that are sure enough; a verdict older than `stale_after` is unknown.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use selfheal_model::{
    Check, CheckName, CheckStatus, Confidence, FailureReason, Health, HealthyWhen, Replica, Timestamp,
};
use selfheal_policy::guards::Flap;

/// A newest value is missing once older than this.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(300);
/// A check that runs seldom is stale after so many of its rounds, where that is longer.
const STALE_ROUNDS: u32 = 3;
/// Raw verdicts kept per replica, so that they can be counted anew from a cut; more where a threshold is higher.
const KEPT_VERDICTS: usize = 128;
/// Checks of one deployment, those of the policy and those only heard of.
pub(super) const MAX_CHECKS: usize = 128;
/// Replicas of one check.
pub(super) const MAX_REPLICAS: usize = 1024;

/// One raw verdict as it came.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Verdict {
    pub at: Timestamp,
    pub status: CheckStatus,
    pub latency_ms: Option<f64>,
    pub reason: Option<FailureReason>,
    pub message: String,
    pub confidence: Option<Confidence>,
}

/// How a check is smoothed. Of one that is only heard of, every verdict counts at once.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Smoothing {
    failures: u32,
    successes: u32,
    start_period: Duration,
    stale_after: Duration,
    per_replica: bool,
    min_confidence: Confidence,
}

impl Smoothing {
    fn heard_of(stale_after: Duration) -> Smoothing {
        Smoothing {
            failures: 1,
            successes: 1,
            start_period: Duration::ZERO,
            stale_after,
            per_replica: false,
            min_confidence: Confidence::NONE,
        }
    }

    fn of(check: &Check, stale_after: Duration) -> Self {
        Smoothing {
            failures: check.failure_threshold.max(1),
            successes: check.success_threshold.max(1),
            start_period: check.start_period,
            stale_after: stale_after.max(check.every.saturating_mul(STALE_ROUNDS)),
            per_replica: check.per_replica(),
            min_confidence: check.min_confidence,
        }
    }

    /// Whether a verdict counts toward the thresholds.
    fn is_sure(&self, verdict: &Verdict) -> bool {
        verdict.confidence.is_none_or(|confidence| confidence >= self.min_confidence)
    }

    fn kept(&self) -> usize {
        KEPT_VERDICTS.max(self.failures as usize).max(self.successes as usize)
    }
}

/// A run of equal verdicts, and what it has turned the smoothed one to.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Run {
    pub health: Health,
    pub status: Option<CheckStatus>,
    pub length: u32,
}

impl Run {
    fn take(&mut self, status: CheckStatus, smoothing: &Smoothing) {
        self.length = if self.status == Some(status) { self.length.saturating_add(1) } else { 1 };
        self.status = Some(status);
        match status {
            CheckStatus::Healthy if self.length >= smoothing.successes => self.health = Health::Healthy,
            CheckStatus::Unhealthy if self.length >= smoothing.failures => self.health = Health::Unhealthy,
            CheckStatus::Healthy | CheckStatus::Unhealthy => {}
        }
    }
}

/// One check at one replica.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    /// When the replica's incarnation began, or it was first seen.
    since: Timestamp,
    latest: Option<Verdict>,
    /// When the newest that is sure enough came; the smoothed verdict is no older evidence than that.
    sure_at: Option<Timestamp>,
    /// Those that count, oldest first.
    counted: VecDeque<(Timestamp, CheckStatus)>,
    run: Run,
}

impl Place {
    fn new(since: Timestamp) -> Self {
        Place { since, latest: None, sure_at: None, counted: VecDeque::new(), run: Run::default() }
    }

    fn take(&mut self, verdict: Verdict, smoothing: &Smoothing) {
        if self.latest.as_ref().is_some_and(|latest| latest.at > verdict.at) {
            return; // it came late: the newer one has been judged already
        }
        if smoothing.is_sure(&verdict) {
            self.sure_at = Some(verdict.at);
            let starting = verdict.at < self.since + smoothing.start_period;
            if !(starting && verdict.status == CheckStatus::Unhealthy) {
                self.count(&verdict, smoothing);
            }
        }
        self.latest = Some(verdict);
    }

    fn count(&mut self, verdict: &Verdict, smoothing: &Smoothing) {
        self.run.take(verdict.status, smoothing);
        self.counted.push_back((verdict.at, verdict.status));
        if self.counted.len() > smoothing.kept() {
            self.counted.pop_front();
        }
    }

    /// The run as if nothing had come up to the cut.
    fn run_since(&self, cut: Option<Timestamp>, smoothing: &Smoothing) -> Run {
        let Some(cut) = cut else { return self.run };
        let mut run = Run::default();
        for (_, status) in self.counted.iter().filter(|(at, _)| *at > cut) {
            run.take(*status, smoothing);
        }
        run
    }
}

/// One replica's part of a check, as it is read.
pub(super) struct PlaceReading<'a> {
    pub replica: Option<u32>,
    /// The newest raw verdict, unless stale or from before the cut.
    pub latest: Option<&'a Verdict>,
    pub run: Run,
    /// Unknown where the newest verdict that is sure enough is stale.
    pub health: Health,
    /// When that one came.
    pub sure_at: Option<Timestamp>,
}

/// One check of a deployment.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct CheckState {
    smoothing: Smoothing,
    /// In the policy, or only heard of by events.
    listed: bool,
    places: BTreeMap<Option<u32>, Place>,
    /// It changes its mind all the time; it takes fewer changes to stay so than to become so.
    flapping: bool,
}

impl CheckState {
    fn new(smoothing: Smoothing) -> Self {
        CheckState { smoothing, listed: false, places: BTreeMap::new(), flapping: false }
    }

    /// The part of changes among the last `of` steps from one raw verdict to the next, 0 to 1, of the replica with most of
    /// them; `None`: there were not so many verdicts yet.
    fn changes(&self, of: u32) -> Option<f64> {
        let of = of.max(1) as usize;
        let share = |place: &Place| {
            let newest = place.counted.iter().rev().map(|(_, status)| *status);
            let pairs = newest.clone().zip(newest.skip(1)).take(of);
            let (seen, changes) =
                pairs.fold((0, 0u32), |(seen, changes), (one, before)| (seen + 1, changes + u32::from(one != before)));
            (seen == of).then(|| f64::from(changes) / of as f64)
        };
        self.places.values().filter_map(share).max_by(f64::total_cmp)
    }

    /// Every replica's part, in order, as seen at `now` from after `cut`.
    pub fn read(&self, now: Timestamp, cut: Option<Timestamp>) -> impl Iterator<Item = PlaceReading<'_>> {
        self.places.iter().map(move |(replica, place)| {
            let counts = |at: Timestamp| at + self.smoothing.stale_after > now && cut.is_none_or(|cut| at > cut);
            let latest = place.latest.as_ref().filter(|latest| counts(latest.at));
            let sure_at = place.sure_at.filter(|at| counts(*at));
            let run = place.run_since(cut, &self.smoothing);
            let health = if sure_at.is_some() { run.health } else { Health::Unknown };
            PlaceReading { replica: *replica, latest, run, health, sure_at }
        })
    }

    pub fn stale_after(&self) -> Duration {
        self.smoothing.stale_after
    }

    /// When the first of the verdicts that count now goes stale.
    fn next_stale(&self, now: Timestamp) -> Option<Timestamp> {
        let said = |place: &Place| [place.latest.as_ref().map(|latest| latest.at), place.sure_at];
        let stale_at = |at: Timestamp| at + self.smoothing.stale_after;
        self.places.values().flat_map(said).flatten().map(stale_at).filter(|at| *at > now).min()
    }

    /// The smoothed verdict over all replicas.
    pub fn health(&self, now: Timestamp, cut: Option<Timestamp>, healthy_when: HealthyWhen) -> Health {
        together(self.read(now, cut).map(|place| place.health), healthy_when)
    }

    /// The raw verdict over all replicas.
    pub fn raw(&self, now: Timestamp, cut: Option<Timestamp>, healthy_when: HealthyWhen) -> Health {
        let raw = |place: PlaceReading<'_>| match place.latest.map(|latest| latest.status) {
            None => Health::Unknown,
            Some(CheckStatus::Healthy) => Health::Healthy,
            Some(CheckStatus::Unhealthy) => Health::Unhealthy,
        };
        together(self.read(now, cut).map(raw), healthy_when)
    }
}

/// Whether enough of them are healthy; unknown while those not known could decide it.
fn together(parts: impl Iterator<Item = Health>, healthy_when: HealthyWhen) -> Health {
    let (mut all, mut healthy, mut unknown) = (0_usize, 0_usize, 0_usize);
    for part in parts {
        all += 1;
        healthy += usize::from(part == Health::Healthy);
        unknown += usize::from(part == Health::Unknown);
    }
    let needed = match healthy_when {
        HealthyWhen::All => all,
        HealthyWhen::Any => 1,
        HealthyWhen::Ratio(ratio) => ((ratio * all as f64).ceil() as usize).clamp(1, all.max(1)),
    };
    if all == 0 {
        Health::Unknown
    } else if healthy >= needed {
        Health::Healthy
    } else if healthy + unknown < needed {
        Health::Unhealthy
    } else {
        Health::Unknown
    }
}

/// All checks of one deployment.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Checks {
    by_name: BTreeMap<CheckName, CheckState>,
    healthy_when: HealthyWhen,
    /// Of those that are only heard of, and the shortest of those that are listed.
    stale_after: Duration,
    /// Verdicts that were not taken in because there were too many checks or replicas.
    refused: u64,
    /// When the present incarnation of each replica was first seen.
    #[serde(default)]
    born: BTreeMap<u32, Timestamp>,
}

impl Default for Checks {
    fn default() -> Self {
        Checks {
            by_name: BTreeMap::new(),
            healthy_when: HealthyWhen::default(),
            stale_after: STALE_AFTER,
            refused: 0,
            born: BTreeMap::new(),
        }
    }
}

impl Checks {
    /// To be called before [`Checks::configure`].
    pub fn set_stale_after(&mut self, stale_after: Duration) {
        self.stale_after = stale_after;
        for state in self.by_name.values_mut().filter(|state| !state.listed) {
            state.smoothing.stale_after = stale_after;
        }
    }

    /// Takes over what the policy says now. Verdicts stay; smoothed ones turn with the next that comes.
    pub fn configure(&mut self, checks: &[Check], healthy_when: HealthyWhen, replicas: &[Replica], now: Timestamp) {
        self.healthy_when = healthy_when;
        self.by_name.retain(|name, state| !state.listed || checks.iter().any(|check| check.name == *name));
        for check in checks {
            let smoothing = Smoothing::of(check, self.stale_after);
            let state = self.by_name.entry(check.name.clone()).or_insert_with(|| CheckState::new(smoothing));
            if state.smoothing.per_replica != smoothing.per_replica {
                // verdicts about replicas and about the whole do not add up
                state.places.clear();
            }
            state.smoothing = smoothing;
            state.listed = true;
        }
        self.expect(replicas, now);
    }

    /// Forgets the parts of checks only heard of that nobody has spoken of since `before`.
    pub fn forget_idle(&mut self, before: Timestamp) {
        for state in self.by_name.values_mut().filter(|state| !state.listed) {
            state.places.retain(|_, place| place.latest.as_ref().is_some_and(|latest| latest.at > before));
        }
        self.by_name.retain(|_, state| state.listed || !state.places.is_empty());
    }

    /// The replicas there are: what a per-replica check has not said of one of them is unknown, not absent.
    fn expect(&mut self, replicas: &[Replica], now: Timestamp) {
        for state in self.by_name.values_mut().filter(|state| state.smoothing.per_replica) {
            for replica in replicas.iter().take(MAX_REPLICAS) {
                state.places.entry(Some(replica.index)).or_insert_with(|| Place::new(now));
            }
        }
    }

    /// An observation's replicas: a new incarnation forgets the old one's verdicts, one that is gone counts no more.
    pub fn observed(&mut self, before: &[Replica], replicas: &[Replica], now: Timestamp) {
        let reborn = |replica: &&Replica| {
            before.iter().any(|old| old.index == replica.index && old.incarnation != replica.incarnation)
        };
        self.born.retain(|index, _| replicas.iter().any(|replica| replica.index == *index));
        for replica in replicas.iter().take(MAX_REPLICAS) {
            let is_old = before.iter().any(|old| old.index == replica.index && old.incarnation == replica.incarnation);
            if is_old {
                self.born.entry(replica.index).or_insert(Timestamp::MIN);
            } else {
                self.born.insert(replica.index, now);
            }
        }
        // while every replica is young, all of the deployment is starting
        let whole_since = self.born.values().min().copied();
        for state in self.by_name.values_mut() {
            if let (Some(since), Some(place)) = (whole_since, state.places.get_mut(&None)) {
                place.since = place.since.max(since);
            }
            for replica in replicas.iter().filter(reborn) {
                if let Some(place) = state.places.get_mut(&Some(replica.index)) {
                    *place = Place::new(now);
                }
            }
            // an adapter that knows no replicas says nothing about those others speak of
            if !(replicas.is_empty() && before.is_empty()) {
                let there = |index: u32| replicas.iter().any(|replica| replica.index == index);
                state.places.retain(|index, _| index.is_none_or(there));
            }
        }
        self.expect(replicas, now);
    }

    /// Whether there was room for it. `since`: when the deployment was first seen.
    pub fn take(&mut self, check: &CheckName, replica: Option<u32>, verdict: Verdict, since: Timestamp) -> bool {
        let known = self.by_name.get(check);
        let full = match known {
            None => self.by_name.len() >= MAX_CHECKS,
            Some(state) => !state.places.contains_key(&replica) && state.places.len() >= MAX_REPLICAS,
        };
        if full {
            self.refused += 1;
            return false;
        }
        let state =
            self.by_name.entry(check.clone()).or_insert_with(|| CheckState::new(Smoothing::heard_of(self.stale_after)));
        let begun = if replica.is_some() { verdict.at } else { since };
        let place = state.places.entry(replica).or_insert_with(|| Place::new(begun));
        place.take(verdict, &state.smoothing);
        true
    }

    pub fn get(&self, check: &str) -> Option<&CheckState> {
        self.by_name.get(check)
    }

    pub fn healthy_when(&self) -> HealthyWhen {
        self.healthy_when
    }

    pub fn iter(&self) -> impl Iterator<Item = (&CheckName, &CheckState)> {
        self.by_name.iter()
    }

    /// Verdicts refused so far for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The deployment as a whole, and each check.
    pub fn health(&self, now: Timestamp) -> (Health, Vec<(CheckName, Health)>) {
        let checks: Vec<_> = self
            .by_name
            .iter()
            .map(|(name, state)| (name.clone(), state.health(now, None, self.healthy_when)))
            .collect();
        (together(checks.iter().map(|(_, health)| *health), HealthyWhen::All), checks)
    }

    /// Judges anew which checks change their mind all the time. Returns them with the part of changes in percent.
    pub fn judge_flapping(&mut self, limits: Flap) -> Vec<(CheckName, u8)> {
        for state in self.by_name.values_mut() {
            let share = state.changes(limits.of);
            let limit = if state.flapping { limits.stop } else { limits.start };
            state.flapping = share.is_some_and(|share| share >= limit);
        }
        let percent = |share: f64| (share * 100.0).round().clamp(0.0, 100.0) as u8;
        let flapping = self.by_name.iter().filter(|(_, state)| state.flapping);
        flapping.map(|(name, state)| (name.clone(), percent(state.changes(limits.of).unwrap_or_default()))).collect()
    }

    /// Replicas that some check calls unhealthy, ascending.
    pub fn sick_replicas(&self, now: Timestamp) -> Vec<u32> {
        let sick = |place: PlaceReading<'_>| place.replica.filter(|_| place.health == Health::Unhealthy);
        let mut sick: Vec<u32> =
            self.by_name.values().flat_map(|state| state.read(now, None).filter_map(sick)).collect();
        sick.sort_unstable();
        sick.dedup();
        sick
    }

    /// When silence next makes a verdict unknown.
    pub fn next_stale(&self, now: Timestamp) -> Option<Timestamp> {
        self.by_name.values().filter_map(|state| state.next_stale(now)).min()
    }
}

#[cfg(test)]
mod tests;
