//! Opens the history of a data folder, says what was found, and answers the API from it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use selfheal_api::{HistoryKind, HistoryPage, HistoryQuery, NoHistory};
use selfheal_model::Timestamp;
use selfheal_policy::Keep;
use selfheal_store::history::{Found, History, Kind, Limits, Page, Query, ReadError, Start};

/// What waits is written at the end, but a disk that hangs must not hold up a stop.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// `keep` is how much of the past the policy wants kept.
pub(super) fn open(data_dir: &Path, keep: Keep, now: Timestamp, journal_last: u64) -> History {
    let path = data_dir.join("history.db");
    let limits = Limits { max_age: keep.age, max_bytes: keep.size.0, max_rows: Limits::MAX_ROWS };
    let (history, found) = History::open(&path, limits, Start { now, journal_last });
    match found {
        Found::Good | Found::Nothing => {}
        Found::StateLost => tracing::info!("started without the former state; history goes on"),
        Found::Missing => tracing::warn!(path = %path.display(), "the history was gone; a new one is begun"),
        Found::MovedAside { to, why } => tracing::error!(why, to, "the history was moved aside; a new one is begun"),
        Found::Unavailable { why } => tracing::error!(why, path = %path.display(), "there is no history for now"),
    }
    history
}

/// Returns when what waits is written, or has waited too long.
pub(super) async fn close(history: Arc<History>) {
    let closed = tokio::task::spawn_blocking(move || history.close());
    if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
        tracing::warn!("the newest history could not be written in time");
    }
}

/// Reads for the API, one query at a time: many slow ones would take all threads that may block.
pub(super) struct Lookup {
    history: Arc<History>,
    turn: Semaphore,
}

impl Lookup {
    pub fn new(history: Arc<History>) -> Lookup {
        Lookup { history, turn: Semaphore::new(1) }
    }

    pub async fn read(&self, query: HistoryQuery) -> Result<HistoryPage, NoHistory> {
        let unavailable = |why: String| NoHistory::Unavailable(why);
        let _turn = self.turn.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let history = self.history.clone();
        let query = asked(query);
        let read = tokio::task::spawn_blocking(move || history.read(&query));
        match read.await.map_err(|error| unavailable(error.to_string()))? {
            Ok(Page { rows, next, gaps }) => Ok(HistoryPage { rows, next, gaps }),
            Err(ReadError::BadCursor(why)) => Err(NoHistory::BadCursor(why.to_owned())),
            Err(error @ (ReadError::Damaged(_) | ReadError::Unavailable(_))) => Err(unavailable(error.to_string())),
        }
    }
}

fn asked(query: HistoryQuery) -> Query {
    let HistoryQuery { kind, since, until, deployment, rule, state, alert, limit, cursor } = query;
    let kind = match kind {
        HistoryKind::Alerts => Kind::Alerts,
        HistoryKind::Runs => Kind::Runs,
        HistoryKind::Deliveries => Kind::Deliveries,
        HistoryKind::Audit => Kind::Audit,
        HistoryKind::Policies => Kind::Policies,
        HistoryKind::Gaps => Kind::Gaps,
    };
    Query { kind, since, until, deployment, rule, state, alert, limit, cursor }
}
