//! Figures of a window beyond its sum, kept up to date as samples come and leave, so that asking for one does not look at
//! the samples again.
//!
//! Invariant: they are those of exactly the window's samples: the extremes and quantiles to the bit, what is summed as
//! closely as adding it up anew would give, for it is added up anew once per turn.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Sample;
use crate::engine::detect::windows::{Total, Trend, grown_between, quantile_of};
use crate::model::Timestamp;
use crate::script::Func;

/// Where the mean is so many times farther from the pivot than the samples are spread, squared, their squares have lost
/// too many digits: then they are added up anew for the one who asks.
const PIVOT_TOO_FAR: f64 = 1e6;

/// Which figures of a window somebody reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine::detect) struct Wanted {
    /// Extremes and quantiles.
    order: bool,
    /// Deviation and trend.
    moments: bool,
    /// From each sample to the next.
    steps: bool,
}

impl Wanted {
    pub fn of(func: Func) -> Wanted {
        let none = Wanted::default();
        match func {
            Func::Min | Func::Max | Func::Quantile | Func::P50 | Func::P90 | Func::P95 | Func::P99 => {
                Wanted { order: true, ..none }
            }
            Func::Stddev | Func::Zscore | Func::Slope | Func::Predict | Func::TimeTo => {
                Wanted { moments: true, ..none }
            }
            Func::Rate | Func::Increase | Func::Changes => Wanted { steps: true, ..none },
            _ => none,
        }
    }

    pub fn and(self, other: Wanted) -> Wanted {
        Wanted {
            order: self.order || other.order,
            moments: self.moments || other.moments,
            steps: self.steps || other.steps,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    pub wanted: Wanted,
    /// Values in order. What is saved are the samples.
    #[serde(skip)]
    order: Vec<f64>,
    moments: Moments,
    /// Growth from each sample to the next, a fall being a reset; counts the steps.
    grown: Total,
    changes: u64,
}

/// Sums about a pivot in value and time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Moments {
    pivot: f64,
    start: Timestamp,
    values: Total,
    squares: Total,
    times: Total,
    time_squares: Total,
    products: Total,
}

impl Figures {
    /// `None`: nobody reads any.
    pub fn of(wanted: Wanted, samples: impl Iterator<Item = Sample> + Clone) -> Option<Box<Figures>> {
        if wanted == Wanted::default() {
            return None;
        }
        let (grown, changes) = (Total::default(), 0);
        let mut figures = Figures { wanted, order: Vec::new(), moments: Moments::default(), grown, changes };
        figures.restore_order(samples.clone());
        figures.turn(samples);
        Some(Box::new(figures))
    }

    /// Adds up once more what loses digits as samples come and leave.
    pub fn turn(&mut self, samples: impl Iterator<Item = Sample> + Clone) {
        if self.wanted.moments {
            let mut total = Total::default();
            samples.clone().for_each(|sample| total.add(sample.value));
            let start = samples.clone().next().map_or(Timestamp::default(), |sample| sample.at);
            self.moments = Moments { pivot: total.average().unwrap_or(0.0), start, ..Moments::default() };
            samples.clone().for_each(|sample| self.moments.count(sample, Total::add));
        }
        if self.wanted.steps {
            (self.grown, self.changes) = (Total::default(), 0);
            let mut before = None;
            for sample in samples {
                self.step(before.replace(sample), Some(sample), Total::add);
            }
        }
    }

    /// What was not saved.
    pub fn restore_order(&mut self, samples: impl Iterator<Item = Sample>) {
        self.order.clear();
        if self.wanted.order {
            self.order.extend(samples.map(|sample| sample.value));
            self.order.sort_unstable_by(f64::total_cmp);
        }
    }

    /// A sample came between these two of the window.
    pub fn add(&mut self, before: Option<Sample>, sample: Sample, after: Option<Sample>) {
        if self.wanted.order {
            let place = self.place(sample.value).unwrap_or_else(|place| place);
            self.order.insert(place, sample.value);
        }
        if self.wanted.moments {
            self.moments.add(sample);
        }
        self.step(before, after, Total::take_away);
        self.step(before, Some(sample), Total::add);
        self.step(Some(sample), after, Total::add);
    }

