//! What every rule of a policy reads, when it is asked, and in which way: for `selfheal check --explain`.

use std::time::Duration;

use serde::Serialize;

use super::plan::{Plan, conditions, metric_of};
use super::quick::figure_of;
use super::series::{LONGEST, MAX_SAMPLES, SLIDES};
use selfheal_model::units::format_duration;
use selfheal_policy::Policy;
use selfheal_policy::rule::Rule;
use selfheal_script::{About, Condition, Func, Read};

/// One rule's share of the engine's work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleCost {
    pub rule: String,
    /// As calls; what is computed is not among them.
    pub reads: Vec<String>,
    pub way: RuleWay,
    /// Why it is not arithmetic, if it is not.
    pub because: Option<String>,
    /// What makes the engine ask it again.
    pub asked: Vec<String>,
    /// What is kept for it, as `metric for 5m`, and from when on a window of it is less than exact.
    pub keeps: Vec<String>,
}

/// How a rule is evaluated, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleWay {
    /// A short program over plain numbers tells it quiet; its scripts are asked only when it is not.
    Arithmetic,
    /// The interpreter of the rule language runs its scripts.
    Compiled,
}

/// Every rule, in order of name.
pub fn costs(policy: &Policy) -> Vec<RuleCost> {
    let plan = Plan::of(policy);
    policy.rules.values().map(|rule| cost(rule, policy, &plan)).collect()
}

fn cost(rule: &Rule, policy: &Policy, plan: &Plan) -> RuleCost {
    let mut reads: Vec<&Read> = Vec::new();
    for read in conditions(rule).flat_map(Condition::reads) {
        if !reads.contains(&read) {
            reads.push(read);
        }
    }
    let way = if plan.quick_of(&rule.name).is_some() { RuleWay::Arithmetic } else { RuleWay::Compiled };
    RuleCost {
        rule: rule.name.to_string(),
        way,
        because: (way != RuleWay::Arithmetic).then(|| because(rule, &reads)),
        asked: asked(rule, &reads),
        keeps: kept(&reads, plan, policy),
        reads: reads.iter().map(ToString::to_string).collect(),
    }
}

/// The first of the reasons, in words.
fn because(rule: &Rule, reads: &[&Read]) -> String {
    if rule.per.len() != 1 || rule.per.first().is_none_or(|label| label != "deployment") {
        return format!("it has not one scope for each deployment (per: [{}])", rule.per.join(", "));
    }
    if !conditions(rule).all(Condition::reads_are_static) {
        return "what it reads is computed, or comes from settings that a deployment may override".to_owned();
    }
    match reads.iter().find(|read| figure_of(read).is_none() || !read.func.is_number_of_metric()) {
        Some(read) if read.func.about() == About::Metric && read.subject.contains('{') => {
            format!("{read} selects series")
        }
        Some(read) => format!("{read} is no number out of a metric's samples"),
        None => "it is more than arithmetic, or longer than is worth it".to_owned(),
    }
}

fn asked(rule: &Rule, reads: &[&Read]) -> Vec<String> {
    let mut asked = Vec::new();
    let mut add = |text: String| {
        if !asked.contains(&text) {
            asked.push(text);
        }
    };
    if !conditions(rule).all(Condition::reads_are_static) {
        add("at every event of its scope".to_owned());
    }
    for read in reads {
        let subject = &read.subject;
        match read.func.about() {
            About::Metric | About::CheckSeries => {
                if let Some(query) = metric_of(read) {
                    add(format!("when {} comes", query.name));
                }
            }
            About::Check => add(format!("when the check {subject} says something")),
            About::Signal => add(format!("when the signal {subject} comes")),
            About::Fact => add(format!("when the fact {subject} is seen")),
            About::Rule => add(format!("when an alert of {subject} fires or ends")),
            About::Scope => {}
            About::Clock => add("when the wall clock shows something else".to_owned()),
        }
        match read.func {
            Func::Age | Func::SignalAge | Func::Predict | Func::TimeTo => {
                add(format!("every second, for {read} changes by itself"));
            }
            _ => {}
        }
    }
    let windows = reads.iter().filter_map(|read| read.window).max();
    if let Some(window) = windows {
        add(format!("when something leaves a window of up to {}", format_duration(window)));
    }
    asked
}

fn kept(reads: &[&Read], plan: &Plan, policy: &Policy) -> Vec<String> {
    let mut kept = Vec::new();
    for (read, query) in reads.iter().filter_map(|read| Some((read, metric_of(read)?))) {
        let span = plan.metric(&query.name).kept.max(policy.intake.stale_after);
        let text = format!("{} for {}", query.name, format_duration(span));
        if !kept.contains(&text) {
            kept.push(text);
        }
        if let Some(window) = read.window.filter(|window| *window <= LONGEST) {
            let slide = window / u32::try_from(SLIDES).unwrap_or(u32::MAX);
            let text = format!(
                "with more than {MAX_SAMPLES} samples of {} in {} that window slides by {}",
                query.name,
                format_duration(window),
                format_duration(slide.max(Duration::from_millis(1)))
            );
            if !kept.contains(&text) {
                kept.push(text);
            }
        }
    }
    kept
}
