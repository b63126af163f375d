//! One metric's samples with one label set, kept once for all the windows that read them, and the running figures of those
//! windows.
//!
//! Invariant: samples are in order of their own time; a series that was ever filled keeps its newest sample until it is
//! forgotten. Nothing here grows without bound. A window's figures are those of exactly its samples.

mod figures;
mod packed;
mod samples;

use std::time::Duration;

use smallvec::SmallVec;

use self::figures::Figures;
pub(super) use self::figures::Wanted;
use self::samples::Samples;
use super::windows::{self, Total, Trend};
use crate::model::Timestamp;
use crate::script::{Amount, Func};

/// Samples kept per series; what goes beyond it is the oldest, and a window that long sees less.
pub(super) const MAX_SAMPLES: usize = 4096;
/// A window's sum is added up anew after so many samples have left it, or as many as it holds, whichever is more.
const MIN_TURN: u32 = 16;
/// A sample so many times larger than the rest of its window is an outlier: its leaving costs an addition of the rest.
const OUTLIER: f64 = 1e6;

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Sample {
    pub at: Timestamp,
    pub value: f64,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The first of its series.
    NewSeries,
    Known,
    /// Every window it could count in has closed, and a newer one is there.
    TooLate,
    /// The deployment has too many series already.
    TooManySeries,
}

/// Running figures of the samples after an edge that moves on with time.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Window {
    length: Duration,
    edge: Timestamp,
    /// How many samples lie at or before the edge.
    first: usize,
    total: Total,
    /// Samples that left since the sum was last added up anew.
    left: u32,
    /// Beyond the sum, where somebody reads them.
    figures: Option<Box<Figures>>,
}

/// Samples that room is made for at once, at a guess.
const LARGEST_GUESS: usize = 64;

/// The samples of one metric with one label set, oldest first.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Series {
    #[serde(with = "packed")]
    samples: Samples,
    /// Mostly one; in line, because every sample looks at it.
    windows: SmallVec<[Window; 1]>,
}

impl Series {
    /// Watches windows of exactly these lengths from now on.
    pub fn watch(&mut self, wanted: &[(Duration, Wanted)], now: Timestamp) {
        let mut before = std::mem::take(&mut self.windows);
        for (length, wanted) in wanted {
            let known = before.iter().position(|window| window.length == *length);
            let mut window = match known {
                Some(place) => before.swap_remove(place),
                None => Window::of(&self.samples, *length, now),
            };
            if window.figures.as_ref().map(|figures| figures.wanted).unwrap_or_default() != *wanted {
                window.figures = Figures::of(*wanted, self.samples.range(window.first..));
            }
            self.windows.push(window);
        }
    }

    /// What was not saved.
    pub fn link(&mut self) {
        for window in &mut self.windows {
            if let Some(figures) = &mut window.figures {
                figures.restore_order(self.samples.range(window.first..));
            }
        }
    }

    /// Puts a sample in its place; of two at the same instant the later arrival is the newer. What lies at or before
    /// `horizon` is no longer needed by any window.
    pub fn insert(&mut self, now: Timestamp, sample: Sample, horizon: Timestamp) -> Taken {
        if sample.at <= horizon && self.newest().is_some_and(|newest| newest.at >= sample.at) {
            return Taken::TooLate;
        }
        self.advance(now);
        if self.samples.is_full() {
            self.make_room(now.since(horizon));
        }
        let place = match self.newest() {
            Some(newest) if newest.at > sample.at => self.samples.place_after(sample.at),
            _ => self.samples.len(),
        };
        self.samples.insert(place, sample);
        for window in &mut self.windows {
            window.take_in(&self.samples, place);
        }
        let unneeded = |oldest: Sample| oldest.at <= horizon;
        while self.samples.len() > MAX_SAMPLES || (self.samples.len() > 1 && self.samples.front().is_some_and(unneeded))
        {
            let Some(oldest) = self.samples.pop_front() else { break };
            for window in &mut self.windows {
                window.lose(oldest, self.samples.front());
            }
        }
        Taken::Known
    }

