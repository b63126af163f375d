//! `GET /api/v1/explain`: why something happened and why it did not, now or at an earlier instant.
//!
//! Invariant: an answer says who gave it: the running engine, one that was made anew as it was then, or history, which
//! has no figures of conditions and says so.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use super::history::{time, wrong};
use super::problem::Problem;
use super::{Api, Busy};
use selfheal_contract::explanation::Explanation;
use selfheal_model::{DeploymentId, RuleName, Timestamp};

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explain {
    /// An alert, by its short id.
    Alert(String),
    Rule {
        rule: RuleName,
        deployment: DeploymentId,
    },
}

impl std::fmt::Display for Explain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Explain::Alert(id) => write!(f, "alert `{id}`"),
            Explain::Rule { rule, .. } => write!(f, "rule `{rule}`"),
        }
    }
}

/// An explanation and who gave it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    #[serde(flatten)]
    pub explanation: Explanation,
    pub told: Told,
}

/// Who gave an explanation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Told {
    /// The running engine, as it is now.
    Engine,
    /// An engine that was made as the running one was then.
    Journal {
        asked_at: Timestamp,
        /// The batch after which the snapshot was made that it began with; `null`: it began where the journal does.
        snapshot: Option<u64>,
        /// The last batch that is in it.
        batch: Option<u64>,
        /// How many were folded.
        batches: u64,
        /// The policy that was live.
        policy: SmolStr,
    },
    History(Remembered),
}

/// What history has, newest first. Its rows are whole: they tell also what came after the instant that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Remembered {
    /// `null`: as it is now.
    pub asked_at: Option<Timestamp>,
    /// Why no engine was asked.
    pub why: String,
    /// From then on the figures of conditions are kept; `null`: none are.
    pub figures_since: Option<Timestamp>,
    /// The episode, with its transitions.
    pub alerts: Vec<Value>,
    /// For it, with their steps and what the guards said.
    pub runs: Vec<Value>,
    pub deliveries: Vec<Value>,
    /// Where history itself misses something in that time.
    pub gaps: Vec<Value>,
}

/// Why nothing is explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotExplained {
    Busy(Busy),
    /// As many as may are being made anew at the moment.
    TooMany,
    /// Nothing is known of such an instant: why.
    BadTime(String),
    /// There is nothing of that name; a sentence where there is more to say.
    Unknown(Option<String>),
    /// What would answer cannot be read now.
    Unavailable(String),
}

impl From<Busy> for NotExplained {
    fn from(busy: Busy) -> Self {
        NotExplained::Busy(busy)
    }
}

/// `?alert=ID`, or `?rule=NAME&deployment=ID`; with `&at=TIME`, as it was then.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    alert: Option<String>,
    rule: Option<String>,
    deployment: Option<String>,
    at: Option<String>,
}

pub async fn explain(
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explained>, Problem> {
    let Query(asked) = asked.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "unreadable query", format!("the query is wrong: {error}"))
    })?;
    let at = asked.at.as_deref().map(|text| time("at", text)).transpose()?;
    let what = match (asked.alert, asked.rule, asked.deployment) {
        (Some(id), None, None) => Explain::Alert(id),
        (None, Some(rule), Some(deployment)) => {
            Explain::Rule { rule: RuleName::from(rule), deployment: DeploymentId::from(deployment) }
        }
        _ => {
            let detail = "say which alert (`alert=ID`), or which rule and deployment (`rule=NAME&deployment=ID`)";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "what is to be explained", detail));
        }
    };
    let explained = api.backend.explain(what.clone(), at).await;
    explained.map(|explained| Json(*explained)).map_err(|why| problem(&what, why))
}

fn problem(what: &Explain, why: NotExplained) -> Problem {
    match why {
        NotExplained::Busy(busy) => busy.into(),
        NotExplained::TooMany => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "one at a time",
            "the past is being explained to somebody else: that takes a second engine, and there is one at a time",
        )
        .retry_after(),
        NotExplained::BadTime(why) => wrong("at", why),
        NotExplained::Unknown(why) => {
            let detail = why.unwrap_or_else(|| format!("there is no {what}"));
            Problem::new(StatusCode::NOT_FOUND, "not found", detail)
        }
        NotExplained::Unavailable(why) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not readable", why).retry_after()
        }
    }
}
