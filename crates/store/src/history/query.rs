//! What can be asked for.

use serde_json::Value;

use selfheal_model::{Timestamp, fingerprint};

/// Rows of one page when nobody says how many.
pub const DEFAULT_LIMIT: usize = 50;
/// The most rows of one page.
pub const MAX_LIMIT: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Alerts,
    Runs,
    Deliveries,
    Audit,
    Policies,
    Gaps,
}

impl Kind {
    pub(super) fn table(self) -> &'static str {
        match self {
            Kind::Alerts => "alerts",
            Kind::Runs => "runs",
            Kind::Deliveries => "deliveries",
            Kind::Audit => "audit",
            Kind::Policies => "policies",
            Kind::Gaps => "gaps",
        }
    }
}

/// Which rows, and where to go on. A filter that its kind has no column for lets nothing through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub kind: Kind,
    /// What had not ended before this.
    pub since: Option<Timestamp>,
    /// What began before this.
    pub until: Option<Timestamp>,
    /// Of alerts and runs.
    pub deployment: Option<String>,
    /// Of alerts and runs.
    pub rule: Option<String>,
    /// An alert's state, a run's verdict (its state while it has none), a delivery's state.
    pub state: Option<String>,
    /// The short id: all episodes of an alert, or all runs for it.
    pub alert: Option<String>,
    /// At most [`MAX_LIMIT`].
    pub limit: usize,
    /// [`Page::next`] of the page before.
    pub cursor: Option<String>,
}

impl Query {
    pub fn of(kind: Kind) -> Query {
        Query {
            kind,
            since: None,
            until: None,
            deployment: None,
            rule: None,
            state: None,
            alert: None,
            limit: DEFAULT_LIMIT,
            cursor: None,
        }
    }

    /// Equal for pages of one walk. The times may move meanwhile: "an hour ago" does.
    pub(super) fn fingerprint(&self) -> u64 {
        let part = |filter: &Option<String>| match filter {
            Some(text) => format!("={text}"),
            None => String::new(),
        };
        let parts = [&self.deployment, &self.rule, &self.state, &self.alert].map(part);
        fingerprint([self.kind.table()].into_iter().chain(parts.iter().map(String::as_str)))
    }
}

/// Some rows, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub rows: Vec<Value>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
    /// The newest gaps in the time that was asked for.
    pub gaps: Vec<Value>,
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    BadCursor(&'static str),
    #[error("history is damaged: {0}")]
    Damaged(String),
    #[error("history cannot be read: {0}")]
    Unavailable(String),
}
