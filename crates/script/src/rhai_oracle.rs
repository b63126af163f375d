//! Rhai as the oracle of property tests: it runs a script itself, with the operators, functions and limits of the rule
//! language, and the tests compare its answer with the interpreter's.
//!
//! Three things are registered anew because Rhai's own meaning knows no unknown: operators, `some` and `all`, and
//! functions of lists that get nothing. `&&` and `||` look at both sides here, where the interpreter stops as soon as
//! the answer is known; without a failing side the answer is the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::packages::{BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, Package};
use rhai::{
    AST, Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, NativeCallContext, OptimizationLevel, Position,
    Scope, Token,
};
use smol_str::SmolStr;

use crate::ast::{bytes_of, inside, seconds_of, setting};
use crate::evidence::{Evidence, Reading, Vars};
use crate::functions::{SIGNATURES, Signature};
use crate::library::{LIBRARY, call, range};
use crate::limits;
use crate::operators::{Arith, Compare, arith, compare, contains, negate};
use crate::read::{Read, plan};
use crate::value::Value;
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
pub(crate) struct Oracle {
    engine: Engine,
    /// The policy's functions.
    functions: AST,
}

/// A script as Rhai runs it.
#[derive(Clone)]
pub(crate) struct Script {
    oracle: Arc<Oracle>,
    ast: AST,
}

impl Oracle {
    /// `functions` are texts that Rhai could read.
    pub fn new<'t>(functions: impl Iterator<Item = &'t str>) -> Oracle {
        let engine = engine();
        let mut all = AST::empty();
        for text in functions {
            if let Ok(ast) = engine.compile(text) {
                all += ast.clone_functions_only();
            }
        }
        Oracle { engine, functions: all }
    }

    /// `None`: Rhai cannot read it.
    pub fn script(self: &Arc<Self>, source: &str) -> Option<Script> {
        let ast = self.engine.compile(source).ok()?;
        Some(Script { oracle: self.clone(), ast: self.functions.merge(&ast) })
    }
}

impl Script {
    /// `known` are reads it will probably ask for.
    ///
    /// # Errors
    /// The script failed or exceeded a limit. Unknown is `Nothing`.
    pub fn run(&self, known: &[Read], vars: &Vars, evidence: &dyn Evidence) -> Result<Value, String> {
        let answers = known.iter().map(|read| (read.clone(), evidence.read(read))).collect();
        DESK.set(Desk { answers, missing: None, settings: vars.settings.clone() });
        let outcome = self.run_until_answered(vars, evidence);
        evidence.spent(OPERATIONS.take());
        DESK.set(Desk::default());
        outcome
    }

    fn run_until_answered(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Value, String> {
        for _ in 0..MAX_RUNS {
            let mut scope = scope(vars);
            let outcome = self.oracle.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &self.ast);
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
fn explained(error: EvalAltResult) -> Result<Value, String> {
    match error {
        EvalAltResult::ErrorMismatchDataType(wanted, found, _) if found == "()" && wanted == "bool" => {
            Ok(Value::Nothing)
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
    limits::apply(&mut engine);
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
                    (Some(signature), Some(Value::Text(_))) => asked(signature, args),
                    _ => given(call(library, args)),
                }
            });
        }
    }
    closures(engine);
    // the package's own gives no list
    engine.register_fn("range", |from: i64, to: i64| given(range(&Value::Int(from), &Value::Int(to), false)));
    register(engine, "has", 1, |args| Ok((args[0] != Value::Nothing).into()));
    register(engine, "duration", 1, |args| given(seconds_of(&args[0])));
    register(engine, "size", 1, |args| given(bytes_of(&args[0])));
    register(engine, "setting", 1, |args| match &args[0] {
        Value::Text(path) => DESK.with_borrow(|desk| Ok(to_dynamic(&setting(&desk.settings, path)))),
        Value::Nothing => Ok(Dynamic::UNIT),
        other => Err(failed(format!("`setting` needs a path such as \"cpu.warning\", not {}", other.kind()))),
    });
}

