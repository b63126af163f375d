//! A stretch of time in which history misses something, and why.

use serde_json::{Value, json};

use selfheal_model::Timestamp;

/// Why something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// More came in than could be written.
    QueueFull,
    WriteFailed(String),
    /// The former file was moved aside to this name, because of that.
    MovedAside {
        to: String,
        why: String,
    },
    /// There was no file although the engine had state.
    Missing,
    /// The engine started without the state that this file tells of.
    StateLost,
}

impl Why {
    /// For programs.
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

/// From the first to the last thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingRange {
    /// `None`: everything before its end.
    pub from: Option<Timestamp>,
    pub to: Timestamp,
    pub why: Why,
    /// Changes that were dropped; 0 when nobody can count them.
    pub dropped: u64,
}

impl MissingRange {
    pub fn dropped(at: Timestamp, why: Why, changes: usize) -> MissingRange {
        MissingRange { from: Some(at), to: at, why, dropped: changes as u64 }
    }

    /// One gap for both; the reason is the first one's.
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
