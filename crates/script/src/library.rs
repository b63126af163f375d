//! The functions of conditions that only compute: numbers, texts, lists, maps.
//!
//! Invariant: missing in, missing out; nothing depends on the machine (`libm`, no locale).

use super::data::{Compare, Data, compare};

/// A function that only computes.
#[derive(Debug)]
pub(super) struct Library {
    pub name: &'static str,
    pub arity: (usize, usize),
    pub shape: &'static str,
    pub call: fn(&[Data]) -> Result<Data, String>,
}

const fn entry(
    name: &'static str,
    arity: (usize, usize),
    shape: &'static str,
    call: fn(&[Data]) -> Result<Data, String>,
) -> Library {
    Library { name, arity, shape, call }
}

#[rustfmt::skip]
pub(super) static LIBRARY: [Library; 33] = [
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
        text.trim().parse().map(Data::Int).map_err(|_| format!("`{text}` is no whole number"))
    })),
    entry("parse_float", (1, 1), "parse_float(\"1.5\")", |args| on_text(args, |text| {
        text.trim().parse().map(Data::float).map_err(|_| format!("`{text}` is no number"))
    })),
    entry("len", (1, 1), "len(x)", |args| Ok(match &args[0] {
        Data::Text(text) => count(text.chars().count()),
        Data::List(items) => count(items.len()),
        Data::Map(entries) => count(entries.len()),
        other => return Err(format!("`len` needs a text, a list or a map, not {}", other.kind())),
    })),
    entry("is_empty", (1, 1), "is_empty(x)", |args| Ok(Data::Bool(match &args[0] {
        Data::Text(text) => text.is_empty(),
        Data::List(items) => items.is_empty(),
        Data::Map(entries) => entries.is_empty(),
        other => return Err(format!("`is_empty` needs a text, a list or a map, not {}", other.kind())),
    }))),
    entry("contains", (2, 2), "contains(text_or_list, part)", |args| super::data::contains(&args[0], &args[1])),
    entry("starts_with", (2, 2), "starts_with(text, part)", |args| on_texts(args, |text, part| Data::Bool(text.starts_with(part)))),
    entry("ends_with", (2, 2), "ends_with(text, part)", |args| on_texts(args, |text, part| Data::Bool(text.ends_with(part)))),
    entry("to_lower", (1, 1), "to_lower(text)", |args| on_text(args, |text| Ok(Data::text(text.to_lowercase())))),
    entry("to_upper", (1, 1), "to_upper(text)", |args| on_text(args, |text| Ok(Data::text(text.to_uppercase())))),
    entry("trim", (1, 1), "trim(text)", |args| on_text(args, |text| Ok(Data::text(text.trim())))),
    entry("split", (2, 2), "split(text, \",\")", |args| on_texts(args, |text, by| {
        let parts = if by.is_empty() { vec![Data::text(text)] } else { text.split(by).map(Data::text).collect() };
        Data::list(parts)
    })),
    entry("replace", (3, 3), "replace(text, part, by)", replace),
    entry("sub_string", (2, 3), "sub_string(text, start, length)", sub_string),
    entry("index_of", (2, 2), "index_of(list_or_text, part)", index_of),
    entry("keys", (1, 1), "keys(map)", |args| match &args[0] {
        Data::Map(entries) => Ok(Data::list(entries.keys().map(Data::text).collect())),
        other => Err(format!("`keys` needs a map, not {}", other.kind())),
    }),
    entry("values", (1, 1), "values(map)", |args| match &args[0] {
        Data::Map(entries) => Ok(Data::list(entries.values().cloned().collect())),
        other => Err(format!("`values` needs a map, not {}", other.kind())),
    }),
    entry("sort", (1, 1), "sort(list)", sort),
    entry("reverse", (1, 1), "reverse(list)", |args| match &args[0] {
        Data::List(items) => Ok(Data::list(items.iter().rev().cloned().collect())),
        other => Err(format!("`reverse` needs a list, not {}", other.kind())),
    }),
    entry("range", (2, 2), "range(from, to)", |args| range(&args[0], &args[1], false)),
    entry("to_string", (1, 1), "to_string(x)", |args| Ok(Data::text(args[0].print()))),
    entry("type_of", (1, 1), "type_of(x)", |args| Ok(Data::text(match &args[0] {
        Data::Nothing => "()",
        Data::Bool(_) => "bool",
        Data::Int(_) => "i64",
        Data::Float(_) => "f64",
        Data::Text(_) => "string",
        Data::List(_) => "array",
        Data::Map(_) => "map",
    }))),
    entry("min", (2, 2), "min(a, b)", |args| smaller(args, Compare::LessOrEqual)),
    entry("max", (2, 2), "max(a, b)", |args| smaller(args, Compare::GreaterOrEqual)),
];

/// Calls a function; missing in is missing out, but for the two that say what something is.
pub(super) fn call(library: &Library, args: &[Data]) -> Result<Data, String> {
    if library.name != "type_of" && args.contains(&Data::Nothing) {
        return Ok(Data::Nothing);
    }
    if args.len() < library.arity.0 || args.len() > library.arity.1 {
        return Err(format!("write {}", library.shape));
    }
    (library.call)(args)?.bounded()
}

