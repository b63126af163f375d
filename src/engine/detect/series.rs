//! The samples of one metric with one set of labels, in order of their own time.
//!
//! Invariant: at most [`MAX_SAMPLES`] samples, the newest among them, and every value is finite.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Timestamp;

/// Beyond so many the oldest go first, whatever the windows.
pub const MAX_SAMPLES: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub struct Series {
    samples: VecDeque<(Timestamp, f64)>,
}

/// The part of a series that a question may see: after `from` (exclusive), up to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Series {
    /// Takes a sample in at its own time; one of the same instant is replaced. Samples older than `keep` go, but never
    /// the newest.
    pub fn push(&mut self, at: Timestamp, value: f64, keep: Duration) {
        let place = self.samples.partition_point(|(other, _)| *other < at);
        match self.samples.get_mut(place) {
            Some(same) if same.0 == at => same.1 = value,
            _ => self.samples.insert(place, (at, value)),
        }
        let Some((newest, _)) = self.newest() else { return };
        while self.samples.len() > 1
            && (self.samples.len() > MAX_SAMPLES
                || self.samples.front().is_some_and(|(at, _)| newest.since(*at) > keep))
        {
            self.samples.pop_front();
        }
    }

    pub fn newest(&self) -> Option<(Timestamp, f64)> {
        self.samples.back().copied()
    }

    /// The newest sample that the span holds.
    pub fn newest_in(&self, span: Span) -> Option<(Timestamp, f64)> {
        self.within(span).next_back()
    }

    pub fn within(&self, span: Span) -> impl DoubleEndedIterator<Item = (Timestamp, f64)> + '_ {
        let from = self.samples.partition_point(|(at, _)| *at <= span.from);
        let to = self.samples.partition_point(|(at, _)| *at <= span.to);
        self.samples.range(from.min(to)..to).copied()
    }

    /// How much a counter grew per second between the first and the last sample of the span; a value below the one
    /// before is a reset, after which it grew from zero. Needs two samples.
    pub fn rate(&self, span: Span) -> Option<f64> {
        let mut samples = self.within(span);
        let first = samples.next()?;
        let (mut last, mut grown) = (first, 0.0);
        for sample in samples {
            grown += if sample.1 < last.1 { sample.1 } else { sample.1 - last.1 };
            last = sample;
        }
        let seconds = last.0.since(first.0).as_secs_f64();
        (seconds > 0.0).then(|| grown / seconds)
    }

    /// The last value of the span less the first. Needs two samples.
    pub fn delta(&self, span: Span) -> Option<f64> {
        let mut samples = self.within(span);
        let first = samples.next()?;
        samples.next_back().map(|last| last.1 - first.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn series(samples: &[(i64, f64)]) -> Series {
        let mut series = Series::default();
        samples.iter().for_each(|(seconds, value)| series.push(at(*seconds), *value, KEEP));
        series
    }

    #[test]
    fn a_window_holds_what_came_after_its_beginning_whenever_it_arrived() {
        let series = series(&[(10, 1.0), (30, 3.0), (20, 2.0), (40, 4.0)]);
        let seen: Vec<f64> = series.within(Span { from: at(10), to: at(30) }).map(|(_, value)| value).collect();
        assert_eq!(seen, [2.0, 3.0]);
        assert_eq!(series.newest(), Some((at(40), 4.0)));
        assert_eq!(series.newest_in(Span { from: at(40), to: at(90) }), None);
    }

    #[test]
    fn a_counter_that_starts_anew_has_not_gone_back() {
        let counter = series(&[(0, 100.0), (10, 150.0), (20, 20.0), (30, 40.0)]);
        assert_eq!(counter.rate(Span { from: at(-1), to: at(30) }), Some(90.0 / 30.0));
        assert_eq!(counter.delta(Span { from: at(-1), to: at(30) }), Some(-60.0));
        assert_eq!(counter.rate(Span { from: at(20), to: at(30) }), None, "one sample is no rate");
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let mut long = Series::default();
        (0..10_000).for_each(|second| long.push(at(second), second as f64, Duration::from_secs(1_000_000)));
        assert_eq!(long.within(Span { from: Timestamp::MIN, to: Timestamp::MAX }).count(), MAX_SAMPLES);
        let old = series(&[(0, 1.0), (10_000, 2.0)]);
        assert_eq!(old.within(Span { from: Timestamp::MIN, to: Timestamp::MAX }).count(), 1);
    }
}
