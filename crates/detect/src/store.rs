//! All series of one deployment, by metric.
//!
//! Invariant: a metric's place does not change while it has series; places are no more than [`MAX_SERIES`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::few::Few;
use super::plan::{MetricIx, MetricPlan};
use super::series::{Sample, Series, Taken};
use selfheal_model::{Labels, MetricName, Timestamp};

/// Series of one deployment: a label that is never the same twice must not eat the memory.
/// Room for the page of a large exporter; at a kilobyte each it is some megabytes.
pub(super) const MAX_SERIES: usize = 10_000;
/// A series nothing came for in this time is forgotten.
pub(super) const SERIES_IDLE: Duration = Duration::from_secs(6 * 3600);

/// The place of a metric in its store.
pub(super) type MetricPlace = u32;
/// Where it is not known.
pub(super) const NO_PLACE: MetricPlace = MetricPlace::MAX;

type AllSeries = Few<(Labels, Series)>;

/// One metric of one deployment.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    name: MetricName,
    pub plan: Arc<MetricPlan>,
    /// In order of labels.
    series: AllSeries,
    /// When time alone next changes what is read of it; an earlier instant may stand here, a later one never.
    pub due: Timestamp,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct SeriesStore {
    metrics: Vec<Metric>,
    /// Places that are taken, in order of name.
    order: Vec<MetricPlace>,
    /// Places that were given up.
    free: Vec<MetricPlace>,
    /// Places of the metrics that rules read, in order of their numbers.
    read: Vec<(MetricIx, MetricPlace)>,
    count: usize,
    /// Series whose sender said that they ended, with when; until a newer sample comes.
    ended: BTreeMap<(MetricName, Labels), Timestamp>,
    /// Samples that were not taken in because there were too many series.
    refused: u64,
}

impl Metric {
    pub fn name(&self) -> &MetricName {
        &self.name
    }

    /// Its series where it has exactly one. `Err`: it has several.
    pub fn only(&self) -> Result<Option<&(Labels, Series)>, ()> {
        match self.series.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(()),
        }
    }

    /// Reads what is in here itself.
    pub fn touch(&self) -> i64 {
        self.due.as_millis() ^ self.name.as_str().len() as i64 ^ self.series.first().map_or(0, |(_, own)| own.touch())
    }

    /// Reads the samples that the next look at it will read.
    pub fn touch_samples(&self) -> i64 {
        let Some((_, series)) = self.series.first() else { return 0 };
        let [oldest, newest] = [series.next_to_leave(), series.newest().map(|newest| newest.at)];
        oldest.map_or(0, Timestamp::as_millis) ^ newest.map_or(0, Timestamp::as_millis)
    }

    /// Moves every window on to `now`.
    pub fn advance(&mut self, now: Timestamp) {
        for (_, series) in self.series.iter_mut() {
            series.advance(now);
        }
    }

    /// When time alone next changes what is read of it.
    pub fn next_change(&self, now: Timestamp, stale_after: Duration) -> Timestamp {
        let stale = |series: &Series| {
            let newest = series.newest().filter(|_| self.plan.newest)?;
            Some(newest.at + stale_after).filter(|at| *at > now)
        };
        let changes = self.series.iter().flat_map(|(_, series)| [series.next_to_leave(), stale(series)]);
        changes.flatten().min().unwrap_or(Timestamp::MAX)
    }

    fn watch(&mut self, plan: Arc<MetricPlan>, now: Timestamp) {
        for (_, series) in self.series.iter_mut() {
            series.watch(&plan.windows, now);
        }
        self.plan = plan;
    }
}

/// Room for a little more: doubling would leave half of the memory of all deployments unused.
pub(super) fn grow_little<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 1);
    }
}

impl SeriesStore {
    /// The place of a metric.
    pub fn place(&self, name: &MetricName) -> Option<usize> {
        self.search(name.as_str()).ok().and_then(|found| self.order.get(found)).map(|place| *place as usize)
    }

