//! Answers a script's reads for one scope at one instant, and notes on the way how new the evidence was and when time
//! alone may change the answer.

use std::cell::Cell;
use std::time::Duration;

use smol_str::SmolStr;

use super::Detect;
use super::health::STALE_AFTER;
use super::series::{Series, Span};
use super::state::{self, Signal, State};
use crate::model::{CheckStatus, Health, HealthyWhen, Labels, Matcher, RuleName, Timestamp, Value};
use crate::script::{Evidence, Func, Read, Reading};

/// `age` grows all the time: it is looked at so often.
const AGE_EVERY: Duration = Duration::from_secs(1);

type Answer = Result<Reading, String>;

/// The evidence of one scope.
pub struct ScopeEvidence<'a> {
    pub detect: &'a Detect,
    pub now: Timestamp,
    pub scope: &'a Labels,
    pub members: Vec<&'a State>,
    /// The rule that asks: it does not hear what its own run said.
    pub rule: Option<&'a RuleName>,
    /// When the rule became known: what it concludes from silence it has watched for.
    pub rule_since: Timestamp,
    pub cut: Option<Timestamp>,
    newest: Cell<Timestamp>,
    next: Cell<Timestamp>,
}

impl<'a> ScopeEvidence<'a> {
    pub fn new(
        detect: &'a Detect,
        now: Timestamp,
        scope: &'a Labels,
        members: Vec<&'a State>,
        rule: Option<&'a RuleName>,
        cut: Option<Timestamp>,
    ) -> Self {
        let rule_since = rule.and_then(|rule| detect.rule_since(rule)).unwrap_or(Timestamp::MIN);
        let (newest, next) = (Cell::new(Timestamp::MIN), Cell::new(Timestamp::MAX));
        ScopeEvidence { detect, now, scope, members, rule, rule_since, cut, newest, next }
    }

    /// The instant of the newest evidence that was read; `now` where none was.
    pub fn newest(&self) -> Timestamp {
        let newest = self.newest.get();
        if newest == Timestamp::MIN { self.now } else { newest.min(self.now) }
    }

    /// When time alone may change an answer that was given.
    pub fn next_change(&self) -> Option<Timestamp> {
        let next = self.next.get();
        (next < Timestamp::MAX).then(|| next.max(self.now + Duration::from_millis(1)))
    }

    fn saw(&self, at: Timestamp) {
        self.newest.set(self.newest.get().max(at));
    }

    fn changes_at(&self, at: Timestamp) {
        if at > self.now {
            self.next.set(self.next.get().min(at));
        }
    }

    fn window(&self, window: Duration) -> Span {
        let from = self.now - window;
        Span { from: self.cut.map_or(from, |cut| cut.max(from)), to: self.now }
    }

    /// Everything that is neither cut off nor in the future.
    fn all(&self) -> Span {
        Span { from: self.cut.unwrap_or(Timestamp::MIN), to: self.now }
    }

    /// The series a subject names in this scope, with their full names.
    fn series(&self, subject: &str) -> Result<Vec<(String, &'a Series)>, String> {
        let (name, matchers) = parse_selector(subject)?;
        let mut found = Vec::new();
        for member in &self.members {
            let from = (name.into(), Labels::default());
            for ((metric, labels), series) in member.series.range(from..) {
                if metric.as_str() != name {
                    break;
                }
                let in_scope = self.scope.iter().all(|(label, value)| {
                    member.labels.get(label).is_some() || labels.get(label).is_none_or(|own| own == value)
                });
                if in_scope && matchers.iter().all(|matcher| matcher.matches(labels)) {
                    let of = if self.members.len() > 1 {
                        format!("{} of {}", metric, member.id)
                    } else {
                        metric.to_string()
                    };
                    found.push((format!("{of}{labels}"), series));
                }
            }
        }
        Ok(found)
    }

