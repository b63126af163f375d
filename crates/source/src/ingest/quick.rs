//! The events that come by the hundred thousand, read without taking their object apart first.
//!
//! Invariant: what is read here is what [`object::read`](super::object::read) would have read; whatever is unusual, and
//! every mistake, is left to it.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use smallvec::SmallVec;

use super::object::{label_name, wrong_name};
use super::{Limits, MAX_AHEAD};
use selfheal_model::{DeploymentId, Event, EventKind, Labels, MetricName, Origin, Timestamp};

/// A sample as it mostly comes: every text in it stands in the body as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    deployment: &'a str,
    #[serde(borrow)]
    name: &'a str,
    value: f64,
    #[serde(borrow, default)]
    labels: Pairs<'a>,
    #[serde(borrow, default)]
    time: Option<&'a str>,
}

/// Names and values in written order.
#[derive(Default)]
struct Pairs<'a>(SmallVec<[(&'a str, &'a str); 4]>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for Entries<'a> {
            type Value = Pairs<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Pairs::default();
                while let Some(name) = map.next_key::<&str>()? {
                    pairs.0.push((name, map.next_value()?));
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// `None`: it is something else, or something is wrong with it.
pub(super) fn sample(text: &[u8], arrival: Timestamp, limits: &Limits) -> Option<Event> {
    let Sample { kind, deployment, name, value, labels: Pairs(pairs), time } = serde_json::from_slice(text).ok()?;
    let is_name = |name: &str| wrong_name(name, limits.name).is_none();
    if kind != "metric" || !value.is_finite() || !is_name(deployment) || !is_name(name) || pairs.len() > limits.labels {
        return None;
    }
    let is_label = |(name, value): &(&str, &str)| {
        label_name(name) && name.len() <= limits.name && *name != "deployment" && value.len() <= limits.label_value
    };
    let is_twice = |at: usize| pairs.iter().take(at).any(|(name, _)| *name == pairs[at].0);
    if !pairs.iter().all(is_label) || (1..pairs.len()).any(is_twice) {
        return None;
    }
    let time = match time {
        None => arrival,
        Some(text) => text.parse::<Timestamp>().ok().filter(|time| *time <= arrival + MAX_AHEAD)?.min(arrival),
    };
    let labels = if pairs.is_empty() { Labels::default() } else { pairs.into_iter().collect() };
    let kind = EventKind::Metric { name: MetricName::new(name), value, labels };
    Some(Event { deployment: DeploymentId::new(deployment), time, kind, origin: Origin::External })
}
