//! Mistakes of people who know another language (`and`, `5m`, `'text'`, `a ? b : c`), and what to write instead.

use std::ops::Range;

use crate::lexer::{SourceText, Token, TokenKind};
use crate::problem::ScriptProblem;

/// A known mistake in the tokens of a script.
pub(crate) struct Mistake {
    pub problem: ScriptProblem,
    /// A range, and a replacement of the same length with the meaning that was probably intended; used only to look for
    /// further problems.
    mended: Option<(Range<usize>, String)>,
    /// Whether the mistake is an error even where Rhai can read the source.
    pub always: bool,
}

fn mistake(span: Range<usize>, message: impl Into<String>, help: impl Into<String>, mended: Option<String>) -> Mistake {
    let problem = ScriptProblem::error(span.clone(), "not-rhai", message.into(), Some(help.into()));
    Mistake { problem, mended: mended.map(|text| (span, text)), always: false }
}

/// Puts each replacement into the source. Lengths do not change, so byte ranges stay valid.
pub(crate) fn mend(source: &str, mistakes: &[Mistake]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for mistake in mistakes {
        if let Some((span, mended)) = &mistake.mended
            && let Some(place) = bytes.get_mut(span.clone())
            && mended.len() == place.len()
        {
            place.copy_from_slice(mended.as_bytes());
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| source.to_owned())
}

/// Every mistake in the tokens, in order.
pub(crate) fn find(places: &SourceText) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut statement_start = 0;
    let mut index = 0;
    while index < places.tokens.len() {
        let token = &places.tokens[index];
        let text = places.text(token);
        if matches!(text, ";" | "{" | "}") {
            statement_start = index + 1;
        }
        let mistake = match token.kind {
            TokenKind::Name => of_name(places, index),
            TokenKind::Number => of_number(places, index),
            TokenKind::Quoted => of_quoted(text, token),
            TokenKind::Symbol => of_symbol(places, index, statement_start),
            TokenKind::Text => None,
        };
        if let Some(mistake) = mistake {
            while places.tokens.get(index + 1).is_some_and(|next| next.span.start < mistake.problem.span.end) {
                index += 1;
            }
            found.push(mistake);
        }
        index += 1;
    }
    found
}

fn of_name(places: &SourceText, index: usize) -> Option<Mistake> {
    let token = &places.tokens[index];
    let text = places.text(token);
    let before = index.checked_sub(1).and_then(|before| places.token(before));
    // A member (`labels.and`) or a key (`#{ not: 1 }`) may have any name.
    if matches!(before, Some("." | "?.")) || places.token(index + 1) == Some(":") {
        return None;
    }
    let span = token.span.clone();
    let padded = |mended: &str| Some(format!("{mended:<width$}", width = span.len()));
    Some(match text.to_ascii_lowercase().as_str() {
        "and" => mistake(span.clone(), format!("`{text}` is written && in Rhai"), "write && here", padded("&&")),
        "or" => mistake(span.clone(), format!("`{text}` is written || in Rhai"), "write || here", padded("||")),
        "not" if places.token(index + 1) == Some("in") => {
            let end = places.tokens[index + 1].span.end;
            mistake(span.start..end, "`not in` is written !in in Rhai", "write !in here", None)
        }
        "not" => mistake(span.clone(), format!("`{text}` is written ! in Rhai"), "write ! here", padded("!")),
        "null" | "nil" | "none" | "undefined" => mistake(
            span,
            format!("there is no `{text}` in Rhai"),
            "ask with has(x) whether there is data, or give a default with x ?? 0",
            None,
        ),
        "true" | "false" if text != text.to_ascii_lowercase() => {
            let lower = text.to_ascii_lowercase();
            mistake(span, format!("`{text}` is written {lower} in Rhai"), format!("write {lower} here"), Some(lower))
        }
        "eval" | "import" | "export" if text == text.to_ascii_lowercase() => {
            let message = format!("`{text}` is not available in conditions");
            mistake(span, message, "a condition only reads evidence and decides; write it without", None)
        }
        "elif" | "elsif" | "elseif" => mistake(span, format!("`{text}` is no Rhai"), "write else if", None),
        "then" => mistake(span, "`then` is no Rhai", "write if condition { a } else { b }", None),
        _ => return None,
    })
}

