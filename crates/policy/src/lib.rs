//! A policy folder's files become one `Policy`, or all their mistakes.
//!
//! Invariant: a `Policy` that exists is whole: every name in it resolves, every script compiles, every limit is
//! finite. What cannot be shown whole is a list of [`Diagnostic`]s and changes nothing.

pub(crate) mod compile;
pub mod guards;
pub mod inhibit;
pub mod ladder;
pub mod playbook;
pub mod record;
pub mod route;
pub mod rule;
pub mod schedule;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

pub use compile::intake::Intake;
pub use compile::remediations::{Remediation, Remediations, Severities};
pub use compile::secrets::{Secrets, by_name as secrets_by_name};
pub use compile::storage::{Durability, Keep, StorageRules};
pub use schema::FileKind;
pub use schema::json::json_schema;
pub use schema::reference::reference as key_reference;

use crate::guards::Guards;
use crate::inhibit::InhibitRule;
use crate::ladder::Ladder;
use crate::playbook::Playbook;
use crate::route::Route;
use crate::rule::Rule;
use crate::schedule::Schedule;
use selfheal_contract::receiver::Receiver;
use selfheal_contract::{Diagnostic, SourceFile};
use selfheal_model::{
    AdapterCatalog, AdapterDef, AdapterName, AlertKey, Deployment, DeploymentId, Map, PlaybookName, ReceiverName,
    RuleName, Severity, TimeInterval,
};

/// The file every policy has.
const CONFIGURATION: &str = "selfheal.yaml";
/// Where state is kept, without `data_dir:`.
pub const DATA_DIR: &str = "data";

/// Named times; of those under one name any may hold.
pub type TimeIntervals = BTreeMap<SmolStr, Vec<TimeInterval>>;

/// Everything that is hot-reloaded.
#[derive(Clone)]
pub struct Policy {
    /// 16 hex digits over all files: what `status` shows and runs are pinned to.
    pub version: SmolStr,
    pub server: Server,
    pub data_dir: PathBuf,
    pub storage: StorageRules,
    pub adapters: BTreeMap<AdapterName, Arc<AdapterDef>>,
    pub unknown_deployments: UnknownDeployments,
    pub deployments: BTreeMap<DeploymentId, Arc<Deployment>>,
    pub receivers: BTreeMap<ReceiverName, Arc<Receiver>>,
    /// The root route; its receiver takes what no child takes.
    pub route: Route,
    pub inhibit_rules: Vec<InhibitRule>,
    pub guards: Guards,
    pub time_intervals: Arc<TimeIntervals>,
    pub intake: Intake,
    /// Durations are seconds, sizes bytes.
    pub settings: Arc<Map>,
    pub rules: BTreeMap<RuleName, Arc<Rule>>,
    pub ladders: BTreeMap<(RuleName, Severity), Arc<Ladder>>,
    /// For alerts from elsewhere.
    pub remediations: Remediations,
    pub severities: Severities,
    /// By the names by which they are passed on.
    pub secrets: Secrets,
    pub playbooks: BTreeMap<PlaybookName, Arc<Playbook>>,
    pub schedules: BTreeMap<SmolStr, Arc<Schedule>>,
    pub heartbeat: Option<Heartbeat>,
    /// Warnings that did not stop it.
    pub warnings: Vec<Diagnostic>,
}

impl Policy {
    /// A policy that watches nothing, repairs nothing and notifies nobody, with the defaults of every section: what
    /// `selfheal.yaml` with `format: 1` alone compiles to, apart from its version and its warning.
    pub fn empty() -> Policy {
        let listen = schema::SERVER.key("listen").default_text();
        let nobody = compile::nobody();
        Policy {
            version: SmolStr::new_static("empty"),
            server: Server { listen: listen.to_owned(), external_url: format!("http://{listen}") },
            data_dir: PathBuf::from(DATA_DIR),
            storage: StorageRules::default(),
            adapters: BTreeMap::new(),
            unknown_deployments: UnknownDeployments::default(),
            deployments: BTreeMap::new(),
            receivers: BTreeMap::from([(nobody.name.clone(), Arc::new(nobody))]),
            route: Route::root(compile::NOBODY),
            inhibit_rules: Vec::new(),
            guards: Guards::default(),
            time_intervals: Arc::default(),
            intake: Intake::default(),
            settings: Arc::default(),
            rules: BTreeMap::new(),
            ladders: BTreeMap::new(),
            remediations: Remediations::default(),
            severities: Severities::default(),
            secrets: Secrets::new(),
            playbooks: BTreeMap::new(),
            schedules: BTreeMap::new(),
            heartbeat: None,
            warnings: Vec::new(),
        }
    }

    /// The rule behind an alert; one from elsewhere and a built-in one have none.
    pub fn rule_of(&self, key: &AlertKey) -> Option<&Arc<Rule>> {
        if key.is_posted() { None } else { self.rules.get(&key.rule) }
    }

    /// What is done, one rung after the other, about an alert at this severity.
    pub fn ladder_of(&self, key: &AlertKey, severity: Severity) -> Option<&Arc<Ladder>> {
        match key.is_posted() {
            true => self.remediations.of(key).map(|remediation| &remediation.ladder),
            false => self.ladders.get(&(key.rule.clone(), severity)),
        }
    }

    /// Somebody here still wants to know of the alert: its rule is there, or its remediation is.
    pub fn answers_for(&self, key: &AlertKey) -> bool {
        self.rule_of(key).is_some() || self.remediations.of(key).is_some()
    }

    /// The settings a script about `deployment` sees: the policy's with the deployment's own on top, key by key.
    pub fn settings_for(&self, deployment: Option<&DeploymentId>) -> Arc<Map> {
        let own = deployment.and_then(|id| self.deployments.get(id)).map(|deployment| &deployment.settings);
        match own {
            Some(own) if !own.is_empty() => {
                let mut merged = (*self.settings).clone();
                merge(&mut merged, own);
                Arc::new(merged)
            }
            _ => self.settings.clone(),
        }
    }
}

fn merge(under: &mut Map, over: &Map) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(serde_json::Value::Object(under)), serde_json::Value::Object(over)) => merge(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A message that goes out all the time, so that its absence is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub receiver: ReceiverName,
    pub every: Duration,
}

/// `server:`; changes by restart only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub listen: String,
    pub external_url: String,
}

/// What an event about a deployment that is not listed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnknownDeployments {
    #[default]
    Register,
    Reject,
}

/// Gives a kept policy by its version.
pub type PolicyOf<'a> = dyn FnMut(&str) -> Option<Arc<Policy>> + 'a;

/// Compiles a policy folder's files. `env` resolves `${NAME}` and `file` resolves `${file:PATH}` where the value is
/// no secret.
///
/// # Errors
/// Every mistake of every file, in order of file and line.
pub fn compile(
    files: &[SourceFile],
    catalog: &dyn AdapterCatalog,
    env: &dyn Fn(&str) -> Option<String>,
    file: &dyn Fn(&str) -> Option<String>,
) -> Result<Policy, Vec<Diagnostic>> {
    compile::compile(files, catalog, env, file)
}
