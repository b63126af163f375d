//! How deployments are observed and acted on. One trait, one module per type of adapter.
//!
//! Invariant: an adapter tries once and says what came of it as an `Outcome`; it never retries by itself and never
//! guesses. What it prints passes the redactor before it leaves this module.

use futures_util::future::BoxFuture;

use crate::engine::{Observation, StepCall};
use crate::model::{AdapterDef, Deployment, Outcome};

/// The end of one call: what it came to, and the last of its log.
#[derive(Clone, Debug, PartialEq)]
pub struct CallEnd {
    pub outcome: Outcome,
    pub log: String,
}

/// One type of adapter at work.
pub trait Adapter: Send + Sync {
    /// Tries one verb, within `call.timeout`. Dropping the future cancels as far as that is possible.
    fn call(&self, call: StepCall) -> BoxFuture<'_, CallEnd>;

    /// Looks at the deployment.
    ///
    /// # Errors
    /// Why it could not be seen; facts from before stay what they were.
    fn observe<'a>(
        &'a self,
        adapter: &'a AdapterDef,
        deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<Observation, String>>;

    /// The deployment is wanted (again): adopt what runs of it; start it if it never ran. Called when it first
    /// appears and after a restart of selfheal, never to repair.
    fn ensure<'a>(&'a self, adapter: &'a AdapterDef, deployment: &'a Deployment) -> BoxFuture<'a, Result<(), String>>;
}
