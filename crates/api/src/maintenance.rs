//! Operators' commands that change what is repaired: retry a ladder, begin and end a maintenance, reset a playbook's
//! breaker.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::Api;
use super::operations::{Operator, Parsed, Reason};
use super::problem::Problem;
use selfheal_contract::view::MaintenanceView;
use selfheal_contract::{OperatorAnswer, OperatorCommand};
use selfheal_model::units::parse_duration;
use selfheal_model::{Matcher, PlaybookName, Selector};

/// A maintenance that is forgotten must not leave a deployment without repair for good.
const MAX_MAINTENANCE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Matchers of one maintenance.
const MAX_MATCHERS: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    #[serde(default)]
    matchers: Vec<String>,
    #[serde(rename = "for")]
    for_: String,
    #[serde(default)]
    reason: String,
}

pub async fn retry(
    operator: Operator,
    Path(id): Path<String>,
    Parsed(Reason { reason }): Parsed<Reason>,
) -> Result<Json<Value>, Problem> {
    operator.execute(OperatorCommand::Retry { alert: SmolStr::new(&id), reason }).await?;
    Ok(Json(json!({ "retried": id })))
}

pub async fn maintain(
    operator: Operator,
    Parsed(Maintenance { matchers, for_, reason }): Parsed<Maintenance>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let wrong = |title, detail: String| Problem::new(StatusCode::BAD_REQUEST, title, detail);
    if reason.trim().is_empty() {
        return Err(wrong("a reason is missing", "say why: {\"reason\": \"…\"}".to_owned()));
    }
    if matchers.is_empty() || matchers.len() > MAX_MATCHERS {
        let detail = format!(
            "say of which deployments, in 1 to {MAX_MATCHERS} matchers: {{\"matchers\": [\"tier=db\"]}}; \
             POST /api/v1/pause stops all automatic action"
        );
        return Err(wrong("wrong matchers", detail));
    }
    let select = matchers.iter().map(|text| text.parse::<Matcher>()).collect::<Result<Vec<_>, _>>();
    let select = Selector(select.map_err(|error| wrong("wrong matchers", error.to_string()))?);
    let for_ = parse_duration(&for_).map_err(|why| wrong("wrong duration", why))?;
    if for_.is_zero() || for_ > MAX_MAINTENANCE {
        return Err(wrong("wrong duration", "`for` is more than 0s and at most 30d".to_owned()));
    }
    match operator.execute(OperatorCommand::Maintain { select, for_, reason }).await? {
        OperatorAnswer::Id(id) => Ok((StatusCode::CREATED, Json(json!({ "id": id })))),
        OperatorAnswer::Run(_) | OperatorAnswer::Ok => Ok((StatusCode::CREATED, Json(json!({})))),
    }
}

pub async fn end_maintenance(operator: Operator, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    operator.execute(OperatorCommand::EndMaintenance { id: SmolStr::new(&id) }).await?;
    Ok(Json(json!({ "ended": id })))
}

pub async fn reset(
    operator: Operator,
    Path(name): Path<String>,
    Parsed(Reason { reason }): Parsed<Reason>,
) -> Result<Json<Value>, Problem> {
    let command = OperatorCommand::ResetPlaybook { playbook: PlaybookName::new(&name), reason };
    operator.execute(command).await?;
    Ok(Json(json!({ "reset": name })))
}

/// The maintenances that have not ended. The engine publishes a change when a maintenance begins or is ended by an
/// operator, not when its time is over.
pub(super) fn open(api: &Api, shown: &[MaintenanceView]) -> Vec<MaintenanceView> {
    let now = api.links.as_ref().map(|links| links.now());
    shown.iter().filter(|one| now.is_none_or(|now| now < one.until)).cloned().collect()
}
