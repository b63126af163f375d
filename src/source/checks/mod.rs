//! The checks selfheal runs itself: http, tcp and command, each on its own rhythm, once per replica where it says so.
//!
//! Invariant: what runs is what was last applied; a check that did not change keeps its rhythm. A run says what it saw
//! as events and decides nothing: smoothing and start periods are the engine's.

mod command;
mod http;
mod place;
mod tcp;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::engine::{Desired, DesiredDeployment};
use crate::model::{
    Check, CheckKind, CheckName, DeploymentId, Event, EventKind, FailureReason, Labels, MetricName, Origin, Timestamp,
};
use http::Clients;
use place::Place;
use verdict::{Fault, Verdict};

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
    clients: Clients,
    tries: Semaphore,
    /// Where the programs of command checks run.
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
        let shared = Shared { events, clock, clients: Clients::default(), tries, dir: None };
        Checks { shared: Arc::new(shared), running: Mutex::default() }
    }

    /// Programs of command checks run in `dir` (the policy folder), so that a path beside the policy means what it
    /// says. To be called before the first [`Checks::apply`].
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
        self.shared.clients.keep_only(running.tasks.values().map(|task| &task.job.check));
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
    let hash = crate::model::fingerprint([key.deployment.as_str(), key.check.as_str(), &replica]);
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
    let _ = shared.events.send(events(job, verdict, (shared.clock)())).await;
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
    let place =
        Place { deployment: &job.key.deployment, check: &job.key.check, replica: job.key.replica, port: job.port };
    let attempt = async {
        match &job.check.kind {
            CheckKind::Http { .. } => http::attempt(&shared.clients, &job.check, &place).await,
            CheckKind::Tcp { address } => tcp::attempt(address, job.check.connect_timeout, &place).await,
            CheckKind::Command { command } => command::attempt(command, shared.dir.as_deref(), &place).await,
        }
    };
    let said = tokio::time::timeout(job.check.timeout, attempt).await.unwrap_or_else(|_| {
        let span = crate::model::units::format_duration(job.check.timeout);
        Err(Fault::new(FailureReason::Timeout, format!("no answer within {span}")))
    });
    let latency = began.elapsed();
    match said {
        Ok(message) => Verdict { fault: None, message, latency },
        Err(fault) => Verdict { message: place.name(&job.check.kind, &fault.why), fault: Some(fault.reason), latency },
    }
}

/// The verdict itself, and the two metrics every check gives.
fn events(job: &Job, verdict: Verdict, time: Timestamp) -> Vec<Event> {
    let replica = job.key.replica.map(|replica| replica.to_string());
    let labels: Labels = [("check", job.key.check.as_str())]
        .into_iter()
        .chain(replica.as_deref().map(|replica| ("replica", replica)))
        .collect();
    let latency_ms = (verdict.latency.as_secs_f64() * 1e6).round() / 1e3;
    let up = if verdict.fault.is_none() { 1.0 } else { 0.0 };
    let metric = |name: &str, value| EventKind::Metric { name: MetricName::from(name), value, labels: labels.clone() };
    let health = EventKind::Health {
        check: job.key.check.clone(),
        replica: job.key.replica,
        status: verdict.status(),
        latency_ms: Some(latency_ms),
        reason: verdict.fault,
        message: verdict.message.clone(),
        confidence: None,
    };
    [health, metric("check_up", up), metric("check_latency_ms", latency_ms)]
        .into_iter()
        .map(|kind| Event { deployment: job.key.deployment.clone(), time, kind, origin: Origin::Watched })
        .collect()
}

#[cfg(test)]
mod tests;
