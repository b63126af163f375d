//! MiniJinja with strict names, limits, and the functions of conditions.
//!
//! A function of MiniJinja cannot borrow the evidence. So a text is rendered with the answers known so far; a read
//! that is not among them stops it, is answered, and the text is rendered again. Reads do not change while it is
//! rendered, so the last pass is the only one that counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value as Jinja, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, escape_formatter};
use smol_str::SmolStr;

use crate::ast::{bytes_of, seconds_of, setting};
use crate::evidence::{Evidence, Reading, Vars};
use crate::functions::{SIGNATURES, Signature};
use crate::read::{Arg, Read, plan};
use crate::value::Value;
use selfheal_model::{Bytes, Map, Value as Json, units};

/// MiniJinja's instructions of one rendering.
const FUEL: u64 = 100_000;
/// Length of a rendered text, in bytes.
pub(crate) const OUTPUT_BYTES: usize = 64 * 1024;
/// Macro calls within macro calls.
const RECURSION: usize = 32;
/// Lists within lists of a rendered value.
const VALUE_DEPTH: usize = 32;
/// Different reads of one text; each costs one more rendering.
const READS: usize = 64;

/// The environment that every text starts from.
pub(crate) static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_debug(true);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        env.set_syntax(syntax);
    }
    env.set_formatter(print);
    env.add_filter("percent", percent);
    env.add_filter("bytes", |value: &Jinja| number(value, "bytes").map(|count| Bytes(count as u64).to_string()));
    env.add_filter("duration", duration);
    env
});

/// Prints a value: whole numbers without `.0`, true and false as the policy writes them.
fn print(out: &mut Output, state: &mut State, value: &Jinja) -> Result<(), Error> {
    if value.kind() == ValueKind::Bool {
        return escape_formatter(out, state, &Jinja::from(if value.is_true() { "true" } else { "false" }));
    }
    match whole(value) {
        Some(whole) => escape_formatter(out, state, &Jinja::from(whole)),
        None => escape_formatter(out, state, value),
    }
}

/// The whole number that a float holds, if it holds one.
fn whole(value: &Jinja) -> Option<i64> {
    const LARGEST: f64 = 1e15;
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    let number = f64::try_from(value.clone()).ok()?;
    (number.fract() == 0.0 && number.abs() < LARGEST).then_some(number as i64)
}

fn number(value: &Jinja, filter: &str) -> Result<f64, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("`{filter}` got nothing")));
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_finite() && value.kind() == ValueKind::Number => Ok(number),
        _ => Err(wrong(format!("`{filter}` needs a number, not {value}"))),
    }
}

/// A ratio as a percentage with at most one decimal: `0.053` is `5.3%`.
fn percent(value: &Jinja) -> Result<String, Error> {
    let percent = number(value, "percent")? * 100.0;
    Ok(format!("{}%", (percent * 10.0).round() / 10.0))
}

