//! Keeps the file within its limits, a little at a time, and gives its pages back.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::Limits;
use super::file::TABLES;
use selfheal_model::Timestamp;

/// Rows deleted of one table in one step: some milliseconds, so that what comes in meanwhile does not pile up.
const STEP_ROWS: i64 = 500;
/// Rows deleted before the size is looked at again: they may be large, and what fits is to stay.
const LOOK_ROWS: i64 = 20;
/// Pages given back in one step.
const STEP_PAGES: i64 = 512;

/// One step. `true`: there is more to do.
pub(super) fn step(file: &mut Connection, limits: &Limits, now: Timestamp) -> rusqlite::Result<bool> {
    let deletion = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let oldest = (now - limits.max_age).as_millis();
    let mut is_unfinished = false;
    for table in TABLES {
        let too_old = delete(&deletion, table, STEP_ROWS, oldest)?;
        let rows: i64 = deletion.query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        let too_many = (rows - i64::try_from(limits.max_rows).unwrap_or(i64::MAX)).max(0);
        let deleted = delete(&deletion, table, too_many.min(STEP_ROWS), i64::MAX)?;
        is_unfinished |= too_old == STEP_ROWS || (deleted > 0 && deleted < too_many);
    }
    let mut deleted = 0;
    while used_bytes(&deletion)? > limits.max_bytes {
        let more = delete_oldest_of_all(&deletion)?;
        deleted += more;
        // all that is left goes on, or enough for one step
        if more == 0 || deleted >= STEP_ROWS {
            is_unfinished |= more > 0;
            break;
        }
    }
    deletion.commit()?;
    let freed = give_back(file)?;
    Ok(is_unfinished || freed)
}

fn pragma(file: &Connection, name: &str) -> rusqlite::Result<i64> {
    file.pragma_query_value(None, name, |row| row.get(0))
}

fn used_bytes(file: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(file, "page_count")? - pragma(file, "freelist_count")?;
    Ok((pages * pragma(file, "page_size")?).unsigned_abs())
}

/// `true`: more pages are free.
fn give_back(file: &Connection) -> rusqlite::Result<bool> {
    if pragma(file, "freelist_count")? == 0 {
        return Ok(false);
    }
    // a page is freed for every row this statement is asked for
    let mut statement = file.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(pragma(file, "freelist_count")? > 0)
}

fn delete_oldest_of_all(file: &Transaction<'_>) -> rusqlite::Result<i64> {
    let mut oldest: Option<(i64, &str)> = None;
    for table in TABLES {
        let end: Option<i64> = file.query_one(&format!("SELECT min(ended_at) FROM {table}"), [], |row| row.get(0))?;
        oldest = end.map(|end| (end, table)).into_iter().chain(oldest).min();
    }
    oldest.map_or(Ok(0), |(_, table)| delete(file, table, LOOK_ROWS, i64::MAX))
}

/// Deletes what ended first, before `before`, with what hangs on it. Gives their number.
fn delete(file: &Transaction<'_>, table: &str, at_most: i64, before: i64) -> rusqlite::Result<i64> {
    if at_most == 0 {
        return Ok(0);
    }
    let rows: Vec<i64> = file
        .prepare_cached(&format!("SELECT row FROM {table} WHERE ended_at < ?1 ORDER BY ended_at, row LIMIT ?2"))?
        .query_map(params![before, at_most], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let parts = match table {
        "alerts" => &["DELETE FROM transitions WHERE alert = ?1"][..],
        "runs" => &["DELETE FROM steps WHERE run = ?1", "DELETE FROM outputs WHERE run = ?1"],
        _ => &[],
    };
    for row in &rows {
        for part in parts {
            file.prepare_cached(part)?.execute([row])?;
        }
        file.prepare_cached(&format!("DELETE FROM {table} WHERE row = ?1"))?.execute([row])?;
    }
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
}
