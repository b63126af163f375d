//! What was, explained: by an engine that is made as the running one was, or, where the journal of that time is kept no
//! more, out of history.
//!
//! Invariant: the running engine does not notice. What is made anew is made by a thread that may block, one at a time,
//! within [`WITHIN`], of what lies on disk.

mod from_history;
mod rebuild;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

pub(super) use from_history::{Named, labels_of, out_of_history};
pub(super) use rebuild::NotRebuilt;
use rebuild::{Patience, rebuild};

use super::clock::Stopwatch;
use super::policy_archive::SharedArchive;
use selfheal_api::{Explained, Told};
use selfheal_contract::explanation::Explanation;
use selfheal_engine::Engine;
use selfheal_model::Timestamp;
use selfheal_store::Store;

/// Each holds an engine as large as the running one.
const AT_ONCE: usize = 1;
/// An asker is patient for a minute, and the rest of the way takes some of it.
const WITHIN: Duration = Duration::from_secs(40);

/// What lies on disk of the past.
pub(super) struct AsOf {
    store: Store,
    archive: SharedArchive,
    turn: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
}

/// Why an engine of the past could not be asked.
#[derive(Debug)]
pub(super) enum NotAnswered {
    /// As many as may be are being made.
    TooMany,
    NotRebuilt(NotRebuilt),
    Broken(String),
}

impl AsOf {
    pub fn new(store: Store, archive: SharedArchive) -> Self {
        AsOf { store, archive, turn: Arc::new(Semaphore::new(AT_ONCE)), stopping: Arc::default() }
    }

    /// Nobody waits for an answer any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Asks the engine as it was at `at`. `None`: it has nothing to say.
    pub async fn ask(
        &self,
        at: Timestamp,
        question: impl FnOnce(&Engine) -> Option<Explanation> + Send + 'static,
    ) -> Result<Option<Explained>, NotAnswered> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| NotAnswered::TooMany)?;
        let (store, archive, stopping) = (self.store.clone(), self.archive.clone(), self.stopping.clone());
        let asking = move || {
            // it goes on when the asker has gone away: no other one is made meanwhile
            let _turn = turn;
            let patience = Patience { began: Stopwatch::start(), within: WITHIN, stopping: &stopping };
            let rebuilt = rebuild(&store, &archive, at, &patience)?;
            let Some(mut explanation) = question(&rebuilt.engine) else { return Ok(None) };
            explanation.because.splice(0..0, rebuilt.notes);
            let told = Told::Journal {
                asked_at: at,
                snapshot: rebuilt.snapshot,
                batch: rebuilt.batch,
                batches: rebuilt.batches,
                policy: rebuilt.engine.policy().version.clone(),
            };
            Ok(Some(Explained { explanation, told }))
        };
        let asked = tokio::task::spawn_blocking(asking).await;
        asked.map_err(|error| NotAnswered::Broken(error.to_string()))?.map_err(NotAnswered::NotRebuilt)
    }

    /// From when on the figures of conditions can be worked out; `None`: from no time on, or nobody can tell.
    pub async fn reaches_back_to(&self) -> Option<Timestamp> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.reaches_back_to().ok().flatten()).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::policy_archive::PolicyArchive;
    use super::*;

    #[tokio::test]
    async fn one_engine_of_the_past_is_made_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::at(dir.path());
        let archive = PolicyArchive::new(store.open().expect("a new folder").policies, dir.path());
        let past = AsOf::new(store, Arc::new(Mutex::new(archive)));
        let turn = past.turn.clone().try_acquire_owned().expect("nobody asks yet");
        let asked = past.ask(Timestamp::from_millis(0), |_| None).await;
        assert!(matches!(asked, Err(NotAnswered::TooMany)), "{asked:?}");
        drop(turn);
        let asked = past.ask(Timestamp::from_millis(0), |_| None).await;
        assert!(matches!(asked, Err(NotAnswered::NotRebuilt(NotRebuilt::NotKept { since: None }))), "{asked:?}");
        assert_eq!(past.reaches_back_to().await, None);
    }
}
