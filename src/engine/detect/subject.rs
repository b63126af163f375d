//! A deployment as this half knows it: what it is, and everything that was heard and seen of it.

use std::sync::Arc;
use std::time::Duration;

use super::checks::Checks;
use super::series::{Series, SeriesStore};
use super::signals::Signals;
use crate::engine::message::DeploymentHealth;
use crate::engine::view::{CheckView, DeploymentView};
use crate::model::{Deployment, DeploymentId, Facts, Labels, Map, MetricName, Replica, Timestamp};
use crate::policy::Policy;

/// One that no policy lists is forgotten after this long without events.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Deployments that are only known by their events.
pub(super) const MAX_REGISTERED: usize = 10_000;

/// One deployment.
#[derive(Clone)]
pub(super) struct Subject {
    pub id: DeploymentId,
    /// `None`: registered by an event.
    pub listed: Option<Arc<Deployment>>,
    /// With the label `deployment`.
    pub labels: Labels,
    /// The policy's settings with its own on top.
    pub settings: Arc<Map>,
    /// Nothing came before this because nobody listened.
    pub known_since: Timestamp,
    pub last_event_at: Option<Timestamp>,
    pub series: SeriesStore,
    pub checks: Checks,
    pub signals: Signals,
    pub observed: Observed,
    /// What judge was last told of its health.
    pub told_health: Option<DeploymentHealth>,
}

/// What its adapter last saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub facts: Facts,
    /// Of the last good observation.
    pub at: Option<Timestamp>,
    pub replicas: Vec<Replica>,
    /// Why the last observation failed, if it did.
    pub error: Option<String>,
}

impl Subject {
    pub fn new(id: &DeploymentId, policy: &Policy, now: Timestamp) -> Self {
        let mut subject = Subject {
            id: id.clone(),
            listed: None,
            labels: Labels::default(),
            settings: Arc::default(),
            known_since: now,
            last_event_at: None,
            series: SeriesStore::default(),
            checks: Checks::default(),
            signals: Signals::default(),
            observed: Observed::default(),
            told_health: None,
        };
        subject.follow(policy, now);
        subject
    }

    /// Takes over what a policy says of it; whether that is something else than before.
    pub fn follow(&mut self, policy: &Policy, now: Timestamp) -> bool {
        let listed = policy.deployments.get(&self.id).cloned();
        let changed = listed != self.listed;
        let labels = listed.as_ref().map(|deployment| deployment.labels.clone()).unwrap_or_default();
        self.labels = labels.with_label("deployment", self.id.as_str());
        self.settings = policy.settings_for(Some(&self.id));
        if let Some(deployment) = &listed {
            self.checks.configure(&deployment.checks, deployment.healthy_when, &self.observed.replicas, now);
        }
        self.listed = listed;
        changed
    }

    pub fn view(&self, now: Timestamp) -> DeploymentView {
        let checks = self.checks.iter().flat_map(|(name, state)| {
            state.read(now, None).map(|place| CheckView {
                name: name.to_string(),
                replica: place.replica,
                raw: place.latest.map_or("unknown", |latest| latest.status.as_str()).into(),
                smoothed: place.health,
                message: place.latest.map(|latest| latest.message.clone()).unwrap_or_default(),
                latency_ms: place.latest.and_then(|latest| latest.latency_ms),
                at: place.latest.map_or(self.known_since, |latest| latest.at),
            })
        });
        let newest = |(metric, labels, series): (&MetricName, &Labels, &Series)| {
            series.newest().map(|sample| (format!("{metric}{labels}"), sample.value))
        };
        DeploymentView {
            id: self.id.clone(),
            labels: self.labels.clone(),
            adapter: self.listed.as_ref().and_then(|deployment| deployment.adapter.clone()),
            listed: self.listed.is_some(),
            health: self.checks.health(now).0,
            checks: checks.collect(),
            facts: self.observed.facts.clone(),
            replicas: self.observed.replicas.clone(),
            observe_error: self.observed.error.clone(),
            metrics: self.series.iter().filter_map(newest).collect(),
            last_event_at: self.last_event_at,
        }
    }
}
