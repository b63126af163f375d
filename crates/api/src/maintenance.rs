//! Operators' words that change what is repaired: a ladder goes on, deployments are left alone for a while, a playbook
//! is put back into service.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::Api;
use super::operations::{Reason, operate, parsed, who};
use super::problem::Problem;
use selfheal_contract::view::MaintenanceView;
use selfheal_contract::{OperatorAnswer, OperatorCommand};
use selfheal_model::units::parse_duration;
use selfheal_model::{Matcher, PlaybookName, Selector};

/// One that is forgotten must not leave a deployment unrepaired for good.
const MAX_MAINTENANCE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Of one maintenance.
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
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    operate(&api, who(&headers, client), OperatorCommand::Retry { alert: SmolStr::new(&id), reason }).await?;
    Ok(Json(json!({ "retried": id })))
}

pub async fn maintain(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Maintenance { matchers, for_, reason } = parsed(&body)?;
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
    match operate(&api, who(&headers, client), OperatorCommand::Maintain { select, for_, reason }).await? {
        OperatorAnswer::Id(id) => Ok((StatusCode::CREATED, Json(json!({ "id": id })))),
        OperatorAnswer::Run(_) | OperatorAnswer::Ok => Ok((StatusCode::CREATED, Json(json!({})))),
    }
}

pub async fn end_maintenance(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    operate(&api, who(&headers, client), OperatorCommand::EndMaintenance { id: SmolStr::new(&id) }).await?;
    Ok(Json(json!({ "ended": id })))
}

pub async fn reset(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    let command = OperatorCommand::ResetPlaybook { playbook: PlaybookName::new(&name), reason };
    operate(&api, who(&headers, client), command).await?;
    Ok(Json(json!({ "reset": name })))
}

/// The maintenances that are not over; the engine shows its own when one begins or is ended, not when time ends it.
pub(super) fn open(api: &Api, shown: &[MaintenanceView]) -> Vec<MaintenanceView> {
    let now = api.links.as_ref().map(|links| links.now());
    shown.iter().filter(|one| now.is_none_or(|now| now < one.until)).cloned().collect()
}