    fn newest_sample(&self, read: &Read, age: bool) -> Answer {
        let series = self.series(&read.subject)?;
        let stale = if age { None } else { Some(STALE_AFTER) };
        let mut values = Vec::new();
        for (name, series) in &series {
            let Some((at, value)) = series.newest_in(self.all()) else { continue };
            if stale.is_some_and(|stale| self.now.since(at) > stale) {
                continue;
            }
            self.saw(at);
            match stale {
                Some(stale) => self.changes_at(at + stale + Duration::from_millis(1)),
                None => self.changes_at(self.now + AGE_EVERY),
            }
            values.push((name, if age { self.watched_since(at).as_secs_f64() } else { value }));
        }
        if age && !values.is_empty() {
            // growing older is evidence of this very instant
            self.saw(self.now);
        }
        let fold: fn(f64, f64) -> f64 = match read.other.as_deref() {
            Some("max") => f64::max,
            Some("min") => f64::min,
            Some("sum" | "avg") => |one, other| one + other,
            Some(other) => return Err(format!("`{other}` folds nothing; it is min, max, sum or avg")),
            None if values.len() > 1 => return Err(ambiguous(&values)),
            None => f64::max,
        };
        let count = values.len() as f64;
        let folded = values.into_iter().map(|(_, value)| value).reduce(fold);
        let folded = if read.other.as_deref() == Some("avg") { folded.map(|sum| sum / count) } else { folded };
        Ok(number(folded))
    }

    /// Time since `at`, what nobody watched left out.
    fn watched_since(&self, at: Timestamp) -> Duration {
        let blind: Duration = self.detect.gaps().map(|(from, to)| to.min(self.now).since(from.max(at))).sum();
        self.now.since(at).saturating_sub(blind)
    }

    fn absent(&self, read: &Read) -> Answer {
        let window = read.window.unwrap_or_default();
        let newest = self
            .series(&read.subject)?
            .iter()
            .filter_map(|(_, series)| series.newest_in(self.all()))
            .map(|(at, _)| at)
            .max();
        let watched_from = self.members.iter().map(|member| member.since).min().unwrap_or(self.now);
        let watched_from = watched_from.max(self.rule_since).max(self.cut.unwrap_or(Timestamp::MIN));
        let quiet_from = newest.map_or(watched_from, |at| at.max(self.cut.unwrap_or(Timestamp::MIN)));
        let quiet = self.watched_since(quiet_from);
        if let Some(left) = window.checked_sub(quiet).filter(|left| !left.is_zero()) {
            self.changes_at(self.now + left);
            if newest.is_some_and(|at| self.now.since(at) < window) {
                self.saw(newest.unwrap_or(self.now));
                return Ok(Reading::Bool(false));
            }
            return Ok(Reading::Missing);
        }
        // silence is evidence of the instant it became long enough
        self.saw(self.now - quiet.saturating_sub(window));
        Ok(Reading::Bool(true))
    }

    fn windowed(&self, read: &Read) -> Answer {
        let window = read.window.unwrap_or_default();
        let span = self.window(window);
        let series = self.series(&read.subject)?;
        let mut samples: Vec<f64> = Vec::new();
        let mut per_series: Vec<f64> = Vec::new();
        for (_, series) in &series {
            let mut first = true;
            for (at, value) in series.within(span) {
                if first {
                    self.changes_at(at + window);
                    first = false;
                }
                self.saw(at);
                samples.push(value);
            }
            let own = match read.func {
                Func::Rate => series.rate(span),
                Func::Delta => series.delta(span),
                _ => None,
            };
            per_series.extend(own);
        }
        let sum = || samples.iter().sum::<f64>();
        Ok(match read.func {
            Func::Count => number((!series.is_empty()).then_some(samples.len() as f64)),
            _ if samples.is_empty() => Reading::Missing,
            Func::Avg => number(Some(sum() / samples.len() as f64)),
            Func::Sum => number(Some(sum())),
            Func::Min => number(samples.iter().copied().reduce(f64::min)),
            Func::Max => number(samples.iter().copied().reduce(f64::max)),
            _ => number((!per_series.is_empty()).then(|| per_series.iter().sum())),
        })
    }

