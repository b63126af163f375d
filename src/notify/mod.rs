//! Telling people: one try at one notification.
//!
//! Invariant: the bytes sent are a pure function of the delivery's frozen facts, so a repeat is recognisable.

use futures_util::future::BoxFuture;

use crate::engine::{Delivery, DeliveryResult};

/// A way to tell people.
pub trait Notify: Send + Sync {
    /// Tries once.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, DeliveryResult>;
}
