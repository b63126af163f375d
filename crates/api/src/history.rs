//! `GET /api/v1/history`: what happened, newest first, page by page.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::problem::Problem;
use selfheal_model::Timestamp;

/// Rows of one page when the caller names no limit, and the most it may ask for.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;
/// A filter longer than this names nothing.
const MAX_FILTER: usize = 1_024;

/// What happened can be asked for by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    Alerts,
    Runs,
    Deliveries,
    Audit,
    Policies,
    /// Where history itself misses something.
    Gaps,
}

impl HistoryKind {
    const ALL: [(&str, HistoryKind); 6] = [
        ("alerts", HistoryKind::Alerts),
        ("runs", HistoryKind::Runs),
        ("deliveries", HistoryKind::Deliveries),
        ("audit", HistoryKind::Audit),
        ("policies", HistoryKind::Policies),
        ("gaps", HistoryKind::Gaps),
    ];

    /// The states its rows can be in; none: they have no state.
    fn states(self) -> &'static [&'static str] {
        match self {
            HistoryKind::Alerts => &["pending", "firing", "resolved", "ended", "lost"],
            HistoryKind::Runs => &[
                "waiting",
                "approving",
                "running",
                "verifying",
                "cured",
                "cured(eased)",
                "done",
                "not_cured",
                "inconclusive",
                "went_away",
                "refused",
                "denied",
                "cancelled",
                "lost",
            ],
            HistoryKind::Deliveries => &["pending", "delivered", "undelivered", "merged", "lost"],
            HistoryKind::Audit | HistoryKind::Policies | HistoryKind::Gaps => &[],
        }
    }

    /// Whether its rows can be asked for by `deployment`, `rule` or `alert`.
    fn has(self, filter: &str) -> bool {
        match self {
            HistoryKind::Alerts | HistoryKind::Runs => true,
            HistoryKind::Deliveries => filter != "alert",
            HistoryKind::Audit | HistoryKind::Policies | HistoryKind::Gaps => false,
        }
    }
}

/// A well-formed question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    pub kind: HistoryKind,
    /// What had not ended before this.
    pub since: Option<Timestamp>,
    /// What began before this.
    pub until: Option<Timestamp>,
    pub deployment: Option<String>,
    pub rule: Option<String>,
    /// An alert's state, a run's verdict (its state while it has none), a delivery's state.
    pub state: Option<String>,
    /// An alert's short id.
    pub alert: Option<String>,
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Some rows, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryPage {
    pub rows: Vec<Value>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<String>,
    /// Where history misses something in the time that was asked for.
    pub gaps: Vec<Value>,
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHistory {
    /// The cursor is none of this query: why.
    BadCursor(String),
    Unavailable(String),
}

#[derive(Debug, Serialize)]
pub struct Document {
    kind: HistoryKind,
    rows: Vec<Value>,
    next: Option<String>,
    gaps: Vec<Value>,
}

type Parameters = Vec<(String, String)>;

pub async fn history(
    State(api): State<Api>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Document>, Problem> {
    let Query(parameters) = parameters.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "unreadable query", format!("the query is wrong: {error}"))
    })?;
    let query = parse(parameters)?;
    let kind = query.kind;
    match api.backend.history(query).await {
        Ok(HistoryPage { rows, next, gaps }) => Ok(Json(Document { kind, rows, next, gaps })),
        Err(NoHistory::BadCursor(why)) => Err(wrong("cursor", why)),
        Err(NoHistory::Unavailable(why)) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no history", why).retry_after())
        }
    }
}

pub(super) fn wrong(parameter: &str, why: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "wrong parameter", format!("`{parameter}`: {why}"))
        .with("parameter", parameter)
}

