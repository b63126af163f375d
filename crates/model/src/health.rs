//! Health in three words, and how sure a verdict is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One raw verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Healthy,
    Unhealthy,
}

impl CheckStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Healthy => "healthy",
            CheckStatus::Unhealthy => "unhealthy",
        }
    }
}

/// How sure a verdict is, 0 to 1. One that does not say is as sure as can be.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Confidence(f64);

impl Confidence {
    /// The least there is.
    pub const NONE: Confidence = Confidence(0.0);

    /// `None` for what is not from 0 to 1.
    pub fn new(part: f64) -> Option<Confidence> {
        (0.0..=1.0).contains(&part).then_some(Confidence(part))
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Confidence {
    type Error = String;
    fn try_from(part: f64) -> Result<Confidence, String> {
        Confidence::new(part).ok_or_else(|| format!("{part} is no confidence: it is from 0 to 1"))
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> f64 {
        confidence.0
    }
}

/// A smoothed verdict: of one check, or of a whole deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a check said unhealthy; what `reason(check)` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureReason {
    Timeout,
    Refused,
    Reset,
    Dns,
    Tls,
    Status,
    Body,
    Exit,
}

impl FailureReason {
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReason::Timeout => "timeout",
            FailureReason::Refused => "refused",
            FailureReason::Reset => "reset",
            FailureReason::Dns => "dns",
            FailureReason::Tls => "tls",
            FailureReason::Status => "status",
            FailureReason::Body => "body",
            FailureReason::Exit => "exit",
        }
    }
}
