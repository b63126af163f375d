//! Samples by series, kept once for all the windows that read them.
//!
//! Invariant: samples are in order of their own time; a series that was ever filled keeps its newest sample until it
//! has been idle for [`SERIES_IDLE`]. Nothing here grows without bound.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Labels, MetricName, Selector, Timestamp};

/// Samples kept per series; what goes beyond it is the oldest, and a window that long sees less.
pub(super) const MAX_SAMPLES: usize = 4096;
/// Series of one deployment: a label that is never the same twice must not eat the memory.
pub(super) const MAX_SERIES: usize = 1000;
/// A series nothing came for in this time is forgotten.
pub(super) const SERIES_IDLE: Duration = Duration::from_secs(6 * 3600);

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
    /// The deployment has [`MAX_SERIES`] already.
    TooManySeries,
}

/// The samples of one metric with one label set, oldest first.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Series {
    #[serde(with = "packed")]
    samples: VecDeque<Sample>,
}

impl Series {
    /// Puts a sample in its place; of two at the same instant the later arrival is the newer. What lies at or before
    /// `horizon` is no longer needed by any window.
    fn insert(&mut self, sample: Sample, horizon: Timestamp) -> Taken {
        if sample.at <= horizon && self.newest().is_some_and(|newest| newest.at >= sample.at) {
            return Taken::TooLate;
        }
        let place = self.samples.partition_point(|own| own.at <= sample.at);
        self.samples.insert(place, sample);
        let unneeded = |oldest: &Sample| oldest.at <= horizon;
        while self.samples.len() > MAX_SAMPLES || (self.samples.len() > 1 && self.samples.front().is_some_and(unneeded))
        {
            self.samples.pop_front();
        }
        Taken::Known
    }

    pub fn newest(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    /// Those after `edge`, oldest first.
    pub fn after(&self, edge: Timestamp) -> impl Iterator<Item = Sample> + '_ {
        let first = self.samples.partition_point(|sample| sample.at <= edge);
        self.samples.range(first..).copied()
    }
}

/// Samples as one byte string: the time since the one before as a varint, the value as it is. A snapshot is mostly these.
mod packed {
    use std::collections::VecDeque;
    use std::fmt;

    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;

    use super::Sample;
    use crate::model::Timestamp;

    pub fn serialize<S: Serializer>(samples: &VecDeque<Sample>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(samples.len() * 11);
        let mut before = 0_i64;
        for Sample { at, value } in samples {
            let mut step = at.as_millis().wrapping_sub(before).cast_unsigned();
            before = at.as_millis();
            while step >= 0x80 {
                bytes.push((step & 0x7f) as u8 | 0x80);
                step >>= 7;
            }
            bytes.push(step as u8);
            bytes.extend(value.to_bits().to_le_bytes());
        }
        serializer.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VecDeque<Sample>, D::Error> {
        let bytes = deserializer.deserialize_byte_buf(Bytes)?;
        unpacked(&bytes).ok_or_else(|| D::Error::custom("samples are cut"))
    }

    fn unpacked(mut bytes: &[u8]) -> Option<VecDeque<Sample>> {
        let mut samples = VecDeque::new();
        let mut before = 0_i64;
        while !bytes.is_empty() {
            let mut step = 0_u64;
            for shift in (0..64).step_by(7) {
                let (byte, rest) = bytes.split_first()?;
                bytes = rest;
                step |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let (value, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            before = before.wrapping_add(step.cast_signed());
            samples.push_back(Sample {
                at: Timestamp::from_millis(before),
                value: f64::from_bits(u64::from_le_bytes(*value)),
            });
        }
        Some(samples)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = items.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}

/// All series of one deployment.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct SeriesStore {
    by_metric: BTreeMap<MetricName, BTreeMap<Labels, Series>>,
    count: usize,
    /// Samples that were not taken in because there were too many series.
    refused: u64,
}

impl SeriesStore {
    pub fn insert(&mut self, metric: &MetricName, labels: &Labels, sample: Sample, horizon: Timestamp) -> Taken {
        if let Some(series) = self.by_metric.get_mut(metric).and_then(|series| series.get_mut(labels)) {
            return series.insert(sample, horizon);
        }
        if self.count >= MAX_SERIES {
            self.refused += 1;
            return Taken::TooManySeries;
        }
        self.count += 1;
        let series = self.by_metric.entry(metric.clone()).or_default().entry(labels.clone()).or_default();
        series.insert(sample, horizon);
        Taken::NewSeries
    }

    /// The series of a metric, in order of labels.
    pub fn of(&self, metric: &str) -> impl Iterator<Item = (&Labels, &Series)> {
        self.by_metric.get(metric).into_iter().flatten()
    }

    /// Every series, in order of metric and labels.
    pub fn iter(&self) -> impl Iterator<Item = (&MetricName, &Labels, &Series)> {
        self.by_metric.iter().flat_map(|(metric, series)| series.iter().map(move |(labels, own)| (metric, labels, own)))
    }

    /// Samples refused so far for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets what has been idle since `before`; says which metrics lost a series, and when the next may be idle.
    pub fn forget_idle(&mut self, before: Timestamp) -> (Vec<MetricName>, Option<Timestamp>) {
        let mut lost = Vec::new();
        for (metric, series) in &mut self.by_metric {
            let count = series.len();
            series.retain(|_, own| own.newest().is_some_and(|newest| newest.at > before));
            if series.len() < count {
                self.count -= count - series.len();
                lost.push(metric.clone());
            }
        }
        self.by_metric.retain(|_, series| !series.is_empty());
        let oldest = self.iter().filter_map(|(_, _, series)| series.newest()).map(|newest| newest.at).min();
        (lost, oldest)
    }
}

/// What the first argument of a metric function says: a name, and which of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MetricQuery {
    pub name: MetricName,
    pub selector: Selector,
}

impl MetricQuery {
    /// `cpu_percent`, or `disk_percent{mount='/', host!="b"}`; single quotes spare the escaping inside YAML and Rhai.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<MetricQuery, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('{') else {
            return Ok(MetricQuery { name: MetricName::new(text), selector: Selector::default() });
        };
        let inside =
            rest.trim_end().strip_suffix('}').ok_or_else(|| format!("the selector `{text}` has no closing `}}`"))?;
        let matchers = split_outside_quotes(inside)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| double_quoted(part).parse().map_err(|error| format!("the selector `{text}`: {error}")))
            .collect::<Result<_, _>>()?;
        Ok(MetricQuery { name: MetricName::new(name.trim()), selector: Selector(matchers) })
    }
}

