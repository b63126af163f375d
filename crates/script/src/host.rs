//! The Rhai engine as conditions get it, every limit in one place, and a policy's own functions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rhai::{Engine, OptimizationLevel, Position};
use smol_str::SmolStr;

use super::code::Function;
use super::condition::{ProblemSeverity, ScriptProblem};
use super::evidence::Read;
use super::functions::{PLAIN, signature_of};
use super::library::library_of;
use super::lower::{self, Known, Lowered};
use super::parse::{Parsed, parse};
use super::reference::Reference;

/// What a script may use at most. Each keeps one bad file from holding up the rest of the engine.
pub(super) mod limits {
    /// Length of a condition or a file of functions.
    pub const SOURCE_BYTES: usize = 64 * 1024;
    /// Brackets within brackets, as written; bounds the parser's stack.
    pub const BRACKETS: usize = 32;
    /// Operators in one statement; bounds how deep a chain of them makes the tree.
    pub const OPERATORS: usize = 128;
    /// `else` in one script; each makes the tree deeper.
    pub const ELSES: usize = 64;
    /// Depth of an expression, as parsed.
    pub const EXPRESSION_DEPTH: usize = 64;
    /// Steps of one evaluation; large values count more than once.
    pub const OPERATIONS: u64 = 100_000;
    /// Functions within functions, at run time.
    pub const CALLS: usize = 16;
    /// Depth of one evaluation over all functions; bounds its stack.
    pub const NESTING: usize = 160;
    pub const TEXT_BYTES: usize = 16 * 1024;
    pub const LIST_ITEMS: usize = 1_000;
    pub const MAP_ENTRIES: usize = 500;
    /// What a list or map holds, all levels together; bounds comparing, printing and dropping it.
    pub const VALUE_ITEMS: usize = 20_000;
    /// Lists in lists.
    pub const VALUE_DEPTH: usize = 16;
    pub const FUNCTIONS: usize = 512;
    pub const VARIABLES: usize = 128;
    /// Problems told about one script; after that nobody reads on.
    pub const PROBLEMS: usize = 20;
}

/// The only function that sets limits of the Rhai engine.
pub(super) fn limit(engine: &mut Engine) {
    engine.set_max_expr_depths(limits::EXPRESSION_DEPTH, limits::EXPRESSION_DEPTH);
    engine.set_max_operations(limits::OPERATIONS);
    engine.set_max_call_levels(limits::CALLS);
    engine.set_max_string_size(limits::TEXT_BYTES);
    engine.set_max_array_size(limits::LIST_ITEMS);
    engine.set_max_map_size(limits::MAP_ENTRIES);
    engine.set_max_functions(limits::FUNCTIONS);
    engine.set_max_variables(limits::VARIABLES);
    engine.set_max_modules(0);
}

/// Rhai without packages: it only parses here. What it runs itself is the [`Reference`]'s.
fn parser() -> Engine {
    let mut engine = Engine::new_raw();
    limit(&mut engine);
    // The default optimiser would fold `last("x") && true` to `last("x")`.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_fast_operators(false);
    for symbol in ["eval", "import", "export"] {
        engine.disable_symbol(symbol);
    }
    engine
}

/// A policy's function and what it reads.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub index: usize,
    pub reads: Vec<Read>,
    pub reads_are_static: bool,
    pub calls: BTreeSet<usize>,
    pub beyond: bool,
}

/// Compiles conditions: the rule language plus a policy's own functions (`rules/**/*.rhai`).
pub struct ScriptHost {
    pub(super) engine: Engine,
    pub(super) functions: Arc<Vec<Function>>,
    /// By name and number of parameters.
    pub(super) shared: BTreeMap<(String, usize), Shared>,
    /// Of the functions' texts.
    pub(super) hash: u64,
    pub(super) reference: Arc<Reference>,
}

