//! Turns one poll of a source into events.
//!
//! Invariant: a series that the previous answered poll had and this one has not is reported as ended. A poll without an
//! answer ends no series, and a truncated page is no answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use crate::attribution::{Attribution, attribute};
use crate::formats::Foreign;
use selfheal_model::{DeploymentId, Event, EventKind, Labels, MetricName, OWN_DEPLOYMENT, Origin, Source, Timestamp};

type SeriesKey = (DeploymentId, MetricName, Labels);

/// What a source needs to remember between polls.
pub(super) struct PollState {
    source: Arc<Source>,
    deployment_from: Arc<[SmolStr]>,
    /// The series of the last poll that was answered.
    series: BTreeSet<SeriesKey>,
    /// Every deployment that the source has had samples of.
    deployments: BTreeSet<DeploymentId>,
    /// The problem that was logged last, so that each problem is logged once.
    trouble: Option<String>,
}

impl PollState {
    pub fn new(source: Arc<Source>, deployment_from: Arc<[SmolStr]>) -> PollState {
        let own = source.labels.get("deployment").unwrap_or(OWN_DEPLOYMENT);
        let deployments = [DeploymentId::new(own)].into();
        PollState { source, deployment_from, series: BTreeSet::new(), deployments, trouble: None }
    }

    /// The events of one poll: its samples, the series that ended, and the source's own metrics `up`,
    /// `scrape_duration_seconds` and `scrape_samples`. `result` is an error when the source gave no usable answer.
    pub fn events_of(&mut self, arrival: Timestamp, took: Duration, result: Result<Foreign, String>) -> Vec<Event> {
        let (mut events, count, trouble) = match result {
            Ok(foreign) => self.answered(arrival, foreign),
            Err(why) => (Vec::new(), None, Some(why)),
        };
        self.log(trouble);
        let label = [("source", self.source.name.as_str())];
        let labels: Labels = self.source.labels.iter().filter(|(name, _)| *name != "deployment").chain(label).collect();
        let up = if count.is_some() { 1.0 } else { 0.0 };
        let own = [
            Some(("up", up)),
            Some(("scrape_duration_seconds", took.as_secs_f64())),
            count.map(|count| ("scrape_samples", count as f64)),
        ];
        let event = |deployment: &DeploymentId, name: &str, value: f64| Event {
            deployment: deployment.clone(),
            time: arrival,
            kind: EventKind::Metric { name: MetricName::new(name), value, labels: labels.clone() },
            origin: Origin::Watched,
        };
        let own = self
            .deployments
            .iter()
            .flat_map(|deployment| own.iter().flatten().map(move |(name, value)| (deployment, name, *value)));
        // these come first: a page with more series than a deployment may have would leave no room for them
        events.splice(0..0, own.map(|(deployment, name, value)| event(deployment, name, value)));
        events
    }

    /// The events of a page, the number of its samples, and the problem that some of them had.
    fn answered(&mut self, arrival: Timestamp, foreign: Foreign) -> (Vec<Event>, Option<usize>, Option<String>) {
        let source = self.source.clone();
        let attribution = Attribution {
            labels: &source.labels,
            deployment_from: &self.deployment_from,
            keeps: &|name| source.keeps(name),
            arrival,
            // the source wrote the page: an `up` on it does not tell whether this poll was answered
            origin: Origin::External,
        };
        let attributed = attribute(foreign, &attribution);
        let series: BTreeSet<SeriesKey> = attributed.events.iter().filter_map(key_of).collect();
        self.deployments.extend(series.iter().map(|(deployment, _, _)| deployment.clone()));
        let ended = self.series.difference(&series).map(|(deployment, name, labels)| Event {
            deployment: deployment.clone(),
            time: arrival,
            kind: EventKind::Ended { name: name.clone(), labels: labels.clone() },
            origin: Origin::Watched,
        });
        let mut events: Vec<Event> = ended.collect();
        self.series = series;
        let count = attributed.events.len();
        events.extend(attributed.events);
        let wrong = attributed.errors.len() + attributed.more_errors;
        let trouble = attributed.errors.into_iter().next().map(|first| match wrong {
            1 => first,
            more => format!("{first}, and {} more", more - 1),
        });
        (events, Some(count), trouble)
    }

    fn log(&mut self, trouble: Option<String>) {
        if trouble == self.trouble {
            return;
        }
        match &trouble {
            Some(why) => tracing::warn!(source = %self.source.name, why, "some or all samples of a source are missing"),
            None => tracing::info!(source = %self.source.name, "all samples of a source are complete again"),
        }
        self.trouble = trouble;
    }
}

fn key_of(event: &Event) -> Option<SeriesKey> {
    match &event.kind {
        EventKind::Metric { name, labels, .. } => Some((event.deployment.clone(), name.clone(), labels.clone())),
        EventKind::Ended { .. } | EventKind::Health { .. } | EventKind::Signal { .. } => None,
    }
}
