//! One map of a policy file, read key by key; what nobody asked for is a mistake.
//!
//! Invariant: after [`Keys::finish`] every key was either asked for or reported.

use std::cell::RefCell;
use std::time::Duration;

use super::reader::{Reader, did_you_mean};
use super::yaml::{Entry, Node, Span};

pub(crate) struct Keys<'n> {
    reader: &'n Reader<'n>,
    /// For messages: `rule`, `check`, …
    what: &'static str,
    entries: &'n [Entry],
    pub span: Span,
    asked: RefCell<Vec<&'static str>>,
}

impl<'n> Keys<'n> {
    /// `None` where the node is no map, and that is said.
    pub fn of(reader: &'n Reader<'n>, what: &'static str, node: &'n Node) -> Option<Keys<'n>> {
        match node.entries() {
            Some(entries) => Some(Keys { reader, what, entries, span: node.span, asked: RefCell::default() }),
            None => {
                reader.wrong_type(node, &format!("a map (a {what})"));
                None
            }
        }
    }

    pub fn entry(&self, key: &'static str) -> Option<&'n Entry> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// As [`Keys::entry`] where the key is written; where it is not, it was not asked for.
    pub fn entry_if_there(&self, key: &'static str) -> Option<&'n Entry> {
        if self.has(key) { self.entry(key) } else { None }
    }

    /// Also null.
    pub fn raw(&self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A value that must be something where its key is written.
    pub fn get(&self, key: &'static str) -> Option<&'n Node> {
        let entry = self.entry(key)?;
        if entry.value.is_null() {
            let message = format!("`{key}` has nothing behind it");
            self.reader.error(entry.key_span, "empty-value", message);
            return None;
        }
        Some(&entry.value)
    }

    /// A list or map that may be empty (all of it commented out).
    pub fn section(&self, key: &'static str) -> Option<&'n Node> {
        self.raw(key).filter(|node| !node.is_null())
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    pub fn required(&self, key: &'static str) -> Option<&'n Node> {
        if !self.has(key) {
            self.missing(key);
        }
        self.get(key)
    }

    pub fn missing(&self, key: &str) {
        let start = self.entries.first().map_or(self.span.start, |entry| entry.key_span.start.min(self.span.start));
        let at = match self.entries.first() {
            Some(first) if first.key_span.file == self.span.file => first.key_span,
            _ => Span { start, end: start + 1, ..self.span },
        };
        self.reader.error(at, "missing-key", format!("this {} has no `{key}`", self.what));
    }

    pub fn text(&self, key: &'static str) -> Option<String> {
        self.get(key).and_then(|node| self.reader.text(node))
    }

    /// A text that is not empty.
    pub fn name(&self, key: &'static str) -> Option<String> {
        let node = self.required(key)?;
        let text = self.reader.text(node)?;
        if text.trim().is_empty() {
            self.reader.error(node.span, "empty-value", format!("`{key}` is empty"));
            return None;
        }
        Some(text)
    }

    pub fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|node| self.reader.boolean(node)).unwrap_or(default)
    }

    pub fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.get(key).and_then(|node| self.reader.duration(node)).unwrap_or(default)
    }

    pub fn positive_duration(&self, key: &'static str, default: Duration) -> Duration {
        let Some(node) = self.get(key) else { return default };
        match self.reader.duration(node) {
            Some(span) if span.is_zero() => {
                self.reader.error(node.span, "out-of-range", format!("`{key}` must be longer than 0s"));
                default
            }
            span => span.unwrap_or(default),
        }
    }

    pub fn count(&self, key: &'static str, least: u32, most: u32, default: u32) -> u32 {
        self.get(key).and_then(|node| self.reader.count(node, least, most)).unwrap_or(default)
    }

    /// Reports every key that was not asked for. `not_built` are those the format knows and this build does not.
    pub fn finish(&self, not_built: &[&str]) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&entry.key.as_str())) {
            self.unknown(entry, &asked, not_built);
        }
    }

    /// As [`Keys::finish`], where keys that start with `x-` may hold anything.
    pub fn finish_file(&self, not_built: &[&str]) {
        let asked = self.asked.borrow();
        let others = |entry: &&Entry| !entry.key.starts_with("x-") && !asked.contains(&entry.key.as_str());
        for entry in self.entries.iter().filter(others) {
            self.unknown(entry, &asked, not_built);
        }
    }

    fn unknown(&self, entry: &Entry, asked: &[&str], not_built: &[&str]) {
        let key = &entry.key;
        let what = self.what;
        if not_built.contains(&key.as_str()) {
            let message =
                format!("`{key}` of a {what} is not built yet; without it the policy would mean something else");
            self.reader.error_with_help(
                entry.key_span,
                "not-built-yet",
                message,
                "remove it; docs/policy.md lists what is built",
            );
        } else if entry.flow && entry.value.is_null() {
            self.reader.error_with_help(
                entry.key_span,
                "yaml-trap",
                "inside { } a comma ends the value before it; this is what stood behind one",
                "put the whole value in quotes: a condition in '…', a text in \"…\"",
            );
        } else {
            let mut near: Vec<&str> = asked.to_vec();
            near.sort_unstable();
            near.dedup();
            let help =
                did_you_mean(key, near.iter().copied()).unwrap_or_else(|| format!("a {what} has {}", near.join(", ")));
            self.reader.error_with_help(entry.key_span, "unknown-key", format!("a {what} has no key `{key}`"), help);
        }
    }
}
