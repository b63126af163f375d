//! One metric's samples with one label set, kept once for all the windows that read them, and the running figures of those
//! windows.
//!
//! Invariant: samples are in order of their own time; a series that was ever filled keeps its newest sample until it is
//! forgotten. Nothing here grows without bound. A window's figures are those of exactly its samples; where more come within
//! it than a series keeps, it slides by a small share of its length.

mod figures;
mod older;
mod packed;
mod samples;

use std::time::Duration;

use self::figures::Figures;
pub(super) use self::figures::Wanted;
use self::older::Bunch;
pub(super) use self::older::SLIDES;
use self::samples::Samples;
use super::few::Few;
use super::windows::{self, Total, Trend};
use selfheal_model::Timestamp;
use selfheal_script::{Amount, Func};

/// Samples kept per series; what goes beyond it is the oldest, which the windows it lies in draw together.
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
    edge: Timestamp,
    total: Total,
    /// Beyond the sum, where somebody reads them or a sample is no longer kept as it came.
    figures: Option<Box<Figures>>,
    #[serde(with = "length")]
    length: Length,
    /// How many samples lie at or before the edge.
    first: u32,
    /// Samples that left since the sum was last added up anew.
    left: u32,
}

/// Of a window, in milliseconds.
type Length = u32;

/// The longest window that has running figures: no sample is kept for longer.
pub(super) const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// Saved as any duration.
mod length {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Length;

    pub fn serialize<S: Serializer>(length: &Length, serializer: S) -> Result<S::Ok, S::Error> {
        Duration::from_millis(u64::from(*length)).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Length, D::Error> {
        Duration::deserialize(deserializer).map(super::in_millis)
    }
}

fn in_millis(length: Duration) -> Length {
    Length::try_from(length.as_millis()).unwrap_or(Length::MAX)
}

/// Samples that room is made for at once, at a guess.
const LARGEST_GUESS: usize = 64;

/// The samples of one metric with one label set, oldest first.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Series {
    #[serde(with = "packed")]
    samples: Samples,
    /// Mostly one; in line, because every sample looks at it.
    windows: Few<Window>,
}

impl Series {
    /// Watches windows of exactly these lengths from now on.
    pub fn watch(&mut self, wanted: &[(Duration, Wanted)], now: Timestamp) {
        let mut before = std::mem::take(&mut self.windows).into_vec();
        let mut windows = Vec::with_capacity(wanted.len());
        for (length, wanted) in wanted {
            let known = before.iter().position(|window| window.length == in_millis(*length));
            let mut window = match known {
                Some(place) => before.swap_remove(place),
                None => Window::of(&self.samples, *length, now),
            };
            window.want(*wanted, &self.samples);
            windows.push(window);
        }
        self.windows = windows.into();
    }

