//! What adapters of people's own services share: the target and parameters they are given, with secrets filled in,
//! and a deployment's credential, which selfheal fetches whatever the adapter.
//!
//! Invariant: a `${…}` is filled in only where the policy wrote it. A parameter may hold text of an event, so only
//! one that the adapter declares as secret is looked at.

use tokio::time::Instant;

use super::{AdapterContext, auth};
use selfheal_contract::StepCall;
use selfheal_model::{
    AuthThen, Effectfulness, FailureClass, FieldKind, FieldSpec, Map, Outcome, SecretError, Value, Verb, VerbSpec,
};

/// The verb that every adapter has for a deployment with an `auth:` section.
pub const REFRESH_AUTH: &str = "refresh_auth";

/// A target with its secrets. The policy compiler leaves a `${…}` only in fields that are secret.
///
/// # Errors
/// A secret has no value now.
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

/// The parameters of a call; those that its verb declares as secret have their values.
///
/// # Errors
/// A secret has no value now.
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

/// The spec of one field of a map whose values may hold secrets: it is one where it refers to one.
pub fn spec_of(name: &str, value: &Value, about: &str) -> FieldSpec {
    let refers = value.as_str().is_some_and(|text| text.contains("${"));
    FieldSpec::optional(name, if refers { FieldKind::Secret } else { FieldKind::Text }, about)
}

/// Adds `refresh_auth` to the verbs of an adapter that does not bring its own.
pub fn with_refresh_auth(mut verbs: Vec<VerbSpec>) -> Vec<VerbSpec> {
    if !verbs.iter().any(|spec| spec.verb.as_str() == REFRESH_AUTH) {
        verbs.push(VerbSpec {
            verb: Verb::new(REFRESH_AUTH),
            params: Some(Vec::new()),
            effect: Effectfulness::Change,
            idempotent: false,
            settle: None,
        });
    }
    verbs
}

/// What follows a credential that was delivered.
pub enum Refreshed {
    /// Nothing more is to be done: the call's outcome.
    Done(Outcome),
    /// The deployment hears of it by this verb of its adapter: the call to make.
    Then(Box<StepCall>),
}

/// Fetches and delivers the deployment's credential as its `auth:` section says.
pub async fn refresh_auth(context: &AdapterContext, call: StepCall) -> Refreshed {
    let failed = |class, why: String| Refreshed::Done(Outcome::failed(class, why));
    let Some(definition) = &call.deployment.auth else {
        return failed(FailureClass::Unsupported, "the deployment has no `auth` section".to_owned());
    };
    let next = match definition.then {
        AuthThen::Nothing => None,
        AuthThen::Reload => Some("reload"),
        AuthThen::Restart => Some("restart"),
    };
    if let Some(next) = next {
        let (adapter, verb) = (&call.adapter, Verb::new(next));
        let is_allowed = adapter.allow.verbs.as_ref().is_none_or(|allowed| allowed.contains(&verb));
        if adapter.verb(next).is_none() || !is_allowed {
            let lacks = if is_allowed { "has no such verb" } else { "is not allowed to" };
            let why = format!("nothing was refreshed: `then: {next}`, but adapter `{}` {lacks}", adapter.name);
            return failed(FailureClass::Unsupported, why);
        }
    }
    let began = Instant::now();
    let delivered = match auth::refresh(context, &call.deployment.id, definition, call.timeout).await {
        Ok(delivered) => delivered,
        Err(error) => return Refreshed::Done(error.into()),
    };
    match next {
        None => Refreshed::Done(Outcome::done(serde_json::json!({ "expires_at": delivered.expires_at }))),
        Some(next) => {
            let timeout = call.timeout.saturating_sub(began.elapsed());
            Refreshed::Then(Box::new(StepCall { verb: Verb::new(next), params: Map::new(), timeout, ..call }))
        }
    }
}
