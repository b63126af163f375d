//! Reads values out of a tree and collects every mistake on the way.
//!
//! Invariant: a reader that gives `None` for something that is there has said why.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::diagnostic::{Diagnostic, Level};
use super::yaml::{Kind, Mistake, Node, Span};
use super::{CONFIGURATION, SourceFile};
use crate::model::{Bytes, Labels, Map, Matcher, Secret, SecretSource, Selector, Value, units};

/// Resolves a name, `None` where there is nothing of that name.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Durations beyond this are a mistake, and arithmetic on instants stays far from its bounds.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) struct Reader<'a> {
    pub files: &'a [SourceFile],
    env: Lookup<'a>,
    file: Lookup<'a>,
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// Files that are no YAML: what they define is not known, so that nobody is blamed for naming it.
    unreadable: RefCell<BTreeSet<usize>>,
}

impl<'a> Reader<'a> {
    pub fn new(files: &'a [SourceFile], env: Lookup<'a>, file: Lookup<'a>) -> Self {
        Reader { files, env, file, diagnostics: RefCell::default(), unreadable: RefCell::default() }
    }

    pub fn error(&self, span: Span, code: &str, message: impl Into<String>) {
        self.say(span, Level::Error, code, message.into(), None);
    }

    pub fn error_with_help(&self, span: Span, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.say(span, Level::Error, code, message.into(), Some(help.into()));
    }

    pub fn warn(&self, span: Span, code: &str, message: impl Into<String>, help: Option<String>) {
        self.say(span, Level::Warning, code, message.into(), help);
    }

    pub fn mistake(&self, mistake: Mistake) {
        if matches!(mistake.code, "yaml-syntax" | "yaml-trap" | "too-large") {
            self.unreadable.borrow_mut().insert(mistake.span.file);
        }
        self.say(mistake.span, Level::Error, mistake.code, mistake.message, mistake.help);
    }

    /// Whether a name may be defined in a file that could not be read.
    pub fn may_be_unread(&self, folder: &str) -> bool {
        self.unreadable.borrow().iter().any(|file| {
            let path = &self.files[*file].path;
            path == CONFIGURATION || path.starts_with(folder)
        })
    }

    /// Whether selfheal.yaml could not be read whole.
    pub fn configuration_is_unread(&self) -> bool {
        self.unreadable.borrow().iter().any(|file| self.files[*file].path == CONFIGURATION)
    }

    pub fn say(&self, span: Span, level: Level, code: &str, message: String, help: Option<String>) {
        let diagnostic = self.diagnostic(span, level, code, message, help);
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    fn diagnostic(&self, span: Span, severity: Level, code: &str, message: String, help: Option<String>) -> Diagnostic {
        let source = &self.files[span.file];
        let (line, column, source_line) = place(&source.text, span.start);
        let shown = &source_line[source_line.char_indices().nth(column - 1).map_or(source_line.len(), |(at, _)| at)..];
        let wanted = source.text.get(span.start..span.end.max(span.start)).unwrap_or("");
        let length = wanted.lines().next().unwrap_or("").trim_end().chars().count().min(shown.chars().count());
        Diagnostic {
            file: source.path.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            length: u32::try_from(length.max(1)).unwrap_or(1),
            severity,
            code: code.to_owned(),
            message,
            help,
            source_line: source_line.to_owned(),
        }
    }

    /// `file:line`, to name another place in a message.
    pub fn at(&self, span: Span) -> String {
        let source = &self.files[span.file];
        format!("{}:{}", source.path, place(&source.text, span.start).0)
    }

    pub fn source_ref(&self, span: Span) -> crate::model::SourceRef {
        let source = &self.files[span.file];
        let (line, column, _) = place(&source.text, span.start);
        crate::model::SourceRef {
            file: source.path.as_str().into(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }

    /// Everything that was said, in order of file and line, each once; a line that is no YAML is told of once.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics.into_inner();
        let broken: BTreeSet<(String, u32)> = diagnostics
            .iter()
            .filter(|one| one.code.starts_with("yaml-"))
            .map(|one| (one.file.clone(), one.line))
            .collect();
        diagnostics.retain(|one| one.code.starts_with("yaml-") || !broken.contains(&(one.file.clone(), one.line)));
        let key = |one: &Diagnostic| {
            (one.file != CONFIGURATION, one.file.clone(), one.line, one.column, one.severity, one.message.clone())
        };
        diagnostics.sort_by_key(key);
        diagnostics.dedup();
        diagnostics
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.borrow().iter().any(|one| one.severity == Level::Error)
    }

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
            None => self.text(node).map(|text| Secret::new(SecretSource::Literal(text))),
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
        text.parse().map_err(|why: crate::model::MatcherError| self.error(node.span, "matcher", why.to_string())).ok()
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

    /// Reports a name that resolves to nothing, with the nearest one there is.
    pub fn unknown<'n>(&self, span: Span, code: &str, what: &str, name: &str, known: impl Iterator<Item = &'n str>) {
        let known: Vec<&str> = known.collect();
        let help = did_you_mean(name, known.iter().copied()).or_else(|| match known.as_slice() {
            [] => None,
            few if few.len() <= 8 => Some(format!("there are: {}", few.join(", "))),
            _ => None,
        });
        self.say(span, Level::Error, code, format!("there is no {what} `{name}`"), help);
    }
}

/// A plain scalar's value in YAML 1.2: numbers, true and false; all else is text.
pub(super) fn typed(text: &str) -> Value {
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

/// The nearest of the names there are, as a help line.
pub(super) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let most = (name.chars().count() / 3).max(1);
    known
        .map(|one| (strsim::damerau_levenshtein(&name.to_lowercase(), &one.to_lowercase()), one))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, one)| format!("did you mean `{one}`?"))
}

/// Line and column of a byte, both from 1, the column in characters; and that line's text.
pub(super) fn place(text: &str, at: usize) -> (usize, usize, &str) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[..start].matches('\n').count() + 1;
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let shown = text[start..end].trim_end_matches('\r');
    (line, text[start..at].chars().count() + 1, shown)
}

/// Names that were defined, each with its place: a second definition is a mistake.
#[derive(Default)]
pub(super) struct Defined(pub BTreeMap<String, Span>);

impl Defined {
    /// Whether the name is new; says so if not.
    pub fn add(&mut self, reader: &Reader<'_>, what: &str, name: &str, span: Span) -> bool {
        if let Some(first) = self.0.get(name) {
            let message = format!("there is already a {what} `{name}`, at {}", reader.at(*first));
            reader.error(span, "duplicate-name", message);
            return false;
        }
        self.0.insert(name.to_owned(), span);
        true
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