    /// What was not saved.
    pub fn link(&mut self) {
        for window in self.windows.iter_mut() {
            if let Some(figures) = &mut window.figures {
                figures.restore_order(self.samples.range(window.first as usize..));
                if let Some(older) = &mut figures.older {
                    older.link();
                }
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
        // before the new one is in, so that there need be no room for both
        while self.samples.front().is_some_and(|oldest| oldest.at <= horizon) {
            self.lose_oldest(false);
        }
        if self.samples.is_full() {
            self.make_room(now.since(horizon));
        }
        let place = match self.newest() {
            Some(newest) if newest.at > sample.at => self.samples.place_after(sample.at),
            _ => self.samples.len(),
        };
        self.samples.insert(place, sample);
        for window in self.windows.iter_mut() {
            window.take_in(&self.samples, place);
        }
        while self.samples.len() > MAX_SAMPLES {
            self.lose_oldest(true);
        }
        Taken::Known
    }

    /// The oldest sample is no longer kept; `is_beyond`: because there are too many, not because nobody needs it.
    fn lose_oldest(&mut self, is_beyond: bool) {
        let Some(oldest) = self.samples.pop_front() else { return };
        for window in self.windows.iter_mut() {
            window.lose(oldest, self.samples.front(), is_beyond);
        }
    }

    /// Room for as many samples as come within `kept` at the rhythm so far: to double it would leave holes behind that
    /// no other series fills, since all of them grow at once.
    fn make_room(&mut self, kept: Duration) {
        let held = self.samples.len();
        let span = self.samples.back().zip(self.samples.front()).map(|(newest, oldest)| newest.at.since(oldest.at));
        let between = span.map_or(0, |span| span.as_millis()) / (held.max(2) as u128 - 1);
        let expected =
            kept.as_millis().checked_div(between).map_or(0, |count| usize::try_from(count).unwrap_or(MAX_SAMPLES));
        // what comes a little early or late may be one more
        let more = (expected + 1).saturating_sub(held).clamp(held / 2, held.max(LARGEST_GUESS));
        self.samples.reserve_exact(more.max(2));
    }

    /// Moves the windows on to `now`.
    pub fn advance(&mut self, now: Timestamp) {
        for window in self.windows.iter_mut() {
            window.advance(&self.samples, now);
        }
    }

    pub fn newest(&self) -> Option<Sample> {
        self.samples.back()
    }

    fn window(&self, edge: Timestamp) -> Option<&Window> {
        self.windows.iter().find(|window| window.edge == edge)
    }

    /// Those after `edge` that are kept as they came, oldest first.
    pub fn after(&self, edge: Timestamp) -> impl DoubleEndedIterator<Item = Sample> + Clone + '_ {
        // a window's own edge is known; any other is looked for
        let known = self.window(edge).map(|window| window.first as usize);
        let first = known.unwrap_or_else(|| self.samples.place_after(edge));
        self.samples.range(first..)
    }

    /// The oldest sample after `edge`; of what is drawn together the oldest that still counts.
    pub fn oldest_after(&self, edge: Timestamp) -> Option<Sample> {
        let older = self.window(edge).and_then(Window::older).map(|bunch| bunch.first);
        older.or_else(|| self.after(edge).next())
    }

    /// The sample with which what lies after `edge` first becomes less.
    pub fn first_to_leave(&self, edge: Timestamp) -> Option<Sample> {
        let older = self.window(edge).and_then(Window::older).map(|bunch| bunch.last);
        older.or_else(|| self.after(edge).next())
    }

    /// The window with this edge, and its figures beyond the sum.
    fn figures(&self, edge: Timestamp, func: Func) -> Option<&Figures> {
        let figures = self.window(edge)?.figures.as_deref()?;
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
            Func::First => self.oldest_after(edge).map(|first| first.value),
            Func::Delta => {
                let (first, last) = self.ends(edge)?;
                Some(last.value - first.value)
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
                let (first, last) = self.ends(edge)?;
                let span = last.at.since(first.at);
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

    /// The first and the last after `edge`, if there are two.
    fn ends(&self, edge: Timestamp) -> Option<(Sample, Sample)> {
        let mut kept = self.after(edge);
        let older = self.window(edge).and_then(Window::older).map(|bunch| bunch.first);
        let first = older.or_else(|| kept.next())?;
        Some((first, kept.next_back()?))
    }

    fn grown(&self, edge: Timestamp, func: Func) -> Option<f64> {
        match self.figures(edge, func) {
            Some(figures) => figures.grown(),
            None => windows::grown(self.after(edge)),
        }
    }

    fn spread(&self, edge: Timestamp) -> Option<(f64, f64)> {
        let Some(figures) = self.figures(edge, Func::Stddev) else { return windows::spread(self.after(edge)) };
        figures.spread().unwrap_or_else(|()| match figures.older {
            None => windows::spread(self.after(edge)),
            Some(_) => figures.anew(edge, self.after(edge)).deviation(),
        })
    }

    /// The line through what lies after `edge`.
    pub fn trend(&self, edge: Timestamp) -> Option<Trend> {
        let (first, last) = self.ends(edge)?;
        let (first, last) = (first.at, last.at);
        let Some(figures) = self.figures(edge, Func::Slope) else { return Trend::of(self.after(edge)) };
        figures.trend(first, last).unwrap_or_else(|()| match figures.older {
            None => Trend::of(self.after(edge)),
            Some(_) => figures.anew(first, self.after(edge)).trend(first, last),
        })
    }

    /// Count and sum of what lies after `edge`.
    pub fn total_after(&self, edge: Timestamp) -> Total {
        match self.window(edge) {
            Some(window) => window.total,
            None => windows::total(self.after(edge)),
        }
    }

    /// Reads what is in here itself.
    pub fn touch(&self) -> i64 {
        self.samples.len() as i64 ^ self.windows.first().map_or(0, |window| window.edge.as_millis())
    }

    /// When the next sample leaves one of the windows.
    pub fn next_to_leave(&self) -> Option<Timestamp> {
        let leaves = |window: &Window| {
            let first = window.older().map(|bunch| bunch.last).or_else(|| self.samples.get(window.first as usize))?;
            Some(Timestamp::from_millis(first.at.as_millis().saturating_add(i64::from(window.length))))
        };
        self.windows.iter().filter_map(leaves).min()
    }
}

impl Window {
    fn of(samples: &Samples, length: Duration, now: Timestamp) -> Window {
        let edge = now - length;
        let first = samples.place_after(edge);
        let total = windows::total(samples.range(first..));
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        Window { length: in_millis(length), edge, first, total, left: 0, figures: None }
    }

    /// These of its figures are read from now on.
    fn want(&mut self, wanted: Wanted, samples: &Samples) {
        let before = self.figures.as_ref().map(|figures| figures.wanted).unwrap_or_default();
        let older = self.figures.as_mut().and_then(|figures| figures.older.take());
        // what is drawn together gives the figures it was drawn together for, and no others
        let keep = before == wanted || (older.is_some() && before.and(wanted) == before);
        if !keep {
            self.figures = Figures::of(wanted, samples.range(self.first as usize..));
        }
        if let Some(mut older) = older {
            if !keep {
                older.forget_more();
            }
            self.figures.get_or_insert_with(|| Box::new(Figures::nothing(wanted))).older = Some(older);
        }
    }

    /// The first of what is drawn together.
    fn older(&self) -> Option<&Bunch> {
        self.figures.as_ref()?.older.as_ref()?.first()
    }

    fn advance(&mut self, samples: &Samples, now: Timestamp) {
        let edge = Timestamp::from_millis(now.as_millis().saturating_sub(i64::from(self.length)));
        if edge <= self.edge {
            return;
        }
        self.edge = edge;
        let mut outlier = false;
        if self.figures.as_ref().is_some_and(|figures| figures.older.is_some()) {
            outlier |= self.lose_older(samples);
        }
        while let Some(sample) = samples.get(self.first as usize).filter(|sample| sample.at <= self.edge) {
            self.total.take_away(sample.value);
            if let Some(figures) = &mut self.figures {
                figures.take_away(sample, samples.get(self.first as usize + 1));
            }
            self.first += 1;
            self.left += 1;
            // what is left beside an outlier of that size has lost its digits
            outlier |= sample.value.abs() > self.total.sum().abs() * OUTLIER;
        }
        let turned = self.left >= MIN_TURN && u64::from(self.left) >= self.total.count;
        if turned || (outlier && self.total.count > 0) {
            let rest = samples.range(self.first as usize..);
            self.total = windows::total(rest.clone());
            if let Some(figures) = &mut self.figures {
                figures.older.iter().flat_map(|older| older.bunches()).for_each(|bunch| self.total.join(bunch.total));
                figures.turn(rest);
            }
            self.left = 0;
        }
    }

    /// What is drawn together and wholly at or before the edge leaves; whether there was an outlier in it.
    fn lose_older(&mut self, samples: &Samples) -> bool {
        let mut outlier = false;
        let Some(figures) = &mut self.figures else { return false };
        while let Some(gone) = figures.leave(self.edge, samples.get(self.first as usize)) {
            self.total.leave(gone.total);
            self.left = self.left.saturating_add(u32::try_from(gone.total.count).unwrap_or(u32::MAX));
            outlier |= gone.total.sum().abs() > self.total.sum().abs() * OUTLIER;
        }
        if figures.is_idle() {
            self.figures = None;
        }
        outlier
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
        let after = samples.get(place + 1);
        match place.checked_sub(1).filter(|before| *before >= self.first as usize) {
            Some(before) => figures.add(samples.get(before), sample, after),
            None => figures.add_first(sample, after),
        }
    }

    /// The oldest sample is no longer kept; `is_beyond`: because there are too many, not because nobody needs it.
    fn lose(&mut self, oldest: Sample, next: Option<Sample>, is_beyond: bool) {
        if let Some(first) = self.first.checked_sub(1) {
            self.first = first;
            return;
        }
        if is_beyond {
            let figures = self.figures.get_or_insert_with(|| Box::new(Figures::nothing(Wanted::default())));
            if !figures.draw_together(oldest, i64::from(self.length)) {
                self.total.take_away(oldest.value);
            }
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
