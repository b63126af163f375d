//! `secrets:`, the names by which a playbook passes on what it never sees.
//!
//! Invariant: what a parameter of type secret is given is a reference of selfheal.yaml and nothing else: it is named whole, so
//! that no text of an event can be taken for one.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::reader::Reader;
use super::scripts::Scripts;
use super::yaml::Node;
use crate::playbook::{InputKind, InputSpec};
use selfheal_model::{Map, Value};
use selfheal_script::{Names, Param};

/// Each name with its reference, as it is written.
pub type Secrets = BTreeMap<SmolStr, String>;

/// `secrets: { db: "${DB_PASSWORD}" }`
pub(crate) fn read(reader: &Reader<'_>, node: Option<&Node>) -> Secrets {
    let Some(node) = node else { return Secrets::new() };
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of names to secrets");
        return Secrets::new();
    };
    let read = entries.iter().filter_map(|entry| {
        let reference = entry.value.scalar().filter(|text| text.contains("${"));
        if reference.is_none() {
            reader.note_secret(entry.value.span);
            let message = format!("`{}` is no reference to a secret", entry.key);
            let help = "write \"${NAME}\" for an environment variable, or \"${file:PATH}\"";
            reader.error_with_help(entry.value.span, "wrong-value", message, help);
        }
        Some((SmolStr::new(&entry.key), reference?.to_owned()))
    });
    read.collect()
}

/// What a person hands over by hand: a secret is named, never said.
///
/// # Errors
/// One sentence for the first that is no name of a secret.
pub fn by_name(specs: &[InputSpec], mut given: Map, secrets: &Secrets) -> Result<Map, String> {
    for spec in specs.iter().filter(|spec| spec.kind == InputKind::Secret) {
        let Some(value) = given.get_mut(&spec.name) else { continue };
        let reference = value.as_str().and_then(|name| secrets.get(name));
        // what was given may be a secret itself, and is not said again
        let reference = reference.ok_or_else(|| {
            let names: Vec<&str> = secrets.keys().map(|name| name.as_str()).collect();
            match names.is_empty() {
                true => format!("input `{}` is the name of a secret, and `secrets:` has none", spec.name),
                false => format!("input `{}` is the name of a secret: {}", spec.name, names.join(", ")),
            }
        })?;
        *value = Value::from(reference.as_str());
    }
    Ok(given)
}

/// What stands alone between `{{` and `}}`, as its two parts.
fn named(text: &str) -> Option<(&str, &str)> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    inner.split_once('.').filter(|(_, name)| name.chars().all(|letter| letter == '_' || letter.is_alphanumeric()))
}

/// A secret that is passed on: one of `secrets:`, or an input that is one.
pub(crate) fn passed_on(scripts: &Scripts<'_>, node: &Node, names: &Names<'_>) -> Option<Param> {
    let reader = scripts.reader;
    match named(node.scalar().unwrap_or_default()) {
        Some(("secrets", name)) => match scripts.secrets.get(name) {
            Some(reference) => Some(Param::Literal(Value::from(reference.as_str()))),
            None => {
                reader.unknown(
                    node.span,
                    "unknown-secret",
                    "secret",
                    name,
                    scripts.secrets.keys().map(SmolStr::as_str),
                );
                None
            }
        },
        Some(("inputs", name)) if names.secret_inputs.iter().any(|input| input == name) => {
            scripts.template(node, names).map(Param::Template)
        }
        _ => {
            reader.note_secret(node.span);
            let message = "a secret is passed on whole, and is not made of other texts";
            let help = "write \"{{ secrets.NAME }}\" with a name of `secrets:`, or \"{{ inputs.NAME }}\" of an input of type secret";
            reader.error_with_help(node.span, "not-a-secret", message, help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_given_by_its_name_and_never_said_again() {
        let spec = InputSpec { name: "token".to_owned(), kind: InputKind::Secret, one_of: Vec::new(), default: None };
        let secrets = Secrets::from([("api".into(), "${API_TOKEN}".to_owned())]);
        let given = |value: Value| {
            let given = Map::from_iter([("token".to_owned(), value), ("other".to_owned(), json!(1))]);
            by_name(std::slice::from_ref(&spec), given, &secrets)
        };
        assert_eq!(given(json!("api")).map(Value::Object), Ok(json!({ "token": "${API_TOKEN}", "other": 1 })));
        for wrong in [json!("${HOME}"), json!("hunter2"), json!(7)] {
            let why = given(wrong.clone()).expect_err("no name of a secret");
            assert_eq!(why, "input `token` is the name of a secret: api");
        }
    }
}
