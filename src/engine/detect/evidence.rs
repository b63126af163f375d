//! Answers what scripts ask, for one scope at one instant, and notes how new what they read is and when it next
//! changes by itself.
//!
//! Invariant: an answer is a function of the state, the scope, the cut and the instant. As long as nothing comes in, it
//! stays the same until the instant noted.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smol_str::SmolStr;

use super::CHECK_UP;
use super::checks::{CheckState, STALE_AFTER};
use super::plan::Plan;
use super::series::{Sample, Series};
use super::signals::Signal;
use super::subject::Subject;
use super::windows::{Total, delta, fold, rate, total};
use crate::model::{DeploymentId, Health, Labels, RuleName, Timestamp, Value};
use crate::script::{Evidence, Func, Read, Reading};

/// How often what grows by itself (an age) is looked at again.
const TICK: Duration = Duration::from_secs(1);
/// Series or deployments an error names.
const NAMED: usize = 5;

/// What all scopes share.
pub(super) struct World {
    /// Nobody watched before this: the start, or the end of the last gap.
    pub watched_since: Timestamp,
    /// The end of the last gap; ages count from there.
    pub gap_end: Timestamp,
    /// Alerts that count for `firing(rule)`.
    pub firing: BTreeMap<RuleName, BTreeSet<Labels>>,
    pub plan: Plan,
}

/// Reads for one scope.
pub(super) struct Reader<'a> {
    pub now: Timestamp,
    /// Only what came after this is seen.
    pub cut: Option<Timestamp>,
    pub world: &'a World,
    /// The deployments of the scope, in order.
    pub members: Vec<&'a Subject>,
    /// The scope's labels.
    pub scope: &'a Labels,
    /// The labels scripts see.
    pub labels: &'a Labels,
    /// The rule that asks: it does not see signals its own runs made.
    pub viewer: Option<&'a RuleName>,
    /// Since when that rule is there.
    pub rule_since: Timestamp,
    pub seen: Seen,
}

/// What an evaluation found out beside its answer.
#[derive(Debug)]
pub(super) struct Seen {
    newest: Cell<Option<Timestamp>>,
    next: Cell<Option<Timestamp>>,
}

impl Seen {
    pub fn nothing() -> Self {
        Seen { newest: Cell::new(None), next: Cell::new(None) }
    }

    /// The instant of the newest evidence that was read.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest.get()
    }

    /// When passing time may next change an answer.
    pub fn next(&self) -> Option<Timestamp> {
        self.next.get()
    }
}

/// A series with the deployment it is of.
struct Found<'a> {
    subject: &'a Subject,
    labels: &'a Labels,
    series: &'a Series,
}

impl Evidence for Reader<'_> {
    fn read(&self, read: &Read) -> Result<Reading, String> {
        match read.func {
            Func::Last | Func::Age => self.newest_value(read),
            Func::Absent => self.absent(read),
            Func::Avg | Func::Min | Func::Max | Func::Sum | Func::Count | Func::Rate | Func::Delta => self.window(read),
            Func::Status | Func::Healthy | Func::Unhealthy | Func::Failures | Func::Successes => self.check(read),
            Func::SuccessRate => Ok(self.success_rate(read)),
            Func::Signal => Ok(self.count_signals(read)),
            Func::SignalAge => Ok(self.signal_age(read)),
            Func::SignalField => Ok(self.signal_field(read)),
            Func::Open => Ok(self.open(read)),
            Func::Label => Ok(self.label(&read.subject)),
            Func::Fact => self.fact(read),
            Func::Firing => Ok(self.firing(&read.subject)),
            Func::Deployments => Ok(Reading::Number(self.members.len() as f64)),
        }
    }
}

impl<'a> Reader<'a> {
    fn note(&self, at: Timestamp) {
        self.seen.newest.set(Some(self.seen.newest.get().map_or(at, |newest| newest.max(at))));
    }

    /// The answer may be another one at that instant.
    fn changes_at(&self, at: Timestamp) {
        if at > self.now && at < Timestamp::MAX {
            self.seen.next.set(Some(self.seen.next.get().map_or(at, |next| next.min(at))));
        }
    }

    fn tick(&self) {
        self.changes_at(self.now + TICK);
    }

    /// What lies at or before this is not seen.
    fn edge(&self, window: Duration) -> Timestamp {
        (self.now - window).max(self.cut.unwrap_or(Timestamp::MIN))
    }

    fn after_cut(&self, at: Timestamp) -> bool {
        self.cut.is_none_or(|cut| at > cut)
    }

