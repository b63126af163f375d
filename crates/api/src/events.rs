//! `POST /api/v1/events`: one object, an array or NDJSON, plain, gzip or zstd.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use serde_json::json;

use super::problem::{PROBLEM_TYPE, Problem};
use super::{Api, Form, NotRead};

/// A body's size after decompression: about 100,000 events, well beyond any sensible batch.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// Requests a second from one address; a client with more to say sends batches.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(2_000).expect("2000 is not zero");
/// Above this many remembered addresses the idle ones are forgotten.
const REMEMBERED_ADDRESSES: usize = 10_000;

/// Paces clients on the way in, each address by itself.
pub struct Pace(RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, DefaultClock>);

impl Pace {
    pub fn new() -> Self {
        Pace(RateLimiter::keyed(Quota::per_second(REQUESTS_PER_SECOND)))
    }

    fn allows(&self, address: IpAddr) -> bool {
        if self.0.len() > REMEMBERED_ADDRESSES {
            self.0.retain_recent();
        }
        self.0.check_key(&address).is_ok()
    }
}

/// Counts a body that never came to its end: its sender went away, or was too slow.
struct Coming<'a> {
    api: &'a Api,
    /// What became of it is known, and counted where that is due.
    is_settled: bool,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.api.backend.not_read(NotRead::Unreadable);
        }
    }
}

/// A body, if its sender is not too fast and it not too large.
pub(super) async fn read_body(api: &Api, client: SocketAddr, body: Body) -> Result<bytes::Bytes, Problem> {
    if !api.pace.allows(client.ip()) {
        api.backend.not_read(NotRead::TooFast);
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests",
            format!("more than {REQUESTS_PER_SECOND} requests a second from {}; send batches", client.ip()),
        )
        .retry_after());
    }
    let mut coming = Coming { api, is_settled: false };
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    coming.is_settled = true;
    body.map_err(|error| {
        let (why, problem) = unreadable(&error);
        api.backend.not_read(why);
        problem
    })
}

pub async fn post(
    State(api): State<Api>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&api, client, body).await?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let taken = api.backend.ingest(body, Form::Events { content_type }).await?;
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

/// Counts what is turned away before any handler sees it: a body in an encoding that is not spoken here.
pub(super) async fn count_unspoken(State(api): State<Api>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    // the handlers' own refusals are problem documents, and counted
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
