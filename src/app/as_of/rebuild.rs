//! Makes an engine as the running one was at an instant: the newest snapshot that is no later, and the journal after it
//! up to there, through the same fold as a recovery.
//!
//! Invariant: nothing is written and nothing that is decided leaves; where what comes out may not be what was, a
//! sentence says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::app::clock::Stopwatch;
use crate::app::policy_archive::{SharedArchive, policy_of};
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_contract::{Effect, Gap};
use selfheal_engine::{Engine, Input};
use selfheal_model::Timestamp;
use selfheal_model::units::format_duration;
use selfheal_store::record::{StoredBatch, StoredInput};
use selfheal_store::replay::{self, BatchReplay, ReplayError};
use selfheal_store::{Store, StoreError};

/// A tick is written every few seconds: a journal that ends longer before could not be written.
const LAGS: Duration = Duration::from_secs(30);

/// An engine as it was.
pub struct Rebuilt {
    pub engine: Engine,
    /// The batch after which the snapshot was made that it began with.
    pub snapshot: Option<u64>,
    /// The last batch that is in it.
    pub batch: Option<u64>,
    pub batches: u64,
    /// What has to be known of it first, in sentences.
    pub notes: Vec<String>,
}

/// Why there is no such engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRebuilt {
    #[error("nothing is known of that time: all that selfheal knows begins at {0}")]
    BeforeBeginning(Timestamp),
    #[error("the journal of that time is kept no more; {}", reaches(*since))]
    NotKept { since: Option<Timestamp> },
    #[error(
        "the journal up to then is too long to be folded in {}: after {read} batches it had come to {reached}",
        format_duration(*within)
    )]
    TooLong { within: Duration, read: u64, reached: Timestamp },
    #[error("selfheal is shutting down")]
    Stopping,
    #[error("the journal of that time cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error("the journal of that time cannot be folded: {0}")]
    Fold(#[from] ReplayError),
}

fn reaches(since: Option<Timestamp>) -> String {
    match since {
        Some(since) => format!("it reaches back to {since}"),
        None => "nothing of it is".to_owned(),
    }
}

/// How long it may take, and what ends it before.
pub struct Patience<'a> {
    pub began: Stopwatch,
    pub within: Duration,
    pub stopping: &'a AtomicBool,
}

impl Patience<'_> {
    fn is_left(&self, read: u64, reached: Timestamp) -> Result<(), NotRebuilt> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(NotRebuilt::Stopping);
        }
        if self.began.elapsed() > self.within {
            return Err(NotRebuilt::TooLong { within: self.within, read, reached });
        }
        Ok(())
    }
}

/// The engine as it was at `at`.
///
/// # Errors
/// What is kept does not reach back so far, it cannot be read, or it takes too long.
pub fn rebuild(
    store: &Store,
    archive: &SharedArchive,
    at: Timestamp,
    patience: &Patience<'_>,
) -> Result<Rebuilt, NotRebuilt> {
    let mut folding = Folding::begin(store, archive, at)?;
    let mut policy_of = policy_of(archive);
    for batch in store.tail(folding.batch.unwrap_or(0))? {
        patience.is_left(folding.batches, folding.ends_at)?;
        if let Reached::TheEnd = folding.take(batch?, at, &mut policy_of)? {
            break;
        }
    }
    folding.end(store, at)
}

/// Whether what comes next still belongs to the past that is asked for.
enum Reached {
    NotYet,
    TheEnd,
}

struct Folding {
    /// `None` until the journal's first batch.
    engine: Option<Engine>,
    snapshot: Option<u64>,
    batch: Option<u64>,
    batches: u64,
    notes: Vec<String>,
    /// The last instant that is known.
    ends_at: Timestamp,
    /// The first input that is later than what is asked for.
    next: Option<(Timestamp, StoredInput)>,
    /// Batches of another engine version, and which.
    mute: Option<u32>,
    has_diverged: bool,
    effects: Vec<Effect>,
}

