//! One map of a policy file, read by the table of its section.
//!
//! Invariant: once a map is opened, every key that its table does not have and every required key that is not written
//! has been reported. A key that the table does not have cannot be read.

use std::time::Duration;

use super::reader::{Reader, did_you_mean};
use super::yaml::{Entry, Node, Span};
use crate::schema::{Form, Key, Others, Presence, Section};

pub(crate) struct Keys<'n> {
    reader: &'n Reader<'n>,
    section: &'static Section,
    entries: &'n [Entry],
    pub span: Span,
}

impl<'n> Keys<'n> {
    /// Opens a map and reports the keys that are wrong in it. `None` where the node is no map; that is reported too.
    pub fn of(reader: &'n Reader<'n>, section: &'static Section, node: &'n Node) -> Option<Keys<'n>> {
        Keys::except(reader, section, node, |_| false)
    }

    /// As [`Keys::of`]; the caller reports the keys for which `reported` is true itself.
    pub fn except(
        reader: &'n Reader<'n>,
        section: &'static Section,
        node: &'n Node,
        reported: impl Fn(&Entry) -> bool,
    ) -> Option<Keys<'n>> {
        let Some(entries) = node.entries() else {
            reader.wrong_type(node, &format!("a map (a {})", section.title));
            return None;
        };
        let keys = Keys { reader, section, entries, span: node.span };
        keys.report_unknown(reported);
        for key in section.keys.iter().filter(|key| key.presence == Presence::Required && !keys.has(key.name)) {
            keys.missing(key.name);
        }
        Some(keys)
    }

    /// Opens selfheal.yaml. Whether `format` is there and in its place is not reported here.
    pub fn configuration(reader: &'n Reader<'n>, node: &'n Node) -> Option<Keys<'n>> {
        let section = &crate::schema::CONFIGURATION;
        let Some(entries) = node.entries() else {
            reader.wrong_type(node, &format!("a map (a {})", section.title));
            return None;
        };
        let keys = Keys { reader, section, entries, span: node.span };
        keys.report_unknown(|_| false);
        Some(keys)
    }

    /// Reports the keys that are wrong in a map of defaults, of which none is required.
    pub fn check_defaults(reader: &'n Reader<'n>, section: &'static Section, node: &'n Node) {
        if let Some(entries) = node.entries() {
            Keys { reader, section, entries, span: node.span }.report_unknown(|_| false);
        }
    }

    pub fn entry(&self, key: &'static str) -> Option<&'n Entry> {
        self.declared(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn declared(&self, key: &'static str) -> &'static Key {
        #[cfg(test)]
        read::note(self.section, key);
        self.section.key(key)
    }

    /// The value of a key, null included.
    pub fn raw(&self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A value that must not be null where its key is written.
    pub fn get(&self, key: &'static str) -> Option<&'n Node> {
        let entry = self.entry(key)?;
        if entry.value.is_null() {
            let message = format!("`{key}` has nothing behind it");
            self.reader.error(entry.key_span, "empty-value", message);
            return None;
        }
        Some(&entry.value)
    }

    /// A list or map that may be null (all of it commented out).
    pub fn section(&self, key: &'static str) -> Option<&'n Node> {
        self.raw(key).filter(|node| !node.is_null())
    }

    /// The entry of a key for messages alone: its value is not read.
    pub fn written(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Whether the key is written.
    pub fn has(&self, key: &str) -> bool {
        self.written(key).is_some()
    }

    /// Those of the section's alternatives (`one_of`) that are written.
    pub fn alternatives(&self) -> Vec<&'static str> {
        self.section.one_of.iter().copied().filter(|key| self.has(key)).collect()
    }

    pub fn missing(&self, key: &str) {
        let start = self.entries.first().map_or(self.span.start, |entry| entry.key_span.start.min(self.span.start));
        let at = match self.entries.first() {
            Some(first) if first.key_span.file == self.span.file => first.key_span,
            _ => Span { start, end: start + 1, ..self.span },
        };
        self.reader.error(at, "missing-key", format!("this {} has no `{key}`", self.section.title));
    }

    pub fn text(&self, key: &'static str) -> Option<String> {
        self.get(key).and_then(|node| self.reader.text(node))
    }

    /// A text, or the table's default.
    pub fn text_or_default(&self, key: &'static str) -> String {
        self.text(key).unwrap_or_else(|| self.section.key(key).default_text().to_owned())
    }

    /// A text that is not empty.
    pub fn name(&self, key: &'static str) -> Option<String> {
        let node = self.get(key)?;
        let text = self.reader.text(node)?;
        if text.trim().is_empty() {
            self.reader.error(node.span, "empty-value", format!("`{key}` is empty"));
            return None;
        }
        Some(text)
    }

    /// `true` or `false`, or the table's default.
    pub fn boolean(&self, key: &'static str) -> bool {
        let default = self.declared(key).default_text() == "true";
        self.get(key).and_then(|node| self.reader.boolean(node)).unwrap_or(default)
    }

    /// One of the table's words with what it stands for; `values` has each word once.
    pub fn word<T: Copy>(&self, key: &'static str, values: &[(&str, T)]) -> Option<T> {
        debug_assert!(
            matches!(self.section.key(key).form, Form::Word(words) if words.iter().eq(values.iter().map(|(word, _)| word))),
            "the table of a {} has other words for `{key}`",
            self.section.title
        );
        self.get(key).and_then(|node| self.reader.word(node, values))
    }

    /// A duration within the bounds of the table, or the table's default.
    pub fn duration(&self, key: &'static str) -> Duration {
        let default = self.section.default_duration(key);
        self.duration_or(key, default)
    }

    /// A duration within the bounds of the table.
    pub fn duration_or(&self, key: &'static str, default: Duration) -> Duration {
        let Some(node) = self.get(key) else { return default };
        let must_be_positive = matches!(self.declared(key).form, Form::PositiveDuration);
        match self.reader.duration(node) {
            Some(span) if span.is_zero() && must_be_positive => {
                self.reader.error(node.span, "out-of-range", format!("`{key}` must be longer than 0s"));
                default
            }
            span => span.unwrap_or(default),
        }
    }

    /// A whole number within the bounds of the table, or the table's default.
    pub fn count(&self, key: &'static str) -> u32 {
        let default = self
            .section
            .key(key)
            .default_text()
            .parse()
            .unwrap_or_else(|_| panic!("the table of a {} has no default count for `{key}`", self.section.title));
        self.count_if_written(key).unwrap_or(default)
    }

    /// A whole number within the bounds of the table.
    pub fn count_if_written(&self, key: &'static str) -> Option<u32> {
        let Form::Count(least, most) = self.declared(key).form else {
            panic!("the table of a {} has no bounds for `{key}`", self.section.title)
        };
        self.get(key).and_then(|node| self.reader.count(node, least, most))
    }

    fn report_unknown(&self, reported: impl Fn(&Entry) -> bool) {
        let others = self.section.others;
        let unknown = |entry: &&Entry| {
            let is_extension = others == Others::Extensions && entry.key.starts_with("x-");
            others != Others::OfTheAdapter
                && !is_extension
                && self.section.find(&entry.key).is_none()
                && !reported(entry)
        };
        self.entries.iter().filter(unknown).for_each(|entry| self.unknown(entry));
    }

    /// The keys that could stand here, given the others.
    fn possible(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self
            .section
            .keys
            .iter()
            .filter(|key| key.only_with.is_empty() || key.only_with.iter().any(|other| self.has(other)))
            .map(|key| key.name)
            .collect();
        names.sort_unstable();
        names
    }

    fn unknown(&self, entry: &Entry) {
        let key = &entry.key;
        let what = self.section.title;
        if self.section.not_built.contains(&key.as_str()) {
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
            let near = self.possible();
            let help =
                did_you_mean(key, near.iter().copied()).unwrap_or_else(|| format!("a {what} has {}", near.join(", ")));
            self.reader.error_with_help(entry.key_span, "unknown-key", format!("a {what} has no key `{key}`"), help);
        }
    }
}

/// Which keys were read on this thread, for the test that every key of every table is.
#[cfg(test)]
pub(crate) mod read {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use crate::schema::Section;

    thread_local! {
        static READ: RefCell<BTreeSet<(&'static str, &'static str)>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(super) fn note(section: &'static Section, key: &'static str) {
        READ.with_borrow_mut(|read| read.insert((section.place, key)));
    }

    /// Everything that was read so far, by the section's place and the key.
    pub(crate) fn taken() -> BTreeSet<(&'static str, &'static str)> {
        READ.with_borrow_mut(std::mem::take)
    }
}
