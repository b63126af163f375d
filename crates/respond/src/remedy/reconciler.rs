//! Who may undo a forced rollback: a GitOps reconciler (Argo CD, Flux) that keeps what its repository says.
//!
//! Invariant: a forced rollback either says that such a one was paused, or that there is none, or people are told that nobody
//! knows.

use selfheal_model::{DeploymentId, Map, Value, Verb};

/// The key of an adapter's output that says what became of the reconciler.
const RECONCILER: &str = "reconciler";
/// It says so where none watches the deployment.
const NONE: &str = "none";

/// What people are told of a call that has been done; `None` where there is nothing to say.
pub(super) fn note(verb: &Verb, params: &Map, output: &Value, target: &DeploymentId) -> Option<String> {
    let is_forced = params.get("force").and_then(Value::as_bool).unwrap_or(false);
    if verb.as_str() != "rollback" || !is_forced {
        return None;
    }
    match output.get(RECONCILER).and_then(Value::as_str) {
        Some(NONE) => None,
        Some(said) => Some(format!("the reconciler of {target}: {said}")),
        None => Some(format!(
            "nobody said whether a GitOps reconciler watches {target}: one that was not paused brings the version back that \
             was rolled back"
        )),
    }
}
