//! One input about a deployment: a sample, a check's verdict, or something that happened.

use serde::{Deserialize, Serialize};

use super::Map;
use super::health::{CheckStatus, Confidence, FailureReason};
use super::ids::{CheckName, DeploymentId, MetricName, RunId, SignalName};
use super::labels::Labels;
use super::time::Timestamp;

/// Who said it. A run's own events may start other rules, never the one that began the run.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Origin {
    /// Through the API or `selfheal send`, or on a page that a source asked for.
    #[default]
    External,
    /// What selfheal found out itself: a check's verdict, whether a source answers, its own figures.
    Watched,
    /// A run, or the engine about a run; `rule` is the alert's rule the run works for.
    Run { run: RunId, rule: Option<super::RuleName>, depth: u8 },
}

/// One event, parsed and bounded. `time` is the event's own; a source places an event without one at its arrival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub deployment: DeploymentId,
    pub time: Timestamp,
    pub kind: EventKind,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// A sample. `value` is finite: NaN and infinities are refused on the way in.
    Metric {
        name: MetricName,
        value: f64,
        labels: Labels,
    },
    /// A check's raw verdict, per replica where the check runs per replica.
    Health {
        check: CheckName,
        replica: Option<u32>,
        status: CheckStatus,
        latency_ms: Option<f64>,
        reason: Option<FailureReason>,
        message: String,
        /// How sure the verdict is, where it says so. Last and left out where there is none: journals hold events by
        /// the order of these fields, and those of versions without it are read as they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confidence: Option<Confidence>,
    },
    Signal {
        name: SignalName,
        fields: Map,
    },
    /// Who sends a series says that there are no more samples of it: its newest value is of no use from here on.
    Ended {
        name: MetricName,
        labels: Labels,
    },
}
