//! Arithmetic over the samples of a window. Each function says nothing where there is too little data.

use std::time::Duration;

use super::series::Sample;
use selfheal_model::Timestamp;
use selfheal_script::{Amount, Func};

/// Sums without losing small values beside large ones (Neumaier): plain addition is wrong after one outlier.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Total {
    sum: f64,
    lost: f64,
    pub count: u64,
}

impl Total {
    pub fn add(&mut self, value: f64) {
        self.sum_up(value);
        self.count += 1;
    }

    /// What was added once.
    pub fn take_away(&mut self, value: f64) {
        self.count -= 1;
        if self.count == 0 {
            *self = Total::default();
        } else {
            self.sum_up(-value);
        }
    }

    /// So many values with this sum.
    pub fn add_many(&mut self, sum: f64, count: u64) {
        self.sum_up(sum);
        self.count += count;
    }

    /// What was added once.
    pub fn take_many(&mut self, sum: f64, count: u64) {
        self.count = self.count.saturating_sub(count);
        if self.count == 0 {
            *self = Total::default();
        } else {
            self.sum_up(-sum);
        }
    }

    /// What was joined once, or added one by one.
    pub fn leave(&mut self, other: Total) {
        self.take_many(other.sum, other.count);
        if self.count > 0 {
            self.sum_up(-other.lost);
        }
    }

    /// Both totals together.
    pub fn join(&mut self, other: Total) {
        self.sum_up(other.sum);
        self.sum_up(other.lost);
        self.count += other.count;
    }

    fn sum_up(&mut self, value: f64) {
        let next = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() { (self.sum - next) + value } else { (value - next) + self.sum };
        self.sum = next;
    }

    pub fn sum(&self) -> f64 {
        self.sum + self.lost
    }

    pub fn average(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum() / self.count as f64)
    }
}

pub(super) fn total(samples: impl Iterator<Item = Sample>) -> Total {
    let mut total = Total::default();
    samples.for_each(|sample| total.add(sample.value));
    total
}

/// From one sample of a counter to the next. A fall is a reset: the counter began again at zero.
pub(super) fn grown_between(before: f64, after: f64) -> f64 {
    if after < before { after } else { after - before }
}

/// How much a counter grew.
pub(super) fn grown(samples: impl Iterator<Item = Sample>) -> Option<f64> {
    let mut grown = Total::default();
    let mut last: Option<Sample> = None;
    for sample in samples {
        if let Some(before) = last {
            grown.add(grown_between(before.value, sample.value));
        }
        last = Some(sample);
    }
    (grown.count > 0).then(|| grown.sum())
}

/// How often the value became another one.
pub(super) fn changes(samples: impl Iterator<Item = Sample>) -> Option<f64> {
    let (mut count, mut last) = (0_u32, None);
    for Sample { value, .. } in samples {
        count += u32::from(last.is_some_and(|last| last != value));
        last = Some(value);
    }
    last.map(|_| f64::from(count))
}

/// Mean and standard deviation of the samples as a whole population, about the mean so that large values keep their
/// digits; the deviation of one is 0.
pub(super) fn spread(samples: impl Iterator<Item = Sample> + Clone) -> Option<(f64, f64)> {
    let mean = total(samples.clone()).average()?;
    let mut squares = Total::default();
    samples.for_each(|sample| squares.add((sample.value - mean) * (sample.value - mean)));
    Some((mean, libm::sqrt(squares.average()?.max(0.0))))
}

/// Seconds from one instant to another, negative where that is the earlier.
pub(super) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    let millis = to.as_millis().saturating_sub(from.as_millis());
    Duration::from_millis(millis.unsigned_abs()).as_secs_f64() * millis.signum() as f64
}

/// Means of values and of their times, and the sums of squares about them (Welford): what many samples are to a deviation or
/// a trend.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Spread {
    pub count: u64,
    pub mean: f64,
    pub squares: f64,
    /// In seconds after an instant the owner knows.
    pub mean_time: f64,
    pub time_squares: f64,
    pub products: f64,
}

impl Spread {
    pub fn add(&mut self, time: f64, value: f64) {
        self.join(Spread { count: 1, mean: value, mean_time: time, ..Spread::default() });
    }

    /// Both together; the times of both are after the same instant.
    pub fn join(&mut self, other: Spread) {
        let count = self.count + other.count;
        if self.count == 0 || other.count == 0 {
            *self = if self.count == 0 { other } else { *self };
            return;
        }
        let (share, weight) =
            (other.count as f64 / count as f64, self.count as f64 * other.count as f64 / count as f64);
        let (value, time) = (other.mean - self.mean, other.mean_time - self.mean_time);
        self.mean += value * share;
        self.mean_time += time * share;
        self.squares += other.squares + value * value * weight;
        self.time_squares += other.time_squares + time * time * weight;
        self.products += other.products + value * time * weight;
        self.count = count;
    }

