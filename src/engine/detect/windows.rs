//! Arithmetic over the samples of a window. Each function says nothing where there is too little data.

use super::series::Sample;

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

/// How much a counter grew per second between the first and the last sample. A fall is a reset: the counter began
/// again at zero.
pub(super) fn rate(samples: impl Iterator<Item = Sample>) -> Option<f64> {
    let mut grown = Total::default();
    let (mut first, mut last): (Option<Sample>, Option<Sample>) = (None, None);
    for sample in samples {
        if let Some(before) = last {
            grown.add(if sample.value < before.value { sample.value } else { sample.value - before.value });
        }
        first = first.or(Some(sample));
        last = Some(sample);
    }
    let span = last?.at.since(first?.at);
    (!span.is_zero()).then(|| grown.sum() / span.as_secs_f64())
}

/// The newest less the oldest value of a gauge.
pub(super) fn delta(mut samples: impl Iterator<Item = Sample>) -> Option<f64> {
    let first = samples.next()?;
    let last = samples.last()?;
    Some(last.value - first.value)
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
    use crate::model::Timestamp;

    fn samples(values: &[f64]) -> impl Iterator<Item = Sample> + Clone {
        let placed =
            |(index, value): (usize, &f64)| Sample { at: Timestamp::from_millis(10_000 * index as i64), value: *value };
        values.iter().enumerate().map(placed).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_reset_counter_began_again_at_zero() {
        assert_eq!(rate(samples(&[100.0, 110.0, 5.0, 15.0])), Some((10.0 + 5.0 + 10.0) / 30.0));
        assert_eq!(rate(samples(&[7.0])), None, "one sample says nothing about growth");
        assert_eq!(rate(samples(&[7.0, 7.0])), Some(0.0));
    }

    #[test]
    fn a_gauge_changes_by_newest_less_oldest() {
        assert_eq!(delta(samples(&[10.0, 50.0, 4.0])), Some(-6.0));
        assert_eq!(delta(samples(&[10.0])), None);
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
