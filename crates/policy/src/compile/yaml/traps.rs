//! What YAML makes of a condition or a text that was written without quotes, named for what it is.

use std::ops::Range;

use super::{Mistake, Span};

const QUOTE: &str = "put the whole value in quotes: a condition in '…', a text in \"…\"";

fn mistake(span: Span, message: &str, help: &str) -> Mistake {
    Mistake { span, code: "yaml-trap", message: message.to_owned(), help: Some(help.to_owned()) }
}

/// A tag: `when: !healthy("http")`.
pub(super) fn tag(text: &str, span: Span) -> Mistake {
    let rest = &text[span.start.min(text.len())..];
    let length = rest.find(['\n', ' ']).unwrap_or(rest.len()).max(1);
    mistake(
        Span { end: span.start + length, ..span },
        "a value that starts with `!` is a tag to YAML, not what you wrote",
        QUOTE,
    )
}

/// A map or a list as a key: nearly always `{{ … }}` without quotes.
pub(super) fn complex_key(text: &str, span: Span) -> Mistake {
    let before = text[..span.start.min(text.len())].trim_end();
    if text[span.start.min(text.len())..].starts_with('{') && before.ends_with('{') {
        let start = before.len() - 1;
        return mistake(
            Span { start, end: start + 2, ..span },
            "a value that starts with `{{` is a map to YAML, not a template",
            QUOTE,
        );
    }
    Mistake { span, code: "wrong-type", message: "a key is a text, not a map or a list".to_owned(), help: None }
}

/// Why the parser stopped at `at`, where it is one of the well-known traps on that line or the ones just before; and
/// the rest of that line from where the value starts: without it the file may be YAML.
pub(crate) fn syntax_trap(text: &str, at: Span, said: &str) -> Option<(Mistake, Range<usize>)> {
    let mut end = text[at.start..].find('\n').map_or(text.len(), |length| at.start + length);
    for step in 0..3 {
        let start = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
        let line = &text[start..end];
        if let Some((offset, length, message, help)) = line_trap(line) {
            let span = Span { start: start + offset, end: start + offset + length, ..at };
            let value = line[..offset].rfind(": ").map_or(offset, |colon| colon + 2);
            return Some((mistake(span, message, help), start + value..end));
        }
        if step == 0
            && said.contains("trailing content")
            && let Some(opened) = line.find('{')
            && line[..at.start - start].matches('{').count() > line[..at.start - start].matches('}').count()
        {
            let message = "inside { } a comma ends the value before it; this is what stood behind one";
            return Some((mistake(at, message, QUOTE), start + opened..end));
        }
        if start == 0 {
            break;
        }
        end = start - 1;
    }
    None
}

type Trap = (usize, usize, &'static str, &'static str);

fn line_trap(line: &str) -> Option<Trap> {
    let indent = line.len() - line.trim_start().len();
    if line[..indent].contains('\t') {
        return Some((indent - 1, 1, "a tab cannot indent YAML", "indent with spaces"));
    }
    let content = &line[indent..];
    if content.starts_with('#') {
        return None;
    }
    // every place on the line where a value begins
    let mut starts: Vec<usize> = content.match_indices(": ").map(|(at, _)| at + 1).collect();
    starts.extend(content.strip_prefix("- ").map(|_| 1));
    for after in starts {
        let value = content[after..].trim_start();
        let at = indent + content.len() - value.len();
        if value.starts_with("{{") {
            return Some((at, 2, "a value that starts with `{{` is a map to YAML, not a template", QUOTE));
        }
        if let Some(rest) = value.strip_prefix('>') {
            let header = rest.trim_start_matches(['-', '+', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
            if !header.trim().is_empty() && !header.trim_start().starts_with('#') {
                return Some((at, 1, "a value that starts with `>` is a folded text to YAML, not a comparison", QUOTE));
            }
        }
        if value.starts_with(['@', '`', '%', '&', '*']) {
            return Some((at, 1, "a value cannot start with this sign without quotes", QUOTE));
        }
        if value.starts_with('!') {
            return Some((at, 1, "a value that starts with `!` is a tag to YAML, not what you wrote", QUOTE));
        }
        if let Some(end) = quoted_end(value) {
            let rest = value[end..].trim_start();
            if !rest.is_empty() && !rest.starts_with(['#', ',', '}', ']', ':']) {
                let message = "a value that starts with a quote ends at the next one, but this one goes on";
                return Some((at, end, message, "put the whole value in the other kind of quotes, or after `|`"));
            }
            continue;
        }
        let inside_flow = content[..after].contains(['{', '[']);
        if !inside_flow
            && !value.starts_with(['{', '[', '|', '"', '\''])
            && let Some(colon) = value.find(": ")
        {
            let message = "a value without quotes ends at `: `, YAML takes it for a key";
            return Some((at + colon, 1, message, QUOTE));
        }
    }
    None
}

/// Where a value's own quotes close, behind the closing one.
fn quoted_end(value: &str) -> Option<usize> {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut letters = value.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if quote == '"' && letter == '\\' {
            letters.next();
        } else if letter == quote {
            if quote == '\'' && letters.peek().is_some_and(|(_, next)| *next == '\'') {
                letters.next();
            } else {
                return Some(at + 1);
            }
        }
    }
    None
}

/// A text without quotes that a ` #` cuts off though no comment was meant: `Ticket #5`. A comment has a space behind
/// its `#`, or stands apart. Gives the length of what was cut, from the value's end.
pub(crate) fn cut_by_comment(text: &str, end: usize) -> Option<usize> {
    let rest = text.get(end..)?;
    let line = rest.split('\n').next().unwrap_or(rest);
    let cut = line.strip_prefix(" #")?;
    cut.starts_with(|letter: char| !letter.is_whitespace() && letter != '#').then(|| line.trim_end().len())
}
