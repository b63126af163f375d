//! What is known of one deployment: series, verdicts, signals, facts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smol_str::SmolStr;

use super::health::{CheckState, Thresholds, Verdict, together};
use super::series::{Series, Span};
use crate::engine::message::DeploymentHealth;
use crate::engine::view::{CheckView, DeploymentView};
use crate::model::{
    CheckName, CheckStatus, Deployment, DeploymentId, Facts, Health, HealthyWhen, Labels, Map, MetricName, Origin,
    Replica, RuleName, SignalName, Timestamp,
};

/// More series than this of one deployment are a label with an id in it.
pub const MAX_SERIES: usize = 10_000;
/// Signals of one name that are remembered.
const MAX_SIGNALS: usize = 1_024;
/// Names of signals of one deployment.
const MAX_SIGNAL_NAMES: usize = 1_024;
/// A series without a sample for so long is forgotten when room is wanted.
const IDLE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// One signal as it came.
#[derive(Clone, Debug)]
pub struct Signal {
    pub at: Timestamp,
    pub fields: Map,
    /// The rule whose run made it: that rule does not hear it.
    pub made_for: Option<RuleName>,
}

/// One deployment, listed or registered by an event.
#[derive(Clone, Debug)]
pub struct State {
    pub id: DeploymentId,
    /// What is matched: its own labels and `deployment`.
    pub labels: Labels,
    pub listed: bool,
    /// Since when it is watched without a gap.
    pub since: Timestamp,
    pub series: BTreeMap<(MetricName, Labels), Series>,
    pub checks: BTreeMap<(CheckName, Option<u32>), CheckState>,
    pub signals: BTreeMap<SignalName, VecDeque<Signal>>,
    pub facts: Facts,
    pub facts_at: Option<Timestamp>,
    pub replicas: Vec<Replica>,
    pub observe_error: Option<String>,
    pub last_event_at: Option<Timestamp>,
    pub refused_series: u64,
    told: Option<DeploymentHealth>,
}

impl State {
    pub fn new(id: DeploymentId, labels: &Labels, listed: bool, since: Timestamp) -> Self {
        State {
            labels: labels.with_label("deployment", id.as_str()),
            id,
            listed,
            since,
            series: BTreeMap::new(),
            checks: BTreeMap::new(),
            signals: BTreeMap::new(),
            facts: Facts::default(),
            facts_at: None,
            replicas: Vec::new(),
            observe_error: None,
            last_event_at: None,
            refused_series: 0,
            told: None,
        }
    }

    /// False where there is no room for another series.
    pub fn sample(&mut self, name: &MetricName, labels: &Labels, at: Timestamp, value: f64, keep: Duration) -> bool {
        let key = (name.clone(), labels.clone());
        if !self.series.contains_key(&key) && self.series.len() >= MAX_SERIES {
            self.series.retain(|_, series| series.newest().is_some_and(|(newest, _)| at.since(newest) < IDLE_AFTER));
            if self.series.len() >= MAX_SERIES {
                self.refused_series += 1;
                return false;
            }
        }
        self.series.entry(key).or_default().push(at, value, keep);
        true
    }

    pub fn verdict(&mut self, check: &CheckName, replica: Option<u32>, verdict: Verdict, thresholds: Thresholds) {
        let incarnation = self.incarnation(replica);
        let since = self.since;
        let state = self
            .checks
            .entry((check.clone(), replica))
            .or_insert_with(|| CheckState::new(since, incarnation.unwrap_or_default()));
        state.take(verdict, thresholds);
    }

    fn incarnation(&self, replica: Option<u32>) -> Option<u64> {
        self.replicas.iter().find(|seen| Some(seen.index) == replica).map(|seen| seen.incarnation)
    }

    pub fn signal(&mut self, name: &SignalName, at: Timestamp, fields: Map, origin: &Origin) {
        if !self.signals.contains_key(name) && self.signals.len() >= MAX_SIGNAL_NAMES {
            return;
        }
        let made_for = match origin {
            Origin::Run { rule, .. } => rule.clone(),
            Origin::External | Origin::Watched => None,
        };
        let ring = self.signals.entry(name.clone()).or_default();
        let place = ring.partition_point(|other| other.at <= at);
        ring.insert(place, Signal { at, fields, made_for });
        if ring.len() > MAX_SIGNALS {
            ring.pop_front();
        }
    }

    /// A replica that was started anew begins without a past; one that is gone is forgotten.
    pub fn replicas(&mut self, replicas: Vec<Replica>, now: Timestamp) {
        self.checks.retain(|(_, index), state| {
            let Some(index) = index else { return true };
            let Some(seen) = replicas.iter().find(|seen| seen.index == *index) else { return false };
            if seen.incarnation != state.incarnation {
                *state = CheckState::new(now, seen.incarnation);
            }
            true
        });
        self.replicas = replicas;
    }

