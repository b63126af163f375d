//! The functions a script reads evidence with (SPEC 2.3): one table for Rhai, for templates and for the checks at load.

use std::time::Duration;

use smol_str::SmolStr;

use super::evidence::{Func, Read};
use crate::model::units::parse_duration;

/// What a function gives when there is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    Number,
    Bool,
    Text,
    /// Whatever the field or fact holds.
    Any,
}

/// The argument after the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    None,
    /// Optional: how several series become one number.
    Fold,
    Window,
    /// A text with the name that messages call it by.
    Text(&'static str),
}

/// One function of the rule language.
#[derive(Debug)]
pub(super) struct Signature {
    pub name: &'static str,
    pub func: Func,
    /// What the first argument names; `None`: the function has no arguments.
    pub subject: Option<&'static str>,
    pub second: Second,
    pub gives: Gives,
    /// How it is written, for help texts.
    pub shape: &'static str,
}

const fn signature(
    name: &'static str,
    func: Func,
    subject: Option<&'static str>,
    second: Second,
    gives: Gives,
    shape: &'static str,
) -> Signature {
    Signature { name, func, subject, second, gives, shape }
}

const METRIC: Option<&str> = Some("metric");
const CHECK: Option<&str> = Some("check");
const SIGNAL: Option<&str> = Some("signal");

