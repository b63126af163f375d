//! The functions that read evidence (SPEC §2.3): one table for conditions, for texts and for the checks at load.

use crate::func::Func;

/// The kind of value that a function gives when there is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    Number,
    Bool,
    Text,
    /// Of numbers.
    List,
    /// The kind of the field or fact.
    Any,
}

/// An argument after the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Param {
    /// Optional, and the last argument: how several series become one number.
    Fold,
    Window,
    /// A text, with its name for messages.
    Text(&'static str),
    /// A share of the samples, 0 to 1.
    Share,
    /// A length of time from now.
    Ahead,
    /// A number in the metric's own unit.
    Limit,
}

/// One function of the rule language.
#[derive(Debug)]
pub(crate) struct Signature {
    pub name: &'static str,
    pub func: Func,
    /// What the first argument names; `None`: the function has no arguments.
    pub subject: Option<&'static str>,
    pub params: &'static [Param],
    pub gives: Gives,
    /// How it is written, for help texts.
    pub shape: &'static str,
}

const fn signature(
    name: &'static str,
    func: Func,
    subject: Option<&'static str>,
    params: &'static [Param],
    gives: Gives,
    shape: &'static str,
) -> Signature {
    Signature { name, func, subject, params, gives, shape }
}

const METRIC: Option<&str> = Some("metric");
const CHECK: Option<&str> = Some("check");
const SIGNAL: Option<&str> = Some("signal");
const ZONE: Option<&str> = Some("time zone");

