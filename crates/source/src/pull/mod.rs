//! The sources that selfheal asks itself, each on its own rhythm: pages of metrics, and the machine it runs on.
//!
//! Invariant: what is asked is what was last applied; a source that did not change keeps its rhythm. Whether a source
//! answers is always said (`up`), so that silence is never taken for an answer.

mod host;
mod round;
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

use self::round::Rounds;
use self::scrape::Scraper;
use super::checks::Clock;
use super::formats::Foreign;
use selfheal_contract::Desired;
use selfheal_model::{Event, ResolveSecret, Source, SourceKind};

/// A new source is first asked within this (or within its `every`, if shorter), spread by its name, so that a start
/// does not ask everything at once.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// Asks what is desired. Dropping it stops every source.
pub struct Sources {
    shared: Arc<Shared>,
    running: Mutex<BTreeMap<SmolStr, Task>>,
}

struct Shared {
    events: mpsc::Sender<Vec<Event>>,
    clock: Clock,
    secrets: Arc<dyn ResolveSecret>,
    /// Of the policy: `ca_file` stands beside it.
    dir: PathBuf,
}

/// What a source runs with: itself, and how foreign samples find their deployment.
#[derive(Clone, PartialEq)]
struct Job {
    source: Arc<Source>,
    deployment_from: Arc<[SmolStr]>,
}

struct Task {
    job: Job,
    handle: JoinHandle<()>,
    round: Arc<Mutex<Option<Round>>>,
}

/// How a source does: its last round, and how many there were since it was begun or changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// It gave what it was asked for.
    pub is_up: bool,
    pub took: Duration,
    pub answered: u64,
    pub failed: u64,
}

impl Round {
    fn ended(before: Option<Round>, is_up: bool, took: Duration) -> Round {
        let Round { answered, failed, .. } = before.unwrap_or_default();
        Round { is_up, took, answered: answered + u64::from(is_up), failed: failed + u64::from(!is_up) }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Sources {
    /// Samples go to `events`; where that is full, sources wait.
    pub fn new(events: mpsc::Sender<Vec<Event>>, clock: Clock, secrets: Arc<dyn ResolveSecret>, dir: PathBuf) -> Self {
        Sources { shared: Arc::new(Shared { events, clock, secrets, dir }), running: Mutex::default() }
    }

    /// Starts, stops and changes sources until what is asked is what is desired. Must be called inside a tokio runtime.
    pub fn apply(&self, desired: &Desired) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for source in &desired.sources {
            let job = Job { source: source.clone(), deployment_from: desired.deployment_from.clone() };
            let task = match before.remove(&source.name) {
                Some(task) if task.job == job => task,
                changed => {
                    let first = if changed.is_some() { Duration::ZERO } else { first_after(source) };
                    let round = Arc::default();
                    let asking = keep_asking(self.shared.clone(), job.clone(), first, Arc::clone(&round));
                    Task { job, handle: tokio::spawn(asking), round }
                }
            };
            running.insert(source.name.clone(), task);
        }
    }

    /// The last round of each source that has had one, by name.
    pub fn rounds(&self) -> Vec<(SmolStr, Round)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |task: &Task| *task.round.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(|(name, task)| Some((name.clone(), last(task)?))).collect()
    }
}

/// When a new source is asked first: the same for the same name, spread over all names.
fn first_after(source: &Source) -> Duration {
    let hash = selfheal_model::fingerprint([source.name.as_str()]);
    source.every.min(FIRST_WITHIN).mul_f64((hash >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Asks at `every` from beginning to beginning; what one round overran is skipped, not made up.
async fn keep_asking(shared: Arc<Shared>, job: Job, first: Duration, round: Arc<Mutex<Option<Round>>>) {
    let source = job.source.clone();
    let mut asker = Asker::of(&source);
    let mut rounds = Rounds::new(source.clone(), job.deployment_from);
    let mut rhythm = interval_at(Instant::now() + first, source.every);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        rhythm.tick().await;
        let (began, arrival) = (Instant::now(), (shared.clock)());
        let said = tokio::time::timeout(source.timeout, asker.ask(&shared, &source)).await.unwrap_or_else(|_| {
            Err(format!("no answer within {}", selfheal_model::units::format_duration(source.timeout)))
        });
        let took = began.elapsed();
        {
            let mut round = round.lock().unwrap_or_else(PoisonError::into_inner);
            *round = Some(Round::ended(*round, said.is_ok(), took));
        }
        let events = rounds.take(arrival, took, said);
        // the receiver is gone only when everything stops: then there is nobody to tell
        let _ = shared.events.send(events).await;
    }
}

/// How one source is asked, with what it remembers between rounds.
enum Asker {
    Scrape(Scraper),
    Host(host::Host),
}

impl Asker {
    fn of(source: &Source) -> Asker {
        match source.kind {
            SourceKind::Scrape { .. } => Asker::Scrape(Scraper::default()),
            SourceKind::Host => Asker::Host(host::Host::default()),
        }
    }

    async fn ask(&mut self, shared: &Shared, source: &Source) -> Result<Foreign, String> {
        match self {
            Asker::Scrape(scraper) => scraper.ask(source, shared.secrets.as_ref(), &shared.dir).await,
            Asker::Host(host) => host.read(),
        }
    }
}
