//! What happened, for people to look up: alerts with their transitions, runs with their steps, deliveries, the audit
//! and the policies that were live, in one SQLite file that any SQLite client opens.
//!
//! Invariant: history never holds up the engine and never decides anything. What cannot be written is dropped and
//! counted, and the gap is written down as soon as something can be; losing the file loses history only, never state.
//!
//! [`History::take`] puts the changes of a batch into a bounded queue; a thread of its own writes them, all that wait
//! in one transaction together with the number of the newest batch in it. A batch at or below that number came again
//! and is left out; a view that says nothing new makes no row and no transition.

mod file;
mod missing_range;
mod query;
mod queue;
mod read;
mod reason;
mod record;
mod retain;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use missing_range::{MissingRange, Why};
pub use query::{DEFAULT_LIMIT, Kind, MAX_LIMIT, Page, Query, ReadError};
use queue::{Item, Queue};
use read::Reader;
use selfheal_contract::view::Change;
use selfheal_model::{StepAttemptId, Timestamp, Value};
use writer::Writer;

/// How much of the past is kept. What has not ended is kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What ended longer ago is deleted.
    pub max_age: Duration,
    /// Rows of each kind: alerts, runs, deliveries, audit, policies, gaps. The oldest go first.
    pub max_rows: u64,
    /// Of the file, without its free pages and its log. The oldest go first, whatever their kind.
    pub max_bytes: u64,
}

impl Limits {
    /// A quarter of a year: long enough to compare with last month.
    pub const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
    /// About one row every 40 seconds for [`Limits::MAX_AGE`]; counting them stays a matter of milliseconds.
    pub const MAX_ROWS: u64 = 200_000;
    /// A scan of the whole file, the slowest a query can be, stays in the order of a second.
    pub const MAX_BYTES: u64 = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_age: Limits::MAX_AGE, max_rows: Limits::MAX_ROWS, max_bytes: Limits::MAX_BYTES }
    }
}

/// Where the engine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub now: Timestamp,
    /// The newest batch of the journal; 0 when the engine starts without any state.
    pub journal_last: u64,
}

/// What was found where the file should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file to go on with.
    Good,
    /// None yet, and the engine is new too.
    Nothing,
    /// A file to go on with, but the journal ends before it: the engine's state was lost or is an older one. What had
    /// not ended is marked `lost`.
    StateLost,
    /// None, although the engine has state: a new one is begun.
    Missing,
    /// One that cannot be used: moved aside, a new one is begun.
    MovedAside { to: String, why: String },
    /// Nothing can be written there now. It is tried again while the engine runs; until then there is no history.
    Unavailable { why: String },
}

/// The history of one engine. Dropping it closes it.
pub struct History {
    queue: Arc<Queue>,
    reader: Reader,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Numbers the writer's thread shares with those who look.
#[derive(Debug, Default)]
struct Shared {
    /// Changes that came in and are not in the file.
    dropped: AtomicU64,
    /// Raised whenever another file lies at the path, so that the reader opens it.
    generation: AtomicU64,
    /// The newest batch in the file.
    written: AtomicU64,
}

impl History {
    /// Opens `path`, or begins it, and starts the thread that writes. It never fails: what is wrong with the file is
    /// told, and is no reason for an engine not to start.
    pub fn open(path: &Path, limits: Limits, start: Start) -> (History, Found) {
        let shared = Arc::new(Shared::default());
        let queue = Arc::new(Queue::new(shared.clone()));
        let (mut writer, found) = Writer::open(path, limits, start, queue.clone(), shared.clone());
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || writer.run());
        let (thread, found) = match thread {
            Ok(thread) => (Some(thread), found),
            Err(error) => {
                queue.close();
                (None, Found::Unavailable { why: format!("its thread does not start: {error}") })
            }
        };
        (History { queue, reader: Reader::new(path, shared), writer: Mutex::new(thread) }, found)
    }

    /// Takes over the changes of the journal's batch `sequence`, made at `at`. Returns at once: when too much waits,
    /// they are dropped and a gap is noted. A batch that is in the file already is left out.
    pub fn take(&self, sequence: u64, at: Timestamp, changes: Vec<Change>) {
        self.put(sequence, at, changes, false);
    }

    /// Takes over what an attempt of a step wrote where that is too long for the engine. It is shown with its run.
    pub fn take_output(&self, step: &StepAttemptId, log: Option<String>, output: Option<Value>) {
        self.queue.put(Item::Output { step: step.clone(), log, output });
    }

    /// Takes over everything that is shown anew after a recovery, as of batch `sequence`, whether that batch is in the
    /// file already or not. What the file holds as under way and is not among it ended unseen and is marked `lost`.
    /// Audit lines are left out: they cannot be told from those that are there.
    pub fn take_whole(&self, sequence: u64, at: Timestamp, changes: Vec<Change>) {
        self.put(sequence, at, changes, true);
    }

    fn put(&self, sequence: u64, at: Timestamp, mut changes: Vec<Change>, whole: bool) {
        changes.retain(|change| match change {
            Change::Alert(_) | Change::Run(_) | Change::Delivery(_) | Change::Engine(_) => true,
            Change::Audit(_) => !whole,
            Change::Deployment(_)
            | Change::DeploymentGone(_)
            | Change::Approval(_)
            | Change::Silence(_)
            | Change::SilenceGone(_) => false,
        });
        if !changes.is_empty() || whole {
            self.queue.put(Item::Batch { sequence, at, changes, whole });
        }
    }

    /// Rows of one kind, newest first. Blocks for as long as the file takes, never for the writer.
    ///
    /// # Errors
    /// The cursor is none of this query, or the file cannot be read.
    pub fn read(&self, query: &Query) -> Result<Page, ReadError> {
        self.reader.read(query).inspect_err(|error| {
            if matches!(error, ReadError::Damaged(_)) {
                self.queue.put(Item::Suspect);
            }
        })
    }

    /// Changes that came in since the start and are not in the file.
    pub fn dropped(&self) -> u64 {
        self.queue.shared.dropped.load(Ordering::Relaxed)
    }

    /// The newest batch that is in the file.
    pub fn written(&self) -> u64 {
        self.queue.shared.written.load(Ordering::Relaxed)
    }

    /// Returns when all that was taken until now is written or given up.
    pub fn flush(&self) {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        self.queue.put(Item::Flush(done));
        // a closed queue drops the sender: then there is nothing to wait for
        let _ = wait.recv();
    }

    /// Takes nothing more, and returns when what waits is written. Reading goes on.
    pub fn close(&self) {
        // so that the writer is the last to let go of the file, and leaves no log beside it
        self.reader.let_go();
        self.queue.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // a writer that panicked has nothing more to write
            let _ = thread.join();
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
