//! Attributes the samples of other systems: the deployment, labels and time of each, as events.
//!
//! Invariant: a sample without a deployment is an error that names the sample; it is never attributed to another one.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::formats::{Foreign, ForeignSample, ForeignValue};
use super::ingest::{LATE_AFTER, Limits, MAX_AHEAD, cut, label_name, wrong_name};
use selfheal_model::{DeploymentId, Event, EventKind, Labels, MetricName, Origin, Timestamp};

/// The label that names the deployment of a sample. It becomes a field of the event and is no label of the series.
const DEPLOYMENT: &str = "deployment";
/// Prefix of a sample's label that a label of the source replaces, as in Prometheus: two samples that differ in that
/// label only stay two series.
const EXPORTED: &str = "exported_";

/// The most labels of one sample: other systems add the labels of a resource or of service discovery to each sample.
const MAX_LABELS: usize = 64;

/// The limits of samples of other systems.
fn limits() -> Limits {
    Limits { labels: MAX_LABELS, ..Limits::default() }
}

/// How samples are attributed.
pub struct Attribution<'a> {
    /// Added to every sample, in place of its own labels of the same name; `deployment` is the deployment of all samples.
    pub labels: &'a Labels,
    /// The labels that may name the deployment of a sample, in order; the first that the sample has counts.
    pub deployment_from: &'a [SmolStr],
    /// Whether a metric of this name is wanted.
    pub keeps: &'a dyn Fn(&str) -> bool,
    pub arrival: Timestamp,
    pub origin: Origin,
}

/// The result of attributing samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributed {
    /// In the order of the samples.
    pub events: Vec<Event>,
    /// At most [`Limits::errors`], the samples' own first.
    pub errors: Vec<String>,
    pub more_errors: usize,
    /// Older than [`LATE_AFTER`].
    pub late: usize,
    /// Samples whose metric the source does not keep.
    pub unwanted: usize,
}

/// Places all samples of a body.
pub fn attribute(foreign: Foreign, attribution: &Attribution<'_>) -> Attributed {
    let limits = &limits();
    let Foreign { samples, errors, more_errors, .. } = foreign;
    let mut attributed = Attributed { errors, more_errors, ..Attributed::default() };
    attributed.events.reserve(samples.len());
    // the same error of many samples is reported once
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for sample in samples {
        if !(attribution.keeps)(&sample.name) {
            attributed.unwanted += 1;
            continue;
        }
        match attribution.event(sample, limits) {
            Ok(event) => {
                attributed.late += usize::from(event.time < attribution.arrival - LATE_AFTER);
                attributed.events.push(event);
            }
            Err(why) if said.len() < limits.errors => *said.entry(why).or_default() += 1,
            Err(_) => attributed.more_errors += 1,
        }
    }
    for (why, times) in said {
        attributed.more_errors += times - 1;
        if attributed.errors.len() < limits.errors {
            attributed.errors.push(why);
        } else {
            attributed.more_errors += 1;
        }
    }
    attributed
}

/// What named the deployment of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttributedBy {
    /// The sample's label `deployment`, which is therefore no label of the series.
    OwnLabel,
    /// The source, or another label of the sample.
    Another,
}

