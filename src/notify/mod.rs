//! Telling people: one try at one notification.
//!
//! Invariant: the bytes sent are a pure function of the delivery's frozen facts, so a repeat is recognisable.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::engine::{Delivery, DeliveryResult};
use crate::model::{ResolveSecret, Timestamp};

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
pub struct Notifiers {}

impl Notifiers {
    pub fn new(_config: NotifiersConfig) -> Self {
        todo!()
    }
}

impl Notify for Notifiers {
    fn deliver<'a>(&'a self, _delivery: &'a Delivery) -> BoxFuture<'a, DeliveryResult> {
        todo!()
    }
}
