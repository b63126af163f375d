//! Services with an HTTP interface: each verb is a request, facts are places in an answer.
//!
//! Invariant: a request is sent once and no redirect is followed. Once it may have reached the service, only an answer
//! says that it failed, unless the verb may be repeated.

mod entry;
mod template;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::BoxFuture;
use minijinja::value::Value as Filling;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use tokio::time::Instant;

pub use entry::spec;

use super::auth::{self, Refreshed};
use super::rendered_target;
use super::{Adapter, AdapterContext, CallEnd};
use entry::{Entry, Look, Request};
use selfheal_contract::{Observation, StepCall};
use selfheal_model::{
    AdapterDef, Deployment, Effectfulness, Facts, FailureClass, Labels, Map, MetricName, Outcome, Value,
};

/// Of an answer so much is read; facts and outputs are small.
const MAX_ANSWER: usize = 1024 * 1024;

/// How long an observation may take when the entry sets no `timeout`.
const OBSERVE_WITHIN: Duration = Duration::from_secs(10);

/// How much of an answer is shown when it is a refusal, in bytes.
const SHOWN: usize = 200;

/// Headers whose value is a secret even when it is written out in the policy.
const SENSITIVE: [&str; 6] = ["authorization", "cookie", "token", "secret", "key", "password"];

/// Sends requests to people's own services.
pub struct HttpAdapter {
    context: AdapterContext,
}

/// Whether a request that was sent and not answered may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Safe,
    Unsafe,
}

impl Repeat {
    fn of(request: &Request) -> Repeat {
        if request.spec.idempotent || request.spec.effect == Effectfulness::Read {
            Repeat::Safe
        } else {
            Repeat::Unsafe
        }
    }

    /// The request got through and no word came of what it did.
    fn without_answer(self, why: String) -> Outcome {
        match self {
            Repeat::Safe => Outcome::failed(FailureClass::Transient, why),
            Repeat::Unsafe => Outcome::unknown(why),
        }
    }
}

/// An answer with as much of its body as is read.
struct Answer {
    status: StatusCode,
    retry_after: Option<String>,
    body: Body,
}

enum Body {
    Whole(Vec<u8>),
    TooLong,
    Lost(String),
}

impl HttpAdapter {
    pub fn new(context: AdapterContext) -> Self {
        HttpAdapter { context }
    }

    async fn perform(&self, call: &StepCall) -> CallEnd {
        let mut log = String::new();
        let outcome = match self.ask(call, &mut log).await {
            Ok(outcome) => outcome,
            Err(why) => Outcome::failed(FailureClass::Permanent, why),
        };
        CallEnd { outcome, log }
    }

    /// Errors are what stops a request from being sent at all.
    async fn ask(&self, call: &StepCall, log: &mut String) -> Result<Outcome, String> {
        let entry = Entry::read(&call.adapter.options)?;
        let Some(request) = entry.verb(&call.verb) else {
            return Ok(Outcome::failed(FailureClass::Unsupported, format!("there is no verb `{}`", call.verb)));
        };
        let target =
            rendered_target::target(&self.context, &call.deployment.target).map_err(|error| error.to_string())?;
        let params = rendered_target::params(&self.context, call).map_err(|error| error.to_string())?;
        let key = call.idempotency_key();
        let names = names(&call.deployment, &target, &params, &call.facts, &key);
        let url = format!("{}{}", entry.base_url, template::path(&request.path, &names)?);
        let within = entry.timeout.map_or(call.timeout, |most| most.min(call.timeout));
        let mut builder = self.builder(&entry, request.method.clone(), &url)?.timeout(within);
        let key = HeaderValue::from_bytes(key.as_bytes()).map_err(|error| error.to_string())?;
        builder = builder.header("Idempotency-Key", key);
        if let Some(body) = &request.body {
            builder = builder.json(&template::body(body, &names)?);
        }
        let began = Instant::now();
        let answer = send(builder).await;
        let took = began.elapsed().as_millis();
        let what = format!("{} {url}", request.method);
        Ok(match answer {
            Ok(answer) => {
                log.push_str(&format!("{what}: {} after {took} ms\n", answer.status));
                judge(request, &what, &answer, log)
            }
            Err(error) => {
                let why = format!("{what}: {}", with_causes(&error));
                log.push_str(&format!("{why}, after {took} ms\n"));
                if error.is_builder() {
                    Outcome::failed(FailureClass::Permanent, why)
                } else if error.is_connect() {
                    // no connection, so nothing was sent
                    Outcome::failed(FailureClass::Transient, why)
                } else {
                    Repeat::of(request).without_answer(why)
                }
            }
        })
    }

