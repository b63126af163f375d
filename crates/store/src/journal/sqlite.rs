//! The journal on disk: segments in SQLite, one row and one commit for each batch.
//!
//! Invariant: when `append` returns, the batch is in the segment's write-ahead log, and on disk as the durability asks.
//! An error says whether it may be there all the same.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::segment::{self, SegmentName};
use super::segment_maintenance::{SegmentMaintenance, log_of, sync_file};
use super::{Appended, Batch, Journal, JournalError};
use crate::StoreError;
use selfheal_model::Timestamp;
use selfheal_policy::Durability;

/// How large things may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A segment is closed when so much was written to it: deleting whole files is the only cheap way to get room back.
    pub segment_bytes: u64,
    /// A segment is closed after so long, so that snapshots stay near the end.
    pub segment_age: Duration,
    /// The write-ahead log is written back into its segment each time it grew by so much.
    pub checkpoint_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            segment_bytes: 256 * 1024 * 1024,
            segment_age: Duration::from_secs(3_600),
            checkpoint_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Appends to the newest segment of a folder.
pub struct SqliteJournal {
    dir: PathBuf,
    durability: Durability,
    limits: Limits,
    maintenance: SegmentMaintenance,
    segment: Option<Segment>,
    last_sequence: u64,
    /// Told of each segment that is complete.
    on_closed: Box<dyn FnMut() + Send>,
}

/// The one that is written to.
struct Segment {
    connection: Connection,
    name: SegmentName,
    bytes: u64,
    since_checkpoint: u64,
    /// When its first batch of this life came.
    since: Timestamp,
}

impl SqliteJournal {
    /// Goes on after `last_sequence`, in a segment of its own: what earlier lives wrote is closed.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn open(
        dir: PathBuf,
        durability: Durability,
        limits: Limits,
        last_sequence: u64,
        on_closed: Box<dyn FnMut() + Send>,
    ) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&dir).map_err(|error| StoreError::io(&dir, error))?;
        let sync_every = match durability {
            Durability::Sync => None,
            Durability::Interval(every) => Some(every),
        };
        let maintenance = SegmentMaintenance::start(&dir, sync_every).map_err(|error| StoreError::io(&dir, error))?;
        Ok(SqliteJournal { dir, durability, limits, maintenance, segment: None, last_sequence, on_closed })
    }

    fn synchronous(&self) -> &'static str {
        match self.durability {
            Durability::Sync => "FULL",
            // the log is synced by the maintenance, and by `append` where something acts
            Durability::Interval(_) => "NORMAL",
        }
    }

    /// The segment to write to, a new one where the last is full.
    fn segment(&mut self, at: Timestamp) -> Result<&mut Segment, rusqlite::Error> {
        let full = self.segment.as_ref().is_some_and(|segment| {
            segment.bytes >= self.limits.segment_bytes || at.since(segment.since) >= self.limits.segment_age
        });
        if full && let Some(segment) = self.segment.take() {
            let path = segment.name.path.clone();
            drop(segment);
            self.maintenance.closed(&path);
            (self.on_closed)();
        }
        if self.segment.is_none() {
            let name = SegmentName::of(&self.dir, self.last_sequence + 1);
            if !name.path.exists() {
                self.maintenance.take_next(&name.path);
            }
            let connection = segment::open(&name.path, self.synchronous())?;
            *self.maintenance.shared.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(log_of(&name.path));
            self.segment = Some(Segment { connection, name, bytes: 0, since_checkpoint: 0, since: at });
        }
        Ok(self.segment.as_mut().expect("it was just opened"))
    }

    fn write(&mut self, sequence: u64, at: Timestamp, body: &[u8]) -> Result<(), rusqlite::Error> {
        let checkpointed = self.maintenance.shared.checkpointed.swap(false, Ordering::SeqCst);
        let every = self.limits.checkpoint_bytes;
        let segment = self.segment(at)?;
        if checkpointed {
            // little is left to do: it lets the next commit begin the log anew
            segment.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        segment::insert(&segment.connection, sequence, at, body)?;
        segment.bytes += body.len() as u64;
        segment.since_checkpoint += body.len() as u64;
        if segment.since_checkpoint >= every {
            segment.since_checkpoint = 0;
            let path = segment.name.path.clone();
            self.maintenance.checkpoint(&path);
        }
        Ok(())
    }

    /// At an interval the maintenance syncs; what acts is synced here.
    fn make_sure(&mut self, acts: bool) -> std::io::Result<()> {
        if self.durability == Durability::Sync {
            return Ok(());
        }
        self.maintenance.shared.unsynced.store(true, Ordering::SeqCst);
        match &self.segment {
            Some(segment) if acts => sync_file(&log_of(&segment.name.path)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
impl SqliteJournal {
    /// The open segment has room for so many pages from now on.
    pub(super) fn limit_pages(&mut self, pages: Option<i64>) {
        let segment = self.segment.as_ref().expect("a segment is open");
        let pages = pages.unwrap_or(i64::from(u32::MAX) - 1);
        let _: i64 = segment
            .connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))
            .expect("a pragma");
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, batch: &Batch) -> Result<Appended, JournalError> {
        let sequence = self.last_sequence + 1;
        self.write(sequence, batch.at(), &batch.to_bytes()).map_err(|error| self.explain(&error))?;
        self.make_sure(batch.acts()).map_err(|error| JournalError::Unknown(error.to_string()))?;
        self.last_sequence = sequence;
        Ok(Appended { sequence })
    }

    fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    fn reopen(&mut self) -> Result<u64, JournalError> {
        self.segment = None;
        let newest = segment::segments(&self.dir).map_err(|error| JournalError::Unknown(error.to_string()))?.pop();
        let Some(name) = newest else { return Ok(self.last_sequence) };
        let synchronous = self.synchronous();
        let unknown = |error: rusqlite::Error| JournalError::Unknown(error.to_string());
        let connection = segment::open(&name.path, synchronous).map_err(unknown)?;
        let last = segment::last(&connection).map_err(unknown)?.unwrap_or(name.first - 1);
        let bytes = name.size();
        self.last_sequence = last.max(self.last_sequence);
        // an empty segment named after a sequence that came elsewhere is of no use
        if last + 1 >= name.first {
            *self.maintenance.shared.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(log_of(&name.path));
            self.segment = Some(Segment { connection, name, bytes, since_checkpoint: 0, since: Timestamp::MAX });
        }
        Ok(self.last_sequence)
    }
}

impl SqliteJournal {
    /// Whether a failed commit may be there all the same. SQLite rolls back what it could not write; when a sync fails
    /// nobody knows.
    fn explain(&self, error: &rusqlite::Error) -> JournalError {
        let place = self.dir.display();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => JournalError::Refused(format!("no space is left for {place}")),
            Some(ErrorCode::ReadOnly) => JournalError::Refused(format!("{place} is read-only")),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
                JournalError::Refused(format!("{place} cannot be written: {error}"))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                JournalError::Refused(format!("{place} is held by another program: {error}"))
            }
            _ => JournalError::Unknown(format!("{place}: {error}")),
        }
    }
}
