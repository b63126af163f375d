//! Operators' words: trigger, cancel, pause, resume, reload. Each is answered when the engine has taken it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Api, ReloadAnswer};
use selfheal_contract::{OperatorAnswer, OperatorCommand};
use selfheal_model::{DeploymentId, Map, PlaybookName, RunId};

/// The header in which a client says who it speaks for; without authentication it is taken at its word, and only for
/// the audit.
const OPERATOR_HEADER: &str = "x-selfheal-operator";
const MAX_NAME: usize = 64;

pub(super) fn who(headers: &HeaderMap, client: SocketAddr) -> String {
    let named = headers.get(OPERATOR_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    match named.filter(|name| !name.is_empty()) {
        Some(name) => name.chars().take(MAX_NAME).collect(),
        None => client.ip().to_string(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    playbook: String,
    deployment: String,
    #[serde(default)]
    with: Map,
    /// Guards that do not hold for it.
    #[serde(default, rename = "override")]
    overrides: Vec<String>,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    #[serde(default)]
    pub(super) reason: String,
}

pub(super) async fn operate(api: &Api, who: String, command: OperatorCommand) -> Result<OperatorAnswer, Problem> {
    api.backend.operate(who, command).await.map_err(Problem::refused)
}

pub(super) fn parsed<T: for<'de> Deserialize<'de>>(body: &bytes::Bytes) -> Result<T, Problem> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "unreadable body", format!("the body is wrong: {error}"))
    })
}

pub async fn trigger(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let request: Trigger = parsed(&body)?;
    let command = OperatorCommand::Trigger {
        playbook: PlaybookName::new(&request.playbook),
        deployment: DeploymentId::new(&request.deployment),
        with: request.with,
        reason: request.reason,
        overrides: request.overrides,
    };
    match operate(&api, who(&headers, client), command).await? {
        OperatorAnswer::Run(run) => Ok((StatusCode::ACCEPTED, Json(json!({ "run": run })))),
        OperatorAnswer::Id(_) | OperatorAnswer::Ok => Ok((StatusCode::ACCEPTED, Json(json!({})))),
    }
}

pub async fn cancel(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(run): Path<String>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    operate(&api, who(&headers, client), OperatorCommand::CancelRun { run: RunId::new(&run), reason }).await?;
    Ok(Json(json!({ "cancelled": run })))
}

pub async fn pause(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    if reason.trim().is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "a reason is missing", "say why: {\"reason\": \"…\"}"));
    }
    operate(&api, who(&headers, client), OperatorCommand::Pause { reason }).await?;
    Ok(Json(json!({ "paused": true })))
}

pub async fn resume(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = parsed(&body)?;
    operate(&api, who(&headers, client), OperatorCommand::Resume { reason }).await?;
    Ok(Json(json!({ "paused": false })))
}

pub async fn reload(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    match api.backend.clone().reload().await {
        ReloadAnswer::Live { version, warnings } => {
            Ok(Json(json!({ "result": "live", "version": version, "warnings": warnings })))
        }
        ReloadAnswer::Unchanged { version } => Ok(Json(json!({ "result": "unchanged", "version": version }))),
        ReloadAnswer::Refused(diagnostics) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the policy did not compile",
            "the old policy stays live",
        )
        .with("diagnostics", diagnostics)),
        ReloadAnswer::Failed(why) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reload failed", why)),
    }
}
