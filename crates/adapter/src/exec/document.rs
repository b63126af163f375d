//! The documents of the protocol: what a program is told, and what its answer means.

use std::os::unix::process::ExitStatusExt;

use serde::Serialize;
use serde_json::json;

use super::child::{Ended, Ending, MAX_ANSWER, Program};
use super::events;
use selfheal_contract::Observation;
use selfheal_model::{
    DeploymentId, Event, EventKind, Facts, FailureClass, Labels, Map, MetricName, Outcome, Replica, Timestamp, Value,
};

/// Facts of one deployment.
pub const MAX_FACTS: usize = 256;

/// Replicas and samples of one observation.
const MAX_SEEN: usize = 1_000;

/// How much of a wrong answer is shown, in bytes.
const SHOWN: usize = 200;

const KEYS: [&str; 9] = ["outcome", "class", "message", "output", "facts", "events", "replicas", "metrics", "verbs"];

/// What a program is told. All keys are always there; what does not apply is null or empty.
#[derive(Serialize)]
pub struct Request<'a> {
    pub verb: &'a str,
    pub deployment: Option<&'a str>,
    pub target: &'a Map,
    pub params: &'a Map,
    pub facts: &'a Facts,
    pub idempotency_key: Option<&'a str>,
    pub fence: Option<u64>,
    /// Milliseconds from now; then the program is killed.
    pub deadline_ms: u64,
}

impl Request<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        json!(self).to_string().into_bytes()
    }
}

/// A program's answer as its document, or what to make of its absence.
pub fn answer(program: &Program, ended: &Ended) -> Result<Map, Outcome> {
    let name = program.name();
    let permanent = |why: String| Outcome::failed(FailureClass::Permanent, why);
    let status = match &ended.ending {
        Ending::Exited(status) => *status,
        Ending::OutOfTime => {
            return Err(Outcome::unknown(with_last_line(
                format!("`{name}` did not end in time and was killed"),
                ended,
            )));
        }
        Ending::Lost(error) => return Err(Outcome::unknown(format!("the end of `{name}` was not seen: {error}"))),
        Ending::NotStarted(error) => {
            use std::io::ErrorKind::{InvalidInput, NotFound, PermissionDenied};
            let class = match error.kind() {
                NotFound | PermissionDenied | InvalidInput => FailureClass::Permanent,
                // no process or no memory left: it may be there later, and nothing was begun
                _ => FailureClass::Transient,
            };
            return Err(Outcome::failed(class, format!("cannot run `{name}`: {error}")));
        }
    };
    if ended.dropped > 0 {
        let size = ended.answer.len() + ended.dropped;
        return Err(permanent(format!("`{name}` answered {size} bytes; at most {MAX_ANSWER} are read")));
    }
    let text = String::from_utf8_lossy(&ended.answer);
    let text = text.trim();
    if text.is_empty() {
        return Err(match (status.code(), status.signal()) {
            (Some(0), _) => permanent(format!("`{name}` ended without an answer on stdout")),
            (Some(code), _) => permanent(with_last_line(format!("`{name}` ended with exit code {code}"), ended)),
            // it did not end by itself, so nobody can say how far it came
            (None, signal) => {
                let signal = signal.map_or("a signal".to_owned(), |signal| format!("signal {signal}"));
                Outcome::unknown(with_last_line(format!("`{name}` was killed by {signal}"), ended))
            }
        });
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) => Err(permanent(format!("`{name}` answered no JSON object: {}", shown(text)))),
        Err(error) => {
            let hint = "stdout is for the answer alone, stderr for the log";
            Err(permanent(format!("`{name}` answered no JSON document ({error}; {hint}): {}", shown(text))))
        }
    }
}

