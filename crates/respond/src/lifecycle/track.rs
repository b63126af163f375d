//! One level of one alert: the transition table.
//!
//! A level is off, counting its `for`, on, or counting its `keep_firing_for`. What it does next depends on its state,
//! on what its conditions say, and on the instants the two durations end; on nothing else.

use std::time::Duration;

use super::OnNoData;
use selfheal_model::Timestamp;
use selfheal_script::Truth;

/// What a level's two conditions say: `when`, and `clear_when` or the contrary of `when`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub when: Truth,
    pub clear: Truth,
    /// What they read may have gone on unseen: that there is no data means nothing.
    pub blind: bool,
}

impl Sight {
    /// A level is entered by `when` alone.
    fn entering(&self) -> Seen {
        match &self.when {
            Truth::True => Seen::Holds,
            Truth::False => Seen::Clear,
            Truth::NoData => Seen::NoData,
            Truth::Error(_) => Seen::Error,
        }
    }

    /// A level is left by its clear condition; between the two it stays as it is.
    fn leaving(&self) -> Seen {
        match (&self.when, &self.clear) {
            (Truth::True, _) => Seen::Holds,
            (_, Truth::True) => Seen::Clear,
            (Truth::Error(_), _) | (_, Truth::Error(_)) => Seen::Error,
            (Truth::NoData, _) | (_, Truth::NoData) => Seen::NoData,
            (Truth::False, Truth::False) => Seen::Between,
        }
    }
}

/// What a sight means to a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Seen {
    /// `when` is true, on data.
    Holds,
    /// Known to be clear.
    Clear,
    /// Neither true nor clear: inside the hysteresis.
    Between,
    NoData,
    /// A script failed: nothing is known either, and that says nothing about the data.
    Error,
}

/// How long a level counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timing {
    pub for_: Duration,
    pub keep_firing_for: Duration,
}

/// Where a level stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Track {
    Off,
    /// Holds since then, for less than `for`.
    Pending {
        since: Timestamp,
    },
    /// Was pending, and nothing is known since `lost`: lapses after `for` more.
    Blind {
        since: Timestamp,
        lost: Timestamp,
    },
    /// Fires; `seen` is never [`Seen::Clear`].
    On {
        seen: Seen,
    },
    /// Clear since then, for less than `keep_firing_for`. `seen` is [`Seen::Clear`], or [`Seen::NoData`] where no
    /// data resolves.
    Keeping {
        since: Timestamp,
        seen: Seen,
    },
}

impl Track {
    /// The table: what a sight at `at` does. Time is counted by [`Track::pass`].
    pub fn see(self, sight: &Sight, at: Timestamp, on_no_data: OnNoData) -> Track {
        let entering = sight.entering();
        let leaving = match (sight.leaving(), on_no_data) {
            (Seen::NoData, OnNoData::Resolve) if sight.blind && matches!(self, Track::Keeping { .. }) => return self,
            (Seen::NoData, OnNoData::Resolve) if !sight.blind => None,
            (seen, _) => Some(seen),
        };
        match self {
            Track::Off => match entering {
                Seen::Holds => Track::Pending { since: at },
                Seen::Clear | Seen::Between | Seen::NoData | Seen::Error => Track::Off,
            },
            Track::Pending { since } => match entering {
                Seen::Holds => Track::Pending { since },
                Seen::Clear | Seen::Between => Track::Off,
                Seen::NoData | Seen::Error => Track::Blind { since, lost: at },
            },
            Track::Blind { since, lost } => match entering {
                // nobody knows what was in between, so it does not count
                Seen::Holds => Track::Pending { since: since + at.since(lost) },
                Seen::Clear | Seen::Between => Track::Off,
                Seen::NoData | Seen::Error => Track::Blind { since, lost },
            },
            Track::On { .. } => match leaving {
                Some(Seen::Clear) => Track::Keeping { since: at, seen: Seen::Clear },
                None => Track::Keeping { since: at, seen: Seen::NoData },
                Some(seen) => Track::On { seen },
            },
            Track::Keeping { since, .. } => match leaving {
                Some(Seen::Clear) => Track::Keeping { since, seen: Seen::Clear },
                None => Track::Keeping { since, seen: Seen::NoData },
                // it must be clear all the while, and known to be
                Some(seen) => Track::On { seen },
            },
        }
    }

    /// What time alone does: the durations that have ended by `at`.
    pub fn pass(self, at: Timestamp, timing: &Timing) -> Track {
        match (self, self.deadline(timing)) {
            (Track::Pending { .. }, Some(due)) if due <= at => Track::On { seen: Seen::Holds },
            (Track::Blind { .. } | Track::Keeping { .. }, Some(due)) if due <= at => Track::Off,
            (track, _) => track,
        }
    }

    /// When time alone will change it.
    pub fn deadline(self, timing: &Timing) -> Option<Timestamp> {
        match self {
            Track::Off | Track::On { .. } => None,
            Track::Pending { since } => Some(since + timing.for_),
            Track::Blind { lost, .. } => Some(lost + timing.for_),
            Track::Keeping { since, .. } => Some(since + timing.keep_firing_for),
        }
    }

    /// Leaves out a stretch of time in which nothing was watched.
    pub fn skip(self, gap: Duration) -> Track {
        match self {
            Track::Off | Track::On { .. } => self,
            Track::Pending { since } => Track::Pending { since: since + gap },
            Track::Blind { since, lost } => Track::Blind { since: since + gap, lost: lost + gap },
            Track::Keeping { since, seen } => Track::Keeping { since: since + gap, seen },
        }
    }

    pub fn is_on(self) -> bool {
        matches!(self, Track::On { .. } | Track::Keeping { .. })
    }

    pub fn is_pending(self) -> bool {
        matches!(self, Track::Pending { .. } | Track::Blind { .. })
    }

    /// When a pending level began to count.
    pub fn pending_since(self) -> Option<Timestamp> {
        match self {
            Track::Pending { since } | Track::Blind { since, .. } => Some(since),
            Track::Off | Track::On { .. } | Track::Keeping { .. } => None,
        }
    }

    /// True now, on data.
    pub fn holds(self) -> bool {
        matches!(self, Track::Pending { .. } | Track::On { seen: Seen::Holds })
    }

    pub fn is_without_data(self) -> bool {
        matches!(
            self,
            Track::Blind { .. } | Track::On { seen: Seen::NoData } | Track::Keeping { seen: Seen::NoData, .. }
        )
    }
}
