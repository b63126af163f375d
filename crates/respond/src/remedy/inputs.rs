//! Inputs of a playbook, brought to their declared types. Durations become seconds and sizes bytes, as in settings.

use selfheal_model::{Bytes, Map, Value, units};
use selfheal_policy::playbook::{InputKind, InputSpec};

/// The inputs a run is pinned to: what was given, then the defaults.
///
/// # Errors
/// One sentence for the first input that is missing, unknown or of another type.
pub(super) fn typed(specs: &[InputSpec], given: &Map) -> Result<Map, String> {
    if let Some(unknown) = given.keys().find(|name| !specs.iter().any(|spec| spec.name == **name)) {
        let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        return Err(match (nearest(unknown, known.iter().copied()), known.is_empty()) {
            (_, true) => format!("there is no input `{unknown}`: this playbook takes none"),
            (Some(near), _) => format!("there is no input `{unknown}`; did you mean `{near}`?"),
            (None, _) => format!("there is no input `{unknown}`; there are {}", known.join(", ")),
        });
    }
    let mut inputs = Map::new();
    for spec in specs {
        let value = given.get(&spec.name).filter(|value| !value.is_null()).or(spec.default.as_ref());
        let value = value.ok_or_else(|| format!("input `{}` ({}) is missing", spec.name, word(spec.kind)))?;
        let value = as_kind(spec, value)?;
        let allowed = spec.one_of.is_empty() || spec.one_of.iter().any(|one| as_kind(spec, one).as_ref() == Ok(&value));
        if !allowed {
            let choices: Vec<String> = spec.one_of.iter().map(ToString::to_string).collect();
            return Err(format!("input `{}` is one of {}, not {value}", spec.name, choices.join(", ")));
        }
        inputs.insert(spec.name.clone(), value);
    }
    Ok(inputs)
}

fn as_kind(spec: &InputSpec, value: &Value) -> Result<Value, String> {
    let wrong = || format!("input `{}` is {}, not {value}", spec.name, word(spec.kind));
    let parsed = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match (spec.kind, value) {
        (InputKind::String | InputKind::Secret, Value::String(_)) => Ok(value.clone()),
        // a version such as 1.10 written without quotes in JSON
        (InputKind::String, Value::Number(number)) => Ok(Value::from(number.to_string())),
        (InputKind::Integer, Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(_), _) => Ok(value.clone()),
            (None, Some(number)) => whole(number).ok_or_else(wrong),
            (None, None) => Err(wrong()),
        },
        (InputKind::Integer, Value::String(text)) => parsed(text).and_then(whole).ok_or_else(wrong),
        (InputKind::Number, Value::Number(_)) => Ok(value.clone()),
        (InputKind::Number, Value::String(text)) => parsed(text).map(Value::from).ok_or_else(wrong),
        (InputKind::Boolean, Value::Bool(_)) => Ok(value.clone()),
        (InputKind::Boolean, Value::String(text)) => text.trim().parse::<bool>().map(Value::from).map_err(|_| wrong()),
        (InputKind::Duration, Value::String(text)) => {
            let span = units::parse_duration(text).map_err(|error| format!("input `{}`: {error}", spec.name))?;
            Ok(whole(span.as_secs_f64()).unwrap_or_else(|| Value::from(span.as_secs_f64())))
        }
        (InputKind::Size, Value::String(text)) => {
            let size = Bytes::parse(text).map_err(|error| format!("input `{}`: {error}", spec.name))?;
            Ok(Value::from(size.0))
        }
        (InputKind::Duration | InputKind::Size, Value::Number(number)) if number.as_f64().is_some_and(|n| n >= 0.0) => {
            Ok(value.clone())
        }
        (InputKind::List, Value::Array(_)) => Ok(value.clone()),
        _ => Err(wrong()),
    }
}

/// A whole number as such, within what every reader keeps exactly.
fn whole(number: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then(|| Value::from(number as i64))
}

fn word(kind: InputKind) -> &'static str {
    match kind {
        InputKind::String => "a text",
        InputKind::Integer => "a whole number",
        InputKind::Number => "a number",
        InputKind::Boolean => "true or false",
        InputKind::Duration => "a duration such as 30s",
        InputKind::Size => "a size such as 512MiB",
        InputKind::List => "a list",
        InputKind::Secret => "a secret",
    }
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this likeness a suggestion is noise.
    const ALIKE: f64 = 0.7;
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specs() -> Vec<InputSpec> {
        let spec = |name: &str, kind, default: Option<Value>| InputSpec {
            name: name.to_owned(),
            kind,
            one_of: Vec::new(),
            default,
        };
        let mut size = spec("size", InputKind::String, Some(json!("small")));
        size.one_of = vec![json!("small"), json!("large")];
        vec![
            spec("add", InputKind::Integer, None),
            spec("grace", InputKind::Duration, Some(json!("10s"))),
            spec("memory", InputKind::Size, Some(json!("1KiB"))),
            size,
        ]
    }

    fn given(value: Value) -> Result<Value, String> {
        typed(&specs(), value.as_object().expect("a map")).map(Value::Object)
    }

    #[test]
    fn units_become_numbers_and_defaults_fill_in() {
        assert_eq!(given(json!({"add": 2})), Ok(json!({"add": 2, "grace": 10, "memory": 1024, "size": "small"})));
        assert_eq!(
            given(json!({"add": "3", "grace": "1500ms", "memory": 7, "size": "large"})),
            Ok(json!({"add": 3, "grace": 1.5, "memory": 7, "size": "large"}))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, said) in [
            (json!({}), "`add` (a whole number) is missing"),
            (json!({"add": 1.5}), "`add` is a whole number, not 1.5"),
            (json!({"add": 1, "grase": "1s"}), "did you mean `grace`?"),
            (json!({"add": 1, "grace": "soon"}), "`soon` is no duration"),
            (json!({"add": 1, "size": "huge"}), "one of"),
        ] {
            let why = given(value.clone()).expect_err("it is wrong");
            assert!(why.contains(said), "{value}: {why}");
        }
    }
}
