//! One segment: an SQLite file with a row for each batch, named by its first sequence.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::StoreError;
use selfheal_model::Timestamp;

/// Of the table below.
const FORMAT: i64 = 1;
/// Rows are large and come one after the other.
const PAGE_SIZE: i64 = 16 * 1024;
/// A reader of a closed segment waits so long for its checkpoint.
const BUSY: Duration = Duration::from_secs(10);
/// Rows read at once.
const CHUNK: i64 = 64;

/// The name of a segment's file: its first sequence, so that names sort as sequences do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub first: u64,
    pub path: PathBuf,
}

impl SegmentName {
    pub fn of(dir: &Path, first: u64) -> Self {
        SegmentName { first, path: dir.join(format!("{first:020}.db")) }
    }

    /// What the file and its write-ahead log take on disk, in bytes.
    pub fn size(&self) -> u64 {
        let length = |path: &Path| path.metadata().map_or(0, |file| file.len());
        length(&self.path) + length(&beside(&self.path, "-wal"))
    }

    /// Removes the file and what lies beside it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> std::io::Result<()> {
        for suffix in ["-wal", "-shm"] {
            // it is there only after an abrupt end
            let _ = std::fs::remove_file(beside(&self.path, suffix));
        }
        std::fs::remove_file(&self.path)
    }
}

/// `path` with `suffix` behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The segments of a folder, oldest first. A folder that is not there has none.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(dir: &Path) -> std::io::Result<Vec<SegmentName>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let first = path.extension().filter(|extension| *extension == "db").and(path.file_stem());
        if let Some(first) = first.and_then(|stem| stem.to_str()?.parse().ok()) {
            found.push(SegmentName { first, path });
        }
    }
    found.sort();
    Ok(found)
}

/// Opens a segment's file for writing, and makes it one where it is new.
pub(super) fn open(path: &Path, synchronous: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // the maintenance checkpoints, so that no commit waits for it
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        connection.execute_batch(&format!(
            "BEGIN; CREATE TABLE IF NOT EXISTS batch (sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL); \
             PRAGMA user_version = {FORMAT}; COMMIT;"
        ))?;
    }
    Ok(connection)
}

pub(super) fn insert(connection: &Connection, sequence: u64, at: Timestamp, body: &[u8]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT INTO batch (sequence, at, body) VALUES (?1, ?2, ?3)")?;
    statement.execute(params![sequence.cast_signed(), at.as_millis(), body]).map(drop)
}

/// The last sequence in the segment.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let last: Option<i64> =
        connection.query_row("SELECT max(sequence) FROM batch", [], |row| row.get(0)).optional()?.flatten();
    Ok(last.map(i64::cast_unsigned))
}

/// Reads a segment's rows in order.
pub struct SegmentReader {
    connection: Connection,
    path: PathBuf,
}

/// A row as it lies there.
pub struct Row {
    pub sequence: u64,
    pub at: Timestamp,
    pub body: Vec<u8>,
}

impl SegmentReader {
    /// # Errors
    /// It is no segment, or one of a later version.
    pub fn open(name: &SegmentName) -> Result<Self, StoreError> {
        let damaged = |error: rusqlite::Error| StoreError::damaged(&name.path, error);
        // writable, because the log of an abrupt end has to be taken in first
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&name.path, flags).map_err(damaged)?;
        connection.busy_timeout(BUSY).map_err(damaged)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(damaged)?;
        match version {
            FORMAT => Ok(SegmentReader { connection, path: name.path.clone() }),
            newer if newer > FORMAT => {
                Err(StoreError::Newer { path: name.path.clone(), format: newer.cast_unsigned() })
            }
            _ => Err(StoreError::damaged(&name.path, "it is no segment of a journal")),
        }
    }

    /// # Errors
    /// The file is damaged.
    pub fn last(&self) -> Result<Option<u64>, StoreError> {
        last(&self.connection).map_err(|error| StoreError::damaged(&self.path, error))
    }

    /// When its newest batch was committed.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn end(&self) -> Result<Option<Timestamp>, StoreError> {
        let end: rusqlite::Result<Option<i64>> =
            self.connection.query_row("SELECT max(at) FROM batch", [], |row| row.get(0));
        end.map(|end| end.map(Timestamp::from_millis)).map_err(|error| StoreError::damaged(&self.path, error))
    }

    /// How many rows come after `sequence`.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn count_after(&self, sequence: u64) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM batch WHERE sequence > ?1";
        let counted: rusqlite::Result<i64> =
            self.connection.query_row(count, [sequence.cast_signed()], |row| row.get(0));
        counted.map(i64::cast_unsigned).map_err(|error| StoreError::damaged(&self.path, error))
    }

    /// The next rows after `sequence`, a bounded number; empty at the end.
    ///
    /// # Errors
    /// The file is damaged. `rows` holds what could be read before.
    pub fn read_after(&self, sequence: u64, rows: &mut Vec<Row>) -> Result<(), StoreError> {
        let damaged = |error: rusqlite::Error| StoreError::damaged(&self.path, error);
        let mut statement = self
            .connection
            .prepare_cached("SELECT sequence, at, body FROM batch WHERE sequence > ?1 ORDER BY sequence LIMIT ?2")
            .map_err(damaged)?;
        let mut found = statement.query(params![sequence.cast_signed(), CHUNK]).map_err(damaged)?;
        while let Some(row) = found.next().map_err(damaged)? {
            let sequence: i64 = row.get(0).map_err(damaged)?;
            let at = Timestamp::from_millis(row.get(1).map_err(damaged)?);
            rows.push(Row { sequence: sequence.cast_unsigned(), at, body: row.get(2).map_err(damaged)? });
        }
        Ok(())
    }
}
