//! Metrics with their points into samples.

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::message::{
    ExponentialHistogram, ExponentialPoint, Gauge, Histogram, HistogramPoint, KeyValue, Metric, NumberPoint, Request,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryPoint,
};
use super::names::{self, Form};
use super::{Temporality, labels};
use crate::formats::{ForeignLabels, ForeignValue, Gather, Quoted, Shared};
use selfheal_model::Timestamp;

/// The label with the scope's name, as OpenTelemetry's exporters for Prometheus call it.
const SCOPE_NAME: &str = "otel_scope_name";

/// Reads one body. The labels are those of the resource, the scope (with those of its resource) and the point that are
/// at hand.
#[derive(Default)]
pub(super) struct Reader {
    pub gather: Gather,
    shared: Shared,
    resource: ForeignLabels,
    scope: ForeignLabels,
    labels: ForeignLabels,
}

/// When a point was taken, and whether it holds a value at all.
#[derive(Clone, Copy)]
struct At {
    time: Option<Timestamp>,
    recorded: Recorded,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Value,
    /// The flag of a series that has ended.
    Nothing,
}

impl At {
    fn new(nanos: u64, flags: u32) -> Self {
        /// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
        const NO_RECORDED_VALUE: u32 = 1;
        let millis = i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX);
        let recorded = if flags & NO_RECORDED_VALUE == 0 { Recorded::Value } else { Recorded::Nothing };
        At { time: (nanos != 0).then(|| Timestamp::from_millis(millis)), recorded }
    }

    /// A part of a point that need not be there; of a series that has ended, every part has.
    fn has(self, part: Option<f64>) -> Option<f64> {
        if self.recorded == Recorded::Nothing { Some(0.0) } else { part }
    }
}

/// The names of the series that one histogram or summary is.
struct Parts {
    count: SmolStr,
    sum: SmolStr,
    bucket: SmolStr,
    min: SmolStr,
    max: SmolStr,
}

impl Parts {
    fn of(name: &str) -> Self {
        let part = |part: &str| format_smolstr!("{name}_{part}");
        Parts { count: part("count"), sum: part("sum"), bucket: part("bucket"), min: part("min"), max: part("max") }
    }
}

impl Reader {
    pub fn request(&mut self, request: &Request) {
        for resource in &request.resource_metrics {
            self.resource_metrics(resource);
        }
    }

    fn resource_metrics(&mut self, of: &ResourceMetrics) {
        self.resource.clear();
        let attributes = of.resource.as_ref().map(|resource| &resource.attributes[..]).unwrap_or_default();
        if let Err(why) = labels::put(attributes, &mut self.resource, &mut self.shared) {
            let metrics: usize = of.scope_metrics.iter().map(|scope| scope.metrics.len()).sum();
            self.gather.refuse(|| format!("a resource with {metrics} metrics: {why}"));
            return;
        }
        for scope in &of.scope_metrics {
            self.scope_metrics(scope);
        }
    }

    fn scope_metrics(&mut self, of: &ScopeMetrics) {
        self.scope.clone_from(&self.resource);
        if let Some(scope) = of.scope.as_ref().filter(|scope| !scope.name.is_empty()) {
            labels::set(SCOPE_NAME, &scope.name, &mut self.scope, &mut self.shared);
        }
        for metric in &of.metrics {
            if let Err(why) = self.metric(metric) {
                self.gather.refuse(|| format!("metric {}: {why}", Quoted(&metric.name)));
            }
        }
    }

    fn metric(&mut self, metric: &Metric) -> Result<(), String> {
        if metric.name.is_empty() {
            return Err("it has no name".to_owned());
        }
        match metric {
            Metric { gauge: Some(Gauge { data_points }), .. } => self.numbers(metric, Form::Gauge, data_points),
            Metric { sum: Some(sum), .. } => {
                let Sum { data_points, aggregation_temporality, is_monotonic } = sum;
                let form = match (Temporality::of(*aggregation_temporality)?, is_monotonic) {
                    (Temporality::Cumulative, true) => Form::Counter,
                    (Temporality::Cumulative, false) => Form::Other,
                    (Temporality::Delta, _) => Form::Delta,
                };
                self.numbers(metric, form, data_points);
            }
            Metric { histogram: Some(histogram), .. } => {
                let Histogram { data_points, aggregation_temporality } = histogram;
                let parts = parts(metric, Temporality::of(*aggregation_temporality)?);
                for point in data_points {
                    let done = self.histogram(&parts, point);
                    self.settle(metric, done);
                }
            }
            Metric { exponential_histogram: Some(histogram), .. } => {
                let ExponentialHistogram { data_points, aggregation_temporality } = histogram;
                let parts = parts(metric, Temporality::of(*aggregation_temporality)?);
                for point in data_points {
                    let done = self.exponential(&parts, point);
                    self.settle(metric, done);
                }
            }
            Metric { summary: Some(Summary { data_points }), .. } => {
                let name = names::metric(&metric.name, &metric.unit, Form::Other);
                let (parts, name) = (Parts::of(&name), name.to_smolstr());
                for point in data_points {
                    let done = self.summary(&name, &parts, point);
                    self.settle(metric, done);
                }
            }
            // A kind of metric that is newer than this.
            _ => self.gather.ignore(1),
        }
        Ok(())
    }

    fn settle(&mut self, metric: &Metric, done: Result<(), String>) {
        if let Err(why) = done {
            self.gather.refuse(|| format!("metric {}: {why}", Quoted(&metric.name)));
        }
    }