    /// Room for as many samples as come within `kept` at the rhythm so far: to double it would leave holes behind that
    /// no other series fills, since all of them grow at once.
    fn make_room(&mut self, kept: Duration) {
        let held = self.samples.len();
        let span = self.samples.back().zip(self.samples.front()).map(|(newest, oldest)| newest.at.since(oldest.at));
        let between = span.map_or(0, |span| span.as_millis()) / (held.max(2) as u128 - 1);
        let expected =
            kept.as_millis().checked_div(between).map_or(0, |count| usize::try_from(count).unwrap_or(MAX_SAMPLES));
        // the first that leaves is there together with the one that comes
        let more = (expected + 2).saturating_sub(held).clamp(held / 2, held.max(LARGEST_GUESS));
        self.samples.reserve_exact(more.max(2));
    }

    /// Moves the windows on to `now`.
    pub fn advance(&mut self, now: Timestamp) {
        for window in &mut self.windows {
            window.advance(&self.samples, now);
        }
    }

    pub fn newest(&self) -> Option<Sample> {
        self.samples.back()
    }

    /// Those after `edge`, oldest first.
    pub fn after(&self, edge: Timestamp) -> impl DoubleEndedIterator<Item = Sample> + Clone + '_ {
        // a window's own edge is known; any other is looked for
        let known = self.windows.iter().find(|window| window.edge == edge).map(|window| window.first);
        let first = known.unwrap_or_else(|| self.samples.place_after(edge));
        self.samples.range(first..)
    }

    /// The window with this edge, and its figures beyond the sum.
    fn figures(&self, edge: Timestamp, func: Func) -> Option<&Figures> {
        let figures = self.windows.iter().find(|window| window.edge == edge)?.figures.as_deref()?;
        (figures.wanted.and(Wanted::of(func)) == figures.wanted).then_some(figures)
    }

    /// A number out of what lies after `edge`, for functions that give one out of a window; `amount` is the share of a
    /// quantile.
    pub fn figure(&self, func: Func, amount: Option<Amount>, edge: Timestamp) -> Option<f64> {
        let figures = || self.figures(edge, func);
        match func {
            Func::Avg => self.total_after(edge).average(),
            Func::Sum => Some(self.total_after(edge)).filter(|total| total.count > 0).map(|total| total.sum()),
            Func::Count => Some(self.total_after(edge).count as f64),
            Func::First => self.after(edge).next().map(|first| first.value),
            Func::Delta => {
                let mut samples = self.after(edge);
                let first = samples.next()?;
                Some(samples.next_back()?.value - first.value)
            }
            Func::Min => match figures() {
                Some(figures) => figures.min(),
                None => self.after(edge).map(|sample| sample.value).reduce(f64::min),
            },
            Func::Max => match figures() {
                Some(figures) => figures.max(),
                None => self.after(edge).map(|sample| sample.value).reduce(f64::max),
            },
            Func::Quantile | Func::P50 | Func::P90 | Func::P95 | Func::P99 => {
                let share = windows::share_of(func, amount);
                match figures() {
                    Some(figures) => figures.quantile(share),
                    None => windows::quantile(self.after(edge), share),
                }
            }
            Func::Increase => self.grown(edge, func),
            Func::Rate => {
                let mut samples = self.after(edge);
                let first = samples.next()?;
                let span = samples.next_back()?.at.since(first.at);
                self.grown(edge, func).filter(|_| !span.is_zero()).map(|grown| grown / span.as_secs_f64())
            }
            Func::Changes => {
                self.after(edge).next()?;
                match figures() {
                    Some(figures) => Some(figures.changes() as f64),
                    None => windows::changes(self.after(edge)),
                }
            }
            Func::Stddev => self.spread(edge).map(|(_, deviation)| deviation),
            Func::Zscore => {
                let newest = self.after(edge).next_back()?.value;
                // where all are the same none is unusual, and nothing can be said
                let (mean, deviation) = self.spread(edge).filter(|(_, deviation)| *deviation > 0.0)?;
                Some((newest - mean) / deviation)
            }
            Func::Slope => self.trend(edge).map(|trend| trend.slope),
            _ => None,
        }
    }

    fn grown(&self, edge: Timestamp, func: Func) -> Option<f64> {
        match self.figures(edge, func) {
            Some(figures) => figures.grown(),
            None => windows::grown(self.after(edge)),
        }
    }

    fn spread(&self, edge: Timestamp) -> Option<(f64, f64)> {
        let known = self.figures(edge, Func::Stddev).map(Figures::spread);
        known.and_then(Result::ok).unwrap_or_else(|| windows::spread(self.after(edge)))
    }

    /// The line through what lies after `edge`.
    pub fn trend(&self, edge: Timestamp) -> Option<Trend> {
        let mut samples = self.after(edge);
        let first = samples.next()?.at;
        let last = samples.next_back()?.at;
        let known = self.figures(edge, Func::Slope).map(|figures| figures.trend(first, last));
        known.and_then(Result::ok).unwrap_or_else(|| Trend::of(self.after(edge)))
    }

    /// Count and sum of what lies after `edge`.
    pub fn total_after(&self, edge: Timestamp) -> Total {
        match self.windows.iter().find(|window| window.edge == edge) {
            Some(window) => window.total,
            None => windows::total(self.after(edge)),
        }
    }

    /// When the next sample leaves one of the windows.
    pub fn next_to_leave(&self) -> Option<Timestamp> {
        let leaves = |window: &Window| Some(self.samples.get(window.first)?.at + window.length);
        self.windows.iter().filter_map(leaves).min()
    }
}