    /// Every check it has, in order of name.
    pub fn check_names(&self) -> Vec<CheckName> {
        let mut names: Vec<CheckName> = self.checks.keys().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }

    pub fn replicas_of<'a>(&'a self, check: &'a str) -> impl Iterator<Item = (Option<u32>, &'a CheckState)> {
        self.checks
            .iter()
            .filter(move |((name, _), _)| name.as_str() == check)
            .map(|((_, replica), state)| (*replica, state))
    }

    /// The check's smoothed verdict over all replicas; only what `cut` lets through counts, where there is one.
    pub fn check_health(
        &self,
        check: &str,
        when: HealthyWhen,
        cut: Option<Span>,
        thresholds: Thresholds,
        now: Timestamp,
    ) -> Health {
        let replicas: Vec<Health> = self
            .replicas_of(check)
            .map(|(_, state)| {
                let is_stale = state.newest().is_none_or(|verdict| now.since(verdict.at) > thresholds.stale_after);
                match cut {
                    _ if is_stale => Health::Unknown,
                    None => state.smoothed(),
                    Some(span) => state.smoothed_within(span, thresholds),
                }
            })
            .collect();
        together(&replicas, when)
    }

    /// What judge should know, if it differs from what it was told.
    pub fn health_news(&mut self, deployment: Option<&Deployment>, now: Timestamp) -> Option<DeploymentHealth> {
        let health = self.health(deployment, now);
        let is_same = self.told.as_ref().is_some_and(|told| {
            told.health == health.health && told.checks == health.checks && told.sick_replicas == health.sick_replicas
        });
        if is_same || (self.told.is_none() && health.checks.is_empty()) {
            return None;
        }
        self.told = Some(health.clone());
        Some(health)
    }

    fn health(&self, deployment: Option<&Deployment>, now: Timestamp) -> DeploymentHealth {
        let when = deployment.map_or(HealthyWhen::All, |deployment| deployment.healthy_when);
        let checks: Vec<(CheckName, Health)> = self
            .check_names()
            .into_iter()
            .map(|name| {
                let health = self.check_health(name.as_str(), when, None, thresholds(deployment, name.as_str()), now);
                (name, health)
            })
            .collect();
        let health = if checks.iter().any(|(_, health)| *health == Health::Unhealthy) {
            Health::Unhealthy
        } else if !checks.is_empty() && checks.iter().all(|(_, health)| *health == Health::Healthy) {
            Health::Healthy
        } else {
            Health::Unknown
        };
        let mut sick_replicas: Vec<u32> = self
            .checks
            .iter()
            .filter(|(_, state)| state.smoothed() == Health::Unhealthy)
            .filter_map(|((_, replica), _)| *replica)
            .collect();
        sick_replicas.sort_unstable();
        sick_replicas.dedup();
        DeploymentHealth { deployment: self.id.clone(), at: now, health, checks, sick_replicas }
    }

    pub fn view(&self, deployment: Option<&Deployment>, now: Timestamp) -> DeploymentView {
        let checks = self
            .checks
            .iter()
            .filter_map(|((name, replica), state)| {
                let newest = state.newest()?;
                Some(CheckView {
                    name: name.to_string(),
                    replica: *replica,
                    raw: SmolStr::new(newest.status.as_str()),
                    smoothed: state.smoothed(),
                    message: newest.message.to_string(),
                    latency_ms: newest.latency_ms,
                    at: newest.at,
                })
            })
            .collect();
        let metrics = self
            .series
            .iter()
            .filter(|((name, _), _)| !is_own_metric(name.as_str()))
            .filter_map(|((name, labels), series)| Some((format!("{name}{labels}"), series.newest()?.1)))
            .collect();
        DeploymentView {
            id: self.id.clone(),
            labels: self.labels.clone(),
            adapter: deployment.and_then(|deployment| deployment.adapter.clone()),
            listed: self.listed,
            health: self.health(deployment, now).health,
            checks,
            facts: self.facts.clone(),
            replicas: self.replicas.clone(),
            observe_error: self.observe_error.clone(),
            metrics,
            last_event_at: self.last_event_at,
        }
    }
}

/// Metrics that say again what checks and facts say.
fn is_own_metric(name: &str) -> bool {
    name == "check_up" || name == "check_latency_ms" || name.starts_with("fact_")
}

/// How the check of this name is smoothed.
pub fn thresholds(deployment: Option<&Deployment>, check: &str) -> Thresholds {
    Thresholds::of(deployment.and_then(|own| own.checks.iter().find(|one| one.name.as_str() == check)))
}

/// 1 while healthy, 0 while not.
pub fn up(status: CheckStatus) -> f64 {
    match status {
        CheckStatus::Healthy => 1.0,
        CheckStatus::Unhealthy => 0.0,
    }
}
