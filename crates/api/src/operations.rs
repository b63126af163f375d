//! Operators' commands: trigger, cancel, pause, resume, reload. Each is answered when the engine has taken it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Api, ReloadAnswer};
use selfheal_contract::{OperatorAnswer, OperatorCommand};
use selfheal_model::{DeploymentId, Map, PlaybookName, RunId};

/// The header with the operator's name. Without authentication it cannot be verified; it is only recorded in the audit
/// log.
const OPERATOR_HEADER: &str = "x-selfheal-operator";
/// Characters of an operator's name.
const MAX_NAME: usize = 64;

/// Whoever sends a state-changing request, and the API it is sent to.
pub(super) struct Operator {
    pub api: Api,
    name: String,
}

impl Operator {
    /// Sends a command to the engine. Resolves when the engine has taken it.
    ///
    /// # Errors
    /// The engine refuses the command.
    pub async fn execute(&self, command: OperatorCommand) -> Result<OperatorAnswer, Problem> {
        self.api.backend.operate(self.name.clone(), command).await.map_err(Problem::refused)
    }
}

impl FromRequestParts<Api> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let client = ConnectInfo::<SocketAddr>::from_request_parts(parts, api).await;
        let ConnectInfo(client) = client.map_err(IntoResponse::into_response)?;
        Ok(Operator { api: api.clone(), name: name_of(&parts.headers, client) })
    }
}

/// The name of the operator as the client gives it, else the client's address.
fn name_of(headers: &HeaderMap, client: SocketAddr) -> String {
    let named = headers.get(OPERATOR_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    match named.filter(|name| !name.is_empty()) {
        Some(name) => name.chars().take(MAX_NAME).collect(),
        None => client.ip().to_string(),
    }
}

/// A body in JSON, whatever its content type; an empty one counts as `{}`.
pub(super) struct Parsed<T>(pub T);

impl<T: for<'de> Deserialize<'de>> FromRequest<Api> for Parsed<T> {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let body = bytes::Bytes::from_request(request, api).await.map_err(IntoResponse::into_response)?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map(Parsed).map_err(|error| {
            let detail = format!("the body cannot be parsed: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "unreadable body", detail).into_response()
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    playbook: String,
    deployment: String,
    #[serde(default)]
    with: Map,
    /// Guards that are not applied to this run.
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

pub async fn trigger(
    operator: Operator,
    Parsed(request): Parsed<Trigger>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let command = OperatorCommand::Trigger {
        playbook: PlaybookName::new(&request.playbook),
        deployment: DeploymentId::new(&request.deployment),
        with: request.with,
        reason: request.reason,
        overrides: request.overrides,
    };
    match operator.execute(command).await? {
        OperatorAnswer::Run(run) => Ok((StatusCode::ACCEPTED, Json(json!({ "run": run })))),
        OperatorAnswer::Id(_) | OperatorAnswer::Ok => Ok((StatusCode::ACCEPTED, Json(json!({})))),
    }
}

pub async fn cancel(
    operator: Operator,
    Path(run): Path<String>,
    Parsed(Reason { reason }): Parsed<Reason>,
) -> Result<Json<Value>, Problem> {
    operator.execute(OperatorCommand::CancelRun { run: RunId::new(&run), reason }).await?;
    Ok(Json(json!({ "cancelled": run })))
}

pub async fn pause(operator: Operator, Parsed(Reason { reason }): Parsed<Reason>) -> Result<Json<Value>, Problem> {
    if reason.trim().is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "a reason is missing", "say why: {\"reason\": \"…\"}"));
    }
    operator.execute(OperatorCommand::Pause { reason }).await?;
    Ok(Json(json!({ "paused": true })))
}

pub async fn resume(operator: Operator, Parsed(Reason { reason }): Parsed<Reason>) -> Result<Json<Value>, Problem> {
    operator.execute(OperatorCommand::Resume { reason }).await?;
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
