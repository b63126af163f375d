//! Snapshots: the engine's whole state after a batch, each a file of its own.
//!
//! Invariant: a snapshot is there whole or not at all: it is written under another name, synced and renamed. One that
//! cannot be read is passed over for the one before, and said.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::{StoreError, sync_folder};
use selfheal_model::Timestamp;

const FORMAT: i64 = 1;
/// The newest, and one to fall back to.
pub const KEPT: usize = 2;
/// Older ones, spread over the journal that is kept: whoever asks what was begins with one of them. A week is folded in
/// parts of half a day.
pub const MILESTONES: usize = 12;
/// A row is at most so large: a blob of SQLite is held in memory whole.
const CHUNK: usize = 8 * 1024 * 1024;
/// Levels above cost much and save little on these bytes.
const ZSTD_LEVEL: i32 = 1;

/// The state after a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of the last batch in it.
    pub sequence: u64,
    /// The last instant it knows.
    pub at: Timestamp,
    pub state: Vec<u8>,
}

/// The snapshots of a folder.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    pub fn of(dir: PathBuf) -> Self {
        Snapshots { dir }
    }

    /// Their sequences, ascending.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sequences(&self) -> Result<Vec<u64>, StoreError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io(&self.dir, error)),
        };
        let mut sequences: Vec<u64> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                path.extension().filter(|extension| *extension == "db")?;
                path.file_stem()?.to_str()?.parse().ok()
            })
            .collect();
        sequences.sort_unstable();
        Ok(sequences)
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:020}.db"))
    }

    /// Those that a recovery begins with, ascending.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn to_recover_from(&self) -> Result<Vec<u64>, StoreError> {
        let mut sequences = self.sequences()?;
        Ok(sequences.split_off(sequences.len().saturating_sub(KEPT)))
    }

    /// Publishes a snapshot and forgets all but the newest [`KEPT`] and so many [`MILESTONES`].
    ///
    /// # Errors
    /// It cannot be written; then nothing has changed.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        std::fs::create_dir_all(&self.dir).map_err(|error| StoreError::io(&self.dir, error))?;
        let unfinished = self.dir.join("unfinished");
        let written = write(&unfinished, snapshot).and_then(|()| {
            std::fs::rename(&unfinished, self.path(snapshot.sequence))
                .map_err(|error| StoreError::io(&unfinished, error))?;
            sync_folder(&self.dir)
        });
        if written.is_err() {
            // the room it took is needed more than it
            let _ = std::fs::remove_file(&unfinished);
            return written;
        }
        let known = self.sequences()?.into_iter().map(|own| (own, self.at(own).unwrap_or(Timestamp::MIN)));
        thinned(known.collect()).into_iter().try_for_each(|own| self.forget(own))
    }

    /// # Errors
    /// It cannot be removed.
    pub(super) fn forget(&self, sequence: u64) -> Result<(), StoreError> {
        let path = self.path(sequence);
        std::fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))
    }

    /// What it takes on disk, in bytes.
    pub(super) fn size(&self, sequence: u64) -> u64 {
        self.path(sequence).metadata().map_or(0, |file| file.len())
    }

    /// # Errors
    /// It is damaged, or of a later version.
    pub fn read(&self, sequence: u64) -> Result<Snapshot, StoreError> {
        read(&self.path(sequence), sequence)
    }

    /// The last instant it knows, without reading the rest.
    ///
    /// # Errors
    /// It is damaged, or of a later version.
    pub fn at(&self, sequence: u64) -> Result<Timestamp, StoreError> {
        let path = self.path(sequence);
        let at: rusqlite::Result<i64> = open(&path)?.query_row("SELECT at FROM whole", [], |row| row.get(0));
        at.map(Timestamp::from_millis).map_err(|error| StoreError::damaged(&path, error))
    }
}

/// Which have to go, of those there are, ascending: one after the other the milestone whose neighbours are closest
/// together in time, never the oldest.
fn thinned(mut known: Vec<(u64, Timestamp)>) -> Vec<u64> {
    let mut gone = Vec::new();
    while known.len() > KEPT + MILESTONES {
        let hole = |place: &usize| known[place + 1].1.since(known[place - 1].1);
        let Some(place) = (1..known.len() - KEPT).min_by_key(hole) else { break };
        gone.push(known.remove(place).0);
    }
    gone
}

