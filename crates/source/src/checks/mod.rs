//! The checks selfheal runs itself: http, tcp, tls, dns and command, each on its own rhythm, once per replica where it
//! says so.
//!
//! Invariant: what runs is what was last applied; a check that did not change keeps its rhythm. A run says what it saw
//! as events and decides nothing: smoothing and start periods are the engine's.

mod command;
mod connect;
mod dns;
mod dns_client;
mod events;
mod http;
mod replica_target;
mod tcp;
mod tls;
mod tls_trust;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use replica_target::ReplicaTarget;
use selfheal_contract::{Desired, DesiredDeployment};
use selfheal_model::{Check, CheckKind, CheckName, DeploymentId, Event, FailureReason, Timestamp};
use tls_trust::Trusted;
use verdict::{Fault, Findings, Verdict};

/// Tries under way at one time. Enough for thousands of checks that answer in milliseconds; when many hang, the
/// others wait instead of sockets and processes piling up.
pub const MAX_TRIES_AT_ONCE: usize = 256;
/// A new check's first run comes within this (or within its `every`, if shorter), spread by its name, so that a start
/// does not ask everything at once and still knows every deployment's health soon.
pub const FIRST_RUN_WITHIN: Duration = Duration::from_secs(5);
/// A shorter `every` counts as this: a rhythm of nothing would never rest.
pub const MIN_EVERY: Duration = Duration::from_millis(10);

/// Gives the wall time that verdicts are stamped with.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// There is nothing to probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("`{deployment}` has no check `{check}`")]
    NoSuchCheck { deployment: DeploymentId, check: CheckName },
    /// A check with `{{ port }}` or `{{ replica }}` before anything was seen of the deployment, or scaled to nothing.
    #[error("no replica of `{deployment}` is known for its check `{check}`")]
    NoReplica { deployment: DeploymentId, check: CheckName },
}

/// Runs what is desired. Dropping it stops every check.
pub struct Checks {
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

struct Shared {
    events: mpsc::Sender<Vec<Event>>,
    clock: Clock,
    trusted: Trusted,
    tries: Semaphore,
    /// Where the programs of command checks run and `ca_file` is looked for.
    dir: Option<PathBuf>,
}

#[derive(Default)]
struct Running {
    desired: Arc<Desired>,
    tasks: BTreeMap<JobKey, Task>,
}

/// One check of one deployment, at one replica where it runs per replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct JobKey {
    deployment: DeploymentId,
    check: CheckName,
    replica: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Job {
    key: JobKey,
    check: Check,
    /// The replica's, where it has one.
    port: Option<u16>,
}

struct Task {
    job: Arc<Job>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Checks {
    /// Verdicts go to `events`; where that is full, checks wait.
    pub fn new(events: mpsc::Sender<Vec<Event>>, clock: Clock) -> Checks {
        let tries = Semaphore::new(MAX_TRIES_AT_ONCE);
        let shared = Shared { events, clock, trusted: Trusted::default(), tries, dir: None };
        Checks { shared: Arc::new(shared), running: Mutex::default() }
    }

    /// Programs of command checks run in `dir` (the policy folder) and `ca_file` lies there, so that a path beside the
    /// policy means what it says. To be called before the first [`Checks::apply`].
    #[must_use]
    pub fn in_dir(mut self, dir: PathBuf) -> Checks {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.dir = Some(dir);
        }
        self
    }

    /// Starts, stops and changes checks until what runs is what is desired. Must be called inside a tokio runtime.
    pub fn apply(&self, desired: &Arc<Desired>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut running.tasks);
        let wanted = desired.deployments.iter().flat_map(jobs).map(|job| (job.key.clone(), job));
        for (key, job) in wanted {
            let task = match before.remove(&key) {
                Some(task) if *task.job == job => task,
                changed => {
                    let first = if changed.is_some() { Duration::ZERO } else { first_run_after(&key, job.check.every) };
                    let job = Arc::new(job);
                    Task { handle: tokio::spawn(keep_running(self.shared.clone(), job.clone(), first)), job }
                }
            };
            running.tasks.insert(key, task);
        }
        running.desired = desired.clone();
    }

    /// Runs a check now, at every replica it is for, besides its rhythm. Returns when the verdicts were sent; how many
    /// there were.
    ///
    /// # Errors
    /// There is no such check, or no replica to ask.
    pub async fn probe(&self, deployment: &DeploymentId, check: &CheckName) -> Result<usize, ProbeError> {
        let jobs = self.jobs_of(deployment, check)?;
        let runs = jobs.iter().map(|job| run(&self.shared, job));
        Ok(futures_util::future::join_all(runs).await.len())
    }

