//! Reads: the read model's views, newest first, filtered by query.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Api, maintenance};
use selfheal_contract::view::{
    AlertStateWord, AlertView, ApprovalState, AuditEntry, DeliveryView, DeploymentView, RunView,
};

/// Rows of one answer when the caller names no limit, and the most it may ask for.
const DEFAULT_LIMIT: usize = 200;
const MAX_LIMIT: usize = 1_000;

/// `?deployment=checkout&state=firing&limit=20`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    deployment: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
}

impl Filter {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }

    fn takes_deployment(&self, deployment: Option<&str>) -> bool {
        self.deployment.as_deref().is_none_or(|wanted| deployment == Some(wanted))
    }

    fn takes_state(&self, state: &str) -> bool {
        self.state.as_deref().is_none_or(|wanted| wanted == state)
    }
}

fn state_word(state: AlertStateWord) -> &'static str {
    match state {
        AlertStateWord::Pending => "pending",
        AlertStateWord::Firing => "firing",
        AlertStateWord::Resolved => "resolved",
        AlertStateWord::Ended => "ended",
    }
}

pub async fn alerts(State(api): State<Api>, Query(filter): Query<Filter>) -> Json<Vec<AlertView>> {
    let mut rows: Vec<_> = api
        .model
        .read()
        .alerts
        .values()
        .filter(|view| {
            filter.takes_deployment(view.labels.get("deployment")) && filter.takes_state(state_word(view.state))
        })
        .cloned()
        .collect();
    rows.sort_by_key(|view| (view.ended_at.is_some(), std::cmp::Reverse((view.severity, view.started_at))));
    rows.truncate(filter.limit());
    Json(rows)
}

pub async fn alert(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<AlertView>, Problem> {
    let view = api.model.read().alerts.get(id.as_str()).cloned();
    view.map(Json).ok_or_else(|| Problem::missing("alert", &id))
}

pub async fn runs(State(api): State<Api>, Query(filter): Query<Filter>) -> Json<Vec<RunView>> {
    let mut rows: Vec<_> = api
        .model
        .read()
        .runs
        .values()
        .filter(|view| filter.takes_deployment(Some(view.deployment.as_str())) && filter.takes_state(&view.state))
        .cloned()
        .collect();
    rows.sort_by_key(|view| std::cmp::Reverse(view.started_at));
    rows.truncate(filter.limit());
    Json(rows)
}

pub async fn run(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<RunView>, Problem> {
    let view = api.model.read().runs.get(id.as_str()).cloned();
    view.map(Json).ok_or_else(|| Problem::missing("run", &id))
}

pub async fn deliveries(State(api): State<Api>, Query(filter): Query<Filter>) -> Json<Vec<DeliveryView>> {
    let mut rows: Vec<_> =
        api.model.read().deliveries.values().filter(|view| filter.takes_state(&view.state)).cloned().collect();
    rows.sort_by_key(|view| std::cmp::Reverse(view.created_at));
    rows.truncate(filter.limit());
    Json(rows)
}

pub async fn audit(State(api): State<Api>) -> Json<Vec<AuditEntry>> {
    Json(api.model.read().audit.iter().rev().cloned().collect())
}

pub async fn deployments(
    State(api): State<Api>,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<DeploymentView>>, Problem> {
    let mut rows = api.backend.deployments().await?;
    rows.retain(|view| filter.takes_deployment(Some(view.id.as_str())) && filter.takes_state(view.health.as_str()));
    rows.truncate(filter.limit());
    Ok(Json(rows))
}

pub async fn deployment(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<DeploymentView>, Problem> {
    let rows = api.backend.deployments().await?;
    rows.into_iter().find(|view| view.id.as_str() == id).map(Json).ok_or_else(|| Problem::missing("deployment", &id))
}

/// The engine as a whole: policy, pause, and what is going on, in numbers.
pub async fn status(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let deployments = api.backend.deployments().await?;
    let views = api.model.read();
    let firing = views.alerts.values().filter(|view| view.state == AlertStateWord::Firing).count();
    let pending = views.alerts.values().filter(|view| view.state == AlertStateWord::Pending).count();
    let running = views.runs.values().filter(|view| view.ended_at.is_none()).count();
    let waiting = views.approvals.values().filter(|view| view.state == ApprovalState::Waiting).count();
    let undelivered = views.deliveries.values().filter(|view| view.state == "undelivered").count();
    let policy = views.engine.as_ref().map(|engine| {
        json!({
            "version": engine.policy_version,
            "loaded_at": engine.policy_loaded_at,
            "errors": engine.policy_errors,
            "rules": engine.rules,
            "playbooks": engine.playbooks,
        })
    });
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": api.backend.is_ready(),
        "policy": policy,
        "paused": views.engine.as_ref().and_then(|engine| engine.paused.clone()),
        "maintenance": views.engine.as_ref().map(|engine| maintenance::open(&api, &engine.maintenance)).unwrap_or_default(),
        "mode": views.engine.as_ref().map(|engine| engine.guard_mode.clone()),
        "alerts": { "firing": firing, "pending": pending },
        "runs": { "running": running },
        "approvals": { "waiting": waiting },
        "deliveries": { "undelivered": undelivered },
        "deployments": deployments,
    })))
}

pub async fn healthz() -> &'static str {
    "ok\n"
}

pub async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    if api.backend.is_ready() {
        return Ok("ready\n");
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not ready", "selfheal is starting or shutting down")
        .retry_after())
}
