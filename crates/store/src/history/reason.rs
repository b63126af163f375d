//! Why an alert moved, in words, worked out from how it stood before and how it stands now.

use serde::Deserialize;
use serde_json::{Value, json};

use selfheal_model::Timestamp;

/// What of an alert makes a transition when it changes. Its value goes along but makes none.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Standing {
    pub state: String,
    severity: String,
    value: Option<f64>,
    suppressed: Option<String>,
    relapse: u32,
    without_data: bool,
    error: Option<String>,
}

impl Standing {
    /// Out of an alert's document; `None` when it is none.
    pub fn of(document: &Value) -> Option<Standing> {
        Standing::deserialize(document).ok()
    }

    fn moved_from(&self, before: &Standing) -> bool {
        self.state != before.state
            || self.severity != before.severity
            || self.suppressed != before.suppressed
            || self.relapse != before.relapse
            || self.without_data != before.without_data
            || self.error != before.error
    }

    /// The transition to this from `before`, if it is one.
    pub fn transition(&self, before: Option<&Standing>, at: Timestamp) -> Option<Value> {
        if before.is_some_and(|before| !self.moved_from(before)) {
            return None;
        }
        Some(json!({
            "at": at,
            "from": before.map(|before| &before.state),
            "to": self.state,
            "severity": self.severity,
            "value": self.value,
            "suppressed": self.suppressed,
            "relapse": self.relapse,
            "without_data": self.without_data,
            "error": self.error,
            "why": self.why(before),
        }))
    }

    fn why(&self, before: Option<&Standing>) -> String {
        let mut reasons = Vec::new();
        reasons.extend(self.why_state(before));
        if let Some(before) = before {
            if self.severity != before.severity {
                reasons.push(format!("its severity went from {} to {}", before.severity, self.severity));
            }
            if self.relapse > before.relapse && before.state == self.state {
                reasons.push(format!("it had gone and came back (relapse {})", self.relapse));
            }
        }
        match (before.and_then(|before| before.suppressed.as_ref()), &self.suppressed) {
            (was, Some(by)) if was != Some(by) => reasons.push(format!("it is held back: {by}")),
            (Some(by), None) => reasons.push(format!("it is no longer held back by {by}")),
            _ => {}
        }
        match (before.is_some_and(|before| before.without_data), self.without_data) {
            (false, true) => reasons.push("its data is missing".to_owned()),
            (true, false) => reasons.push("its data is back".to_owned()),
            _ => {}
        }
        match (before.and_then(|before| before.error.as_ref()), &self.error) {
            (was, Some(error)) if was != Some(error) => reasons.push(format!("its script fails: {error}")),
            (Some(_), None) => reasons.push("its script works again".to_owned()),
            _ => {}
        }
        reasons.join("; ")
    }

    fn why_state(&self, before: Option<&Standing>) -> Option<String> {
        let was = before.map(|before| before.state.as_str());
        if was == Some(self.state.as_str()) {
            return None;
        }
        let is_relapse = before.is_some_and(|before| self.relapse > before.relapse);
        let missed_data = before.is_some_and(|before| before.without_data);
        let text = match (was, self.state.as_str()) {
            (None, "pending") => "its condition began to hold".to_owned(),
            (None, "firing") => "its condition holds".to_owned(),
            (None, other) => format!("it was first seen as {other}"),
            (Some("pending"), "firing") if is_relapse => {
                format!("its condition held long enough again (relapse {})", self.relapse)
            }
            (Some("pending"), "firing") => "its condition held long enough".to_owned(),
            (_, "firing") if is_relapse => format!("its condition holds again (relapse {})", self.relapse),
            (Some("ended"), "firing" | "pending") => "its rule or scope is back".to_owned(),
            (Some("lost"), now) => format!("it is known again, as {now}"),
            (_, "firing") => "its condition holds again".to_owned(),
            (_, "pending") => "its condition holds again, not yet long enough".to_owned(),
            (Some("pending"), "resolved") => "its condition went before it fired".to_owned(),
            (_, "resolved") if missed_data => "it was resolved while its data was missing".to_owned(),
            (_, "resolved") => "its condition no longer holds".to_owned(),
            (_, "ended") => "its rule or scope is gone".to_owned(),
            (_, "lost") => "how it went on is not known".to_owned(),
            (Some(was), now) => format!("it went from {was} to {now}"),
        };
        Some(text)
    }
}