    /// The labels of a point: those of its resource and scope, and its own, which win.
    fn point_labels(&mut self, attributes: &[KeyValue]) -> Result<(), String> {
        self.labels.clear();
        // Without room the point is only counted, so that its labels would be put together for nothing.
        if self.gather.has_room(self.scope.len()) {
            self.labels.extend_from_slice(&self.scope);
        }
        labels::put(attributes, &mut self.labels, &mut self.shared)
    }

    fn put(&mut self, name: &SmolStr, value: f64, at: At) {
        put(&mut self.gather, name, &self.labels, value, at);
    }

    fn numbers(&mut self, metric: &Metric, form: Form, points: &[NumberPoint]) {
        let name = names::metric(&metric.name, &metric.unit, form).to_smolstr();
        for point in points {
            self.gather.ignore(point.exemplars.len());
            let at = At::new(point.time_unix_nano, point.flags);
            // A point with neither a value nor the flag says nothing.
            let value = at.has(point.as_double.or(point.as_int.map(|int| int as f64))).unwrap_or(f64::NAN);
            if ForeignValue::of(value).is_none() {
                // Only counted, so that its labels would be put together for nothing.
                self.gather.number(&name, &[], value, at.time);
                continue;
            }
            match self.point_labels(&point.attributes) {
                Ok(()) => self.put(&name, value, at),
                Err(why) => self.settle(metric, Err(why)),
            }
        }
    }

    fn histogram(&mut self, parts: &Parts, point: &HistogramPoint) -> Result<(), String> {
        self.gather.ignore(point.exemplars.len());
        self.point_labels(&point.attributes)?;
        let at = At::new(point.time_unix_nano, point.flags);
        self.totals(parts, point.count, [point.sum, point.min, point.max], at);
        let (counts, bounds) = (&point.bucket_counts, &point.explicit_bounds);
        if at.recorded == Recorded::Value {
            let fits = counts.len() == bounds.len() + 1 || (counts.is_empty() && bounds.is_empty());
            if !fits {
                return Err(format!("{} buckets do not fit {} bounds", counts.len(), bounds.len()));
            }
        }
        if !bounds.iter().all(|bound| bound.is_finite()) || !bounds.is_sorted_by(|a, b| a < b) {
            return Err("its bounds do not rise".to_owned());
        }
        let mut buckets = labels_with("le", &self.labels);
        let mut sum = 0_u64;
        for (index, bound) in bounds.iter().enumerate() {
            sum = sum.saturating_add(counts.get(index).copied().unwrap_or(0));
            buckets.set(bound.to_smolstr());
            put(&mut self.gather, &parts.bucket, &buckets.labels, sum as f64, at);
        }
        buckets.set(SmolStr::new_static("+Inf"));
        put(&mut self.gather, &parts.bucket, &buckets.labels, point.count as f64, at);
        Ok(())
    }

    fn exponential(&mut self, parts: &Parts, point: &ExponentialPoint) -> Result<(), String> {
        // Its buckets are one thing that is not taken in.
        self.gather.ignore(point.exemplars.len() + 1);
        self.point_labels(&point.attributes)?;
        let at = At::new(point.time_unix_nano, point.flags);
        self.totals(parts, point.count, [point.sum, point.min, point.max], at);
        Ok(())
    }

    fn totals(&mut self, parts: &Parts, count: u64, sum_min_max: [Option<f64>; 3], at: At) {
        self.put(&parts.count, count as f64, at);
        for (name, value) in [&parts.sum, &parts.min, &parts.max].into_iter().zip(sum_min_max) {
            if let Some(value) = at.has(value) {
                self.put(name, value, at);
            }
        }
    }

    fn summary(&mut self, name: &SmolStr, parts: &Parts, point: &SummaryPoint) -> Result<(), String> {
        self.point_labels(&point.attributes)?;
        let at = At::new(point.time_unix_nano, point.flags);
        self.put(&parts.count, point.count as f64, at);
        self.put(&parts.sum, point.sum, at);
        let mut quantiles = labels_with("quantile", &self.labels);
        for quantile in &point.quantile_values {
            quantiles.set(quantile.quantile.to_smolstr());
            put(&mut self.gather, name, &quantiles.labels, quantile.value, at);
        }
        Ok(())
    }
}

/// The increase of an interval is a histogram of its own.
fn parts(metric: &Metric, temporality: Temporality) -> Parts {
    let form = match temporality {
        Temporality::Cumulative => Form::Other,
        Temporality::Delta => Form::Delta,
    };
    Parts::of(&names::metric(&metric.name, &metric.unit, form))
}

fn put(gather: &mut Gather, name: &SmolStr, labels: &[(SmolStr, SmolStr)], value: f64, at: At) {
    match at.recorded {
        Recorded::Value => gather.number(name, labels, value, at.time),
        Recorded::Nothing => gather.sample(name, labels, ForeignValue::Stale, at.time),
    }
}

/// Labels of which one differs from sample to sample.
struct Varying {
    labels: ForeignLabels,
    place: usize,
}

impl Varying {
    fn set(&mut self, value: SmolStr) {
        self.labels[self.place].1 = value;
    }
}

fn labels_with(name: &'static str, labels: &[(SmolStr, SmolStr)]) -> Varying {
    let mut labels = labels.to_vec();
    let place = labels::place_of(name, &mut labels);
    Varying { labels, place }
}
