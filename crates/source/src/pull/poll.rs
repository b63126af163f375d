//! What one round of asking a source comes to, as events.
//!
//! Invariant: a series that was there in the round before and is not in this one is said to have ended; a round without
//! an answer ends nothing, and half a page is none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use crate::formats::Foreign;
use crate::placing::{Placing, place};
use selfheal_model::{DeploymentId, Event, EventKind, Labels, MetricName, OWN_DEPLOYMENT, Origin, Source, Timestamp};

type SeriesKey = (DeploymentId, MetricName, Labels);

/// What is remembered of a source between its rounds.
pub(super) struct Rounds {
    source: Arc<Source>,
    deployment_from: Arc<[SmolStr]>,
    /// Of the last round that was answered.
    series: BTreeSet<SeriesKey>,
    /// Whoever it ever said something of.
    deployments: BTreeSet<DeploymentId>,
    /// What was last logged of it, so that it is said once.
    trouble: Option<String>,
}

impl Rounds {
    pub fn new(source: Arc<Source>, deployment_from: Arc<[SmolStr]>) -> Rounds {
        let own = source.labels.get("deployment").unwrap_or(OWN_DEPLOYMENT);
        let deployments = [DeploymentId::new(own)].into();
        Rounds { source, deployment_from, series: BTreeSet::new(), deployments, trouble: None }
    }

    /// One round: all it gave, or why it gave nothing or not all.
    pub fn take(&mut self, arrival: Timestamp, took: Duration, said: Result<Foreign, String>) -> Vec<Event> {
        let (mut events, count, trouble) = match said {
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
        // first: a page with more series than a deployment may have would leave no room for them
        events.splice(0..0, own.map(|(deployment, name, value)| event(deployment, name, value)));
        events
    }

    /// The samples and which series ended, how many samples there were, and what was wrong with some.
    fn answered(&mut self, arrival: Timestamp, foreign: Foreign) -> (Vec<Event>, Option<usize>, Option<String>) {
        let source = self.source.clone();
        let placing = Placing {
            labels: &source.labels,
            deployment_from: &self.deployment_from,
            keeps: &|name| source.keeps(name),
            arrival,
            // what stands on a page is another's word: an `up` there says nothing of this source
            origin: Origin::External,
        };
        let placed = place(foreign, &placing);
        let series: BTreeSet<SeriesKey> = placed.events.iter().filter_map(key_of).collect();
        self.deployments.extend(series.iter().map(|(deployment, _, _)| deployment.clone()));
        let ended = self.series.difference(&series).map(|(deployment, name, labels)| Event {
            deployment: deployment.clone(),
            time: arrival,
            kind: EventKind::Ended { name: name.clone(), labels: labels.clone() },
            origin: Origin::Watched,
        });
        let mut events: Vec<Event> = ended.collect();
        self.series = series;
        let count = placed.events.len();
        events.extend(placed.events);
        let wrong = placed.errors.len() + placed.more_errors;
        let trouble = placed.errors.into_iter().next().map(|first| match wrong {
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
            Some(why) => tracing::warn!(source = %self.source.name, why, "a source gives not all that it is asked for"),
            None => tracing::info!(source = %self.source.name, "a source gives all that it is asked for"),
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