    /// The place of a metric that rules read.
    pub fn place_of(&self, number: MetricIx) -> Option<usize> {
        let found = self.read.binary_search_by_key(&number, |(own, _)| *own).ok()?;
        self.read.get(found).map(|(_, place)| *place as usize)
    }

    /// As [`SeriesStore::place_of`], of a metric that is probably at a place: many deployments have the same metrics at the
    /// same places.
    pub fn place_near(&self, number: MetricIx, place: MetricPlace) -> Option<usize> {
        let near = self.metrics.get(place as usize);
        match near.filter(|near| near.plan.number == Some(number) && !near.series.is_empty()) {
            Some(_) => Some(place as usize),
            None => self.place_of(number),
        }
    }

    fn index_read(&mut self) {
        let metrics = &self.metrics;
        let numbered = |place: &u32| Some((metrics.get(*place as usize)?.plan.number?, *place));
        self.read = self.order.iter().filter_map(numbered).collect();
        self.read.sort_unstable();
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        self.order.binary_search_by(|place| {
            self.metrics.get(*place as usize).map_or("", |metric| metric.name.as_str()).cmp(name)
        })
    }

    /// The place of a metric, new where it is.
    pub fn place_for(&mut self, name: &MetricName, plan_of: impl FnOnce() -> Arc<MetricPlan>) -> usize {
        match self.search(name.as_str()) {
            Ok(found) => self.order.get(found).map_or(0, |place| *place as usize),
            Err(missing) => {
                let metric =
                    Metric { name: name.clone(), plan: plan_of(), series: AllSeries::None, due: Timestamp::MAX };
                let place = self.free.pop().map_or(self.metrics.len(), |place| place as usize);
                match self.metrics.get_mut(place) {
                    Some(given_up) => *given_up = metric,
                    None => {
                        grow_little(&mut self.metrics);
                        self.metrics.push(metric);
                    }
                }
                let number = self.metrics.get(place).and_then(|metric| metric.plan.number);
                let at = u32::try_from(place).unwrap_or(u32::MAX);
                grow_little(&mut self.order);
                self.order.insert(missing, at);
                if let Some(number) = number {
                    let found = self.read.binary_search_by_key(&number, |(own, _)| *own).unwrap_or_else(|found| found);
                    grow_little(&mut self.read);
                    self.read.insert(found, (number, at));
                }
                place
            }
        }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is room for one more series.
    pub fn has_room(&self) -> bool {
        self.count < MAX_SERIES
    }

    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    pub fn at(&self, place: usize) -> Option<&Metric> {
        self.metrics.get(place)
    }

    pub fn at_mut(&mut self, place: usize) -> Option<&mut Metric> {
        self.metrics.get_mut(place)
    }

    pub fn named(&self, name: &str) -> Option<&Metric> {
        self.search(name).ok().and_then(|found| self.metrics.get(*self.order.get(found)? as usize))
    }

    /// Puts a sample where it belongs.
    pub fn insert(&mut self, now: Timestamp, place: usize, labels: &Labels, sample: Sample) -> Taken {
        if !self.ended.is_empty() {
            self.go_on(place, labels, sample.at);
        }
        let has_room = self.has_room();
        let Some(metric) = self.metrics.get_mut(place) else { return Taken::TooManySeries };
        let horizon = now - metric.plan.kept;
        match metric.series.as_slice().binary_search_by(|(own, _)| own.cmp(labels)) {
            Ok(found) => match metric.series.as_mut_slice().get_mut(found) {
                Some((_, series)) => series.insert(now, sample, horizon),
                None => Taken::TooManySeries,
            },
            Err(_) if !has_room => {
                self.refused += 1;
                Taken::TooManySeries
            }
            Err(missing) => {
                self.count += 1;
                let mut series = Series::default();
                series.watch(&metric.plan.windows, now);
                series.insert(now, sample, horizon);
                metric.series.insert(missing, (labels.clone(), series));
                Taken::NewSeries
            }
        }
    }

    /// A sample later than the end of its series: it goes on.
    fn go_on(&mut self, place: usize, labels: &Labels, at: Timestamp) {
        let Some(metric) = self.metrics.get(place) else { return };
        let key = (metric.name.clone(), labels.clone());
        if self.ended.get(&key).is_some_and(|ended| *ended < at) {
            self.ended.remove(&key);
        }
    }

    /// No more samples of a series come; whether that is news of one that is there.
    pub fn end(&mut self, place: usize, labels: &Labels, at: Timestamp) -> bool {
        let Some(metric) = self.metrics.get(place) else { return false };
        let found = metric.series.as_slice().binary_search_by(|(own, _)| own.cmp(labels)).ok();
        let newest = found.and_then(|found| metric.series.as_slice().get(found)?.1.newest());
        if newest.is_none_or(|newest| newest.at > at) {
            return false;
        }
        self.ended.insert((metric.name.clone(), labels.clone()), at).is_none()
    }

    /// Whether a series has ended.
    pub fn has_ended(&self, name: &MetricName, labels: &Labels) -> bool {
        !self.ended.is_empty() && self.ended.contains_key(&(name.clone(), labels.clone()))
    }

    /// Whether the only series of a metric has ended; of several that is for others to say.
    pub fn has_ended_at(&self, place: usize) -> bool {
        let only = || self.metrics.get(place).and_then(|metric| Some((&metric.name, metric.only().ok()??)));
        !self.ended.is_empty() && only().is_some_and(|(name, (labels, _))| self.has_ended(name, labels))
    }

    /// The series of a metric, in order of labels.
    pub fn of(&self, metric: &str) -> impl Iterator<Item = (&Labels, &Series)> {
        self.named(metric).into_iter().flat_map(|metric| metric.series.iter().map(|(labels, own)| (labels, own)))
    }

    /// Every place with its metric, in order of name.
    pub fn metrics(&self) -> impl Iterator<Item = (usize, &MetricName, &Metric)> {
        self.order.iter().filter_map(|place| {
            let metric = self.metrics.get(*place as usize)?;
            Some((*place as usize, &metric.name, metric))
        })
    }

    /// Every series, in order of metric and labels.
    pub fn iter(&self) -> impl Iterator<Item = (&MetricName, &Labels, &Series)> {
        self.metrics().flat_map(|(_, name, metric)| metric.series.iter().map(move |(labels, own)| (name, labels, own)))
    }

    /// Another policy reads other windows of the metrics there are.
    pub fn follow(&mut self, plan_of: impl Fn(&MetricName) -> Arc<MetricPlan>, now: Timestamp) {
        for metric in &mut self.metrics {
            let plan = plan_of(&metric.name);
            metric.watch(plan, now);
        }
        self.index_read();
    }

    /// As [`SeriesStore::follow`], of a store that was saved under this very policy: its windows are as they were.
    pub fn link(&mut self, plan_of: impl Fn(&MetricName) -> Arc<MetricPlan>) {
        for metric in &mut self.metrics {
            metric.plan = plan_of(&metric.name);
            metric.series.iter_mut().for_each(|(_, series)| series.link());
        }
        self.index_read();
    }

    /// Samples refused so far for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets what has been idle since `before`; says which metrics lost a series, and when the next may be idle.
    pub fn forget_idle(&mut self, before: Timestamp) -> (Vec<MetricName>, Option<Timestamp>) {
        let mut lost = Vec::new();
        for place in &self.order {
            let Some(metric) = self.metrics.get_mut(*place as usize) else { continue };
            let count = metric.series.len();
            metric.series.retain(|(_, own)| own.newest().is_some_and(|newest| newest.at > before));
            if metric.series.len() < count {
                self.count -= count - metric.series.len();
                lost.push(metric.name.clone());
            }
        }
        if !self.ended.is_empty() {
            let mut ended = std::mem::take(&mut self.ended);
            ended.retain(|(name, labels), _| self.of(name.as_str()).any(|(own, _)| own == labels));
            self.ended = ended;
        }
        let metrics = &self.metrics;
        let is_empty = |place: &u32| metrics.get(*place as usize).is_none_or(|metric| metric.series.is_empty());
        let (given_up, taken): (Vec<u32>, Vec<u32>) = self.order.iter().partition(|place| is_empty(place));
        if !given_up.is_empty() {
            self.order = taken;
            self.free.extend(given_up);
            self.index_read();
        }
        let oldest = self.iter().filter_map(|(_, _, series)| series.newest()).map(|newest| newest.at).min();
        (lost, oldest)
    }
}

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    /// With its name and what is due.
    metrics: Vec<(MetricName, Timestamp, S)>,
    refused: u64,
    #[serde(default)]
    ended: Vec<(MetricName, Labels, Timestamp)>,
}

