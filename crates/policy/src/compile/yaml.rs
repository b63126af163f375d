//! YAML as a tree that keeps the place and the spelling of everything, so that a mistake can be shown where it is and
//! a text keeps the letters it was written with (`to: 1.10`).
//!
//! Invariant: a tree has unique keys in every map, no tags, no merge keys left, and at most [`MAX_NODES`] nodes however
//! its aliases are nested.

mod traps;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span as ParserSpan, StructureStyle};

pub(crate) use traps::{cut_by_comment, syntax_trap};

/// Nodes of one file, aliases counted as often as they are used: a file that grows beyond is a bomb or a mistake.
const MAX_NODES: usize = 200_000;

/// Values without quotes that are left out of one file to read on behind them.
const MAX_STOPS: usize = 20;

/// A byte range of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    /// Index into the policy's files.
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
    /// `|` or `>`
    Block,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar { text: String, style: Style },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
    /// Written inside `{ }`.
    pub flow: bool,
}

impl Node {
    /// `key:` with nothing behind it, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.plain().is_some_and(|text| matches!(text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar without quotes.
    pub fn plain(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, style: Style::Plain } => Some(text),
            _ => None,
        }
    }

    /// The text of any scalar that is not null.
    pub fn scalar(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What it is, for a sentence about what was expected instead.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
            Kind::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, .. } => match text.char_indices().nth(40) {
                Some((cut, _)) => format!("`{}…`", &text[..cut]),
                None => format!("`{text}`"),
            },
        }
    }

    fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Map(entries) => entries.iter().map(|entry| entry.value.size() + 1).sum(),
        }
    }

    /// The content without places: equal for equal content, for hashes.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write_canonical(&mut text);
        text
    }

    fn write_canonical(&self, into: &mut String) {
        match &self.kind {
            Kind::Scalar { text, style } => {
                into.push(if *style == Style::Plain { 'p' } else { 't' });
                into.push_str(&format!("{text:?}"));
            }
            Kind::List(items) => {
                into.push('[');
                for item in items {
                    item.write_canonical(into);
                    into.push(',');
                }
                into.push(']');
            }
            Kind::Map(entries) => {
                into.push('{');
                for entry in entries {
                    into.push_str(&format!("{:?}:", entry.key));
                    entry.value.write_canonical(into);
                    into.push(',');
                }
                into.push('}');
            }
        }
    }

    /// `self` over `under`: maps merge, all else is replaced, null takes away.
    pub fn over(&self, under: &Node) -> Node {
        let (Kind::Map(own), Kind::Map(defaults)) = (&self.kind, &under.kind) else { return self.clone() };
        let mut merged = Vec::with_capacity(own.len() + defaults.len());
        for entry in own {
            match defaults.iter().find(|default| default.key == entry.key) {
                Some(_) if entry.value.is_null() => {}
                Some(default) => merged.push(Entry { value: entry.value.over(&default.value), ..entry.clone() }),
                None => merged.push(entry.clone()),
            }
        }
        merged.extend(defaults.iter().filter(|default| own.iter().all(|entry| entry.key != default.key)).cloned());
        Node { span: self.span, kind: Kind::Map(merged) }
    }
}

/// What a file's text is wrong in, before anything is known of its meaning.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    pub span: Span,
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
}

/// Every document of one file. With mistakes among them the documents hold what could be read.
pub(crate) fn parse(file: usize, text: &str) -> (Vec<Node>, Vec<Mistake>) {
    let mut stops = Vec::new();
    let mut left = text.to_owned();
    loop {
        let mut tree = Builder {
            file,
            text: &left,
            events: Parser::new_from_str(&left),
            anchors: BTreeMap::new(),
            nodes: 0,
            mistakes: Vec::new(),
        };
        let mut documents = Vec::new();
        let stop = tree.documents(&mut documents).err();
        let mistakes = tree.mistakes;
        let without = stop.as_ref().and_then(|stop| stop.without.clone()).filter(|_| stops.len() < MAX_STOPS);
        stops.extend(stop.map(|stop| stop.mistake));
        match without {
            // a value that is no YAML is left out, so that what is wrong elsewhere in the file is found as well
            Some(range) => left.replace_range(range.clone(), &" ".repeat(range.len())),
            None => {
                stops.extend(mistakes);
                return (documents, stops);
            }
        }
    }
}