    async fn look(&self, adapter: &AdapterDef, deployment: &Deployment) -> Result<Observation, String> {
        let entry = Entry::read(&adapter.options)?;
        let Some(look) = &entry.observe else { return Ok(Observation::default()) };
        let target = rendered_target::target(&self.context, &deployment.target).map_err(|error| error.to_string())?;
        let names = names(deployment, &target, &Map::new(), &Facts::default(), "");
        let url = format!("{}{}", entry.base_url, template::path(&look.path, &names)?);
        let within = entry.timeout.map_or(OBSERVE_WITHIN, |most| most.min(OBSERVE_WITHIN));
        let what = format!("{} {url}", look.method);
        let builder = self.builder(&entry, look.method.clone(), &url)?.timeout(within);
        let answer = send(builder).await.map_err(|error| format!("{what}: {}", with_causes(&error)))?;
        if !answer.status.is_success() {
            return Err(format!("{what} answered {}{}", answer.status, said(&answer.body)));
        }
        let body = match &answer.body {
            Body::Whole(body) => body,
            Body::TooLong => return Err(format!("{what} answered more than {MAX_ANSWER} bytes")),
            Body::Lost(why) => return Err(format!("{what}: the answer broke off: {why}")),
        };
        let document: Value =
            serde_json::from_slice(body).map_err(|error| format!("{what} answered no JSON document: {error}"))?;
        Ok(observation(look, &document))
    }

    fn builder(&self, entry: &Entry, method: Method, url: &str) -> Result<RequestBuilder, String> {
        let mut headers = HeaderMap::new();
        for (name, written) in &entry.headers {
            let value = self.header(name, written)?;
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| format!("the value of the header `{name}` holds what no header can"))?;
            value.set_sensitive(true);
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            headers.append(name, value);
        }
        Ok(self.context.http.request(method, url).headers(headers))
    }

    /// A header's value; what is secret of it is known to the redactor from then on.
    fn header(&self, name: &str, written: &str) -> Result<String, String> {
        if written.contains("${") {
            return self.context.secret_text(written).map_err(|error| error.to_string());
        }
        let name = name.to_ascii_lowercase();
        if SENSITIVE.iter().any(|word| name.contains(word)) {
            // `Bearer TOKEN`: the token may come back alone
            self.context.redactor.learn(written.rsplit(' ').next().unwrap_or(written));
        }
        Ok(written.to_owned())
    }
}

impl Adapter for HttpAdapter {
    fn call(&self, call: StepCall) -> BoxFuture<'_, CallEnd> {
        Box::pin(async move {
            if call.verb.as_str() == auth::REFRESH_AUTH && call.deployment.auth.is_some() {
                return match auth::refresh_auth(&self.context, call).await {
                    Refreshed::Done(outcome) => CallEnd { outcome, log: String::new() },
                    Refreshed::Then(next) => self.perform(&next).await,
                };
            }
            self.perform(&call).await
        })
    }

    fn observe<'a>(
        &'a self,
        adapter: &'a AdapterDef,
        deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<Observation, String>> {
        Box::pin(self.look(adapter, deployment))
    }

    /// What runs is the service's own affair.
    fn ensure<'a>(
        &'a self,
        _adapter: &'a AdapterDef,
        _deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// What the texts of a request may name.
