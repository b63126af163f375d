//! What scripts can read: one question type for every function of the rule language.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use crate::model::{Labels, Map, Severity, Timestamp, Value};

/// A function of the rule language (SPEC §2.3). Its subject is a metric (name or selector), a check, a signal, a
/// rule, a label or a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Func {
    Last,
    Age,
    Absent,
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Rate,
    Delta,
    Status,
    Healthy,
    Unhealthy,
    Failures,
    Successes,
    SuccessRate,
    Signal,
    SignalAge,
    SignalField,
    Open,
    Label,
    Fact,
    Firing,
    Deployments,
}

/// One call: what a condition asks. Found in the syntax tree where its arguments are constants, else at run time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    pub func: Func,
    /// The first argument; empty for `deployments()`.
    pub subject: SmolStr,
    /// The window, for functions that have one.
    pub window: Option<Duration>,
    /// The other text argument: `closed_by` of `open`, `key` of `signal_field`, the fold of `last` and `age`
    /// (`min max sum avg`).
    pub other: Option<SmolStr>,
}

/// The answer to a [`Read`]. Every number is finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// `()` in Rhai, undefined in a template.
    Missing,
    Number(f64),
    Bool(bool),
    Text(SmolStr),
    /// A list or map out of a signal's field or a fact.
    Json(Value),
}

/// Answers reads for one scope at one instant.
pub trait Evidence {
    /// # Errors
    /// The read makes no sense here (ambiguous series, malformed selector); a sentence for people.
    fn read(&self, read: &Read) -> Result<Reading, String>;
}

/// The plain names a script or text sees, beside the functions.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    pub now: Timestamp,
    pub deployment: Option<SmolStr>,
    /// The alert's labels, or the deployment's where there is no alert.
    pub labels: Labels,
    pub value: Option<f64>,
    pub severity: Option<Severity>,
    /// The policy's settings with the deployment's own on top; durations are seconds, sizes bytes.
    pub settings: Arc<Map>,
    pub inputs: Map,
    /// `steps.ID` → `{outcome, class, message, output, seconds}`
    pub steps: Map,
    /// `failed.id`, `failed.message`, in `rescue` only.
    pub failed: Option<Map>,
}
