//! A deployment as this half knows it: what it is, and everything that was heard and seen of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::checks::Checks;
use super::plan::Plan;
use super::scopes::own_scope;
use super::series::Series;
use super::signals::Signals;
use super::store::SeriesStore;
use selfheal_contract::view::{CheckView, DeploymentView};
use selfheal_messages::DeploymentHealth;
use selfheal_model::{Check, Deployment, DeploymentId, Facts, Labels, Map, MetricName, Replica, RuleName, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::playbook::SetCheck;

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
    /// When the last event came in.
    pub heard_at: Timestamp,
    pub series: SeriesStore,
    pub checks: Checks,
    pub signals: Signals,
    pub observed: Observed,
    /// What judge was last told of its health.
    pub told_health: Option<DeploymentHealth>,
    /// Rules that are not quiet about it.
    pub loud: BTreeSet<RuleName>,
    /// Checks that have other figures for a while.
    pub eased: Vec<Eased>,
    pub sight: Sight,
    /// A newest value is missing once older than this.
    pub stale_after: Duration,
}

/// Whether the sources that are asked about a deployment answer: while one does not, silence means nothing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Sight {
    /// Sources that ever said something of it.
    #[serde(default)]
    fed_by: BTreeSet<SmolStr>,
    /// Sources that fail, and since when none is blind to it no more.
    failing: BTreeSet<SmolStr>,
    blind_since: Option<Timestamp>,
    /// Spans in which one of them failed, oldest first.
    spans: VecDeque<(Timestamp, Timestamp)>,
}

/// Spans remembered; an age that reaches beyond them counts the oldest as seen.
const MAX_SPANS: usize = 64;

impl Sight {
    /// A source answered or did not; whether that makes a difference.
    pub fn told(&mut self, source: &str, answers: bool, now: Timestamp) -> bool {
        let was_blind = !self.failing.is_empty();
        if !self.fed_by.contains(source) {
            self.fed_by.insert(source.into());
        }
        if answers {
            self.failing.remove(source);
        } else {
            self.failing.insert(source.into());
        }
        let is_blind = !self.failing.is_empty();
        if is_blind && !was_blind {
            self.blind_since = Some(now);
        }
        if was_blind && !is_blind {
            self.spans.extend(self.blind_since.take().map(|since| (since, now)));
            if self.spans.len() > MAX_SPANS {
                self.spans.pop_front();
            }
        }
        is_blind != was_blind
    }

    /// Whether the source ever said something of it.
    pub fn is_fed_by(&self, source: &str) -> bool {
        self.fed_by.contains(source)
    }

    /// Forgets sources that are no longer asked.
    pub fn keep_only(&mut self, sources: &BTreeSet<&str>, now: Timestamp) {
        self.fed_by.retain(|source| sources.contains(source.as_str()));
        let gone: Vec<SmolStr> =
            self.failing.iter().filter(|source| !sources.contains(source.as_str())).cloned().collect();
        for source in gone {
            self.told(&source, true, now);
        }
    }

    /// Whether something whose newest sample is this one may have gone on unseen.
    pub fn hides(&self, newest: Option<Timestamp>) -> bool {
        self.blind_since.is_some_and(|since| newest.is_none_or(|newest| newest <= since))
    }

    /// Since when all of them have been answering; `None`: not now.
    pub fn clear_since(&self) -> Option<Timestamp> {
        self.failing.is_empty().then(|| self.spans.back().map_or(Timestamp::MIN, |(_, to)| *to))
    }

    /// The spans up to now in which one did not.
    pub fn blind(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        self.spans.iter().copied().chain(self.blind_since.map(|since| (since, now)))
    }
}

/// What its adapter last saw.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Observed {
    pub facts: Facts,
    /// Of the last good observation.
    pub at: Option<Timestamp>,
    pub replicas: Vec<Replica>,
    /// Why the last observation failed, if it did.
    pub error: Option<String>,
}

/// A check with other figures for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Eased {
    pub set: SetCheck,
    pub until: Timestamp,
}

impl Eased {
    fn apply(&self, check: &mut Check) {
        let set = &self.set;
        check.every = set.every.unwrap_or(check.every);
        check.timeout = set.timeout.unwrap_or(check.timeout);
        check.failure_threshold = set.failure_threshold.unwrap_or(check.failure_threshold);
        check.success_threshold = set.success_threshold.unwrap_or(check.success_threshold);
    }
}

/// What is saved of one; see [`Subject`].
#[derive(Serialize)]
pub(super) struct SavingSubject<'a> {
    known_since: Timestamp,
    last_event_at: Option<Timestamp>,
    heard_at: Timestamp,
    series: &'a SeriesStore,
    checks: &'a Checks,
    signals: &'a Signals,
    observed: &'a Observed,
    told_health: &'a Option<DeploymentHealth>,
    sight: &'a Sight,
    eased: &'a [Eased],
}

#[derive(Deserialize)]
pub(super) struct SavedSubject {
    known_since: Timestamp,
    last_event_at: Option<Timestamp>,
    heard_at: Timestamp,
    series: SeriesStore,
    checks: Checks,
    signals: Signals,
    observed: Observed,
    told_health: Option<DeploymentHealth>,
    #[serde(default)]
    sight: Sight,
    #[serde(default)]
    eased: Vec<Eased>,
}

