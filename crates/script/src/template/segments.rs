//! Finds the `{{ … }}` and `{% … %}` of a text, and refuses those that nest too deep for a recursive parser.

use std::ops::Range;

use crate::lexer::{Grammar, Token, TokenKind, tokens as tokens_of};
use crate::limits;
use crate::problem::ScriptProblem;

/// One `{{ … }}` or `{% … %}` with its tokens, at their places in the whole text.
pub(crate) struct Segment {
    /// From the opening braces to the closing ones.
    pub span: Range<usize>,
    /// What is between the braces and their `-` or `+`.
    pub inside: Range<usize>,
    pub is_block: bool,
    pub tokens: Vec<Token>,
}

/// Finds the segments; comments and raw blocks have none.
pub(crate) fn segments(source: &str) -> Vec<Segment> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = source[at..].find('{').map(|open| at + open) {
        let rest = &source[open..];
        if rest.starts_with("{#") {
            at = rest.find("#}").map_or(source.len(), |end| open + end + 2);
            continue;
        }
        let is_block = rest.starts_with("{%");
        if !is_block && !rest.starts_with("{{") {
            at = open + 1;
            continue;
        }
        let segment = segment(source, open, is_block);
        at = segment.span.end;
        let is_raw = is_block && segment.tokens.first().is_some_and(|token| &source[token.span.clone()] == "raw");
        if is_raw {
            at = source[at..].find("endraw").map_or(source.len(), |end| at + end);
            at = source[at..].find("%}").map_or(source.len(), |end| at + end + 2);
        }
        found.push(segment);
    }
    found
}

fn segment(source: &str, open: usize, is_block: bool) -> Segment {
    let close = if is_block { "%}" } else { "}}" };
    let mut start = open + 2;
    if source[start..].starts_with(['-', '+']) {
        start += 1;
    }
    let mut tokens = Vec::new();
    let mut end = None;
    for token in tokens_of(&source[start..], Grammar::Jinja) {
        let span = start + token.span.start..start + token.span.end;
        if &source[span.clone()] == close {
            end = Some(span);
            break;
        }
        tokens.push(Token { kind: token.kind, span });
    }
    let closing = end.unwrap_or(source.len()..source.len());
    let mut inside_end = closing.start;
    if let Some(last) = tokens.last()
        && matches!(&source[last.span.clone()], "-" | "+")
        && last.span.end == closing.start
    {
        inside_end = last.span.start;
        tokens.pop();
    }
    Segment { span: open..closing.end, inside: start..inside_end.max(start), is_block, tokens }
}

/// Counts what makes a tree deep, before MiniJinja builds it: brackets, operators of one segment, blocks in blocks.
pub(crate) fn too_deep(source: &str, segments: &[Segment]) -> Option<ScriptProblem> {
    let refuse =
        |span: &Range<usize>, message: String| Some(ScriptProblem::error(span.clone(), "too-deep", message, None));
    let (mut blocks, mut branches) = (0_usize, 0_usize);
    for segment in segments {
        let (mut brackets, mut operators) = (0_usize, 0_usize);
        for token in &segment.tokens {
            match &source[token.span.clone()] {
                "(" | "[" | "{" | "{{" => {
                    brackets += 1;
                    operators += 1;
                }
                ")" | "]" | "}" => brackets = brackets.saturating_sub(1),
                "," => {}
                "not" | "if" | "and" | "or" => operators += 1,
                _ if token.kind == TokenKind::Symbol => operators += 1,
                _ => {}
            }
            if brackets > limits::BRACKETS || operators > limits::OPERATORS {
                return refuse(&token.span, "the expression nests too deep or is too long".to_owned());
            }
        }
        if !segment.is_block {
            continue;
        }
        let has_equals = segment.tokens.iter().any(|token| &source[token.span.clone()] == "=");
        match segment.tokens.first().map_or("", |token| &source[token.span.clone()]) {
            "if" | "for" | "with" | "macro" | "call" | "filter" | "autoescape" | "block" => blocks += 1,
            "set" if !has_equals => blocks += 1,
            "elif" | "else" => branches += 1,
            keyword if keyword.starts_with("end") => blocks = blocks.saturating_sub(1),
            _ => {}
        }
        if blocks > limits::BRACKETS || branches > limits::ELSES {
            let message = format!("blocks nest deeper than {} levels or branch too often", limits::BRACKETS);
            return refuse(&segment.span, message);
        }
    }
    None
}
