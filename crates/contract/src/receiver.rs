//! Receivers: named destinations with email and webhook notifiers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::notification::NewsKind;
use selfheal_model::{ReceiverName, Secret};

#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    pub name: ReceiverName,
    pub notifiers: Vec<Notifier>,
    /// What this receiver wants to hear (`send:`).
    pub send: BTreeSet<NewsKind>,
    /// At most so many notifications per window; above it they are merged, never dropped.
    pub rate: NotifyRate,
    /// What cannot be delivered within this is kept and shown as undelivered.
    pub max_age: Duration,
}

/// For `#[serde(with)]`: a receiver belongs to the live policy, and is saved by its name. What is read back is one of that
/// name that nothing reaches, in place of which the policy's is put, where it still has one.
pub mod by_name {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Receiver;
    use selfheal_model::ReceiverName;

    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(receiver: &Arc<Receiver>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(receiver.name.as_str())
    }

    /// # Errors
    /// Those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Receiver>, D::Error> {
        ReceiverName::deserialize(deserializer).map(|name| Arc::new(Receiver::unreached(name)))
    }
}

impl Receiver {
    /// One without notifiers.
    pub fn unreached(name: ReceiverName) -> Self {
        Receiver {
            name,
            notifiers: Vec::new(),
            send: NewsKind::DEFAULT.into(),
            rate: NotifyRate { count: 1, window: Duration::ZERO },
            max_age: Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyRate {
    pub count: u32,
    pub window: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Notifier {
    Email(Arc<EmailDef>),
    Webhook(Arc<WebhookDef>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailDef {
    pub to: Vec<String>,
    pub from: String,
    pub smtp: SmtpDef,
    /// A template of the policy's `templates/`, for the text part: (name, text).
    pub template: Option<Arc<(String, String)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SmtpDef {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// PEM of an own certificate authority.
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SmtpTls {
    Starttls,
    Tls,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebhookDef {
    pub url: String,
    pub format: WebhookFormat,
    /// Signs as Standard Webhooks.
    pub secret: Option<Secret>,
    pub headers: Vec<(String, Secret)>,
    pub timeout: Duration,
    /// Instead of a format: a template of the policy's `templates/` that renders the body: (name, text).
    pub template: Option<Arc<(String, String)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum WebhookFormat {
    #[default]
    Default,
    Alertmanager,
    Slack,
    Discord,
    Teams,
    Pagerduty,
    Cloudevents,
}
