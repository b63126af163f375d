//! Reads pages on a connection of its own, which can only read: the writer goes on meanwhile.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Transaction};
use serde_json::{Value, json};

use super::query::{Kind, MAX_LIMIT, Page, Query, ReadError};
use super::{Shared, file, writer};

/// A page is cut after this much text: 500 runs with logs would be a hundred times that.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Transitions shown with an episode, the newest.
const MAX_SHOWN_TRANSITIONS: i64 = 100;
/// Gaps shown with a page.
const MAX_SHOWN_GAPS: usize = 20;

pub(super) struct Reader {
    path: PathBuf,
    shared: Arc<Shared>,
    /// With the generation it was opened in.
    file: Mutex<Option<(u64, Connection)>>,
}

impl Reader {
    pub fn new(path: &Path, shared: Arc<Shared>) -> Self {
        Reader { path: path.to_owned(), shared, file: Mutex::new(None) }
    }

    /// Closes the file. The next query opens it anew.
    pub fn let_go(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn read(&self, query: &Query) -> Result<Page, ReadError> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation == 0 {
            return Err(ReadError::Unavailable("its file could not be opened".to_owned()));
        }
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match slot.take() {
            Some((opened, file)) if opened == generation => file,
            _ => file::open_to_read(&self.path).map_err(read_error)?,
        };
        let page = read(&mut file, query);
        // after an error of the file it is opened anew
        if matches!(page, Ok(_) | Err(ReadError::BadCursor(_))) {
            *slot = Some((generation, file));
        }
        page
    }
}

fn read_error(error: rusqlite::Error) -> ReadError {
    if file::is_damage(&error) {
        ReadError::Damaged(error.to_string())
    } else {
        ReadError::Unavailable(error.to_string())
    }
}

fn read(file: &mut Connection, query: &Query) -> Result<Page, ReadError> {
    // one picture for rows, parts and gaps
    let picture = file.transaction().map_err(read_error)?;
    let born = writer::meta(&picture, "born").map_err(read_error)?.unwrap_or(0);
    let before = match &query.cursor {
        Some(cursor) => Cursor::parse(cursor)?.row_for(query, born)?,
        None => i64::MAX,
    };
    let mut page = rows(&picture, query, before, born).map_err(read_error)?;
    if query.kind != Kind::Gaps {
        let gaps = Query { since: query.since, until: query.until, limit: MAX_SHOWN_GAPS, ..Query::of(Kind::Gaps) };
        page.gaps = rows(&picture, &gaps, i64::MAX, born).map_err(read_error)?.rows;
    }
    Ok(page)
}

/// Rows older than row `before`.
fn rows(picture: &Transaction<'_>, query: &Query, before: i64, born: i64) -> rusqlite::Result<Page> {
    let limit = query.limit.clamp(1, MAX_LIMIT);
    let Some((filters, values)) = filters(query) else { return Ok(Page::default()) };
    let sql = format!(
        "SELECT row, view FROM {} WHERE row < ? AND {filters} ORDER BY row DESC LIMIT {}",
        query.kind.table(),
        limit + 1
    );
    let mut statement = picture.prepare_cached(&sql)?;
    let parameters = std::iter::once(&before as &dyn ToSql).chain(values.iter().map(|value| &**value));
    let mut found = statement.query(rusqlite::params_from_iter(parameters))?;
    let mut page = Page::default();
    let (mut bytes, mut last) = (0, before);
    while let Some(row) = found.next()? {
        if page.rows.len() == limit || bytes > MAX_PAGE_BYTES {
            page.next = Some(Cursor { born, walk: query.fingerprint(), row: last }.to_string());
            break;
        }
        last = row.get(0)?;
        let text: String = row.get(1)?;
        bytes += text.len();
        let mut document = parsed(&text);
        bytes += match query.kind {
            Kind::Alerts => add_transitions(picture, last, &mut document)?,
            Kind::Runs => add_steps(picture, last, &mut document)?,
            Kind::Deliveries | Kind::Audit | Kind::Policies | Kind::Gaps => 0,
        };
        page.rows.push(document);
    }
    Ok(page)
}

/// What was written here is JSON.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

type Values = Vec<Box<dyn ToSql>>;

