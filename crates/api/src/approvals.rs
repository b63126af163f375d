//! Approval requests: the list, and operators' answers.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::operations::{Operator, Parsed, Reason};
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
    operator: Operator,
    Path(id): Path<String>,
    Parsed(Reason { reason }): Parsed<Reason>,
) -> Result<Json<Value>, Problem> {
    let command = OperatorCommand::Approve { approval: ApprovalId::new(&id), reason };
    answered(operator.execute(command).await?, "approved", &id)
}

pub async fn deny(
    operator: Operator,
    Path(id): Path<String>,
    Parsed(Reason { reason }): Parsed<Reason>,
) -> Result<Json<Value>, Problem> {
    let command = OperatorCommand::Deny { approval: ApprovalId::new(&id), reason };
    answered(operator.execute(command).await?, "denied", &id)
}

fn answered(answer: OperatorAnswer, word: &str, id: &str) -> Result<Json<Value>, Problem> {
    let run = match answer {
        OperatorAnswer::Run(run) => Some(run),
        OperatorAnswer::Id(_) | OperatorAnswer::Ok => None,
    };
    Ok(Json(json!({ word: id, "run": run })))
}
