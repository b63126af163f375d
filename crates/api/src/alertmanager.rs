//! Alertmanager's API v2, as far as other systems post and read alerts through it.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::events::EventBody;
use super::problem::Problem;
use super::{Api, Form};
use selfheal_contract::view::{AlertStateWord, AlertView};
use selfheal_model::Matcher;

/// `POST /api/v2/alerts`: alerts that another system raised. 200 once they are durable, as the senders expect; a 4xx
/// names what is wrong, and the valid alerts are kept.
pub async fn post(State(api): State<Api>, body: EventBody) -> Result<Response, Problem> {
    let taken = api.backend.ingest(body.bytes, Form::Alerts).await?;
    if taken.rejected == 0 {
        return Ok(StatusCode::OK.into_response());
    }
    let detail = format!("{} accepted, {} rejected; the good ones are kept", taken.accepted, taken.rejected);
    Err(Problem::new(StatusCode::BAD_REQUEST, "some alerts are wrong", detail)
        .with("accepted", taken.accepted)
        .with("rejected", taken.rejected)
        .with("errors", taken.errors))
}

/// The parameters of `GET /api/v2/alerts`; all three flags are true by default.
struct AlertFilter {
    active: bool,
    silenced: bool,
    inhibited: bool,
    filter: Vec<Matcher>,
}

impl AlertFilter {
    fn of(query: Vec<(String, String)>) -> Result<AlertFilter, Problem> {
        let wrong = |why: String| Problem::new(StatusCode::BAD_REQUEST, "wrong parameter", why);
        let mut wanted = AlertFilter { active: true, silenced: true, inhibited: true, filter: Vec::new() };
        for (key, value) in query {
            let flag = || value.parse::<bool>().map_err(|_| wrong(format!("`{key}` is true or false, not `{value}`")));
            match key.as_str() {
                "active" => wanted.active = flag()?,
                "silenced" => wanted.silenced = flag()?,
                "inhibited" => wanted.inhibited = flag()?,
                // selfheal has no unprocessed alerts
                "unprocessed" => {}
                "receiver" if value.is_empty() => {}
                "receiver" => return Err(wrong("alerts are not listed by receiver here".to_owned())),
                "filter" => wanted.filter.push(value.parse().map_err(|error| wrong(format!("`filter`: {error}")))?),
                _ => return Err(wrong(format!("there is no parameter `{key}`"))),
            }
        }
        Ok(wanted)
    }

    fn takes(&self, view: &AlertView) -> bool {
        let held = view.held.as_deref();
        let silenced = held.is_some_and(|held| !held.silenced_by.is_empty());
        let inhibited = held.is_some_and(|held| held.inhibited);
        view.state == AlertStateWord::Firing
            && view.suppressed.as_deref() != Some("shadow")
            && (self.silenced || !silenced)
            && (self.inhibited || !inhibited)
            && (self.active || silenced || inhibited)
            && self.filter.iter().all(|matcher| matcher.matches(&view.labels))
    }
}

/// `GET /api/v2/alerts`: all firing alerts, of rules and of other systems.
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Vec<Value>>, Problem> {
    let wanted = AlertFilter::of(query)?;
    let views = api.model.read();
    let mut taken: Vec<&AlertView> = views.alerts.values().filter(|view| wanted.takes(view)).collect();
    taken.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(Json(taken.into_iter().map(gettable).collect()))
}

/// The alert in Alertmanager's format, which has no value for "no end yet": a firing alert gets an end in the future.
fn gettable(view: &AlertView) -> Value {
    const NO_END: &str = "9999-12-31T23:59:59.000Z";
    let held = view.held.as_deref();
    let silenced_by = held.map(|held| held.silenced_by.clone()).unwrap_or_default();
    let inhibited_by: Vec<&str> = held.filter(|held| held.inhibited).map(|_| "an inhibit rule").into_iter().collect();
    let is_held = view.suppressed.as_deref().is_some_and(|by| by != "acknowledgement");
    let state = if is_held { "suppressed" } else { "active" };
    let annotations = match view.annotations.get("summary") {
        Some(_) => view.annotations.clone(),
        None => view.annotations.with_label("summary", &view.summary),
    };
    json!({
        "labels": view.labels,
        "annotations": annotations,
        "startsAt": view.started_at,
        "endsAt": NO_END,
        "updatedAt": view.fired_at.unwrap_or(view.started_at),
        "generatorURL": view.generator_url,
        "fingerprint": view.id,
        "receivers": [],
        "status": { "state": state, "silencedBy": silenced_by, "inhibitedBy": inhibited_by, "mutedBy": [] },
    })
}
