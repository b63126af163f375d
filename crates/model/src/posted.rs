//! An alert that another system raised, as it posts it here.

use serde::{Deserialize, Serialize};

use super::{AlertKey, Labels, Timestamp};

/// One posting. Times are by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedAlert {
    /// All of them, with `alertname`: what the alert is.
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Option<Timestamp>,
    /// In the past: it is over. Later: it runs out then unless it is posted again.
    pub ends_at: Option<Timestamp>,
    /// Where whoever raised it shows it.
    pub generator_url: String,
}

impl PostedAlert {
    pub fn key(&self) -> AlertKey {
        AlertKey::posted(self.labels.clone())
    }
}
