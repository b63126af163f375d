//! Keeps secret values out of everything that leaves the adapters: outputs, logs, facts, messages.
//!
//! Invariant: a value is known before it is used, so nothing that a program prints of it gets through.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use selfheal_model::{
    Event, EventKind, Facts, Labels, Map, Outcome, ResolveSecret, Secret, SecretError, SecretSource, Value,
};

/// What stands in place of a secret value.
const MASK: &str = "***";

/// A shorter value is no secret worth the name, and masking it would tear ordinary words apart.
const SHORTEST: usize = 4;

/// Values remembered, the longest unused forgotten first: tokens rotate, and every text is searched for each value.
const MOST_KNOWN: usize = 1_024;

/// The secret values known so far.
#[derive(Default)]
pub struct Redactor {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// Longest unused first.
    by_use: VecDeque<Arc<str>>,
    /// So that a value that holds another one is masked whole.
    longest_first: Vec<Arc<str>>,
}

impl Redactor {
    /// From now on `value` is masked; so is each line of a value of several lines, and its form inside JSON.
    pub fn learn(&self, value: &str) {
        let mut forms: Vec<String> = vec![value.trim().to_owned()];
        if value.trim().contains('\n') {
            forms.extend(value.lines().map(|line| line.trim().to_owned()));
        }
        if let Ok(quoted) = serde_json::to_string(value.trim()) {
            forms.push(quoted[1..quoted.len() - 1].to_owned());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms {
            known.add(&form);
        }
    }

    /// `text` with every known value replaced.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut masked = Cow::Borrowed(text);
        for value in &known.longest_first {
            if masked.contains(&**value) {
                masked = Cow::Owned(masked.replace(&**value, MASK));
            }
        }
        masked
    }

    /// Every text inside `value`, keys included.
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text).into_owned()),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.value(item)).collect()),
            Value::Object(fields) => Value::Object(self.map(fields)),
            plain => plain,
        }
    }

    pub fn map(&self, fields: Map) -> Map {
        fields.into_iter().map(|(key, value)| (self.text(&key).into_owned(), self.value(value))).collect()
    }

    pub fn facts(&self, facts: Facts) -> Facts {
        Facts(facts.0.into_iter().map(|(name, value)| (name, self.value(value))).collect())
    }

    pub fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done { output, facts, events } => Outcome::Done {
                output: self.value(output),
                facts: self.facts(facts),
                events: events.into_iter().map(|event| self.event(event)).collect(),
            },
            Outcome::Failed { class, why } => Outcome::Failed { class, why: self.text(&why).into_owned() },
            Outcome::Unknown { why } => Outcome::Unknown { why: self.text(&why).into_owned() },
        }
    }

    fn labels(&self, labels: &Labels) -> Labels {
        labels.iter().map(|(name, value)| (name, self.text(value))).collect()
    }

    fn event(&self, event: Event) -> Event {
        let kind = match event.kind {
            EventKind::Metric { name, value, labels } => {
                EventKind::Metric { name, value, labels: self.labels(&labels) }
            }
            EventKind::Ended { name, labels } => EventKind::Ended { name, labels: self.labels(&labels) },
            EventKind::Health { check, replica, status, latency_ms, reason, message, confidence } => {
                let message = self.text(&message).into_owned();
                EventKind::Health { check, replica, status, latency_ms, reason, message, confidence }
            }
            EventKind::Signal { name, fields } => EventKind::Signal { name, fields: self.map(fields) },
        };
        Event { kind, ..event }
    }
}

impl Known {
    fn add(&mut self, value: &str) {
        if value.chars().count() < SHORTEST {
            return;
        }
        if let Some(at) = self.by_use.iter().position(|known| **known == *value) {
            if let Some(known) = self.by_use.remove(at) {
                self.by_use.push_back(known);
            }
            return;
        }
        if self.by_use.len() >= MOST_KNOWN
            && let Some(oldest) = self.by_use.pop_front()
        {
            self.longest_first.retain(|known| *known != oldest);
        }
        let value: Arc<str> = value.into();
        self.by_use.push_back(value.clone());
        let at = self.longest_first.partition_point(|known| known.len() >= value.len());
        self.longest_first.insert(at, value);
    }
}