    fn jobs_of(&self, deployment: &DeploymentId, check: &CheckName) -> Result<Vec<Job>, ProbeError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (deployment, check) = (deployment.clone(), check.clone());
        let found = running.desired.deployments.iter().find(|desired| desired.deployment.id == deployment);
        let Some(found) = found.filter(|found| found.deployment.checks.iter().any(|own| own.name == check)) else {
            return Err(ProbeError::NoSuchCheck { deployment, check });
        };
        let jobs: Vec<Job> = jobs(found).filter(|job| job.key.check == check).collect();
        if jobs.is_empty() { Err(ProbeError::NoReplica { deployment, check }) } else { Ok(jobs) }
    }
}

/// What one deployment wants to be run. A replica that is down is asked too: that it refuses is the news.
fn jobs(desired: &DesiredDeployment) -> impl Iterator<Item = Job> {
    desired.deployment.checks.iter().flat_map(|check| {
        let job = |replica: Option<u32>, port: Option<u16>| Job {
            key: JobKey { deployment: desired.deployment.id.clone(), check: check.name.clone(), replica },
            check: check.clone(),
            port,
        };
        if check.per_replica() {
            desired.replicas.iter().map(|replica| job(Some(replica.index), replica.port)).collect()
        } else {
            vec![job(None, None)]
        }
    })
}

/// When a new check runs first: the same for the same name, spread over all names.
fn first_run_after(key: &JobKey, every: Duration) -> Duration {
    let replica = key.replica.map(|replica| replica.to_string()).unwrap_or_default();
    let hash = selfheal_model::fingerprint([key.deployment.as_str(), key.check.as_str(), &replica]);
    let span = every.min(FIRST_RUN_WITHIN);
    span.mul_f64((hash >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Runs at `every` from beginning to beginning; what one run overran is skipped, not made up.
async fn keep_running(shared: Arc<Shared>, job: Arc<Job>, first: Duration) {
    let mut rhythm = interval_at(Instant::now() + first, job.check.every.max(MIN_EVERY));
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        rhythm.tick().await;
        run(&shared, &job).await;
    }
}

/// One run with its tries, told as events.
async fn run(shared: &Shared, job: &Job) {
    let verdict = tried(shared, job).await;
    // the receiver is gone only when everything stops: then there is nobody to tell
    let _ = shared.events.send(events::of(job, verdict, (shared.clock)())).await;
}

/// The first healthy try, or the last unhealthy one.
async fn tried(shared: &Shared, job: &Job) -> Verdict {
    let mut tries_left = job.check.retries;
    loop {
        let verdict = try_once(shared, job).await;
        if verdict.fault.is_none() || tries_left == 0 {
            return verdict;
        }
        tries_left -= 1;
        sleep(job.check.retry_delay).await;
    }
}

async fn try_once(shared: &Shared, job: &Job) -> Verdict {
    let Ok(_permit) = shared.tries.acquire().await else {
        unreachable!("the semaphore is never closed");
    };
    let began = Instant::now();
    let target = ReplicaTarget {
        deployment: &job.key.deployment,
        check: &job.key.check,
        replica: job.key.replica,
        port: job.port,
    };
    let mut findings = Findings::default();
    let said = attempt(shared, &job.check, &target, &mut findings).await;
    let latency = began.elapsed();
    match said {
        Ok(message) => Verdict { fault: None, message, latency, findings },
        Err(fault) => {
            let message = target.name(&job.check.kind, &fault.why);
            Verdict { fault: Some(fault.reason), message, latency, findings }
        }
    }
}

async fn attempt(
    shared: &Shared,
    check: &Check,
    target: &ReplicaTarget<'_>,
    findings: &mut Findings,
) -> Result<String, Fault> {
    if let CheckKind::Dns { name, record, expect, servers } = &check.kind {
        // it keeps the time itself, server by server, so that a silent one can be named
        let asked = dns::Question { name, record: *record, expect, servers };
        return dns::attempt(&asked, check.timeout, target, findings).await;
    }
    let (trusted, dir) = (&shared.trusted, shared.dir.as_deref());
    let connect_timeout = check.connect_timeout;
    let asking = async {
        match &check.kind {
            CheckKind::Http { .. } => http::attempt(trusted, dir, check, target, findings).await,
            CheckKind::Tcp { address, reach } => tcp::attempt(address, reach, connect_timeout, target).await,
            CheckKind::Tls { address, server_name, trust, reach } => {
                let server_name = server_name.as_deref();
                let asked = tls::Handshake { address, server_name, trust, reach, connect_timeout };
                tls::attempt(trusted, dir, &asked, target, findings).await
            }
            CheckKind::Dns { .. } => unreachable!("it was asked above"),
            CheckKind::Command { command } => command::attempt(command, dir, target, findings).await,
        }
    };
    tokio::time::timeout(check.timeout, asking).await.unwrap_or_else(|_| {
        let span = selfheal_model::units::format_duration(check.timeout);
        Err(Fault::new(FailureReason::Timeout, format!("no answer within {span}")))
    })
}

#[cfg(test)]
mod tests;