    /// Its times are after `start`, and come to be after another instant.
    pub fn after(self, start: Timestamp, other: Timestamp) -> Spread {
        Spread { mean_time: self.mean_time + seconds_between(other, start), ..self }
    }

    /// Mean and standard deviation.
    pub fn deviation(&self) -> Option<(f64, f64)> {
        (self.count > 0).then(|| (self.mean, libm::sqrt((self.squares / self.count as f64).max(0.0))))
    }

    /// `None` below two instants.
    pub fn trend(&self, first: Timestamp, last: Timestamp) -> Option<Trend> {
        let slope = (self.time_squares > 0.0).then(|| self.products / self.time_squares)?;
        Some(Trend::new(first, last, self.mean_time, self.mean, slope))
    }
}

/// The value below which this share of the samples lies, interpolated between the two nearest.
pub(super) fn quantile(samples: impl Iterator<Item = Sample>, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = samples.map(|sample| sample.value).collect();
    values.sort_unstable_by(f64::total_cmp);
    quantile_of(&values, share)
}

/// As [`quantile`], of values in order.
pub(super) fn quantile_of(values: &[f64], share: f64) -> Option<f64> {
    quantile_by(values.len(), share, |place| values.get(place).copied())
}

/// As [`quantile`], of so many values by their place in order.
pub(super) fn quantile_by(count: usize, share: f64, at: impl Fn(usize) -> Option<f64>) -> Option<f64> {
    let place = share * (count.checked_sub(1)? as f64);
    let below = at(place as usize)?;
    let above = at(place as usize + 1).unwrap_or(below);
    Some(below + (above - below) * place.fract())
}

/// Of a percentile, or as asked.
pub(super) fn share_of(func: Func, amount: Option<Amount>) -> f64 {
    match func {
        Func::Quantile => amount.map_or(0.5, Amount::get),
        Func::P50 => 0.5,
        Func::P90 => 0.9,
        Func::P95 => 0.95,
        _ => 0.99,
    }
}

/// Seconds of a `time_to` that never comes: some 30 million years. A number, so that comparing with it is known, and finite, so
/// that calculating with it is.
pub(super) const NEVER: f64 = 1e15;

/// The line through samples by least squares, about the middle of both so that large values keep their digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    first: Timestamp,
    last: Timestamp,
    /// Seconds after the first.
    mean_time: f64,
    mean_value: f64,
    /// Per second.
    pub slope: f64,
}

impl Trend {
    pub fn new(first: Timestamp, last: Timestamp, mean_time: f64, mean_value: f64, slope: f64) -> Trend {
        Trend { first, last, mean_time, mean_value, slope }
    }

    /// `None` below two instants.
    pub fn of(samples: impl Iterator<Item = Sample>) -> Option<Trend> {
        let samples: Vec<Sample> = samples.collect();
        let (first, last) = (samples.first()?.at, samples.last()?.at);
        let after = |sample: &Sample| sample.at.since(first).as_secs_f64();
        let mean_of = |of: &dyn Fn(&Sample) -> f64| {
            let mut total = Total::default();
            samples.iter().for_each(|sample| total.add(of(sample)));
            total.average()
        };
        let (mean_time, mean_value) = (mean_of(&after)?, mean_of(&|sample| sample.value)?);
        let (mut together, mut alone) = (Total::default(), Total::default());
        for sample in &samples {
            let time = after(sample) - mean_time;
            together.add(time * (sample.value - mean_value));
            alone.add(time * time);
        }
        let slope = (alone.sum() > 0.0).then(|| together.sum() / alone.sum())?;
        Some(Trend { first, last, mean_time, mean_value, slope })
    }

    /// What the line says of an instant, and of so many seconds after it.
    pub fn at(&self, at: Timestamp, ahead: f64) -> f64 {
        let after = (at.as_millis().saturating_sub(self.first.as_millis())) as f64 / 1e3;
        self.mean_value + self.slope * (after + ahead - self.mean_time)
    }

