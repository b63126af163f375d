//! Scripts that Rhai runs itself: what the small language of [`lower`](super::lower) does not know (`switch`, closures,
//! `try`, assignment to elements) is run by Rhai, with the same operators, functions and limits.
//!
//! Invariant: operators and functions are those of [`data`](super::data) and [`library`](super::library), so both ways
//! give the same answer. One thing differs: `&&` and `||` look at both sides here, where the other way stops as soon as
//! the answer is known; without a failing side the answer is the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::packages::{BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, Package};
use rhai::{AST, Dynamic, Engine, EvalAltResult, ImmutableString, OptimizationLevel, Position, Scope, Token};
use smol_str::SmolStr;

use super::code::{bytes_of, inside, seconds_of, setting};
use super::data::{Arith, Compare, Data, arith, compare, contains, negate};
use super::evidence::{Evidence, Read, Reading, Vars};
use super::functions::{SIGNATURES, Signature, plan};
use super::host::{limit, limits};
use super::library::{LIBRARY, call, library_of, range};
use selfheal_model::Map;

/// What `&&` and `||` are read as: Rhai's own know no unknown.
const AND: &str = "and_unless_unknown";
const OR: &str = "or_unless_unknown";
/// A run that needs an answer it does not have ends, and begins anew with it: at most so often.
const MAX_RUNS: usize = 64;

type Answer = Result<Dynamic, Box<EvalAltResult>>;

/// What the functions of a run read. A script cannot borrow, so it is laid out beside it, on the thread that runs it.
#[derive(Default)]
struct Desk {
    answers: BTreeMap<Read, Result<Reading, String>>,
    /// What was asked for and is not there.
    missing: Option<Read>,
    settings: Arc<Map>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
    /// What the script that runs has spent.
    static OPERATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Rhai with the functions of the rule language.
pub(super) struct Reference {
    engine: Engine,
    /// The policy's functions.
    functions: AST,
}

/// A script as Rhai runs it.
#[derive(Clone)]
pub(super) struct Script {
    reference: Arc<Reference>,
    ast: AST,
}

impl Reference {
    /// `functions` are texts that Rhai could read.
    pub fn new<'t>(functions: impl Iterator<Item = &'t str>) -> Reference {
        let engine = engine();
        let mut all = AST::empty();
        for text in functions {
            if let Ok(ast) = engine.compile(text) {
                all += ast.clone_functions_only();
            }
        }
        Reference { engine, functions: all }
    }

    /// `None`: Rhai cannot read it.
    pub fn script(self: &Arc<Self>, source: &str) -> Option<Script> {
        let ast = self.engine.compile(source).ok()?;
        Some(Script { reference: self.clone(), ast: self.functions.merge(&ast) })
    }
}

impl Script {
    /// `known` are reads it will probably ask for.
    ///
    /// # Errors
    /// The script failed or exceeded a limit. Unknown is `Nothing`.
    pub fn run(&self, known: &[Read], vars: &Vars, evidence: &dyn Evidence) -> Result<Data, String> {
        let answers = known.iter().map(|read| (read.clone(), evidence.read(read))).collect();
        DESK.set(Desk { answers, missing: None, settings: vars.settings.clone() });
        let outcome = self.run_until_answered(vars, evidence);
        evidence.spent(OPERATIONS.take());
        DESK.set(Desk::default());
        outcome
    }

    fn run_until_answered(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Data, String> {
        for _ in 0..MAX_RUNS {
            let mut scope = scope(vars);
            let outcome = self.reference.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &self.ast);
            let missing = DESK.with_borrow_mut(|desk| desk.missing.take());
            if let Some(read) = missing {
                let answer = evidence.read(&read);
                DESK.with_borrow_mut(|desk| desk.answers.insert(read, answer));
                continue;
            }
            return match outcome {
                Ok(value) => of_dynamic(&value)?.bounded(),
                Err(error) => explained(*error),
            };
        }
        Err(format!("the script asks for more than {MAX_RUNS} things that are only known when it runs"))
    }
}

/// An `if` or a loop that asked something unknown has no answer; everything else went wrong.
fn explained(error: EvalAltResult) -> Result<Data, String> {
    match error {
        EvalAltResult::ErrorMismatchDataType(wanted, found, _) if found == "()" && wanted == "bool" => {
            Ok(Data::Nothing)
        }
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => explained(*inner),
        EvalAltResult::ErrorTooManyOperations(_) => {
            Err(format!("the script was cut off after {} operations", limits::OPERATIONS))
        }
        EvalAltResult::ErrorRuntime(why, _) => Err(why.to_string()),
        mut other => {
            // the place is Rhai's own, in a text that people know by its file
            let _ = other.take_position();
            Err(other.to_string())
        }
    }
}

fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    limit(&mut engine);
    engine.set_optimization_level(OptimizationLevel::None);
    // built-in operators divide whole numbers and know no unknown
    engine.set_fast_operators(false);
    for symbol in ["eval", "import", "export", "Fn", "exit", "sleep"] {
        engine.disable_symbol(symbol);
    }
    engine.on_progress(|_| {
        OPERATIONS.set(OPERATIONS.get() + 1);
        None
    });
    engine.on_print(|_| {}).on_debug(|_, _, _| {});
    BasicFnPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    operators(&mut engine);
    functions(&mut engine);
    engine
}

#[expect(deprecated, reason = "the one way to give an operator of Rhai another meaning")]
fn operators(engine: &mut Engine) {
    let precedence = |name: &str| if name == AND { 60 } else { 30 };
    for name in [AND, OR] {
        engine.register_custom_operator(name, precedence(name)).expect("a plain word may be an operator");
        let settles = name == OR;
        engine.register_fn(name, move |left: Dynamic, right: Dynamic| decided(&left, &right, settles));
    }
    engine.on_parse_token(|token, _, _| match token {
        Token::And => Token::Custom(Box::new(AND.into())),
        Token::Or => Token::Custom(Box::new(OR.into())),
        other => other,
    });
    for symbol in ["+", "-", "*", "/", "%", "**"] {
        let Some(op) = Arith::of(symbol) else { continue };
        let both = move |left: Dynamic, right: Dynamic| {
            given(arith(op, &of_dynamic(&left).map_err(failed)?, &of_dynamic(&right).map_err(failed)?))
        };
        engine.register_fn(symbol, both);
    }
    for symbol in ["==", "!=", "<", "<=", ">", ">="] {
        let Some(op) = Compare::of(symbol) else { continue };
        let both = move |left: Dynamic, right: Dynamic| {
            given(compare(op, &of_dynamic(&left).map_err(failed)?, &of_dynamic(&right).map_err(failed)?))
        };
        engine.register_fn(symbol, both);
    }
    engine.register_fn("-", |value: Dynamic| given(negate(&of_dynamic(&value).map_err(failed)?)));
    engine.register_fn("!", |value: Dynamic| {
        let truth = of_dynamic(&value).and_then(|data| data.truth()).map_err(failed)?;
        Ok::<_, Box<EvalAltResult>>(truth.map_or(Dynamic::UNIT, |value| (!value).into()))
    });
    // what `item in holder` is
    engine.register_fn("contains", |holder: Dynamic, item: Dynamic| {
        given(contains(&of_dynamic(&holder).map_err(failed)?, &of_dynamic(&item).map_err(failed)?))
    });
}

/// `&&` or `||` as SQL has them; `settles` is what decides whatever the other side is.
fn decided(left: &Dynamic, right: &Dynamic, settles: bool) -> Answer {
    let truth = |side: &Dynamic| of_dynamic(side).and_then(|data| data.truth()).map_err(failed);
    let left = truth(left)?;
    if left == Some(settles) {
        return Ok(settles.into());
    }
    Ok(match (left, truth(right)?) {
        (_, Some(right)) if right == settles => settles.into(),
        (Some(_), Some(_)) => (!settles).into(),
        _ => Dynamic::UNIT,
    })
}

fn functions(engine: &mut Engine) {
    for signature in &SIGNATURES {
        let (least, most) = signature.arity();
        for count in least..=most {
            if signature.name == "min" || signature.name == "max" {
                continue;
            }
            register(engine, signature.name, count, move |args| asked(signature, args));
        }
    }
    for library in &LIBRARY {
        if library.name == "contains" {
            continue;
        }
        for count in library.arity.0..=library.arity.1 {
            register(engine, library.name, count, move |args| {
                // of a metric, or of two values
                let signature = SIGNATURES.iter().find(|signature| signature.name == library.name);
                match (signature, args.first()) {
                    (Some(signature), Some(Data::Text(_))) => asked(signature, args),
                    _ => given(call(library, args)),
                }
            });
        }
    }
    // the package's own gives no list
    engine.register_fn("range", |from: i64, to: i64| given(range(&Data::Int(from), &Data::Int(to), false)));
    register(engine, "has", 1, |args| Ok((args[0] != Data::Nothing).into()));
    register(engine, "duration", 1, |args| given(seconds_of(&args[0])));
    register(engine, "size", 1, |args| given(bytes_of(&args[0])));
    register(engine, "setting", 1, |args| match &args[0] {
        Data::Text(path) => DESK.with_borrow(|desk| Ok(to_dynamic(&setting(&desk.settings, path)))),
        Data::Nothing => Ok(Dynamic::UNIT),
        other => Err(failed(format!("`setting` needs a path such as \"cpu.warning\", not {}", other.kind()))),
    });
}

/// Registers a function of `count` arguments of any kind.
fn register(
    engine: &mut Engine,
    name: &'static str,
    count: usize,
    function: impl Fn(&[Data]) -> Answer + Send + Sync + 'static,
) {
    let data = |values: &[Dynamic]| values.iter().map(of_dynamic).collect::<Result<Vec<_>, _>>().map_err(failed);
    match count {
        0 => engine.register_fn(name, move || function(&[])),
        1 => engine.register_fn(name, move |a: Dynamic| function(&data(&[a])?)),
        2 => engine.register_fn(name, move |a: Dynamic, b: Dynamic| function(&data(&[a, b])?)),
        _ => engine.register_fn(name, move |a: Dynamic, b: Dynamic, c: Dynamic| function(&data(&[a, b, c])?)),
    };
}

