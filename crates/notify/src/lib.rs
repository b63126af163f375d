//! Delivers notifications by email and webhook: one attempt per delivery.
//!
//! The crate never knows the engine: retries, rate limits and merging are engine state, and a delivery arrives complete.
//!
//! Invariant: the bytes sent are a pure function of the delivery's frozen facts, so that a receiver recognises a repeat.
//! The reason of a failure contains no secret.

mod email;
mod html;
mod redact;
mod smtp;
mod template;
pub mod text;
mod webhook;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use selfheal_contract::receiver::Notifier;
use selfheal_contract::{Delivery, DeliveryResult};
use selfheal_model::{ResolveSecret, Timestamp};

/// A way to deliver notifications.
pub trait Notify: Send + Sync {
    /// Makes one attempt to deliver.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, DeliveryResult>;
}

/// The configuration of the notifiers.
pub struct NotifiersConfig {
    pub secrets: Arc<dyn ResolveSecret>,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The policy folder: relative paths of certificates start here.
    pub policy_dir: PathBuf,
}

/// All notifiers of this build: email and webhooks.
pub struct Notifiers {
    mail: smtp::Servers,
    webhooks: webhook::Webhooks,
}

impl Notifiers {
    pub fn new(config: NotifiersConfig) -> Self {
        // only the first call in a process takes effect
        let _ = rustls::crypto::ring::default_provider().install_default();
        Notifiers {
            webhooks: webhook::Webhooks::new(config.secrets.clone(), config.clock.clone()),
            mail: smtp::Servers::new(config),
        }
    }
}

impl Notify for Notifiers {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, DeliveryResult> {
        Box::pin(async move {
            match &delivery.notifier {
                Notifier::Email(def) => self.mail.deliver(delivery, def).await,
                Notifier::Webhook(def) => self.webhooks.deliver(delivery, def).await,
            }
        })
    }
}

fn transient(why: String) -> DeliveryResult {
    DeliveryResult::Transient { why, retry_after: None }
}

fn permanent(why: String) -> DeliveryResult {
    DeliveryResult::Permanent { why }
}