impl Folding {
    /// A snapshot that cannot be used is passed over for the one before, and the journal's beginning is the last resort.
    fn begin(store: &Store, archive: &SharedArchive, at: Timestamp) -> Result<Self, NotRebuilt> {
        let mut folding = Folding {
            engine: None,
            snapshot: None,
            batch: None,
            batches: 0,
            notes: Vec::new(),
            ends_at: Timestamp::MIN,
            next: None,
            mute: None,
            has_diverged: false,
            effects: Vec::new(),
        };
        let mut snapshots = store.snapshots_until(at)?;
        let mut policy_of = policy_of(archive);
        while let Some(snapshot) = snapshots.next(&mut Vec::new()) {
            let Ok(engine) = Engine::restore(&snapshot.state, &mut policy_of) else { continue };
            folding.engine = Some(engine);
            folding.ends_at = snapshot.at;
            folding.snapshot = Some(snapshot.sequence);
            folding.batch = folding.snapshot;
            return Ok(folding);
        }
        if store.begins_at()? > 1 {
            return Err(NotRebuilt::NotKept { since: store.reaches_back_to()? });
        }
        Ok(folding)
    }

    /// Folds what of the batch came by `at`.
    fn take(
        &mut self,
        mut batch: StoredBatch,
        at: Timestamp,
        policy_of: &mut replay::PolicyOf<'_>,
    ) -> Result<Reached, NotRebuilt> {
        let end = batch.inputs.iter().position(|(own, _)| *own > at).unwrap_or(batch.inputs.len());
        let mut later = batch.inputs.split_off(end);
        let is_whole = later.is_empty();
        if !is_whole {
            self.next = Some(later.swap_remove(0));
            if batch.inputs.is_empty() {
                return Ok(Reached::TheEnd);
            }
        }
        let (sequence, ends_at) = (batch.sequence, batch.inputs.last().map_or(batch.at, |(own, _)| *own));
        self.effects.clear();
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => {
                let (engine, first) = replay::begin(&mut batch, policy_of)?;
                self.effects.extend(first);
                engine
            }
        };
        match replay::apply(&mut engine, batch, policy_of, &mut self.effects)? {
            BatchReplay::Same => {}
            BatchReplay::Mute { engine_version, .. } => self.mute = Some(engine_version),
            // a part of a batch decides a part of what the whole did
            BatchReplay::Diverged(_) if !is_whole => {}
            BatchReplay::Diverged(_) => self.has_diverged = true,
        }
        self.engine = Some(engine);
        self.batch = Some(sequence);
        self.batches += 1;
        self.ends_at = self.ends_at.max(ends_at);
        Ok(if is_whole { Reached::NotYet } else { Reached::TheEnd })
    }

    /// Lets time pass up to `at`, as far as it was watched.
    fn end(mut self, store: &Store, at: Timestamp) -> Result<Rebuilt, NotRebuilt> {
        let Some(mut engine) = self.engine else {
            return Err(match self.next {
                Some((first, _)) => NotRebuilt::BeforeBeginning(first),
                None => NotRebuilt::NotKept { since: store.reaches_back_to()? },
            });
        };
        let until = match &self.next {
            Some((_, StoredInput::Resumed(from, to, because))) if *from < at => {
                let why = match because {
                    Gap::Stopped => "selfheal did not run",
                    Gap::Blind => "selfheal watched nothing",
                };
                self.notes.push(format!("{why} from {from} to {to}: this is as it was at {from}"));
                *from
            }
            None if at.since(self.ends_at) > LAGS => {
                let text = format!("the journal ends at {}: what came after could not be written down", self.ends_at);
                self.notes.push(text);
                self.ends_at
            }
            _ => at,
        };
        self.effects.clear();
        engine.handle(until, Input::Tick, &mut self.effects);
        if let Some(version) = self.mute {
            self.notes.push(format!(
                "version {version} of the engine was running and this is version {ENGINE_VERSION}: where the two decide \
                 differently, it is as the present one would have had it"
            ));
        }
        if self.has_diverged {
            let text = "made anew, the engine decides otherwise than it is journalled: it may not be quite as it was";
            self.notes.push(text.to_owned());
        }
        let Folding { snapshot, batch, batches, notes, .. } = self;
        Ok(Rebuilt { engine, snapshot, batch, batches, notes })
    }
}

#[cfg(test)]
mod tests;
