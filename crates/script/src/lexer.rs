//! Splits a source into tokens with byte ranges, for any input, also where Rhai's own parser gives up.

use std::ops::Range;

use rhai::Position;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Name,
    Number,
    /// `"…"`, `` `…` `` or `#"…"#`.
    Text,
    /// `'…'`
    Quoted,
    Symbol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub span: Range<usize>,
}

/// Longest first, so that the first match is the longest.
const SYMBOLS: [&str; 39] = [
    "**=", "<<=", ">>=", "..=", "===", "!==", "&&", "||", "==", "!=", "<=", ">=", "<>", "=>", "=<", "??", "?.", "?[",
    "..", "::", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "**", "<<", ">>", "#{", "->", "{{", "}}", "{%", "%}",
    "{#", "#}",
];

/// Whether `{{`, `{%` and `{#` are tokens (texts) or separate braces (Rhai).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    Rhai,
    /// The inside of `{{ … }}` or `{% … %}`.
    Jinja,
}

pub(crate) fn scan(source: &str, grammar: Grammar) -> Vec<Token> {
    tokens(source, grammar).collect()
}

/// The tokens one by one, for a caller that stops before the end.
pub(crate) fn tokens(source: &str, grammar: Grammar) -> impl Iterator<Item = Token> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &source[at..];
            let letter = rest.chars().next()?;
            if letter.is_whitespace() {
                at += letter.len_utf8();
            } else if grammar == Grammar::Rhai && rest.starts_with("//") {
                at += rest.find('\n').unwrap_or(rest.len());
            } else if grammar == Grammar::Rhai && rest.starts_with("/*") {
                at += block_comment(rest);
            } else {
                let (kind, length) = token(rest, letter, grammar);
                let span = at..at + length;
                at = span.end;
                return Some(Token { kind, span });
            }
        }
    })
}

fn token(rest: &str, letter: char, grammar: Grammar) -> (TokenKind, usize) {
    match letter {
        '"' => (TokenKind::Text, quoted(rest, '"')),
        '`' if grammar == Grammar::Rhai => (TokenKind::Text, quoted(rest, '`')),
        '#' if grammar == Grammar::Rhai && raw_hashes(rest) > 0 => (TokenKind::Text, raw_text(rest, raw_hashes(rest))),
        '\'' if grammar == Grammar::Jinja => (TokenKind::Text, quoted(rest, '\'')),
        '\'' => (TokenKind::Quoted, single_quoted(rest)),
        '0'..='9' => (TokenKind::Number, number(rest)),
        _ if letter.is_alphabetic() || letter == '_' => {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (TokenKind::Name, end)
        }
        _ => {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol) && fits(symbol, grammar));
            (TokenKind::Symbol, symbol.map_or(letter.len_utf8(), |symbol| symbol.len()))
        }
    }
}

fn fits(symbol: &str, grammar: Grammar) -> bool {
    let jinja_only = matches!(symbol, "{{" | "}}" | "{%" | "%}" | "{#" | "#}");
    !(grammar == Grammar::Rhai && jinja_only)
}

/// Comments nest, as in Rhai.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            at += 2;
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length from the opening quote to the closing one, or to the end of the source. Braces and texts inside an
/// interpolation do not end the text.
fn quoted(rest: &str, quote: char) -> usize {
    let mut letters = rest.char_indices().skip(1).peekable();
    let mut depth = 0_usize;
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' if quote != '`' => {
                letters.next();
            }
            '$' if quote == '`' && matches!(letters.peek(), Some((_, '{'))) => {
                letters.next();
                depth += 1;
            }
            '{' if depth > 0 => depth += 1,
            '}' if depth > 0 => depth -= 1,
            _ if letter == quote && depth == 0 => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_hashes(rest: &str) -> usize {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    if rest[hashes..].starts_with('"') { hashes } else { 0 }
}

fn raw_text(rest: &str, hashes: usize) -> usize {
    let close = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 1;
    rest[start..].find(&close).map_or(rest.len(), |at| start + at + close.len())
}

/// The length to the closing quote on the same line, else to the end of the line.
fn single_quoted(rest: &str) -> usize {
    let line = rest.find('\n').unwrap_or(rest.len());
    let mut letters = rest[..line].char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            '\'' => return at + 1,
            _ => {}
        }
    }
    line
}

