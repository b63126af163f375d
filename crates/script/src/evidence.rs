//! What scripts can read: one question type for every function of the rule language.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::functions::{Param as ScriptParam, SIGNATURES};
use selfheal_model::units::format_duration;
use selfheal_model::{Labels, Map, Severity, Timestamp, Value};

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
    Stddev,
    P50,
    P90,
    P95,
    P99,
    Rate,
    Increase,
    Delta,
    Changes,
    Slope,
    Zscore,
    First,
    Quantile,
    Predict,
    TimeTo,
    History,
    Status,
    Healthy,
    Unhealthy,
    Failures,
    Successes,
    Reason,
    Latency,
    SuccessRate,
    Flaps,
    Signal,
    SignalAge,
    SignalField,
    Open,
    Label,
    Fact,
    Firing,
    Deployments,
    Hour,
    Weekday,
    InInterval,
}

/// What the subject of a function names, and so what can change its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A metric, or a selector.
    Metric,
    /// A check's newest verdicts.
    Check,
    /// A check's verdicts over a window, which are series.
    CheckSeries,
    Signal,
    /// A label, or the scope as a whole: they change only with the scope itself.
    Scope,
    Fact,
    Rule,
    /// The wall clock of the evaluation.
    Clock,
}

impl Func {
    pub fn about(self) -> About {
        match self {
            Func::Last
            | Func::Age
            | Func::Absent
            | Func::Avg
            | Func::Min
            | Func::Max
            | Func::Sum
            | Func::Count
            | Func::Stddev
            | Func::P50
            | Func::P90
            | Func::P95
            | Func::P99
            | Func::Rate
            | Func::Increase
            | Func::Delta
            | Func::Changes
            | Func::Slope
            | Func::Zscore
            | Func::First
            | Func::Quantile
            | Func::Predict
            | Func::TimeTo
            | Func::History => About::Metric,
            Func::Status
            | Func::Healthy
            | Func::Unhealthy
            | Func::Failures
            | Func::Successes
            | Func::Reason
            | Func::Latency => About::Check,
            Func::SuccessRate | Func::Flaps => About::CheckSeries,
            Func::Signal | Func::SignalAge | Func::SignalField | Func::Open => About::Signal,
            Func::Label | Func::Deployments => About::Scope,
            Func::Fact => About::Fact,
            Func::Firing => About::Rule,
            Func::Hour | Func::Weekday | Func::InInterval => About::Clock,
        }
    }

    /// Whether it is a number out of one metric's samples, so that arithmetic can tell what follows from it.
    pub fn is_number_of_metric(self) -> bool {
        self == Func::Last || self.is_of_a_window()
    }

    /// Whether it gives a number out of a metric's samples in a window, the same as long as none comes or leaves.
    pub fn is_of_a_window(self) -> bool {
        let is_other =
            matches!(self, Func::Last | Func::Age | Func::Absent | Func::Predict | Func::TimeTo | Func::History);
        self.about() == About::Metric && !is_other
    }
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
    /// The share of `quantile`, the seconds ahead of `predict`, the limit of `time_to`.
    pub amount: Option<Amount>,
}

impl fmt::Display for Read {
    /// As it is written in a script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(signature) = SIGNATURES.iter().find(|signature| signature.func == self.func) else { return Ok(()) };
        let mut args = Vec::new();
        if signature.subject.is_some() {
            args.push(format!("{:?}", self.subject.as_str()));
        }
        for param in signature.params {
            let amount = self.amount.map(Amount::get).unwrap_or_default();
            args.extend(match param {
                ScriptParam::Fold | ScriptParam::Text(_) => {
                    self.other.as_ref().map(|other| format!("{:?}", other.as_str()))
                }
                ScriptParam::Window => self.window.map(|window| format!("\"{}\"", format_duration(window))),
                ScriptParam::Ahead => {
                    Some(format!("\"{}\"", format_duration(Duration::try_from_secs_f64(amount).unwrap_or_default())))
                }
                ScriptParam::Share | ScriptParam::Limit => Some(amount.to_string()),
            });
        }
        write!(f, "{}({})", signature.name, args.join(", "))
    }
}

/// A number out of a call's arguments, finite; two are the same if they have the same bits.
#[derive(Clone, Copy, Debug)]
pub struct Amount(f64);

impl Amount {
    pub fn new(number: f64) -> Amount {
        Amount(if number.is_finite() { number } else { 0.0 })
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Amount {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
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

    /// Hears how many operations a script took when it has ended.
    fn spent(&self, _operations: u64) {}
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
