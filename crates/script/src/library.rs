//! The functions that only compute: of numbers, texts, lists and maps.
//!
//! Invariant: a missing argument makes the result missing, and no result depends on the machine (`libm`, no locale).

use crate::operators::{Compare, compare};
use crate::value::Value;

/// A function that reads nothing but its arguments.
#[derive(Debug)]
pub(crate) struct Library {
    pub name: &'static str,
    pub arity: (usize, usize),
    pub shape: &'static str,
    pub call: fn(&[Value]) -> Result<Value, String>,
}

const fn entry(
    name: &'static str,
    arity: (usize, usize),
    shape: &'static str,
    call: fn(&[Value]) -> Result<Value, String>,
) -> Library {
    Library { name, arity, shape, call }
}

#[rustfmt::skip]
pub(crate) static LIBRARY: [Library; 33] = [
    entry("abs", (1, 1), "abs(x)", |args| numeric(args, f64::abs)),
    entry("floor", (1, 1), "floor(x)", |args| numeric(args, f64::floor)),
    entry("ceiling", (1, 1), "ceiling(x)", |args| numeric(args, f64::ceil)),
    entry("round", (1, 1), "round(x)", |args| numeric(args, f64::round)),
    entry("sqrt", (1, 1), "sqrt(x)", |args| numeric(args, libm::sqrt)),
    entry("exp", (1, 1), "exp(x)", |args| numeric(args, libm::exp)),
    entry("ln", (1, 1), "ln(x)", |args| numeric(args, libm::log)),
    entry("log10", (1, 1), "log10(x)", |args| numeric(args, libm::log10)),
    entry("to_int", (1, 1), "to_int(x)", to_int),
    entry("to_float", (1, 1), "to_float(x)", |args| numeric(args, |number| number)),
    entry("parse_int", (1, 1), "parse_int(\"12\")", |args| on_text(args, |text| {
        text.trim().parse().map(Value::Int).map_err(|_| format!("`{text}` is no whole number"))
    })),
    entry("parse_float", (1, 1), "parse_float(\"1.5\")", |args| on_text(args, |text| {
        text.trim().parse().map(Value::float).map_err(|_| format!("`{text}` is no number"))
    })),
    entry("len", (1, 1), "len(x)", |args| Ok(match &args[0] {
        Value::Text(text) => count(text.chars().count()),
        Value::List(items) => count(items.len()),
        Value::Map(entries) => count(entries.len()),
        other => return Err(format!("`len` needs a text, a list or a map, not {}", other.kind())),
    })),
    entry("is_empty", (1, 1), "is_empty(x)", |args| Ok(Value::Bool(match &args[0] {
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        other => return Err(format!("`is_empty` needs a text, a list or a map, not {}", other.kind())),
    }))),
    entry("contains", (2, 2), "contains(text_or_list, part)", |args| crate::operators::contains(&args[0], &args[1])),
    entry("starts_with", (2, 2), "starts_with(text, part)", |args| on_texts(args, |text, part| Value::Bool(text.starts_with(part)))),
    entry("ends_with", (2, 2), "ends_with(text, part)", |args| on_texts(args, |text, part| Value::Bool(text.ends_with(part)))),
    entry("to_lower", (1, 1), "to_lower(text)", |args| on_text(args, |text| Ok(Value::text(text.to_lowercase())))),
    entry("to_upper", (1, 1), "to_upper(text)", |args| on_text(args, |text| Ok(Value::text(text.to_uppercase())))),
    entry("trim", (1, 1), "trim(text)", |args| on_text(args, |text| Ok(Value::text(text.trim())))),
    entry("split", (2, 2), "split(text, \",\")", |args| on_texts(args, |text, by| {
        let parts = if by.is_empty() { vec![Value::text(text)] } else { text.split(by).map(Value::text).collect() };
        Value::list(parts)
    })),
    entry("replace", (3, 3), "replace(text, part, by)", replace),
    entry("sub_string", (2, 3), "sub_string(text, start, length)", sub_string),
    entry("index_of", (2, 2), "index_of(list_or_text, part)", index_of),
    entry("keys", (1, 1), "keys(map)", |args| match &args[0] {
        Value::Map(entries) => Ok(Value::list(entries.keys().map(Value::text).collect())),
        other => Err(format!("`keys` needs a map, not {}", other.kind())),
    }),
    entry("values", (1, 1), "values(map)", |args| match &args[0] {
        Value::Map(entries) => Ok(Value::list(entries.values().cloned().collect())),
        other => Err(format!("`values` needs a map, not {}", other.kind())),
    }),
    entry("sort", (1, 1), "sort(list)", sort),
    entry("reverse", (1, 1), "reverse(list)", |args| match &args[0] {
        Value::List(items) => Ok(Value::list(items.iter().rev().cloned().collect())),
        other => Err(format!("`reverse` needs a list, not {}", other.kind())),
    }),
    entry("range", (2, 2), "range(from, to)", |args| range(&args[0], &args[1], false)),
    entry("to_string", (1, 1), "to_string(x)", |args| Ok(Value::text(args[0].print()))),
    entry("type_of", (1, 1), "type_of(x)", |args| Ok(Value::text(match &args[0] {
        Value::Nothing => "()",
        Value::Bool(_) => "bool",
        Value::Int(_) => "i64",
        Value::Float(_) => "f64",
        Value::Text(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "map",
    }))),
    entry("min", (2, 2), "min(a, b)", |args| smaller(args, Compare::LessOrEqual)),
    entry("max", (2, 2), "max(a, b)", |args| smaller(args, Compare::GreaterOrEqual)),
];

/// Calls a function. A missing argument makes the result missing, but for `type_of`.
pub(crate) fn call(library: &Library, args: &[Value]) -> Result<Value, String> {
    if library.name != "type_of" && args.contains(&Value::Nothing) {
        return Ok(Value::Nothing);
    }
    if args.len() < library.arity.0 || args.len() > library.arity.1 {
        return Err(format!("write {}", library.shape));
    }
    (library.call)(args)?.bounded()
}

pub(crate) fn library_of(name: &str) -> Option<&'static Library> {
    LIBRARY.iter().find(|library| library.name == name)
}

