//! The Rhai parser as conditions get it, and a policy's own functions (`rules/**/*.rhai`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rhai::{Engine, OptimizationLevel, Position};
use smol_str::SmolStr;

use crate::ast::Function;
use crate::functions::{PLAIN, signature_of};
use crate::library::library_of;
use crate::limits;
use crate::lower::{self, Known, Lowered};
use crate::parse::{Parsed, parse};
use crate::problem::{ProblemSeverity, ScriptProblem};
use crate::read::Read;

/// Rhai without packages: it only parses.
fn parser() -> Engine {
    let mut engine = Engine::new_raw();
    limits::apply(&mut engine);
    // The default optimiser would fold `last("x") && true` to `last("x")`.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_fast_operators(false);
    for symbol in ["eval", "import", "export"] {
        engine.disable_symbol(symbol);
    }
    engine
}

/// A function of the policy, and what it reads and calls.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// Its place among the policy's functions.
    pub index: usize,
    pub reads: Vec<Read>,
    pub reads_are_static: bool,
    pub calls: BTreeSet<usize>,
}

/// The rule language with a policy's own functions (`rules/**/*.rhai`); conditions are compiled with it.
pub struct ScriptHost {
    pub(crate) engine: Engine,
    pub(crate) functions: Arc<Vec<Function>>,
    /// By name and number of parameters.
    pub(crate) shared: BTreeMap<(String, usize), Shared>,
    /// Of the functions' texts.
    pub(crate) hash: u64,
}

impl ScriptHost {
    /// Compiles the functions of every `.rhai` file, given as (file, source).
    ///
    /// # Errors
    /// Every problem found, each with its file.
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
            for definition in parsed.named_functions() {
                let body = lower::function(parsed, definition, &known);
                problems.extend(body.problems.iter().map(|problem| ((*file).clone(), problem.clone())));
                if let Some(index) = known.get(&(definition.name.to_string(), definition.params.len())) {
                    lowered.insert(*index, body);
                }
            }
        }
        // A warning about a function does not keep the policy from being loaded.
        problems.retain(|(_, problem)| problem.is_error());
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
            let facts = Shared { index, reads: body.reads, reads_are_static: body.reads_are_static, calls: body.calls };
            shared.insert((name, params), facts);
        }
        let mut sorted: Vec<&(String, String)> = texts.iter().collect();
        sorted.sort();
        let hash = sorted.iter().fold(FNV_START, |hash, (_, text)| fnv(fnv(hash, text.as_bytes()), &[0]));
        ScriptHost { engine, functions: Arc::new(functions.into_values().collect()), shared, hash }
    }

    pub(crate) fn known(&self) -> Known {
        self.shared.iter().map(|(key, shared)| (key.clone(), shared.index)).collect()
    }

    /// The policy's functions that `calls` reach directly or through others, in order.
    pub(crate) fn reachable(&self, calls: &BTreeSet<usize>) -> Vec<&Shared> {
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

/// Reports statements outside of functions, and functions named like one of the language.
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

pub(crate) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: the same on every machine and in every version, unlike the standard library's hashers.
pub(crate) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
