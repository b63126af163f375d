//! One call to the process adapter: what it works on, its progress, and whether it is cancelled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::state::Managed;
use super::target::Target;
use selfheal_contract::StepCall;
use selfheal_model::{FailureClass, Outcome};

/// Why a verb did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerbError {
    Failed(FailureClass, String),
    Unknown(String),
}

impl VerbError {
    pub fn permanent(why: impl Into<String>) -> Self {
        VerbError::Failed(FailureClass::Permanent, why.into())
    }

    pub fn transient(why: impl Into<String>) -> Self {
        VerbError::Failed(FailureClass::Transient, why.into())
    }

    pub fn conflict(why: impl Into<String>) -> Self {
        VerbError::Failed(FailureClass::Conflict, why.into())
    }

    pub fn unsupported(why: impl Into<String>) -> Self {
        VerbError::Failed(FailureClass::Unsupported, why.into())
    }
}

impl From<VerbError> for Outcome {
    fn from(error: VerbError) -> Outcome {
        match error {
            VerbError::Failed(class, why) => Outcome::failed(class, why),
            VerbError::Unknown(why) => Outcome::unknown(why),
        }
    }
}

/// The progress of an operation, shared by the task that runs it and the caller that waits for it.
#[derive(Default)]
pub struct Progress {
    log: Mutex<String>,
    begun: AtomicBool,
    cancelled: AtomicBool,
}

impl Progress {
    /// Records that the operation has changed the deployment.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    pub fn note(&self, line: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(line);
        log.push('\n');
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The outcome of an operation that ran out of time.
    pub fn out_of_time(&self, timeout: Duration) -> Outcome {
        if self.has_begun() {
            Outcome::unknown(format!("not finished within {timeout:?}, and the deployment was changed already"))
        } else {
            Outcome::failed(FailureClass::Transient, format!("nothing was changed within {timeout:?}"))
        }
    }
}

/// Cancels the operation when the caller drops it.
pub struct CancelOnDrop(pub Arc<Progress>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// One verb on one deployment.
pub struct Operation {
    pub shared: Arc<Shared>,
    pub managed: Arc<Managed>,
    pub target: Target,
    pub call: StepCall,
    pub deadline: Instant,
    pub progress: Arc<Progress>,
}

impl Operation {
    /// Adds a line to the step's log.
    pub fn note(&self, line: impl AsRef<str>) {
        self.progress.note(line.as_ref());
    }

    /// Whether the next part of the operation may begin.
    ///
    /// # Errors
    /// The operation was cancelled, or its deadline has passed.
    pub fn go_on(&self) -> Result<(), VerbError> {
        let why = if self.progress.cancelled.load(Ordering::SeqCst) {
            "cancelled"
        } else if Instant::now() >= self.deadline {
            "the deadline has passed"
        } else {
            return Ok(());
        };
        if self.progress.has_begun() {
            Err(VerbError::Unknown(format!("{why}, and the deployment was changed already")))
        } else {
            Err(VerbError::transient(format!("{why}, and nothing was changed")))
        }
    }

    /// The time left until the deadline.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
