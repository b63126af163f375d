//! Questions to people: which are open, and the answers of operators.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::operations::{Reason, operate, parsed, who};
use super::problem::Problem;
use selfheal_contract::view::{ApprovalState, ApprovalView};
use selfheal_contract::{OperatorAnswer, OperatorCommand};
use selfheal_model::ApprovalId;

/// `?state=waiting`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    state: Option<ApprovalState>,
}

/// The open ones first, the one that expires soonest at the head; then the others, newest first.
pub async fn approvals(State(api): State<Api>, Query(filter): Query<Filter>) -> Json<Vec<ApprovalView>> {
    let mut rows: Vec<_> = api
        .model
        .read()
        .approvals
        .values()
        .filter(|view| filter.state.is_none_or(|wanted| view.state == wanted))
        .cloned()
        .collect();
    rows.sort_by_key(|view| match view.state {
        ApprovalState::Waiting => (false, view.expires_at.as_millis()),
        _ => (true, view.asked_at.as_millis().saturating_neg()),
    });
    Json(rows)
}

pub async fn approval(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<ApprovalView>, Problem> {
    let view = api.model.read().approvals.get(id.as_str()).cloned();
    view.map(Json).ok_or_else(|| Problem::missing("approval", &id))
}

pub async fn approve(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    let command = OperatorCommand::Approve { approval: ApprovalId::new(&id), reason };
    answered(operate(&api, who(&headers, client), command).await?, "approved", &id)
}

pub async fn deny(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    let command = OperatorCommand::Deny { approval: ApprovalId::new(&id), reason };
    answered(operate(&api, who(&headers, client), command).await?, "denied", &id)
}

fn answered(answer: OperatorAnswer, word: &str, id: &str) -> Result<Json<Value>, Problem> {
    let run = match answer {
        OperatorAnswer::Run(run) => Some(run),
        OperatorAnswer::Id(_) | OperatorAnswer::Ok => None,
    };
    Ok(Json(json!({ word: id, "run": run })))
}
