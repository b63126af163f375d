//! The ways to get a credential that are not OAuth 2, a command and an HTTP request, and what all ways share. Each
//! makes one attempt.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::AuthError;
use crate::AdapterContext;
use selfheal_model::Timestamp;

/// More than this is no credential; an endless answer must not fill the memory.
const MAX_ANSWER: usize = 64 * 1024;

/// How much of an answer that was refused is shown.
const SHOWN: usize = 200;

/// A credential fresh from its source.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetched {
    pub access_token: String,
    pub expires_in: Option<Duration>,
    /// Only from an OAuth server that gave one.
    pub refresh_token: Option<String>,
}

/// A credential as JSON: the token response of OAuth 2, which commands and plain requests may use too.
#[derive(Deserialize)]
pub(super) struct TokenDocument {
    access_token: String,
    /// Seconds.
    expires_in: Option<f64>,
    pub refresh_token: Option<String>,
}

impl TokenDocument {
    /// Without the refresh token: only OAuth servers rotate one.
    pub fn into_fetched(self) -> Result<Fetched, String> {
        let expires_in = self.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let access_token = not_empty(self.access_token)?;
        Ok(Fetched { access_token, expires_in, refresh_token: None })
    }
}

/// Why a request for a credential gave no complete response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    #[error("the response is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("status {0}")]
    Status(reqwest::StatusCode),
}

/// Runs a program; what it prints is the token, or the document.
pub async fn command(context: &AdapterContext, command: &[String], within: Duration) -> Result<Fetched, AuthError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(AuthError::Permanent("the command that fetches the credential is empty".to_owned()));
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(&context.policy_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| AuthError::Permanent(format!("cannot run `{program}`: {error}")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (out, err) = tokio::join!(read_bounded(stdout), read_bounded(stderr));
        (child.wait().await, out, err)
    };
    let (status, out, err) = tokio::time::timeout(within, run)
        .await
        .map_err(|_| AuthError::Transient(format!("`{program}` did not end within {within:?}")))?;
    let status = status.map_err(|error| AuthError::Transient(format!("`{program}`: {error}")))?;
    if !status.success() {
        return Err(AuthError::Permanent(format!("`{program}` ended with {status}: {}", shown(&err))));
    }
    if out.len() > MAX_ANSWER {
        return Err(AuthError::Permanent(format!("`{program}` printed more than {MAX_ANSWER} bytes")));
    }
    token_from(&out).map_err(|why| AuthError::Permanent(format!("`{program}` {why}")))
}

pub async fn http(
    context: &AdapterContext,
    url: &str,
    method: &str,
    headers: &[(String, String)],
    within: Duration,
) -> Result<Fetched, AuthError> {
    let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes())
        .map_err(|_| AuthError::Permanent(format!("`{method}` is no HTTP method")))?;
    let mut request = context.http.request(method, url).timeout(within);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = async {
        let response = request.send().await?;
        let status = response.status();
        Ok::<_, HttpError>((status, body_of(response).await?))
    };
    let (status, body) = answer.await.map_err(|error| match error {
        HttpError::Client(error) if error.is_builder() => AuthError::Permanent(format!("{url}: {error}")),
        HttpError::TooLong => AuthError::Permanent(format!("{url}: {error}")),
        error => AuthError::Transient(format!("{url}: {}", with_causes(&error))),
    })?;
    if status.is_success() {
        return token_from(&body).map_err(|why| AuthError::Permanent(format!("{url} {why}")));
    }
    let why = format!("{url} answered {status}: {}", shown(&body));
    Err(if is_retryable(status) { AuthError::Transient(why) } else { AuthError::Permanent(why) })
}

/// When a JWT says it runs out; `None` for every other token. The signature is not looked at: the server that takes
/// the token does that.
pub fn jwt_expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    Some(Timestamp::from_millis((claims.exp * 1000.0) as i64))
}

pub(super) async fn body_of(mut response: reqwest::Response) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(HttpError::TooLong);
        }
    }
    Ok(body)
}

/// Whether the same request may work later.
pub(super) fn is_retryable(status: reqwest::StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 429)
}

/// The whole chain: the outermost message of an HTTP client says too little.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

async fn read_bounded(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let mut bounded = (&mut pipe).take(MAX_ANSWER as u64 + 1);
        if bounded.read_to_end(&mut bytes).await.is_ok() && bytes.len() > MAX_ANSWER {
            // read on into nothing, so that the program ends by itself
            let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        }
    }
    bytes
}

/// A document `{access_token, expires_in}`, or the token as text.
fn token_from(answer: &[u8]) -> Result<Fetched, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "answered what is no text".to_owned())?.trim();
    if text.starts_with('{') {
        let document: TokenDocument =
            serde_json::from_str(text).map_err(|error| format!("answered JSON without a token: {error}"))?;
        return document.into_fetched();
    }
    not_empty(text.to_owned()).map(|access_token| Fetched { access_token, expires_in: None, refresh_token: None })
}

fn not_empty(token: String) -> Result<String, String> {
    if token.is_empty() { Err("answered an empty credential".to_owned()) } else { Ok(token) }
}

/// The beginning of an answer, for people. An error answer holds no credential.
pub(super) fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).trim().chars().take(SHOWN).collect()
}