/// Resolves secrets and tells the redactor each value before anybody else gets it.
pub struct Learning {
    inner: Arc<dyn ResolveSecret>,
    redactor: Arc<Redactor>,
}

impl Learning {
    pub fn new(inner: Arc<dyn ResolveSecret>, redactor: Arc<Redactor>) -> Self {
        Learning { inner, redactor }
    }
}

impl ResolveSecret for Learning {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        let value = self.inner.resolve(secret)?;
        self.redactor.learn(&value);
        Ok(value)
    }
}

/// Replaces every `${NAME}` and `${file:PATH}` in `text` by its value.
///
/// # Errors
/// The first reference that has no value now.
pub fn expand(text: &str, secrets: &dyn ResolveSecret) -> Result<String, SecretError> {
    if !text.contains("${") {
        return secrets.resolve(&Secret::new(SecretSource::Literal(text.to_owned())));
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let Some((reference, tail)) = after.split_once('}') else {
            expanded.push_str("${");
            rest = after;
            continue;
        };
        let source = match reference.strip_prefix("file:") {
            Some(path) => SecretSource::File(PathBuf::from(path)),
            None => SecretSource::Env(reference.to_owned()),
        };
        expanded.push_str(&secrets.resolve(&Secret::new(source))?);
        rest = tail;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_known_value_is_masked_wherever_it_stands() {
        let redactor = Redactor::default();
        redactor.learn("s3cret\"x");
        redactor.learn("s3cret\"x-and-longer");
        assert_eq!(redactor.text("a s3cret\"x-and-longer b s3cret\"x"), "a *** b ***");
        assert_eq!(redactor.text(r#"{"token":"s3cret\"x"}"#), r#"{"token":"***"}"#);
        assert_eq!(
            redactor.value(json!({"deep": [{"s3cret\"x": "is s3cret\"x"}], "n": 1})),
            json!({"deep": [{"***": "is ***"}], "n": 1})
        );
    }

    #[test]
    fn a_value_of_several_lines_is_masked_line_by_line_and_a_short_one_not_at_all() {
        let redactor = Redactor::default();
        redactor.learn("first-line\nsecond-line\n");
        redactor.learn("ab");
        assert_eq!(redactor.text("x second-line ab"), "x *** ab");
    }

    #[test]
    fn the_longest_unused_value_is_forgotten_first() {
        let redactor = Redactor::default();
        redactor.learn("kept-value");
        redactor.learn("dropped-value");
        for number in 0..MOST_KNOWN - 2 {
            redactor.learn(&format!("token-{number:06}"));
        }
        redactor.learn("kept-value");
        redactor.learn("one-more-value");
        assert_eq!(redactor.text("kept-value dropped-value"), "*** dropped-value");
    }

    struct Fixed;
    impl ResolveSecret for Fixed {
        fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
            match secret.source() {
                SecretSource::Env(name) if name == "GONE" => Err(SecretError::EnvMissing(name.clone())),
                SecretSource::Env(name) => Ok(format!("<{name}>")),
                SecretSource::File(path) => Ok(format!("<file {}>", path.display())),
                SecretSource::Literal(text) => Ok(text.clone()),
            }
        }
    }

    #[test]
    fn references_inside_a_text_are_resolved_and_a_missing_one_is_named() {
        let expanded = expand("Bearer ${TOKEN} ${file:a/b} ${", &Fixed);
        assert_eq!(expanded.ok().as_deref(), Some("Bearer <TOKEN> <file a/b> ${"));
        let error = expand("${GONE}", &Fixed).map_err(|error| error.to_string());
        assert_eq!(error, Err("environment variable `GONE` is not set".to_owned()));
    }
}
