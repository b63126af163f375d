//! Adapters: how deployments are observed and acted on. One trait, [`Adapter`], and one module per type: `process`, `exec`,
//! `http`. [`Adapters`] is the registry that callers use.
//!
//! The crate never knows the engine, the policy compiler or another edge: it gets one call and returns its end.
//!
//! Invariant: an adapter makes one attempt and returns an `Outcome`; it never retries by itself, and never reports success
//! or failure when it does not know. All output passes the redactor before it leaves this crate.

pub mod auth;
pub mod catalog;
mod exec;
mod file_name;
mod http;
mod params;
pub mod process;
pub mod redact;
mod registry;
mod rendered_target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use catalog::Catalog;
pub use redact::Redactor;
pub use registry::{Adapters, Called};

use selfheal_contract::{Observation, StepCall};
use selfheal_model::{AdapterDef, Deployment, Outcome, ResolveSecret, SecretError, Timestamp};

/// How often a deployment is observed unless its adapter says otherwise.
pub const OBSERVE_EVERY: Duration = Duration::from_secs(30);

/// Returns the wall-clock time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The end of one call: its outcome, and the end of its log.
#[derive(Clone, Debug, PartialEq)]
pub struct CallEnd {
    pub outcome: Outcome,
    pub log: String,
}

/// One type of adapter.
pub trait Adapter: Send + Sync {
    /// Makes one attempt at one verb, within `call.timeout`. Dropping the future cancels the call as far as possible.
    fn call(&self, call: StepCall) -> BoxFuture<'_, CallEnd>;

    /// Reads the current facts of the deployment.
    ///
    /// # Errors
    /// Why the deployment cannot be observed; earlier facts stay valid.
    fn observe<'a>(
        &'a self,
        adapter: &'a AdapterDef,
        deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<Observation, String>>;

    /// Adopts what runs of the deployment, and starts it if it never ran. Called when the deployment first appears in the
    /// policy and after a restart of selfheal, never to repair.
    ///
    /// # Errors
    /// Why it cannot be adopted or started.
    fn ensure<'a>(&'a self, adapter: &'a AdapterDef, deployment: &'a Deployment) -> BoxFuture<'a, Result<(), String>>;

    /// How often deployments of this adapter are observed.
    fn observe_every(&self) -> Duration {
        OBSERVE_EVERY
    }
}

/// The configuration of the registry.
#[derive(Clone)]
pub struct AdaptersConfig {
    /// The policy folder: relative paths of targets and credentials start here.
    pub policy_dir: PathBuf,
    /// The data folder: state and rotated tokens are kept here.
    pub data_dir: PathBuf,
    pub secrets: Arc<dyn ResolveSecret>,
    pub http: reqwest::Client,
    pub clock: Clock,
}

/// What every adapter works with. The redactor hides every secret that is resolved through it.
#[derive(Clone)]
pub struct AdapterContext {
    /// Absolute.
    pub policy_dir: PathBuf,
    /// Absolute, so that paths derived from it do not depend on the folder selfheal is started in.
    pub data_dir: PathBuf,
    pub secrets: Arc<dyn ResolveSecret>,
    pub http: reqwest::Client,
    pub clock: Clock,
    pub redactor: Arc<Redactor>,
}

impl AdapterContext {
    pub fn new(config: AdaptersConfig) -> Self {
        let redactor = Arc::new(Redactor::default());
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        AdapterContext {
            policy_dir: absolute(config.policy_dir),
            data_dir: absolute(config.data_dir),
            secrets: Arc::new(redact::Learning::new(config.secrets, redactor.clone())),
            http: config.http,
            clock: config.clock,
            redactor,
        }
    }

    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Replaces `${NAME}` and `${file:PATH}` in an option or parameter of kind `Secret` by their values, which the
    /// redactor hides from then on. A text without a reference is the secret itself.
    ///
    /// # Errors
    /// A variable is not set, or a file cannot be read.
    pub fn secret_text(&self, text: &str) -> Result<String, SecretError> {
        redact::expand(text, self.secrets.as_ref())
    }
}
