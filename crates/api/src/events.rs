//! `POST /api/v1/events`: one object, an array or NDJSON, plain, gzip or zstd.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use serde_json::json;

use super::problem::{PROBLEM_TYPE, Problem};
use super::{Api, Form, NotRead};

/// The largest body after decompression, in bytes: about 100,000 events.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// Requests per second from one address; a client with more events sends batches.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(2_000).expect("2000 is not zero");
/// Above this many addresses the idle ones are dropped from the rate limiter.
const REMEMBERED_ADDRESSES: usize = 10_000;

/// Limits the request rate of each client address.
pub struct RequestRate(RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, DefaultClock>);

impl RequestRate {
    pub fn new() -> Self {
        RequestRate(RateLimiter::keyed(Quota::per_second(REQUESTS_PER_SECOND)))
    }

    fn allows(&self, address: IpAddr) -> bool {
        if self.0.len() > REMEMBERED_ADDRESSES {
            self.0.retain_recent();
        }
        self.0.check_key(&address).is_ok()
    }
}

/// Counts a body that was not read to its end: its sender disconnected, or was too slow.
struct UnfinishedBody<'a> {
    api: &'a Api,
    /// The body was read, or its error is counted.
    is_settled: bool,
}

impl Drop for UnfinishedBody<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.api.backend.not_read(NotRead::Unreadable);
        }
    }
}

/// A body of events in any format, read and decompressed.
pub(super) struct EventBody {
    pub bytes: bytes::Bytes,
    pub content_type: Option<String>,
}

impl FromRequest<Api> for EventBody {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let client = ConnectInfo::<SocketAddr>::from_request_parts(&mut parts, api).await;
        let ConnectInfo(client) = client.map_err(IntoResponse::into_response)?;
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = read_body(api, client, body).await.map_err(IntoResponse::into_response)?;
        Ok(EventBody { bytes, content_type })
    }
}

/// Reads a body.
///
/// # Errors
/// The client sends too many requests, the body is too large, or it ends early. Each is counted by its reason.
async fn read_body(api: &Api, client: SocketAddr, body: Body) -> Result<bytes::Bytes, Problem> {
    if !api.rate.allows(client.ip()) {
        api.backend.not_read(NotRead::TooFast);
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests",
            format!("more than {REQUESTS_PER_SECOND} requests a second from {}; send batches", client.ip()),
        )
        .retry_after());
    }
    let mut unfinished = UnfinishedBody { api, is_settled: false };
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    unfinished.is_settled = true;
    body.map_err(|error| {
        let (why, problem) = unreadable(&error);
        api.backend.not_read(why);
        problem
    })
}

pub async fn post(State(api): State<Api>, body: EventBody) -> Result<Response, Problem> {
    let taken = api.backend.ingest(body.bytes, Form::Events { content_type: body.content_type }).await?;
    if taken.rejected == 0 {
        let counts = json!({ "accepted": taken.accepted, "rejected": 0 });
        return Ok((StatusCode::ACCEPTED, Json(counts)).into_response());
    }
    let detail = format!("{} accepted, {} rejected; the good ones are kept", taken.accepted, taken.rejected);
    Err(Problem::new(StatusCode::BAD_REQUEST, "some events are wrong", detail)
        .with("accepted", taken.accepted)
        .with("rejected", taken.rejected)
        .with("errors", taken.errors))
}

/// Counts requests that are refused before a handler runs: a body in an unsupported encoding.
pub(super) async fn count_unsupported(State(api): State<Api>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    // refusals of handlers are problem documents, and counted already
    let is_ours = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_TYPE);
    if answer.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE && !is_ours {
        api.backend.not_read(NotRead::Unreadable);
    }
    answer
}

fn unreadable(error: &axum::Error) -> (NotRead, Problem) {
    let too_large = std::iter::successors(std::error::Error::source(error), |cause| cause.source())
        .any(|cause| cause.is::<http_body_util::LengthLimitError>());
    if too_large {
        let detail = format!("a body has at most {} MiB after decompression; send smaller batches", MAX_BODY >> 20);
        (NotRead::TooLarge, Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body too large", detail))
    } else {
        (NotRead::Unreadable, Problem::new(StatusCode::BAD_REQUEST, "unreadable body", error.to_string()))
    }
}