/// The whole numbers of `from..to` or `from..=to` as a list.
pub(crate) fn range(from: &Value, to: &Value, inclusive: bool) -> Result<Value, String> {
    match (from, to) {
        (Value::Int(from), Value::Int(to)) => {
            let end = if inclusive { to.saturating_add(1) } else { *to };
            let most = i64::try_from(crate::limits::LIST_ITEMS).unwrap_or(i64::MAX);
            if end.saturating_sub(*from) > most {
                return Err(format!("a range has at most {most} numbers"));
            }
            Ok(Value::list((*from..end).map(Value::Int).collect()))
        }
        (Value::Nothing, _) | (_, Value::Nothing) => Ok(Value::Nothing),
        _ => Err(format!("a range goes from one whole number to another, not {} to {}", from.kind(), to.kind())),
    }
}

fn count(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn numeric(args: &[Value], function: fn(f64) -> f64) -> Result<Value, String> {
    match args[0].number() {
        Some(number) => Ok(Value::float(function(number))),
        None => Err(format!("needs a number, not {}", args[0].kind())),
    }
}

fn to_int(args: &[Value]) -> Result<Value, String> {
    const LARGEST: f64 = 9e18;
    match args[0] {
        Value::Int(whole) => Ok(Value::Int(whole)),
        Value::Float(number) if number.abs() < LARGEST => Ok(Value::Int(number as i64)),
        Value::Float(_) => Ok(Value::Nothing),
        ref other => Err(format!("`to_int` needs a number, not {}", other.kind())),
    }
}

fn on_text(args: &[Value], function: impl Fn(&str) -> Result<Value, String>) -> Result<Value, String> {
    match &args[0] {
        Value::Text(text) => function(text),
        other => Err(format!("needs a text, not {}", other.kind())),
    }
}

fn on_texts(args: &[Value], function: impl Fn(&str, &str) -> Value) -> Result<Value, String> {
    match (&args[0], &args[1]) {
        (Value::Text(text), Value::Text(part)) => Ok(function(text, part)),
        (one, other) => Err(format!("needs two texts, not {} and {}", one.kind(), other.kind())),
    }
}

fn replace(args: &[Value]) -> Result<Value, String> {
    let (Value::Text(text), Value::Text(part), Value::Text(by)) = (&args[0], &args[1], &args[2]) else {
        return Err("`replace` needs three texts".to_owned());
    };
    // The result's length is known beforehand, so that a small script cannot make a huge text for a moment.
    let found = if part.is_empty() { 0 } else { text.matches(part.as_str()).count() };
    if found.saturating_mul(by.len()) > crate::limits::TEXT_BYTES {
        return Err("the text that `replace` would make is too long".to_owned());
    }
    Ok(if found == 0 { args[0].clone() } else { Value::text(text.replace(part.as_str(), by)) })
}

fn sub_string(args: &[Value]) -> Result<Value, String> {
    let (Value::Text(text), Value::Int(start)) = (&args[0], &args[1]) else {
        return Err("`sub_string` needs a text and whole numbers".to_owned());
    };
    let length = match args.get(2) {
        None => usize::MAX,
        Some(Value::Int(length)) => usize::try_from(*length).unwrap_or(0),
        Some(other) => return Err(format!("the length of `sub_string` is a whole number, not {}", other.kind())),
    };
    let start = usize::try_from(*start).unwrap_or(0);
    Ok(Value::text(text.chars().skip(start).take(length).collect::<String>()))
}

fn index_of(args: &[Value]) -> Result<Value, String> {
    let found = match (&args[0], &args[1]) {
        (Value::Text(text), Value::Text(part)) => text.find(part.as_str()).map(|at| text[..at].chars().count()),
        (Value::List(items), item) => {
            items.iter().position(|other| matches!(compare(Compare::Equal, other, item), Ok(Value::Bool(true))))
        }
        (holder, _) => return Err(format!("`index_of` needs a text or a list, not {}", holder.kind())),
    };
    Ok(found.map_or(Value::Int(-1), count))
}

fn sort(args: &[Value]) -> Result<Value, String> {
    let Value::List(items) = &args[0] else { return Err(format!("`sort` needs a list, not {}", args[0].kind())) };
    let mut sorted: Vec<Value> = items.to_vec();
    if sorted.iter().all(|item| item.number().is_some()) {
        sorted.sort_by(|a, b| a.number().unwrap_or(0.0).total_cmp(&b.number().unwrap_or(0.0)));
    } else if sorted.iter().all(|item| matches!(item, Value::Text(_))) {
        sorted.sort_by_key(Value::print);
    } else {
        return Err("`sort` needs a list of numbers or of texts".to_owned());
    }
    Ok(Value::list(sorted))
}

fn smaller(args: &[Value], op: Compare) -> Result<Value, String> {
    if args.iter().any(|arg| arg.number().is_none()) {
        return Err(format!("cannot choose between {} and {}", args[0].kind(), args[1].kind()));
    }
    Ok(match compare(op, &args[0], &args[1])? {
        Value::Bool(true) => args[0].clone(),
        _ => args[1].clone(),
    })
}
