//! The functions a script reads evidence with (SPEC 2.3): one table for Rhai, for templates and for the checks at load.

use std::time::Duration;

use smol_str::SmolStr;

use super::evidence::{Amount, Func, Read};
use selfheal_model::units::parse_duration;

/// What a function gives when there is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    Number,
    Bool,
    Text,
    /// Of numbers.
    List,
    /// Whatever the field or fact holds.
    Any,
}

/// An argument after the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Param {
    /// Optional, and the last: how several series become one number.
    Fold,
    Window,
    /// A text with the name that messages call it by.
    Text(&'static str),
    /// Of the samples, 0 to 1.
    Share,
    /// How far from now.
    Ahead,
    /// A number in the metric's own unit.
    Limit,
}

/// One function of the rule language.
#[derive(Debug)]
pub(super) struct Signature {
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

/// Every function that asks [`Evidence`](super::Evidence).
#[rustfmt::skip]
pub(super) static SIGNATURES: [Signature; 44] = [
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
pub(super) const PLAIN: [(&str, &str); 4] = [
    ("has", "has(last(\"cpu_percent\"))"),
    ("duration", "duration(\"6h\")"),
    ("size", "size(\"2GiB\")"),
    ("setting", "setting(\"cpu_percent.critical\")"),
];

/// How several series may be folded into one number.
pub(super) const FOLDS: [&str; 4] = ["min", "max", "sum", "avg"];

/// The names of all functions that read.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.iter().map(|signature| signature.name)
}

pub(super) fn signature_of(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}

impl Signature {
    /// How many arguments it takes, from and to.
    pub fn arity(&self) -> (usize, usize) {
        let most = usize::from(self.subject.is_some()) + self.params.len();
        (most - usize::from(self.params.contains(&Param::Fold)), most)
    }
}

/// An argument as far as a call needs to know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arg<'a> {
    Text(&'a str),
    Number(f64),
    /// No data.
    Nothing,
    /// Something else; the text names its type.
    Other(&'a str),
}

impl Arg<'_> {
    fn describe(&self) -> String {
        match self {
            Arg::Text(text) => format!("the text \"{text}\""),
            Arg::Number(number) => format!("the number {number}"),
            Arg::Nothing => "something that is missing".to_owned(),
            Arg::Other(kind) => (*kind).to_owned(),
        }
    }
}

/// Why arguments make no read: which one, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadArg {
    pub index: usize,
    pub message: String,
}

fn bad(index: usize, message: String) -> BadArg {
    BadArg { index, message }
}