    /// The oldest sample left; `next` is the oldest now.
    pub fn take_away(&mut self, sample: Sample, next: Option<Sample>) {
        if self.wanted.order
            && let Ok(place) = self.place(sample.value)
        {
            self.order.remove(place);
        }
        if self.wanted.moments {
            self.moments.take_away(sample);
        }
        self.step(Some(sample), next, Total::take_away);
    }

    fn place(&self, value: f64) -> Result<usize, usize> {
        self.order.binary_search_by(|own| own.total_cmp(&value))
    }

    fn step(&mut self, from: Option<Sample>, to: Option<Sample>, count: impl Fn(&mut Total, f64)) {
        let (Some(from), Some(to), true) = (from, to, self.wanted.steps) else { return };
        let before = self.grown.count;
        count(&mut self.grown, grown_between(from.value, to.value));
        if from.value != to.value {
            match self.grown.count.cmp(&before) {
                Ordering::Greater => self.changes += 1,
                _ => self.changes = self.changes.saturating_sub(1),
            }
        }
    }

    pub fn min(&self) -> Option<f64> {
        self.order.first().copied()
    }

    pub fn max(&self) -> Option<f64> {
        self.order.last().copied()
    }

    pub fn quantile(&self, share: f64) -> Option<f64> {
        quantile_of(&self.order, share)
    }

    /// Mean and standard deviation. `Err`: too many digits are lost.
    pub fn spread(&self) -> Result<Option<(f64, f64)>, ()> {
        self.moments.spread()
    }

    /// `Err`: too many digits are lost.
    pub fn trend(&self, first: Timestamp, last: Timestamp) -> Result<Option<Trend>, ()> {
        self.moments.trend(first, last)
    }

    /// How much a counter grew; `None` below two samples.
    pub fn grown(&self) -> Option<f64> {
        (self.grown.count > 0).then(|| self.grown.sum())
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }
}

impl Moments {
    fn add(&mut self, sample: Sample) {
        if self.values.count == 0 {
            (self.pivot, self.start) = (sample.value, sample.at);
        }
        self.count(sample, Total::add);
    }

    fn take_away(&mut self, sample: Sample) {
        self.count(sample, Total::take_away);
    }

    fn count(&mut self, sample: Sample, count: impl Fn(&mut Total, f64)) {
        let value = sample.value - self.pivot;
        let millis = sample.at.as_millis().saturating_sub(self.start.as_millis());
        let time = Duration::from_millis(millis.unsigned_abs()).as_secs_f64() * millis.signum() as f64;
        count(&mut self.values, value);
        count(&mut self.squares, value * value);
        count(&mut self.times, time);
        count(&mut self.time_squares, time * time);
        count(&mut self.products, time * value);
    }

    fn spread(&self) -> Result<Option<(f64, f64)>, ()> {
        let (Some(mean), Some(square)) = (self.values.average(), self.squares.average()) else { return Ok(None) };
        let variance = square - mean * mean;
        match mean * mean > variance * PIVOT_TOO_FAR || !variance.is_finite() {
            // all the same as the pivot is no loss
            true if mean != 0.0 || !variance.is_finite() => Err(()),
            _ => Ok(Some((self.pivot + mean, libm::sqrt(variance.max(0.0))))),
        }
    }

    fn trend(&self, first: Timestamp, last: Timestamp) -> Result<Option<Trend>, ()> {
        self.spread()?;
        let count = self.values.count as f64;
        let (Some(mean_time), Some(mean_value)) = (self.times.average(), self.values.average()) else {
            return Ok(None);
        };
        let alone = self.time_squares.sum() - mean_time * mean_time * count;
        if first == last {
            return Ok(None);
        }
        let together = self.products.sum() - mean_time * mean_value * count;
        let shift = self.start.as_millis().saturating_sub(first.as_millis()) as f64 / 1e3;
        Ok(Some(Trend::new(first, last, mean_time + shift, self.pivot + mean_value, together / alone)))
    }
}
