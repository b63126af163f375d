//! Compiles the conditions and texts of a file, and shows their mistakes at their place in the file.

use std::collections::BTreeMap;
use std::ops::Range;

use smol_str::SmolStr;

use super::reader::Reader;
use super::secrets::Secrets;
use super::yaml::{Kind, Node, Span, Style, cut_by_comment};
use crate::TimeIntervals;
use selfheal_contract::diagnostic::Level;
use selfheal_model::MetricName;
use selfheal_script::{
    Condition, Expect, Func, Names, Param, ProblemSeverity, Read, ScriptHost, ScriptProblem, Template,
};

/// Compiles with one policy's functions. Without a host (a `.rhai` file is wrong) conditions are left unread.
pub(crate) struct Scripts<'a> {
    pub reader: &'a Reader<'a>,
    pub host: Option<&'a ScriptHost>,
    pub intervals: &'a TimeIntervals,
    /// That `metrics:` says, by name.
    pub units: &'a BTreeMap<MetricName, SmolStr>,
    /// Those a playbook may pass on.
    pub secrets: &'a Secrets,
}

impl Scripts<'_> {
    pub fn condition(&self, node: &Node, names: &Names<'_>) -> Option<Condition> {
        self.script(node, Expect::Bool, names, "a condition in '…', such as 'last(\"cpu_percent\") > 80'")
    }

    pub fn number(&self, node: &Node, names: &Names<'_>) -> Option<Condition> {
        self.script(node, Expect::Number, names, "an expression in '…', such as 'avg(\"cpu_percent\", \"5m\")'")
    }

    fn script(&self, node: &Node, expect: Expect, names: &Names<'_>, expected: &str) -> Option<Condition> {
        let source = self.source(node, expected)?;
        match Condition::compile(self.host?, source, expect, names) {
            Ok((condition, warnings)) => {
                self.report(node, source, warnings);
                self.check_intervals(node, &condition);
                Some(condition)
            }
            Err(problems) => {
                self.report(node, source, problems);
                None
            }
        }
    }

    /// Every `in_interval("x")` names one there is.
    fn check_intervals(&self, node: &Node, condition: &Condition) {
        let unknown = |read: &&Read| read.func == Func::InInterval && !self.intervals.contains_key(&read.subject);
        for read in condition.reads().iter().filter(unknown).filter(|_| !self.reader.configuration_is_unread()) {
            let names = self.intervals.keys().map(SmolStr::as_str);
            let span = self.place_of(node, &read.subject);
            self.reader.unknown(span, "unknown-interval", "time interval", &read.subject, names);
        }
    }

    pub fn template(&self, node: &Node, names: &Names<'_>) -> Option<Template> {
        let source = self.source(node, "a text in \"…\"")?;
        Template::compile(source, names).map_err(|problems| self.report(node, source, problems)).ok()
    }

    /// A value with texts filled in: literals keep their type, `{{ … }}` is a template.
    pub fn param(&self, node: &Node, names: &Names<'_>) -> Option<Param> {
        match &node.kind {
            Kind::List(items) => {
                items.iter().map(|item| self.param(item, names)).collect::<Option<_>>().map(Param::List)
            }
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| Some((entry.key.clone(), self.param(&entry.value, names)?)))
                .collect::<Option<_>>()
                .map(Param::Map),
            Kind::Scalar { .. } if is_template(node) => self.template(node, names).map(Param::Template),
            Kind::Scalar { .. } => self.reader.json(node).map(Param::Literal),
        }
    }

    fn source<'n>(&self, node: &'n Node, expected: &str) -> Option<&'n str> {
        if node.is_null() {
            let message = format!("there is nothing here, but {expected} belongs here");
            self.reader.error(node.span, "empty-value", message);
            return None;
        }
        let Some(source) = node.scalar() else {
            self.reader.wrong_type(node, expected);
            return None;
        };
        let file = &self.reader.files[node.span.file].text;
        if node.plain().is_some()
            && let Some(cut) = cut_by_comment(file, node.span.end)
        {
            let span = Span { start: node.span.end + 1, end: node.span.end + cut, ..node.span };
            let message = "` #` starts a comment and cuts the text off before it";
            self.reader.error_with_help(span, "yaml-trap", message, "put the whole text in quotes");
            return None;
        }
        Some(source)
    }

    fn report(&self, node: &Node, source: &str, problems: Vec<ScriptProblem>) {
        if problems.is_empty() {
            return;
        }
        let offsets = aligned(&self.reader.files[node.span.file].text, node, source);
        for problem in problems {
            let level = match problem.severity {
                ProblemSeverity::Error => Level::Error,
                ProblemSeverity::Warning => Level::Warning,
            };
            let span = in_file(&offsets, node.span, &problem.span);
            self.reader.say(span, level, problem.code, problem.message, problem.help);
        }
    }

    /// Notes the rules that a condition counts with `firing`, each with its place.
    pub fn note_firing(&self, condition: &Condition, node: &Node, into: &mut Vec<(String, Span)>) {
        for read in condition.reads().iter().filter(|read| read.func == Func::Firing) {
            into.push((read.subject.to_string(), self.place_of(node, &read.subject)));
        }
    }

    /// The place of some bytes of a scalar's text.
    pub fn place_in(&self, node: &Node, range: &Range<usize>) -> Span {
        let Some(source) = node.scalar() else { return node.span };
        let offsets = aligned(&self.reader.files[node.span.file].text, node, source);
        in_file(&offsets, node.span, range)
    }

    /// The place of the first `needle` in a scalar's text, or the scalar's.
    pub fn place_of(&self, node: &Node, needle: &str) -> Span {
        match node.scalar().and_then(|source| source.find(needle)) {
            Some(at) => self.place_in(node, &(at..at + needle.len())),
            None => node.span,
        }
    }
}

