//! Talks to a running engine.

use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::args::EngineArgs;

/// A trigger is answered at once, a reload may have to ask a slow adapter.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one engine.
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// A status and the JSON that came with it.
pub struct Answer {
    pub status: StatusCode,
    /// When to come back, where it says so.
    pub retry_after: Option<Duration>,
    pub body: Value,
}

impl Answer {
    /// The body of a success, or what the problem document says.
    pub fn ok(self) -> anyhow::Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        Err(anyhow!("{}", self.why()))
    }

    /// What the problem document of a refusal says.
    pub fn why(&self) -> String {
        let detail = self.body["detail"].as_str().or(self.body["title"].as_str()).unwrap_or("no reason given");
        format!("{detail} ({})", self.status)
    }
}

impl Client {
    pub fn new(args: &EngineArgs) -> anyhow::Result<Client> {
        // a second call finds the provider installed
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("cannot set up the HTTP client")?;
        Ok(Client { http, base: args.url.trim_end_matches('/').to_owned(), token: args.token.clone() })
    }

    pub async fn get(&self, path: &str, query: &[(&str, Option<&str>)]) -> anyhow::Result<Value> {
        let query: Vec<String> =
            query.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={}", encode(value)))).collect();
        let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        self.call(Method::GET, &path, None).await?.ok()
    }

    pub async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        self.post_as(path, "application/json", body.into()).await
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.call(Method::DELETE, path, None).await
    }

    pub async fn post_as(&self, path: &str, content_type: &'static str, body: Bytes) -> anyhow::Result<Answer> {
        self.call(Method::POST, path, Some((content_type, body))).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<(&'static str, Bytes)>) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Ok(user) = std::env::var("USER") {
            request = request.header("x-selfheal-operator", user);
        }
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let answer = request.send().await.with_context(|| {
            format!("no selfheal answers at {}; is `selfheal run` running? --url names another", self.base)
        })?;
        let status = answer.status();
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = after.map(Duration::from_secs);
        let text = answer.text().await.context("the answer broke off")?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, retry_after, body })
    }
}

/// Percent-encodes everything that is not plainly safe in a path or query.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