/// Takes an answer from the desk, or ends the run to have it laid there.
fn asked(signature: &'static Signature, args: &[Data]) -> Answer {
    if args.contains(&Data::Nothing) {
        return Ok(Dynamic::UNIT);
    }
    let values: Vec<_> = args.iter().map(Data::as_arg).collect();
    let read = plan(signature, &values).map_err(|bad| failed(bad.message))?;
    DESK.with_borrow_mut(|desk| match desk.answers.get(&read) {
        Some(Ok(reading)) => Ok(to_dynamic(&Data::from(reading.clone()))),
        Some(Err(why)) => Err(failed(why.clone())),
        None => {
            desk.missing = Some(read);
            // cannot be caught by the script
            Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE)))
        }
    })
}

fn given(outcome: Result<Data, String>) -> Answer {
    outcome.map(|data| to_dynamic(&data)).map_err(failed)
}

fn failed(message: String) -> Box<EvalAltResult> {
    message.into()
}

/// The plain names, as constants.
fn scope(vars: &Vars) -> Scope<'static> {
    let whole = |map: &Map| to_dynamic(&inside::<&str>(map, &[]));
    let labels = vars.labels.iter().map(|(name, value)| (SmolStr::new(name), Data::text(value))).collect();
    let mut scope = Scope::new();
    scope.push_constant_dynamic("deployment", to_dynamic(&vars.deployment.clone().map_or(Data::Nothing, Data::Text)));
    scope.push_constant_dynamic("value", to_dynamic(&vars.value.map_or(Data::Nothing, Data::float)));
    let severity = vars.severity.map_or(Data::Nothing, |severity| Data::text(severity.as_str()));
    scope.push_constant_dynamic("severity", to_dynamic(&severity));
    scope.push_constant_dynamic("labels", to_dynamic(&Data::map(labels)));
    scope.push_constant_dynamic("settings", whole(&vars.settings));
    scope.push_constant_dynamic("inputs", whole(&vars.inputs));
    scope.push_constant_dynamic("steps", whole(&vars.steps));
    scope.push_constant_dynamic("failed", vars.failed.as_ref().map_or(Dynamic::UNIT, whole));
    scope
}

fn to_dynamic(data: &Data) -> Dynamic {
    match data {
        Data::Nothing => Dynamic::UNIT,
        Data::Bool(value) => (*value).into(),
        Data::Int(whole) => (*whole).into(),
        Data::Float(number) => (*number).into(),
        Data::Text(text) => ImmutableString::from(text.as_str()).into(),
        Data::List(items) => items.iter().map(to_dynamic).collect::<rhai::Array>().into(),
        Data::Map(entries) => {
            entries.iter().map(|(name, value)| (name.as_str().into(), to_dynamic(value))).collect::<rhai::Map>().into()
        }
    }
}

/// # Errors
/// It is of a kind that conditions do not compute with.
fn of_dynamic(value: &Dynamic) -> Result<Data, String> {
    if value.is_unit() {
        return Ok(Data::Nothing);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(Data::Bool(value));
    }
    if let Ok(whole) = value.as_int() {
        return Ok(Data::Int(whole));
    }
    if let Ok(number) = value.as_float() {
        return Ok(Data::float(number));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(Data::text(letter.to_string()));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(Data::text(text.as_str()));
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(of_dynamic).collect::<Result<_, _>>().map(Data::list);
    }
    if let Ok(entries) = value.as_map_ref() {
        let entries = entries.iter().map(|(name, value)| Ok((SmolStr::new(name.as_str()), of_dynamic(value)?)));
        return entries.collect::<Result<_, String>>().map(Data::map);
    }
    Err(format!("a condition cannot compute with a {}", value.type_name()))
}

/// Functions that only Rhai has: of lists and maps, most of them with closures. `curry` is what Rhai makes of a closure that
/// uses a variable around it.
const ONLY_RHAI: [&str; 34] = [
    "all",
    "append",
    "chop",
    "clear",
    "concat",
    "curry",
    "dedup",
    "drain",
    "extract",
    "fill_with",
    "filter",
    "find",
    "find_index",
    "find_map",
    "for_each",
    "get",
    "insert",
    "map",
    "mixin",
    "order",
    "order_desc",
    "pad",
    "pop",
    "push",
    "reduce",
    "reduce_rev",
    "remove",
    "retain",
    "set",
    "shift",
    "some",
    "splice",
    "truncate",
    "zip",
];

/// Whether only Rhai knows the function, and not the small language.
pub(super) fn is_of_rhai(name: &str) -> bool {
    ONLY_RHAI.contains(&name) && library_of(name).is_none()
}

#[cfg(test)]
mod tests;
