//! Values out of a tree: texts, numbers, durations, labels, secrets.
//!
//! Invariant: a reader that gives `None` for something that is there has said why.

use std::time::Duration;

use super::reader::{Reader, did_you_mean};
use super::yaml::{Kind, Node, Span};
use crate::CONFIGURATION;
use selfheal_contract::diagnostic::Level;
use selfheal_model::{Bytes, Labels, Map, Matcher, Secret, SecretSource, Selector, Value, units};

/// Durations beyond this are a mistake, and arithmetic on instants stays far from its bounds.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Reader<'_> {
    pub fn wrong_type(&self, node: &Node, expected: &str) {
        if node.is_null() {
            self.error(node.span, "empty-value", format!("there is nothing here; it takes {expected}"));
        } else {
            self.error(node.span, "wrong-type", format!("this takes {expected}, not {}", node.describe()));
        }
    }

    /// A text with its spelling; `${…}` filled in where that is allowed.
    pub fn text(&self, node: &Node) -> Option<String> {
        match node.scalar() {
            Some(text) => self.substituted(text, node),
            None => {
                self.wrong_type(node, "a text");
                None
            }
        }
    }

    /// Whether `${…}` means something in this file.
    pub fn substitutes(&self, node: &Node) -> bool {
        let path = &self.files[node.span.file].path;
        path == CONFIGURATION || path.starts_with("deployments/")
    }

    fn substituted(&self, text: &str, node: &Node) -> Option<String> {
        if !self.substitutes(node) {
            return Some(text.to_owned());
        }
        match self.substitute(text) {
            Ok(text) => Some(text),
            Err(why) => {
                self.error(node.span, "unset-variable", why);
                None
            }
        }
    }

    /// Fills every `${NAME}` and `${file:PATH}` in.
    ///
    /// # Errors
    /// The first one that has no value.
    pub fn substitute(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            filled.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                return Err(format!("`{}` has no closing `}}`", &rest[at..]));
            };
            let inner = &rest[at + 2..at + end];
            let value = match inner.strip_prefix("file:") {
                Some(path) => (self.file)(path).ok_or_else(|| format!("the file `{path}` cannot be read"))?,
                None => (self.env)(inner).ok_or_else(|| format!("the environment variable `{inner}` is not set"))?,
            };
            filled.push_str(&value);
            rest = &rest[at + end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// A reference where the text is exactly one `${…}`; else what it comes to.
    pub fn secret(&self, node: &Node) -> Option<Secret> {
        let Some(raw) = node.scalar() else {
            self.wrong_type(node, "a secret such as \"${NAME}\" or \"${file:PATH}\"");
            return None;
        };
        let whole = raw.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|one| !one.contains('}'));
        match whole.filter(|_| self.substitutes(node)) {
            Some(inner) => Some(Secret::new(match inner.strip_prefix("file:") {
                Some(path) => SecretSource::File(path.into()),
                None => SecretSource::Env(inner.to_owned()),
            })),
            None => {
                self.note_secret(node.span);
                self.text(node).map(|text| Secret::new(SecretSource::Literal(text)))
            }
        }
    }

    /// A scalar that is no text to YAML, or came out of a variable.
    fn unquoted(&self, node: &Node, expected: &str) -> Option<String> {
        let text = match node.plain() {
            Some(_) if !node.is_null() => self.text(node),
            _ if node.scalar().is_some_and(|text| text.contains("${")) && self.substitutes(node) => self.text(node),
            _ => {
                self.wrong_type(node, expected);
                return None;
            }
        };
        text.map(|text| text.trim().to_owned())
    }

    pub fn boolean(&self, node: &Node) -> Option<bool> {
        const EXPECTED: &str = "true or false";
        let text = self.unquoted(node, EXPECTED)?;
        match text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.wrong_type(node, EXPECTED);
                None
            }
        }
    }

    pub fn whole(&self, node: &Node, least: i64, most: i64) -> Option<i64> {
        let expected = format!("a whole number from {least} to {most}");
        let text = self.unquoted(node, &expected)?;
        let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong_type(node, &expected);
        }
        number
    }

    pub fn count(&self, node: &Node, least: u32, most: u32) -> Option<u32> {
        self.whole(node, i64::from(least), i64::from(most)).and_then(|number| u32::try_from(number).ok())
    }

    pub fn number(&self, node: &Node) -> Option<f64> {
        let text = self.unquoted(node, "a number")?;
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        if number.is_none() {
            self.wrong_type(node, "a number");
        }
        number
    }

    pub fn duration(&self, node: &Node) -> Option<Duration> {
        let Some(raw) = node.scalar() else {
            self.wrong_type(node, "a duration such as 30s");
            return None;
        };
        let text = self.substituted(raw, node)?;
        match units::parse_duration(&text) {
            Ok(span) if span <= MAX_DURATION => Some(span),
            Ok(_) => {
                self.error(node.span, "out-of-range", format!("`{text}` is longer than ten years"));
                None
            }
            Err(why) => {
                let help =
                    text.parse::<f64>().ok().map(|_| format!("a duration has a unit: write {text}s for seconds"));
                self.say(node.span, Level::Error, "wrong-type", why, help);
                None
            }
        }
    }

    pub fn size(&self, node: &Node) -> Option<Bytes> {
        let Some(raw) = node.scalar() else {
            self.wrong_type(node, "a size such as 512MiB");
            return None;
        };
        let text = self.substituted(raw, node)?;
        Bytes::parse(&text).map_err(|why| self.error(node.span, "wrong-type", why)).ok()
    }

    /// `3/1h`
    pub fn rate(&self, node: &Node) -> Option<(u32, Duration)> {
        const EXPECTED: &str = "a rate such as 3/1h: how many in how long";
        let text = self.text(node)?;
        let parsed = text.split_once('/').and_then(|(count, window)| {
            let count = count.trim().parse::<u32>().ok().filter(|count| *count > 0)?;
            let window = units::parse_duration(window).ok().filter(|span| !span.is_zero() && *span <= MAX_DURATION)?;
            Some((count, window))
        });
        if parsed.is_none() {
            self.wrong_type(node, EXPECTED);
        }
        parsed
    }

    /// `50%` as 0.5, from more than 0 to 1.
    pub fn ratio(&self, text: &str) -> Option<f64> {
        let percent = text.trim().strip_suffix('%')?.trim().parse::<f64>().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names = words.iter().map(|(word, _)| *word);
            let one_of = names.clone().collect::<Vec<_>>().join(", ");
            let help = did_you_mean(&text, names);
            self.say(node.span, Level::Error, "wrong-value", format!("`{text}` is none of {one_of}"), help);
        }
        found
    }

    pub fn list<'n>(&self, node: &'n Node, expected: &str) -> &'n [Node] {
        match &node.kind {
            Kind::List(items) => items,
            _ => {
                self.wrong_type(node, expected);
                &[]
            }
        }
    }

    /// A list of texts, or one text.
    pub fn texts(&self, node: &Node) -> Option<Vec<String>> {
        match &node.kind {
            Kind::List(items) => items.iter().map(|item| self.text(item)).collect(),
            Kind::Scalar { .. } if !node.is_null() => self.text(node).map(|text| vec![text]),
            _ => {
                self.wrong_type(node, "a list of texts");
                None
            }
        }
    }

    pub fn text_map(&self, node: &Node) -> Option<Vec<(String, String)>> {
        let Some(entries) = node.entries() else {
            self.wrong_type(node, "a map of names to texts");
            return None;
        };
        entries.iter().map(|entry| Some((entry.key.clone(), self.text(&entry.value)?))).collect()
    }

    pub fn labels(&self, node: &Node) -> Option<Labels> {
        let pairs = self.text_map(node)?;
        let mut whole = true;
        for entry in node.entries().unwrap_or_default() {
            whole &= self.label_name(&entry.key, entry.key_span);
        }
        whole.then(|| pairs.into_iter().collect())
    }

    pub fn label_name(&self, name: &str, span: Span) -> bool {
        let good = name.chars().enumerate().all(|(index, letter)| {
            letter == '_' || letter.is_ascii_alphabetic() || (index > 0 && letter.is_ascii_digit())
        });
        if !good || name.is_empty() {
            self.error(span, "wrong-value", format!("`{name}` is no label's name: letters, digits and `_` only"));
        }
        good && !name.is_empty()
    }

    /// `{ tier: web }`, or matchers: `['region=~"eu|us"']`.
    pub fn selector(&self, node: &Node) -> Option<Selector> {
        match &node.kind {
            Kind::Map(_) => {
                let labels = self.labels(node)?;
                Some(Selector(labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect()))
            }
            Kind::List(items) => items.iter().map(|item| self.matcher(item)).collect::<Option<_>>().map(Selector),
            Kind::Scalar { .. } => self.matcher(node).map(|matcher| Selector(vec![matcher])),
        }
    }

    fn matcher(&self, node: &Node) -> Option<Matcher> {
        let text = self.text(node)?;
        text.parse().map_err(|why: selfheal_model::MatcherError| self.error(node.span, "matcher", why.to_string())).ok()
    }

    /// As YAML's core schema types it.
    pub fn json(&self, node: &Node) -> Option<Value> {
        match &node.kind {
            Kind::List(items) => items.iter().map(|item| self.json(item)).collect::<Option<_>>().map(Value::Array),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| Some((entry.key.clone(), self.json(&entry.value)?)))
                .collect::<Option<Map>>()
                .map(Value::Object),
            Kind::Scalar { .. } if node.is_null() => Some(Value::Null),
            Kind::Scalar { .. } => {
                let text = self.text(node)?;
                Some(if node.plain().is_some() { typed(&text) } else { Value::String(text) })
            }
        }
    }
}

/// A plain scalar's value in YAML 1.2: numbers, true and false; all else is text.
pub(crate) fn typed(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return Value::String(text.to_owned());
    }
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => Value::String(text.to_owned()),
    }
}