impl ScriptHost {
    /// `functions`: (file, text) of every `.rhai` file.
    ///
    /// # Errors
    /// Per file, what is wrong in it.
    pub fn new(functions: &[(String, String)]) -> Result<ScriptHost, Vec<(String, ScriptProblem)>> {
        let engine = parser();
        let mut problems = Vec::new();
        let mut files = Vec::new();
        for (file, text) in functions {
            match parse(&engine, text) {
                Ok(parsed) => files.push((file, parsed)),
                Err(found) => problems.extend(found.into_iter().map(|problem| (file.clone(), problem))),
            }
        }

        let mut known: Known = Known::new();
        for (file, parsed) in &files {
            problems.extend(check_outline(parsed).into_iter().map(|problem| ((*file).clone(), problem)));
            for definition in parsed.named_functions() {
                let index = known.len();
                let key = (definition.name.to_string(), definition.params.len());
                if known.insert(key, index).is_some() {
                    let problem = at(parsed, definition.at, "duplicate-function", {
                        format!("a function `{}` with {} parameters exists already", definition.name, {
                            definition.params.len()
                        })
                    });
                    problems.push(((*file).clone(), problem));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let mut lowered: BTreeMap<usize, Lowered> = BTreeMap::new();
        for (file, parsed) in &files {
            let within = lower::closures(parsed, &known);
            for definition in parsed.named_functions() {
                let mut body = lower::function(parsed, definition, &known);
                body.take_in(&within);
                problems.extend(body.problems.iter().map(|problem| ((*file).clone(), problem.clone())));
                if let Some(index) = known.get(&(definition.name.to_string(), definition.params.len())) {
                    lowered.insert(*index, body);
                }
            }
        }
        // A warning about a function does not keep the policy out; it is told where a condition calls the function.
        problems.retain(|(_, problem)| problem.severity == ProblemSeverity::Error);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(ScriptHost::of(engine, functions, known, lowered))
    }

    fn of(
        engine: Engine,
        texts: &[(String, String)],
        known: Known,
        mut lowered: BTreeMap<usize, Lowered>,
    ) -> ScriptHost {
        let mut functions = BTreeMap::new();
        let mut shared = BTreeMap::new();
        for ((name, params), index) in known {
            let Some(body) = lowered.remove(&index) else { continue };
            let function = Function { name: SmolStr::new(&name), locals: body.locals, body: body.code };
            functions.insert(index, function);
            let facts = Shared {
                index,
                reads: body.reads,
                reads_are_static: body.reads_are_static,
                calls: body.calls,
                beyond: body.beyond,
            };
            shared.insert((name, params), facts);
        }
        let mut sorted: Vec<&(String, String)> = texts.iter().collect();
        sorted.sort();
        let hash = sorted.iter().fold(FNV_START, |hash, (_, text)| fnv(fnv(hash, text.as_bytes()), &[0]));
        let reference = Arc::new(Reference::new(texts.iter().map(|(_, text)| text.as_str())));
        ScriptHost { engine, functions: Arc::new(functions.into_values().collect()), shared, hash, reference }
    }

    pub(super) fn known(&self) -> Known {
        self.shared.iter().map(|(key, shared)| (key.clone(), shared.index)).collect()
    }

    /// The policy's functions that `calls` reach, in order.
    pub(super) fn reachable(&self, calls: &BTreeSet<usize>) -> Vec<&Shared> {
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut open: Vec<usize> = calls.iter().copied().collect();
        let mut found = Vec::new();
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            if let Some(shared) = self.shared.values().find(|shared| shared.index == index) {
                open.extend(&shared.calls);
                found.push(shared);
            }
        }
        found.sort_by_key(|shared| shared.index);
        found
    }
}

fn at(parsed: &Parsed, position: Position, code: &'static str, message: String) -> ScriptProblem {
    let span = parsed.places.span(position);
    ScriptProblem { span, severity: ProblemSeverity::Error, code, message, help: None }
}

/// A file of functions holds functions only, none of which hides one of the language.
fn check_outline(parsed: &Parsed) -> Vec<ScriptProblem> {
    let mut problems = Vec::new();
    if let Some(statement) = parsed.statements.iter().find(|statement| !statement.is_noop()) {
        let message = "a .rhai file holds functions only; this statement would never run".to_owned();
        problems.push(at(parsed, statement.position(), "only-functions", message));
    }
    for definition in parsed.named_functions() {
        let name = definition.name.as_str();
        if signature_of(name).is_some() || library_of(name).is_some() || PLAIN.iter().any(|(plain, _)| *plain == name) {
            let message = format!("`{name}` is a function of the language; give this one another name");
            problems.push(at(parsed, definition.at, "taken-name", message));
        }
    }
    problems
}

pub(super) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: the same on every machine and in every version, unlike the standard library's hashers.
pub(super) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
