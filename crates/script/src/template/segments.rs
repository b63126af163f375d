//! Where a text's `{{ … }}` and `{% … %}` stand, and whether they nest too deep for a parser that recurses.

use std::ops::Range;

use crate::condition::ScriptProblem;
use crate::host::limits;
use crate::parse::problem;
use crate::scan::{Grammar, Kind, Word, words as words_of};

/// One `{{ … }}` or `{% … %}` with its words, at their places in the whole text.
pub(super) struct Segment {
    /// From the opening braces to the closing ones.
    pub span: Range<usize>,
    /// What is between the braces and their `-` or `+`.
    pub inside: Range<usize>,
    pub is_block: bool,
    pub words: Vec<Word>,
}

/// Finds the segments; comments and raw blocks have none.
pub(super) fn segments(source: &str) -> Vec<Segment> {
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
        let is_raw = is_block && segment.words.first().is_some_and(|word| &source[word.span.clone()] == "raw");
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
    let mut words = Vec::new();
    let mut end = None;
    for word in words_of(&source[start..], Grammar::Jinja) {
        let span = start + word.span.start..start + word.span.end;
        if &source[span.clone()] == close {
            end = Some(span);
            break;
        }
        words.push(Word { kind: word.kind, span });
    }
    let closing = end.unwrap_or(source.len()..source.len());
    let mut inside_end = closing.start;
    if let Some(last) = words.last()
        && matches!(&source[last.span.clone()], "-" | "+")
        && last.span.end == closing.start
    {
        inside_end = last.span.start;
        words.pop();
    }
    Segment { span: open..closing.end, inside: start..inside_end.max(start), is_block, words }
}

/// Counts what makes a tree deep, before MiniJinja builds it: brackets, operators of one segment, blocks in blocks.
pub(super) fn too_deep(source: &str, segments: &[Segment]) -> Option<ScriptProblem> {
    let refuse = |span: &Range<usize>, message: String| Some(problem(span.clone(), "too-deep", message, None));
    let (mut blocks, mut branches) = (0_usize, 0_usize);
    for segment in segments {
        let (mut brackets, mut operators) = (0_usize, 0_usize);
        for word in &segment.words {
            match &source[word.span.clone()] {
                "(" | "[" | "{" | "{{" => {
                    brackets += 1;
                    operators += 1;
                }
                ")" | "]" | "}" => brackets = brackets.saturating_sub(1),
                "," => {}
                "not" | "if" | "and" | "or" => operators += 1,
                _ if word.kind == Kind::Symbol => operators += 1,
                _ => {}
            }
            if brackets > limits::BRACKETS || operators > limits::OPERATORS {
                return refuse(&word.span, "the expression nests too deep or is too long".to_owned());
            }
        }
        if !segment.is_block {
            continue;
        }
        let has_equals = segment.words.iter().any(|word| &source[word.span.clone()] == "=");
        match segment.words.first().map_or("", |word| &source[word.span.clone()]) {
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
