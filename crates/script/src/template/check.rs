//! What is wrong with a text before it is rendered: names, functions, filters and tests that do not exist.
//!
//! MiniJinja says which names a text needs, not where they stand; the words of its `{{ … }}` and `{% … %}` say that.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::{Environment, ErrorKind};

use super::render::BASE;
use super::segments::{Segment, segments, too_deep};
use crate::condition::{Names, ScriptProblem};
use crate::data::Data;
use crate::functions::{Arg, PLAIN, SIGNATURES, plan, signature_of};
use crate::host::limits;
use crate::parse::problem;
use crate::scan::{Kind, Word};
use crate::suggest::{near, not_here, path_problem, roots, setting_problem};

/// Everything that is wrong with a text.
pub(super) fn check(source: &str, names: &Names<'_>) -> Vec<ScriptProblem> {
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

/// MiniJinja's own complaint, or what was meant by an operator of Rhai.
fn syntax_problem(error: &minijinja::Error, source: &str, segments: &[Segment]) -> ScriptProblem {
    for word in segments.iter().flat_map(|segment| segment.words.windows(2)) {
        let (here, next) = (&source[word[0].span.clone()], &source[word[1].span.clone()]);
        let help = match here {
            "&&" => "write and",
            "||" => "write or",
            "??" => "write x | default(0)",
            "!" if word[1].kind == Kind::Name || next == "(" => "write not",
            "?" => "write a if condition else b",
            "&" if next == "&" => "write and",
            "|" if next == "|" => "write or",
            _ => continue,
        };
        let span = if matches!(next, "&" | "|") && here == next {
            word[0].span.start..word[1].span.end
        } else {
            word[0].span.clone()
        };
        let message = format!("`{}` is not written so in texts", &source[span.clone()]);
        return problem(span, "not-jinja", message, Some(help.to_owned()));
    }
    let span = error.range().filter(|range| source.get(range.clone()).is_some()).unwrap_or_else(|| {
        let line = error.line().unwrap_or(1).saturating_sub(1);
        let start = source.split_inclusive('\n').take(line).map(str::len).sum::<usize>().min(source.len());
        start..source[start..].find('\n').map_or(source.len(), |end| start + end)
    });
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let help = message.contains("end of").then(|| "a closing }} or %} is missing".to_owned());
    problem(span, "syntax", message, help)
}

struct Checker<'a> {
    source: &'a str,
    names: &'a Names<'a>,
    /// Names that the text itself does not declare; `None` where it could not be parsed.
    needed: Option<&'a BTreeSet<String>>,
}

