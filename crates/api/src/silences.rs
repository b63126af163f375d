//! Silences and acknowledgements: what stops notifications.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::Api;
use super::operations::{Operator, Parsed};
use super::problem::Problem;
use selfheal_contract::view::{SilenceState, SilenceView};
use selfheal_contract::{OperatorAnswer, OperatorCommand, SilenceAsked, SilenceEnd};
use selfheal_model::units::parse_duration;
use selfheal_model::{Labels, Matcher, Selector, Timestamp};

/// `?state=active`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    state: Option<SilenceState>,
}

/// A silence to make, or with `id` to change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    id: Option<SmolStr>,
    #[serde(default)]
    matchers: Vec<String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(rename = "for")]
    for_: Option<String>,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    annotations: Labels,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    #[serde(default)]
    take: bool,
    #[serde(default)]
    comment: String,
}

fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "wrong silence", detail)
}

impl Asked {
    fn read(self) -> Result<SilenceAsked, Problem> {
        if self.matchers.is_empty() {
            return Err(wrong("matchers are missing: {\"matchers\": [\"deployment=checkout\"], …}"));
        }
        if self.comment.trim().is_empty() {
            return Err(wrong("a comment is missing; say why: {\"comment\": \"…\"}"));
        }
        let matcher = |text: &String| text.parse::<Matcher>().map_err(|error| wrong(error.to_string()));
        let matchers = self.matchers.iter().map(matcher).collect::<Result<_, _>>()?;
        let time = |text: String| text.parse::<Timestamp>().map_err(wrong);
        let ends = match (self.ends_at, self.for_) {
            (Some(at), None) => SilenceEnd::At(time(at)?),
            (None, Some(span)) => SilenceEnd::After(parse_duration(&span).map_err(|error| wrong(error.to_string()))?),
            _ => return Err(wrong("say when it ends, by either `for` (\"2h\") or `ends_at`")),
        };
        Ok(SilenceAsked {
            id: self.id,
            matchers: Selector(matchers),
            starts_at: self.starts_at.map(time).transpose()?,
            ends,
            comment: self.comment,
            annotations: self.annotations,
        })
    }
}

pub async fn list(State(api): State<Api>, Query(filter): Query<Filter>) -> Json<Vec<SilenceView>> {
    let views = api.model.read();
    let wanted = |view: &&SilenceView| filter.state.is_none_or(|state| view.state == state);
    let mut rows: Vec<SilenceView> = views.silences.values().filter(wanted).cloned().collect();
    rows.sort_by_key(|view| (view.state == SilenceState::Expired, std::cmp::Reverse((view.starts_at, view.ends_at))));
    Json(rows)
}

pub async fn one(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<SilenceView>, Problem> {
    let view = api.model.read().silences.get(id.as_str()).cloned();
    view.map(Json).ok_or_else(|| Problem::missing("silence", &id))
}

pub async fn make(operator: Operator, Parsed(asked): Parsed<Asked>) -> Result<(StatusCode, Json<Value>), Problem> {
    let asked = asked.read()?;
    let status = if asked.id.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    match operator.execute(OperatorCommand::Silence(asked)).await? {
        OperatorAnswer::Id(id) => Ok((status, Json(json!({ "id": id })))),
        OperatorAnswer::Run(_) | OperatorAnswer::Ok => Ok((status, Json(json!({})))),
    }
}

pub async fn expire(operator: Operator, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    if !operator.api.model.read().silences.contains_key(id.as_str()) {
        return Err(Problem::missing("silence", &id));
    }
    let command = OperatorCommand::ExpireSilence { id: id.as_str().into() };
    operator.execute(command).await?;
    Ok(Json(json!({ "expired": id })))
}

pub async fn acknowledge(
    operator: Operator,
    Path(id): Path<String>,
    Parsed(Acknowledged { take, comment }): Parsed<Acknowledged>,
) -> Result<Json<Value>, Problem> {
    if !operator.api.model.read().alerts.contains_key(id.as_str()) {
        return Err(Problem::missing("alert", &id));
    }
    let command = OperatorCommand::Ack { alert: id.as_str().into(), take, comment };
    operator.execute(command).await?;
    Ok(Json(json!({ "acknowledged": id, "take": take })))
}

pub async fn unacknowledge(operator: Operator, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    operator.execute(OperatorCommand::Unack { alert: id.as_str().into() }).await?;
    Ok(Json(json!({ "unacknowledged": id })))
}
