//! One call of a function of the rule language with its arguments: the question that [`Evidence`](crate::Evidence)
//! answers.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use smol_str::SmolStr;

use crate::func::Func;
use crate::functions::{FOLDS, Param, SIGNATURES, Signature};
use selfheal_model::units::{format_duration, parse_duration};

/// One call of a function with its arguments. Known at load where the arguments are constants, else when the script
/// runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    /// The function.
    pub func: Func,
    /// The first argument; empty for `deployments()`.
    pub subject: SmolStr,
    /// The window, for functions that have one.
    pub window: Option<Duration>,
    /// The second text argument: `closed_by` of `open`, `key` of `signal_field`, the fold of `last` and `age`
    /// (`min max sum avg`).
    pub other: Option<SmolStr>,
    /// The share of `quantile` (0 to 1), the seconds ahead of `predict`, the limit of `time_to` (in the metric's unit).
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
                Param::Fold | Param::Text(_) => self.other.as_ref().map(|other| format!("{:?}", other.as_str())),
                Param::Window => self.window.map(|window| format!("\"{}\"", format_duration(window))),
                Param::Ahead => {
                    Some(format!("\"{}\"", format_duration(Duration::try_from_secs_f64(amount).unwrap_or_default())))
                }
                Param::Share | Param::Limit => Some(amount.to_string()),
            });
        }
        write!(f, "{}({})", signature.name, args.join(", "))
    }
}

/// A finite number among a call's arguments. Two are equal if they have the same bits, so that reads can be keys.
#[derive(Clone, Copy, Debug)]
pub struct Amount(f64);

impl Amount {
    /// A number that is not finite becomes 0.
    pub fn new(number: f64) -> Amount {
        Amount(if number.is_finite() { number } else { 0.0 })
    }

    /// The number.
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

/// An argument of a call, as far as the call needs to know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arg<'a> {
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

/// The argument that makes a call impossible, by its index, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadArg {
    pub index: usize,
    pub message: String,
}

fn bad(index: usize, message: String) -> BadArg {
    BadArg { index, message }
}

/// Makes a [`Read`] of a call's arguments.
pub(crate) fn plan(signature: &Signature, args: &[Arg<'_>]) -> Result<Read, BadArg> {
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

/// Puts an argument after the subject into the read.
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

/// The subject without the blanks around it; the braces of a selector must match.
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
    use crate::functions::signature_of;

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
