//! Which rules read what: an event touches only the rules that read it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::checks::STALE_AFTER;
use super::query::MetricQuery;
use super::quick::QuickRule;
use super::series::{LONGEST, Wanted};
use selfheal_model::{MetricName, RuleName};
use selfheal_policy::playbook::{Step, StepKind};
use selfheal_policy::rule::Rule;
use selfheal_policy::{Policy, TimeIntervals};
use selfheal_script::{About, Condition, Func, Param, Read};

/// Samples are kept at least this long: beyond it a newest value is stale.
const KEPT_AT_LEAST: Duration = STALE_AFTER;
/// Samples of a metric that a text names are kept this long, whatever the text asks of it.
const KEPT_FOR_TEXTS: Duration = Duration::from_secs(3600);
/// How long they are kept where a script computes its windows.
const KEPT_FOR_COMPUTED: Duration = Duration::from_secs(24 * 3600);

/// Something that can change under a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Metric(SmolStr),
    Check(SmolStr),
    Signal(SmolStr),
    Fact(SmolStr),
    Firing(SmolStr),
}

/// The number of a metric that rules read.
pub(super) type MetricIx = u32;

/// How one metric is read.
#[derive(Clone, Debug, Default)]
pub(super) struct MetricPlan {
    /// `None`: no rule reads it.
    pub number: Option<MetricIx>,
    /// How long its samples are kept.
    pub kept: Duration,
    /// The windows whose figures are kept up to date, each once, in order of length.
    pub windows: Vec<(Duration, Wanted)>,
    /// Quick rules that read it, as numbers of [`Plan::quick`], in order of name.
    pub quick: Vec<u32>,
    /// A quick rule reads its newest value, which goes stale.
    pub newest: bool,
    /// Rules read it that are not quick.
    pub has_others: bool,
}

/// What a policy reads, worked out once when it is loaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Rules by what they read; quick rules are in [`MetricPlan`] instead.
    readers: BTreeMap<Topic, Vec<RuleName>>,
    /// In order of name.
    pub quick: Vec<QuickRule>,
    metrics: Vec<Arc<MetricPlan>>,
    /// Only ever asked for one name: the order of what is in it is never seen.
    numbers: HashMap<MetricName, MetricIx, foldhash::fast::FixedState>,
    /// All texts of the policy.
    texts: String,
    /// Rules whose reads are only known at run time: every event of their scope evaluates them.
    always: Vec<RuleName>,
    /// Rules that draw conclusions from silence, in order of name.
    pub silent: Vec<RuleName>,
    /// Rules that read the wall clock, in order of name.
    pub clocks: Vec<RuleName>,
    kept: BTreeMap<MetricName, Duration>,
    kept_of_others: Duration,
    queries: BTreeMap<SmolStr, Arc<MetricQuery>>,
    /// By name, as [`Policy::time_intervals`].
    pub intervals: Arc<TimeIntervals>,
}