/// `some` and `all` with SQL's unknown; with nothing instead of a list, every function of lists gives nothing.
fn closures(engine: &mut Engine) {
    for (name, settles) in [("some", true), ("all", false)] {
        engine.register_fn(name, move |context: NativeCallContext<'_>, list: Array, closure: FnPtr| -> Answer {
            let mut unknown = false;
            for item in list {
                let given = closure.call_raw(&context, None, [item])?;
                match of_dynamic(&given).and_then(|value| value.truth()).map_err(failed)? {
                    Some(value) if value == settles => return Ok(settles.into()),
                    Some(_) => {}
                    None => unknown = true,
                }
            }
            Ok(if unknown { Dynamic::UNIT } else { (!settles).into() })
        });
    }
    for name in ["map", "filter", "find", "find_map", "some", "all", "index_of"] {
        engine.register_fn(name, |(): (), _: FnPtr| ());
    }
    engine.register_fn("reduce", |(): (), _: FnPtr, _: Dynamic| ());
}

/// Registers a function of `count` arguments of any kind.
fn register(
    engine: &mut Engine,
    name: &'static str,
    count: usize,
    function: impl Fn(&[Value]) -> Answer + Send + Sync + 'static,
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
fn asked(signature: &'static Signature, args: &[Value]) -> Answer {
    if args.contains(&Value::Nothing) {
        return Ok(Dynamic::UNIT);
    }
    let values: Vec<_> = args.iter().map(Value::as_arg).collect();
    let read = plan(signature, &values).map_err(|bad| failed(bad.message))?;
    DESK.with_borrow_mut(|desk| match desk.answers.get(&read) {
        Some(Ok(reading)) => Ok(to_dynamic(&Value::from(reading.clone()))),
        Some(Err(why)) => Err(failed(why.clone())),
        None => {
            desk.missing = Some(read);
            // cannot be caught by the script
            Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE)))
        }
    })
}

fn given(outcome: Result<Value, String>) -> Answer {
    outcome.map(|data| to_dynamic(&data)).map_err(failed)
}

fn failed(message: String) -> Box<EvalAltResult> {
    message.into()
}

/// The plain names, as constants.
fn scope(vars: &Vars) -> Scope<'static> {
    let whole = |map: &Map| to_dynamic(&inside::<&str>(map, &[]));
    let labels = vars.labels.iter().map(|(name, value)| (SmolStr::new(name), Value::text(value))).collect();
    let mut scope = Scope::new();
    scope.push_constant_dynamic("deployment", to_dynamic(&vars.deployment.clone().map_or(Value::Nothing, Value::Text)));
    scope.push_constant_dynamic("value", to_dynamic(&vars.value.map_or(Value::Nothing, Value::float)));
    let severity = vars.severity.map_or(Value::Nothing, |severity| Value::text(severity.as_str()));
    scope.push_constant_dynamic("severity", to_dynamic(&severity));
    scope.push_constant_dynamic("labels", to_dynamic(&Value::map(labels)));
    scope.push_constant_dynamic("settings", whole(&vars.settings));
    scope.push_constant_dynamic("inputs", whole(&vars.inputs));
    scope.push_constant_dynamic("steps", whole(&vars.steps));
    scope.push_constant_dynamic("failed", vars.failed.as_ref().map_or(Dynamic::UNIT, whole));
    scope
}

fn to_dynamic(data: &Value) -> Dynamic {
    match data {
        Value::Nothing => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Int(whole) => (*whole).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => ImmutableString::from(text.as_str()).into(),
        Value::List(items) => items.iter().map(to_dynamic).collect::<rhai::Array>().into(),
        Value::Map(entries) => {
            entries.iter().map(|(name, value)| (name.as_str().into(), to_dynamic(value))).collect::<rhai::Map>().into()
        }
    }
}

/// # Errors
/// It is of a kind that conditions do not compute with.
fn of_dynamic(value: &Dynamic) -> Result<Value, String> {
    if value.is_unit() {
        return Ok(Value::Nothing);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(Value::Bool(value));
    }
    if let Ok(whole) = value.as_int() {
        return Ok(Value::Int(whole));
    }
    if let Ok(number) = value.as_float() {
        return Ok(Value::float(number));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(Value::text(letter.to_string()));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(Value::text(text.as_str()));
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(of_dynamic).collect::<Result<_, _>>().map(Value::list);
    }
    if let Ok(entries) = value.as_map_ref() {
        let entries = entries.iter().map(|(name, value)| Ok((SmolStr::new(name.as_str()), of_dynamic(value)?)));
        return entries.collect::<Result<_, String>>().map(Value::map);
    }
    Err(format!("a condition cannot compute with a {}", value.type_name()))
}

mod tests;
