//! The words everything else is said in: events, labels, time, severity, ids, units, facts and outcomes.
//!
//! Invariant: nothing here reads a clock, a file or a socket, and nothing here knows a rule or a playbook.

pub mod adapter;
pub mod civil;
pub mod cron;
pub mod deployment;
pub mod event;
pub mod health;
pub mod ids;
pub mod labels;
pub mod outcome;
pub mod posted;
pub mod secret;
pub mod severity;
pub mod source;
pub mod time;
pub mod timers;
pub mod units;

pub use adapter::{
    AdapterCatalog, AdapterDef, AdapterSpec, Allow, Effectfulness, FieldKind, FieldSpec, VerbSpec, lasting,
};
pub use civil::{TimeInterval, Zone};
pub use cron::{Cron, CronError};
pub use deployment::{
    AuthDef, AuthFetch, AuthFormat, AuthThen, Check, CheckKind, Dependency, Deployment, DnsRecord, Facts, HealthyWhen,
    Reach, Replica, Trust,
};
pub use event::{Event, EventKind, Origin};
pub use health::{CheckStatus, Confidence, FailureReason, Health};
pub use ids::*;
pub use labels::{Labels, Matcher, MatcherError, Selector};
pub use outcome::{FailureClass, Outcome};
pub use posted::PostedAlert;
pub use secret::{ResolveSecret, Secret, SecretError, SecretSource};
pub use severity::Severity;
pub use source::{Conversion, NamePattern, Source, SourceKind};
pub use time::Timestamp;
pub use units::Bytes;

/// A JSON value: step inputs and outputs, facts, fields of signals. Maps keep their written order, so equal
/// inputs give equal bytes.
pub type Value = serde_json::Value;
/// A JSON object in written order.
pub type Map = serde_json::Map<String, Value>;