/// Seconds as people say them: `90` is `1m30s`. A fraction is shown below a minute only.
fn duration(value: &Jinja) -> Result<String, Error> {
    const MINUTE: f64 = 60.0;
    let seconds = number(value, "duration")?;
    let shown = if seconds.abs() < MINUTE { seconds } else { seconds.round() };
    let span = std::time::Duration::try_from_secs_f64(shown.abs())
        .map_err(|_| wrong(format!("`duration` needs seconds, not {seconds}")))?;
    let sign = if seconds < 0.0 { "-" } else { "" };
    Ok(format!("{sign}{}", units::format_duration(span)))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The answers known so far, and the read that is not among them.
#[derive(Debug, Default)]
struct Answers {
    known: BTreeMap<Read, Result<Reading, String>>,
    asked: Option<Read>,
}

type Shared = Arc<Mutex<Answers>>;

fn ask(answers: &Shared, read: Read) -> Result<Jinja, Error> {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    match answers.known.get(&read) {
        Some(Ok(reading)) => Ok(from_reading(reading)),
        Some(Err(message)) => Err(wrong(message.clone())),
        None => {
            answers.asked = Some(read);
            Err(wrong("not answered yet".to_owned()))
        }
    }
}

/// Renders until every read is answered.
pub(crate) fn with_answers<T>(
    env: &Environment<'static>,
    vars: &Vars,
    evidence: &dyn Evidence,
    attempt: impl Fn(&Environment<'static>, Jinja) -> Result<T, Error>,
    explain: impl Fn(&Error) -> String,
) -> Result<T, String> {
    let answers: Shared = Shared::default();
    let mut env = env.clone();
    add_functions(&mut env, &answers, &vars.settings);
    let scene = scene(vars);
    for _ in 0..=READS {
        let outcome = attempt(&env, scene.clone());
        let asked = answers.lock().unwrap_or_else(PoisonError::into_inner).asked.take();
        match (asked, outcome) {
            (Some(read), _) => {
                let answer = evidence.read(&read);
                answers.lock().unwrap_or_else(PoisonError::into_inner).known.insert(read, answer);
            }
            (None, Ok(rendered)) => return Ok(rendered),
            (None, Err(error)) => return Err(explain(&error)),
        }
    }
    Err(format!("the text reads more than {READS} different things"))
}

fn add_functions(env: &mut Environment<'static>, answers: &Shared, settings: &Arc<Map>) {
    for signature in &SIGNATURES {
        let answers = Arc::clone(answers);
        env.add_function(signature.name, move |args: Rest<Jinja>| call(&answers, signature, &args));
    }
    env.add_function("has", |args: Rest<Jinja>| match args.as_slice() {
        [value] => Ok(!value.is_undefined() && !value.is_none()),
        _ => Err(wrong("`has` takes one argument".to_owned())),
    });
    env.add_function("duration", |args: Rest<Jinja>| converted(&args, seconds_of));
    env.add_function("size", |args: Rest<Jinja>| converted(&args, bytes_of));
    let settings = Arc::clone(settings);
    env.add_function("setting", move |args: Rest<Jinja>| match args.as_slice() {
        [path] => path
            .as_str()
            .map(|path| from_data(&setting(&settings, path)))
            .ok_or_else(|| wrong("`setting` needs a text such as \"cpu_percent.critical\"".to_owned())),
        _ => Err(wrong("`setting` takes one argument".to_owned())),
    });
}

fn converted(args: &[Jinja], converts: fn(&Value) -> Result<Value, String>) -> Result<Jinja, Error> {
    let [value] = args else { return Err(wrong("one argument is needed".to_owned())) };
    let data = match (value.as_str(), f64::try_from(value.clone())) {
        (Some(text), _) => Value::text(text),
        (None, Ok(number)) => Value::float(number),
        (None, Err(_)) => Value::Bool(false),
    };
    converts(&data).map(|data| from_data(&data)).map_err(wrong)
}

fn call(answers: &Shared, signature: &'static Signature, args: &[Jinja]) -> Result<Jinja, Error> {
    // `min` and `max` of two numbers, as in conditions.
    if matches!(signature.name, "min" | "max")
        && let [one, two] = args
        && let (Ok(first), Ok(second)) = (f64::try_from(one.clone()), f64::try_from(two.clone()))
        && one.as_str().is_none()
        && two.as_str().is_none()
    {
        let first_wins = if signature.name == "min" { first <= second } else { first >= second };
        return Ok(if first_wins { one.clone() } else { two.clone() });
    }
    let known: Vec<Arg<'_>> = args
        .iter()
        .map(|arg| match arg.as_str() {
            Some(text) => Arg::Text(text),
            None if arg.is_undefined() || arg.is_none() => Arg::Nothing,
            None if arg.kind() == ValueKind::Number => f64::try_from(arg.clone()).map_or(Arg::Nothing, Arg::Number),
            None => Arg::Other("a value of another kind"),
        })
        .collect();
    let read = plan(signature, &known).map_err(|bad| wrong(bad.message))?;
    ask(answers, read)
}

/// The plain names as values.
fn scene(vars: &Vars) -> Jinja {
    let text = |text: &Option<SmolStr>| text.as_ref().map_or(Jinja::UNDEFINED, |text| Jinja::from(text.as_str()));
    let mut names: BTreeMap<&'static str, Jinja> = BTreeMap::new();
    names.insert("deployment", text(&vars.deployment));
    let labels: BTreeMap<String, Jinja> =
        vars.labels.iter().map(|(name, value)| (name.to_owned(), Jinja::from(value))).collect();
    names.insert("labels", Jinja::from(labels));
    names.insert("value", vars.value.map_or(Jinja::UNDEFINED, from_number));
    names.insert("severity", vars.severity.map_or(Jinja::UNDEFINED, |severity| Jinja::from(severity.as_str())));
    names.insert("settings", from_map(&vars.settings));
    names.insert("inputs", from_map(&vars.inputs));
    names.insert("steps", from_map(&vars.steps));
    if let Some(failed) = &vars.failed {
        names.insert("failed", from_map(failed));
    }
    Jinja::from(names)
}

fn from_reading(reading: &Reading) -> Jinja {
    match reading {
        Reading::Missing => Jinja::UNDEFINED,
        Reading::Number(number) => from_number(*number),
        Reading::Bool(value) => Jinja::from(*value),
        Reading::Text(text) => Jinja::from(text.as_str()),
        Reading::Json(value) => from_json(value),
    }
}

fn from_data(data: &Value) -> Jinja {
    match data {
        Value::Nothing => Jinja::UNDEFINED,
        Value::Bool(value) => Jinja::from(*value),
        Value::Int(whole) => Jinja::from(*whole),
        Value::Float(number) => from_number(*number),
        Value::Text(text) => Jinja::from(text.as_str()),
        Value::List(items) => Jinja::from(items.iter().map(from_data).collect::<Vec<_>>()),
        Value::Map(entries) => Jinja::from(
            entries.iter().map(|(name, value)| (name.to_string(), from_data(value))).collect::<BTreeMap<_, _>>(),
        ),
    }
}

/// Whole numbers become whole, so that they print and calculate as such.
fn from_number(number: f64) -> Jinja {
    let value = Jinja::from(number);
    if !number.is_finite() {
        return Jinja::UNDEFINED;
    }
    whole(&value).map_or(value, Jinja::from)
}

/// `null` is missing.
fn from_json(value: &Json) -> Jinja {
    match value {
        Json::Null => Jinja::UNDEFINED,
        Json::Bool(value) => Jinja::from(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Jinja::from(whole),
            None => number.as_f64().map_or(Jinja::UNDEFINED, from_number),
        },
        Json::String(text) => Jinja::from(text.as_str()),
        Json::Array(items) => Jinja::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(entries) => from_map(entries),
    }
}

fn from_map(map: &Map) -> Jinja {
    let entries = map.iter().filter(|(_, value)| !value.is_null());
    Jinja::from(entries.map(|(name, value)| (name.clone(), from_json(value))).collect::<BTreeMap<_, _>>())
}

/// A rendered value as JSON; whole numbers as such.
pub(crate) fn to_json(value: &Jinja) -> Result<Json, String> {
    if value.is_undefined() {
        return Err("it is missing".to_owned());
    }
    let mut room = OUTPUT_BYTES;
    json_of(value, VALUE_DEPTH, &mut room)
}

/// `room` is how many bytes the value may still take.
fn json_of(value: &Jinja, depth: usize, room: &mut usize) -> Result<Json, String> {
    let mut take = |bytes: usize| match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            Ok(())
        }
        None => Err(format!("it is longer than {OUTPUT_BYTES} bytes")),
    };
    take(2)?;
    let deeper = depth.checked_sub(1).ok_or_else(|| format!("it nests deeper than {VALUE_DEPTH} levels"))?;
    let refuse = || format!("{} cannot be handed on", value.kind());
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match whole(value).or_else(|| value.as_i64()) {
            Some(whole) => Json::from(whole),
            None => f64::try_from(value.clone())
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map_or(Json::Null, Json::Number),
        },
        ValueKind::String => {
            let text = value.as_str().ok_or_else(refuse)?;
            take(text.len())?;
            Json::String(text.to_owned())
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter().map_err(|_| refuse())? {
                items.push(json_of(&item, deeper, room)?);
            }
            Json::Array(items)
        }
        ValueKind::Map => {
            let mut entries = Map::new();
            for name in value.try_iter().map_err(|_| refuse())? {
                let item = value.get_item(&name).map_err(|_| refuse())?;
                let item = json_of(&item, deeper, room)?;
                entries.insert(name.as_str().map_or_else(|| name.to_string(), str::to_owned), item);
            }
            Json::Object(entries)
        }
        _ => return Err(refuse()),
    })
}

/// A buffer of at most [`OUTPUT_BYTES`].
#[derive(Default)]
pub(crate) struct Bounded {
    pub bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_BYTES {
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One sentence about an error, with the piece of the text it is about.
pub(crate) fn explain(error: &Error, source: &str) -> String {
    let piece = error.range().and_then(|range| source.get(range)).map(str::trim).filter(|piece| !piece.is_empty());
    match (error.kind(), error.detail(), piece) {
        (ErrorKind::UndefinedError, _, Some(piece)) => format!("`{piece}` is missing"),
        (ErrorKind::UndefinedError, Some(detail), None) => detail.to_owned(),
        (ErrorKind::UndefinedError, None, None) => "something in the text is missing".to_owned(),
        (ErrorKind::OutOfFuel, ..) => format!("the text was cut off after {FUEL} steps"),
        (ErrorKind::WriteFailure, ..) => format!("the text is longer than {OUTPUT_BYTES} bytes"),
        (_, Some(detail), Some(piece)) if !detail.contains(piece) => format!("`{piece}`: {detail}"),
        (_, Some(detail), _) => detail.to_owned(),
        (kind, None, Some(piece)) => format!("`{piece}`: {kind}"),
        (kind, None, None) => kind.to_string(),
    }
}
