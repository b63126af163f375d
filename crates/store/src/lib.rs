//! The data folder: the journal, snapshots, policies by version and history, in SQLite; and secrets, which are read when
//! they are used.
//!
//! The crate depends on the engine, because recovery replays the journal through it; it never knows sources, adapters,
//! notifiers or the API.
//!
//! Invariant: no effect is released before the journal has the batch it was decided in. A file that cannot be read is
//! reported and never skipped silently. The value of a secret is stored nowhere.

pub mod history;
pub mod journal;
pub mod policies;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod replay;
pub mod retention;
pub mod secrets;
pub mod snapshot;
pub mod writer;

use std::fmt::Display;
use std::path::{Path, PathBuf};

pub use journal::{Appended, Batch, Journal, JournalError, MemoryJournal, SqliteJournal};
pub use policies::Policies;
pub use record::StoredBatch;
pub use recovery::{Opened, Store, StoreOptions};
pub use secrets::PolicySecrets;

/// Why a data folder cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {why}", path.display())]
    Io { path: PathBuf, why: String },
    #[error(
        "{} is damaged: {why}. `selfheal repair` salvages what is readable and says what is lost; until then nothing \
         is started, because what is in it would be forgotten in silence",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error(
        "{} was written by a later version of selfheal (format {format}); start that version, or give this one its own \
         --data-dir",
        path.display()
    )]
    Newer { path: PathBuf, format: u64 },
    #[error(
        "the journal in {} has no batches {from} to {to}: files are missing. Put them back, or let `selfheal repair` \
         go on with what is there",
        path.display()
    )]
    Missing { path: PathBuf, from: u64, to: u64 },
}

impl StoreError {
    fn io(path: &Path, error: impl Display) -> Self {
        StoreError::Io { path: path.to_owned(), why: error.to_string() }
    }

    fn damaged(path: &Path, why: impl Display) -> Self {
        StoreError::Damaged { path: path.to_owned(), why: why.to_string() }
    }
}

/// Syncs a folder, so that renames and removals in it survive a power failure.
fn sync_folder(dir: &Path) -> Result<(), StoreError> {
    std::fs::File::open(dir).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::io(dir, error))
}