fn parse(parameters: Parameters) -> Result<HistoryQuery, Problem> {
    let mut query = HistoryQuery {
        kind: HistoryKind::Alerts,
        since: None,
        until: None,
        deployment: None,
        rule: None,
        state: None,
        alert: None,
        limit: DEFAULT_LIMIT,
        cursor: None,
    };
    let mut seen = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name) {
            return Err(wrong(&name, "it is given twice"));
        }
        if value.is_empty() || value.len() > MAX_FILTER {
            return Err(wrong(&name, format!("it needs 1 to {MAX_FILTER} bytes")));
        }
        match name.as_str() {
            "kind" => query.kind = kind(&value)?,
            "since" => query.since = Some(time(&name, &value)?),
            "until" => query.until = Some(time(&name, &value)?),
            "limit" => query.limit = limit(&value)?,
            "deployment" => query.deployment = Some(value),
            "rule" => query.rule = Some(value),
            "state" => query.state = Some(value),
            "alert" => query.alert = Some(value),
            "cursor" => query.cursor = Some(value),
            _ => {
                return Err(wrong(
                    &name,
                    "there is no such parameter; there are kind, since, until, deployment, rule, state, alert, \
                     limit and cursor",
                ));
            }
        }
        seen.push(name);
    }
    fits(query)
}

/// A filter that its kind does not have would show nothing, or all, in silence.
fn fits(query: HistoryQuery) -> Result<HistoryQuery, Problem> {
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since >= until
    {
        return Err(wrong("until", "it is not after `since`"));
    }
    for (name, value) in [("deployment", &query.deployment), ("rule", &query.rule), ("alert", &query.alert)] {
        if value.is_some() && !query.kind.has(name) {
            let others = if name == "alert" { "alerts and runs" } else { "alerts, runs and deliveries" };
            return Err(wrong(name, format!("it is a filter of {others} only")));
        }
    }
    if let Some(state) = &query.state {
        let states = query.kind.states();
        if states.is_empty() {
            return Err(wrong("state", "it is a filter of alerts, runs and deliveries only"));
        }
        if !states.contains(&state.as_str()) {
            return Err(wrong("state", format!("`{state}` is none; it is one of {}", states.join(", "))));
        }
    }
    Ok(query)
}

fn kind(value: &str) -> Result<HistoryKind, Problem> {
    let found = HistoryKind::ALL.iter().find(|(name, _)| *name == value);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let names: Vec<_> = HistoryKind::ALL.iter().map(|(name, _)| *name).collect();
        wrong("kind", format!("`{value}` is none; it is one of {}", names.join(", ")))
    })
}

pub(super) fn time(name: &str, value: &str) -> Result<Timestamp, Problem> {
    value.parse().map_err(|why: String| wrong(name, why))
}

fn limit(value: &str) -> Result<usize, Problem> {
    match value.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(wrong("limit", format!("`{value}` is no number from 1 to {MAX_LIMIT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<HistoryQuery, String> {
        let parameters = text.split('&').filter_map(|pair| pair.split_once('='));
        parse(parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
            .map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_good_query_is_read_as_it_is_meant() {
        let query = parsed("kind=runs&since=2026-11-23T20:00:00Z&deployment=web&state=cured&limit=500")
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((query.kind, query.limit), (HistoryKind::Runs, 500));
        assert_eq!(query.since.map(|at| at.to_string()).as_deref(), Some("2026-11-23T20:00:00.000Z"));
        assert_eq!((query.deployment.as_deref(), query.state.as_deref()), (Some("web"), Some("cured")));
        let nothing = parsed("").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((nothing.kind, nothing.limit), (HistoryKind::Alerts, 50));
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for (text, parameter) in [
            ("kind=alarms", "kind"),
            ("since=yesterday", "since"),
            ("until=1h", "until"),
            ("since=2026-11-23T20:00:00Z&until=2026-11-23T20:00:00Z", "until"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=many", "limit"),
            ("state=fired", "state"),
            ("kind=audit&state=done", "state"),
            ("kind=audit&deployment=web", "deployment"),
            ("kind=deliveries&alert=00", "alert"),
            ("kind=gaps&alert=00", "alert"),
            ("rule=A&rule=B", "rule"),
            ("page=2", "page"),
            ("deployment=", "deployment"),
        ] {
            let problem = parsed(text).expect_err(text);
            assert!(problem.contains(&format!("(\"parameter\", String(\"{parameter}\"))")), "{text}: {problem}");
        }
    }
}
