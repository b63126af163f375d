//! Rules that can be told quiet by arithmetic alone, without asking their scripts.
//!
//! Invariant: a rule that is called quiet here is one that nobody has to hear of; whatever else it may be is for its
//! scripts to say.

use std::time::Duration;

use super::plan::MetricIx;
use super::series::Series;
use super::store::MetricPlace;
use super::subject::Subject;
use selfheal_model::{Labels, MetricName, RuleName, Selector, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::rule::Rule;
use selfheal_script::{Amount, FastPath, Func, Read};

/// A rule that reads more is asked by its scripts.
const MAX_READS: usize = 8;
/// The ways of folding several series, which are all the same for one.
const FOLDS: [&str; 4] = ["min", "max", "sum", "avg"];

/// What of a metric is read.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub metric: MetricName,
    /// Of the metric in the plan this rule is of.
    pub number: MetricIx,
    pub func: Func,
    /// The share of a quantile.
    pub amount: Option<Amount>,
    /// Zero for the newest value.
    pub window: Duration,
}

/// A rule per deployment whose conditions are arithmetic over metrics.
#[derive(Clone, Debug)]
pub(super) struct QuickRule {
    pub name: RuleName,
    select: Selector,
    pub figures: Vec<Figure>,
    value: Option<Program>,
    whens: Vec<Program>,
}

#[derive(Clone, Debug)]
struct Program {
    quick: FastPath,
    /// For each of its reads the place among the rule's figures.
    figures: Vec<usize>,
}

impl QuickRule {
    /// `None`: this rule has to be asked by its scripts.
    pub fn of(rule: &Rule, policy: &Policy) -> Option<QuickRule> {
        if rule.per.len() != 1 || rule.per.first().is_none_or(|label| label != "deployment") {
            return None;
        }
        let mut quick = QuickRule {
            name: rule.name.clone(),
            select: rule.select.clone(),
            figures: Vec::new(),
            value: None,
            whens: Vec::new(),
        };
        if let Some(value) = &rule.value {
            quick.value = Some(quick.program(value.fast_path(&policy.settings)?)?);
        }
        for level in &rule.levels {
            let program = quick.program(level.when.fast_path(&policy.settings)?)?;
            quick.whens.push(program);
        }
        (quick.figures.len() <= MAX_READS && quick.is_quiet_about_nothing()).then_some(quick)
    }

    /// Whether it has nothing to say where nothing ever came: nobody asks it there. Of a count nothing is no number, until
    /// somebody has listened for long enough, and then none.
    fn is_quiet_about_nothing(&self) -> bool {
        let counts: Vec<usize> = self
            .figures
            .iter()
            .enumerate()
            .filter(|(_, figure)| figure.func == Func::Count)
            .map(|(at, _)| at)
            .collect();
        (0_u32..1 << counts.len()).all(|listened| {
            let mut known = [Some(f64::NAN); MAX_READS];
            for (bit, at) in counts.iter().enumerate() {
                if listened & (1 << bit) != 0 {
                    known[*at] = Some(0.0);
                }
            }
            self.is_quiet_with(&known)
        })
    }

    fn program(&mut self, quick: FastPath) -> Option<Program> {
        let mut figures = Vec::new();
        for read in quick.reads() {
            let figure = figure_of(read)?;
            let same = |own: &Figure| {
                (&own.metric, own.func, own.amount, own.window)
                    == (&figure.metric, figure.func, figure.amount, figure.window)
            };
            let known = self.figures.iter().position(same);
            figures.push(known.unwrap_or(self.figures.len()));
            if known.is_none() {
                self.figures.push(figure);
            }
        }
        Some(Program { quick, figures })
    }

    pub fn selects(&self, labels: &Labels) -> bool {
        self.select.matches(labels)
    }

    /// Whether none of its levels is true, and none in error, for a deployment about which it said nothing before; `place` is
    /// that of a metric it reads, perhaps.
    pub fn is_quiet(&self, subject: &mut Subject, place: MetricPlace, now: Timestamp) -> bool {
        let mut known = [None; MAX_READS];
        for (known, figure) in known.iter_mut().zip(&self.figures) {
            *known = look(subject, place, figure, now);
        }
        self.is_quiet_with(&known)
    }

    fn is_quiet_with(&self, known: &[Option<f64>; MAX_READS]) -> bool {
        let run = |program: &Program, value: f64| {
            program.quick.run(value, |index| known.get(*program.figures.get(index)?).copied().flatten())
        };
        let value = match &self.value {
            None => f64::NAN,
            Some(program) => match run(program, f64::NAN) {
                Some(value) => value,
                None => return false,
            },
        };
        self.whens.iter().all(|when| run(when, value).is_some_and(|truth| truth != 1.0))
    }
}

pub(super) fn figure_of(read: &Read) -> Option<Figure> {
    let is_plain = !read.subject.contains('{') && read.subject.trim() == read.subject;
    let folds = read.other.as_ref().is_none_or(|how| FOLDS.contains(&how.as_str()));
    (is_plain && folds).then(|| Figure {
        metric: MetricName::new(&read.subject),
        number: MetricIx::MAX,
        func: read.func,
        amount: read.amount,
        window: read.window.unwrap_or_default(),
    })
}

/// The number, NaN where there is none; `None` where that takes more than one series, or more than its samples, to tell.
fn look(subject: &mut Subject, place: MetricPlace, figure: &Figure, now: Timestamp) -> Option<f64> {
    let stale_after = subject.stale_after;
    let place = subject.series.place_near(figure.number, place);
    if figure.func == Func::Last && place.is_some_and(|place| subject.series.has_ended_at(place)) {
        return Some(f64::NAN);
    }
    let metric = place.and_then(|place| subject.series.at_mut(place));
    let Some(metric) = metric else { return missing(figure.func) };
    metric.advance(now);
    match metric.only() {
        Ok(Some((labels, series))) => told(labels, series, figure, now, stale_after),
        Ok(None) => missing(figure.func),
        Err(_) => None,
    }
}

/// That there was none is a number only where somebody listened for so long.
fn missing(func: Func) -> Option<f64> {
    (func != Func::Count).then_some(f64::NAN)
}

fn told(labels: &Labels, series: &Series, figure: &Figure, now: Timestamp, stale_after: Duration) -> Option<f64> {
    let edge = now - figure.window;
    let number = match figure.func {
        Func::Last => {
            // those of a check are stale when the check is
            if labels.get("check").is_some() {
                return None;
            }
            series.newest().filter(|newest| newest.at + stale_after > now).map(|newest| newest.value)
        }
        Func::Count if series.total_after(edge).count == 0 => return None,
        func => series.figure(func, figure.amount, edge),
    };
    Some(number.filter(|number| number.is_finite()).unwrap_or(f64::NAN))
}