/// Why a parse ended early.
struct Stop {
    mistake: Mistake,
    /// What to leave out to come further.
    without: Option<Range<usize>>,
}

impl From<Mistake> for Stop {
    fn from(mistake: Mistake) -> Self {
        Stop { mistake, without: None }
    }
}

struct Builder<'t> {
    file: usize,
    text: &'t str,
    events: Parser<'t, serde_yaml::granit_parser::StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    mistakes: Vec<Mistake>,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, ParserSpan), Stop> {
        loop {
            match self.events.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(self.syntax(&error)),
                None => return Ok((Event::StreamEnd, ParserSpan::default())),
            }
        }
    }

    fn documents(&mut self, into: &mut Vec<Node>) -> Result<(), Stop> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (event, span) => into.push(self.node(event, span)?),
            }
        }
    }

    fn syntax(&self, error: &ScanError) -> Stop {
        let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let span = Span { file: self.file, start: at, end: at + 1 };
        let said = error.info();
        match syntax_trap(self.text, span, &said) {
            Some((mistake, without)) => Stop { mistake, without: Some(without).filter(|range| !range.is_empty()) },
            None => {
                let message = format!("this is no YAML: {said}");
                Stop { mistake: Mistake { span, code: "yaml-syntax", message, help: None }, without: None }
            }
        }
    }

    fn span(&self, span: ParserSpan) -> Span {
        let start = span.start.byte_offset().unwrap_or(0).min(self.text.len());
        let end = span.end.byte_offset().unwrap_or(start).clamp(start, self.text.len());
        Span { file: self.file, start, end }
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Stop> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(Stop::from(Mistake {
                span,
                code: "too-large",
                message: format!("this file holds more than {MAX_NODES} values, aliases counted at every use"),
                help: None,
            }));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, at: ParserSpan) -> Result<Node, Stop> {
        let mut span = self.span(at);
        self.count(1, span)?;
        let (kind, anchor, tagged) = match event {
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                let Some(target) = target else {
                    return Err(Stop::from(Mistake {
                        span,
                        code: "yaml-syntax",
                        message: "an alias inside of what it stands for never ends".to_owned(),
                        help: None,
                    }));
                };
                self.count(target.size(), span)?;
                return Ok(target);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    _ => Style::Block,
                };
                (Kind::Scalar { text: text.into_owned(), style }, anchor, tag.is_some())
            }
            Event::SequenceStart(_, anchor, tag) => {
                let (items, end) = self.items()?;
                span.end = end.max(span.start);
                (Kind::List(items), anchor, tag.is_some())
            }
            Event::MappingStart(style, anchor, tag) => {
                let (entries, end) = self.entries(style == StructureStyle::Flow)?;
                span.end = end.max(span.start);
                (Kind::Map(entries), anchor, tag.is_some())
            }
            other => {
                return Err(Stop::from(Mistake {
                    span,
                    code: "yaml-syntax",
                    message: format!("this is no YAML: {other:?} is out of place"),
                    help: None,
                }));
            }
        };
        if tagged {
            let start = at.tag_start.and_then(|marker| marker.byte_offset()).unwrap_or(span.start);
            self.mistakes.push(traps::tag(self.text, Span { start, ..span }));
        }
        let node = Node { span, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn items(&mut self) -> Result<(Vec<Node>, usize), Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => return Ok((items, self.span(end).end)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn entries(&mut self, flow: bool) -> Result<(Vec<Entry>, usize), Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        let mut seen = BTreeSet::new();
        let end = loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break self.span(at).end;
            }
            let key = self.node(event, at)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at)?;
            let Kind::Scalar { text, .. } = key.kind else {
                self.mistakes.push(traps::complex_key(self.text, key.span));
                continue;
            };
            if text == "<<" {
                merged.push(value);
            } else if seen.insert(text.clone()) {
                entries.push(Entry { key: text, key_span: key.span, value, flow });
            } else {
                self.mistakes.push(Mistake {
                    span: key.span,
                    code: "duplicate-key",
                    message: format!("`{text}` stands here twice"),
                    help: Some("YAML would keep one of them and drop the other in silence; remove one".to_owned()),
                });
            }
        };
        for value in merged {
            self.merge(&value, &mut entries, &mut seen);
        }
        Ok((entries, end))
    }

    /// `<<: *a` or `<<: [*a, *b]`: what is written out wins, then the earlier one.
    fn merge(&mut self, value: &Node, entries: &mut Vec<Entry>, seen: &mut BTreeSet<String>) {
        match &value.kind {
            Kind::Map(more) => {
                entries.extend(more.iter().filter(|entry| seen.insert(entry.key.clone())).cloned());
            }
            Kind::List(items) => items.iter().for_each(|item| self.merge(item, entries, seen)),
            Kind::Scalar { .. } => self.mistakes.push(Mistake {
                span: value.span,
                code: "wrong-type",
                message: format!("`<<` merges a map, not {}", value.describe()),
                help: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let (mut documents, mistakes) = parse(0, text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        documents.remove(0)
    }

    #[test]
    fn places_and_spelling_are_kept() {
        let text = "a: 1.10\nb: [x, 'it''s', \"q\"]\nc: { d: }\n";
        let tree = one(text);
        let entries = tree.entries().expect("a map");
        assert_eq!(&text[entries[0].key_span.start..entries[0].key_span.end], "a");
        assert_eq!(entries[0].value.plain(), Some("1.10"));
        assert_eq!(&text[entries[0].value.span.start..entries[0].value.span.end], "1.10");
        let Kind::List(items) = &entries[1].value.kind else { panic!("a list") };
        assert_eq!(items[1].scalar(), Some("it's"));
        assert_eq!(&text[items[1].span.start..items[1].span.end], "'it''s'");
        assert!(tree.get("c").and_then(|c| c.get("d")).is_some_and(Node::is_null));
    }

    #[test]
    fn anchors_and_merges_are_resolved_and_own_keys_win() {
        let tree = one("x-base: &base { for: 2m, mode: live }\nrule:\n  <<: *base\n  for: 5m\n");
        let rule = tree.get("rule").expect("a rule");
        assert_eq!(rule.get("for").and_then(Node::plain), Some("5m"));
        assert_eq!(rule.get("mode").and_then(Node::plain), Some("live"));
    }

    #[test]
    fn defaults_merge_maps_and_null_takes_away() {
        let defaults = one("{ for: 2m, labels: { team: a, area: b }, cooldown: 1h }");
        let rule = one("{ labels: { team: c }, cooldown: null }");
        let merged = rule.over(&defaults);
        assert_eq!(merged.get("for").and_then(Node::plain), Some("2m"));
        assert!(merged.get("cooldown").is_none());
        let labels = merged.get("labels").expect("labels");
        assert_eq!(labels.get("team").and_then(Node::plain), Some("c"));
        assert_eq!(labels.get("area").and_then(Node::plain), Some("b"));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            let list = vec![format!("*a{before}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        let (_, mistakes) = parse(0, &text);
        assert_eq!(mistakes.last().map(|mistake| mistake.code), Some("too-large"));
    }

    #[test]
    fn a_half_written_file_is_a_mistake_and_no_panic() {
        let text = "rules:\n  - alert: \"A é\n    when: 'x > {{ 1 }}'\n  - { a: [1, 2\n# end\n";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            parse(0, &text[..end]);
        }
    }
}