impl Attribution<'_> {
    fn event(&self, sample: ForeignSample, limits: &Limits) -> Result<Event, String> {
        let ForeignSample { name, labels, value, time } = sample;
        if let Some(why) = wrong_name(&name, limits.name) {
            return Err(format!("the name {:?} {why}", cut(&name, 40)));
        }
        let (deployment, attributed_by) = self.whose(&name, &labels, limits)?;
        let labels = self.labels_of(&name, labels, attributed_by, limits)?;
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

    fn whose(
        &self,
        name: &str,
        labels: &[(SmolStr, SmolStr)],
        limits: &Limits,
    ) -> Result<(DeploymentId, AttributedBy), String> {
        let of_sample = |wanted: &SmolStr| {
            let (label, id) = labels.iter().find(|(own, _)| own == wanted)?;
            Some((id.as_str(), if label == DEPLOYMENT { AttributedBy::OwnLabel } else { AttributedBy::Another }))
        };
        let of_source = self.labels.get(DEPLOYMENT).map(|id| (id, AttributedBy::Another));
        let Some((id, by)) = of_source.or_else(|| self.deployment_from.iter().find_map(of_sample)) else {
            let labels: Vec<&str> = self.deployment_from.iter().map(SmolStr::as_str).collect();
            return Err(format!("`{name}` has no deployment: none of its labels is {}", labels.join(" or ")));
        };
        match wrong_name(id, limits.name) {
            Some(why) => Err(format!("`{name}` has the deployment {:?}, which {why}", cut(id, 40))),
            None => Ok((DeploymentId::new(id), by)),
        }
    }

    fn labels_of(
        &self,
        name: &str,
        own: Vec<(SmolStr, SmolStr)>,
        attributed_by: AttributedBy,
        limits: &Limits,
    ) -> Result<Labels, String> {
        let mut labels: Vec<(SmolStr, SmolStr)> = Vec::with_capacity(own.len() + self.labels.len());
        let mut displaced: Vec<(SmolStr, SmolStr)> = Vec::new();
        for (label, value) in own {
            if label == DEPLOYMENT && attributed_by == AttributedBy::OwnLabel {
                continue;
            }
            if !label_name(&label) || label.len() > limits.name {
                return Err(format!(
                    "`{name}` has the label {:?}, which is none; use letters, digits and _",
                    cut(&label, 40)
                ));
            }
            let value = SmolStr::from(cut(&value, limits.label_value));
            let is_displaced = label == DEPLOYMENT || self.labels.get(&label).is_some();
            if is_displaced { &mut displaced } else { &mut labels }.push((label, value));
        }
        for (label, value) in displaced {
            let label = self.exported(&label, &labels);
            labels.push((label, value));
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

    /// A new name for a label that is replaced, which no other label of the sample has.
    fn exported(&self, label: &str, taken: &[(SmolStr, SmolStr)]) -> SmolStr {
        let mut name = format!("{EXPORTED}{label}");
        while self.labels.get(&name).is_some() || taken.iter().any(|(own, _)| *own == name) {
            name.insert_str(0, EXPORTED);
        }
        name.into()
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

    fn attributed(samples: Vec<ForeignSample>, labels: &[(&str, &str)]) -> Attributed {
        let labels: Labels = labels.iter().copied().collect();
        let from = ["deployment", "job"].map(SmolStr::new);
        let attribution = Attribution {
            labels: &labels,
            deployment_from: &from,
            keeps: &|name| name == "up",
            arrival: at(1_000_000),
            origin: Origin::External,
        };
        attribute(Foreign { samples, ..Foreign::default() }, &attribution)
    }

    #[test]
    fn the_first_label_there_is_says_whose_a_sample_is() {
        let number = ForeignValue::Number(1.0);
        let result = attributed(
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
        assert_eq!(result.errors, ["`up` has no deployment: none of its labels is deployment or job"]);
        assert_eq!((result.more_errors, result.late), (1, 1));
    }

    /// `deployment{labels}` of each.
    fn said(result: &Attributed) -> Vec<String> {
        let labels = |event: &Event| match &event.kind {
            EventKind::Metric { labels, .. } => labels.to_string(),
            other => panic!("{other:?}"),
        };
        result.events.iter().map(|event| format!("{}{}", event.deployment, labels(event))).collect()
    }

    #[test]
    fn what_a_source_says_wins_and_the_sample_keeps_its_own_beside_it() {
        let number = ForeignValue::Number(1.0);
        let samples = ["a", "b"].map(|own| sample(&[("deployment", own), ("zone", "a")], number, None));
        let result = attributed(samples.to_vec(), &[("deployment", "shop"), ("zone", "b")]);
        assert_eq!(
            said(&result),
            [
                "shop{exported_deployment=\"a\", exported_zone=\"a\", zone=\"b\"}",
                "shop{exported_deployment=\"b\", exported_zone=\"a\", zone=\"b\"}"
            ]
        );
    }

    #[test]
    fn a_label_deployment_that_another_label_comes_before_is_kept_beside_it() {
        let own = [("deployment", "a"), ("job", "kube-state-metrics")];
        let from = ["job", "deployment"].map(SmolStr::new);
        let attribution = Attribution {
            labels: &Labels::default(),
            deployment_from: &from,
            keeps: &|_| true,
            arrival: at(1_000_000),
            origin: Origin::External,
        };
        let samples =
            vec![sample(&own, ForeignValue::Number(1.0), None), sample(&own[..1], ForeignValue::Number(1.0), None)];
        let result = attribute(Foreign { samples, ..Foreign::default() }, &attribution);
        assert_eq!(said(&result), ["kube-state-metrics{exported_deployment=\"a\", job=\"kube-state-metrics\"}", "a"]);
    }

    #[test]
    fn a_label_that_is_kept_beside_another_takes_no_third_one_s_place() {
        let own = [("exported_zone", "first"), ("zone", "second"), ("exported_exported_deployment", "x")];
        let samples = vec![sample(&own, ForeignValue::Number(1.0), None)];
        let result = attributed(samples, &[("deployment", "shop"), ("zone", "b")]);
        assert_eq!(
            said(&result),
            [concat!(
                "shop{exported_exported_deployment=\"x\", exported_exported_zone=\"second\", ",
                "exported_zone=\"first\", zone=\"b\"}"
            )]
        );
    }

    #[test]
    fn a_clock_that_runs_a_little_fast_is_put_right_and_one_far_ahead_refused() {
        let own = [("job", "shop")];
        let result = attributed(
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
        let result = attributed(vec![wrong, unwanted, label], &[]);
        assert_eq!((result.events.len(), result.unwanted, result.errors.len()), (0, 1, 2), "{result:?}");
    }
}