/// The parts between commas that no quotes hold.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut open, mut escaped) = (0, None, false);
    for (at, letter) in text.char_indices() {
        match (open, letter) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(quote), letter) if letter == quote => open = None,
            (None, '\'' | '"') => open = Some(letter),
            (None, ',') => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `mount='/'` as the matchers' own syntax wants it.
fn double_quoted(matcher: &str) -> String {
    match matcher.split_once('\'') {
        Some((before, value)) if !before.contains('"') => match value.strip_suffix('\'') {
            Some(value) => format!("{before}{}", serde_json::Value::from(value)),
            None => matcher.to_owned(),
        },
        _ => matcher.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn sample(seconds: i64, value: f64) -> Sample {
        Sample { at: at(seconds), value }
    }

    fn values(series: &Series, edge: i64) -> Vec<f64> {
        series.after(at(edge)).map(|sample| sample.value).collect()
    }

    #[test]
    fn samples_stand_in_order_of_their_own_time() {
        let mut series = Series::default();
        for (seconds, value) in [(10, 1.0), (30, 3.0), (20, 2.0), (30, 4.0)] {
            assert_eq!(series.insert(sample(seconds, value), at(0)), Taken::Known);
        }
        assert_eq!(values(&series, 0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(values(&series, 10), [2.0, 3.0, 4.0], "a window is open at its old end");
        assert_eq!(series.newest(), Some(sample(30, 4.0)));
    }

    #[test]
    fn only_what_some_window_needs_is_kept_and_always_the_newest() {
        let mut series = Series::default();
        series.insert(sample(10, 1.0), at(0));
        series.insert(sample(20, 2.0), at(15));
        assert_eq!(values(&series, 0), [2.0]);
        assert_eq!(series.insert(sample(12, 9.0), at(15)), Taken::TooLate);
        assert_eq!(series.insert(sample(40, 3.0), at(50)), Taken::Known, "newer than all, though older than windows");
        assert_eq!(values(&series, 0), [3.0]);
        for second in 0..2 * MAX_SAMPLES as i64 {
            series.insert(sample(100 + second, 0.0), at(50));
        }
        assert_eq!(values(&series, 0).len(), MAX_SAMPLES);
    }

    #[test]
    fn a_label_that_never_repeats_is_bounded_and_counted() {
        let mut store = SeriesStore::default();
        let metric = MetricName::new("requests");
        let insert = |store: &mut SeriesStore, id: usize, seconds| {
            let labels: Labels = [("id", id.to_string())].into_iter().collect();
            store.insert(&metric, &labels, sample(seconds, 1.0), at(0))
        };
        for id in 0..MAX_SERIES {
            assert_eq!(insert(&mut store, id, 10), Taken::NewSeries);
        }
        assert_eq!(insert(&mut store, MAX_SERIES, 10), Taken::TooManySeries);
        assert_eq!(insert(&mut store, 3, 20), Taken::Known, "the known ones go on");
        assert_eq!(store.refused(), 1);
        assert_eq!(store.forget_idle(at(10)), (vec![MetricName::new("requests")], Some(at(20))));
        assert_eq!(store.of("requests").count(), 1);
        assert_eq!(insert(&mut store, MAX_SERIES, 30), Taken::NewSeries, "room again");
    }

    #[test]
    fn selectors_are_read_with_either_quotes() {
        let labels: Labels = [("mount", "/"), ("host", "a,b")].into_iter().collect();
        for (text, expected) in [
            ("disk", true),
            ("disk{mount='/'}", true),
            (r#"disk{ mount="/", host='a,b' }"#, true),
            ("disk{host=~'a.*'}", true),
            ("disk{mount!='/'}", false),
            ("disk{}", true),
        ] {
            let query = MetricQuery::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((query.name.as_str(), query.selector.matches(&labels)), ("disk", expected), "{text}");
        }
        assert!(MetricQuery::parse("disk{mount").is_err());
        assert!(MetricQuery::parse("disk{mount}").is_err());
    }
}