/// Makes the question out of a call's arguments.
pub(super) fn plan(signature: &Signature, args: &[Arg<'_>]) -> Result<Read, BadArg> {
    let name = signature.name;
    let (least, most) = signature.arity();
    if args.len() < least || args.len() > most {
        return Err(bad(0, format!("`{name}` is called with {} arguments; write {}", args.len(), signature.shape)));
    }
    let mut read = Read { func: signature.func, subject: SmolStr::default(), window: None, other: None, amount: None };
    if let (Some(noun), Some(first)) = (signature.subject, args.first()) {
        read.subject = match first {
            Arg::Text(text) => SmolStr::new(subject(noun, text).map_err(|message| bad(0, message))?),
            other => return Err(bad(0, format!("`{name}` needs the name of a {noun}, not {}", other.describe()))),
        };
    }
    for (index, (param, arg)) in signature.params.iter().zip(args.iter().skip(1)).enumerate() {
        take(&mut read, name, *param, *arg).map_err(|message| bad(index + 1, message))?;
    }
    Ok(read)
}

/// Puts an argument after the subject where it belongs.
fn take(read: &mut Read, name: &str, param: Param, arg: Arg<'_>) -> Result<(), String> {
    match (param, arg) {
        (Param::Fold, Arg::Text(fold)) if FOLDS.contains(&fold) => read.other = Some(SmolStr::new(fold)),
        (Param::Fold, other) => {
            let folds = FOLDS.join(" ");
            return Err(format!("`{name}` folds several series with one of {folds}, not {}", other.describe()));
        }
        (Param::Text(_), Arg::Text(text)) if !text.is_empty() => read.other = Some(SmolStr::new(text)),
        (Param::Text(noun), other) => {
            return Err(format!("`{name}` needs the name of a {noun}, not {}", other.describe()));
        }
        (Param::Window, arg) => {
            read.window = Some(window(arg).map_err(|why| format!("the window of `{name}`: {why}"))?);
        }
        (Param::Ahead, arg) => {
            let ahead = span(arg).map_err(|why| format!("how far `{name}` looks ahead: {why}"))?;
            read.amount = Some(Amount::new(ahead.as_secs_f64()));
        }
        (Param::Share, Arg::Number(share)) if (0.0..=1.0).contains(&share) => read.amount = Some(Amount::new(share)),
        (Param::Share, other) => {
            return Err(format!("the share of `{name}` is a number from 0 to 1, not {}", other.describe()));
        }
        (Param::Limit, Arg::Number(limit)) if limit.is_finite() => read.amount = Some(Amount::new(limit)),
        (Param::Limit, other) => return Err(format!("the limit of `{name}` is a number, not {}", other.describe())),
    }
    Ok(())
}

/// A subject's text without surrounding blanks; a metric's braces must be whole.
fn subject<'t>(noun: &str, text: &'t str) -> Result<&'t str, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(format!("the name of the {noun} is empty"));
    }
    if noun == "time zone" && selfheal_model::Zone::named(trimmed).is_none() {
        return Err(format!("there is no time zone `{trimmed}`; write for example Europe/Madrid, or UTC"));
    }
    if noun == "metric" {
        match trimmed.find(['{', '}']) {
            None => {}
            Some(0) => return Err(format!("`{trimmed}` names no metric before `{{`")),
            Some(at) => {
                let closed = trimmed[at..].starts_with('{') && trimmed.ends_with('}');
                if !closed || trimmed.matches('{').count() != trimmed.matches('}').count() {
                    return Err(format!("`{trimmed}` is no selector; write for example disk_percent{{mount='/'}}"));
                }
            }
        }
    }
    Ok(trimmed)
}

fn window(arg: Arg<'_>) -> Result<Duration, String> {
    let span = span(arg)?;
    if span.is_zero() { Err("it must be longer than zero".to_owned()) } else { Ok(span) }
}

/// A length of time: a text such as `5m`, or seconds as settings give them.
fn span(arg: Arg<'_>) -> Result<Duration, String> {
    match arg {
        Arg::Text(text) => parse_duration(text),
        Arg::Number(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("{seconds} is no length of time; write for example \"5m\", or a number of seconds")),
        other => Err(format!("write for example \"5m\", or a number of seconds, not {}", other.describe())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(name: &str, args: &[Arg<'_>]) -> Result<Read, BadArg> {
        plan(signature_of(name).unwrap_or_else(|| panic!("no `{name}`")), args)
    }

    #[test]
    fn windows_are_texts_or_seconds() {
        let by_text = planned("avg", &[Arg::Text("cpu"), Arg::Text("5m")]);
        assert_eq!(by_text, planned("avg", &[Arg::Text(" cpu "), Arg::Number(300.0)]));
        assert_eq!(by_text.map(|read| read.window), Ok(Some(Duration::from_secs(300))));
        for window in [Arg::Text("5"), Arg::Number(-1.0), Arg::Number(f64::NAN), Arg::Number(0.0), Arg::Nothing] {
            assert_eq!(planned("avg", &[Arg::Text("cpu"), window]).map_err(|bad| bad.index), Err(1), "{window:?}");
        }
    }

    #[test]
    fn subjects_are_names_or_whole_selectors() {
        assert!(planned("last", &[Arg::Text("disk{mount='/'}")]).is_ok());
        for text in ["", "  ", "disk{mount='/'", "disk}", "{mount='/'}"] {
            assert_eq!(planned("last", &[Arg::Text(text)]).map_err(|bad| bad.index), Err(0), "{text}");
        }
        assert!(planned("last", &[Arg::Number(5.0)]).is_err());
    }

    #[test]
    fn a_fold_is_one_of_four() {
        assert_eq!(planned("last", &[Arg::Text("x"), Arg::Text("max")]).map(|read| read.other), Ok(Some("max".into())));
        assert!(planned("last", &[Arg::Text("x"), Arg::Text("median")]).is_err());
        assert!(planned("last", &[Arg::Text("x"), Arg::Text("max"), Arg::Text("max")]).is_err());
    }
}
