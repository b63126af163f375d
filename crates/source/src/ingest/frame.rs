//! A body into the pieces that should be one JSON object each.
//!
//! An array is cut by its brackets before anything in it is parsed, so that an element that is no JSON (a `NaN`, a
//! missing quote's worth of trouble) is one bad element and not the end of the array.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};

use super::Place;
use selfheal_model::Value;

/// One would-be object, and where it stands.
pub(super) struct Piece<'a> {
    pub place: Place,
    text: &'a [u8],
    /// 1-based, of the first byte, in the body.
    line: usize,
    column: usize,
}

/// The pieces of a body, and what is wrong with the body itself.
pub(super) struct Cut<'a> {
    pub pieces: Vec<Piece<'a>>,
    pub trouble: Option<(Place, String)>,
}

impl<'a> Cut<'a> {
    fn element(&mut self, text: &'a [u8], line: usize, column: usize) {
        self.pieces.push(Piece { place: Place::Index(self.pieces.len()), text, line, column });
    }
}

/// Cuts by `content_type` where it says "one a line", else by the body's looks.
pub(super) fn cut<'a>(body: &'a [u8], content_type: Option<&str>) -> Cut<'a> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let said_lines = content_type.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        ["ndjson", "jsonl", "json-lines", "jsonlines"].iter().any(|word| kind.ends_with(word))
    });
    match body.iter().position(|byte| !byte.is_ascii_whitespace()) {
        None => Cut { pieces: Vec::new(), trouble: None },
        Some(start) if body[start] == b'[' && !said_lines => cut_array(body, start + 1),
        Some(start) if said_lines || looks_like_lines(&body[start..]) => cut_lines(body),
        Some(start) => {
            let (line, column) = position(&body[..start]);
            Cut {
                pieces: vec![Piece { place: Place::Body, text: body[start..].trim_ascii_end(), line, column }],
                trouble: None,
            }
        }
    }
}

fn position(before: &[u8]) -> (usize, usize) {
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    (line, column)
}

/// One object a line, as against one object over several lines: the first line closes its object, or more than one
/// line opens one at its very beginning.
fn looks_like_lines(body: &[u8]) -> bool {
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let first = lines.next().unwrap_or_default();
    let mut rest = lines.peekable();
    rest.peek().is_some() && (first.trim_ascii().ends_with(b"}") || rest.any(|line| line.starts_with(b"{")))
}

fn cut_lines(body: &[u8]) -> Cut<'_> {
    let pieces = body
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, text)| !text.trim_ascii().is_empty())
        .map(|(index, text)| Piece { place: Place::Line(index + 1), text, line: index + 1, column: 1 })
        .collect();
    Cut { pieces, trouble: None }
}

/// Cuts at the commas between the array's elements; `start` is just behind its `[`.
fn cut_array(body: &[u8], start: usize) -> Cut<'_> {
    let mut cut = Cut { pieces: Vec::new(), trouble: None };
    let (mut line, column) = position(&body[..start]);
    let mut line_start = start - (column - 1);
    let (mut begin, mut begin_line, mut begin_column) = (start, line, column);
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for (at, byte) in body.iter().copied().enumerate().skip(start) {
        if byte == b'\n' {
            line += 1;
            line_start = at + 1;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' if depth == 0 => {
                if !cut.pieces.is_empty() || !body[begin..at].trim_ascii().is_empty() {
                    cut.element(&body[begin..at], begin_line, begin_column);
                }
                if !body[at + 1..].trim_ascii().is_empty() {
                    let why = format!("more follows the array's end (line {line}, column {})", at - line_start + 1);
                    cut.trouble = Some((Place::Body, why));
                }
                return cut;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                cut.element(&body[begin..at], begin_line, begin_column);
                (begin, begin_line, begin_column) = (at + 1, line, at + 2 - line_start);
            }
            _ => {}
        }
    }
    if !body[begin..].trim_ascii().is_empty() {
        cut.element(&body[begin..], begin_line, begin_column);
    }
    cut.trouble = Some((Place::Body, "the array is not closed: its `]` is missing".to_owned()));
    cut
}

#[cfg(test)]
impl<'a> Piece<'a> {
    pub fn of_body(text: &'a [u8]) -> Self {
        Piece { place: Place::Body, text, line: 1, column: 1 }
    }
}

impl Piece<'_> {
    pub fn text(&self) -> &[u8] {
        self.text
    }

    /// The object's entries in written order.
    ///
    /// # Errors
    /// It is no JSON object; says what it is, or what JSON found wrong and where in the body.
    pub fn fields(&self) -> Result<Vec<(String, Value)>, String> {
        let text = self.text.trim_ascii();
        if text.is_empty() {
            return Err("it is empty: one comma too many".to_owned());
        }
        let mut json = serde_json::Deserializer::from_slice(self.text);
        json.deserialize_any(Entries)
            .and_then(|fields| json.end().map(|()| fields))
            .map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &serde_json::Error) -> String {
        let full = error.to_string();
        let said = full.rsplit_once(" at line ").map_or(full.as_str(), |(said, _)| said);
        if error.is_data() {
            return said.to_owned();
        }
        let line = self.line + error.line().saturating_sub(1);
        let column = if error.line() <= 1 { self.column - 1 } else { 0 } + error.column();
        let at = format!("(line {line}, column {column})");
        if said.starts_with("number out of range") || speaks_of_no_number(self.text) {
            return format!("a number is not finite {at}; leave out what has no value");
        }
        format!("is no JSON: {said} {at}")
    }
}

/// Whether `NaN` or `Infinity` stands outside of texts, as some writers of JSON put them.
fn speaks_of_no_number(text: &[u8]) -> bool {
    let mut escaped = false;
    let mut in_text = false;
    text.iter().enumerate().any(|(at, byte)| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ => {}
        }
        let rest = &text[at..];
        let starts = |word: &[u8]| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        !in_text && (starts(b"nan") || starts(b"infinity"))
    })
}

/// Takes an object as a list of entries: a key that stands there twice is a mistake, not a choice.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: a JSON object such as {\"type\":\"metric\", …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.iter().any(|(before, _)| *before == key) {
                return Err(serde::de::Error::custom(format_args!("the key `{key}` stands there twice")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}
