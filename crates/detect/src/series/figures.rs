//! Figures of a window beyond its sum, kept up to date as samples come and leave, so that asking for one does not look at
//! the samples again.
//!
//! Invariant: they are those of exactly the window's samples: the extremes and quantiles to the bit, what is summed as
//! closely as adding it up anew would give, for it is added up anew once per turn. Of what is drawn together in [`Older`]
//! quantiles are as near as its sizes.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Sample;
use super::older::{Bunch, More, Next, Older, Place};
use crate::windows::{Spread, Total, Trend, grown_between, quantile_by, quantile_of, seconds_between};
use selfheal_model::Timestamp;
use selfheal_script::Func;

/// Where the mean is so many times farther from the pivot than the samples are spread, squared, their squares have lost
/// too many digits: then they are added up anew for the one who asks.
const PIVOT_TOO_FAR: f64 = 1e6;

/// Which figures of a window somebody reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Extremes and quantiles.
    order: bool,
    /// Deviation and trend.
    moments: bool,
    /// From each sample to the next.
    steps: bool,
}

impl Wanted {
    pub fn is_any(self) -> bool {
        self != Wanted::default()
    }

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
    /// What of the window is no longer kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older: Option<Box<Older>>,
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
        wanted.is_any().then(|| {
            let mut figures = Figures::nothing(wanted);
            figures.restore_order(samples.clone());
            figures.turn(samples);
            Box::new(figures)
        })
    }

    pub fn nothing(wanted: Wanted) -> Figures {
        let (order, moments, grown) = (Vec::new(), Moments::default(), Total::default());
        Figures { wanted, order, moments, grown, changes: 0, older: None }
    }

    fn older_known(&self) -> impl Iterator<Item = &Bunch> {
        self.older.iter().flat_map(|older| older.bunches())
    }

    /// Adds up once more what loses digits as samples come and leave.
    pub fn turn(&mut self, samples: impl Iterator<Item = Sample> + Clone) {
        if self.wanted.moments {
            let known = || self.older_known().filter_map(|bunch| bunch.more.as_deref());
            let mut total = Total::default();
            known().for_each(|more| total.add_many(more.spread.mean * more.spread.count as f64, more.spread.count));
            samples.clone().for_each(|sample| total.add(sample.value));
            let kept = || samples.clone().next().map(|sample| sample.at);
            let start = known().next().map(|more| more.start).or_else(kept).unwrap_or_default();
            let mut moments = Moments { pivot: total.average().unwrap_or(0.0), start, ..Moments::default() };
            known().for_each(|more| moments.count_many(more, Total::add_many));
            samples.clone().for_each(|sample| moments.count(sample, Total::add));
            self.moments = moments;
        }
        if self.wanted.steps {
            (self.grown, self.changes) = (Total::default(), 0);
            let mut before = None;
            let older = self.older.take();
            for bunch in older.iter().flat_map(|older| older.bunches()) {
                let Some(more) = bunch.more.as_deref() else { continue };
                self.step(before.replace(bunch.last), Some(bunch.first), Total::add);
                self.grown.join(more.grown);
                self.changes += more.changes;
            }
            self.older = older;
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
        self.add_value(sample);
        self.step(before, after, Total::take_away);
        self.step(before, Some(sample), Total::add);
        self.step(Some(sample), after, Total::add);
    }

    /// A sample came before all that are kept, the first of which is `kept`.
    pub fn add_first(&mut self, sample: Sample, kept: Option<Sample>) {
        let more = self.wanted.is_any();
        match self.older.as_ref().map(|older| older.place(sample.at, more)) {
            None => self.add(None, sample, kept),
            Some(Place::Between(before, Next::Kept)) => self.add(before, sample, kept),
            Some(Place::Between(before, Next::Bunch(after))) => self.add(before, sample, after),
            Some(Place::Within | Place::Nowhere) => self.add_value(sample),
        }
    }

    fn add_value(&mut self, sample: Sample) {
        if self.wanted.order {
            let place = self.place(sample.value).unwrap_or_else(|place| place);
            self.order.insert(place, sample.value);
        }
        if self.wanted.moments {
            self.moments.add(sample);
        }
    }

    fn take_value(&mut self, sample: Sample) {
        if self.wanted.moments {
            self.moments.take_away(sample);
        }
        self.take_order(sample.value);
    }

    fn take_order(&mut self, value: f64) {
        if self.wanted.order
            && let Ok(place) = self.place(value)
        {
            self.order.remove(place);
        }
    }

    /// The oldest sample left; `next` is the oldest now.
    pub fn take_away(&mut self, sample: Sample, next: Option<Sample>) {
        self.take_value(sample);
        self.step(Some(sample), next, Total::take_away);
    }

    /// The oldest sample is no longer kept as it came; whether it still counts.
    pub fn draw_together(&mut self, sample: Sample, length_ms: i64) -> bool {
        let wanted = self.wanted;
        let older = self.older.get_or_insert_with(|| Box::new(Older::new(length_ms)));
        let counts = older.take_in(sample, wanted.is_any(), wanted.order);
        if counts {
            self.take_order(sample.value);
        } else {
            self.take_value(sample);
        }
        counts
    }

    /// Takes out the oldest bunch if nothing of it is after `edge`; `kept` is the oldest sample that is kept.
    pub fn leave(&mut self, edge: Timestamp, kept: Option<Sample>) -> Option<Bunch> {
        let older = self.older.as_mut()?;
        let Some(gone) = older.leave(edge) else {
            if older.is_empty() {
                self.older = None;
            }
            return None;
        };
        let next = match older.first() {
            Some(bunch) => bunch.more.is_some().then_some(bunch.first),
            None => kept,
        };
        if let Some(more) = &gone.more {
            if self.wanted.moments {
                self.moments.count_many(more, Total::take_many);
            }
            if self.wanted.steps {
                self.grown.leave(more.grown);
                self.changes = self.changes.saturating_sub(more.changes);
                self.step(Some(gone.last), next, Total::take_away);
            }
        }
        Some(gone)
    }

    /// Whether there is nothing to keep this for.
    pub fn is_idle(&self) -> bool {
        self.older.is_none() && !self.wanted.is_any()
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
        let older = self.older.as_ref().and_then(|older| Some(older.extremes()?.0));
        self.order.first().copied().into_iter().chain(older).reduce(f64::min)
    }

    pub fn max(&self) -> Option<f64> {
        let older = self.older.as_ref().and_then(|older| Some(older.extremes()?.1));
        self.order.last().copied().into_iter().chain(older).reduce(f64::max)
    }

    pub fn quantile(&self, share: f64) -> Option<f64> {
        let Some(older) = &self.older else { return quantile_of(&self.order, share) };
        let told = quantile_by(self.order.len() + older.sized(), share, |place| older.ranked(&self.order, place))?;
        Some(told.clamp(self.min()?, self.max()?))
    }

    /// Added up anew, over what is drawn together and what is kept; times are after `first`.
    pub fn anew(&self, first: Timestamp, samples: impl Iterator<Item = Sample>) -> Spread {
        let mut all = Spread::default();
        let known = self.older_known().filter_map(|bunch| bunch.more.as_deref());
        known.for_each(|more| all.join(more.spread.after(more.start, first)));
        samples.for_each(|sample| all.add(seconds_between(first, sample.at), sample.value));
        all
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
        let time = seconds_between(self.start, sample.at);
        count(&mut self.values, value);
        count(&mut self.squares, value * value);
        count(&mut self.times, time);
        count(&mut self.time_squares, time * time);
        count(&mut self.products, time * value);
    }

    fn count_many(&mut self, more: &More, count: impl Fn(&mut Total, f64, u64)) {
        let own = more.spread.after(more.start, self.start);
        let (many, value, time) = (own.count as f64, own.mean - self.pivot, own.mean_time);
        count(&mut self.values, many * value, own.count);
        count(&mut self.squares, own.squares + many * value * value, own.count);
        count(&mut self.times, many * time, own.count);
        count(&mut self.time_squares, own.time_squares + many * time * time, own.count);
        count(&mut self.products, own.products + many * time * value, own.count);
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
