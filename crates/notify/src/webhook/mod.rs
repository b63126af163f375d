//! Webhooks: one POST of one body, signed where there is a secret.
//!
//! Invariant: the body and `webhook-id` are the same bytes on every attempt; only timestamp and signature move.

mod chat;
mod payload;
mod sign;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest, Sha256};

use super::redact::Redactor;
use super::{permanent, template, text, transient};
use payload::Detail;
use selfheal_contract::receiver::{WebhookDef, WebhookFormat};
use selfheal_contract::{Delivery, DeliveryResult};
use selfheal_model::{ResolveSecret, Timestamp, Value};

/// A host that does not take a connection within this is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests per second to one host; a storm of groups waits its turn instead of being refused with 429.
const PER_HOST_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// How many requests may go to one host at once after a quiet time.
const PER_HOST_BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Hosts whose pace is remembered before quiet ones are forgotten.
const REMEMBERED_HOSTS: usize = 1_000;
/// Of an answer's body: enough for its reason.
const MAX_ANSWER: usize = 4 * 1024;
/// A peer that says "come back in a year" is asked again tomorrow.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

pub(super) struct Webhooks {
    /// Or why there is none: TLS could not be set up.
    client: Result<Client, String>,
    pace: DefaultKeyedRateLimiter<String>,
    secrets: Arc<dyn ResolveSecret>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// A body and what it is.
struct Body {
    bytes: Vec<u8>,
    content_type: &'static str,
}

impl Webhooks {
    pub fn new(secrets: Arc<dyn ResolveSecret>, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("cannot set up the HTTP client: {error}"));
        let quota = Quota::per_second(PER_HOST_PER_SECOND).allow_burst(PER_HOST_BURST);
        Webhooks { client, pace: RateLimiter::keyed(quota), secrets, clock }
    }

    pub async fn deliver(&self, delivery: &Delivery, def: &WebhookDef) -> DeliveryResult {
        let mut redactor = Redactor::default();
        let attempt = async {
            let url = Url::parse(&def.url).map_err(|error| permanent(format!("the webhook's URL is none: {error}")))?;
            hide_parts(&mut redactor, &url);
            let host = url.host_str().unwrap_or_default().to_owned();
            let secret = match &def.secret {
                Some(secret) => {
                    // it may be set or repaired any minute, without a new policy
                    let value = self.secrets.resolve(secret).map_err(|error| transient(error.to_string()))?;
                    redactor.hide(value.trim());
                    Some(value)
                }
                None => None,
            };
            let body = body(delivery, def, secret.as_deref())?;
            let headers = self.headers(delivery, def, secret.as_deref(), &body, &mut redactor)?;
            let client = self.client.as_ref().map_err(|why| transient(why.clone()))?;
            let request = client.post(url).timeout(def.timeout).headers(headers).body(body.bytes);
            let paced = tokio::time::timeout(def.timeout, self.pace.until_key_ready(&host)).await;
            if self.pace.len() > REMEMBERED_HOSTS {
                self.pace.retain_recent();
            }
            paced.map_err(|_| transient(format!("too many notifications to {host} at once; this one waits")))?;
            match request.send().await {
                Ok(answer) => Ok(self.judge(answer, &host).await),
                Err(error) => Ok(failure(&error, &host, def.timeout)),
            }
        };
        let result = attempt.await.unwrap_or_else(|early: DeliveryResult| early);
        redactor.result(result)
    }

    /// The policy's own headers, then ours about the signature, which nothing may replace.
    fn headers(
        &self,
        delivery: &Delivery,
        def: &WebhookDef,
        secret: Option<&str>,
        body: &Body,
        redactor: &mut Redactor,
    ) -> Result<HeaderMap, DeliveryResult> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        for (name, value) in &def.headers {
            let value = self.secrets.resolve(value).map_err(|error| transient(format!("header `{name}`: {error}")))?;
            redactor.hide(value.trim());
            let wrong = |what: &str| permanent(format!("header `{name}` {what}"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("has no name that HTTP knows"))?;
            let mut value =
                HeaderValue::from_str(value.trim()).map_err(|_| wrong("holds letters that HTTP does not allow"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let id = visible_ascii(delivery.id.as_str());
        if let (Some(secret), false) = (secret, def.template.is_none() && def.format == WebhookFormat::Pagerduty) {
            let timestamp = (self.clock)().as_millis().div_euclid(1_000);
            let signature =
                sign::signature(secret, &id, timestamp, &body.bytes).map_err(|error| transient(error.to_string()))?;
            let timestamp = HeaderValue::from(timestamp);
            headers.insert("webhook-timestamp", timestamp);
            headers.insert("webhook-signature", header_value(&signature)?);
        }
        headers.insert("webhook-id", header_value(&id)?);
        Ok(headers)
    }

    async fn judge(&self, answer: Response, host: &str) -> DeliveryResult {
        let status = answer.status();
        if status.is_success() {
            return DeliveryResult::Delivered;
        }
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, (self.clock)()));
        let said = reason(answer).await;
        let why = format!("{host} answered {status}{said}");
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                DeliveryResult::Transient { why, retry_after }
            }
            status if status.is_server_error() => DeliveryResult::Transient { why, retry_after },
            status if status.is_redirection() => permanent(format!(
                "{host} answered {status}: it wants the notification elsewhere, and redirects are not followed; \
                 write the final address into `url`"
            )),
            _ => permanent(why),
        }
    }
}

