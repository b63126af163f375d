//! What one try came to, and how the errors of sockets are called.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use selfheal_model::{CheckStatus, Confidence, FailureReason, Timestamp};

/// The last word of one run.
pub(super) struct Verdict {
    /// `None`: healthy.
    pub fault: Option<FailureReason>,
    pub message: String,
    pub latency: Duration,
    pub findings: Findings,
}

/// What a try saw besides its answer, healthy or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// How sure the asked one is, where it says so.
    pub confidence: Option<Confidence>,
    /// The last instant that the presented certificate is good at.
    pub expires_at: Option<Timestamp>,
    /// Of a dns check, each server that was named.
    pub servers: Vec<OfServer>,
}

#[derive(Clone, Debug)]
pub(super) struct OfServer {
    pub server: SocketAddr,
    pub up: bool,
    pub latency: Duration,
}

impl Verdict {
    pub fn status(&self) -> CheckStatus {
        if self.fault.is_none() { CheckStatus::Healthy } else { CheckStatus::Unhealthy }
    }
}

/// Why a try was unhealthy.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
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

/// What an error of a socket was made of: TLS speaks through one or several of them, and their `source` leaves out
/// what they wrap. `None`: the system's own.
pub(super) fn beneath(mut error: &io::Error) -> Option<&(dyn Error + 'static)> {
    while let Some(inner) = error.get_ref() {
        match inner.downcast_ref::<io::Error>() {
            Some(io) => error = io,
            None => return Some(inner),
        }
    }
    None
}
