//! Salvage of a damaged journal: what can be read up to the first hole is kept, the rest is moved aside and told.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::journal::{Row, SegmentName, SegmentReader, segments};
use super::record::StoredBatch;
use super::{Store, StoreError, sync_folder};
use crate::journal;
use selfheal_model::Timestamp;

/// Where what is not used any more is moved to, beside the segments.
const ASIDE: &str = "damaged";

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RepairReport {
    /// Batches that are there and in order.
    pub kept: u64,
    /// The last instant that is known.
    pub known_until: Option<Timestamp>,
    /// What was wrong, in order.
    pub found: Vec<String>,
    /// Files that were moved aside; nothing is deleted.
    pub moved: Vec<PathBuf>,
    /// Batches that can be read and come after the hole: they cannot be used without what is missing.
    pub unusable: u64,
}

impl RepairReport {
    pub fn is_whole(&self) -> bool {
        self.found.is_empty()
    }
}

/// Reads the whole journal and leaves one that can be recovered from.
///
/// # Errors
/// The folder cannot be read or written, or is of a later version.
pub fn repair(store: &Store) -> Result<RepairReport, StoreError> {
    let dir = store.journal_dir();
    let names = segments(&dir).map_err(|error| StoreError::io(&dir, error))?;
    let oldest_snapshot = store.snapshots().to_recover_from()?.first().copied();
    let mut report = RepairReport::default();
    let mut last: Option<u64> = None;
    let mut hole = false;
    for name in &names {
        let (rows, wrong) = readable(name)?;
        if hole {
            report.unusable += rows.len() as u64;
            aside(&dir, name, &mut report)?;
            continue;
        }
        let expected =
            last.map_or_else(|| oldest_snapshot.map_or(1, |snapshot| name.first.min(snapshot + 1)), |last| last + 1);
        let mut good = Vec::new();
        let mut wrong = wrong;
        for row in rows {
            let next = expected + good.len() as u64;
            if row.sequence != next {
                wrong = Some(format!("batches {next} to {} are missing", row.sequence - 1));
                break;
            }
            match StoredBatch::from_bytes(row.sequence, &row.body) {
                Ok(batch) => {
                    report.known_until = Some(batch.end());
                    good.push(row);
                }
                Err(error) => {
                    wrong = Some(format!("batch {}: {error}", row.sequence));
                    break;
                }
            }
        }
        report.kept += good.len() as u64;
        if let Some(row) = good.last() {
            last = Some(row.sequence);
        }
        if let Some(wrong) = wrong {
            hole = true;
            report.found.push(format!("{}: {wrong}", name.path.display()));
            aside(&dir, name, &mut report)?;
            rewrite(name, &good)?;
        }
    }
    sync_folder(&dir)?;
    Ok(report)
}

/// The rows that can be read, and what is wrong behind them.
fn readable(name: &SegmentName) -> Result<(Vec<Row>, Option<String>), StoreError> {
    let mut rows: Vec<Row> = Vec::new();
    let reader = match SegmentReader::open(name) {
        Ok(reader) => reader,
        Err(StoreError::Damaged { why, .. }) => return Ok((rows, Some(why))),
        Err(error) => return Err(error),
    };
    loop {
        let before = rows.len();
        let last = rows.last().map_or(0, |row| row.sequence);
        match reader.read_after(last, &mut rows) {
            Ok(()) if rows.len() == before => return Ok((rows, None)),
            Ok(()) => {}
            Err(StoreError::Damaged { why, .. }) => return Ok((rows, Some(why))),
            Err(error) => return Err(error),
        }
    }
}

fn aside(dir: &Path, name: &SegmentName, report: &mut RepairReport) -> Result<(), StoreError> {
    let to = dir.join(ASIDE);
    std::fs::create_dir_all(&to).map_err(|error| StoreError::io(&to, error))?;
    for suffix in ["", "-wal", "-shm"] {
        let from = journal::beside(&name.path, suffix);
        let Some(file) = from.file_name() else { continue };
        if from.exists() {
            let mut target = to.join(file);
            let mut nth = 1;
            while target.exists() {
                nth += 1;
                target = to.join(format!("{}.{nth}", file.to_string_lossy()));
            }
            std::fs::rename(&from, &target).map_err(|error| StoreError::io(&from, error))?;
            report.moved.push(target);
        }
    }
    Ok(())
}

fn rewrite(name: &SegmentName, rows: &[Row]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let write = || -> rusqlite::Result<()> {
        let connection = journal::open_segment(&name.path)?;
        for row in rows {
            journal::insert_row(&connection, row)?;
        }
        Ok(())
    };
    write().map_err(|error| StoreError::io(&name.path, error))
}
