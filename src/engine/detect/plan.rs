//! Which rules read what: an event touches only the rules that read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::series::MetricQuery;
use crate::model::{MetricName, RuleName};
use crate::playbook::{Step, StepKind};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::script::{Condition, Func, Read};

/// Samples are kept at least this long, for texts and for questions that no rule asks all the time.
const KEPT_AT_LEAST: Duration = Duration::from_secs(3600);
/// How long they are kept where a script computes its windows.
const KEPT_FOR_COMPUTED: Duration = Duration::from_secs(24 * 3600);
/// However long a window is, no sample is older.
const KEPT_AT_MOST: Duration = Duration::from_secs(31 * 24 * 3600);

/// Something that can change under a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Metric(SmolStr),
    Check(SmolStr),
    Signal(SmolStr),
    Fact(SmolStr),
    Firing(SmolStr),
}

/// What a policy reads, worked out once when it is loaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    readers: BTreeMap<Topic, Vec<RuleName>>,
    /// Rules whose reads are only known at run time: every event of their scope evaluates them.
    always: Vec<RuleName>,
    kept: BTreeMap<MetricName, Duration>,
    kept_of_others: Duration,
    queries: BTreeMap<SmolStr, Arc<MetricQuery>>,
}

impl Plan {
    pub fn of(policy: &Policy) -> Self {
        let mut plan = Plan { kept_of_others: KEPT_AT_LEAST, ..Plan::default() };
        for rule in policy.rules.values() {
            let mut topics = Vec::new();
            let mut fixed = true;
            for condition in conditions(rule) {
                fixed &= condition.reads_are_static();
                plan.keep(condition);
                topics.extend(condition.reads().iter().flat_map(topics_of));
            }
            topics.sort();
            topics.dedup();
            for topic in topics {
                plan.readers.entry(topic).or_default().push(rule.name.clone());
            }
            if !fixed {
                plan.always.push(rule.name.clone());
            }
        }
        for playbook in policy.playbooks.values() {
            playbook.verify.until.iter().for_each(|until| plan.keep(until));
            for step in playbook.steps.iter().chain(&playbook.rescue).chain(&playbook.finally) {
                plan.keep_for_step(step);
            }
        }
        let rungs = policy.ladders.values().flat_map(|ladder| &ladder.rungs);
        rungs.filter_map(|rung| rung.if_.as_ref()).for_each(|condition| plan.keep(condition));
        plan
    }

    fn keep_for_step(&mut self, step: &Step) {
        step.if_.iter().for_each(|condition| self.keep(condition));
        match &step.kind {
            StepKind::WaitUntil { until: condition, .. } | StepKind::Assert { condition, .. } => self.keep(condition),
            StepKind::Action { .. }
            | StepKind::Wait(_)
            | StepKind::Check { .. }
            | StepKind::Notify { .. }
            | StepKind::Signal { .. } => {}
        }
        step.undo.iter().for_each(|undo| self.keep_for_step(undo));
    }

    /// Samples must last for the windows of this condition.
    fn keep(&mut self, condition: &Condition) {
        if !condition.reads_are_static() {
            self.kept_of_others = self.kept_of_others.max(KEPT_FOR_COMPUTED);
        }
        for read in condition.reads() {
            let Some(query) = metric_of(read) else { continue };
            if let Some(window) = read.window {
                let kept = self.kept.entry(query.name.clone()).or_default();
                *kept = (*kept).max(window.min(KEPT_AT_MOST));
            }
            if read.func != Func::SuccessRate {
                self.queries.insert(read.subject.clone(), Arc::new(query));
            }
        }
    }

    /// How long samples of this metric are kept.
    pub fn kept(&self, metric: &MetricName) -> Duration {
        self.kept.get(metric).copied().unwrap_or_default().max(self.kept_of_others)
    }

    /// The longest that samples of any metric are kept.
    pub fn kept_longest(&self) -> Duration {
        self.kept.values().copied().max().unwrap_or_default().max(self.kept_of_others)
    }

    /// The rules that may say something else now, in order of name, some perhaps twice.
    pub fn readers<'a>(&'a self, topic: &Topic) -> impl Iterator<Item = &'a RuleName> {
        self.readers.get(topic).into_iter().flatten().chain(&self.always)
    }

    /// The subject of a metric function.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn query(&self, subject: &str) -> Result<Arc<MetricQuery>, String> {
        match self.queries.get(subject) {
            Some(query) => Ok(query.clone()),
            None => MetricQuery::parse(subject).map(Arc::new),
        }
    }
}

/// Every script that decides a rule's answer.
pub(super) fn conditions(rule: &Rule) -> impl Iterator<Item = &Condition> {
    let of_levels = rule.levels.iter().flat_map(|level| [Some(&level.when), level.clear_when.as_ref()]);
    rule.value.iter().chain(of_levels.flatten())
}

/// The metric a read is about, if it is about one that can be told.
pub(super) fn metric_of(read: &Read) -> Option<MetricQuery> {
    match read.func {
        Func::Last
        | Func::Age
        | Func::Absent
        | Func::Avg
        | Func::Min
        | Func::Max
        | Func::Sum
        | Func::Count
        | Func::Rate
        | Func::Delta => MetricQuery::parse(&read.subject).ok(),
        Func::SuccessRate => MetricQuery::parse(super::CHECK_UP).ok(),
        Func::Status
        | Func::Healthy
        | Func::Unhealthy
        | Func::Failures
        | Func::Successes
        | Func::Signal
        | Func::SignalAge
        | Func::SignalField
        | Func::Open
        | Func::Label
        | Func::Fact
        | Func::Firing
        | Func::Deployments => None,
    }
}

fn topics_of(read: &Read) -> Vec<Topic> {
    let subject = || read.subject.clone();
    match read.func {
        Func::Status | Func::Healthy | Func::Unhealthy | Func::Failures | Func::Successes => {
            vec![Topic::Check(subject())]
        }
        Func::Signal | Func::SignalAge | Func::SignalField => vec![Topic::Signal(subject())],
        Func::Open => [Some(subject()), read.other.clone()].into_iter().flatten().map(Topic::Signal).collect(),
        Func::Fact => vec![Topic::Fact(subject())],
        Func::Firing => vec![Topic::Firing(subject())],
        // these change with the scope itself, which evaluates the rule anyway
        Func::Label | Func::Deployments => Vec::new(),
        Func::Last
        | Func::Age
        | Func::Absent
        | Func::Avg
        | Func::Min
        | Func::Max
        | Func::Sum
        | Func::Count
        | Func::Rate
        | Func::Delta
        | Func::SuccessRate => {
            metric_of(read).map(|query| Topic::Metric(query.name.as_str().into())).into_iter().collect()
        }
    }
}