fn names(deployment: &Deployment, target: &Map, params: &Map, facts: &Facts, key: &str) -> Filling {
    template::names(&json!({
        "deployment": deployment.id.as_str(),
        "labels": deployment.labels,
        "target": target,
        "params": params,
        "facts": facts,
        "idempotency_key": key,
    }))
}

async fn send(builder: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let mut response = builder.send().await?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut read = Vec::new();
    let body = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if read.len() + chunk.len() > MAX_ANSWER => break Body::TooLong,
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            Ok(None) => break Body::Whole(read),
            Err(error) => break Body::Lost(with_causes(&error)),
        }
    };
    Ok(Answer { status, retry_after, body })
}

/// What an answer means. The status decides; a body that is lost or odd does not undo what was done.
fn judge(request: &Request, what: &str, answer: &Answer, log: &mut String) -> Outcome {
    let status = answer.status;
    let is_done = if request.ok.is_empty() { status.is_success() } else { request.ok.contains(&status.as_u16()) };
    if is_done {
        return Outcome::done(output(request, &answer.body, log));
    }
    let wait = answer.retry_after.as_ref().map_or(String::new(), |wait| format!(" (Retry-After: {wait})"));
    let why = format!("{what} answered {status}{wait}{}", said(&answer.body));
    match status.as_u16() {
        401 | 403 => Outcome::failed(FailureClass::Unauthorized, why),
        405 | 501 => Outcome::failed(FailureClass::Unsupported, why),
        409 | 412 | 423 => Outcome::failed(FailureClass::Conflict, why),
        // turned away at the door
        429 => Outcome::failed(FailureClass::Transient, why),
        // the service, or a proxy before it, gave up on a request that may still be at work
        408 | 500.. => Repeat::of(request).without_answer(why),
        300..=399 => Outcome::failed(FailureClass::Permanent, format!("{why}; redirects are not followed")),
        _ => Outcome::failed(FailureClass::Permanent, why),
    }
}

fn output(request: &Request, body: &Body, log: &mut String) -> Value {
    let body = match body {
        Body::Whole(body) => body,
        Body::TooLong => {
            log.push_str(&format!("the answer is longer than {MAX_ANSWER} bytes and is not kept\n"));
            return Value::Null;
        }
        Body::Lost(why) => {
            log.push_str(&format!("the answer broke off: {why}\n"));
            return Value::Null;
        }
    };
    let text = String::from_utf8_lossy(body);
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    match (&request.output, parsed) {
        (Some(place), parsed) => match parsed.as_ref().and_then(|parsed| parsed.pointer(place)) {
            Some(found) => found.clone(),
            None => {
                log.push_str(&format!("the answer holds nothing at `{place}`{}\n", shown(&text)));
                Value::Null
            }
        },
        (None, Some(parsed)) => parsed,
        (None, None) if text.trim().is_empty() => Value::Null,
        (None, None) => Value::String(text.into_owned()),
    }
}

fn observation(look: &Look, document: &Value) -> Observation {
    let mut observation = Observation::default();
    for (name, place) in &look.facts {
        if let Some(value) = document.pointer(place).filter(|value| !value.is_null()) {
            observation.facts.set(name, value.clone());
        }
    }
    for (name, place) in &look.metrics {
        if let Some(value) = document.pointer(place).and_then(Value::as_f64) {
            observation.metrics.push((MetricName::new(name), value, Labels::default()));
        }
    }
    observation
}

fn said(body: &Body) -> String {
    match body {
        Body::Whole(body) => shown(&String::from_utf8_lossy(body)),
        Body::TooLong | Body::Lost(_) => String::new(),
    }
}

/// The beginning of a text in one line, after a colon; nothing of an empty one.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.floor_char_boundary(SHOWN) {
        0 => String::new(),
        end if end < line.len() => format!(": {}…", &line[..end]),
        _ => format!(": {line}"),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(&format!(": {inner_text}"));
        }
        cause = inner.source();
    }
    text
}
