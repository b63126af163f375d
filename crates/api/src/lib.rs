//! The HTTP interface of selfheal: it takes events, shows state and history, and passes on operators' commands.
//!
//! The crate never knows the engine, the store or the policy: it calls a [`Backend`], and shows the views that were put
//! into its [`ReadModel`].
//!
//! Invariant: events that are answered with 202 are durable and handled; a read never waits for a repair; an error is a
//! problem document (RFC 9457) that says what to do.

mod alertmanager;
mod approval_page;
mod approvals;
mod events;
mod explain;
mod history;
pub mod links;
mod maintenance;
mod metrics;
mod metrics_ingest;
pub mod model;
mod operations;
mod problem;
mod queries;
mod report;
mod silences;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use futures_util::future::BoxFuture;
use smol_str::SmolStr;
use tokio::sync::watch;
use tower_http::decompression::RequestDecompressionLayer;

use events::RequestRate;
pub use explain::{Explain, Explained, NotExplained, Remembered, Told};
pub use history::{HistoryKind, HistoryPage, HistoryQuery, NoHistory};
use links::Links;
use model::ReadModel;
use selfheal_contract::view::DeploymentView;
use selfheal_contract::{Diagnostic, OperatorAnswer, OperatorCommand};
use selfheal_model::{Labels, Timestamp};

/// A request must be read and answered within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What the API needs from the running selfheal.
pub trait Backend: Send + Sync + 'static {
    /// Parses a body and hands its events to the engine; resolves when they are durable and handled.
    fn ingest(&self, body: bytes::Bytes, form: Form) -> BoxFuture<'_, Result<Ingested, NotTaken>>;

    /// Counts a body that was refused before it was read.
    fn not_read(&self, why: NotRead);

    /// The metrics of selfheal itself as OpenMetrics text.
    fn metrics(&self) -> BoxFuture<'_, String>;

    /// Has the engine execute a command of the operator named `who`; the error says why it is refused.
    fn operate(&self, who: String, command: OperatorCommand) -> BoxFuture<'_, Result<OperatorAnswer, String>>;

    /// Reads the policy folder and makes it live if it compiles.
    fn reload(self: Arc<Self>) -> BoxFuture<'static, ReloadAnswer>;

    /// Every deployment with its newest values, as of now.
    fn deployments(&self) -> BoxFuture<'_, Result<Vec<DeploymentView>, Busy>>;

    /// Why something happened or did not, now or `at` an earlier instant.
    fn explain(&self, what: Explain, at: Option<Timestamp>) -> BoxFuture<'_, Result<Box<Explained>, NotExplained>>;

    /// What happened, newest first.
    fn history(&self, query: HistoryQuery) -> BoxFuture<'_, Result<HistoryPage, NoHistory>>;

    /// Whether events are accepted.
    fn is_ready(&self) -> bool;
}

/// The format of a body.
#[derive(Clone, Debug)]
pub enum Form {
    /// selfheal's own events in JSON.
    Events { content_type: Option<String> },
    /// Prometheus remote write.
    RemoteWrite { content_type: Option<String> },
    /// OTLP metrics, protobuf or JSON.
    Otlp { content_type: Option<String> },
    /// Alerts in the format of Alertmanager's API v2.
    Alerts,
    /// Prometheus text or OpenMetrics; the labels are added to every sample.
    Text { content_type: Option<String>, labels: Labels },
}

/// Why no event of a body was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    Busy(Busy),
    /// The body cannot be parsed; why, as a sentence that starts after "the body".
    Unreadable(String),
    /// The content type is not supported.
    Unsupported(String),
}

/// Why a body was refused before it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// The sender exceeds the rate limit.
    TooFast,
    TooLarge,
    /// It ended early, cannot be decompressed, or has wrong query parameters.
    Unreadable,
}

impl From<Busy> for NotTaken {
    fn from(busy: Busy) -> Self {
        NotTaken::Busy(busy)
    }
}

/// The result of a body of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    pub accepted: usize,
    /// Samples of another system's format that were parsed, also those that carry no value.
    pub understood: usize,
    pub rejected: usize,
    /// `{line | index, why}` of each rejected event, in order, up to a limit.
    pub errors: Vec<serde_json::Value>,
}

