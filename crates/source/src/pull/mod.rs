//! The sources that selfheal polls, each at its own interval: Prometheus scrapes, and the machine selfheal runs on.
//!
//! Invariant: the sources that run are those applied last; a source that did not change keeps its timing. Every poll
//! reports whether the source answered (`up`), so that silence is never taken for a value.

mod host;
mod poll;
mod scrape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::poll::PollState;
use self::scrape::Scraper;
use super::checks::Clock;
use super::formats::Foreign;
use selfheal_contract::Desired;
use selfheal_model::{Event, ResolveSecret, Source, SourceKind};

/// A new source is polled for the first time within this (or within its `every`, if shorter). The delay is a hash of its
/// name, so that a start does not poll all sources at once.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// Polls the desired sources. Dropping it stops all of them.
pub struct Sources {
    shared: Arc<Shared>,
    running: Mutex<BTreeMap<SmolStr, Task>>,
}

struct Shared {
    events: mpsc::Sender<Vec<Event>>,
    clock: Clock,
    secrets: Arc<dyn ResolveSecret>,
    /// The policy folder: a relative `ca_file` starts here.
    dir: PathBuf,
}

/// The configuration of one task. A task is restarted when it changes.
#[derive(Clone, PartialEq)]
struct Job {
    source: Arc<Source>,
    deployment_from: Arc<[SmolStr]>,
}

struct Task {
    job: Job,
    handle: JoinHandle<()>,
    last: Arc<Mutex<Option<Poll>>>,
}

/// The last poll of a source, with the number of polls since the source was added or changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poll {
    /// Whether the source answered with metrics that can be parsed.
    pub is_up: bool,
    /// The duration of the last poll.
    pub took: Duration,
    /// Polls that were answered.
    pub answered: u64,
    /// Polls that were not.
    pub failed: u64,
}

impl Poll {
    fn ended(before: Option<Poll>, is_up: bool, took: Duration) -> Poll {
        let Poll { answered, failed, .. } = before.unwrap_or_default();
        Poll { is_up, took, answered: answered + u64::from(is_up), failed: failed + u64::from(!is_up) }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Sources {
    /// Samples are sent to `events`; while that channel is full, the sources wait.
    pub fn new(events: mpsc::Sender<Vec<Event>>, clock: Clock, secrets: Arc<dyn ResolveSecret>, dir: PathBuf) -> Self {
        Sources { shared: Arc::new(Shared { events, clock, secrets, dir }), running: Mutex::default() }
    }

    /// Starts, stops and restarts sources so that exactly the desired ones run. Must be called inside a tokio runtime.
    pub fn apply(&self, desired: &Desired) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for source in &desired.sources {
            let job = Job { source: source.clone(), deployment_from: desired.deployment_from.clone() };
            let task = match before.remove(&source.name) {
                Some(task) if task.job == job => task,
                changed => {
                    let first = if changed.is_some() { Duration::ZERO } else { first_after(source) };
                    let last = Arc::default();
                    let polling = poll_at_interval(self.shared.clone(), job.clone(), first, Arc::clone(&last));
                    Task { job, handle: tokio::spawn(polling), last }
                }
            };
            running.insert(source.name.clone(), task);
        }
    }

    /// The last poll of each source that has been polled, by name.
    pub fn polls(&self) -> Vec<(SmolStr, Poll)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |task: &Task| *task.last.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(|(name, task)| Some((name.clone(), last(task)?))).collect()
    }
}

/// The delay before the first poll of a new source: always the same for one name, spread over all names.
fn first_after(source: &Source) -> Duration {
    let hash = selfheal_model::fingerprint([source.name.as_str()]);
    source.every.min(FIRST_WITHIN).mul_f64((hash >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Polls every `every`, counted from start to start; polls that a slow one overran are skipped.
async fn poll_at_interval(shared: Arc<Shared>, job: Job, first: Duration, last: Arc<Mutex<Option<Poll>>>) {
    let source = job.source.clone();
    let mut fetcher = Fetcher::of(&source);
    let mut state = PollState::new(source.clone(), job.deployment_from);
    let mut interval = interval_at(Instant::now() + first, source.every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let (began, arrival) = (Instant::now(), (shared.clock)());
        let result = tokio::time::timeout(source.timeout, fetcher.fetch(&shared, &source)).await.unwrap_or_else(|_| {
            Err(format!("no answer within {}", selfheal_model::units::format_duration(source.timeout)))
        });
        let took = began.elapsed();
        {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(Poll::ended(*last, result.is_ok(), took));
        }
        let events = state.events_of(arrival, took, result);
        // the receiver is closed only at shutdown: then nobody needs the events
        let _ = shared.events.send(events).await;
    }
}

/// Fetches the samples of one source and keeps what it needs between polls.
enum Fetcher {
    Scrape(Scraper),
    Host(host::Host),
}

impl Fetcher {
    fn of(source: &Source) -> Fetcher {
        match source.kind {
            SourceKind::Scrape { .. } => Fetcher::Scrape(Scraper::default()),
            SourceKind::Host => Fetcher::Host(host::Host::default()),
        }
    }

    async fn fetch(&mut self, shared: &Shared, source: &Source) -> Result<Foreign, String> {
        match self {
            Fetcher::Scrape(scraper) => scraper.fetch(source, shared.secrets.as_ref(), &shared.dir).await,
            Fetcher::Host(host) => host.read(),
        }
    }
}
