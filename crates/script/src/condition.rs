//! Rhai conditions: parsed once, evaluated with SQL's unknown.

use std::ops::Range;
use std::sync::Arc;

use smol_str::SmolStr;

use super::Truth;
use super::code::{Code, Function};
use super::data::Data;
use super::evidence::{About, Evidence, Read, Vars};
use super::functions::{PLAIN, SIGNATURES};
use super::host::{ScriptHost, fnv, limits};
use super::library::library_of;
use super::lower::{self, Type};
use super::machine::Machine;
use super::parse::{Parsed, Unreadable, problem, read};
use super::quick::Quick;
use super::reference::Script;
use super::scan::{Kind, Places};
use super::suggest::near;
use selfheal_model::Map;

/// What kind of answer a script must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Bool,
    Number,
}

/// The names that exist where a script stands, for checking at load.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    pub settings: Option<&'a Map>,
    /// `Some` in playbooks: the declared inputs.
    pub inputs: Option<&'a [String]>,
    /// Those of them that are secrets.
    pub secret_inputs: &'a [String],
    /// `Some` in playbooks: the ids of the steps before this one.
    pub steps: Option<&'a [String]>,
    /// Whether the rule has a `value:`.
    pub has_value: bool,
    /// Whether `failed` exists (in `rescue`).
    pub in_rescue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemSeverity {
    Error,
    Warning,
}

/// Something wrong in a script or a text, at a byte range of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptProblem {
    pub span: Range<usize>,
    pub severity: ProblemSeverity,
    /// A stable kebab-case code: `unknown-function`, `unknown-variable`, `wrong-arguments`, `not-rhai`, …
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
}

/// A compiled condition or value expression. Cheap to clone.
#[derive(Clone)]
pub struct Condition {
    compiled: Arc<Compiled>,
}

/// How a condition is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the small machine.
    Compiled,
    /// It has something that only Rhai can run.
    Rhai,
}

struct Compiled {
    source: String,
    /// Set where only Rhai can run it.
    script: Option<Script>,
    code: Code,
    locals: usize,
    /// The policy's functions, shared by all conditions, and the script's own.
    shared: Arc<Vec<Function>>,
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
    /// # Errors
    /// Every problem found, not only the first.
    pub fn compile(
        host: &ScriptHost,
        source: &str,
        expect: Expect,
        names: &Names<'_>,
    ) -> Result<(Condition, Vec<ScriptProblem>), Vec<ScriptProblem>> {
        let parsed = match read(&host.engine, source) {
            Ok(parsed) => parsed,
            Err(unreadable) => return Err(look_further(host, *unreadable, expect, names)),
        };
        let (compiled, problems) = lower_all(host, source, &parsed, expect, names);
        if problems.iter().any(|problem| problem.severity == ProblemSeverity::Error) {
            return Err(problems);
        }
        Ok((Condition { compiled: Arc::new(compiled) }, problems))
    }

    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// The reads whose arguments are constants, in order of appearance, without repeats.
    pub fn reads(&self) -> &[Read] {
        &self.compiled.reads
    }

    /// Whether it may look at this check of its deployment.
    pub fn reads_check(&self, check: &str) -> bool {
        !self.reads_are_static()
            || self
                .reads()
                .iter()
                .any(|read| matches!(read.func.about(), About::Check | About::CheckSeries) && read.subject == check)
    }

    pub fn way(&self) -> Way {
        if self.compiled.script.is_some() { Way::Rhai } else { Way::Compiled }
    }

    /// Whether every read is in [`Condition::reads`]; if not, it is evaluated on every event of its scope. A read whose
    /// arguments are settings is in there as the policy has them, but counts as not static: a deployment may override
    /// them.
    pub fn reads_are_static(&self) -> bool {
        self.compiled.reads_are_static
    }

    /// The condition as arithmetic over metrics, where it is nothing else, under these settings.
    pub fn quick(&self, settings: &Map) -> Option<Quick> {
        let compiled = &self.compiled;
        let plain = compiled.script.is_none() && compiled.locals == 0;
        plain.then(|| Quick::of(&compiled.code, settings)).flatten()
    }

    /// Equal for equal source under equal functions; what a reload compares.
    pub fn hash(&self) -> u64 {
        self.compiled.hash
    }

    /// Evaluates to a truth value.
    pub fn truth(&self, vars: &Vars, evidence: &dyn Evidence) -> Truth {
        match self.run(vars, evidence) {
            Ok(Data::Bool(true)) => Truth::True,
            Ok(Data::Bool(false)) => Truth::False,
            Ok(Data::Nothing) => Truth::NoData,
            Ok(other) => Truth::Error(SmolStr::new(format!("the answer is {}, not true or false", told(&other)))),
            Err(message) => Truth::Error(SmolStr::new(message)),
        }
    }