pub(super) fn library_of(name: &str) -> Option<&'static Library> {
    LIBRARY.iter().find(|library| library.name == name)
}

/// The whole numbers of `from..to` or `from..=to` as a list.
pub(super) fn range(from: &Data, to: &Data, inclusive: bool) -> Result<Data, String> {
    match (from, to) {
        (Data::Int(from), Data::Int(to)) => {
            let end = if inclusive { to.saturating_add(1) } else { *to };
            let most = i64::try_from(super::host::limits::LIST_ITEMS).unwrap_or(i64::MAX);
            if end.saturating_sub(*from) > most {
                return Err(format!("a range has at most {most} numbers"));
            }
            Ok(Data::list((*from..end).map(Data::Int).collect()))
        }
        (Data::Nothing, _) | (_, Data::Nothing) => Ok(Data::Nothing),
        _ => Err(format!("a range goes from one whole number to another, not {} to {}", from.kind(), to.kind())),
    }
}

fn count(length: usize) -> Data {
    Data::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn numeric(args: &[Data], function: fn(f64) -> f64) -> Result<Data, String> {
    match args[0].number() {
        Some(number) => Ok(Data::float(function(number))),
        None => Err(format!("needs a number, not {}", args[0].kind())),
    }
}

fn to_int(args: &[Data]) -> Result<Data, String> {
    const LARGEST: f64 = 9e18;
    match args[0] {
        Data::Int(whole) => Ok(Data::Int(whole)),
        Data::Float(number) if number.abs() < LARGEST => Ok(Data::Int(number as i64)),
        Data::Float(_) => Ok(Data::Nothing),
        ref other => Err(format!("`to_int` needs a number, not {}", other.kind())),
    }
}

fn on_text(args: &[Data], function: impl Fn(&str) -> Result<Data, String>) -> Result<Data, String> {
    match &args[0] {
        Data::Text(text) => function(text),
        other => Err(format!("needs a text, not {}", other.kind())),
    }
}

fn on_texts(args: &[Data], function: impl Fn(&str, &str) -> Data) -> Result<Data, String> {
    match (&args[0], &args[1]) {
        (Data::Text(text), Data::Text(part)) => Ok(function(text, part)),
        (one, other) => Err(format!("needs two texts, not {} and {}", one.kind(), other.kind())),
    }
}

fn replace(args: &[Data]) -> Result<Data, String> {
    let (Data::Text(text), Data::Text(part), Data::Text(by)) = (&args[0], &args[1], &args[2]) else {
        return Err("`replace` needs three texts".to_owned());
    };
    // The result's length is known beforehand, so that a small script cannot make a huge text for a moment.
    let found = if part.is_empty() { 0 } else { text.matches(part.as_str()).count() };
    if found.saturating_mul(by.len()) > super::host::limits::TEXT_BYTES {
        return Err("the text that `replace` would make is too long".to_owned());
    }
    Ok(if found == 0 { args[0].clone() } else { Data::text(text.replace(part.as_str(), by)) })
}

fn sub_string(args: &[Data]) -> Result<Data, String> {
    let (Data::Text(text), Data::Int(start)) = (&args[0], &args[1]) else {
        return Err("`sub_string` needs a text and whole numbers".to_owned());
    };
    let length = match args.get(2) {
        None => usize::MAX,
        Some(Data::Int(length)) => usize::try_from(*length).unwrap_or(0),
        Some(other) => return Err(format!("the length of `sub_string` is a whole number, not {}", other.kind())),
    };
    let start = usize::try_from(*start).unwrap_or(0);
    Ok(Data::text(text.chars().skip(start).take(length).collect::<String>()))
}

fn index_of(args: &[Data]) -> Result<Data, String> {
    let found = match (&args[0], &args[1]) {
        (Data::Text(text), Data::Text(part)) => text.find(part.as_str()).map(|at| text[..at].chars().count()),
        (Data::List(items), item) => {
            items.iter().position(|other| matches!(compare(Compare::Equal, other, item), Ok(Data::Bool(true))))
        }
        (holder, _) => return Err(format!("`index_of` needs a text or a list, not {}", holder.kind())),
    };
    Ok(found.map_or(Data::Int(-1), count))
}

fn sort(args: &[Data]) -> Result<Data, String> {
    let Data::List(items) = &args[0] else { return Err(format!("`sort` needs a list, not {}", args[0].kind())) };
    let mut sorted: Vec<Data> = items.to_vec();
    if sorted.iter().all(|item| item.number().is_some()) {
        sorted.sort_by(|a, b| a.number().unwrap_or(0.0).total_cmp(&b.number().unwrap_or(0.0)));
    } else if sorted.iter().all(|item| matches!(item, Data::Text(_))) {
        sorted.sort_by_key(Data::print);
    } else {
        return Err("`sort` needs a list of numbers or of texts".to_owned());
    }
    Ok(Data::list(sorted))
}

fn smaller(args: &[Data], op: Compare) -> Result<Data, String> {
    if args.iter().any(|arg| arg.number().is_none()) {
        return Err(format!("cannot choose between {} and {}", args[0].kind(), args[1].kind()));
    }
    Ok(match compare(op, &args[0], &args[1])? {
        Data::Bool(true) => args[0].clone(),
        _ => args[1].clone(),
    })
}