/// Every function that asks [`Evidence`](super::Evidence).
#[rustfmt::skip]
pub(super) static SIGNATURES: [Signature; 37] = [
    signature("last", Func::Last, METRIC, Second::Fold, Gives::Number, "last(\"cpu_percent\") or last(\"cpu_percent\", \"max\")"),
    signature("age", Func::Age, METRIC, Second::Fold, Gives::Number, "age(\"cpu_percent\") or age(\"cpu_percent\", \"max\")"),
    signature("absent", Func::Absent, METRIC, Second::Window, Gives::Bool, "absent(\"cpu_percent\", \"5m\")"),
    signature("avg", Func::Avg, METRIC, Second::Window, Gives::Number, "avg(\"cpu_percent\", \"5m\")"),
    signature("min", Func::Min, METRIC, Second::Window, Gives::Number, "min(\"cpu_percent\", \"5m\")"),
    signature("max", Func::Max, METRIC, Second::Window, Gives::Number, "max(\"cpu_percent\", \"5m\")"),
    signature("sum", Func::Sum, METRIC, Second::Window, Gives::Number, "sum(\"jobs_failed\", \"5m\")"),
    signature("count", Func::Count, METRIC, Second::Window, Gives::Number, "count(\"cpu_percent\", \"5m\")"),
    signature("rate", Func::Rate, METRIC, Second::Window, Gives::Number, "rate(\"requests_total\", \"5m\")"),
    signature("stddev", Func::Stddev, METRIC, Second::Window, Gives::Number, "stddev(\"latency_ms\", \"10m\")"),
    signature("p50", Func::P50, METRIC, Second::Window, Gives::Number, "p50(\"latency_ms\", \"10m\")"),
    signature("p90", Func::P90, METRIC, Second::Window, Gives::Number, "p90(\"latency_ms\", \"10m\")"),
    signature("p95", Func::P95, METRIC, Second::Window, Gives::Number, "p95(\"latency_ms\", \"10m\")"),
    signature("p99", Func::P99, METRIC, Second::Window, Gives::Number, "p99(\"latency_ms\", \"10m\")"),
    signature("increase", Func::Increase, METRIC, Second::Window, Gives::Number, "increase(\"errors_total\", \"5m\")"),
    signature("changes", Func::Changes, METRIC, Second::Window, Gives::Number, "changes(\"config_version\", \"1h\")"),
    signature("slope", Func::Slope, METRIC, Second::Window, Gives::Number, "slope(\"disk_used_bytes\", \"1h\")"),
    signature("zscore", Func::Zscore, METRIC, Second::Window, Gives::Number, "zscore(\"latency_ms\", \"1h\")"),
    signature("first", Func::First, METRIC, Second::Window, Gives::Number, "first(\"queue_length\", \"10m\")"),
    signature("delta", Func::Delta, METRIC, Second::Window, Gives::Number, "delta(\"queue_length\", \"5m\")"),
    signature("status", Func::Status, CHECK, Second::None, Gives::Text, "status(\"http\")"),
    signature("healthy", Func::Healthy, CHECK, Second::None, Gives::Bool, "healthy(\"http\")"),
    signature("unhealthy", Func::Unhealthy, CHECK, Second::None, Gives::Bool, "unhealthy(\"http\")"),
    signature("failures", Func::Failures, CHECK, Second::None, Gives::Number, "failures(\"http\")"),
    signature("successes", Func::Successes, CHECK, Second::None, Gives::Number, "successes(\"http\")"),
    signature("reason", Func::Reason, CHECK, Second::None, Gives::Text, "reason(\"http\")"),
    signature("latency", Func::Latency, CHECK, Second::None, Gives::Number, "latency(\"http\")"),
    signature("flaps", Func::Flaps, CHECK, Second::Window, Gives::Number, "flaps(\"http\", \"1h\")"),
    signature("success_rate", Func::SuccessRate, CHECK, Second::Window, Gives::Number, "success_rate(\"http\", \"10m\")"),
    signature("signal", Func::Signal, SIGNAL, Second::Window, Gives::Number, "signal(\"deployment_failed\", \"10m\")"),
    signature("signal_age", Func::SignalAge, SIGNAL, Second::None, Gives::Number, "signal_age(\"deployment_failed\")"),
    signature("signal_field", Func::SignalField, SIGNAL, Second::Text("field"), Gives::Any, "signal_field(\"deployment_failed\", \"version\")"),
    signature("open", Func::Open, SIGNAL, Second::Text("closing signal"), Gives::Bool, "open(\"deploy_started\", \"deploy_finished\")"),
    signature("label", Func::Label, Some("label"), Second::None, Gives::Text, "label(\"tier\")"),
    signature("fact", Func::Fact, Some("fact"), Second::None, Gives::Any, "fact(\"replicas\")"),
    signature("firing", Func::Firing, Some("rule"), Second::None, Gives::Number, "firing(\"HighCpu\")"),
    signature("deployments", Func::Deployments, None, Second::None, Gives::Number, "deployments()"),
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

pub(super) fn signature_of(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}

impl Signature {
    /// How many arguments it takes, from and to.
    pub fn arity(&self) -> (usize, usize) {
        match (self.subject, self.second) {
            (None, _) => (0, 0),
            (Some(_), Second::None) => (1, 1),
            (Some(_), Second::Fold) => (1, 2),
            (Some(_), Second::Window | Second::Text(_)) => (2, 2),
        }
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
    let mut read = Read { func: signature.func, subject: SmolStr::default(), window: None, other: None };
    if let (Some(noun), Some(first)) = (signature.subject, args.first()) {
        read.subject = match first {
            Arg::Text(text) => SmolStr::new(subject(noun, text).map_err(|message| bad(0, message))?),
            other => return Err(bad(0, format!("`{name}` needs the name of a {noun}, not {}", other.describe()))),
        };
    }
    let Some(second) = args.get(1) else { return Ok(read) };
    match signature.second {
        Second::None => {}
        Second::Fold => match second {
            Arg::Text(fold) if FOLDS.contains(fold) => read.other = Some(SmolStr::new(fold)),
            other => {
                return Err(bad(
                    1,
                    format!("`{name}` folds several series with one of {}, not {}", FOLDS.join(" "), {
                        other.describe()
                    }),
                ));
            }
        },
        Second::Window => {
            read.window = Some(window(*second).map_err(|why| bad(1, format!("the window of `{name}`: {why}")))?);
        }
        Second::Text(noun) => match second {
            Arg::Text(text) if !text.is_empty() => read.other = Some(SmolStr::new(text)),
            other => return Err(bad(1, format!("`{name}` needs the name of a {noun}, not {}", other.describe()))),
        },
    }
    Ok(read)
}

/// A subject's text without surrounding blanks; a metric's braces must be whole.
fn subject<'t>(noun: &str, text: &'t str) -> Result<&'t str, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(format!("the name of the {noun} is empty"));
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

/// A window: a text such as `5m`, or seconds as settings give them.
fn window(arg: Arg<'_>) -> Result<Duration, String> {
    let span = match arg {
        Arg::Text(text) => parse_duration(text)?,
        Arg::Number(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("{seconds} is no length of time; write for example \"5m\", or a number of seconds"))?,
        other => return Err(format!("write for example \"5m\", or a number of seconds, not {}", other.describe())),
    };
    if span.is_zero() { Err("it must be longer than zero".to_owned()) } else { Ok(span) }
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
