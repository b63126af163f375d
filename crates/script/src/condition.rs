//! Conditions and value expressions: compiled once, evaluated with SQL's unknown.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::ast::{Function, Iteration, Node};
use crate::evidence::{Evidence, Vars};
use crate::fast_path::FastPath;
use crate::func::About;
use crate::functions::{PLAIN, SIGNATURES};
use crate::host::{ScriptHost, fnv};
use crate::interpreter::Interpreter;
use crate::lexer::{SourceText, TokenKind};
use crate::library::library_of;
use crate::limits;
use crate::lower::{self, Type};
use crate::mutation::Change;
use crate::names::Names;
use crate::parse::{Parsed, Unreadable, read};
use crate::problem::ScriptProblem;
use crate::read::Read;
use crate::suggest::near;
use crate::truth::Truth;
use crate::value::Value;
use selfheal_model::Map;

/// The kind of answer that a script must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// True or false: `when`, `if`, `until`, `assert`, …
    Bool,
    /// A number: `value`.
    Number,
}

/// A compiled condition or value expression. A clone shares the compiled form.
#[derive(Clone)]
pub struct Condition {
    compiled: Arc<Compiled>,
}

struct Compiled {
    source: String,
    code: Node,
    locals: usize,
    /// The policy's functions, shared by all conditions; empty where the script calls none.
    shared: Arc<Vec<Function>>,
    /// The script's own functions, numbered after the shared ones.
    own: Vec<Function>,
    reads: Vec<Read>,
    reads_are_static: bool,
    hash: u64,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.compiled.source).finish()
    }
}

impl Condition {
    /// Compiles a script that must give `expect` and may use `names`. With the condition come the warnings.
    ///
    /// # Errors
    /// Every problem found, not only the first; at least one is an error.
    pub fn compile(
        host: &ScriptHost,
        source: &str,
        expect: Expect,
        names: &Names<'_>,
    ) -> Result<(Condition, Vec<ScriptProblem>), Vec<ScriptProblem>> {
        let parsed = match read(&host.engine, source) {
            Ok(parsed) => parsed,
            Err(unreadable) => return Err(further_problems(host, *unreadable, expect, names)),
        };
        let (compiled, problems) = compile_parsed(host, source, &parsed, expect, names);
        if problems.iter().any(|problem| problem.is_error()) {
            return Err(problems);
        }
        Ok((Condition { compiled: Arc::new(compiled) }, problems))
    }

    /// The script as written.
    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// The reads whose arguments are known at load, in order of appearance, without repeats.
    pub fn reads(&self) -> &[Read] {
        &self.compiled.reads
    }

    /// Whether the condition may read this check of its deployment.
    pub fn reads_check(&self, check: &str) -> bool {
        !self.reads_are_static()
            || self
                .reads()
                .iter()
                .any(|read| matches!(read.func.about(), About::Check | About::CheckSeries) && read.subject == check)
    }

    /// Whether [`Condition::reads`] has every read. If not, the engine evaluates the condition on every event of its
    /// scope. A read whose arguments are settings is listed with the policy's values but counts as not static, because a
    /// deployment may override them.
    pub fn reads_are_static(&self) -> bool {
        self.compiled.reads_are_static
    }

    /// The condition as a short program over numbers under these settings; `None` where it is more than arithmetic over
    /// metrics.
    pub fn fast_path(&self, settings: &Map) -> Option<FastPath> {
        let compiled = &self.compiled;
        let plain = compiled.locals == 0;
        plain.then(|| FastPath::of(&compiled.code, settings)).flatten()
    }

    /// A hash of the source, of the policy's functions and of the expected kind; a reload compares it. The same on every
    /// machine and in every version.
    pub fn hash(&self) -> u64 {
        self.compiled.hash
    }

    /// Evaluates the condition once.
    pub fn truth(&self, vars: &Vars, evidence: &dyn Evidence) -> Truth {
        match self.run(vars, evidence) {
            Ok(Value::Bool(true)) => Truth::True,
            Ok(Value::Bool(false)) => Truth::False,
            Ok(Value::Nothing) => Truth::NoData,
            Ok(other) => Truth::Error(SmolStr::new(format!("the answer is {}, not true or false", shown(&other)))),
            Err(message) => Truth::Error(SmolStr::new(message)),
        }
    }

