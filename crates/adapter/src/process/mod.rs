//! Real processes: replicas of one command on a range of ports, from releases in folders (SPEC §6.1).
//!
//! Invariant: replicas belong to the machine, not to this process. They run in sessions of their own, write their own
//! logs, and are found again by pid and start time after selfheal was away. A replica that dies stays dead until a
//! verb repairs it.

mod logs;
mod observe;
mod operation;
mod releases;
mod replica;
mod state;
mod system;
mod target;
#[cfg(test)]
mod tests;
mod usage;
mod verbs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::params::Fields;
use super::{Adapter, AdapterContext, CallEnd, auth, file_name};
use operation::{CancelOnDrop, Operation, Progress, VerbError};
pub(super) use replica::INHERITED;
use selfheal_contract::{Observation, StepCall};
use selfheal_model::{
    AdapterDef, AdapterSpec, Deployment, DeploymentId, Effectfulness, FieldKind, FieldSpec, Map, Outcome, Value, Verb,
    VerbSpec,
};
use state::Managed;
use system::Table;
use target::Target;

/// A crash should be seen at once, and looking is cheap.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// Deployments looked at together share one reading of the process table.
const TABLE_FRESH_FOR: Duration = Duration::from_millis(250);

/// How long the first credential of a deployment may take before its first start.
const FIRST_AUTH_WITHIN: Duration = Duration::from_secs(15);

/// Lines of `logs` when it does not say.
const DEFAULT_LOG_LINES: u32 = 100;

/// `replicas: sick` of `restart`.
const SICK: &str = "sick";

/// What may follow `configure`.
const THEN: [&str; 3] = ["restart", "reload", "nothing"];

/// What the adapter says of itself. It has no options.
///
/// # Errors
/// Never; the signature is that of every adapter.
pub fn spec(_options: &Map) -> Result<AdapterSpec, String> {
    Ok(AdapterSpec { options: Vec::new(), target: Some(target::fields()), verbs: verb_specs() })
}

fn verb_specs() -> Vec<VerbSpec> {
    use Effectfulness::{Change, Disrupt, Read};
    use FieldKind::{Any, Boolean, Duration, Integer, Number, OneOf, Size, Text};
    let verb = |name: &str, effect, idempotent, params| VerbSpec {
        verb: Verb::new(name),
        params: Some(params),
        effect,
        idempotent,
        settle: None,
    };
    vec![
        verb(
            "restart",
            Disrupt,
            false,
            vec![
                FieldSpec::optional("grace", Duration, "from SIGTERM to SIGKILL; the target's unless said"),
                FieldSpec::optional(
                    "replicas",
                    OneOf(vec![SICK, "all"]),
                    "all unless said; sick ones are named by checks",
                ),
            ],
        ),
        verb(
            "scale",
            Change,
            true,
            vec![
                FieldSpec::optional("replicas", Integer, "to this many, within the target's bounds"),
                FieldSpec::optional("memory", Size, "to this limit; replicas are restarted one by one to hear of it"),
                FieldSpec::optional("cpu", Number, "not supported by processes; says so when it is run"),
            ],
        ),
        verb(
            "rollback",
            Disrupt,
            true,
            vec![
                FieldSpec::optional("to", Text, "previous, or a version"),
                FieldSpec::optional("force", Boolean, "go on even when replicas do not become ready"),
            ],
        ),
        verb("refresh_auth", Change, false, Vec::new()),
        verb(
            "configure",
            Disrupt,
            true,
            vec![
                FieldSpec::required("set", Any, "environment variables to values; null takes one back"),
                FieldSpec::optional("then", OneOf(THEN.to_vec()), "restart unless said"),
            ],
        ),
        verb("logs", Read, true, vec![FieldSpec::optional("lines", Integer, "of every replica, 100 unless said")]),
        verb("diagnose", Read, true, Vec::new()),
    ]
}

/// Supervises processes on this machine.
pub struct ProcessAdapter {
    shared: Arc<Shared>,
}

/// What the deployments of this machine share.
pub struct Shared {
    context: AdapterContext,
    managed: Mutex<BTreeMap<DeploymentId, Arc<Managed>>>,
    /// Who has which port, also while its replica is down.
    ports: Mutex<BTreeMap<u16, (DeploymentId, u32)>>,
    table: Mutex<Option<(Instant, Arc<Table>)>>,
}

impl ProcessAdapter {
    pub fn new(context: AdapterContext) -> Self {
        let (managed, ports, table) = Default::default();
        ProcessAdapter { shared: Arc::new(Shared { context, managed, ports, table }) }
    }
}

impl Shared {
    /// The deployment's state, read when it is first asked for.
    fn managed(&self, id: &DeploymentId) -> Result<Arc<Managed>, String> {
        let mut known = self.managed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(managed) = known.get(id) {
            return Ok(managed.clone());
        }
        let dir = self.context.data_dir.join("process").join(file_name::of_deployment(id));
        let managed = Arc::new(Managed::open(dir, id, self.context.now())?);
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        managed.read(|state| {
            for (index, running) in &state.running {
                if let Some(port) = running.port {
                    ports.entry(port).or_insert((id.clone(), *index));
                }
            }
        });
        known.insert(id.clone(), managed.clone());
        Ok(managed)
    }

    fn table(&self) -> Arc<Table> {
        let mut kept = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((at, table)) if at.elapsed() < TABLE_FRESH_FOR => table.clone(),
            _ => {
                let table = Arc::new(Table::read());
                *kept = Some((Instant::now(), table.clone()));
                table
            }
        }
    }
}

