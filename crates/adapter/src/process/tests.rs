//! Real processes: small shells. Every world ends what it started.

mod auth;
mod life;
mod releases;
mod scaling;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::state::MARKER;
use super::*;
use crate::{Adapters, AdaptersConfig};
use selfheal_contract::{Attempt, DesiredDeployment, StepEnd};
use selfheal_model::{
    AdapterDef, AdapterName, Allow, FailureClass, HealthyWhen, Labels, ResolveSecret, Secret, SecretError,
    SecretSource, StepAttemptId, Timestamp,
};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(40);

/// Lives until it is told to end.
const STAYS: &str = "trap 'exit 0' TERM; echo up $REPLICA $VERSION; while :; do sleep 0.02; done";

/// Ends only at SIGKILL.
const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 0.02; done";

/// Each range of ports is used by one test only.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

static NEXT_STEP: AtomicU64 = AtomicU64::new(0);

struct Literals;
impl ResolveSecret for Literals {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Literal(text) => Ok(text.clone()),
            _ => Err(SecretError::EnvMissing("any".to_owned())),
        }
    }
}

/// A policy folder, a data folder and one deployment in them.
struct World {
    folder: TempDir,
    adapters: Adapters,
    deployment: Arc<Deployment>,
    def: Arc<AdapterDef>,
    now: Arc<AtomicI64>,
    fence: u64,
}

impl World {
    fn new(target: Value) -> World {
        // another test may have installed it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(1_795_000_000_000));
        let adapters = adapters(&folder, &now);
        let def = AdapterDef {
            name: AdapterName::new("local"),
            kind: "process".to_owned(),
            options: Map::new(),
            verbs: spec(&Map::new()).unwrap().verbs,
            allow: Allow::default(),
        };
        let mut world =
            World { folder, adapters, deployment: deployment(&json!({})), def: Arc::new(def), now, fence: 1 };
        world.set_target(target);
        world
    }

    /// One that runs `script` in a shell, with `more` in its target.
    fn shell(script: &str, more: Value) -> World {
        let mut target = json!({ "command": ["sh", "-c", script], "grace": "5s" });
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        World::new(target)
    }

    fn set_target(&mut self, target: Value) {
        self.deployment = deployment(&target);
    }

    /// As after a restart of selfheal.
    fn restart_engine(&mut self) {
        self.adapters = adapters(&self.folder, &self.now);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state_dir(&self) -> PathBuf {
        self.path("data/process/web")
    }

    fn desired(&self) -> DesiredDeployment {
        DesiredDeployment { deployment: self.deployment.clone(), adapter: Some(self.def.clone()), replicas: Vec::new() }
    }

    fn step(&self, verb: &str, params: Value) -> StepCall {
        let number = NEXT_STEP.fetch_add(1, Ordering::SeqCst);
        StepCall {
            id: StepAttemptId::new(format!("web-1/{verb}/{number}")),
            attempt: Attempt { number: 1, of: 1 },
            deployment: self.deployment.clone(),
            adapter: self.def.clone(),
            verb: Verb::new(verb),
            params: params.as_object().unwrap().clone(),
            facts: selfheal_model::Facts::default(),
            sick_replicas: Vec::new(),
            fence: self.fence,
            timeout: PATIENCE,
            not_after: Timestamp::MAX,
        }
    }

    async fn call(&self, verb: &str, params: Value) -> StepEnd {
        self.adapters.call(self.step(verb, params)).await
    }

    /// Calls a verb that must end well, and gives its output.
    async fn done(&self, verb: &str, params: Value) -> Value {
        let end = self.call(verb, params).await;
        match end.outcome {
            Outcome::Done { output, .. } => output,
            other => panic!("{verb}: {other:?}\n{}", end.log),
        }
    }

    /// Calls a verb that must fail, and gives class and reason.
    async fn fails(&self, verb: &str, params: Value) -> (FailureClass, String) {
        match self.call(verb, params).await.outcome {
            Outcome::Failed { class, why } => (class, why),
            other => panic!("{verb}: {other:?}"),
        }
    }

    async fn ensure(&self) {
        self.adapters.ensure(&self.desired()).await.unwrap();
    }

    async fn observe(&self) -> Observation {
        self.adapters.observe(&self.desired()).await.unwrap()
    }

    async fn pids(&self) -> Vec<Option<u32>> {
        self.observe().await.replicas.iter().map(|replica| replica.pid).collect()
    }

    async fn fact(&self, name: &str) -> Value {
        self.observe().await.facts.get(name).cloned().unwrap_or(Value::Null)
    }

    fn log(&self, index: u32) -> String {
        std::fs::read_to_string(super::logs::path(&self.state_dir(), index)).unwrap_or_default()
    }

    /// Waits until the replicas that are up are these.
    async fn until_up(&self, up: &[bool]) {
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            seen = self.observe().await.replicas.iter().map(|replica| replica.up).collect();
            if seen == up {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("up: {seen:?}, not {up:?}");
    }

    fn release(&self, version: &str, script: &str) {
        let dir = self.path("app/releases").join(version);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("run.sh"), script).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for found in super::system::marked(MARKER, &self.state_dir().display().to_string()) {
            let members = found.identity.members(&Table::read());
            let _ = found.identity.signal_group(Signal::KILL);
            for member in members {
                let _ = member.signal(Signal::KILL);
            }
        }
    }
}

fn adapters(folder: &TempDir, now: &Arc<AtomicI64>) -> Adapters {
    let clock = now.clone();
    Adapters::new(AdaptersConfig {
        policy_dir: folder.path().to_owned(),
        data_dir: folder.path().join("data"),
        secrets: Arc::new(Literals),
        http: reqwest::Client::new(),
        clock: Arc::new(move || Timestamp::from_millis(clock.load(Ordering::SeqCst))),
    })
}

fn deployment(target: &Value) -> Arc<Deployment> {
    Arc::new(Deployment {
        id: DeploymentId::new("web"),
        adapter: Some(AdapterName::new("local")),
        labels: Labels::default(),
        depends_on: Vec::new(),
        target: target.as_object().unwrap().clone(),
        checks: Vec::new(),
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    })
}

/// The first of ten ports that no other test uses.
fn ten_ports() -> u16 {
    20_000 + (std::process::id() % 1_000) as u16 * 10 + NEXT_PORT.fetch_add(10, Ordering::SeqCst)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