/// Every function that reads [`Evidence`](crate::Evidence).
#[rustfmt::skip]
pub(crate) static SIGNATURES: [Signature; 44] = [
    signature("last", Func::Last, METRIC, &[Param::Fold], Gives::Number, "last(\"cpu_percent\") or last(\"cpu_percent\", \"max\")"),
    signature("age", Func::Age, METRIC, &[Param::Fold], Gives::Number, "age(\"cpu_percent\") or age(\"cpu_percent\", \"max\")"),
    signature("absent", Func::Absent, METRIC, &[Param::Window], Gives::Bool, "absent(\"cpu_percent\", \"5m\")"),
    signature("avg", Func::Avg, METRIC, &[Param::Window], Gives::Number, "avg(\"cpu_percent\", \"5m\")"),
    signature("min", Func::Min, METRIC, &[Param::Window], Gives::Number, "min(\"cpu_percent\", \"5m\")"),
    signature("max", Func::Max, METRIC, &[Param::Window], Gives::Number, "max(\"cpu_percent\", \"5m\")"),
    signature("sum", Func::Sum, METRIC, &[Param::Window], Gives::Number, "sum(\"jobs_failed\", \"5m\")"),
    signature("count", Func::Count, METRIC, &[Param::Window], Gives::Number, "count(\"cpu_percent\", \"5m\")"),
    signature("rate", Func::Rate, METRIC, &[Param::Window], Gives::Number, "rate(\"requests_total\", \"5m\")"),
    signature("stddev", Func::Stddev, METRIC, &[Param::Window], Gives::Number, "stddev(\"latency_ms\", \"10m\")"),
    signature("p50", Func::P50, METRIC, &[Param::Window], Gives::Number, "p50(\"latency_ms\", \"10m\")"),
    signature("p90", Func::P90, METRIC, &[Param::Window], Gives::Number, "p90(\"latency_ms\", \"10m\")"),
    signature("p95", Func::P95, METRIC, &[Param::Window], Gives::Number, "p95(\"latency_ms\", \"10m\")"),
    signature("p99", Func::P99, METRIC, &[Param::Window], Gives::Number, "p99(\"latency_ms\", \"10m\")"),
    signature("increase", Func::Increase, METRIC, &[Param::Window], Gives::Number, "increase(\"errors_total\", \"5m\")"),
    signature("changes", Func::Changes, METRIC, &[Param::Window], Gives::Number, "changes(\"config_version\", \"1h\")"),
    signature("slope", Func::Slope, METRIC, &[Param::Window], Gives::Number, "slope(\"disk_used_bytes\", \"1h\")"),
    signature("zscore", Func::Zscore, METRIC, &[Param::Window], Gives::Number, "zscore(\"latency_ms\", \"1h\")"),
    signature("quantile", Func::Quantile, METRIC, &[Param::Share, Param::Window], Gives::Number, "quantile(\"latency_ms\", 0.95, \"10m\")"),
    signature("predict", Func::Predict, METRIC, &[Param::Window, Param::Ahead], Gives::Number, "predict(\"disk_percent\", \"1h\", \"4h\")"),
    signature("time_to", Func::TimeTo, METRIC, &[Param::Window, Param::Limit], Gives::Number, "time_to(\"disk_percent\", \"1h\", 95)"),
    signature("history", Func::History, METRIC, &[Param::Window], Gives::List, "history(\"cpu_percent\", \"5m\")"),
    signature("first", Func::First, METRIC, &[Param::Window], Gives::Number, "first(\"queue_length\", \"10m\")"),
    signature("delta", Func::Delta, METRIC, &[Param::Window], Gives::Number, "delta(\"queue_length\", \"5m\")"),
    signature("status", Func::Status, CHECK, &[], Gives::Text, "status(\"http\")"),
    signature("healthy", Func::Healthy, CHECK, &[], Gives::Bool, "healthy(\"http\")"),
    signature("unhealthy", Func::Unhealthy, CHECK, &[], Gives::Bool, "unhealthy(\"http\")"),
    signature("failures", Func::Failures, CHECK, &[], Gives::Number, "failures(\"http\")"),
    signature("successes", Func::Successes, CHECK, &[], Gives::Number, "successes(\"http\")"),
    signature("reason", Func::Reason, CHECK, &[], Gives::Text, "reason(\"http\")"),
    signature("latency", Func::Latency, CHECK, &[], Gives::Number, "latency(\"http\")"),
    signature("flaps", Func::Flaps, CHECK, &[Param::Window], Gives::Number, "flaps(\"http\", \"1h\")"),
    signature("success_rate", Func::SuccessRate, CHECK, &[Param::Window], Gives::Number, "success_rate(\"http\", \"10m\")"),
    signature("signal", Func::Signal, SIGNAL, &[Param::Window], Gives::Number, "signal(\"deployment_failed\", \"10m\")"),
    signature("signal_age", Func::SignalAge, SIGNAL, &[], Gives::Number, "signal_age(\"deployment_failed\")"),
    signature("signal_field", Func::SignalField, SIGNAL, &[Param::Text("field")], Gives::Any, "signal_field(\"deployment_failed\", \"version\")"),
    signature("open", Func::Open, SIGNAL, &[Param::Text("closing signal")], Gives::Bool, "open(\"deploy_started\", \"deploy_finished\")"),
    signature("label", Func::Label, Some("label"), &[], Gives::Text, "label(\"tier\")"),
    signature("fact", Func::Fact, Some("fact"), &[], Gives::Any, "fact(\"replicas\")"),
    signature("firing", Func::Firing, Some("rule"), &[], Gives::Number, "firing(\"HighCpu\")"),
    signature("hour", Func::Hour, ZONE, &[], Gives::Number, "hour(\"Europe/Madrid\")"),
    signature("weekday", Func::Weekday, ZONE, &[], Gives::Number, "weekday(\"Europe/Madrid\")"),
    signature("in_interval", Func::InInterval, Some("time interval"), &[], Gives::Bool, "in_interval(\"office-hours\")"),
    signature("deployments", Func::Deployments, None, &[], Gives::Number, "deployments()"),
];

/// The functions of the language that read nothing but their arguments and the settings.
pub(crate) const PLAIN: [(&str, &str); 4] = [
    ("has", "has(last(\"cpu_percent\"))"),
    ("duration", "duration(\"6h\")"),
    ("size", "size(\"2GiB\")"),
    ("setting", "setting(\"cpu_percent.critical\")"),
];

/// How several series may be folded into one number.
pub(crate) const FOLDS: [&str; 4] = ["min", "max", "sum", "avg"];

/// The names of all functions that read evidence, as scripts and texts write them.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.iter().map(|signature| signature.name)
}

pub(crate) fn signature_of(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}

impl Signature {
    /// The least and the greatest number of arguments.
    pub fn arity(&self) -> (usize, usize) {
        let most = usize::from(self.subject.is_some()) + self.params.len();
        (most - usize::from(self.params.contains(&Param::Fold)), most)
    }
}
