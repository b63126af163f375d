//! Reads the fields of targets and parameters: texts as people write them, or numbers a template came to.

use std::time::Duration;

use selfheal_model::{Bytes, Map, Value, units};

/// A map of fields with readers that name the field in every error.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a Map);

impl<'a> Fields<'a> {
    /// The value, where there is one; null counts as none.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn text(self, name: &str) -> Result<Option<String>, String> {
        self.get(name).map(|value| plain_text(name, value)).transpose()
    }

    pub fn texts(self, name: &str) -> Result<Option<Vec<String>>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                items.iter().map(|item| plain_text(name, item)).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(format!("`{name}` is a list of texts, not {other}")),
        }
    }

    pub fn text_map(self, name: &str) -> Result<Vec<(String, String)>, String> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(fields)) => fields
                .iter()
                .map(|(key, value)| Ok((key.clone(), plain_text(&format!("{name}.{key}"), value)?)))
                .collect(),
            Some(other) => Err(format!("`{name}` is a map of names to texts, not {other}")),
        }
    }

    pub fn object(self, name: &str) -> Result<Option<Fields<'a>>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Fields(fields))),
            Some(other) => Err(format!("`{name}` is a map, not {other}")),
        }
    }

    /// A whole number from 0; `3.0`, as facts give it, is one too.
    pub fn count(self, name: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) => {
                Ok(Some(number as u32))
            }
            _ => Err(format!("`{name}` is a whole number from 0, not {value}")),
        }
    }

    pub fn boolean(self, name: &str) -> Result<Option<bool>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(Some(text == "true")),
            Some(other) => Err(format!("`{name}` is true or false, not {other}")),
        }
    }

    /// `30s`, or a number of seconds.
    pub fn duration(self, name: &str) -> Result<Option<Duration>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                units::parse_duration(text).map(Some).map_err(|error| format!("`{name}`: {error}"))
            }
            Some(value) => value
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(Some)
                .ok_or_else(|| format!("`{name}` is a duration such as 30s, not {value}")),
        }
    }

    /// `512MiB`, or a number of bytes.
    pub fn size(self, name: &str) -> Result<Option<Bytes>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Bytes::parse(text).map(Some).map_err(|error| format!("`{name}`: {error}")),
            Some(value) => value
                .as_f64()
                .filter(|bytes| *bytes >= 0.0 && *bytes < u64::MAX as f64)
                .map(|bytes| Some(Bytes(bytes as u64)))
                .ok_or_else(|| format!("`{name}` is a size such as 512MiB, not {value}")),
        }
    }
}

fn plain_text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(format!("`{name}` is a text, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_taken_as_templates_give_them() {
        let map = json!({"n": 3.0, "t": "4", "bad": 1.5, "less": -1, "d": 90, "s": 1024, "none": null});
        let fields = Fields(map.as_object().unwrap());
        assert_eq!(fields.count("n"), Ok(Some(3)));
        assert_eq!(fields.count("t"), Ok(Some(4)));
        assert_eq!(fields.count("none"), Ok(None));
        assert_eq!(fields.duration("d"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(fields.size("s"), Ok(Some(Bytes(1024))));
        for name in ["bad", "less"] {
            assert!(fields.count(name).is_err_and(|error| error.contains(name)));
        }
        assert!(fields.duration("less").is_err());
        assert!(fields.size("less").is_err());
    }
}