fn write(path: &Path, snapshot: &Snapshot) -> Result<(), StoreError> {
    // left over from an abrupt end
    let _ = std::fs::remove_file(path);
    let body = zstd::bulk::compress(&snapshot.state, ZSTD_LEVEL).map_err(|error| StoreError::io(path, error))?;
    let write = || -> rusqlite::Result<()> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "page_size", 16 * 1024)?;
        // the file is of no use before it is whole, so there is nothing to roll back to
        connection.pragma_update(None, "journal_mode", "OFF")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(&format!(
            "BEGIN; CREATE TABLE chunk (n INTEGER PRIMARY KEY, body BLOB NOT NULL); \
             CREATE TABLE whole (sequence INTEGER NOT NULL, at INTEGER NOT NULL, chunks INTEGER NOT NULL, \
             length INTEGER NOT NULL, checksum INTEGER NOT NULL); PRAGMA user_version = {FORMAT};"
        ))?;
        let chunks = body.chunks(CHUNK);
        let count = chunks.len();
        for (n, chunk) in (0_i64..).zip(chunks) {
            connection.execute("INSERT INTO chunk (n, body) VALUES (?1, ?2)", params![n, chunk])?;
        }
        connection.execute(
            "INSERT INTO whole (sequence, at, chunks, length, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                snapshot.sequence.cast_signed(),
                snapshot.at.as_millis(),
                count.cast_signed(),
                snapshot.state.len().cast_signed(),
                i64::from(crc32fast::hash(&body)),
            ],
        )?;
        connection.execute_batch("COMMIT;")
    };
    write().map_err(|error| StoreError::io(path, error))?;
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| StoreError::io(path, error))
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let damaged = |error: rusqlite::Error| StoreError::damaged(path, error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(damaged)?;
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(damaged)?;
    if format > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), format: format.cast_unsigned() });
    }
    Ok(connection)
}

fn read(path: &Path, sequence: u64) -> Result<Snapshot, StoreError> {
    let damaged = |error: rusqlite::Error| StoreError::damaged(path, error);
    let connection = open(path)?;
    let whole = "SELECT sequence, at, chunks, length, checksum FROM whole";
    let (own, at, chunks, length, checksum): (i64, i64, i64, i64, i64) = connection
        .query_row(whole, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .map_err(damaged)?;
    let mut body = Vec::new();
    for n in 0..chunks {
        let chunk: Vec<u8> =
            connection.query_row("SELECT body FROM chunk WHERE n = ?1", [n], |row| row.get(0)).map_err(damaged)?;
        body.extend(chunk);
    }
    if own.cast_unsigned() != sequence || i64::from(crc32fast::hash(&body)) != checksum {
        return Err(StoreError::damaged(path, "its checksum is wrong"));
    }
    let state = zstd::stream::decode_all(body.as_slice()).map_err(|error| StoreError::damaged(path, error))?;
    if state.len().cast_signed() != usize::try_from(length).map_or(-1, usize::cast_signed) {
        return Err(StoreError::damaged(path, "its length is wrong"));
    }
    Ok(Snapshot { sequence, at: Timestamp::from_millis(at), state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_stay_spread_over_time() {
        let mut known: Vec<(u64, Timestamp)> = Vec::new();
        for hour in 1..=168 {
            known.push((hour, Timestamp::from_millis(hour.cast_signed() * 3_600_000)));
            for gone in thinned(known.clone()) {
                known.retain(|(own, _)| *own != gone);
            }
        }
        let kept: Vec<u64> = known.iter().map(|(own, _)| *own).collect();
        assert_eq!((kept.len(), kept.first(), &kept[kept.len() - 2..]), (14, Some(&1), &[167, 168][..]), "{kept:?}");
        let widest = kept.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest.is_some_and(|hours| hours <= 24), "{kept:?}");
    }
}
