//! Metrics as other systems send them: Prometheus' remote write, OTLP over HTTP, and Prometheus' text.
//!
//! Each is answered in its own system's manner, so that its sender knows what to send again and what not.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;

use super::events::read_body;
use super::problem::Problem;
use super::{Api, Form, Ingested, NotRead};
use selfheal_model::Labels;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

fn content_type(headers: &HeaderMap) -> Option<String> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// `POST /api/v1/write`: Prometheus' remote write, 1.0 and 2.0. A 4xx is not sent again by Prometheus; what was good
/// is kept.
pub async fn remote_write(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&api, client, body).await?;
    let taken = api.backend.ingest(body, Form::RemoteWrite { content_type: content_type(&headers) }).await?;
    let mut answer = match taken.rejected {
        0 => StatusCode::NO_CONTENT.into_response(),
        _ => partly(&taken).into_response(),
    };
    // 2.0 asks for all three, also when they are zero: a sender that is told less than it sent counts a loss
    for (kind, count) in [("samples", taken.understood), ("histograms", 0), ("exemplars", 0)] {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        if let (Ok(name), value) = (axum::http::HeaderName::try_from(name), axum::http::HeaderValue::from(count)) {
            answer.headers_mut().insert(name, value);
        }
    }
    Ok(answer)
}

/// `ExportMetricsServiceResponse` of OTLP.
#[derive(Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_data_points: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `POST /v1/metrics`: OTLP, in protobuf or JSON. What is wrong with some points is a partial success there: they are
/// not sent again.
pub async fn otlp(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let content_type = content_type(&headers);
    let is_json = content_type.as_ref().is_some_and(|kind| kind.to_ascii_lowercase().trim().starts_with(JSON));
    let body = read_body(&api, client, body).await?;
    let taken = api.backend.ingest(body, Form::Otlp { content_type }).await?;
    let partial = (taken.rejected > 0).then(|| PartialSuccess {
        rejected_data_points: i64::try_from(taken.rejected).unwrap_or(i64::MAX),
        error_message: first_error(&taken),
    });
    if is_json {
        let answer = match partial {
            None => serde_json::json!({}),
            Some(PartialSuccess { rejected_data_points, error_message }) => serde_json::json!({
                "partialSuccess": { "rejectedDataPoints": rejected_data_points.to_string(), "errorMessage": error_message },
            }),
        };
        return Ok(([(CONTENT_TYPE, JSON)], answer.to_string()).into_response());
    }
    Ok(([(CONTENT_TYPE, PROTOBUF)], ExportAnswer { partial_success: partial }.encode_to_vec()).into_response())
}

/// `POST /api/v1/import/prometheus`: Prometheus' text or OpenMetrics. `?deployment=ID` says whose all of it is,
/// `?extra_label=NAME=VALUE` puts a label on all of it.
pub async fn text(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let labels = labels_of(query).map_err(|why| {
        api.backend.not_read(NotRead::Unreadable);
        Problem::new(StatusCode::BAD_REQUEST, "wrong parameter", why)
    })?;
    let body = read_body(&api, client, body).await?;
    let taken = api.backend.ingest(body, Form::Text { content_type: content_type(&headers), labels }).await?;
    match taken.rejected {
        0 => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(partly(&taken)),
    }
}

fn labels_of(query: Vec<(String, String)>) -> Result<Labels, String> {
    let mut labels = Vec::new();
    for (key, value) in query {
        match (key.as_str(), value.split_once('=')) {
            ("deployment", _) => labels.push(("deployment".to_owned(), value)),
            ("extra_label", Some((name, value))) => labels.push((name.to_owned(), value.to_owned())),
            ("extra_label", None) => return Err(format!("`extra_label` is NAME=VALUE, not `{value}`")),
            _ => return Err(format!("there is no parameter `{key}`; it is `deployment` or `extra_label`")),
        }
    }
    Ok(labels.into_iter().collect())
}

fn first_error(taken: &Ingested) -> String {
    let first = taken.errors.first().and_then(|error| error["why"].as_str()).unwrap_or("some samples are wrong");
    match taken.rejected {
        1 => first.to_owned(),
        more => format!("{first}, and {} more", more - 1),
    }
}

fn partly(taken: &Ingested) -> Problem {
    let detail = format!("{} accepted, {} rejected; {}", taken.accepted, taken.rejected, first_error(taken));
    Problem::new(StatusCode::BAD_REQUEST, "some samples are wrong", detail)
        .with("accepted", taken.accepted)
        .with("rejected", taken.rejected)
        .with("errors", &taken.errors)
}