    fn one_member(&self, what: &str) -> Result<&'a State, String> {
        match self.members[..] {
            [one] => Ok(one),
            [] => Err(format!("{what}: there is no deployment in this scope")),
            _ => Err(format!("{what} is about one deployment, and this scope has {}", self.members.len())),
        }
    }

    fn check(&self, read: &Read) -> Answer {
        let member = self.one_member("a check")?;
        let deployment = self.detect.policy().deployments.get(&member.id);
        let deployment = deployment.map(AsRef::as_ref);
        let thresholds = state::thresholds(deployment, &read.subject);
        let when = deployment.map_or(HealthyWhen::All, |deployment| deployment.healthy_when);
        let cut = self.cut.map(|_| self.all());
        let newest =
            member.replicas_of(&read.subject).filter_map(|(_, state)| state.newest()).max_by_key(|verdict| verdict.at);
        let newest = newest
            .filter(|verdict| verdict.at > self.all().from && self.now.since(verdict.at) <= thresholds.stale_after);
        if let Some(verdict) = newest {
            self.saw(verdict.at);
            self.changes_at(verdict.at + thresholds.stale_after + Duration::from_millis(1));
        }
        let health = || member.check_health(&read.subject, when, cut, thresholds, self.now);
        let runs = |status| {
            let counts = member.replicas_of(&read.subject).map(|(_, state)| match self.cut {
                None => state.run_of(status),
                Some(_) => {
                    let newest_first = state.within(self.all()).rev();
                    u32::try_from(newest_first.take_while(|(_, own)| *own == status).count()).unwrap_or(u32::MAX)
                }
            });
            counts.max().filter(|_| newest.is_some()).map(f64::from)
        };
        Ok(match read.func {
            Func::Status => {
                // of several replicas the worst
                let worst = member
                    .replicas_of(&read.subject)
                    .filter_map(|(_, state)| state.newest())
                    .filter(|verdict| verdict.at > self.all().from)
                    .map(|verdict| verdict.status)
                    .max();
                worst
                    .filter(|_| newest.is_some())
                    .map_or(Reading::Missing, |status| Reading::Text(status.as_str().into()))
            }
            Func::Healthy => truth(health(), Health::Healthy),
            Func::Unhealthy => truth(health(), Health::Unhealthy),
            Func::Failures => number(runs(CheckStatus::Unhealthy)),
            Func::Successes => number(runs(CheckStatus::Healthy)),
            _ => self.success_rate(member, read),
        })
    }

    fn success_rate(&self, member: &State, read: &Read) -> Reading {
        let window = read.window.unwrap_or_default();
        let (mut healthy, mut all) = (0_u32, 0_u32);
        for (_, state) in member.replicas_of(&read.subject) {
            for (index, (at, status)) in state.within(self.window(window)).enumerate() {
                if index == 0 {
                    self.changes_at(at + window);
                }
                all += 1;
                healthy += u32::from(status == CheckStatus::Healthy);
            }
        }
        number((all > 0).then(|| f64::from(healthy) / f64::from(all)))
    }

    /// Signals of a name in order of time, that this rule may hear.
    fn signals<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a Signal> + 's {
        let span = self.all();
        let rings = self.members.iter().filter_map(move |member| member.signals.get(name));
        rings.flatten().filter(move |signal| {
            signal.at > span.from
                && signal.at <= span.to
                && !(self.rule.is_some() && signal.made_for.as_ref() == self.rule)
        })
    }

    fn signal(&self, read: &Read) -> Answer {
        let name = read.subject.as_str();
        let newest = self.signals(name).max_by_key(|signal| signal.at);
        Ok(match read.func {
            Func::Signal => {
                let window = read.window.unwrap_or_default();
                let span = self.window(window);
                let inside: Vec<Timestamp> =
                    self.signals(name).map(|signal| signal.at).filter(|at| *at > span.from).collect();
                inside.iter().for_each(|at| self.saw(*at));
                if let Some(oldest) = inside.iter().min() {
                    self.changes_at(*oldest + window);
                }
                number(Some(inside.len() as f64))
            }
            Func::SignalAge => {
                if let Some(signal) = newest {
                    self.saw(signal.at);
                    self.changes_at(self.now + AGE_EVERY);
                }
                number(newest.map(|signal| self.now.since(signal.at).as_secs_f64()))
            }
            Func::SignalField => {
                let fresh = newest.filter(|signal| self.now.since(signal.at) <= STALE_AFTER);
                if let Some(signal) = fresh {
                    self.saw(signal.at);
                    self.changes_at(signal.at + STALE_AFTER + Duration::from_millis(1));
                }
                fresh
                    .and_then(|signal| signal.fields.get(read.other.as_deref().unwrap_or_default()))
                    .map_or(Reading::Missing, reading)
            }
            _ => {
                let closed = self.signals(read.other.as_deref().unwrap_or_default()).map(|signal| signal.at).max();
                let opened = newest.map(|signal| signal.at);
                opened.into_iter().chain(closed).for_each(|at| self.saw(at));
                Reading::Bool(opened.is_some_and(|opened| closed.is_none_or(|closed| closed < opened)))
            }
        })
    }

    fn label(&self, name: &str) -> Reading {
        let own = self.scope.get(name).or_else(|| match self.members[..] {
            [one] => one.labels.get(name),
            _ => None,
        });
        own.map_or(Reading::Missing, |value| Reading::Text(value.into()))
    }

    fn fact(&self, name: &str) -> Answer {
        let member = self.one_member("a fact")?;
        let fresh = member.facts_at.filter(|at| self.now.since(*at) <= STALE_AFTER && *at > self.all().from);
        let Some(at) = fresh else { return Ok(Reading::Missing) };
        self.changes_at(at + STALE_AFTER + Duration::from_millis(1));
        self.saw(at);
        Ok(member.facts.get(name).map_or(Reading::Missing, reading))
    }

    fn firing(&self, rule: &str) -> f64 {
        let Some(scopes) = self.detect.firing_of(rule) else { return 0.0 };
        let inside = scopes.iter().filter(|scope| match scope.get("deployment") {
            Some(id) => self.members.iter().any(|member| member.id.as_str() == id),
            None => self.scope.iter().all(|(name, value)| scope.get(name).is_none_or(|own| own == value)),
        });
        inside.count() as f64
    }
}

