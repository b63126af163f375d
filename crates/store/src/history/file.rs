//! The file: its tables, how it is opened, and what is done with one that cannot be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Raised whenever an older selfheal could not read what a newer one wrote.
const FORMAT: i64 = 1;
/// Tells the file from other people's SQLite files: `heal`.
const APPLICATION: i64 = 0x6865_616c;
/// How long a look with another program may hold the file before something is dropped.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements that are kept: more than the writer has.
const STATEMENTS: usize = 64;
/// The log is cut back to this after it was larger.
const MAX_LOG_BYTES: i64 = 64 << 20;
/// Names that are tried for a file that is moved aside.
const MAX_ASIDE: u32 = 10_000;

/// Tables that hold one row for each thing that happened. All have `row`, `started_at`, `ended_at` (null while it goes
/// on) and `view`, its JSON document; times are milliseconds since 1970.
pub(super) const TABLES: [&str; 6] = ["alerts", "runs", "deliveries", "audit", "policies", "gaps"];

/// `AUTOINCREMENT`: a row's number is never given again, also after the newest was deleted, so a cursor stays good.
const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE alerts (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, rule TEXT NOT NULL, deployment TEXT,
    state TEXT NOT NULL, severity TEXT NOT NULL, started_at INTEGER NOT NULL, fired_at INTEGER, ended_at INTEGER,
    moves INTEGER NOT NULL, view TEXT NOT NULL);
CREATE UNIQUE INDEX alerts_episode ON alerts (id, started_at);
CREATE INDEX alerts_rule ON alerts (rule);
CREATE INDEX alerts_deployment ON alerts (deployment);
CREATE INDEX alerts_ended ON alerts (ended_at);
CREATE TABLE transitions (
    alert INTEGER NOT NULL, nth INTEGER NOT NULL, at INTEGER NOT NULL, view TEXT NOT NULL,
    PRIMARY KEY (alert, nth)) WITHOUT ROWID;

CREATE TABLE runs (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, playbook TEXT NOT NULL, deployment TEXT NOT NULL,
    rule TEXT, alert TEXT, cause TEXT NOT NULL, state TEXT NOT NULL, started_at INTEGER NOT NULL, ended_at INTEGER,
    view TEXT NOT NULL);
CREATE INDEX runs_id ON runs (id);
CREATE INDEX runs_rule ON runs (rule);
CREATE INDEX runs_alert ON runs (alert);
CREATE INDEX runs_deployment ON runs (deployment);
CREATE INDEX runs_ended ON runs (ended_at);
CREATE TABLE steps (
    run INTEGER NOT NULL, nth INTEGER NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL,
    view TEXT NOT NULL, PRIMARY KEY (run, nth)) WITHOUT ROWID;

CREATE TABLE deliveries (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, receiver TEXT NOT NULL, state TEXT NOT NULL,
    started_at INTEGER NOT NULL, ended_at INTEGER, view TEXT NOT NULL);
CREATE UNIQUE INDEX deliveries_id ON deliveries (id, started_at);
CREATE INDEX deliveries_ended ON deliveries (ended_at);

CREATE TABLE audit (
    row INTEGER PRIMARY KEY AUTOINCREMENT, started_at INTEGER NOT NULL, ended_at INTEGER NOT NULL, view TEXT NOT NULL);
CREATE INDEX audit_ended ON audit (ended_at);

CREATE TABLE policies (
    row INTEGER PRIMARY KEY AUTOINCREMENT, version TEXT NOT NULL, started_at INTEGER NOT NULL, ended_at INTEGER,
    view TEXT NOT NULL);
CREATE INDEX policies_ended ON policies (ended_at);

CREATE TABLE gaps (
    row INTEGER PRIMARY KEY AUTOINCREMENT, started_at INTEGER NOT NULL, ended_at INTEGER NOT NULL, view TEXT NOT NULL);
CREATE INDEX gaps_ended ON gaps (ended_at);
";

/// Added to the format later: a file of it may lack this.
const ADDED: &str = "
CREATE TABLE IF NOT EXISTS outputs (
    run INTEGER NOT NULL, step TEXT NOT NULL, log TEXT, output TEXT, PRIMARY KEY (run, step)) WITHOUT ROWID;
";

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// It will never be good for anything here: to be moved aside.
    #[error("{0}")]
    Unusable(String),
    /// A full disk, a folder that cannot be written: perhaps later.
    #[error("{0}")]
    NotNow(rusqlite::Error),
}

