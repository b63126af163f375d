//! What people write who know another language, and what to write instead.

use std::ops::Range;

use super::condition::ScriptProblem;
use super::parse::problem;
use super::scan::{Kind, Places, Word};

/// A known mistake in the words of a script.
pub(super) struct Trap {
    pub problem: ScriptProblem,
    /// Where, and a text of the same length that means what was probably meant; used only to look for further problems.
    mended: Option<(Range<usize>, String)>,
    /// Whether it is wrong even where Rhai can read it.
    pub always: bool,
}

fn trap(span: Range<usize>, message: impl Into<String>, help: impl Into<String>, mended: Option<String>) -> Trap {
    let problem = problem(span.clone(), "not-rhai", message.into(), Some(help.into()));
    Trap { problem, mended: mended.map(|text| (span, text)), always: false }
}

/// Puts each mended text in its place; lengths do not change, so places stay true.
pub(super) fn mend(source: &str, traps: &[Trap]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for trap in traps {
        if let Some((span, mended)) = &trap.mended
            && let Some(place) = bytes.get_mut(span.clone())
            && mended.len() == place.len()
        {
            place.copy_from_slice(mended.as_bytes());
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| source.to_owned())
}

/// Every trap in the words, in order.
pub(super) fn find(places: &Places) -> Vec<Trap> {
    let mut found = Vec::new();
    let mut statement_start = 0;
    let mut index = 0;
    while index < places.words.len() {
        let word = &places.words[index];
        let text = places.text(word);
        if matches!(text, ";" | "{" | "}") {
            statement_start = index + 1;
        }
        let trap = match word.kind {
            Kind::Name => of_name(places, index),
            Kind::Number => of_number(places, index),
            Kind::Quoted => of_quoted(text, word),
            Kind::Symbol => of_symbol(places, index, statement_start),
            Kind::Text => None,
        };
        if let Some(trap) = trap {
            while places.words.get(index + 1).is_some_and(|next| next.span.start < trap.problem.span.end) {
                index += 1;
            }
            found.push(trap);
        }
        index += 1;
    }
    found
}

fn of_name(places: &Places, index: usize) -> Option<Trap> {
    let word = &places.words[index];
    let text = places.text(word);
    let before = index.checked_sub(1).and_then(|before| places.word(before));
    // A member (`labels.and`) or a key (`#{ not: 1 }`) may have any name.
    if matches!(before, Some("." | "?.")) || places.word(index + 1) == Some(":") {
        return None;
    }
    let span = word.span.clone();
    let padded = |mended: &str| Some(format!("{mended:<width$}", width = span.len()));
    Some(match text.to_ascii_lowercase().as_str() {
        "and" => trap(span.clone(), format!("`{text}` is written && in Rhai"), "write && here", padded("&&")),
        "or" => trap(span.clone(), format!("`{text}` is written || in Rhai"), "write || here", padded("||")),
        "not" if places.word(index + 1) == Some("in") => {
            let end = places.words[index + 1].span.end;
            trap(span.start..end, "`not in` is written !in in Rhai", "write !in here", None)
        }
        "not" => trap(span.clone(), format!("`{text}` is written ! in Rhai"), "write ! here", padded("!")),
        "null" | "nil" | "none" | "undefined" => trap(
            span,
            format!("there is no `{text}` in Rhai"),
            "ask with has(x) whether there is data, or give a default with x ?? 0",
            None,
        ),
        "true" | "false" if text != text.to_ascii_lowercase() => {
            let lower = text.to_ascii_lowercase();
            trap(span, format!("`{text}` is written {lower} in Rhai"), format!("write {lower} here"), Some(lower))
        }
        "eval" | "import" | "export" if text == text.to_ascii_lowercase() => {
            let message = format!("`{text}` is not available in conditions");
            trap(span, message, "a condition only reads evidence and decides; write it without", None)
        }
        "elif" | "elsif" | "elseif" => trap(span, format!("`{text}` is no Rhai"), "write else if", None),
        "then" => trap(span, "`then` is no Rhai", "write if condition { a } else { b }", None),
        _ => return None,
    })
}

/// `5m`, `2GiB`, `80%`
fn of_number(places: &Places, index: usize) -> Option<Trap> {
    let word = &places.words[index];
    let next = places.words.get(index + 1)?;
    let after = places.words.get(index + 2);
    let glued = next.span.start == word.span.end;
    let number = places.text(word);
    if glued && next.kind == Kind::Name {
        let written = written_through(places, index);
        let span = word.span.start..word.span.start + written.len();
        let blank = format!("{number:<width$}", width = written.len());
        if selfheal_model::Bytes::parse(written).is_ok() {
            let help = format!("write size(\"{written}\"), which gives bytes");
            return Some(trap(span, format!("`{written}` is no number in Rhai"), help, Some(blank)));
        }
        let is_time = selfheal_model::units::parse_duration(written).is_ok();
        let help = if is_time {
            format!(
                "write \"{written}\" where a window is asked for, else duration(\"{written}\"), which gives seconds"
            )
        } else {
            format!("write {number} without `{}`", &written[number.len()..])
        };
        return Some(trap(span, format!("`{written}` is no number in Rhai"), help, Some(blank)));
    }
    if places.text(next) == "%" && !after.is_some_and(|after| begins_operand(places, after)) {
        let span = word.span.start..next.span.end;
        let written = &places.source()[span.clone()];
        let blank = format!("{number:<width$}", width = written.len());
        let ratio = number.replace('_', "").parse::<f64>().map_or(0.8, |percent| percent / 100.0);
        let help = format!("write {number} for a metric in percent, or {ratio} for a ratio");
        return Some(trap(span, format!("`{written}` is no number in Rhai"), help, Some(blank)));
    }
    None
}

/// A number and the letters and digits glued to it.
fn written_through(places: &Places, index: usize) -> &str {
    let start = places.words[index].span.start;
    let mut end = places.words[index].span.end;
    for word in &places.words[index + 1..] {
        if word.span.start != end || !matches!(word.kind, Kind::Name | Kind::Number) {
            break;
        }
        end = word.span.end;
    }
    &places.source()[start..end]
}

fn begins_operand(places: &Places, word: &Word) -> bool {
    match word.kind {
        Kind::Number | Kind::Text | Kind::Quoted => true,
        Kind::Name => !matches!(places.text(word), "and" | "or" | "in" | "else"),
        Kind::Symbol => matches!(places.text(word), "(" | "[" | "-" | "!"),
    }
}

/// `'text'`; a single letter is a character of Rhai and means the same as a text.
fn of_quoted(text: &str, word: &Word) -> Option<Trap> {
    let inner = text.strip_prefix('\'')?;
    let inner = inner.strip_suffix('\'').unwrap_or(inner);
    if inner.chars().count() == 1 || (inner.starts_with('\\') && text.ends_with('\'')) {
        return None;
    }
    let help = format!("write \"{inner}\"");
    let closed = text.len() > 1 && text.ends_with('\'');
    let mended = closed.then(|| format!("\"{}\"", inner.replace('"', " ")));
    Some(trap(word.span.clone(), "a text is written in double quotes in Rhai", help, mended))
}

fn of_symbol(places: &Places, index: usize, statement_start: usize) -> Option<Trap> {
    let word = &places.words[index];
    let span = word.span.clone();
    let next = places.words.get(index + 1);
    match places.text(word) {
        "?" => {
            let message = "`a ? b : c` is no Rhai";
            Some(trap(span, message, "write if a { b } else { c }", None))
        }
        "<>" => Some(trap(span, "`<>` is written != in Rhai", "write !=", Some("!=".to_owned()))),
        "===" => Some(trap(span, "`===` is written == in Rhai", "write ==", Some("== ".to_owned()))),
        "!==" => Some(trap(span, "`!==` is written != in Rhai", "write !=", Some("!= ".to_owned()))),
        "=<" => Some(trap(span, "`=<` is written <= in Rhai", "write <=", Some("<=".to_owned()))),
        // A shift takes whole numbers, and no function gives one: it is always a slip.
        symbol @ (">>" | "<<") => {
            let single = &symbol[..1];
            let mut found = trap(
                span,
                format!("`{symbol}` shifts bits; a comparison is written {single}"),
                format!("write {single} or {single}="),
                Some(format!("{single} ")),
            );
            found.always = true;
            Some(found)
        }
        "{" if next.is_some_and(|next| next.span.start == span.end && places.text(next) == "{") => {
            let message = "`{{ … }}` belongs into texts, not into conditions";
            Some(trap(span.start..span.end + 1, message, "write the expression without the braces", None))
        }
        "=" => assignment(places, index, statement_start),
        _ => None,
    }
}

/// `=` where something is compared: anywhere but after `let x` or a name that begins a statement.
fn assignment(places: &Places, index: usize, statement_start: usize) -> Option<Trap> {
    let word = &places.words[index];
    let first = places.word(statement_start)?;
    let declares = matches!(first, "let" | "const");
    let assigns = index == statement_start + 1 && places.words[statement_start].kind == Kind::Name;
    let earlier = (statement_start..index).any(|at| places.word(at) == Some("="));
    if (declares || assigns) && !earlier {
        return None;
    }
    let room = places.source()[word.span.end..].starts_with(' ');
    let mut found = trap(word.span.clone(), "`=` assigns; a comparison is written ==", "write ==", None);
    found.problem.code = "assignment";
    found.mended = room.then(|| (word.span.start..word.span.end + 1, "==".to_owned()));
    Some(found)
}
