//! A range of time for which history is incomplete, and why.

use serde_json::{Value, json};

use selfheal_model::Timestamp;

/// Why entries are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The queue was full: more changes came in than could be written.
    QueueFull,
    WriteFailed(String),
    /// The previous file was renamed to `to`, because of `why`.
    MovedAside {
        to: String,
        why: String,
    },
    /// The history file was missing although the engine had state.
    Missing,
    /// The engine started without the state that the file describes.
    StateLost,
}

impl Why {
    /// The reason as a fixed word of the API.
    pub fn word(&self) -> &'static str {
        match self {
            Why::QueueFull => "queue_full",
            Why::WriteFailed(_) => "write_failed",
            Why::MovedAside { .. } => "moved_aside",
            Why::Missing => "missing",
            Why::StateLost => "state_lost",
        }
    }

    fn sentence(&self) -> String {
        match self {
            Why::QueueFull => "more came in than could be written".to_owned(),
            Why::WriteFailed(why) => format!("it could not be written: {why}"),
            Why::MovedAside { to, why } => format!("{why}; what was before is in {to}"),
            Why::Missing => "its file was gone; what was before is lost".to_owned(),
            Why::StateLost => "selfheal started without its former state; what had not ended is marked lost".to_owned(),
        }
    }
}

/// The range from the first to the last missing entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingRange {
    /// `None`: everything before its end.
    pub from: Option<Timestamp>,
    pub to: Timestamp,
    pub why: Why,
    /// Changes that were dropped; 0 when the number is not known.
    pub dropped: u64,
}

impl MissingRange {
    pub fn dropped(at: Timestamp, why: Why, changes: usize) -> MissingRange {
        MissingRange { from: Some(at), to: at, why, dropped: changes as u64 }
    }

    /// Joins two ranges; the reason of the first is kept.
    pub fn join(gap: &mut Option<MissingRange>, more: MissingRange) {
        match gap {
            None => *gap = Some(more),
            Some(gap) => {
                gap.from = gap.from.zip(more.from).map(|(one, other)| one.min(other));
                gap.to = gap.to.max(more.to);
                gap.dropped += more.dropped;
            }
        }
    }

    pub fn document(&self) -> Value {
        json!({
            "from": self.from,
            "to": self.to,
            "why": self.why.word(),
            "message": self.why.sentence(),
            "dropped": self.dropped,
        })
    }
}
