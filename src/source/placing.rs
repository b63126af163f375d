//! Other systems' samples into events: whose each is, under which labels, and when.
//!
//! Invariant: a sample that nobody can be found for is an error with its name, never somebody else's.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::formats::{Foreign, ForeignSample, ForeignValue};
use super::ingest::{LATE_AFTER, Limits, MAX_AHEAD, cut, label_name, wrong_name};
use crate::model::{DeploymentId, Event, EventKind, Labels, MetricName, Origin, Timestamp};

/// The label that says whose a sample is; it becomes the event's own key.
const DEPLOYMENT: &str = "deployment";
/// A label that a source says itself keeps the sample's own under this, as in Prometheus.
const EXPORTED: &str = "exported_";

/// Labels of one sample that another system gives: what a resource or a discovery knows of it goes on every one.
const MAX_LABELS: usize = 64;

/// The bounds of foreign samples.
fn limits() -> Limits {
    Limits { labels: MAX_LABELS, ..Limits::default() }
}

/// How samples are placed.
pub struct Placing<'a> {
    /// Put on every sample; `deployment` says whose they are.
    pub labels: &'a Labels,
    /// Labels that may say whose a sample is; the first that is there does.
    pub deployment_from: &'a [SmolStr],
    /// Whether a metric of this name is wanted.
    pub keeps: &'a dyn Fn(&str) -> bool,
    pub arrival: Timestamp,
    pub origin: Origin,
}

/// What became of samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    /// In the order of the samples.
    pub events: Vec<Event>,
    /// At most [`Limits::errors`], the samples' own first.
    pub errors: Vec<String>,
    pub more_errors: usize,
    /// Older than [`LATE_AFTER`].
    pub late: usize,
    /// Samples that the source is not to be asked for.
    pub unwanted: usize,
}

/// Places all samples of a body.
pub fn place(foreign: Foreign, placing: &Placing<'_>) -> Placed {
    let limits = &limits();
    let Foreign { samples, errors, more_errors, .. } = foreign;
    let mut placed = Placed { errors, more_errors, ..Placed::default() };
    placed.events.reserve(samples.len());
    // one mistake of a whole series is said once
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for sample in samples {
        if !(placing.keeps)(&sample.name) {
            placed.unwanted += 1;
            continue;
        }
        match placing.event(sample, limits) {
            Ok(event) => {
                placed.late += usize::from(event.time < placing.arrival - LATE_AFTER);
                placed.events.push(event);
            }
            Err(why) if said.len() < limits.errors => *said.entry(why).or_default() += 1,
            Err(_) => placed.more_errors += 1,
        }
    }
    for (why, times) in said {
        placed.more_errors += times - 1;
        if placed.errors.len() < limits.errors {
            placed.errors.push(why);
        } else {
            placed.more_errors += 1;
        }
    }
    placed
}