/// A scalar with something to fill in.
pub(crate) fn is_template(node: &Node) -> bool {
    node.scalar().is_some_and(|text| text.contains("{{") || text.contains("{%"))
}

fn in_file(offsets: &[usize], whole: Span, range: &Range<usize>) -> Span {
    let last = offsets.len() - 1;
    let start = offsets[range.start.min(last)];
    // the end is that of the last byte inside, so that a range up to a line's end stays on its line
    let end = if range.end > range.start { offsets[(range.end - 1).min(last)] + 1 } else { start + 1 };
    Span { start, end: end.max(start + 1), ..whole }
}

/// For every byte of a scalar's text, and its end, the byte of the file it was written at: quotes are doubled there,
/// signs escaped, lines indented and folded.
fn aligned(file: &str, node: &Node, text: &str) -> Vec<usize> {
    let Kind::Scalar { style, .. } = &node.kind else { return vec![node.span.start; text.len() + 1] };
    let written = &file[..node.span.end.max(node.span.start).min(file.len())];
    let mut at = node.span.start;
    match style {
        Style::Plain => {}
        Style::Single | Style::Double => at += usize::from(written[at..].starts_with(['"', '\''])),
        Style::Block => {
            if written[at..].starts_with(['|', '>']) {
                at = written[at..].find('\n').map_or(written.len(), |newline| at + newline + 1);
            }
        }
    }
    let mut offsets = Vec::with_capacity(text.len() + 1);
    for letter in text.chars() {
        at = skip_to(written, at, letter, *style);
        offsets.extend(std::iter::repeat_n(at, letter.len_utf8()));
        at += width(written, at, letter, *style);
    }
    offsets.push(at.min(written.len()));
    offsets
}

/// Over what stands for nothing in the text (indentation, line ends that are folded away), up to `letter`.
fn skip_to(written: &str, mut at: usize, letter: char, style: Style) -> usize {
    loop {
        let rest = &written[at.min(written.len())..];
        let Some(next) = rest.chars().next() else { return at.min(written.len()) };
        if next == letter {
            return at;
        }
        if style == Style::Double && next == '\\' {
            if rest[1..].starts_with(['\n', '\r']) {
                at += 1;
                continue;
            }
            return at;
        }
        if !next.is_whitespace() {
            return at;
        }
        at += next.len_utf8();
    }
}

/// How much the file spends on `letter` at `at`.
fn width(written: &str, at: usize, letter: char, style: Style) -> usize {
    let rest = &written[at.min(written.len())..];
    match (style, rest.as_bytes().first()) {
        (Style::Single, Some(b'\'')) if rest.starts_with("''") => 2,
        (Style::Double, Some(b'\\')) => match rest.as_bytes().get(1) {
            Some(b'x') => 4,
            Some(b'u') => 6,
            Some(b'U') => 10,
            _ => 2,
        },
        _ if rest.starts_with(letter) => letter.len_utf8(),
        // a folded line end: nothing of its own
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::yaml::parse;

    /// Every word of the text must be found at the place it is written at.
    fn check(file: &str) {
        let (documents, mistakes) = parse(0, file);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let node = documents[0].get("when").expect("there is a `when`");
        let text = node.scalar().expect("it is a scalar");
        let offsets = aligned(file, node, text);
        for word in text.split_whitespace() {
            let at = word.as_ptr() as usize - text.as_ptr() as usize;
            let first = word.chars().next().expect("a word is not empty");
            let there = &file[offsets[at]..];
            let escaped = there.starts_with('\\');
            assert!(escaped || there.starts_with(first), "{word:?} of {text:?} is not at {there:?}");
            if !escaped && word.chars().all(char::is_alphanumeric) {
                assert!(there.starts_with(word), "{word:?} of {text:?} is not at {there:?}");
            }
        }
    }

    #[test]
    fn a_place_in_a_text_is_a_place_in_the_file() {
        for file in [
            "when: last > 5\n",
            "when: last\n  > 5 and\n  more\n",
            "when: 'it''s last > ''x'' y'\n",
            "when: \"last(\\\"cpu\\\") > \\u0041 b \\n c\"\n",
            "when: \"a b \\\n   c d\"\n",
            "when: |\n  let a = 1;\n  if a {\n    b\n  }\n\n  c\n",
            "when: >-\n  a b\n  c d\n\n  e\n",
            "when: |2\n    indented more\n  less\n",
            "x: é\nwhen: 'é é > über'\n",
        ] {
            check(file);
        }
    }
}