impl Serialize for SeriesStore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let filled = self.metrics().filter(|(_, _, metric)| !metric.series.is_empty());
        let metrics = filled.map(|(_, name, metric)| (name.clone(), metric.due, &metric.series)).collect();
        let ended = self.ended.iter().map(|((name, labels), at)| (name.clone(), labels.clone(), *at)).collect();
        Saved { metrics, refused: self.refused, ended }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SeriesStore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::<AllSeries>::deserialize(deserializer)?;
        let mut store = SeriesStore { refused: saved.refused, ..SeriesStore::default() };
        store.ended = saved.ended.into_iter().map(|(name, labels, at)| ((name, labels), at)).collect();
        for (name, due, series) in saved.metrics {
            let place = store.place_for(&name, Arc::default);
            store.count += series.len();
            if let Some(metric) = store.metrics.get_mut(place) {
                (metric.due, metric.series) = (due, series);
            }
        }
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_label_that_never_repeats_is_bounded_and_counted() {
        let mut store = SeriesStore::default();
        let metric = MetricName::new("requests");
        let place = store.place_for(&metric, Arc::default);
        let insert = |store: &mut SeriesStore, id: usize, seconds| {
            let labels: Labels = [("id", id.to_string())].into_iter().collect();
            store.insert(at(seconds), place, &labels, Sample { at: at(seconds), value: 1.0 })
        };
        for id in 0..MAX_SERIES {
            assert_eq!(insert(&mut store, id, 10), Taken::NewSeries);
        }
        assert_eq!(insert(&mut store, MAX_SERIES, 10), Taken::TooManySeries);
        assert_eq!(insert(&mut store, 3, 20), Taken::Known, "the known ones go on");
        assert_eq!(store.refused(), 1);
        assert_eq!(store.forget_idle(at(10)), (vec![metric.clone()], Some(at(20))));
        assert_eq!(store.of("requests").count(), 1);
        assert_eq!(insert(&mut store, MAX_SERIES, 30), Taken::NewSeries, "room again");
    }

    #[test]
    fn a_name_that_never_repeats_is_bounded_too() {
        let mut store = SeriesStore::default();
        for round in 0..3_i64 {
            for n in 0..MAX_SERIES {
                let place = store.place_for(&MetricName::new(format!("m{round}-{n}")), Arc::default);
                let sample = Sample { at: at(round * 10), value: 1.0 };
                assert_eq!(store.insert(at(round * 10), place, &Labels::default(), sample), Taken::NewSeries);
            }
            assert_eq!(store.forget_idle(at(round * 10)).0.len(), MAX_SERIES);
        }
        assert_eq!((store.metrics.len(), store.metrics().count()), (MAX_SERIES, 0));
    }

    #[test]
    fn metrics_are_found_by_name_and_keep_their_places() {
        let mut store = SeriesStore::default();
        let names = ["m", "c", "z", "a"].map(MetricName::new);
        for (expected, name) in names.iter().enumerate() {
            assert_eq!(store.place_for(name, Arc::default), expected);
        }
        for (expected, name) in names.iter().enumerate() {
            assert_eq!((store.place(name), store.place_for(name, Arc::default)), (Some(expected), expected));
        }
        assert_eq!(store.place(&MetricName::new("b")), None);
        let in_order: Vec<&str> = store.metrics().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(in_order, ["a", "c", "m", "z"]);
    }
}