    /// Whether silence over the window means something; else notes when it will. Before that instant it is only
    /// that nobody listened.
    fn watched_for(&self, window: Duration) -> Option<Timestamp> {
        let known = self.members.iter().map(|subject| subject.known_since).max();
        let since = [Some(self.world.watched_since), Some(self.rule_since), known, self.cut];
        let full = since.into_iter().flatten().max().unwrap_or(self.now) + window;
        self.changes_at(full);
        (full <= self.now).then_some(full)
    }

    /// The series a subject names in this scope. A scope's label that only series have picks those that carry it with
    /// that value; a metric whose series do not carry it at all is the same for every such scope.
    fn series(&self, subject: &str) -> Result<Vec<Found<'a>>, String> {
        let query = self.world.plan.query(subject)?;
        let mut found = Vec::new();
        for member in self.members.iter().copied() {
            let of_series: Vec<_> =
                self.scope.iter().filter(|(name, _)| member.labels.get(name).is_none()).collect();
            let matching = || member.series.of(query.name.as_str()).filter(|(labels, _)| query.selector.matches(labels));
            let carries = |labels: &Labels| of_series.iter().any(|(name, _)| labels.get(name).is_some());
            let exact = |labels: &Labels| of_series.iter().all(|(name, value)| labels.get(name) == Some(value));
            let narrowed = matching().any(|(labels, _)| carries(labels));
            let selected = matching().filter(|(labels, _)| !narrowed || exact(labels));
            found.extend(selected.map(|(labels, series)| Found { subject: member, labels, series }));
        }
        Ok(found)
    }

    fn newest_value(&self, read: &Read) -> Result<Reading, String> {
        let found = self.series(&read.subject)?;
        let mut values = Vec::with_capacity(found.len());
        let mut named = Vec::with_capacity(found.len());
        for found in &found {
            let Some(newest) = found.series.newest().filter(|newest| self.after_cut(newest.at)) else { continue };
            if read.func == Func::Last {
                let stale_at = newest.at + self.stale_after(found);
                if stale_at <= self.now {
                    continue;
                }
                self.changes_at(stale_at);
                values.push(newest.value);
            } else {
                self.tick();
                values.push(self.now.since(newest.at.max(self.world.gap_end)).as_secs_f64());
            }
            self.note(newest.at);
            named.push(found);
        }
        match (values.as_slice(), &read.other) {
            ([], _) => Ok(Reading::Missing),
            (values, Some(how)) => Ok(number(fold(how, values)?)),
            ([value], None) => Ok(number(Some(*value))),
            (_, None) => Err(self.ambiguous(read, &named)),
        }
    }

    fn stale_after(&self, found: &Found<'_>) -> Duration {
        let check = found.labels.get("check").and_then(|check| found.subject.checks.get(check));
        check.map_or(STALE_AFTER, CheckState::stale_after)
    }

    fn ambiguous(&self, read: &Read, found: &[&Found<'_>]) -> String {
        let func = if read.func == Func::Last { "last" } else { "age" };
        let subject = &read.subject;
        let mut names: Vec<String> = found
            .iter()
            .take(NAMED)
            .map(|found| match self.members.len() {
                1 => format!("{subject}{}", found.labels),
                _ => format!("{subject}{} of {}", found.labels, found.subject.id),
            })
            .collect();
        if found.len() > NAMED {
            names.push(format!("{} more", found.len() - NAMED));
        }
        format!(
            "{func}(\"{subject}\") is ambiguous: there are {} series, {}; select one, or fold them with \
             {func}(\"{subject}\", \"max\")",
            found.len(),
            names.join(", ")
        )
    }

    fn absent(&self, read: &Read) -> Result<Reading, String> {
        let window = read.window.unwrap_or_default();
        let found = self.series(&read.subject)?;
        let newest = found.iter().filter_map(|found| found.series.newest()).map(|newest| newest.at).max();
        if let Some(newest) = newest.filter(|newest| *newest > self.edge(window)) {
            self.note(newest);
            self.changes_at(newest + window);
            return Ok(Reading::Bool(false));
        }
        let Some(watched) = self.watched_for(window) else { return Ok(Reading::Missing) };
        // the evidence is that nothing came, and it was whole at that instant
        self.note(newest.map_or(watched, |newest| watched.max(newest + window)));
        Ok(Reading::Bool(true))
    }

    /// The samples of a window of one series; notes what was read and when the first of them leaves.
    fn samples(&self, series: &'a Series, window: Duration) -> impl Iterator<Item = Sample> + use<'a> {
        let edge = self.edge(window);
        if let (Some(oldest), Some(newest)) = (series.after(edge).next(), series.newest()) {
            self.changes_at(oldest.at + window);
            self.note(newest.at);
        }
        series.after(edge)
    }

    fn window(&self, read: &Read) -> Result<Reading, String> {
        let window = read.window.unwrap_or_default();
        let found = self.series(&read.subject)?;
        let mut all = found.iter().flat_map(|found| self.samples(found.series, window));
        let summed = |each: Vec<f64>| (!each.is_empty()).then(|| each.iter().sum());
        let answer = match read.func {
            Func::Min => all.map(|sample| sample.value).reduce(f64::min),
            Func::Max => all.map(|sample| sample.value).reduce(f64::max),
            Func::Avg => total(all).average(),
            Func::Sum => {
                let total = total(&mut all);
                (total.count > 0).then(|| total.sum())
            }
            Func::Rate => {
                summed(found.iter().filter_map(|found| rate(self.samples(found.series, window))).collect())
            }
            Func::Delta => {
                summed(found.iter().filter_map(|found| delta(self.samples(found.series, window))).collect())
            }
            _ => match all.count() {
                // none is a number only where somebody listened for that long
                0 => self.watched_for(window).map(|_| 0.0),
                count => Some(count as f64),
            },
        };
        Ok(number(answer))
    }

    /// The one deployment of the scope that knows the check.
    fn check_of(&self, read: &Read) -> Result<Option<(&'a Subject, &'a CheckState)>, String> {
        let with = |subject: &'a Subject| subject.checks.get(&read.subject).map(|check| (subject, check));
        let found: Vec<_> = self.members.iter().copied().filter_map(with).collect();
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            many => Err(several("check", &read.subject, many.iter().map(|(subject, _)| &subject.id))),
        }
    }

    fn check(&self, read: &Read) -> Result<Reading, String> {
        let Some((subject, check)) = self.check_of(read)? else { return Ok(Reading::Missing) };
        for latest in check.read(self.now, self.cut).filter_map(|place| place.latest) {
            self.note(latest.at);
            self.changes_at(latest.at + check.stale_after());
        }
        let healthy_when = subject.checks.healthy_when();
        let smoothed = || check.health(self.now, self.cut, healthy_when);
        let runs = |healthy: bool| {
            let ran = check.read(self.now, self.cut).filter_map(move |place| {
                let status = place.run.status?;
                Some(if (status == crate::model::CheckStatus::Healthy) == healthy { place.run.length } else { 0 })
            });
            // the longest run of failures of any replica; of successes what all of them have
            if healthy { ran.min() } else { ran.max() }
        };
        Ok(match read.func {
            Func::Status => match check.raw(self.now, self.cut, healthy_when) {
                Health::Unknown => Reading::Missing,
                known => Reading::Text(known.as_str().into()),
            },
            Func::Healthy => verdict(smoothed(), Health::Healthy),
            Func::Unhealthy => verdict(smoothed(), Health::Unhealthy),
            Func::Failures => number(runs(false).map(f64::from)),
            _ => number(runs(true).map(f64::from)),
        })
    }

    fn success_rate(&self, read: &Read) -> Reading {
        let window = read.window.unwrap_or_default();
        let mut all = Total::default();
        for member in self.members.iter().copied() {
            let of_check = member.series.of(CHECK_UP).filter(|(labels, _)| labels.get("check") == Some(&read.subject));
            for (_, series) in of_check {
                self.samples(series, window).for_each(|sample| all.add(sample.value));
            }
        }
        number(all.average())
    }

    /// The scope's signals of a name after an edge, newest first within each deployment.
    fn signals<'s>(&'s self, name: &'s str, edge: Timestamp) -> impl Iterator<Item = &'a Signal> + 's {
        self.members.iter().copied().flat_map(move |member| member.signals.of(name, edge, self.viewer))
    }

    fn newest_signal(&self, name: &str) -> Option<&'a Signal> {
        let edge = self.cut.unwrap_or(Timestamp::MIN);
        // within a deployment the newest comes first, and of equals the first one stands
        let newest = self.signals(name, edge).reduce(|newest, other| if other.at > newest.at { other } else { newest });
        if let Some(newest) = newest {
            self.note(newest.at);
        }
        newest
    }

    fn count_signals(&self, read: &Read) -> Reading {
        let window = read.window.unwrap_or_default();
        let mut count = 0_u32;
        for signal in self.signals(&read.subject, self.edge(window)) {
            count += 1;
            self.note(signal.at);
            self.changes_at(signal.at + window);
        }
        match count {
            0 => number(self.watched_for(window).map(|_| 0.0)),
            count => number(Some(f64::from(count))),
        }
    }

    fn signal_age(&self, read: &Read) -> Reading {
        let Some(newest) = self.newest_signal(&read.subject) else { return Reading::Missing };
        self.tick();
        number(Some(self.now.since(newest.at).as_secs_f64()))
    }

    fn signal_field(&self, read: &Read) -> Reading {
        let Some(newest) = self.newest_signal(&read.subject) else { return Reading::Missing };
        let stale_at = newest.at + STALE_AFTER;
        self.changes_at(stale_at);
        let field = read.other.as_ref().and_then(|key| newest.fields.get(key.as_str()));
        field.filter(|_| stale_at > self.now).map_or(Reading::Missing, reading)
    }

    fn open(&self, read: &Read) -> Reading {
        let opened = self.newest_signal(&read.subject).map(|signal| signal.at);
        let closed = read.other.as_ref().and_then(|name| self.newest_signal(name)).map(|signal| signal.at);
        match (opened, closed) {
            // after a cut, that neither came says nothing
            (None, None) if self.cut.is_some() => Reading::Missing,
            (opened, closed) => Reading::Bool(opened > closed),
        }
    }

    fn label(&self, name: &str) -> Reading {
        let own = || match self.members.as_slice() {
            [one] => one.labels.get(name),
            _ => None,
        };
        let value = self.scope.get(name).or_else(|| self.labels.get(name)).or_else(own);
        value.map_or(Reading::Missing, |value| Reading::Text(value.into()))
    }

    fn fact(&self, read: &Read) -> Result<Reading, String> {
        let mut found: Vec<(&Subject, &Value)> = Vec::new();
        for member in self.members.iter().copied() {
            let Some(at) = member.observed.at.filter(|at| self.after_cut(*at) && *at + STALE_AFTER > self.now) else {
                continue;
            };
            if let Some(value) = member.observed.facts.get(&read.subject) {
                self.note(at);
                self.changes_at(at + STALE_AFTER);
                found.push((member, value));
            }
        }
        match found.as_slice() {
            [] => Ok(Reading::Missing),
            [(_, value)] => Ok(reading(value)),
            many => Err(several("fact", &read.subject, many.iter().map(|(subject, _)| &subject.id))),
        }
    }

    fn firing(&self, rule: &str) -> Reading {
        let alerts = self.world.firing.get(rule).into_iter().flatten();
        let count = alerts.filter(|scope| self.covers(scope)).count();
        // what the engine itself says is as new as can be
        self.note(self.now);
        Reading::Number(count as f64)
    }

    /// Whether an alert with these scope labels lies in this scope.
    fn covers(&self, alert: &Labels) -> bool {
        if let Some(deployment) = alert.get("deployment")
            && !self.members.iter().any(|member| member.id.as_str() == deployment)
        {
            return false;
        }
        let own = |name| match self.members.as_slice() {
            [one] => one.labels.get(name),
            _ => None,
        };
        alert.iter().all(|(name, value)| {
            name == "deployment" || self.scope.get(name).or_else(|| own(name)).is_none_or(|known| known == value)
        })
    }
}

fn verdict(health: Health, wanted: Health) -> Reading {
    match health {
        Health::Unknown => Reading::Missing,
        known => Reading::Bool(known == wanted),
    }
}

/// Not finite is no data.
fn number(value: Option<f64>) -> Reading {
    value.filter(|value| value.is_finite()).map_or(Reading::Missing, Reading::Number)
}

fn reading(value: &Value) -> Reading {
    match value {
        Value::Null => Reading::Missing,
        Value::Bool(value) => Reading::Bool(*value),
        Value::Number(value) => number(value.as_f64()),
        Value::String(text) => Reading::Text(SmolStr::new(text)),
        Value::Array(_) | Value::Object(_) => Reading::Json(value.clone()),
    }
}

fn several<'a>(what: &str, name: &str, ids: impl Iterator<Item = &'a DeploymentId> + Clone) -> String {
    let count = ids.clone().count();
    let named: Vec<&str> = ids.take(NAMED).map(DeploymentId::as_str).collect();
    let more = if count > NAMED { ", …" } else { "" };
    format!("the {what} \"{name}\" is ambiguous: {count} deployments of this scope have it, {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests;