impl OpenError {
    fn of(error: rusqlite::Error) -> OpenError {
        let for_now = [
            ErrorCode::DiskFull,
            ErrorCode::CannotOpen,
            ErrorCode::PermissionDenied,
            ErrorCode::ReadOnly,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
            ErrorCode::SystemIoFailure,
            ErrorCode::OutOfMemory,
            ErrorCode::FileLockingProtocolFailed,
        ];
        match error.sqlite_error_code() {
            Some(code) if for_now.contains(&code) => OpenError::NotNow(error),
            // of a file that has been opened, also a missing table
            _ => OpenError::Unusable(format!("it is damaged: {error}")),
        }
    }
}

/// Whether the file is no good database any more.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Opened for writing, with all tables; `true` when it was begun now. A file that is not for here is not touched.
pub(super) fn open(path: &Path) -> Result<(Connection, bool), OpenError> {
    let mut file = Connection::open(path).map_err(OpenError::of)?;
    file.busy_timeout(BUSY).map_err(OpenError::of)?;
    let tables: i64 =
        file.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(OpenError::of)?;
    let is_new = tables == 0;
    if !is_new {
        is_ours(&file)?;
    }
    prepare(&mut file, is_new).map_err(OpenError::of)?;
    if !is_new {
        look(&file).map_err(OpenError::of)?;
    }
    Ok((file, is_new))
}

fn is_ours(file: &Connection) -> Result<(), OpenError> {
    let number = |name: &str| file.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(OpenError::of);
    if number("application_id")? != APPLICATION {
        return Err(OpenError::Unusable("it is no history of selfheal".to_owned()));
    }
    let format = number("user_version")?;
    if format > FORMAT {
        return Err(OpenError::Unusable(format!(
            "a newer selfheal wrote it (format {format}, this one reads {FORMAT})"
        )));
    }
    Ok(())
}

fn prepare(file: &mut Connection, is_new: bool) -> rusqlite::Result<()> {
    file.set_prepared_statement_cache_capacity(STATEMENTS);
    if is_new {
        // to be said before there is a page
        file.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    file.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // a commit survives the end of the process; the machine's end may cost the newest ones, and no more than those
    file.pragma_update(None, "synchronous", "NORMAL")?;
    file.pragma_update_and_check(None, "journal_size_limit", MAX_LOG_BYTES, |_| Ok(()))?;
    if is_new {
        let begin = file.transaction()?;
        begin.execute_batch(SCHEMA)?;
        begin.pragma_update(None, "application_id", APPLICATION)?;
        begin.pragma_update(None, "user_version", FORMAT)?;
        begin.commit()?;
    }
    file.execute_batch(ADDED)
}

/// One look at both ends of every table: what is wrong deeper inside shows when it is met.
fn look(file: &Connection) -> rusqlite::Result<()> {
    for table in TABLES {
        file.query_one(
            &format!(
                "SELECT min(row), max(row), count(view) FROM (SELECT row, view FROM {table} ORDER BY row DESC LIMIT 1)"
            ),
            [],
            |_| Ok(()),
        )?;
    }
    file.query_one("SELECT count(*) FROM meta", [], |_| Ok(()))?;
    file.query_one("SELECT count(nth) FROM (SELECT nth FROM transitions LIMIT 1)", [], |_| Ok(()))?;
    file.query_one("SELECT count(nth) FROM (SELECT nth FROM steps LIMIT 1)", [], |_| Ok(()))
}

/// What is wrong with it, after a look at every page.
pub(super) fn examine(file: &Connection) -> Result<(), String> {
    match file.query_one("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(verdict),
        Err(error) if is_damage(&error) => Err(error.to_string()),
        // not readable now is not damaged
        Err(_) => Ok(()),
    }
}

pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    file.busy_timeout(BUSY)?;
    Ok(file)
}

/// Renames the file, with what belongs to it, to `<name>.damaged-<n>` with the first free `n`. Gives the new name.
///
/// # Errors
/// It cannot be renamed.
pub(super) fn move_aside(path: &Path) -> std::io::Result<String> {
    let beside = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = (1..=MAX_ASIDE).map(|n| format!(".damaged-{n}")).find(|suffix| !beside(suffix.clone()).exists());
    let suffix = free.ok_or_else(|| std::io::Error::other("too many damaged files lie there"))?;
    let to = beside(suffix.clone());
    std::fs::rename(path, &to)?;
    // SQLite finds a log by the name of its file
    for part in ["-wal", "-shm"] {
        match std::fs::rename(beside(part.to_owned()), beside(format!("{suffix}{part}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(to.file_name().unwrap_or(to.as_os_str()).to_string_lossy().into_owned())
}
