//! What one try came to, and how the errors of sockets are called.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::model::{CheckStatus, FailureReason};

/// The last word of one run.
pub(super) struct Verdict {
    /// `None`: healthy.
    pub fault: Option<FailureReason>,
    pub message: String,
    pub latency: Duration,
}

impl Verdict {
    pub fn status(&self) -> CheckStatus {
        if self.fault.is_none() { CheckStatus::Healthy } else { CheckStatus::Unhealthy }
    }
}

/// Why a try was unhealthy.
#[derive(Debug)]
pub(super) struct Fault {
    pub reason: FailureReason,
    pub why: String,
}

impl Fault {
    pub fn new(reason: FailureReason, why: impl Into<String>) -> Fault {
        Fault { reason, why: why.into() }
    }

    /// A socket that could not be opened or broke.
    pub fn of_io(error: &io::Error) -> Fault {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Fault::new(FailureReason::Refused, "connection refused"),
            Kind::TimedOut => Fault::new(FailureReason::Timeout, "connection timed out"),
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
                Fault::new(FailureReason::Reset, "the connection was closed before the answer")
            }
            // no route, no network, no free port: the peer cannot be reached, as if it refused
            _ => Fault::new(FailureReason::Refused, format!("cannot connect: {error}")),
        }
    }
}

/// The error and all it was caused by, outermost first.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}
