//! An http check: one request, judged by its status and, where asked for, its body.
//!
//! Every try opens a connection of its own: a kept one would hide that nobody accepts new ones. Redirects are not
//! followed, a 3xx is judged as the status it is. Proxies of the environment are not used: a check asks the deployment
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method, Response, redirect};

use super::place::Place;
use super::verdict::{Fault, chain};
use crate::model::{Check, CheckKind, FailureReason};

/// Of a body that must match. A health page is small; what is beyond is not read.
const MAX_BODY_READ: usize = 256 * 1024;

/// A client knows one way to verify and one time-out to connect; checks that share both share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ClientKey {
    verify: bool,
    connect_timeout: Option<Duration>,
}

impl ClientKey {
    fn of(check: &Check) -> Option<ClientKey> {
        let CheckKind::Http { url, verify, .. } = &check.kind else { return None };
        // what is not encrypted needs no certificates, not even where the system has none to load
        let encrypted = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        Some(ClientKey { verify: *verify && encrypted, connect_timeout: check.connect_timeout })
    }
}

/// The clients in use, made when first needed.
#[derive(Default)]
pub(super) struct Clients(Mutex<BTreeMap<ClientKey, Result<Client, String>>>);

impl Clients {
    /// Forgets clients that no check needs any more.
    pub fn keep_only<'a>(&self, checks: impl Iterator<Item = &'a Check>) {
        let needed: BTreeSet<ClientKey> = checks.filter_map(ClientKey::of).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| needed.contains(key));
    }

    fn get(&self, key: ClientKey) -> Result<Client, String> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(key).or_insert_with(|| build(key)).clone()
    }
}

fn build(key: ClientKey) -> Result<Client, String> {
    // only the first call in a process takes effect, whoever makes it
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_danger_accept_invalid_certs(!key.verify);
    if let Some(span) = key.connect_timeout {
        builder = builder.connect_timeout(span);
    }
    builder.build().map_err(|error| chain(&error).last().map_or_else(String::new, ToString::to_string))
}

pub(super) async fn attempt(clients: &Clients, check: &Check, place: &Place<'_>) -> Result<String, Fault> {
    let (CheckKind::Http { url, method, headers, body, status, body_matches, .. }, Some(key)) =
        (&check.kind, ClientKey::of(check))
    else {
        unreachable!("called for http checks only");
    };
    let url = place.fill(url)?;
    let client = clients.get(key).map_err(|why| Fault::new(FailureReason::Tls, why))?;
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Fault::new(FailureReason::Status, format!("`{method}` is no HTTP method")))?;
    let mut request = client.request(method, url);
    for (name, value) in headers {
        request = request.header(name, place.fill(value)?);
    }
    if let Some(body) = body {
        request = request.body(place.fill(body)?);
    }
    let answer = request.send().await.map_err(|error| fault(&error))?;
    let code = answer.status();
    let accepted = if status.is_empty() { code.is_success() } else { status.contains(&code.as_u16()) };
    if !accepted {
        return Err(Fault::new(FailureReason::Status, unexpected(code, status)));
    }
    if let Some(pattern) = body_matches {
        matches(answer, pattern).await?;
    }
    Ok(format!("answered {code}"))
}

fn unexpected(code: reqwest::StatusCode, accepted: &[u16]) -> String {
    let expected = match accepted {
        [] => "any 2xx".to_owned(),
        some => some.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "),
    };
    format!("answered {code}, expected {expected}")
}

async fn matches(mut answer: Response, pattern: &str) -> Result<(), Fault> {
    let regex = regex_lite::Regex::new(pattern)
        .map_err(|error| Fault::new(FailureReason::Body, format!("`{pattern}` is no regular expression: {error}")))?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| fault(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() >= MAX_BODY_READ {
            body.truncate(MAX_BODY_READ);
            break;
        }
    }
    if regex.is_match(&String::from_utf8_lossy(&body)) {
        return Ok(());
    }
    Err(Fault::new(FailureReason::Body, format!("the body does not match `{pattern}`")))
}

/// What went wrong on the wire, by what lies beneath the client's own words.
fn fault(error: &reqwest::Error) -> Fault {
    for cause in chain(error) {
        let io = cause.downcast_ref::<io::Error>();
        let beneath = io.map(beneath);
        if let Some(tls) = cause.downcast_ref().or(beneath.and_then(|cause| cause.downcast_ref::<rustls::Error>())) {
            return Fault::new(FailureReason::Tls, tls.to_string());
        }
        let said = cause.to_string();
        if said.starts_with("dns error") || said.starts_with("failed to lookup address") {
            return Fault::new(FailureReason::Dns, "cannot resolve the host's name");
        }
        if said.contains("connection closed before message completed") {
            return Fault::of_io(&io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(io) = io.filter(|io| io.get_ref().is_none()) {
            return Fault::of_io(io);
        }
    }
    if error.is_timeout() {
        return Fault::new(FailureReason::Timeout, "no connection in time");
    }
    let innermost = chain(error).last().map_or_else(String::new, ToString::to_string);
    Fault::new(FailureReason::Status, format!("no HTTP answer: {innermost}"))
}

/// What an error of a socket was made of: TLS speaks through one or several of them, and their `source` leaves out
/// what they wrap.
fn beneath(mut error: &io::Error) -> &(dyn std::error::Error + 'static) {
    while let Some(inner) = error.get_ref() {
        match inner.downcast_ref::<io::Error>() {
            Some(io) => error = io,
            None => return inner,
        }
    }
    error
}