/// `5m`, `2GiB`, `80%`
fn of_number(places: &SourceText, index: usize) -> Option<Mistake> {
    let token = &places.tokens[index];
    let next = places.tokens.get(index + 1)?;
    let after = places.tokens.get(index + 2);
    let glued = next.span.start == token.span.end;
    let number = places.text(token);
    if glued && next.kind == TokenKind::Name {
        let written = written_through(places, index);
        let span = token.span.start..token.span.start + written.len();
        let blank = format!("{number:<width$}", width = written.len());
        if selfheal_model::Bytes::parse(written).is_ok() {
            let help = format!("write size(\"{written}\"), which gives bytes");
            return Some(mistake(span, format!("`{written}` is no number in Rhai"), help, Some(blank)));
        }
        let is_time = selfheal_model::units::parse_duration(written).is_ok();
        let help = if is_time {
            format!(
                "write \"{written}\" where a window is asked for, else duration(\"{written}\"), which gives seconds"
            )
        } else {
            format!("write {number} without `{}`", &written[number.len()..])
        };
        return Some(mistake(span, format!("`{written}` is no number in Rhai"), help, Some(blank)));
    }
    if places.text(next) == "%" && !after.is_some_and(|after| begins_operand(places, after)) {
        let span = token.span.start..next.span.end;
        let written = &places.source()[span.clone()];
        let blank = format!("{number:<width$}", width = written.len());
        let ratio = number.replace('_', "").parse::<f64>().map_or(0.8, |percent| percent / 100.0);
        let help = format!("write {number} for a metric in percent, or {ratio} for a ratio");
        return Some(mistake(span, format!("`{written}` is no number in Rhai"), help, Some(blank)));
    }
    None
}

/// A number and the letters and digits glued to it.
fn written_through(places: &SourceText, index: usize) -> &str {
    let start = places.tokens[index].span.start;
    let mut end = places.tokens[index].span.end;
    for token in &places.tokens[index + 1..] {
        if token.span.start != end || !matches!(token.kind, TokenKind::Name | TokenKind::Number) {
            break;
        }
        end = token.span.end;
    }
    &places.source()[start..end]
}

fn begins_operand(places: &SourceText, token: &Token) -> bool {
    match token.kind {
        TokenKind::Number | TokenKind::Text | TokenKind::Quoted => true,
        TokenKind::Name => !matches!(places.text(token), "and" | "or" | "in" | "else"),
        TokenKind::Symbol => matches!(places.text(token), "(" | "[" | "-" | "!"),
    }
}

/// `'text'`; a single letter is a character of Rhai and means the same as a text.
fn of_quoted(text: &str, token: &Token) -> Option<Mistake> {
    let inner = text.strip_prefix('\'')?;
    let inner = inner.strip_suffix('\'').unwrap_or(inner);
    if inner.chars().count() == 1 || (inner.starts_with('\\') && text.ends_with('\'')) {
        return None;
    }
    let help = format!("write \"{inner}\"");
    let closed = text.len() > 1 && text.ends_with('\'');
    let mended = closed.then(|| format!("\"{}\"", inner.replace('"', " ")));
    Some(mistake(token.span.clone(), "a text is written in double quotes in Rhai", help, mended))
}

fn of_symbol(places: &SourceText, index: usize, statement_start: usize) -> Option<Mistake> {
    let token = &places.tokens[index];
    let span = token.span.clone();
    let next = places.tokens.get(index + 1);
    match places.text(token) {
        "?" => {
            let message = "`a ? b : c` is no Rhai";
            Some(mistake(span, message, "write if a { b } else { c }", None))
        }
        "<>" => Some(mistake(span, "`<>` is written != in Rhai", "write !=", Some("!=".to_owned()))),
        "===" => Some(mistake(span, "`===` is written == in Rhai", "write ==", Some("== ".to_owned()))),
        "!==" => Some(mistake(span, "`!==` is written != in Rhai", "write !=", Some("!= ".to_owned()))),
        "=<" => Some(mistake(span, "`=<` is written <= in Rhai", "write <=", Some("<=".to_owned()))),
        // A shift takes whole numbers, and no function gives one: it is always a slip.
        symbol @ (">>" | "<<") => {
            let single = &symbol[..1];
            let mut found = mistake(
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
            Some(mistake(span.start..span.end + 1, message, "write the expression without the braces", None))
        }
        "=" => assignment(places, index, statement_start),
        _ => None,
    }
}

/// `=` as a comparison: anywhere but after `let x` or a name that begins a statement.
fn assignment(places: &SourceText, index: usize, statement_start: usize) -> Option<Mistake> {
    let token = &places.tokens[index];
    let first = places.token(statement_start)?;
    let declares = matches!(first, "let" | "const");
    let assigns = index == statement_start + 1 && places.tokens[statement_start].kind == TokenKind::Name;
    let earlier = (statement_start..index).any(|at| places.token(at) == Some("="));
    if (declares || assigns) && !earlier {
        return None;
    }
    let room = places.source()[token.span.end..].starts_with(' ');
    let mut found = mistake(token.span.clone(), "`=` assigns; a comparison is written ==", "write ==", None);
    found.problem.code = "assignment";
    found.mended = room.then(|| (token.span.start..token.span.end + 1, "==".to_owned()));
    Some(found)
}