    /// Seconds from `now` until the line reaches `limit`; 0 where it crossed it since the first sample, else [`NEVER`].
    pub fn time_to(&self, limit: f64, now: Timestamp) -> f64 {
        if self.slope == 0.0 {
            return if self.mean_value == limit { 0.0 } else { NEVER };
        }
        let seconds = (limit - self.at(now, 0.0)) / self.slope;
        let since_first = now.max(self.last).since(self.first).as_secs_f64();
        match seconds {
            ahead if ahead >= 0.0 => ahead.min(NEVER),
            past if -past <= since_first => 0.0,
            _ => NEVER,
        }
    }
}

/// Folds one number per series into one: `min max sum avg`.
///
/// # Errors
/// No such fold.
pub(super) fn fold(how: &str, values: &[f64]) -> Result<Option<f64>, String> {
    let mut total = Total::default();
    values.iter().for_each(|value| total.add(*value));
    match how {
        "min" => Ok(values.iter().copied().reduce(f64::min)),
        "max" => Ok(values.iter().copied().reduce(f64::max)),
        "sum" => Ok((!values.is_empty()).then(|| total.sum())),
        "avg" => Ok(total.average()),
        other => Err(format!("several series cannot be folded by `{other}`; write min, max, sum or avg")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> impl Iterator<Item = Sample> + Clone {
        let placed =
            |(index, value): (usize, &f64)| Sample { at: Timestamp::from_millis(10_000 * index as i64), value: *value };
        values.iter().enumerate().map(placed).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_reset_counter_began_again_at_zero() {
        assert_eq!(grown(samples(&[100.0, 110.0, 5.0, 15.0])), Some(10.0 + 5.0 + 10.0));
        assert_eq!(grown(samples(&[7.0])), None, "one sample says nothing about growth");
        assert_eq!(grown(samples(&[7.0, 7.0])), Some(0.0));
        assert_eq!(changes(samples(&[1.0, 1.0, 2.0, 1.0])), Some(2.0));
        assert_eq!((changes(samples(&[1.0])), changes(samples(&[]))), (Some(0.0), None));
    }

    #[test]
    fn a_spread_keeps_its_digits_beside_a_large_mean() {
        assert_eq!(spread(samples(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])), Some((5.0, 2.0)));
        assert_eq!(spread(samples(&[1e15 + 2.0, 1e15 + 4.0])), Some((1e15 + 3.0, 1.0)));
        assert_eq!((spread(samples(&[3.0])), spread(samples(&[]))), (Some((3.0, 0.0)), None));
    }

    #[test]
    fn quantiles_lie_between_the_two_nearest_samples() {
        let values: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        assert_eq!(quantile(samples(&values), 0.5), Some(51.0));
        assert_eq!(quantile(samples(&values), 0.99), Some(100.0));
        assert_eq!(quantile(samples(&[10.0, 20.0]), 0.5), Some(15.0));
        assert_eq!((quantile(samples(&[7.0]), 0.95), quantile(samples(&[]), 0.95)), (Some(7.0), None));
    }

    #[test]
    fn a_trend_is_that_of_the_line_through_the_samples() {
        // one every 10 s
        let slope = |values: &[f64]| Trend::of(samples(values)).map(|trend| trend.slope);
        assert_eq!(slope(&[5.0, 25.0, 45.0]), Some(2.0));
        assert_eq!(slope(&[1e15, 1e15 + 10.0]), Some(1.0));
        assert_eq!(slope(&[3.0, 3.0, 3.0]), Some(0.0));
        assert_eq!((slope(&[3.0]), slope(&[])), (None, None));
        let now = Timestamp::from_millis(30_000);
        let trend = Trend::of(samples(&[5.0, 25.0, 45.0])).expect("two instants");
        assert_eq!((trend.at(now, 0.0), trend.at(now, 10.0)), (65.0, 85.0));
        assert_eq!((trend.time_to(105.0, now), trend.time_to(25.0, now)), (20.0, 0.0), "crossed within the window");
        assert_eq!(trend.time_to(-100.0, now), NEVER, "long before it");
    }

    #[test]
    fn one_outlier_does_not_spoil_a_sum() {
        let total = total(samples(&[0.1, 1e17, 0.2, -1e17]));
        assert!((total.sum() - 0.3).abs() < 1e-9, "{}", total.sum());
        assert_eq!(Total::default().average(), None);
    }

    #[test]
    fn several_series_fold_as_asked() {
        let values = [3.0, 1.0, 2.0];
        for (how, expected) in [("min", 1.0), ("max", 3.0), ("sum", 6.0), ("avg", 2.0)] {
            assert_eq!(fold(how, &values), Ok(Some(expected)));
            assert_eq!(fold(how, &[]), Ok(None));
        }
        assert!(fold("median", &values).is_err());
    }
}