fn with_last_line(why: String, ended: &Ended) -> String {
    match ended.log.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{why}: {}", cut(line)),
        None => why,
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    match text.floor_char_boundary(SHOWN) {
        end if end < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

/// Reads answers about one deployment. What is odd but does no harm becomes a note for the step's log.
pub struct Reader<'a> {
    pub deployment: &'a DeploymentId,
    pub now: Timestamp,
    pub notes: Vec<String>,
}

impl Reader<'_> {
    /// What the answer to a verb says happened.
    pub fn outcome(&mut self, document: &Map) -> Outcome {
        self.note_unknown(document);
        let message = document.get("message").and_then(Value::as_str).unwrap_or("");
        let reason = |otherwise: &str| if message.is_empty() { otherwise.to_owned() } else { message.to_owned() };
        match document.get("outcome").and_then(Value::as_str) {
            Some("done") => {
                let output = document.get("output").filter(|output| !output.is_null()).cloned();
                if output.is_some() && !message.is_empty() {
                    self.notes.push(message.to_owned());
                }
                let (facts, events) = (self.facts(document), self.events(document));
                let said = if message.is_empty() { Value::Null } else { Value::String(message.to_owned()) };
                Outcome::Done { output: output.unwrap_or(said), facts, events }
            }
            Some("failed") => {
                let class = match document.get("class") {
                    None | Some(Value::Null) => FailureClass::Permanent,
                    Some(class) => class_of(class).unwrap_or_else(|| {
                        self.notes.push(format!("the class {class} is none; it counts as permanent"));
                        FailureClass::Permanent
                    }),
                };
                Outcome::failed(class, reason("the program says no more than that it failed"))
            }
            Some("unknown") => Outcome::unknown(reason("the program does not know whether it happened")),
            _ => {
                let came = document.get("outcome").map_or("is missing".to_owned(), |outcome| format!("is {outcome}"));
                let why = format!("the answer's `outcome` {came}; it is done, failed or unknown");
                Outcome::failed(FailureClass::Permanent, why)
            }
        }
    }

    /// What the answer to `observe` shows. A program that does not observe shows nothing.
    pub fn observation(&mut self, document: &Map) -> Result<Observation, String> {
        match self.outcome(document) {
            Outcome::Done { facts, events, .. } => {
                let mut metrics = self.metrics(document);
                for event in events {
                    match event.kind {
                        EventKind::Metric { name, value, labels } if event.deployment == *self.deployment => {
                            metrics.push((name, value, labels));
                        }
                        _ => self.notes.push("an observation takes events of type metric only".to_owned()),
                    }
                }
                Ok(Observation { facts, replicas: self.replicas(document), metrics })
            }
            Outcome::Failed { class: FailureClass::Unsupported, .. } => Ok(Observation::default()),
            Outcome::Failed { why, .. } | Outcome::Unknown { why } => Err(why),
        }
    }

    fn note_unknown(&mut self, document: &Map) {
        for key in document.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.notes.push(format!("the answer's key `{}` means nothing here", cut(key)));
        }
    }

    fn facts(&mut self, document: &Map) -> Facts {
        let mut facts = Facts::default();
        match document.get("facts") {
            None | Some(Value::Null) => {}
            Some(Value::Object(said)) => {
                if said.len() > MAX_FACTS {
                    self.notes.push(format!("of {} facts the first {MAX_FACTS} are taken", said.len()));
                }
                for (name, value) in said.iter().take(MAX_FACTS).filter(|(_, value)| !value.is_null()) {
                    facts.set(name, value.clone());
                }
            }
            Some(_) => self.notes.push("`facts` is no object and was not taken".to_owned()),
        }
        facts
    }

    fn events(&mut self, document: &Map) -> Vec<Event> {
        let said = match document.get("events") {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(said)) => said,
            Some(_) => {
                self.notes.push("`events` is no list and was not taken".to_owned());
                return Vec::new();
            }
        };
        if said.len() > events::MAX_EVENTS {
            self.notes.push(format!("of {} events the first {} are taken", said.len(), events::MAX_EVENTS));
        }
        let mut taken = Vec::new();
        for (index, one) in said.iter().take(events::MAX_EVENTS).enumerate() {
            match events::read(one, self.deployment, self.now) {
                Ok(event) => taken.extend(event),
                Err(why) => self.notes.push(format!("event {index} was not taken: {why}")),
            }
        }
        taken
    }

    /// `{"cpu_percent": 12.5}`, or `[{"name", "value", "labels"}]` where labels tell samples apart.
    fn metrics(&mut self, document: &Map) -> Vec<(MetricName, f64, Labels)> {
        let mut metrics = Vec::new();
        match document.get("metrics") {
            None | Some(Value::Null) => {}
            Some(Value::Object(said)) => {
                for (name, value) in said.iter().take(MAX_SEEN) {
                    match value.as_f64() {
                        Some(number) => metrics.push((MetricName::new(name), number, Labels::default())),
                        None => self.notes.push(format!("the metric `{name}` is {value} and was not taken")),
                    }
                }
            }
            Some(Value::Array(said)) => {
                for one in said.iter().take(MAX_SEEN) {
                    let labels = events::labels(one.get("labels"));
                    match (one["name"].as_str(), one["value"].as_f64(), labels) {
                        (Some(name), Some(value), Ok(labels)) => metrics.push((MetricName::new(name), value, labels)),
                        (_, _, Err(why)) => self.notes.push(format!("a metric was not taken: {why}")),
                        _ => self.notes.push(format!("this is no metric and was not taken: {}", cut(&one.to_string()))),
                    }
                }
            }
            Some(_) => self.notes.push("`metrics` is neither object nor list and was not taken".to_owned()),
        }
        metrics
    }

    /// Replicas without an index are numbered in order.
    fn replicas(&mut self, document: &Map) -> Vec<Replica> {
        let said = match document.get("replicas") {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(said)) => said,
            Some(_) => {
                self.notes.push("`replicas` is no list and was not taken; their number is the fact `replicas`".into());
                return Vec::new();
            }
        };
        let mut replicas = Vec::new();
        for (place, one) in (0..).zip(said.iter().take(MAX_SEEN)) {
            let Some(fields) = one.as_object() else {
                self.notes.push(format!("the replica {} is no object and was not taken", cut(&one.to_string())));
                continue;
            };
            let number = |key: &str| fields.get(key).and_then(Value::as_u64);
            replicas.push(Replica {
                index: number("index").and_then(|index| u32::try_from(index).ok()).unwrap_or(place),
                port: number("port").and_then(|port| u16::try_from(port).ok()),
                pid: number("pid").and_then(|pid| u32::try_from(pid).ok()),
                up: fields.get("up").and_then(Value::as_bool).unwrap_or(true),
                incarnation: number("incarnation").unwrap_or(0),
            });
        }
        replicas.sort_by_key(|replica| replica.index);
        replicas.dedup_by_key(|replica| replica.index);
        replicas
    }
}

fn class_of(value: &Value) -> Option<FailureClass> {
    use FailureClass::{Conflict, Permanent, Transient, Unauthorized, Unsupported};
    let word = value.as_str()?;
    [Transient, Permanent, Unauthorized, Unsupported, Conflict].into_iter().find(|class| class.as_str() == word)
}