/// The length of `12`, `1_000`, `1.5`, `2e-3` or `0xff`, without the `..` of a range or a unit written after it.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'o' | b'b') && bytes[2].is_ascii_hexdigit() {
        return 2 + bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b'_').count();
    }
    let digits = |from: usize| {
        let tail = bytes.get(from..).unwrap_or_default();
        tail.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count()
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

/// A source with its lines and tokens; converts Rhai's lines and columns into byte ranges.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    source: String,
    lines: Vec<usize>,
    pub tokens: Vec<Token>,
}

impl SourceText {
    pub fn new(source: &str) -> SourceText {
        let lines = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        SourceText { source: source.to_owned(), lines, tokens: scan(source, Grammar::Rhai) }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn text(&self, token: &Token) -> &str {
        &self.source[token.span.clone()]
    }

    /// The text of the token at an index, or nothing.
    pub fn token(&self, index: usize) -> Option<&str> {
        self.tokens.get(index).map(|token| self.text(token))
    }

    /// The byte offset of a position; the end of the source where there is no position.
    pub fn offset(&self, position: Position) -> usize {
        let Some(line) = position.line() else { return self.source.len() };
        let Some(start) = self.lines.get(line.saturating_sub(1)) else { return self.source.len() };
        let column = position.position().unwrap_or(1).saturating_sub(1);
        let rest = &self.source[*start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }

    /// The range of the token at a position; an empty range at the end of the source.
    pub fn span(&self, position: Position) -> Range<usize> {
        let at = self.offset(position);
        match self.tokens.iter().find(|token| token.span.contains(&at)) {
            Some(token) => token.span.clone(),
            None => at..self.source[at..].chars().next().map_or(at, |letter| at + letter.len_utf8()),
        }
    }

    /// The range of the whole source without the blanks around it.
    pub fn whole(&self) -> Range<usize> {
        match (self.tokens.first(), self.tokens.last()) {
            (Some(first), Some(last)) => first.span.start..last.span.end,
            _ => 0..self.source.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        scan(source, Grammar::Rhai).into_iter().map(|token| &source[token.span]).collect()
    }

    #[test]
    fn words_are_what_a_person_sees() {
        assert_eq!(texts("last(\"a b\")>=5.5 && !x"), ["last", "(", "\"a b\"", ")", ">=", "5.5", "&&", "!", "x"]);
        assert_eq!(texts("5m 80% 0..3 1e-3"), ["5", "m", "80", "%", "0", "..", "3", "1e-3"]);
        assert_eq!(texts("'it' // and\n/* or /* x */ */ `a ${ {1} } b`"), ["'it'", "`a ${ {1} } b`"]);
        assert_eq!(texts("#\"raw \" x\"#"), ["#\"raw \" x\"#"]);
    }

    #[test]
    fn nothing_is_too_broken_to_scan() {
        for source in ["\"", "'", "`${", "/*", "\"\\", "ä'ö", "#\"", "0x", "1e", "\u{1f600}"] {
            let tokens = scan(source, Grammar::Rhai);
            assert!(tokens.iter().all(|token| source.get(token.span.clone()).is_some()), "{source}");
        }
    }

    #[test]
    fn positions_count_letters_and_give_bytes() {
        let places = SourceText::new("ä > 1\n  foo(2)");
        assert_eq!(places.span(Position::new(1, 3)), 3..4);
        assert_eq!(places.span(Position::new(2, 3)), 9..12);
        assert_eq!(places.span(Position::NONE), 15..15);
        assert_eq!(places.span(Position::new(9, 9)), 15..15);
    }
}
