//! Where events come from: bodies posted to the API or sent by `selfheal send` ([`ingest`], [`formats`]), scrapes and host
//! metrics ([`pull`]), and active checks ([`checks`]). [`attribution`] finds the deployment of other systems' samples.
//!
//! The crate never knows rules, alerts or the engine: it produces events, and each poll or check is one attempt.
//!
//! Invariant: every event that leaves the crate is parsed, bounded in size, finite and has a time. Input that is refused is
//! reported with its place and reason, and does not affect the valid input beside it.

pub mod attribution;
pub mod checks;
pub mod formats;
pub mod ingest;
pub mod pull;
