//! Which rules an event can matter to, and the scopes they look at.
//!
//! Invariant: an event touches only the rules that read what it brings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::evidence::metric_of;
use super::state::State;
use crate::model::{Labels, RuleName, Timestamp};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::script::{Condition, Func, Read};

/// Samples are kept at least so long, for questions whose windows are computed or asked later.
const LEAST_KEPT: Duration = Duration::from_secs(600);

/// A rule with what evaluating it needs.
pub struct Watched {
    pub rule: Arc<Rule>,
    /// When it became known, or its scripts changed.
    pub since: Timestamp,
    /// Metrics it reads.
    metrics: BTreeSet<SmolStr>,
}

/// What an event brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic<'a> {
    Metric(&'a str),
    Check(&'a str),
    Signal(&'a str),
    Facts,
    Firing(&'a str),
}

/// All rules by what they read.
#[derive(Default)]
pub struct Rules {
    by_name: BTreeMap<RuleName, Watched>,
    metrics: BTreeMap<SmolStr, BTreeSet<RuleName>>,
    checks: BTreeMap<SmolStr, BTreeSet<RuleName>>,
    signals: BTreeMap<SmolStr, BTreeSet<RuleName>>,
    facts: BTreeSet<RuleName>,
    firing: BTreeMap<SmolStr, BTreeSet<RuleName>>,
    /// Names that are computed: every event matters.
    any: BTreeSet<RuleName>,
    keep: Duration,
}

fn conditions(rule: &Rule) -> impl Iterator<Item = &Condition> {
    rule.value.iter().chain(rule.levels.iter().flat_map(|level| [&level.when].into_iter().chain(&level.clear_when)))
}

impl Rules {
    /// `before` tells since when rules that did not change are known.
    pub fn new(policy: &Policy, before: &Rules, now: Timestamp) -> Rules {
        let mut rules = Rules { keep: LEAST_KEPT, ..Rules::default() };
        for (name, rule) in &policy.rules {
            let since = before.by_name.get(name).filter(|old| old.rule.hash == rule.hash).map_or(now, |old| old.since);
            let mut metrics = BTreeSet::new();
            for condition in conditions(rule) {
                if !condition.reads_are_static() {
                    rules.any.insert(name.clone());
                }
                for read in condition.reads() {
                    metrics.extend(metric_of(read).map(SmolStr::new));
                    rules.index(name, read);
                }
            }
            rules.by_name.insert(name.clone(), Watched { rule: rule.clone(), since, metrics });
        }
        for playbook in policy.playbooks.values() {
            for read in playbook.verify.until.iter().flat_map(|until| until.reads()) {
                rules.keep = rules.keep.max(read.window.unwrap_or_default());
            }
        }
        rules
    }

    fn index(&mut self, name: &RuleName, read: &Read) {
        self.keep = self.keep.max(read.window.unwrap_or_default());
        let by = match read.func {
            Func::Status | Func::Healthy | Func::Unhealthy | Func::Failures | Func::Successes | Func::SuccessRate => {
                &mut self.checks
            }
            Func::Signal | Func::SignalAge | Func::SignalField | Func::Open => {
                if let (Func::Open, Some(closed_by)) = (read.func, &read.other) {
                    self.signals.entry(closed_by.clone()).or_default().insert(name.clone());
                }
                &mut self.signals
            }
            Func::Firing => &mut self.firing,
            Func::Fact => {
                self.facts.insert(name.clone());
                return;
            }
            Func::Label | Func::Deployments => return,
            _ => {
                let metric = SmolStr::new(metric_of(read).unwrap_or_default());
                self.metrics.entry(metric).or_default().insert(name.clone());
                return;
            }
        };
        by.entry(read.subject.clone()).or_default().insert(name.clone());
    }

    /// How long samples must be kept.
    pub fn keep(&self) -> Duration {
        self.keep
    }

    pub fn get(&self, name: &RuleName) -> Option<&Watched> {
        self.by_name.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &RuleName> {
        self.by_name.keys()
    }

    /// The rules a topic matters to, in order of name.
    pub fn reading(&self, topic: Topic<'_>) -> BTreeSet<RuleName> {
        let named = match topic {
            Topic::Metric(name) => self.metrics.get(name),
            Topic::Check(name) => self.checks.get(name),
            Topic::Signal(name) => self.signals.get(name),
            Topic::Facts => Some(&self.facts),
            Topic::Firing(name) => self.firing.get(name),
        };
        named.into_iter().flatten().chain(&self.any).cloned().collect()
    }
}

impl Watched {
    /// The scopes of this rule that `state` belongs to. A label of `per` that the deployment does not carry is one of
    /// the metrics read; `series` narrows to the scope of one series.
    pub fn scopes_of(&self, state: &State, series: Option<&Labels>) -> BTreeSet<Labels> {
        let rule = &self.rule;
        if !rule.select.matches(&state.labels) {
            return BTreeSet::new();
        }
        let mut own: Vec<(&str, &str)> = Vec::new();
        let mut missing: Vec<&str> = Vec::new();
        for label in &rule.per {
            match state.labels.get(label) {
                Some(value) => own.push((label, value)),
                None => missing.push(label),
            }
        }
        if missing.is_empty() {
            return BTreeSet::from([own.into_iter().collect()]);
        }
        let of_series = |labels: &Labels| -> Option<Labels> {
            let more: Option<Vec<(&str, &str)>> =
                missing.iter().map(|label| labels.get(label).map(|value| (*label, value))).collect();
            Some(own.iter().copied().chain(more?).collect())
        };
        if let Some(scope) = series.and_then(of_series) {
            return BTreeSet::from([scope]);
        }
        let read = state.series.keys().filter(|(metric, _)| self.metrics.contains(metric.as_str()));
        read.filter_map(|(_, labels)| of_series(labels)).collect()
    }

    /// Whether `state` is a member of the scope.
    pub fn has_member(&self, state: &State, scope: &Labels) -> bool {
        self.rule.select.matches(&state.labels)
            && scope.iter().all(|(label, value)| match state.labels.get(label) {
                Some(own) => own == value,
                None => {
                    label != "deployment"
                        && state.series.keys().any(|(metric, labels)| {
                            self.metrics.contains(metric.as_str()) && labels.get(label) == Some(value)
                        })
                }
            })
    }
}
