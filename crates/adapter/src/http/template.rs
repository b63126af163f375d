//! Texts of a request, filled in for one call. Strict: a name that is not there is an error and nothing is sent.
//!
//! Invariant: a value never changes the shape of a path: everything in it that means something there is encoded, and a
//! path with an empty or a dot segment from a value is refused.

use minijinja::value::{Value as Filling, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use selfheal_model::Value;

/// Steps one text may take.
const FUEL: u64 = 10_000;

/// Below this every whole number is a number of its own.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A filled text longer than this is a mistake.
const MAX_TEXT: usize = 64 * 1024;

/// Fills `{{ … }}` of a path in, each value encoded.
///
/// # Errors
/// The text names what is not there, or a value that cannot stand in a path.
pub fn path(text: &str, names: &Filling) -> Result<String, String> {
    let mut environment = environment();
    environment.set_formatter(|out, _, value| {
        let written = value.to_string();
        if value.is_undefined() || value.is_none() || written.is_empty() {
            return Err(Error::new(ErrorKind::InvalidOperation, "an empty value cannot stand in a path"));
        }
        out.write_str(&encoded(&written)).map_err(Error::from)
    });
    let filled = render(&environment, text, names)?;
    let segments = filled.split(['?', '#']).next().unwrap_or("").split('/');
    if segments.map(|segment| segment.to_ascii_lowercase().replace("%2e", ".")).any(|one| one == "." || one == "..") {
        return Err(format!("`{text}` came to `{filled}`, which leaves its place"));
    }
    Ok(filled)
}

/// Fills the texts inside a body in. A text that is exactly one `{{ … }}` keeps its value's type.
///
/// # Errors
/// The first text that names what is not there.
pub fn body(body: &Value, names: &Filling) -> Result<Value, String> {
    Ok(match body {
        Value::String(text) => filled(text, names)?,
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| self::body(item, names)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), self::body(value, names)?)))
                .collect::<Result<_, String>>()?,
        ),
        plain => plain.clone(),
    })
}

/// Whether the texts inside can be read at all, for a policy that is being loaded.
///
/// # Errors
/// The first that is no template.
pub fn check(body: &Value) -> Result<(), String> {
    match body {
        Value::String(text) => match lone_expression(text) {
            Some(expression) => environment().compile_expression(expression).map(drop),
            None => environment().template_from_str(text).map(drop),
        }
        .map_err(|error| format!("`{text}` is no template: {error}")),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(fields) => fields.values().try_for_each(check),
        _ => Ok(()),
    }
}

fn filled(text: &str, names: &Filling) -> Result<Value, String> {
    let Some(expression) = lone_expression(text) else {
        return render(&environment(), text, names).map(Value::String);
    };
    let environment = environment();
    let value = environment.compile_expression(expression).and_then(|expression| expression.eval(names.clone()));
    let value = value.map_err(|error| cannot(text, &error))?;
    if value.is_undefined() {
        return Err(format!("cannot fill in `{text}`: it names nothing that is there"));
    }
    written(&value).map_err(|error| cannot(text, &error))
}

/// A JSON value as templates see it.
pub fn names(value: &Value) -> Filling {
    match value {
        Value::Null => Filling::from(()),
        Value::Bool(flag) => Filling::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Filling::from(whole),
            (None, Some(whole)) => Filling::from(whole),
            (None, None) => match number.as_f64().unwrap_or(f64::NAN) {
                // calculated in a policy; it is a count to whoever reads it
                whole if whole.fract() == 0.0 && whole.abs() < WHOLE => Filling::from(whole as i64),
                number => Filling::from(number),
            },
        },
        Value::String(text) => Filling::from(text.as_str()),
        Value::Array(items) => items.iter().map(names).collect(),
        Value::Object(fields) => Filling::from_pairs(fields.iter().map(|(name, value)| (name.clone(), names(value)))),
    }
}

/// The value of an expression as JSON.
fn written(value: &Filling) -> Result<Value, Error> {
    Ok(match value.kind() {
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => match (value.as_i64().filter(|_| value.is_integer()), f64::try_from(value.clone())) {
            (Some(whole), _) => Value::from(whole),
            (None, number) => Value::from(number?),
        },
        ValueKind::Map => {
            let mut fields = serde_json::Map::new();
            for key in value.try_iter()? {
                fields.insert(key.to_string(), written(&value.get_item(&key)?)?);
            }
            Value::Object(fields)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            Value::Array(value.try_iter()?.map(|item| written(&item)).collect::<Result<_, _>>()?)
        }
        _ => Value::String(value.to_string()),
    })
}

fn render(environment: &Environment<'_>, text: &str, names: &Filling) -> Result<String, String> {
    let filled = environment.render_str(text, names.clone()).map_err(|error| cannot(text, &error))?;
    if filled.len() > MAX_TEXT {
        return Err(format!("`{text}` came to {} bytes; at most {MAX_TEXT} are sent", filled.len()));
    }
    Ok(filled)
}

fn cannot(text: &str, error: &Error) -> String {
    format!("cannot fill in `{text}`: {error}")
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

/// What stands inside a text that is one `{{ … }}` and nothing else.
fn lone_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let alone = !inner.contains("{{") && !inner.contains("}}") && !inner.starts_with('-') && !inner.ends_with('-');
    alone.then_some(inner)
}

/// RFC 3986: everything but the unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names() -> Filling {
        super::names(&json!({
            "target": {"app": "shop/../admin?x=1#y", "dots": "..", "empty": "", "nothing": null, "n": 3},
            "params": {"replicas": 4.0, "list": ["a"]}
        }))
    }

    #[test]
    fn a_value_stays_inside_its_segment() {
        assert_eq!(
            path("/apps/{{ target.app }}/restart?n={{ target.n }}", &names()).as_deref(),
            Ok("/apps/shop%2F..%2Fadmin%3Fx%3D1%23y/restart?n=3")
        );
        for (text, said) in [
            ("/apps/{{ target.dots }}", "leaves its place"),
            ("/apps/{{ target.dots | safe }}/x", "leaves its place"),
            ("/apps/{{ target.empty }}", "empty value"),
            ("/apps/{{ target.nothing }}", "empty value"),
            ("/apps/{{ target.ap }}", "undefined"),
            ("/apps/{{ targt.app }}", "undefined"),
        ] {
            let why = path(text, &names()).unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
    }

    #[test]
    fn a_body_keeps_types_and_is_strict() {
        let written =
            json!({"n": "{{ params.replicas }}", "t": "to {{ params.replicas }}", "l": ["{{ params.list }}"], "x": 1});
        assert_eq!(body(&written, &names()), Ok(json!({"n": 4, "t": "to 4", "l": [["a"]], "x": 1})));
        for text in ["{{ params.replica }}", "at {{ params.replica }}", "{{ parms.replicas }}"] {
            assert!(body(&json!([text]), &names()).is_err_and(|why| why.contains(text)), "{text}");
        }
    }

    #[test]
    fn a_broken_template_is_found_before_it_is_used() {
        assert!(check(&json!({"a": ["{{ params.x }}", "plain", 1]})).is_ok());
        for text in ["{{ params. }}", "to {{ params.x", "{% if x %}"] {
            assert!(check(&json!({"a": [text]})).is_err_and(|why| why.contains(text)), "{text}");
        }
    }
}
