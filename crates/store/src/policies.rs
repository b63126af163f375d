//! `policy.db`: every policy that something kept refers to, by its version.
//!
//! Invariant: a version is written and synced before a batch that names it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;

const FORMAT: i64 = 1;
const FILE: &str = "policy.db";

/// The kept policies, as the bytes of their records.
pub struct Policies {
    connection: Connection,
    path: PathBuf,
}

impl Policies {
    /// # Errors
    /// The file cannot be opened, is damaged or of a later version.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let damaged = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                StoreError::damaged(&path, error)
            }
            _ => StoreError::io(&path, error),
        };
        let connection = Connection::open(&path).map_err(damaged)?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(damaged)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(damaged)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(damaged)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(damaged)?;
        if version > FORMAT {
            return Err(StoreError::Newer { path, format: version.cast_unsigned() });
        }
        connection
            .execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS policy (version TEXT PRIMARY KEY, body BLOB NOT NULL, named INTEGER NOT NULL) WITHOUT ROWID; \
                 PRAGMA user_version = {FORMAT};"
            ))
            .map_err(damaged)?;
        Ok(Policies { connection, path })
    }

    /// Keeps a policy's record, for a batch not before `sequence` to name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, version: &str, record: &[u8], sequence: u64) -> Result<(), StoreError> {
        let put = "INSERT INTO policy (version, body, named) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (version) DO UPDATE SET named = max(named, excluded.named)";
        let put = self.connection.execute(put, params![version, record, sequence.cast_signed()]);
        put.map(drop).map_err(|error| self.error(error))
    }

    /// The versions that a batch at or after `sequence` may name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn named_since(&self, sequence: u64) -> Result<BTreeSet<String>, StoreError> {
        self.select("SELECT version FROM policy WHERE named >= ?1", sequence)
    }

    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, version: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let get = "SELECT body FROM policy WHERE version = ?1";
        self.connection.query_row(get, [version], |row| row.get(0)).optional().map_err(|error| self.error(error))
    }

    /// # Errors
    /// The file cannot be read.
    pub fn versions(&self) -> Result<BTreeSet<String>, StoreError> {
        self.named_since(0)
    }

    fn select(&self, query: &str, sequence: u64) -> Result<BTreeSet<String>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(query)?;
            let versions = statement.query_map([sequence.cast_signed()], |row| row.get(0))?;
            versions.collect::<Result<BTreeSet<String>, rusqlite::Error>>()
        };
        read().map_err(|error| self.error(error))
    }

    /// Forgets all others.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn retain(&self, needed: &BTreeSet<String>) -> Result<(), StoreError> {
        for version in self.versions()?.difference(needed) {
            self.connection
                .execute("DELETE FROM policy WHERE version = ?1", [version])
                .map_err(|error| self.error(error))?;
        }
        Ok(())
    }

    fn error(&self, error: rusqlite::Error) -> StoreError {
        StoreError::io(&self.path, error)
    }
}
