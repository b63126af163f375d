//! Telling people: one try at one notification.
//!
//! Invariant: the bytes sent are a pure function of the delivery's frozen facts, so a repeat is recognisable. Retries,
//! rates and merging are the engine's; what is said about a failure holds no secret.

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

/// A way to tell people.
pub trait Notify: Send + Sync {
    /// Tries once.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, DeliveryResult>;
}

/// What notifiers are built from.
pub struct NotifiersConfig {
    pub secrets: Arc<dyn ResolveSecret>,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Relative paths of certificates start here.
    pub policy_dir: PathBuf,
}

/// All ways to tell people in this build.
pub struct Notifiers {
    mail: smtp::Servers,
    webhooks: webhook::Webhooks,
}

impl Notifiers {
    pub fn new(config: NotifiersConfig) -> Self {
        // whoever comes second finds it installed
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
