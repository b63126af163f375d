//! Errors as RFC 9457 problem documents.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Busy, NotTaken};

/// A client told to come back waits at least this many seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The media type of RFC 9457.
pub(super) const PROBLEM_TYPE: &str = "application/problem+json";

/// An answer that says what went wrong.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    /// More members, for programs.
    more: Vec<(&'static str, Value)>,
    /// Boxed: an error should not be larger than what it stands for.
    headers: Box<HeaderMap>,
}

impl Problem {
    pub fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, title, detail: detail.into(), more: Vec::new(), headers: Box::default() }
    }

    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.more.push((name, serde_json::to_value(value).unwrap_or(Value::Null)));
        self
    }

    pub fn retry_after(mut self) -> Self {
        self.headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        self
    }

    pub fn missing(kind: &str, id: &str) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not found", format!("there is no {kind} `{id}`"))
    }

    pub fn refused(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::CONFLICT, "refused", detail)
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        match busy {
            Busy::Full => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many events",
                "the queue is full; nothing of this body was taken, send it again",
            )
            .retry_after(),
            Busy::Draining => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "shutting down",
                "selfheal is draining and takes no more events; nothing of this body was taken",
            )
            .retry_after(),
            Busy::Recovering => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "recovering",
                "selfheal is reading what it knew before its start; nothing of this was taken, try again soon",
            )
            .retry_after(),
            Busy::Unwritable(why) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not stored",
                format!("the journal cannot be written, so this may be lost; send it again later: {why}"),
            )
            .retry_after(),
        }
    }
}

impl From<NotTaken> for Problem {
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::Busy(busy) => busy.into(),
            NotTaken::Unreadable(why) => {
                Problem::new(StatusCode::BAD_REQUEST, "unreadable body", format!("the body {why}"))
            }
            NotTaken::Unsupported(why) => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown content type", why),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        for (name, value) in self.more {
            body[name] = value;
        }
        let mut headers = self.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        (self.status, *headers, body.to_string()).into_response()
    }
}

pub async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not found", format!("there is nothing at {}", uri.path()))
}
