//! One event's object into events: types, names, bounds, and the place in time.

use super::{Limits, MAX_AHEAD, MAX_MESSAGE};
use selfheal_model::{
    CheckName, CheckStatus, Confidence, DeploymentId, Event, EventKind, FailureReason, Labels, Map, MetricName, Origin,
    SignalName, Timestamp, Value,
};

/// What one object came to. Both may be filled: of several values the good ones are kept.
pub(super) struct Read {
    pub events: Vec<Event>,
    pub problems: Vec<String>,
}

const TYPES: &str = "metric, metrics, health or signal";
const METRIC: &[&str] = &["type", "deployment", "name", "value", "labels", "time"];
const METRICS: &[&str] = &["type", "deployment", "values", "labels", "time"];
const HEALTH: &[&str] =
    &["type", "deployment", "check", "replica", "status", "confidence", "latency_ms", "reason", "message", "time"];
const SIGNAL: &[&str] = &["type", "deployment", "name", "fields", "time"];

const REASONS: [FailureReason; 8] = [
    FailureReason::Timeout,
    FailureReason::Refused,
    FailureReason::Reset,
    FailureReason::Dns,
    FailureReason::Tls,
    FailureReason::Status,
    FailureReason::Body,
    FailureReason::Exit,
];

/// Takes entries out one by one and collects what is wrong with them.
struct Reader<'a> {
    entries: Vec<(String, Value)>,
    limits: &'a Limits,
    arrival: Timestamp,
    problems: Vec<String>,
}

pub(super) fn read(entries: Vec<(String, Value)>, arrival: Timestamp, limits: &Limits) -> Read {
    let mut reader = Reader { entries, limits, arrival, problems: Vec::new() };
    let kinds = reader.kinds();
    match kinds {
        Some(kinds) if reader.problems.is_empty() => reader.finish(kinds),
        _ => Read { events: Vec::new(), problems: reader.problems },
    }
}

/// What the object says, without the deployment and time that all of it shares.
struct Said {
    deployment: DeploymentId,
    time: Timestamp,
    kinds: Vec<EventKind>,
    /// Values of a `metrics` event that were refused; the others stay.
    refused: Vec<String>,
}

