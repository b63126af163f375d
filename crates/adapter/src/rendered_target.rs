//! Target and parameters of a call with the values of their secrets, for the adapters `exec` and `http`.
//!
//! Invariant: a `${…}` is replaced only where the policy wrote it. A parameter may contain text of an event, so only
//! parameters that the adapter declares as secret are rendered.

use super::AdapterContext;
use selfheal_contract::StepCall;
use selfheal_model::{FieldKind, FieldSpec, Map, SecretError, Value};

/// The target with the values of its secrets. The policy compiler leaves a `${…}` only in fields that are secret.
///
/// # Errors
/// A secret has no value at the moment.
pub fn target(context: &AdapterContext, target: &Map) -> Result<Map, SecretError> {
    target.iter().map(|(name, value)| Ok((name.clone(), filled(context, value)?))).collect()
}

fn filled(context: &AdapterContext, value: &Value) -> Result<Value, SecretError> {
    Ok(match value {
        Value::String(text) if text.contains("${") => Value::String(context.secret_text(text)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(context, item)).collect::<Result<_, _>>()?),
        Value::Object(fields) => Value::Object(target(context, fields)?),
        plain => plain.clone(),
    })
}

/// The parameters of a call, with the values of those that its verb declares as secret.
///
/// # Errors
/// A secret has no value at the moment.
pub fn params(context: &AdapterContext, call: &StepCall) -> Result<Map, SecretError> {
    let declared = call.adapter.verb(call.verb.as_str()).and_then(|spec| spec.params.as_ref());
    let is_secret = |name: &str| {
        declared.is_some_and(|params| params.iter().any(|param| param.name == name && param.kind == FieldKind::Secret))
    };
    let mut given = Map::new();
    for (name, value) in &call.params {
        let value = match value {
            Value::String(text) if is_secret(name) => Value::String(context.secret_text(text)?),
            plain => plain.clone(),
        };
        given.insert(name.clone(), value);
    }
    Ok(given)
}

/// The specification of one field of a map whose values may be secrets: it is secret if its value refers to one.
pub fn spec_of(name: &str, value: &Value, about: &str) -> FieldSpec {
    let refers = value.as_str().is_some_and(|text| text.contains("${"));
    FieldSpec::optional(name, if refers { FieldKind::Secret } else { FieldKind::Text }, about)
}
