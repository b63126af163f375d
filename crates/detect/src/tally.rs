//! What is counted beside the state: no decision reads it and no snapshot holds it, so it begins at zero with every
//! engine that is made, and only ever grows.

use serde::{Deserialize, Serialize};

/// Input that was handed over and found no room or no deployment, since this engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// About deployments that are not listed, where the policy rejects them.
    pub unknown_deployments: u64,
    /// About new deployments when there are too many that no policy lists.
    pub too_many_deployments: u64,
    /// Samples of new series of a deployment that has too many.
    pub too_many_series: u64,
    /// Samples from before every window that is open.
    pub too_late: u64,
    /// Verdicts of new checks or replicas of a deployment that has too many.
    pub too_many_checks: u64,
    /// Signals of new names of a deployment that has too many.
    pub too_many_signals: u64,
    /// Scopes of a rule (`per: [deployment, mount]`) for which a deployment has too many already.
    pub too_many_scopes: u64,
    /// Alerts from elsewhere, when there are too many.
    pub too_many_posted: u64,
}

/// How much is known, and what was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub deployments: usize,
    pub series: usize,
    pub refused: Tally,
}

/// Input that found no room or no deployment, counted as it is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// About deployments that are not listed, where the policy rejects them or there are too many already.
    pub deployments: u64,
    pub samples: u64,
    pub verdicts: u64,
    pub signals: u64,
}
