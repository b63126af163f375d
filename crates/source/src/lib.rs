//! Where events come from: bodies posted to the API or sent by `selfheal send`, and the checks selfheal runs itself.
//!
//! Invariant: what leaves here is parsed, bounded, finite and placed in time; what could not be taken in is named with
//! its place and its reason, and costs nothing that was good beside it.

pub mod attribution;
pub mod checks;
pub mod formats;
pub mod ingest;
pub mod pull;
