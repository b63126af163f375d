//! The functions over series: newest values, windows, absence.

use std::time::Duration;

use super::{NAMED, Reader, number};
use crate::checks::CheckState;
use crate::series::{Sample, Series};
use crate::subject::Subject;
use crate::windows::{Total, Trend, fold, quantile, share_of, spread};
use selfheal_model::{Labels, Value};
use selfheal_script::{Amount, Evidence, Func, Read, Reading};

/// Values that `history` gives at most, the newest: a list of a script holds no more.
const MAX_HISTORY: usize = 1_000;

/// The values of samples, oldest first.
fn newest_of(samples: impl Iterator<Item = Sample>) -> Reading {
    let values: Vec<Value> = samples.map(|sample| Value::from(sample.value)).collect();
    Reading::Json(Value::Array(values[values.len().saturating_sub(MAX_HISTORY)..].to_vec()))
}

/// A series with the deployment it is of.
struct Found<'a> {
    subject: &'a Subject,
    labels: &'a Labels,
    series: &'a Series,
}

impl<'a> Reader<'a> {
    /// The series a subject names in this scope. A scope's label that only series have picks those that carry it with
    /// that value; a metric whose series do not carry it at all is the same for every such scope.
    fn series(&self, subject: &str) -> Result<Vec<Found<'a>>, String> {
        let query = self.world.plan.query(subject)?;
        let mut found = Vec::new();
        for member in self.members.iter().copied() {
            let of_series: Vec<_> = self.scope.iter().filter(|(name, _)| member.labels.get(name).is_none()).collect();
            let matching =
                || member.series.of(query.name.as_str()).filter(|(labels, _)| query.selector.matches(labels));
            let carries = |labels: &Labels| of_series.iter().any(|(name, _)| labels.get(name).is_some());
            let exact = |labels: &Labels| of_series.iter().all(|(name, value)| labels.get(name) == Some(value));
            let narrowed = matching().any(|(labels, _)| carries(labels));
            let selected = matching().filter(|(labels, _)| !narrowed || exact(labels));
            found.extend(selected.map(|(labels, series)| Found { subject: member, labels, series }));
        }
        let hides = |subject: &Subject, newest| subject.sight.hides(newest) || self.world.hides(newest);
        let is_hidden = |found: &Found<'_>| hides(found.subject, found.series.newest().map(|newest| newest.at));
        let none_is_seen = || found.is_empty() && self.members.iter().any(|member| hides(member, None));
        if found.iter().any(is_hidden) || none_is_seen() {
            self.seen.blind.set(true);
        }
        Ok(found)
    }

    pub(super) fn newest_value(&self, read: &Read) -> Result<Reading, String> {
        let query = self.world.plan.query(&read.subject)?;
        let found = self.series(&read.subject)?;
        let mut values = Vec::with_capacity(found.len());
        let mut named = Vec::with_capacity(found.len());
        for found in &found {
            let Some(newest) = found.series.newest().filter(|newest| self.after_cut(newest.at)) else { continue };
            let series = &found.subject.series;
            if read.func == Func::Last {
                let stale_at = newest.at + self.stale_after(found);
                if stale_at <= self.now || series.has_ended(&query.name, found.labels) {
                    continue;
                }
                self.changes_at(stale_at);
                values.push(newest.value);
            } else {
                self.tick();
                values.push(self.world.age(found.subject, newest.at, self.now));
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
        check.map_or(found.subject.stale_after, CheckState::stale_after)
    }

    fn ambiguous(&self, read: &Read, found: &[&Found<'_>]) -> String {
        let func = format!("{:?}", read.func).to_lowercase();
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
        let fold = match read.func {
            Func::Last | Func::Age => format!(", or fold them with {func}(\"{subject}\", \"max\")"),
            _ => String::new(),
        };
        format!(
            "{func}(\"{subject}\") is ambiguous: there are {} series, {}; select one{fold}",
            found.len(),
            names.join(", ")
        )
    }

    pub(super) fn absent(&self, read: &Read) -> Result<Reading, String> {
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
    pub(super) fn samples(&self, series: &'a Series, window: Duration) -> impl Iterator<Item = Sample> + use<'a> {
        let edge = self.edge(window);
        if let (Some(oldest), Some(newest)) = (series.first_to_leave(edge), series.newest()) {
            self.changes_at(oldest.at + window);
            self.note(newest.at);
        }
        series.after(edge)
    }

    /// Of all samples of a window; notes what was read.
    fn total(&self, found: &[Found<'a>], window: Duration) -> Total {
        let mut all = Total::default();
        for found in found {
            drop(self.samples(found.series, window));
            all.join(found.series.total_after(self.edge(window)));
        }
        all
    }

    pub(super) fn window(&self, read: &Read) -> Result<Reading, String> {
        let window = read.window.unwrap_or_default();
        let found = self.series(&read.subject)?;
        let edge = self.edge(window);
        for found in &found {
            drop(self.samples(found.series, window));
        }
        let of_each = || found.iter().filter_map(|found| found.series.figure(read.func, read.amount, edge));
        let all = || found.iter().flat_map(|found| found.series.after(edge));
        let answer = match read.func {
            Func::Min => of_each().reduce(f64::min),
            Func::Max => of_each().reduce(f64::max),
            Func::Avg => self.total(&found, window).average(),
            Func::Sum => {
                let total = self.total(&found, window);
                (total.count > 0).then(|| total.sum())
            }
            Func::Rate | Func::Increase | Func::Delta | Func::Changes => of_each().reduce(|sum, one| sum + one),
            Func::Stddev | Func::P50 | Func::P90 | Func::P95 | Func::P99 | Func::Quantile => match found.as_slice() {
                [one] => one.series.figure(read.func, read.amount, edge),
                _ if read.func == Func::Stddev => spread(all()).map(|(_, deviation)| deviation),
                _ => quantile(all(), share_of(read.func, read.amount)),
            },
            Func::First | Func::Slope | Func::Zscore | Func::Predict | Func::TimeTo | Func::History => {
                let is_filled = |found: &&Found<'a>| found.series.after(edge).next().is_some();
                let filled: Vec<&Found<'a>> = found.iter().filter(is_filled).collect();
                let one = match filled.as_slice() {
                    [] => return Ok(Reading::Missing),
                    [one] => one.series,
                    _ => return Err(self.ambiguous(read, &filled)),
                };
                match read.func {
                    Func::History => {
                        self.spent(one.total_after(edge).count);
                        return Ok(newest_of(one.after(edge)));
                    }
                    Func::Predict | Func::TimeTo => self.ahead(read, one.trend(edge)),
                    func => one.figure(func, read.amount, edge),
                }
            }
            _ => match self.total(&found, window).count {
                // none is a number only where somebody listened for that long
                0 => self.watched_for(window).map(|_| 0.0),
                count => Some(count as f64),
            },
        };
        Ok(number(answer))
    }

    /// What a line says of the time to come; that moves on with now.
    fn ahead(&self, read: &Read, trend: Option<Trend>) -> Option<f64> {
        let trend = trend?;
        if trend.slope != 0.0 {
            self.tick();
        }
        let amount = read.amount.map(Amount::get).unwrap_or_default();
        Some(match read.func {
            Func::Predict => trend.at(self.now, amount),
            _ => trend.time_to(amount, self.now),
        })
    }
}