impl Placing<'_> {
    fn event(&self, sample: ForeignSample, limits: &Limits) -> Result<Event, String> {
        let ForeignSample { name, labels, value, time } = sample;
        if let Some(why) = wrong_name(&name, limits.name) {
            return Err(format!("the name {:?} {why}", cut(&name, 40)));
        }
        let deployment = self.whose(&name, &labels, limits)?;
        let labels = self.labels_of(&name, labels, limits)?;
        let time = match time {
            None => self.arrival,
            Some(time) if time > self.arrival + MAX_AHEAD => {
                let most = MAX_AHEAD.as_secs() / 60;
                return Err(format!("`{name}` is more than {most} min ahead of the clock here ({})", self.arrival));
            }
            Some(time) => time.min(self.arrival),
        };
        let name = MetricName::new(name);
        let kind = match value {
            ForeignValue::Number(value) => EventKind::Metric { name, value, labels },
            ForeignValue::Stale => EventKind::Ended { name, labels },
        };
        Ok(Event { deployment, time, kind, origin: self.origin.clone() })
    }

    fn whose(&self, name: &str, labels: &[(SmolStr, SmolStr)], limits: &Limits) -> Result<DeploymentId, String> {
        let of_sample =
            |wanted: &SmolStr| labels.iter().find(|(own, _)| own == wanted).map(|(_, value)| value.as_str());
        let said = self.labels.get(DEPLOYMENT).or_else(|| self.deployment_from.iter().find_map(of_sample));
        let Some(id) = said else {
            let labels: Vec<&str> = self.deployment_from.iter().map(SmolStr::as_str).collect();
            return Err(format!("`{name}` does not say whose it is: none of its labels is {}", labels.join(" or ")));
        };
        match wrong_name(id, limits.name) {
            Some(why) => Err(format!("`{name}` is of the deployment {:?}, which {why}", cut(id, 40))),
            None => Ok(DeploymentId::new(id)),
        }
    }

    fn labels_of(&self, name: &str, own: Vec<(SmolStr, SmolStr)>, limits: &Limits) -> Result<Labels, String> {
        let mut labels: Vec<(SmolStr, SmolStr)> = Vec::with_capacity(own.len() + self.labels.len());
        for (label, value) in own {
            if label == DEPLOYMENT {
                continue;
            }
            if !label_name(&label) || label.len() > limits.name {
                return Err(format!(
                    "`{name}` has the label {:?}, which is none; use letters, digits and _",
                    cut(&label, 40)
                ));
            }
            let label = match self.labels.get(&label) {
                Some(_) => SmolStr::from(format!("{EXPORTED}{label}")),
                None => label,
            };
            labels.push((label, SmolStr::from(cut(&value, limits.label_value))));
        }
        labels.extend(
            self.labels
                .iter()
                .filter(|(label, _)| *label != DEPLOYMENT)
                .map(|(label, value)| (label.into(), value.into())),
        );
        if labels.len() > limits.labels {
            return Err(format!("`{name}` has {} labels; at most {} are taken", labels.len(), limits.labels));
        }
        Ok(labels.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn sample(labels: &[(&str, &str)], value: ForeignValue, time: Option<Timestamp>) -> ForeignSample {
        let labels = labels.iter().map(|(name, value)| (SmolStr::new(name), SmolStr::new(value))).collect();
        ForeignSample { name: "up".into(), labels, value, time }
    }

    fn placed(samples: Vec<ForeignSample>, labels: &[(&str, &str)]) -> Placed {
        let labels: Labels = labels.iter().copied().collect();
        let from = ["deployment", "job"].map(SmolStr::new);
        let placing = Placing {
            labels: &labels,
            deployment_from: &from,
            keeps: &|name| name == "up",
            arrival: at(1_000_000),
            origin: Origin::External,
        };
        place(Foreign { samples, ..Foreign::default() }, &placing)
    }

    #[test]
    fn the_first_label_there_is_says_whose_a_sample_is() {
        let number = ForeignValue::Number(1.0);
        let result = placed(
            vec![
                sample(&[("deployment", "shop"), ("job", "node")], number, None),
                sample(&[("job", "node"), ("instance", "a:9")], ForeignValue::Stale, Some(at(5))),
                sample(&[("instance", "a:9")], number, None),
                sample(&[("instance", "b:9")], number, None),
            ],
            &[],
        );
        let said: Vec<String> =
            result.events.iter().map(|event| format!("{} {:?}", event.deployment, event.kind)).collect();
        assert_eq!(
            said,
            [
                "shop Metric { name: \"up\", value: 1.0, labels: {\"job\": \"node\"} }",
                "node Ended { name: \"up\", labels: {\"instance\": \"a:9\", \"job\": \"node\"} }"
            ]
        );
        assert_eq!(result.errors, ["`up` does not say whose it is: none of its labels is deployment or job"]);
        assert_eq!((result.more_errors, result.late), (1, 1));
    }

    #[test]
    fn what_a_source_says_wins_and_the_sample_keeps_its_own_beside_it() {
        let own = [("deployment", "other"), ("zone", "a")];
        let result =
            placed(vec![sample(&own, ForeignValue::Number(1.0), None)], &[("deployment", "shop"), ("zone", "b")]);
        let EventKind::Metric { labels, .. } = &result.events[0].kind else { panic!("{result:?}") };
        assert_eq!(
            (result.events[0].deployment.as_str(), labels.to_string()),
            ("shop", "{exported_zone=\"a\", zone=\"b\"}".into())
        );
    }

    #[test]
    fn a_clock_that_runs_a_little_fast_is_put_right_and_one_far_ahead_refused() {
        let own = [("job", "shop")];
        let result = placed(
            vec![
                sample(&own, ForeignValue::Number(1.0), Some(at(1_000_200))),
                sample(&own, ForeignValue::Number(1.0), Some(at(1_000_400))),
            ],
            &[],
        );
        assert_eq!(result.events.iter().map(|event| event.time).collect::<Vec<_>>(), [at(1_000_000)]);
        assert!(result.errors[0].contains("more than 5 min ahead"), "{:?}", result.errors);
    }

    #[test]
    fn what_is_no_name_is_an_error_and_what_is_not_wanted_none() {
        let mut wrong = sample(&[("job", "a b")], ForeignValue::Number(1.0), None);
        let mut unwanted = wrong.clone();
        unwanted.name = "other".into();
        wrong.labels.push(("my-label".into(), "x".into()));
        let mut label = wrong.clone();
        label.labels[0].1 = "shop".into();
        let result = placed(vec![wrong, unwanted, label], &[]);
        assert_eq!((result.events.len(), result.unwanted, result.errors.len()), (0, 1, 2), "{result:?}");
    }
}