/// Why the engine takes no events now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The queue is full.
    Full,
    /// selfheal is shutting down.
    Draining,
    /// selfheal is starting and reads its journal.
    Recovering,
    /// The journal cannot be written, for this reason.
    Unwritable(SmolStr),
}

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadAnswer {
    Live {
        version: String,
        warnings: Vec<Diagnostic>,
    },
    Unchanged {
        version: String,
    },
    /// The new policy did not compile; the old one stays live.
    Refused(Vec<Diagnostic>),
    /// The folder could not be read.
    Failed(String),
}

/// The API of one engine.
#[derive(Clone)]
pub struct Api {
    backend: Arc<dyn Backend>,
    model: Arc<ReadModel>,
    rate: Arc<RequestRate>,
    /// Verifies approval links; without it every link is refused.
    links: Option<Arc<Links>>,
}

impl Api {
    pub fn new(backend: Arc<dyn Backend>, model: Arc<ReadModel>) -> Self {
        Api { backend, model, rate: Arc::new(RequestRate::new()), links: None }
    }

    /// Accepts answers to approval requests from holders of a link that these have signed.
    pub fn with_links(mut self, links: Arc<Links>) -> Self {
        self.links = Some(links);
        self
    }

    /// Serves until `stop` becomes true, then finishes the requests under way.
    pub async fn serve(self, listener: tokio::net::TcpListener, mut stop: watch::Receiver<bool>) {
        let app = self.router().into_make_service_with_connect_info::<SocketAddr>();
        let stopped = async move {
            // a sender that was dropped means stop, too
            let _ = stop.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the API stopped");
        }
    }

    /// All routes.
    pub fn router(self) -> Router {
        let events = Router::new()
            .route("/api/v1/events", post(events::post))
            .route("/api/v1/import/prometheus", post(metrics_ingest::text))
            .route("/api/v2/alerts", post(alertmanager::post).get(alertmanager::list))
            .route("/v1/metrics", post(metrics_ingest::otlp))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(RequestDecompressionLayer::new())
            .layer(axum::middleware::from_fn_with_state(self.clone(), events::count_unsupported));
        // remote write has its own compression
        let write = Router::new()
            .route("/api/v1/write", post(metrics_ingest::remote_write))
            .layer(axum::extract::DefaultBodyLimit::disable());
        Router::new()
            .route("/api/v1/alerts", get(queries::alerts))
            .route("/api/v1/alerts/{id}", get(queries::alert))
            .route("/api/v1/alerts/{id}/ack", post(silences::acknowledge).delete(silences::unacknowledge))
            .route("/api/v1/silences", get(silences::list).post(silences::make))
            .route("/api/v1/silences/{id}", get(silences::one).delete(silences::expire))
            .route("/api/v1/runs", get(queries::runs).post(operations::trigger))
            .route("/api/v1/runs/{id}", get(queries::run))
            .route("/api/v1/runs/{id}/cancel", post(operations::cancel))
            .route("/api/v1/alerts/{id}/retry", post(maintenance::retry))
            .route("/api/v1/approvals", get(approvals::approvals))
            .route("/api/v1/approvals/{id}", get(approvals::approval))
            .route("/api/v1/approvals/{id}/approve", post(approvals::approve))
            .route("/api/v1/approvals/{id}/deny", post(approvals::deny))
            .route("/api/v1/maintenance", post(maintenance::maintain))
            .route("/api/v1/maintenance/{id}", delete(maintenance::end_maintenance))
            .route("/api/v1/playbooks/{name}/reset", post(maintenance::reset))
            .route("/approve/{id}", get(approval_page::show).post(approval_page::act))
            .route("/api/v1/deployments", get(queries::deployments))
            .route("/api/v1/deployments/{id}", get(queries::deployment))
            .route("/api/v1/deliveries", get(queries::deliveries))
            .route("/api/v1/audit", get(queries::audit))
            .route("/api/v1/history", get(history::history))
            .route("/api/v1/explain", get(explain::explain))
            .route("/api/v1/report", get(report::report))
            .route("/api/v1/status", get(queries::status))
            .route("/api/v1/pause", post(operations::pause))
            .route("/api/v1/resume", post(operations::resume))
            .route("/-/reload", post(operations::reload))
            .route("/healthz", get(queries::healthz))
            .route("/readyz", get(queries::readyz))
            .route("/metrics", get(metrics::metrics))
            .merge(events)
            .merge(write)
            .fallback(problem::not_found)
            .layer(tower_http::timeout::TimeoutLayer::with_status_code(
                axum::http::StatusCode::REQUEST_TIMEOUT,
                REQUEST_TIMEOUT,
            ))
            .with_state(self)
    }
}
