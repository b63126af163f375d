//! Checks a text before it is rendered: reports names, functions, filters and tests that do not exist.
//!
//! MiniJinja tells which names a text needs, but not where; the tokens inside `{{ … }}` and `{% … %}` tell where.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::{Environment, ErrorKind};

use super::render::BASE;
use super::segments::{Segment, segments, too_deep};
use crate::functions::{PLAIN, SIGNATURES, signature_of};
use crate::lexer::{Token, TokenKind};
use crate::limits;
use crate::names::Names;
use crate::problem::ScriptProblem;
use crate::read::{Arg, plan};
use crate::suggest::{near, not_here, path_problem, setting_problem};
use crate::value::Value;

/// Every problem of a text.
pub(crate) fn check(source: &str, names: &Names<'_>) -> Vec<ScriptProblem> {
    let segments = segments(source);
    if let Some(problem) = too_deep(source, &segments) {
        return vec![problem];
    }
    let mut problems = Vec::new();
    let parsed = BASE.template_from_str(source);
    let needed: Option<BTreeSet<String>> = match &parsed {
        Ok(template) => Some(template.undeclared_variables(false).into_iter().collect()),
        Err(error) => {
            problems.push(syntax_problem(error, source, &segments));
            None
        }
    };
    let checker = Checker { source, names, needed: needed.as_ref() };
    for segment in &segments {
        checker.segment(segment, &mut problems);
    }
    problems.sort_by_key(|problem| problem.span.start);
    problems.dedup_by(|later, earlier| later.span == earlier.span && later.code == earlier.code);
    problems.truncate(limits::PROBLEMS);
    problems
}

/// MiniJinja's message, or what to write instead of an operator of Rhai.
fn syntax_problem(error: &minijinja::Error, source: &str, segments: &[Segment]) -> ScriptProblem {
    for token in segments.iter().flat_map(|segment| segment.tokens.windows(2)) {
        let (here, next) = (&source[token[0].span.clone()], &source[token[1].span.clone()]);
        let help = match here {
            "&&" => "write and",
            "||" => "write or",
            "??" => "write x | default(0)",
            "!" if token[1].kind == TokenKind::Name || next == "(" => "write not",
            "?" => "write a if condition else b",
            "&" if next == "&" => "write and",
            "|" if next == "|" => "write or",
            _ => continue,
        };
        let span = if matches!(next, "&" | "|") && here == next {
            token[0].span.start..token[1].span.end
        } else {
            token[0].span.clone()
        };
        let message = format!("`{}` is not written so in texts", &source[span.clone()]);
        return ScriptProblem::error(span, "not-jinja", message, Some(help.to_owned()));
    }
    let span = error.range().filter(|range| source.get(range.clone()).is_some()).unwrap_or_else(|| {
        let line = error.line().unwrap_or(1).saturating_sub(1);
        let start = source.split_inclusive('\n').take(line).map(str::len).sum::<usize>().min(source.len());
        start..source[start..].find('\n').map_or(source.len(), |end| start + end)
    });
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let help = message.contains("end of").then(|| "a closing }} or %} is missing".to_owned());
    ScriptProblem::error(span, "syntax", message, help)
}

struct Checker<'a> {
    source: &'a str,
    names: &'a Names<'a>,
    /// Names that the text itself does not declare; `None` where it could not be parsed.
    needed: Option<&'a BTreeSet<String>>,
}