impl Reader<'_> {
    fn finish(self, said: Said) -> Read {
        let event =
            |kind| Event { deployment: said.deployment.clone(), time: said.time, kind, origin: Origin::External };
        Read { events: said.kinds.into_iter().map(event).collect(), problems: said.refused }
    }

    fn kinds(&mut self) -> Option<Said> {
        let type_ = match self.take("type") {
            Some(Value::String(type_)) => type_,
            Some(other) => return self.problem(format!("`type` is {}; expected {TYPES}", shown(&other))),
            None => return self.problem(format!("`type` is missing; expected {TYPES}")),
        };
        let known = match type_.as_str() {
            "metric" => METRIC,
            "metrics" => METRICS,
            "health" => HEALTH,
            "signal" => SIGNAL,
            other => return self.problem(format!("`type` is {:?}; expected {TYPES}", cut(other, 40))),
        };
        self.refuse_unknown(&type_, known);
        let deployment = self.name("deployment", "the deployment's id");
        let time = self.time();
        let mut refused = Vec::new();
        let kinds = match type_.as_str() {
            "metric" => self.metric().map(|kind| vec![kind]),
            "metrics" => self.metrics(&mut refused),
            "health" => self.health().map(|kind| vec![kind]),
            _ => self.signal().map(|kind| vec![kind]),
        };
        Some(Said { deployment: DeploymentId::from(deployment?), time: time?, kinds: kinds?, refused })
    }

    fn metric(&mut self) -> Option<EventKind> {
        let name = self.name("name", "the metric's name");
        let labels = self.labels();
        let value = match self.take("value") {
            None => self.problem("`value` is missing; expected a number".to_owned()),
            Some(value) => number(&value).or_else(|| self.problem(not_a_number("value", &value))),
        };
        Some(EventKind::Metric { name: MetricName::from(name?), value: value?, labels: labels? })
    }

    fn metrics(&mut self, refused: &mut Vec<String>) -> Option<Vec<EventKind>> {
        let labels = self.labels();
        let values = match self.take("values") {
            Some(Value::Object(values)) if values.is_empty() => self.problem("`values` is empty".to_owned()),
            Some(Value::Object(values)) => Some(values),
            Some(other) => {
                self.problem(format!("`values` is {}; expected an object of names and numbers", shown(&other)))
            }
            None => self.problem("`values` is missing; expected an object of names and numbers".to_owned()),
        };
        let (labels, values) = (labels?, values?);
        let mut kinds = Vec::with_capacity(values.len());
        for (name, value) in values {
            match (wrong_name(&name, self.limits.name), number(&value)) {
                (Some(why), _) => refused.push(format!("in `values` the name {:?} {why}", cut(&name, 40))),
                (None, None) => refused.push(not_a_number(&format!("values.{name}"), &value)),
                (None, Some(value)) => {
                    kinds.push(EventKind::Metric { name: MetricName::from(name), value, labels: labels.clone() });
                }
            }
        }
        Some(kinds)
    }

    fn health(&mut self) -> Option<EventKind> {
        let check = self.name("check", "the check's name");
        let status = match self.take("status") {
            Some(Value::String(word)) if word == "healthy" => Some(CheckStatus::Healthy),
            Some(Value::String(word)) if word == "unhealthy" => Some(CheckStatus::Unhealthy),
            Some(other) => self.problem(format!("`status` is {}; expected healthy or unhealthy", shown(&other))),
            None => self.problem("`status` is missing; expected healthy or unhealthy".to_owned()),
        };
        let replica = self.optional("replica", "a whole number from 0", |value| {
            value.as_u64().and_then(|replica| u32::try_from(replica).ok())
        });
        let confidence =
            self.optional("confidence", "a number from 0 to 1", |value| value.as_f64().and_then(Confidence::new));
        let latency_ms = self.optional("latency_ms", "a number of milliseconds, not negative", |value| {
            value.as_f64().filter(|millis| *millis >= 0.0)
        });
        let words = REASONS.map(FailureReason::as_str).join(", ");
        let reason = self.optional("reason", &format!("one of {words}"), |value| {
            REASONS.into_iter().find(|reason| Some(reason.as_str()) == value.as_str())
        });
        let message = self.optional("message", "a text", |value| value.as_str().map(|text| cut(text, MAX_MESSAGE)));
        Some(EventKind::Health {
            check: CheckName::from(check?),
            replica: replica?,
            status: status?,
            latency_ms: latency_ms?,
            reason: reason?,
            message: message?.unwrap_or_default(),
            confidence: confidence?,
        })
    }

    fn signal(&mut self) -> Option<EventKind> {
        let name = self.name("name", "the signal's name");
        let fields = self.optional("fields", "an object", |value| value.as_object().cloned());
        let fields = fields.map(|fields| fields.unwrap_or_else(Map::new));
        let size = fields.as_ref().map_or(0, |fields| serde_json::to_vec(fields).map_or(usize::MAX, |text| text.len()));
        if size > self.limits.fields {
            return self.problem(format!("`fields` is {size} bytes; at most {} are taken", self.limits.fields));
        }
        Some(EventKind::Signal { name: SignalName::from(name?), fields: fields? })
    }

    /// The event's own time, or its arrival; a clock that runs a little fast is put right.
    fn time(&mut self) -> Option<Timestamp> {
        let arrival = self.arrival;
        let text = match self.take("time") {
            None | Some(Value::Null) => return Some(arrival),
            Some(Value::String(text)) => text,
            Some(other) => {
                return self.problem(format!(
                    "`time` is {}; expected RFC 3339 such as \"2026-11-23T20:00:00Z\"",
                    shown(&other)
                ));
            }
        };
        match text.parse::<Timestamp>() {
            Err(_) => {
                let text = cut(&text, 40);
                self.problem(format!("`time` is {text:?}; expected RFC 3339 such as \"2026-11-23T20:00:00Z\""))
            }
            Ok(time) if time > arrival + MAX_AHEAD => self.problem(format!(
                "`time` is {time}, more than {} min ahead of the clock here ({arrival})",
                MAX_AHEAD.as_secs() / 60
            )),
            Ok(time) => Some(time.min(arrival)),
        }
    }

    fn labels(&mut self) -> Option<Labels> {
        let labels = match self.take("labels") {
            None | Some(Value::Null) => return Some(Labels::default()),
            Some(Value::Object(labels)) => labels,
            Some(other) => return self.problem(format!("`labels` is {}; expected an object of texts", shown(&other))),
        };
        if labels.len() > self.limits.labels {
            return self.problem(format!("has {} labels; at most {} are taken", labels.len(), self.limits.labels));
        }
        let before = self.problems.len();
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            match value {
                _ if !label_name(&name) || name.len() > self.limits.name => self.problems.push(format!(
                    "the label name {:?} is none; use letters, digits and _, at most {} bytes",
                    cut(&name, 40),
                    self.limits.name
                )),
                _ if name == "deployment" => {
                    self.problems.push("`deployment` is no label here but the event's own key".to_owned());
                }
                Value::String(value) if value.len() > self.limits.label_value => self.problems.push(format!(
                    "the label `{name}` is {} bytes; at most {} are taken",
                    value.len(),
                    self.limits.label_value
                )),
                Value::String(value) => pairs.push((name, value)),
                other => self.problems.push(format!("the label `{name}` is {}; expected a text", shown(&other))),
            }
        }
        (self.problems.len() == before).then(|| pairs.into_iter().collect())
    }

    fn name(&mut self, key: &str, what: &str) -> Option<String> {
        match self.take(key) {
            Some(Value::String(name)) => match wrong_name(&name, self.limits.name) {
                None => Some(name),
                Some(why) => self.problem(format!("`{key}` is {:?}, which {why}", cut(&name, 40))),
            },
            Some(other) => self.problem(format!("`{key}` is {}; expected {what}, a text", shown(&other))),
            None => self.problem(format!("`{key}` is missing; expected {what}")),
        }
    }

    /// `Some(None)` where the key is not there or null; `None` where it is wrong.
    fn optional<T>(&mut self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
        match self.take(key) {
            None | Some(Value::Null) => Some(None),
            Some(value) => match read(&value) {
                Some(read) => Some(Some(read)),
                None => self.problem(format!("`{key}` is {}; expected {expected}", shown(&value))),
            },
        }
    }

    fn refuse_unknown(&mut self, type_: &str, known: &[&str]) {
        for (key, _) in &self.entries {
            if known.contains(&key.as_str()) {
                continue;
            }
            let near = known.iter().copied().find(|name| strsim::damerau_levenshtein(name, key) <= 2);
            let key = cut(key, 40);
            self.problems.push(match near {
                Some(near) => format!("`{key}` is no key of a {type_} event; did you mean `{near}`?"),
                None => format!("`{key}` is no key of a {type_} event; it has {}", known.join(", ")),
            });
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.swap_remove(at).1)
    }

    fn problem<T>(&mut self, why: String) -> Option<T> {
        self.problems.push(why);
        None
    }
}

