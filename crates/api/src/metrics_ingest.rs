//! Metrics that other systems push: Prometheus remote write, OTLP over HTTP, and the Prometheus text format.
//!
//! Each request is answered as its own protocol says, so that the sender knows which samples to send again.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prost::Message;

use super::events::EventBody;
use super::problem::Problem;
use super::{Api, Form, Ingested, NotRead};
use selfheal_model::Labels;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// `POST /api/v1/write`: Prometheus' remote write, 1.0 and 2.0. Prometheus does not send a request again
/// after a 4xx; the valid samples of it are kept.
pub async fn remote_write(State(api): State<Api>, body: EventBody) -> Result<Response, Problem> {
    let taken = api.backend.ingest(body.bytes, Form::RemoteWrite { content_type: body.content_type }).await?;
    let mut answer = match taken.rejected {
        0 => StatusCode::NO_CONTENT.into_response(),
        _ => partly(&taken).into_response(),
    };
    // version 2.0 requires all three, also when they are zero: a sender counts samples that are not reported as lost
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

/// `POST /v1/metrics`: OTLP, in protobuf or JSON. Invalid points are reported as a partial success: the sender does
/// not send them again.
pub async fn otlp(State(api): State<Api>, EventBody { bytes, content_type }: EventBody) -> Result<Response, Problem> {
    let is_json = content_type.as_ref().is_some_and(|kind| kind.to_ascii_lowercase().trim().starts_with(JSON));
    let taken = api.backend.ingest(bytes, Form::Otlp { content_type }).await?;
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

/// `POST /api/v1/import/prometheus`: Prometheus' text or OpenMetrics. `?deployment=ID` names the deployment of all
/// samples, `?extra_label=NAME=VALUE` adds a label to all of them.
pub async fn text(
    State(api): State<Api>,
    Query(query): Query<Vec<(String, String)>>,
    body: EventBody,
) -> Result<Response, Problem> {
    let labels = labels_of(query).map_err(|why| {
        api.backend.not_read(NotRead::Unreadable);
        Problem::new(StatusCode::BAD_REQUEST, "wrong parameter", why)
    })?;
    let taken = api.backend.ingest(body.bytes, Form::Text { content_type: body.content_type, labels }).await?;
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
