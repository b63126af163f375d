//! How deployments are observed and acted on. One trait, one module per type of adapter.
//!
//! Invariant: an adapter tries once and says what came of it as an `Outcome`; it never retries by itself and never
//! guesses. What it prints passes the redactor before it leaves this module.

pub mod auth;
pub mod catalog;
pub mod durable;
mod exec;
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

/// How often a deployment is looked at when its adapter does not say otherwise.
pub const OBSERVE_EVERY: Duration = Duration::from_secs(30);

/// Wall time, handed in.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

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

    /// How often a deployment of this adapter wants to be looked at.
    fn observe_every(&self) -> Duration {
        OBSERVE_EVERY
    }
}

/// What the registry is built from.
#[derive(Clone)]
pub struct AdaptersConfig {
    /// Relative paths of targets and credentials start here.
    pub policy_dir: PathBuf,
    /// What must last lies here.
    pub data_dir: PathBuf,
    pub secrets: Arc<dyn ResolveSecret>,
    pub http: reqwest::Client,
    pub clock: Clock,
}

/// What every adapter works with. Secrets resolved through it are known to the redactor from then on.
#[derive(Clone)]
pub struct AdapterContext {
    /// Absolute.
    pub policy_dir: PathBuf,
    /// Absolute, so that what is derived from it is the same after a start from another folder.
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

    /// The value of a text field that may hold `${NAME}` and `${file:PATH}`: an option or a parameter of kind
    /// `Secret`. The redactor knows each value from then on; a text without a reference is the secret itself.
    ///
    /// # Errors
    /// A variable is not set, a file cannot be read.
    pub fn secret_text(&self, text: &str) -> Result<String, SecretError> {
        redact::expand(text, self.secrets.as_ref())
    }
}
