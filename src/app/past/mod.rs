//! What was, explained: by an engine that is made as the running one was, or, where the journal of that time is kept no
//! more, out of history.
//!
//! Invariant: the running engine does not notice. What is made anew is made by a thread that may block, one at a time,
//! within [`WITHIN`], of what lies on disk.

mod rebuild;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

pub(super) use rebuild::NotRebuilt;
use rebuild::{Patience, rebuild};
pub(super) use told::{Named, labels_of, out_of_history};

use super::clock::Stopwatch;
use super::recovery::SharedShelf;
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
pub(super) struct Past {
    store: Store,
    shelf: SharedShelf,
    turn: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
}

/// Why an engine of the past could not be asked.
#[derive(Debug)]
pub(super) enum NotAsked {
    /// As many as may be are being made.
    TooMany,
    NotRebuilt(NotRebuilt),
    Broken(String),
}

impl Past {
    pub fn new(store: Store, shelf: SharedShelf) -> Self {
        Past { store, shelf, turn: Arc::new(Semaphore::new(AT_ONCE)), stopping: Arc::default() }
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
    ) -> Result<Option<Explained>, NotAsked> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| NotAsked::TooMany)?;
        let (store, shelf, stopping) = (self.store.clone(), self.shelf.clone(), self.stopping.clone());
        let asking = move || {
            // it goes on when the asker has gone away: no other one is made meanwhile
            let _turn = turn;
            let patience = Patience { began: Stopwatch::start(), within: WITHIN, stopping: &stopping };
            let rebuilt = rebuild(&store, &shelf, at, &patience)?;
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
        asked.map_err(|error| NotAsked::Broken(error.to_string()))?.map_err(NotAsked::NotRebuilt)
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

    use super::super::recovery::Shelf;
    use super::*;

    #[tokio::test]
    async fn one_engine_of_the_past_is_made_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::at(dir.path());
        let shelf = Shelf::new(store.open().expect("a new folder").policies, dir.path());
        let past = Past::new(store, Arc::new(Mutex::new(shelf)));
        let turn = past.turn.clone().try_acquire_owned().expect("nobody asks yet");
        let asked = past.ask(Timestamp::from_millis(0), |_| None).await;
        assert!(matches!(asked, Err(NotAsked::TooMany)), "{asked:?}");
        drop(turn);
        let asked = past.ask(Timestamp::from_millis(0), |_| None).await;
        assert!(matches!(asked, Err(NotAsked::NotRebuilt(NotRebuilt::NotKept { since: None }))), "{asked:?}");
        assert_eq!(past.reaches_back_to().await, None);
    }
}