/// `None`: the kind knows no such filter, so that no row can fit.
fn filters(query: &Query) -> Option<(String, Values)> {
    let mut filters = vec!["started_at < ?".to_owned()];
    let mut values: Values = vec![Box::new(query.until.map_or(i64::MAX, |until| until.as_millis()))];
    if let Some(since) = query.since {
        filters.push("(ended_at IS NULL OR ended_at >= ?)".to_owned());
        values.push(Box::new(since.as_millis()));
    }
    let alert = match query.kind {
        Kind::Alerts => "id",
        _ => "alert",
    };
    let columns: &[&str] = match query.kind {
        Kind::Alerts | Kind::Runs => &["deployment", "rule", "state", "alert"],
        Kind::Deliveries => &["deployment", "rule", "state"],
        Kind::Audit | Kind::Policies | Kind::Gaps => &[],
    };
    for (name, wanted) in
        [("deployment", &query.deployment), ("rule", &query.rule), ("state", &query.state), ("alert", &query.alert)]
    {
        let Some(wanted) = wanted else { continue };
        if !columns.contains(&name) {
            return None;
        }
        filters.push(match (query.kind, name) {
            // a message is about several
            (Kind::Deliveries, "deployment" | "rule") => {
                format!("EXISTS (SELECT 1 FROM json_each(view, '$.{name}s') WHERE json_each.value = ?)")
            }
            (_, "alert") => format!("{alert} = ?"),
            _ => format!("{name} = ?"),
        });
        values.push(Box::new(wanted.clone()));
    }
    Some((filters.join(" AND "), values))
}

/// The newest ones in their order, and how many came before them. Gives the length of their text.
fn add_transitions(picture: &Transaction<'_>, alert: i64, document: &mut Value) -> rusqlite::Result<usize> {
    let mut statement =
        picture.prepare_cached("SELECT nth, view FROM transitions WHERE alert = ?1 ORDER BY nth DESC LIMIT ?2")?;
    let mut newest: Vec<(i64, String)> = statement
        .query_map([alert, MAX_SHOWN_TRANSITIONS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    newest.reverse();
    document["earlier_transitions"] = json!(newest.first().map_or(0, |(nth, _)| nth - 1));
    document["transitions"] = newest.iter().map(|(_, text)| parsed(text)).collect();
    Ok(newest.iter().map(|(_, text)| text.len()).sum())
}

fn add_steps(picture: &Transaction<'_>, run: i64, document: &mut Value) -> rusqlite::Result<usize> {
    let mut statement = picture.prepare_cached("SELECT view FROM steps WHERE run = ?1 ORDER BY nth")?;
    let steps: Vec<String> = statement.query_map([run], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut length = steps.iter().map(String::len).sum();
    let mut steps: Vec<Value> = steps.iter().map(|text| parsed(text)).collect();
    let mut statement = picture.prepare_cached("SELECT step, log, output FROM outputs WHERE run = ?1")?;
    let mut outputs = statement.query([run])?;
    while let Some(row) = outputs.next()? {
        let (id, log, output): (String, Option<String>, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some(step) = steps.iter_mut().find(|step| step["id"] == id.as_str()) else { continue };
        length += log.as_ref().map_or(0, String::len) + output.as_ref().map_or(0, String::len);
        if let Some(log) = log {
            step["log"] = json!(log);
        }
        if let Some(output) = output {
            step["output"] = parsed(&output);
        }
    }
    document["steps"] = json!(steps);
    Ok(length)
}

/// Where a walk through pages stands. Rows only ever come in above it, so that nothing is missed or seen twice.
#[derive(Debug)]
struct Cursor {
    /// The file's; a new file counts its rows anew.
    born: i64,
    /// [`Query::fingerprint`]
    walk: u64,
    /// The last row that was shown.
    row: i64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Vec::with_capacity(24);
        bytes.extend(self.born.to_be_bytes());
        bytes.extend(self.walk.to_be_bytes());
        bytes.extend(self.row.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl Cursor {
    fn parse(text: &str) -> Result<Cursor, ReadError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let (parts, rest) = bytes.as_chunks::<8>();
        match parts {
            [born, walk, row] if rest.is_empty() => Ok(Cursor {
                born: i64::from_be_bytes(*born),
                walk: u64::from_be_bytes(*walk),
                row: i64::from_be_bytes(*row),
            }),
            _ => Err(ReadError::BadCursor("it is no cursor; give the `next` of the page before")),
        }
    }

    fn row_for(self, query: &Query, born: i64) -> Result<i64, ReadError> {
        if self.walk != query.fingerprint() {
            return Err(ReadError::BadCursor("it belongs to a query with other filters"));
        }
        if self.born != born {
            return Err(ReadError::BadCursor("the history it belongs to was replaced; begin again without it"));
        }
        Ok(self.row)
    }
}