fn header_value(text: &str) -> Result<HeaderValue, DeliveryResult> {
    HeaderValue::from_str(text).map_err(|_| permanent("the delivery has no id that HTTP can carry".to_owned()))
}

/// Passwords, tokens in paths (chat services have them there) and query values. The host stays: people need it.
fn hide_parts(redactor: &mut Redactor, url: &Url) {
    redactor.hide(url.as_str());
    redactor.hide(url.username());
    redactor.hide(url.password().unwrap_or_default());
    redactor.hide(url.query().unwrap_or_default());
    redactor.hide(url.path());
    for (_, value) in url.query_pairs() {
        redactor.hide(&value);
    }
}

/// The body of a delivery: a pure function of the delivery, its definition and the routing key where it holds one.
fn body(delivery: &Delivery, def: &WebhookDef, secret: Option<&str>) -> Result<Body, DeliveryResult> {
    let notification = &delivery.notification;
    let json = |value: Value| Body { bytes: value.to_string().into_bytes(), content_type: "application/json" };
    if let Some(own) = &def.template {
        let (name, source) = (&own.0, &own.1);
        let built_in = text::plain(&text::content(notification));
        return Ok(match template::render(name, source, notification, &built_in) {
            Ok(text) => {
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                let content_type = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
                Body { bytes: text.into_bytes(), content_type }
            }
            Err(why) => {
                tracing::warn!(delivery = %delivery.id, %why, "sending the built-in text instead");
                let mut value = payload::alertmanager(notification, Detail::Remediation);
                value["templateError"] = why.into();
                json(value)
            }
        });
    }
    Ok(match def.format {
        WebhookFormat::Default => json(payload::alertmanager(notification, Detail::Remediation)),
        WebhookFormat::Alertmanager => json(payload::alertmanager(notification, Detail::AlertmanagerOnly)),
        WebhookFormat::Slack => json(chat::slack(notification)),
        WebhookFormat::Discord => json(chat::discord(notification)),
        WebhookFormat::Teams => json(chat::teams(notification)),
        WebhookFormat::Pagerduty => {
            let key = secret.map(str::trim).filter(|key| !key.is_empty()).ok_or_else(|| {
                permanent("format pagerduty needs the integration key of the service as `secret`".to_owned())
            })?;
            json(payload::pagerduty(delivery, key))
        }
        WebhookFormat::Cloudevents => {
            Body { content_type: "application/cloudevents+json", ..json(payload::cloudevent(delivery)) }
        }
    })
}

/// Header values are ASCII; what is not is percent-encoded, byte by byte.
fn visible_ascii(id: &str) -> String {
    let mut visible = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            visible.push(char::from(byte));
        } else {
            visible.push_str(&format!("%{byte:02X}"));
        }
    }
    visible
}

/// 64 hex digits: a key of any length for peers that take a short one.
fn digest(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `: what the peer said`, as much of it as fits in a sentence.
async fn reason(mut answer: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - bytes.len())]),
            // the status is known; a reason that breaks off is still a reason
            Ok(None) | Err(_) => break,
        }
    }
    let text = text::clean(&String::from_utf8_lossy(&bytes), 300);
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Seconds, or an HTTP date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
            Timestamp::from_millis(at.as_millisecond()).since(now)
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// What kept a request from being answered. None of it says that the notification was not taken.
fn failure(error: &reqwest::Error, host: &str, timeout: Duration) -> DeliveryResult {
    if error.is_builder() {
        return permanent("the request cannot be made: check the webhook's `url` and `headers`".to_owned());
    }
    if error.is_timeout() && !error.is_connect() {
        let within = selfheal_model::units::format_duration(timeout);
        return transient(format!("{host} gave no answer within {within}; it may have taken the notification"));
    }
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    let what = if error.is_connect() { "cannot connect to" } else { "the connection broke to" };
    transient(format!("{what} {host}: {}", causes.join(": ")))
}