impl Window {
    fn of(samples: &Samples, length: Duration, now: Timestamp) -> Window {
        let edge = now - length;
        let first = samples.place_after(edge);
        let total = windows::total(samples.range(first..));
        Window { length, edge, first, total, left: 0, figures: None }
    }

    fn advance(&mut self, samples: &Samples, now: Timestamp) {
        let edge = now - self.length;
        if edge <= self.edge {
            return;
        }
        self.edge = edge;
        let mut outlier = false;
        while let Some(sample) = samples.get(self.first).filter(|sample| sample.at <= self.edge) {
            self.total.take_away(sample.value);
            if let Some(figures) = &mut self.figures {
                figures.take_away(sample, samples.get(self.first + 1));
            }
            self.first += 1;
            self.left += 1;
            // what is left beside an outlier of that size has lost its digits
            outlier |= sample.value.abs() > self.total.sum().abs() * OUTLIER;
        }
        let turned = self.left >= MIN_TURN && u64::from(self.left) >= self.total.count;
        if turned || (outlier && self.total.count > 0) {
            let rest = samples.range(self.first..);
            self.total = windows::total(rest.clone());
            if let Some(figures) = &mut self.figures {
                figures.turn(rest);
            }
            self.left = 0;
        }
    }

    /// The sample at this place is new.
    fn take_in(&mut self, samples: &Samples, place: usize) {
        let Some(sample) = samples.get(place) else { return };
        if sample.at <= self.edge {
            self.first += 1;
            return;
        }
        self.total.add(sample.value);
        let Some(figures) = &mut self.figures else { return };
        let before = place.checked_sub(1).filter(|before| *before >= self.first);
        figures.add(before.and_then(|before| samples.get(before)), sample, samples.get(place + 1));
    }

    /// The oldest sample is no longer kept.
    fn lose(&mut self, oldest: Sample, next: Option<Sample>) {
        if let Some(first) = self.first.checked_sub(1) {
            self.first = first;
            return;
        }
        self.total.take_away(oldest.value);
        if let Some(figures) = &mut self.figures {
            figures.take_away(oldest, next);
        }
    }
}

#[cfg(test)]
mod tests;
