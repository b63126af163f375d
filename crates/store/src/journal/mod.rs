//! The journal: every batch of inputs with the effects decided on them, appended before any of those is released.
//!
//! The driver builds a [`Batch`] while it hands inputs to the engine, appends it, and only then answers and releases.
//! [`SqliteJournal`] lasts; [`MemoryJournal`] lasts as long as the process.

mod segment;
mod segment_maintenance;
mod sqlite;

pub use segment::{Row, SegmentName, SegmentReader, segments};
pub use sqlite::{Limits, SqliteJournal};

use rusqlite::Connection;
pub(super) use segment::beside;

pub use super::record::Batch;
use super::record::{RecordError, StoredBatch};

/// The place of a committed batch in the order of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Appended {
    /// 1 for the first batch, without gaps.
    pub sequence: u64,
}

/// Why a batch is not committed, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Nothing was written: the same batch may be appended again.
    #[error("the journal cannot take anything now: {0}")]
    Refused(String),
    /// It may have been written: read the last sequence before going on.
    #[error("whether the journal took the last batch is unknown: {0}")]
    Unknown(String),
}

/// Keeps batches in order.
pub trait Journal: Send {
    /// Returns once the batch is as safe as this journal makes it.
    ///
    /// # Errors
    /// It was not committed, or nobody knows. Nothing decided in it may be released.
    fn append(&mut self, batch: &Batch) -> Result<Appended, JournalError>;

    /// The newest committed batch; 0 before the first.
    fn last_sequence(&self) -> u64;

    /// After an unknown commit: looks anew what is written, and gives the last sequence.
    ///
    /// # Errors
    /// It cannot be read now.
    fn reopen(&mut self) -> Result<u64, JournalError>;
}

/// A segment's file to write to, synced with every commit.
pub(super) fn open_segment(path: &std::path::Path) -> rusqlite::Result<Connection> {
    segment::open(path, "FULL")
}

/// Puts back a row that was read.
pub(super) fn insert_row(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    segment::insert(connection, row.sequence, row.at, &row.body)
}

/// Keeps the rows of all batches. Forgets with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    rows: Vec<Vec<u8>>,
}

impl MemoryJournal {
    /// A journal of these rows.
    pub fn of_rows(rows: Vec<Vec<u8>>) -> Self {
        MemoryJournal { rows }
    }

    /// The rows, oldest first, as they are written.
    pub fn rows(&self) -> &[Vec<u8>] {
        &self.rows
    }

    /// All batches, oldest first, as they are read back.
    pub fn batches(&self) -> impl Iterator<Item = Result<StoredBatch, RecordError>> + '_ {
        (1..).zip(&self.rows).map(|(sequence, row)| StoredBatch::from_bytes(sequence, row))
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, batch: &Batch) -> Result<Appended, JournalError> {
        self.rows.push(batch.to_bytes());
        Ok(Appended { sequence: self.last_sequence() })
    }

    fn last_sequence(&self) -> u64 {
        self.rows.len() as u64
    }

    fn reopen(&mut self) -> Result<u64, JournalError> {
        Ok(self.last_sequence())
    }
}

#[cfg(test)]
mod tests;