    /// Evaluates to a number; `Ok(None)` is no data.
    ///
    /// # Errors
    /// The script failed, exceeded a limit or gave something else than a number.
    pub fn number(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Option<f64>, String> {
        match self.run(vars, evidence)? {
            Data::Nothing => Ok(None),
            data => match data.number() {
                Some(number) => Ok(Some(number)),
                None => Err(format!("the answer is {}, not a number", told(&data))),
            },
        }
    }

    fn run(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Data, String> {
        let compiled = &self.compiled;
        if let Some(script) = &compiled.script {
            return script.run(&compiled.reads, vars, evidence);
        }
        let mut machine = Machine::new(vars, evidence, &compiled.shared, &compiled.own);
        let outcome = machine.run(&compiled.code, compiled.locals);
        evidence.spent(machine.operations());
        outcome
    }
}

/// A value for a message, cut where it is long.
fn told(data: &Data) -> String {
    const SHOWN: usize = 60;
    match data {
        Data::Bool(value) => value.to_string(),
        Data::Int(_) | Data::Float(_) => format!("the number {}", data.print()),
        Data::Text(text) => format!("the text \"{}\"", text.chars().take(SHOWN).collect::<String>()),
        other => other.kind().to_owned(),
    }
}

/// Lowers a script with the functions it defines itself.
fn lower_all(
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
    let mut beyond = body.beyond;
    let mut problems = body.problems;
    check_answer(parsed, expect, body.gives, &mut problems);

    let mut reads = body.reads;
    let mut reads_are_static = body.reads_are_static;
    let mut calls = body.calls;
    let mut own = Vec::new();
    for definition in parsed.named_functions() {
        let function = lower::function(parsed, definition, &known);
        beyond |= function.beyond;
        problems.extend(function.problems);
        add_reads(&mut reads, &function.reads);
        reads_are_static &= function.reads_are_static;
        calls.extend(function.calls);
        own.push(Function { name: definition.name.clone(), locals: function.locals, body: function.code });
    }
    if beyond {
        let within = lower::closures(parsed, &known);
        add_reads(&mut reads, &within.reads);
        reads_are_static &= within.reads_are_static;
        calls.extend(within.calls);
    }
    for shared in host.reachable(&calls) {
        beyond |= shared.beyond;
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
    let script = if beyond { host.reference.script(&source) } else { None };
    let compiled =
        Compiled { source, script, code: body.code, locals: body.locals, shared, own, reads, reads_are_static, hash };
    (compiled, problems)
}

fn add_reads(reads: &mut Vec<Read>, more: &[Read]) {
    for read in more {
        if !reads.contains(read) {
            reads.push(read.clone());
        }
    }
}

/// Complains about an answer that is certainly of the wrong kind.
fn check_answer(parsed: &Parsed, expect: Expect, gives: Type, problems: &mut Vec<ScriptProblem>) {
    let right = matches!((expect, gives), (_, Type::Any) | (Expect::Bool, Type::Bool) | (Expect::Number, Type::Number));
    // An error elsewhere may be why the answer looks wrong.
    if right || problems.iter().any(|problem| problem.severity == ProblemSeverity::Error) {
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
    problems.push(problem(parsed.places.whole(), code, message.to_owned(), Some(help.to_owned())));
}

/// What else is wrong with a text that could not be read: the mended text is lowered where there is one, else its
/// calls are looked at word by word.
fn look_further(host: &ScriptHost, unreadable: Unreadable, expect: Expect, names: &Names<'_>) -> Vec<ScriptProblem> {
    let Unreadable { mut problems, mended, places } = unreadable;
    let more = match mended {
        Some(parsed) => lower_all(host, parsed.places.source(), &parsed, expect, names).1,
        None => unknown_calls(host, &places),
    };
    let apart = |problem: &ScriptProblem| {
        problems.iter().all(|other| problem.span.end <= other.span.start || other.span.end <= problem.span.start)
    };
    // The answer's kind is told of a readable script only: its range is the whole text.
    let more: Vec<ScriptProblem> =
        more.into_iter().filter(|found| found.severity == ProblemSeverity::Error && apart(found)).collect();
    problems.extend(more);
    problems.sort_by_key(|problem| problem.span.start);
    problems.truncate(limits::PROBLEMS);
    problems
}

/// Names before `(` that are no functions.
fn unknown_calls(host: &ScriptHost, places: &Places) -> Vec<ScriptProblem> {
    let own: Vec<&str> = places
        .words
        .windows(2)
        .filter(|pair| places.text(&pair[0]) == "fn")
        .map(|pair| places.text(&pair[1]))
        .collect();
    let mut problems = Vec::new();
    for (index, pair) in places.words.windows(2).enumerate() {
        let name = places.text(&pair[0]);
        let before = index.checked_sub(1).and_then(|before| places.word(before));
        let is_call =
            pair[0].kind == Kind::Name && places.text(&pair[1]) == "(" && !matches!(before, Some("." | "?." | "fn"));
        let keyword =
            matches!(name, "if" | "while" | "for" | "in" | "return" | "throw" | "else" | "and" | "or" | "not");
        if !is_call || keyword || own.contains(&name) || host.shared.keys().any(|(known, _)| known == name) {
            continue;
        }
        let names = || SIGNATURES.iter().map(|s| s.name).chain(PLAIN.iter().map(|(plain, _)| *plain));
        if names().any(|known| known == name) || library_of(name).is_some() {
            continue;
        }
        let help = near(name, names()).map(|found| format!("did you mean `{found}`?"));
        problems.push(problem(
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