impl Evidence for ScopeEvidence<'_> {
    fn read(&self, read: &Read) -> Answer {
        match read.func {
            Func::Last => self.newest_sample(read, false),
            Func::Age => self.newest_sample(read, true),
            Func::Absent => self.absent(read),
            Func::Avg | Func::Min | Func::Max | Func::Sum | Func::Count | Func::Rate | Func::Delta => {
                self.windowed(read)
            }
            Func::Status | Func::Healthy | Func::Unhealthy | Func::Failures | Func::Successes | Func::SuccessRate => {
                self.check(read)
            }
            Func::Signal | Func::SignalAge | Func::SignalField | Func::Open => self.signal(read),
            Func::Label => Ok(self.label(&read.subject)),
            Func::Fact => self.fact(&read.subject),
            Func::Firing => Ok(Reading::Number(self.firing(&read.subject))),
            Func::Deployments => Ok(Reading::Number(self.members.len() as f64)),
        }
    }
}

fn number(value: Option<f64>) -> Reading {
    value.filter(|value| value.is_finite()).map_or(Reading::Missing, Reading::Number)
}

fn truth(health: Health, wanted: Health) -> Reading {
    if health == Health::Unknown { Reading::Missing } else { Reading::Bool(health == wanted) }
}

fn reading(value: &Value) -> Reading {
    match value {
        Value::Null => Reading::Missing,
        Value::Bool(flag) => Reading::Bool(*flag),
        Value::Number(value) => number(value.as_f64()),
        Value::String(text) => Reading::Text(SmolStr::new(text)),
        other => Reading::Json(other.clone()),
    }
}

fn ambiguous(values: &[(&String, f64)]) -> String {
    const SHOWN: usize = 4;
    let names: Vec<&str> = values.iter().take(SHOWN).map(|(name, _)| name.as_str()).collect();
    let more = values.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("ambiguous: there are {}{more}; select one, or fold them: last(metric, \"max\")", names.join(", "))
}

/// `name` or `name{label='value', other=~"x"}`
pub fn parse_selector(subject: &str) -> Result<(&str, Vec<Matcher>), String> {
    let Some((name, rest)) = subject.split_once('{') else { return Ok((subject, Vec::new())) };
    let inner = rest.trim_end().strip_suffix('}').ok_or_else(|| format!("`{subject}` lacks its closing brace"))?;
    let matchers = inner
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.trim().replace('\'', "\"").parse::<Matcher>().map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    Ok((name.trim(), matchers))
}

/// Metric names a read may touch, for the index; `None` where it touches none.
pub fn metric_of(read: &Read) -> Option<&str> {
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
        | Func::Delta => Some(read.subject.split('{').next().unwrap_or_default().trim()),
        _ => None,
    }
}