impl Plan {
    pub fn of(policy: &Policy) -> Self {
        let mut plan =
            Plan { kept_of_others: KEPT_AT_LEAST, intervals: policy.time_intervals.clone(), ..Plan::default() };
        let mut metrics = Metrics::default();
        for rule in policy.rules.values() {
            let mut topics = Vec::new();
            let mut fixed = true;
            for condition in conditions(rule) {
                fixed &= condition.reads_are_static();
                plan.keep(condition);
                topics.extend(condition.reads().iter().flat_map(topics_of));
                for (metric, window) in condition.reads().iter().filter_map(watched) {
                    metrics.of(&metric).1.windows.push(window);
                }
            }
            topics.sort();
            topics.dedup();
            plan.take_texts_of(rule);
            if let Some(quick) = QuickRule::of(rule, policy) {
                plan.take_quick(quick, &mut metrics);
                topics.retain(|topic| !matches!(topic, Topic::Metric(_)));
            }
            for topic in topics {
                plan.readers.entry(topic).or_default().push(rule.name.clone());
            }
            let reads = || conditions(rule).flat_map(Condition::reads);
            if reads().any(|read| matches!(read.func, Func::Absent | Func::Age | Func::Count)) {
                plan.silent.push(rule.name.clone());
            }
            if reads().any(|read| read.func.about() == About::Clock) {
                plan.clocks.push(rule.name.clone());
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
        for rung in policy.ladders.values().flat_map(|ladder| &ladder.rungs) {
            rung.if_.iter().for_each(|condition| plan.keep(condition));
            rung.with.iter().for_each(|(_, param)| plan.take_text(param));
        }
        let Metrics { numbers, plans } = metrics;
        for (name, mut metric) in plans {
            metric.windows.sort_unstable_by_key(|(length, _)| *length);
            metric.windows.dedup_by(|(length, wanted), (kept_length, kept)| {
                let same = length == kept_length;
                if same {
                    *kept = kept.and(*wanted);
                }
                same
            });
            metric.kept = plan.kept(&name);
            metric.has_others = plan.has_readers(&name);
            plan.metrics.push(Arc::new(metric));
        }
        plan.numbers = numbers;
        plan
    }

    fn take_quick(&mut self, mut rule: QuickRule, metrics: &mut Metrics) {
        let number = u32::try_from(self.quick.len()).unwrap_or(u32::MAX);
        for figure in &mut rule.figures {
            let (metric_number, metric) = metrics.of(&figure.metric);
            figure.number = metric_number;
            if metric.quick.last() != Some(&number) {
                metric.quick.push(number);
            }
            if figure.func == Func::Last {
                metric.newest = true;
            } else if figure.window <= LONGEST {
                metric.windows.push((figure.window, Wanted::of(figure.func)));
            }
        }
        self.quick.push(rule);
    }

    fn take_texts_of(&mut self, rule: &Rule) {
        let annotations = rule.annotations.iter().map(|(_, text)| text);
        for text in rule.summary.iter().chain(annotations) {
            self.texts.push_str(text.source());
        }
    }

    fn take_text(&mut self, param: &Param) {
        match param {
            Param::Literal(_) => {}
            Param::Template(text) => self.texts.push_str(text.source()),
            Param::List(items) => items.iter().for_each(|item| self.take_text(item)),
            Param::Map(entries) => entries.iter().for_each(|(_, item)| self.take_text(item)),
        }
    }

    /// How a metric is read, also one that nothing reads.
    pub fn metric(&self, name: &MetricName) -> Arc<MetricPlan> {
        match self.number(name).and_then(|number| self.metrics.get(number as usize)) {
            Some(metric) => metric.clone(),
            None => Arc::new(MetricPlan {
                kept: self.kept(name),
                has_others: self.has_readers(name),
                ..MetricPlan::default()
            }),
        }
    }

    fn keep_for_step(&mut self, step: &Step) {
        step.if_.iter().for_each(|condition| self.keep(condition));
        match &step.kind {
            StepKind::WaitUntil { until, .. } => self.keep(until),
            StepKind::Assert { condition, message } => {
                self.keep(condition);
                message.iter().for_each(|text| self.texts.push_str(text.source()));
            }
            StepKind::Action { with: params, .. } | StepKind::Signal { fields: params, .. } => {
                params.iter().for_each(|(_, param)| self.take_text(param));
            }
            StepKind::Notify { text, .. } => self.texts.push_str(text.source()),
            StepKind::Playbook { with, .. } => with.iter().for_each(|(_, param)| self.take_text(param)),
            StepKind::Parallel(steps) => steps.iter().for_each(|step| self.keep_for_step(step)),
            StepKind::Wait(_)
            | StepKind::Check { .. }
            | StepKind::Approve(_)
            | StepKind::SetCheck(_)
            | StepKind::Silence(_) => {}
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
                *kept = (*kept).max(window.min(LONGEST));
            }
            if read.func.about() == About::Metric {
                self.queries.insert(read.subject.clone(), Arc::new(query));
            }
        }
    }

    /// How long samples of this metric are kept.
    fn kept(&self, metric: &MetricName) -> Duration {
        let for_texts = if self.texts.contains(metric.as_str()) { KEPT_FOR_TEXTS } else { Duration::ZERO };
        self.kept.get(metric).copied().unwrap_or_default().max(self.kept_of_others).max(for_texts)
    }

    /// The number of a rule that is quick.
    pub fn quick_of(&self, rule: &RuleName) -> Option<u32> {
        let found = self.quick.binary_search_by(|quick| quick.name.cmp(rule)).ok()?;
        u32::try_from(found).ok()
    }

    /// Of a metric that rules read.
    pub fn number(&self, name: &MetricName) -> Option<MetricIx> {
        self.numbers.get(name).copied()
    }

    fn has_readers(&self, metric: &MetricName) -> bool {
        !self.always.is_empty() || self.readers.contains_key(&Topic::Metric(metric.as_str().into()))
    }

    /// The longest that samples of any metric are kept.
    pub fn kept_longest(&self) -> Duration {
        self.kept.values().copied().max().unwrap_or_default().max(self.kept_of_others).max(KEPT_FOR_TEXTS)
    }

    /// The rules that may say something else now, in order of name, some perhaps twice; quick rules aside.
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

/// The metrics that rules read while they are found, numbered in that order.
#[derive(Default)]
struct Metrics {
    numbers: HashMap<MetricName, MetricIx, foldhash::fast::FixedState>,
    plans: Vec<(MetricName, MetricPlan)>,
}

impl Metrics {
    fn of(&mut self, name: &MetricName) -> (MetricIx, &mut MetricPlan) {
        let next = u32::try_from(self.plans.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(name.clone()).or_insert(next);
        if number == next {
            self.plans.push((name.clone(), MetricPlan { number: Some(next), ..MetricPlan::default() }));
        }
        (number, &mut self.plans[number as usize].1)
    }
}

/// Every script that decides a rule's answer.
pub(super) fn conditions(rule: &Rule) -> impl Iterator<Item = &Condition> {
    let of_levels = rule.levels.iter().flat_map(|level| [Some(&level.when), level.clear_when.as_ref()]);
    rule.value.iter().chain(of_levels.flatten())
}

/// The metric a read is about, if it is about one that can be told.
pub(super) fn metric_of(read: &Read) -> Option<MetricQuery> {
    match read.func.about() {
        About::Metric => MetricQuery::parse(&read.subject).ok(),
        About::CheckSeries => MetricQuery::parse(super::CHECK_UP).ok(),
        About::Check | About::Signal | About::Scope | About::Fact | About::Rule | About::Clock => None,
    }
}

/// The window whose figures this read asks for, and which they are.
fn watched(read: &Read) -> Option<(MetricName, (Duration, Wanted))> {
    let is_figure = read.func.about() == About::Metric && !matches!(read.func, Func::Absent | Func::History);
    let window = read.window.filter(|window| is_figure && *window <= LONGEST)?;
    Some((metric_of(read)?.name, (window, Wanted::of(read.func))))
}

fn topics_of(read: &Read) -> Vec<Topic> {
    let subject = || read.subject.clone();
    match read.func.about() {
        About::Check => vec![Topic::Check(subject())],
        // `open` names two
        About::Signal if read.func == Func::Open => {
            [Some(subject()), read.other.clone()].into_iter().flatten().map(Topic::Signal).collect()
        }
        About::Signal => vec![Topic::Signal(subject())],
        About::Fact => vec![Topic::Fact(subject())],
        About::Rule => vec![Topic::Firing(subject())],
        // these change with the scope itself, which evaluates the rule anyway, or with time
        About::Scope | About::Clock => Vec::new(),
        About::Metric | About::CheckSeries => {
            metric_of(read).map(|query| Topic::Metric(query.name.as_str().into())).into_iter().collect()
        }
    }
}
