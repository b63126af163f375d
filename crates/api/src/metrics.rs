//! `GET /metrics`: selfheal's own figures, for Prometheus and whatever else reads OpenMetrics.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Api;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn metrics(State(api): State<Api>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], api.backend.metrics().await).into_response()
}