impl Checker<'_> {
    fn text(&self, word: &Word) -> &str {
        &self.source[word.span.clone()]
    }

    fn segment(&self, segment: &Segment, problems: &mut Vec<ScriptProblem>) {
        let words = &segment.words;
        let first = words.first().filter(|_| segment.is_block).map(|word| self.text(word));
        if let Some(keyword @ ("include" | "extends" | "import" | "from" | "block")) = first {
            let message = format!("`{keyword}` is not available in texts");
            problems.push(problem(words[0].span.clone(), "not-available", message, None));
            return;
        }
        for (index, word) in words.iter().enumerate() {
            if word.kind != Kind::Name || (segment.is_block && index == 0) {
                continue;
            }
            let text = self.text(word);
            let before = index.checked_sub(1).and_then(|at| words.get(at)).map(|word| self.text(word));
            let two_before = index.checked_sub(2).and_then(|at| words.get(at)).map(|word| self.text(word));
            let after = words.get(index + 1).map(|word| self.text(word));
            match (before, two_before) {
                (Some("."), _) => {}
                (Some("|"), _) => self.filter(word, problems),
                (Some("filter"), None) if segment.is_block => self.filter(word, problems),
                (Some("is"), _) if text != "not" => self.test(word, problems),
                (Some("not"), Some("is")) => self.test(word, problems),
                _ if is_keyword(text) || (after == Some("=") && before != Some("set")) => {}
                _ if after == Some("(") => self.function(words, index, problems),
                _ => self.name(words, index, problems),
            }
        }
    }

    fn filter(&self, word: &Word, problems: &mut Vec<ScriptProblem>) {
        let name = self.text(word);
        if !known(&BASE, name, ErrorKind::UnknownFilter) {
            let help = near(name, FILTERS).map(|found| format!("did you mean `{found}`?"));
            problems.push(problem(word.span.clone(), "unknown-filter", format!("there is no filter `{name}`"), help));
        }
    }

    fn test(&self, word: &Word, problems: &mut Vec<ScriptProblem>) {
        let name = self.text(word);
        if !matches!(name, "in") && !known(&BASE, name, ErrorKind::UnknownTest) {
            let help = near(name, ["defined", "undefined", "number", "string", "none", "mapping", "sequence"])
                .map(|found| format!("did you mean `{found}`?"));
            problems.push(problem(word.span.clone(), "unknown-test", format!("there is no test `{name}`"), help));
        }
    }

    fn is_needed(&self, name: &str) -> bool {
        self.needed.is_none_or(|needed| needed.contains(name))
    }

    fn function(&self, words: &[Word], index: usize, problems: &mut Vec<ScriptProblem>) {
        let word = &words[index];
        let name = self.text(word);
        if let Some(signature) = signature_of(name) {
            self.arguments(words, index, signature.shape, signature.arity(), problems);
            return;
        }
        if let Some((_, shape)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            self.arguments(words, index, shape, (1, 1), problems);
            return;
        }
        let declared = self.needed.is_some() && !self.is_needed(name);
        if declared || BASE.globals().any(|(global, _)| global == name) || matches!(name, "loop" | "caller" | "super") {
            return;
        }
        let functions = SIGNATURES.iter().map(|signature| signature.name).chain(PLAIN.iter().map(|(plain, _)| *plain));
        let help = match near(name, functions) {
            Some(found) => Some(format!("did you mean `{found}`?")),
            None if roots(self.names).iter().any(|(root, _)| *root == name) => {
                Some(format!("`{name}` is a value; write it without (…)"))
            }
            None => None,
        };
        problems.push(problem(word.span.clone(), "unknown-function", format!("there is no function `{name}`"), help));
    }

    /// The count of a call's arguments, and what they are where they are literals.
    fn arguments(
        &self,
        words: &[Word],
        index: usize,
        shape: &str,
        arity: (usize, usize),
        problems: &mut Vec<ScriptProblem>,
    ) {
        let name = self.text(&words[index]);
        let Some(args) = self.split(&words[index + 2..]) else { return };
        if !(arity.0..=arity.1).contains(&args.len()) {
            let message = format!("`{name}` is called with {} arguments", args.len());
            let help = Some(format!("write {shape}"));
            problems.push(problem(words[index].span.clone(), "wrong-arguments", message, help));
            return;
        }
        let literals: Option<Vec<Data>> = args.iter().map(|arg| self.literal(arg)).collect();
        let Some(literals) = literals else { return };
        let values: Vec<Arg<'_>> = literals.iter().map(Data::as_arg).collect();
        if let Some(signature) = signature_of(name) {
            let numbers = matches!(name, "min" | "max") && values.iter().all(|value| matches!(value, Arg::Number(_)));
            if let (Err(bad), false) = (plan(signature, &values), numbers) {
                let span = args
                    .get(bad.index)
                    .and_then(|arg| arg.first())
                    .map_or(words[index].span.clone(), |word| word.span.clone());
                problems.push(problem(span, "wrong-arguments", bad.message, Some(format!("write {shape}"))));
            }
        } else if let ("setting", [Arg::Text(path)], Some(settings)) = (name, values.as_slice(), self.names.settings) {
            let parts: Vec<&str> = path.split('.').collect();
            if let Some((code, message, help)) = setting_problem(settings, &parts) {
                problems.push(problem(args[0][0].span.clone(), code, message, help));
            }
        }
    }

    /// The words of each argument up to the closing bracket; `None` where it never comes.
    fn split<'w>(&self, words: &'w [Word]) -> Option<Vec<&'w [Word]>> {
        let mut args = Vec::new();
        let (mut depth, mut start) = (0_usize, 0);
        for (index, word) in words.iter().enumerate() {
            match self.text(word) {
                "(" | "[" | "{" | "{{" => depth += 1,
                ")" if depth == 0 => {
                    if index > start || !args.is_empty() {
                        args.push(&words[start..index]);
                    }
                    return Some(args);
                }
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                "," if depth == 0 => {
                    args.push(&words[start..index]);
                    start = index + 1;
                }
                _ => {}
            }
        }
        None
    }

    fn literal(&self, arg: &[Word]) -> Option<Data> {
        let [word] = arg else { return None };
        let text = self.text(word);
        match word.kind {
            Kind::Text => {
                let inner = text.get(1..text.len().saturating_sub(1))?;
                (!inner.contains('\\')).then(|| Data::text(inner))
            }
            Kind::Number => text.replace('_', "").parse().ok().map(Data::float),
            _ => None,
        }
    }

    fn name(&self, words: &[Word], index: usize, problems: &mut Vec<ScriptProblem>) {
        // Without a parse nobody knows what the text itself declares.
        let Some(needed) = self.needed else { return };
        let word = &words[index];
        let name = self.text(word);
        if !needed.contains(name) || BASE.globals().any(|(global, _)| global == name) {
            return;
        }
        if let Some((_, root)) = roots(self.names).into_iter().find(|(root, _)| *root == name) {
            let path = self.path(&words[index + 1..]);
            let parts: Vec<&str> = path.iter().map(|(part, _)| *part).collect();
            if let Some((code, message, help)) = path_problem(self.names, root, &parts) {
                let span = path.last().map_or(word.span.clone(), |(_, span)| span.clone());
                problems.push(problem(span, code, message, help));
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
        problems.push(problem(word.span.clone(), "unknown-variable", format!("there is no `{name}` here"), help));
    }

    fn meant(&self, name: &str) -> Option<String> {
        let roots = roots(self.names);
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
    fn path(&self, words: &[Word]) -> Vec<(&str, Range<usize>)> {
        let mut path = Vec::new();
        let mut rest = words;
        loop {
            match rest {
                [dot, member, ..] if self.text(dot) == "." && member.kind == Kind::Name => {
                    path.push((self.text(member), member.span.clone()));
                    rest = &rest[2..];
                }
                [open, member, close, ..]
                    if self.text(open) == "[" && member.kind == Kind::Text && self.text(close) == "]" =>
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

/// Filters worth a suggestion.
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