impl Subject {
    pub fn saving(&self) -> SavingSubject<'_> {
        SavingSubject {
            known_since: self.known_since,
            last_event_at: self.last_event_at,
            heard_at: self.heard_at,
            series: &self.series,
            checks: &self.checks,
            signals: &self.signals,
            observed: &self.observed,
            told_health: &self.told_health,
            sight: &self.sight,
            eased: &self.eased,
        }
    }

    /// As saved under this very policy.
    pub fn restored(id: DeploymentId, saved: SavedSubject, policy: &Policy, plan: &Plan) -> Self {
        let SavedSubject {
            known_since,
            last_event_at,
            heard_at,
            mut series,
            checks,
            signals,
            observed,
            told_health,
            sight,
            eased,
        } = saved;
        let stale_after = stale_after(&id, &sight, policy);
        series.link(|metric| plan.metric(metric));
        let (listed, labels) = Subject::listing(&id, policy, &eased);
        let settings = policy.settings_for(Some(&id));
        Subject {
            id,
            listed,
            labels,
            settings,
            known_since,
            last_event_at,
            heard_at,
            series,
            checks,
            signals,
            observed,
            told_health,
            loud: BTreeSet::new(),
            sight,
            eased,
            stale_after,
        }
    }

    /// Reads what a sample of it looks at in here.
    pub fn touch(&self) -> i64 {
        let settings = Arc::as_ptr(&self.settings).addr() as i64;
        let lists = self.loud.len() as i64 ^ self.series.len() as i64 ^ i64::from(self.labels.is_empty());
        let times = self.heard_at.as_millis() ^ self.last_event_at.map_or(0, Timestamp::as_millis);
        lists ^ times ^ settings ^ i64::from(self.stale_after.subsec_millis())
    }

    /// Whether rules may come to something else for it than with the policy's settings.
    pub fn has_own_settings(&self, policy: &Policy) -> bool {
        !Arc::ptr_eq(&self.settings, &policy.settings)
    }

    /// The name of its own scope.
    pub fn own_scope(&self) -> Labels {
        own_scope(&self.id)
    }

    /// What a policy lists it as, with its labels.
    fn listing(id: &DeploymentId, policy: &Policy, eased: &[Eased]) -> (Option<Arc<Deployment>>, Labels) {
        let mut listed = policy.deployments.get(id).cloned();
        if let Some(deployment) = listed.as_mut().filter(|_| !eased.is_empty()) {
            let deployment = Arc::make_mut(deployment);
            for check in &mut deployment.checks {
                if let Some(eased) = eased.iter().find(|eased| eased.set.check == check.name) {
                    eased.apply(check);
                }
            }
        }
        let labels = listed.as_ref().map(|deployment| deployment.labels.clone()).unwrap_or_default();
        let labels = labels.with_label("deployment", id.as_str());
        (listed, labels)
    }

    pub fn new(id: &DeploymentId, policy: &Policy, now: Timestamp) -> Self {
        let mut subject = Subject {
            id: id.clone(),
            listed: None,
            labels: Labels::default(),
            settings: Arc::default(),
            known_since: now,
            last_event_at: None,
            heard_at: now,
            series: SeriesStore::default(),
            checks: Checks::default(),
            signals: Signals::default(),
            observed: Observed::default(),
            told_health: None,
            loud: BTreeSet::new(),
            sight: Sight::default(),
            eased: Vec::new(),
            stale_after: Duration::ZERO,
        };
        subject.follow(policy, now);
        subject
    }

    /// Takes over what a policy says of it; whether that is something else than before.
    pub fn follow(&mut self, policy: &Policy, now: Timestamp) -> bool {
        let (listed, labels) = Subject::listing(&self.id, policy, &self.eased);
        let sources = policy.intake.sources.iter().map(|source| source.name.as_str()).collect();
        self.sight.keep_only(&sources, now);
        let stale_after = stale_after(&self.id, &self.sight, policy);
        let changed = listed != self.listed || stale_after != self.stale_after;
        self.stale_after = stale_after;
        self.labels = labels;
        self.settings = policy.settings_for(Some(&self.id));
        self.checks.set_stale_after(stale_after);
        if let Some(deployment) = &listed {
            let replicas = &self.observed.replicas;
            self.checks.configure(&deployment.checks, deployment.healthy_when, replicas, now);
        }
        self.listed = listed;
        changed
    }

    /// A source answered or did not; whether that makes a difference to what is seen. The first word of a source that is asked
    /// seldom lets what it gives stand for longer.
    pub fn told_by_source(&mut self, source: &str, answers: bool, at: Timestamp, policy: &Policy) -> bool {
        let is_new = !self.sight.is_fed_by(source);
        let changed = self.sight.told(source, answers, at);
        if is_new {
            self.stale_after = stale_after(&self.id, &self.sight, policy);
            self.checks.set_stale_after(self.stale_after);
        }
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

/// A newest value of a deployment is stale later where a source that gives it is asked for it seldom.
fn stale_after(id: &DeploymentId, sight: &Sight, policy: &Policy) -> Duration {
    policy.intake.stale_after_of(|source| match source.labels.get("deployment") {
        Some(of) => of == id.as_str(),
        None => sight.is_fed_by(&source.name),
    })
}
