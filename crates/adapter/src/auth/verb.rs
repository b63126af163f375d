//! The verb `refresh_auth` of the adapters `exec` and `http`.

use tokio::time::Instant;

use crate::AdapterContext;
use selfheal_contract::StepCall;
use selfheal_model::{AuthThen, Effectfulness, FailureClass, Map, Outcome, Verb, VerbSpec};

/// The verb that every adapter has for a deployment with an `auth` section.
pub const REFRESH_AUTH: &str = "refresh_auth";

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

/// What the adapter has to do after the credential was delivered.
pub enum Refreshed {
    /// Nothing more: the outcome of the call.
    Done(Outcome),
    /// Call this verb of the adapter, so that the deployment uses the new credential.
    Then(Box<StepCall>),
}

/// Fetches and delivers the deployment's credential as its `auth` section says.
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
    let delivered = match super::refresh(context, &call.deployment.id, definition, call.timeout).await {
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