impl Checker<'_> {
    fn text(&self, token: &Token) -> &str {
        &self.source[token.span.clone()]
    }

    fn segment(&self, segment: &Segment, problems: &mut Vec<ScriptProblem>) {
        let tokens = &segment.tokens;
        let first = tokens.first().filter(|_| segment.is_block).map(|token| self.text(token));
        if let Some(keyword @ ("include" | "extends" | "import" | "from" | "block")) = first {
            let message = format!("`{keyword}` is not available in texts");
            problems.push(ScriptProblem::error(tokens[0].span.clone(), "not-available", message, None));
            return;
        }
        for (index, token) in tokens.iter().enumerate() {
            if token.kind != TokenKind::Name || (segment.is_block && index == 0) {
                continue;
            }
            let text = self.text(token);
            let before = index.checked_sub(1).and_then(|at| tokens.get(at)).map(|token| self.text(token));
            let two_before = index.checked_sub(2).and_then(|at| tokens.get(at)).map(|token| self.text(token));
            let after = tokens.get(index + 1).map(|token| self.text(token));
            match (before, two_before) {
                (Some("."), _) => {}
                (Some("|"), _) => self.filter(token, problems),
                (Some("filter"), None) if segment.is_block => self.filter(token, problems),
                (Some("is"), _) if text != "not" => self.test(token, problems),
                (Some("not"), Some("is")) => self.test(token, problems),
                _ if is_keyword(text) || (after == Some("=") && before != Some("set")) => {}
                _ if after == Some("(") => self.function(tokens, index, problems),
                _ => self.name(tokens, index, problems),
            }
        }
    }

    fn filter(&self, token: &Token, problems: &mut Vec<ScriptProblem>) {
        let name = self.text(token);
        if !known(&BASE, name, ErrorKind::UnknownFilter) {
            let help = near(name, FILTERS).map(|found| format!("did you mean `{found}`?"));
            problems.push(ScriptProblem::error(
                token.span.clone(),
                "unknown-filter",
                format!("there is no filter `{name}`"),
                help,
            ));
        }
    }

    fn test(&self, token: &Token, problems: &mut Vec<ScriptProblem>) {
        let name = self.text(token);
        if !matches!(name, "in") && !known(&BASE, name, ErrorKind::UnknownTest) {
            let help = near(name, ["defined", "undefined", "number", "string", "none", "mapping", "sequence"])
                .map(|found| format!("did you mean `{found}`?"));
            problems.push(ScriptProblem::error(
                token.span.clone(),
                "unknown-test",
                format!("there is no test `{name}`"),
                help,
            ));
        }
    }

    fn is_needed(&self, name: &str) -> bool {
        self.needed.is_none_or(|needed| needed.contains(name))
    }

    fn function(&self, tokens: &[Token], index: usize, problems: &mut Vec<ScriptProblem>) {
        let token = &tokens[index];
        let name = self.text(token);
        if let Some(signature) = signature_of(name) {
            self.arguments(tokens, index, signature.shape, signature.arity(), problems);
            return;
        }
        if let Some((_, shape)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            self.arguments(tokens, index, shape, (1, 1), problems);
            return;
        }
        let declared = self.needed.is_some() && !self.is_needed(name);
        if declared || BASE.globals().any(|(global, _)| global == name) || matches!(name, "loop" | "caller" | "super") {
            return;
        }
        let functions = SIGNATURES.iter().map(|signature| signature.name).chain(PLAIN.iter().map(|(plain, _)| *plain));
        let help = match near(name, functions) {
            Some(found) => Some(format!("did you mean `{found}`?")),
            None if self.names.roots().iter().any(|(root, _)| *root == name) => {
                Some(format!("`{name}` is a value; write it without (…)"))
            }
            None => None,
        };
        problems.push(ScriptProblem::error(
            token.span.clone(),
            "unknown-function",
            format!("there is no function `{name}`"),
            help,
        ));
    }

    /// Checks how many arguments a call has, and the arguments themselves where they are literals.
    fn arguments(
        &self,
        tokens: &[Token],
        index: usize,
        shape: &str,
        arity: (usize, usize),
        problems: &mut Vec<ScriptProblem>,
    ) {
        let name = self.text(&tokens[index]);
        let Some(args) = self.split(&tokens[index + 2..]) else { return };
        if !(arity.0..=arity.1).contains(&args.len()) {
            let message = format!("`{name}` is called with {} arguments", args.len());
            let help = Some(format!("write {shape}"));
            problems.push(ScriptProblem::error(tokens[index].span.clone(), "wrong-arguments", message, help));
            return;
        }
        let literals: Option<Vec<Value>> = args.iter().map(|arg| self.literal(arg)).collect();
        let Some(literals) = literals else { return };
        let values: Vec<Arg<'_>> = literals.iter().map(Value::as_arg).collect();
        if let Some(signature) = signature_of(name) {
            let numbers = matches!(name, "min" | "max") && values.iter().all(|value| matches!(value, Arg::Number(_)));
            if let (Err(bad), false) = (plan(signature, &values), numbers) {
                let span = args
                    .get(bad.index)
                    .and_then(|arg| arg.first())
                    .map_or(tokens[index].span.clone(), |token| token.span.clone());
                problems.push(ScriptProblem::error(
                    span,
                    "wrong-arguments",
                    bad.message,
                    Some(format!("write {shape}")),
                ));
            }
        } else if let ("setting", [Arg::Text(path)], Some(settings)) = (name, values.as_slice(), self.names.settings) {
            let parts: Vec<&str> = path.split('.').collect();
            if let Some((code, message, help)) = setting_problem(settings, &parts) {
                problems.push(ScriptProblem::error(args[0][0].span.clone(), code, message, help));
            }
        }
    }

    /// The tokens of each argument up to the closing bracket; `None` where it never comes.
    fn split<'w>(&self, tokens: &'w [Token]) -> Option<Vec<&'w [Token]>> {
        let mut args = Vec::new();
        let (mut depth, mut start) = (0_usize, 0);
        for (index, token) in tokens.iter().enumerate() {
            match self.text(token) {
                "(" | "[" | "{" | "{{" => depth += 1,
                ")" if depth == 0 => {
                    if index > start || !args.is_empty() {
                        args.push(&tokens[start..index]);
                    }
                    return Some(args);
                }
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                "," if depth == 0 => {
                    args.push(&tokens[start..index]);
                    start = index + 1;
                }
                _ => {}
            }
        }
        None
    }

    fn literal(&self, arg: &[Token]) -> Option<Value> {
        let [token] = arg else { return None };
        let text = self.text(token);
        match token.kind {
            TokenKind::Text => {
                let inner = text.get(1..text.len().saturating_sub(1))?;
                (!inner.contains('\\')).then(|| Value::text(inner))
            }
            TokenKind::Number => text.replace('_', "").parse().ok().map(Value::float),
            _ => None,
        }
    }

    fn name(&self, tokens: &[Token], index: usize, problems: &mut Vec<ScriptProblem>) {
        // Without a parse nobody knows what the text itself declares.
        let Some(needed) = self.needed else { return };
        let token = &tokens[index];
        let name = self.text(token);
        if !needed.contains(name) || BASE.globals().any(|(global, _)| global == name) {
            return;
        }
        if let Some((_, root)) = self.names.roots().into_iter().find(|(root, _)| *root == name) {
            let path = self.path(&tokens[index + 1..]);
            let parts: Vec<&str> = path.iter().map(|(part, _)| *part).collect();
            if let Some((code, message, help)) = path_problem(self.names, root, &parts) {
                let span = path.last().map_or(token.span.clone(), |(_, span)| span.clone());
                problems.push(ScriptProblem::error(span, code, message, help));
            }
            return;
        }
        let help = match signature_of(name) {
            Some(signature) => Some(format!("`{name}` is a function; write {}", signature.shape)),
            None if name == "secrets" => Some(
                "a secret goes whole to a parameter or input of type secret, and nowhere else: \"{{ secrets.NAME }}\""
                    .to_owned(),
            ),
            None => not_here(name).or_else(|| self.meant(name)),
        };
        problems.push(ScriptProblem::error(
            token.span.clone(),
            "unknown-variable",
            format!("there is no `{name}` here"),
            help,
        ));
    }

    fn meant(&self, name: &str) -> Option<String> {
        let roots = self.names.roots();
        if let Some(found) = near(name, roots.iter().map(|(root, _)| *root)) {
            return Some(format!("did you mean `{found}`?"));
        }
        if self.names.settings.is_some_and(|settings| settings.contains_key(name)) {
            return Some(format!("a setting is written settings.{name}"));
        }
        if self.names.inputs.is_some_and(|inputs| inputs.iter().any(|input| input == name)) {
            return Some(format!("an input is written inputs.{name}"));
        }
        let all: Vec<&str> = roots.iter().map(|(root, _)| *root).collect();
        Some(format!("there are: {}; a metric is read with last(\"{name}\")", all.join(", ")))
    }

    /// The members after a name: `.a`, `["a"]`.
    fn path(&self, tokens: &[Token]) -> Vec<(&str, Range<usize>)> {
        let mut path = Vec::new();
        let mut rest = tokens;
        loop {
            match rest {
                [dot, member, ..] if self.text(dot) == "." && member.kind == TokenKind::Name => {
                    path.push((self.text(member), member.span.clone()));
                    rest = &rest[2..];
                }
                [open, member, close, ..]
                    if self.text(open) == "[" && member.kind == TokenKind::Text && self.text(close) == "]" =>
                {
                    let text = self.text(member);
                    path.push((text.get(1..text.len().saturating_sub(1)).unwrap_or(""), member.span.clone()));
                    rest = &rest[3..];
                }
                _ => return path,
            }
        }
    }
}

/// Whether a filter or test exists: MiniJinja only tells when one is called.
fn known(env: &Environment<'_>, name: &str, unknown: ErrorKind) -> bool {
    let mut state = env.empty_state();
    let error = match unknown {
        ErrorKind::UnknownFilter => state.apply_filter(name, &[]).err(),
        _ => state.perform_test(name, &[]).err(),
    };
    error.is_none_or(|error| error.kind() != unknown)
}

/// Filters for "did you mean".
const FILTERS: [&str; 22] = [
    "percent",
    "bytes",
    "duration",
    "round",
    "int",
    "float",
    "default",
    "upper",
    "lower",
    "title",
    "capitalize",
    "join",
    "length",
    "replace",
    "trim",
    "first",
    "last",
    "sort",
    "abs",
    "tojson",
    "min",
    "max",
];

fn is_keyword(text: &str) -> bool {
    matches!(
        text,
        "and"
            | "or"
            | "not"
            | "in"
            | "is"
            | "if"
            | "else"
            | "elif"
            | "for"
            | "recursive"
            | "true"
            | "false"
            | "none"
            | "True"
            | "False"
            | "None"
            | "with"
            | "set"
            | "ignore"
            | "missing"
            | "as"
            | "loop"
    )
}
