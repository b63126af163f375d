//! A rule's scopes: for which label sets it is asked, and which deployments each covers.
//!
//! Invariant: a label of `per` comes from the deployment where that has it, else from the series of the metrics the
//! rule reads; a deployment that can give neither is in no scope of the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plan::{conditions, metric_of};
use super::series::MetricQuery;
use super::subject::Subject;
use crate::engine::message::LevelAnswer;
use crate::model::{DeploymentId, Labels, Timestamp};
use crate::rule::Rule;

/// Scopes one deployment may have in one rule (`per: [deployment, mount]`).
const MAX_SCOPES: usize = 256;

/// A rule with its scopes.
#[derive(Clone)]
pub(super) struct RuleState {
    pub rule: Arc<Rule>,
    /// Since when a rule of this name is there.
    pub since: Timestamp,
    /// The metrics it reads, whose series may give scope labels.
    metrics: Vec<MetricQuery>,
    pub scopes: BTreeMap<Labels, Scope>,
    /// The scopes each deployment is in.
    of: BTreeMap<DeploymentId, BTreeSet<Labels>>,
}

/// One scope of a rule.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Scope {
    pub members: BTreeSet<DeploymentId>,
    /// As the rule's scripts see them: the alert's labels but for `severity`.
    pub labels: Labels,
    /// Set while it is not quiet.
    pub said: Option<Box<Said>>,
    /// Judge has heard of it at least once.
    pub told: bool,
}

/// The last answer given about a scope that is not quiet.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Said {
    pub levels: Vec<LevelAnswer>,
    pub value: Option<f64>,
    /// When passing time alone made it true, if it did.
    pub made_by_time: Option<Timestamp>,
}

/// What a change of one deployment's scopes came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved {
    /// Have a member more or less.
    pub changed: Vec<Labels>,
    /// Are no longer there; `true` where judge had heard of it.
    pub gone: Vec<(Labels, bool)>,
}

impl RuleState {
    pub fn new(rule: Arc<Rule>, since: Timestamp) -> Self {
        let mut metrics: Vec<MetricQuery> = Vec::new();
        for query in conditions(&rule).flat_map(|condition| condition.reads()).filter_map(metric_of) {
            if !metrics.contains(&query) {
                metrics.push(query);
            }
        }
        let mut state = RuleState { rule, since, metrics, scopes: BTreeMap::new(), of: BTreeMap::new() };
        if state.rule.per.is_empty() {
            // the fleet is there even while nobody is in it
            state.open(Labels::default(), None);
        }
        state
    }

    /// As saved; which deployment is in which scope follows from the scopes.
    pub fn restored(rule: Arc<Rule>, since: Timestamp, scopes: Vec<(Labels, Scope)>) -> Self {
        let mut state = RuleState::new(rule, since);
        state.scopes = scopes.into_iter().collect();
        for (labels, scope) in &state.scopes {
            for member in &scope.members {
                state.of.entry(member.clone()).or_default().insert(labels.clone());
            }
        }
        state
    }

    /// The scopes a deployment is in.
    pub fn of(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Labels> {
        self.of.get(deployment).into_iter().flatten()
    }

    /// Whether series can open scopes of this rule for such a deployment.
    pub fn scoped_by_series(&self, subject: &Subject) -> bool {
        self.rule.per.iter().any(|name| subject.labels.get(name).is_none())
    }

    /// Puts a deployment where it belongs now.
    pub fn place(&mut self, subject: &Subject) -> Moved {
        let belongs = self.belongs(subject);
        self.move_to(&subject.id, belongs, Some(subject))
    }

    /// Takes a deployment out of every scope.
    pub fn remove(&mut self, deployment: &DeploymentId) -> Moved {
        self.move_to(deployment, BTreeSet::new(), None)
    }

    fn move_to(&mut self, id: &DeploymentId, belongs: BTreeSet<Labels>, subject: Option<&Subject>) -> Moved {
        let before = self.of.remove(id).unwrap_or_default();
        let mut moved = Moved::default();
        for scope in before.difference(&belongs) {
            let Some(own) = self.scopes.get_mut(scope) else { continue };
            own.members.remove(id);
            if own.members.is_empty() && !self.rule.per.is_empty() {
                moved.gone.push((scope.clone(), own.told));
                self.scopes.remove(scope);
            } else {
                moved.changed.push(scope.clone());
            }
        }
        for scope in belongs.difference(&before) {
            self.open(scope.clone(), subject).members.insert(id.clone());
            moved.changed.push(scope.clone());
        }
        if !belongs.is_empty() {
            self.of.insert(id.clone(), belongs);
        }
        moved
    }

    fn open(&mut self, scope: Labels, subject: Option<&Subject>) -> &mut Scope {
        let rule = &self.rule;
        self.scopes.entry(scope).or_insert_with_key(|scope| {
            let own = subject.filter(|_| scope.get("deployment").is_some()).map(|subject| subject.labels.clone());
            let labels = own.unwrap_or_default().with(&rule.labels).with(scope);
            Scope { labels: labels.with_label("alertname", rule.name.as_str()), ..Scope::default() }
        })
    }

    fn belongs(&self, subject: &Subject) -> BTreeSet<Labels> {
        if !self.rule.select.matches(&subject.labels) {
            return BTreeSet::new();
        }
        let (own, of_series): (Vec<_>, Vec<_>) =
            self.rule.per.iter().partition(|name| subject.labels.get(name).is_some());
        let own: Labels = own.iter().filter_map(|name| Some((name.as_str(), subject.labels.get(name)?))).collect();
        if of_series.is_empty() {
            return BTreeSet::from([own]);
        }
        let series = self.metrics.iter().flat_map(|query| {
            let selected = |(labels, _): &(&Labels, _)| query.selector.matches(labels);
            subject.series.of(query.name.as_str()).filter(selected).map(|(labels, _)| labels)
        });
        let scope_of = |labels: &Labels| {
            let given: Option<Vec<_>> = of_series.iter().map(|name| Some((name.as_str(), labels.get(name)?))).collect();
            given.map(|given| own.iter().chain(given).collect::<Labels>())
        };
        let mut scopes = BTreeSet::new();
        for scope in series.filter_map(scope_of) {
            if scopes.len() >= MAX_SCOPES {
                break;
            }
            scopes.insert(scope);
        }
        scopes
    }
}