    /// Evaluates a value expression once; `Ok(None)` is no data.
    ///
    /// # Errors
    /// The script failed, exceeded a limit or gave another kind of value than a number; the message is for people.
    pub fn number(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Option<f64>, String> {
        match self.run(vars, evidence)? {
            Value::Nothing => Ok(None),
            data => match data.number() {
                Some(number) => Ok(Some(number)),
                None => Err(format!("the answer is {}, not a number", shown(&data))),
            },
        }
    }

    fn run(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Value, String> {
        let compiled = &self.compiled;
        let mut machine = Interpreter::new(vars, evidence, &compiled.shared, &compiled.own);
        let outcome = machine.run(&compiled.code, compiled.locals);
        evidence.spent(machine.operations());
        outcome
    }
}

/// A value as a message shows it; a long text is cut.
fn shown(data: &Value) -> String {
    const SHOWN: usize = 60;
    match data {
        Value::Bool(value) => value.to_string(),
        Value::Int(_) | Value::Float(_) => format!("the number {}", data.print()),
        Value::Text(text) => format!("the text \"{}\"", text.chars().take(SHOWN).collect::<String>()),
        other => other.kind().to_owned(),
    }
}

/// Lowers a script and the functions that it defines.
fn compile_parsed(
    host: &ScriptHost,
    source: &str,
    parsed: &Parsed,
    expect: Expect,
    names: &Names<'_>,
) -> (Compiled, Vec<ScriptProblem>) {
    let mut known = host.known();
    let first_own = host.functions.len();
    for (index, definition) in parsed.named_functions().enumerate() {
        known.insert((definition.name.to_string(), definition.params.len()), first_own + index);
    }
    let body = lower::condition(parsed, names, &known);
    let mut problems = body.problems;
    check_answer(parsed, expect, body.gives, &mut problems);

    let mut reads = body.reads;
    let mut reads_are_static = body.reads_are_static;
    let mut calls = body.calls;
    let mut own = Vec::new();
    for definition in parsed.named_functions() {
        let function = lower::function(parsed, definition, &known);
        problems.extend(function.problems);
        add_reads(&mut reads, &function.reads);
        reads_are_static &= function.reads_are_static;
        calls.extend(function.calls);
        own.push(Function { name: definition.name.clone(), locals: function.locals, body: function.code });
    }
    for shared in host.reachable(&calls) {
        add_reads(&mut reads, &shared.reads);
        reads_are_static &= shared.reads_are_static;
    }
    problems.sort_by_key(|problem| problem.span.start);
    problems.truncate(limits::PROBLEMS);
    let shared = if calls.iter().any(|index| *index < first_own) || !own.is_empty() {
        Arc::clone(&host.functions)
    } else {
        Arc::default()
    };
    let hash = fnv(fnv(host.hash, source.as_bytes()), if expect == Expect::Bool { b"bool" } else { b"number" });
    let source = source.to_owned();
    let compiled =
        Compiled { source, code: body.code, locals: body.locals, shared, own, reads, reads_are_static, hash };
    (compiled, problems)
}

fn add_reads(reads: &mut Vec<Read>, more: &[Read]) {
    for read in more {
        if !reads.contains(read) {
            reads.push(read.clone());
        }
    }
}

/// Reports an answer that is certainly of the wrong kind.
fn check_answer(parsed: &Parsed, expect: Expect, gives: Type, problems: &mut Vec<ScriptProblem>) {
    let right = matches!((expect, gives), (_, Type::Any) | (Expect::Bool, Type::Bool) | (Expect::Number, Type::Number));
    // An error elsewhere may be why the answer looks wrong.
    if right || problems.iter().any(|problem| problem.is_error()) {
        return;
    }
    let (code, message, help) = match (expect, gives) {
        (_, Type::Nothing) => ("no-answer", "this gives no answer", "end it with the expression that is the answer"),
        (Expect::Bool, Type::Number) => {
            ("not-a-bool", "the answer is a number, not true or false", "compare it, for example > 80")
        }
        (Expect::Bool, _) => {
            ("not-a-bool", "the answer is not true or false", "compare it, for example == \"unhealthy\"")
        }
        (Expect::Number, Type::Bool) => {
            ("not-a-number", "the answer is true or false, not a number", "a value is the number the alert carries")
        }
        (Expect::Number, _) => {
            ("not-a-number", "the answer is not a number", "a value is the number the alert carries")
        }
    };
    problems.push(ScriptProblem::error(parsed.places.whole(), code, message.to_owned(), Some(help.to_owned())));
}

/// Looks for further problems in a script that Rhai could not read: lowers the mended script where there is one, else
/// looks at each call token by token.
fn further_problems(
    host: &ScriptHost,
    unreadable: Unreadable,
    expect: Expect,
    names: &Names<'_>,
) -> Vec<ScriptProblem> {
    let Unreadable { mut problems, mended, places } = unreadable;
    let more = match mended {
        Some(parsed) => compile_parsed(host, parsed.places.source(), &parsed, expect, names).1,
        None => unknown_calls(host, &places),
    };
    let apart = |problem: &ScriptProblem| {
        problems.iter().all(|other| problem.span.end <= other.span.start || other.span.end <= problem.span.start)
    };
    // The kind of the answer is reported for a readable script only: its range is the whole script.
    let more: Vec<ScriptProblem> = more.into_iter().filter(|found| found.is_error() && apart(found)).collect();
    problems.extend(more);
    problems.sort_by_key(|problem| problem.span.start);
    problems.truncate(limits::PROBLEMS);
    problems
}

/// Reports names before `(` that name no function.
fn unknown_calls(host: &ScriptHost, places: &SourceText) -> Vec<ScriptProblem> {
    let own: Vec<&str> = places
        .tokens
        .windows(2)
        .filter(|pair| places.text(&pair[0]) == "fn")
        .map(|pair| places.text(&pair[1]))
        .collect();
    let mut problems = Vec::new();
    for (index, pair) in places.tokens.windows(2).enumerate() {
        let name = places.text(&pair[0]);
        let before = index.checked_sub(1).and_then(|before| places.token(before));
        let is_call = pair[0].kind == TokenKind::Name
            && places.text(&pair[1]) == "("
            && !matches!(before, Some("." | "?." | "fn"));
        let keyword =
            matches!(name, "if" | "while" | "for" | "in" | "return" | "throw" | "else" | "and" | "or" | "not");
        if !is_call || keyword || own.contains(&name) || host.shared.keys().any(|(known, _)| known == name) {
            continue;
        }
        let names = || SIGNATURES.iter().map(|s| s.name).chain(PLAIN.iter().map(|(plain, _)| *plain));
        let is_method = Iteration::of(name).is_some() || Change::of(name).is_some() || name == "get";
        if names().any(|known| known == name) || library_of(name).is_some() || is_method {
            continue;
        }
        let help = near(name, names()).map(|found| format!("did you mean `{found}`?"));
        problems.push(ScriptProblem::error(
            pair[0].span.clone(),
            "unknown-function",
            format!("there is no function `{name}`"),
            help,
        ));
    }
    problems
}

#[cfg(test)]
mod tests;