impl Adapter for ProcessAdapter {
    fn call(&self, call: StepCall) -> BoxFuture<'_, CallEnd> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let (timeout, deadline) = (call.timeout, Instant::now() + call.timeout);
            let progress = Arc::new(Progress::default());
            let _cancel = CancelOnDrop(progress.clone());
            // a task of its own: a replica that was stopped is started again even when nobody waits any more
            let work = tokio::spawn(perform(shared, call, progress.clone(), deadline));
            let outcome = match timeout_at(deadline, work).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(broken)) => Outcome::unknown(format!("the adapter broke: {broken}")),
                Err(_) => progress.out_of_time(timeout),
            };
            CallEnd { outcome, log: progress.log() }
        })
    }

    fn observe<'a>(
        &'a self,
        _adapter: &'a AdapterDef,
        deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<Observation, String>> {
        Box::pin(async move {
            let target = Target::parse(&deployment.target, &self.shared.context.policy_dir)?;
            let managed = self.shared.managed(&deployment.id)?;
            Ok(observe::observe(&self.shared, &managed, &target).await)
        })
    }

    fn ensure<'a>(&'a self, _adapter: &'a AdapterDef, deployment: &'a Deployment) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(ensure(&self.shared, deployment))
    }

    fn observe_every(&self) -> Duration {
        OBSERVE_EVERY
    }
}

async fn ensure(shared: &Arc<Shared>, deployment: &Deployment) -> Result<(), String> {
    let target = Target::parse(&deployment.target, &shared.context.policy_dir)?;
    let managed = shared.managed(&deployment.id)?;
    // a verb under way knows better than we do
    let Ok(_verb) = managed.verbs.clone().try_lock_owned() else { return Ok(()) };
    observe::note_version(&managed, &target);
    if managed.read(|state| state.started) {
        if managed.read(|state| state.declared_replicas.is_none()) {
            managed.change(|state| state.follow(&target))?;
        }
        let (up, of) =
            managed.read(|state| (state.running.values().filter(|one| one.is_alive()).count(), state.replicas));
        tracing::info!(deployment = %deployment.id, up, of, "adopted");
        return Ok(());
    }
    managed.change(|state| state.follow(&target))?;
    let mut first_error = None;
    if let Some(auth) = deployment.auth.as_ref().filter(|auth| !auth::is_delivered(&shared.context, auth)) {
        // a program that needs the credential would fail its first start without it
        let delivered = auth::refresh(&shared.context, &deployment.id, auth, FIRST_AUTH_WITHIN).await;
        first_error = delivered.err().map(|error| format!("its credential could not be delivered: {error}"));
    }
    for index in 0..target.replicas {
        if let Err(VerbError::Failed(_, why) | VerbError::Unknown(why)) =
            replica::start(shared, &managed, &target, index)
        {
            first_error.get_or_insert(why);
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// One call, to its end or to the first moment it is no longer wanted.
async fn perform(shared: Arc<Shared>, call: StepCall, progress: Arc<Progress>, deadline: Instant) -> Outcome {
    match perform_verb(shared, call, progress, deadline).await {
        Ok(output) => Outcome::done(output),
        Err(outcome) => outcome,
    }
}

async fn perform_verb(
    shared: Arc<Shared>,
    call: StepCall,
    progress: Arc<Progress>,
    deadline: Instant,
) -> Result<Value, Outcome> {
    let target = Target::parse(&call.deployment.target, &shared.context.policy_dir).map_err(VerbError::permanent)?;
    let managed = shared.managed(&call.deployment.id).map_err(VerbError::permanent)?;
    match call.verb.as_str() {
        "logs" => {
            let lines = Fields(&call.params).count("lines").map_err(VerbError::permanent)?;
            let lines = usize::try_from(lines.unwrap_or(DEFAULT_LOG_LINES)).unwrap_or(usize::MAX);
            return Ok(Value::String(observe::logs_of(&managed, &shared.context.redactor, lines)));
        }
        "diagnose" => return Ok(observe::diagnose(&shared, &managed, &target).await),
        _ => {}
    }
    let _alone = timeout_at(deadline, managed.verbs.clone().lock_owned())
        .await
        .map_err(|_| VerbError::conflict("another verb of this deployment is still under way"))?;
    let operation = Operation { shared, managed, target, call, deadline, progress };
    begin(&operation)?;
    match operation.call.verb.as_str() {
        "restart" => Ok(verbs::restart(&operation).await?),
        "scale" => Ok(verbs::scale(&operation).await?),
        "rollback" => Ok(verbs::rollback(&operation).await?),
        "configure" => Ok(verbs::configure(&operation).await?),
        "refresh_auth" => verbs::refresh_auth(&operation).await,
        other => Err(VerbError::unsupported(format!("a process has no verb `{other}`")).into()),
    }
}

/// Refuses a call that is no longer the newest word, and remembers it if it is.
fn begin(operation: &Operation) -> Result<(), VerbError> {
    // it may have waited for another verb
    operation.go_on()?;
    if operation.shared.context.now() > operation.call.not_after {
        return Err(VerbError::permanent(format!("not begun: it was not to begin after {}", operation.call.not_after)));
    }
    let seen = operation.managed.read(|state| state.fence);
    if operation.call.fence < seen {
        let why = format!("lease {} is over: one with fence {seen} has acted on this deployment", operation.call.fence);
        return Err(VerbError::conflict(why));
    }
    observe::note_version(&operation.managed, &operation.target);
    operation
        .managed
        .change(|state| {
            state.fence = operation.call.fence;
            state.follow(&operation.target);
        })
        .map_err(VerbError::transient)
}