/// Why a name is none. Quotes, braces and commas would be read as a selector; spaces and control signs as mistakes.
pub(crate) fn wrong_name(name: &str, longest: usize) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > longest {
        return Some(format!("is {} bytes long; at most {longest} are taken", name.len()));
    }
    let wrong = name.chars().find(|letter| !letter.is_alphanumeric() && !"_-.:/@+".contains(*letter))?;
    Some(format!("holds {wrong:?}; use letters, digits and _ - . : / @ +"))
}

pub(crate) fn label_name(name: &str) -> bool {
    let letter = |byte: u8| byte == b'_' || byte.is_ascii_alphabetic();
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|byte| letter(*byte)) && bytes.iter().all(|byte| letter(*byte) || byte.is_ascii_digit())
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

fn not_a_number(key: &str, value: &Value) -> String {
    let none =
        |text: &str| ["nan", "inf", "infinity"].contains(&text.trim_start_matches(['-', '+']).to_lowercase().as_str());
    let why = match value {
        Value::String(text) if none(text) => "; it is not finite: leave out what has no value",
        _ => "; expected a number",
    };
    format!("`{key}` is {}{why}", shown(value))
}

/// What stands there, in a few words.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(word) => word.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", cut(text, 40)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// At most `longest` bytes of a text, cut between two letters and marked with `…`.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= longest {
        return text.to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(longest.saturating_sub(MARK.len()))])
}
