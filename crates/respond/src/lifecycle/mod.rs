//! The life of one alert: pending, firing, resolved, cooling down; episodes and relapses.
//!
//! Every level is a [`Track`] of its own; the highest one that is on is the alert's severity. Above them stands one
//! [`Stage`] that knows the episode. Both are plain values moved by what is seen and by time handed in, so a policy
//! edit may change every duration and each goes on counting from where it began.
//!
//! Invariants: a firing alert never goes back to pending; a cooldown is not prolonged by relapses; time that was not
//! watched counts for no `for` and no `keep_firing_for`.

pub mod track;

use std::collections::BTreeMap;
use std::time::Duration;

pub use track::{Seen, Sight, Timing, Track};

use selfheal_model::{Severity, Timestamp};

/// What no data does to a firing level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum OnNoData {
    Keep,
    /// Counts as clear.
    Resolve,
}

/// What a rule says about its alerts' lives.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    pub levels: BTreeMap<Severity, Timing>,
    pub cooldown: Duration,
    pub on_no_data: OnNoData,
}

impl Terms {
    /// One level that fires and ends at once.
    pub fn immediate(severity: Severity) -> Self {
        let timing = Timing { for_: Duration::ZERO, keep_firing_for: Duration::ZERO };
        Terms { levels: BTreeMap::from([(severity, timing)]), cooldown: Duration::ZERO, on_no_data: OnNoData::Keep }
    }
}

/// From a first firing until resolved and cooled down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Episode {
    /// When the condition first held.
    pub started_at: Timestamp,
    /// 0 in its first firing.
    pub relapse: u32,
    /// The resolve from which its cooldown runs, while it runs.
    pub cooling_since: Option<Timestamp>,
}

/// Where the alert as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Nothing to remember.
    Quiet,
    Pending {
        started_at: Timestamp,
    },
    Firing {
        severity: Severity,
        fired_at: Timestamp,
        without_data: bool,
        episode: Episode,
    },
    /// Resolved, its cooldown runs. Its levels may be pending again.
    Cooling {
        severity: Severity,
        fired_at: Timestamp,
        ended_at: Timestamp,
        episode: Episode,
    },
}

/// What happened to the alert, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Move {
    /// Pending.
    Began,
    /// Was pending and is no more, without having fired.
    Lapsed,
    Fired,
    Relapsed,
    SeverityChanged {
        from: Severity,
        to: Severity,
    },
    DataLost,
    DataBack,
    Resolved,
    EpisodeOver,
}

/// One alert's life.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Life {
    tracks: BTreeMap<Severity, Track>,
    stage: Stage,
}

impl Default for Life {
    fn default() -> Self {
        Life { tracks: BTreeMap::new(), stage: Stage::Quiet }
    }
}

impl Life {
    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn is_quiet(&self) -> bool {
        self.stage == Stage::Quiet
    }

    pub fn is_firing(&self) -> bool {
        matches!(self.stage, Stage::Firing { .. })
    }

    /// Firing, and the condition of its level is true now, on data.
    pub fn is_true_now(&self) -> bool {
        self.is_firing() && self.top().is_some_and(|(_, track)| track.holds())
    }

    /// Its level's condition has no data, pending or firing.
    pub fn is_without_data(&self) -> bool {
        let level = self.top().or_else(|| self.highest(Track::is_pending));
        level.is_some_and(|(_, track)| track.is_without_data())
    }

    pub fn is_pending(&self) -> bool {
        !self.is_firing() && self.tracks.values().any(|track| track.is_pending())
    }

    /// Of the level it fires or last fired at; before that, of the highest pending one.
    pub fn severity(&self) -> Option<Severity> {
        match self.stage {
            Stage::Quiet => None,
            Stage::Pending { .. } => self.highest(Track::is_pending).map(|(severity, _)| severity),
            Stage::Firing { severity, .. } | Stage::Cooling { severity, .. } => Some(severity),
        }
    }

    /// When time alone will move it.
    pub fn deadline(&self, terms: &Terms) -> Option<Timestamp> {
        let levels = self.tracks.iter().filter_map(|(severity, track)| track.deadline(terms.levels.get(severity)?));
        let cooled = match self.stage {
            Stage::Cooling { .. } => self.cooldown_until(terms),
            Stage::Quiet | Stage::Pending { .. } | Stage::Firing { .. } => None,
        };
        levels.chain(cooled).min()
    }

    /// When the running cooldown ends; it also runs through a relapse.
    pub fn cooldown_until(&self, terms: &Terms) -> Option<Timestamp> {
        match self.stage {
            Stage::Firing { episode, .. } | Stage::Cooling { episode, .. } => {
                episode.cooling_since.map(|since| since + terms.cooldown)
            }
            Stage::Quiet | Stage::Pending { .. } => None,
        }
    }

    /// Takes in what every level shows at `at`.
    pub fn see<'a>(
        &mut self,
        at: Timestamp,
        sights: impl IntoIterator<Item = (Severity, &'a Sight)>,
        terms: &Terms,
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        self.cool_down(at, terms, &mut moves);
        for (severity, sight) in sights {
            let track = self.tracks.entry(severity).or_insert(Track::Off);
            *track = track.see(sight, at, terms.on_no_data);
        }
        self.reckon(at, terms, &mut moves);
        moves
    }

    /// Takes in that it is `at`.
    pub fn pass(&mut self, at: Timestamp, terms: &Terms) -> Vec<Move> {
        let mut moves = Vec::new();
        self.cool_down(at, terms, &mut moves);
        self.reckon(at, terms, &mut moves);
        moves
    }

    /// Goes on under new terms. A level that is no more hands its state to the nearest one below, else above.
    pub fn adopt(&mut self, at: Timestamp, terms: &Terms) -> Vec<Move> {
        let gone: Vec<_> =
            self.tracks.keys().copied().filter(|severity| !terms.levels.contains_key(severity)).collect();
        for severity in gone {
            let Some(track) = self.tracks.remove(&severity) else { continue };
            let below = terms.levels.range(..severity).next_back();
            let Some((heir, _)) = below.or_else(|| terms.levels.range(severity..).next()) else { continue };
            let own = self.tracks.entry(*heir).or_insert(Track::Off);
            let is_more = track.is_on() && !own.is_on() || track.is_pending() && *own == Track::Off;
            if is_more {
                *own = track;
            }
        }
        self.pass(at, terms)
    }

    /// Leaves out a stretch of time in which nothing was watched. Cooldowns run on: they permit, they do not watch.
    pub fn skip(&mut self, gap: Duration) {
        for track in self.tracks.values_mut() {
            *track = track.skip(gap);
        }
    }

    fn top(&self) -> Option<(Severity, Track)> {
        self.highest(Track::is_on)
    }

    fn highest(&self, is: impl Fn(Track) -> bool) -> Option<(Severity, Track)> {
        self.tracks.iter().rev().map(|(severity, track)| (*severity, *track)).find(|(_, track)| is(*track))
    }

    /// Ends the episode whose cooldown is over. Before anything else of the same instant: what fires then is new.
    fn cool_down(&mut self, at: Timestamp, terms: &Terms, moves: &mut Vec<Move>) {
        let Stage::Cooling { .. } = self.stage else { return };
        if self.cooldown_until(terms).is_some_and(|until| until > at) {
            return;
        }
        moves.push(Move::EpisodeOver);
        let pending = self.tracks.values().filter_map(|track| track.pending_since()).min();
        self.stage = match pending {
            Some(started_at) => Stage::Pending { started_at },
            None => Stage::Quiet,
        };
    }

    /// Lets time pass in every level, then draws what follows for the alert.
    fn reckon(&mut self, at: Timestamp, terms: &Terms, moves: &mut Vec<Move>) {
        for (severity, track) in &mut self.tracks {
            if let Some(timing) = terms.levels.get(severity) {
                *track = track.pass(at, timing);
            }
        }
        let top = self.top();
        if let Some((severity, _)) = top {
            // below a level that fires there is nothing left to wait for: its `for` asks whether to fire at all
            for (_, track) in self.tracks.range_mut(..severity) {
                if let Track::Pending { .. } = track {
                    *track = Track::On { seen: Seen::Holds };
                }
            }
        }
        let pending = self.tracks.values().filter_map(|track| track.pending_since()).min();
        match (self.stage, top) {
            (Stage::Quiet, None) => {
                if let Some(started_at) = pending {
                    self.stage = Stage::Pending { started_at };
                    moves.push(Move::Began);
                }
            }
            (Stage::Pending { .. }, None) => {
                if pending.is_none() {
                    self.stage = Stage::Quiet;
                    moves.push(Move::Lapsed);
                }
            }
            (Stage::Cooling { .. }, None) => {}
            (stage @ (Stage::Quiet | Stage::Pending { .. } | Stage::Cooling { .. }), Some(top)) => {
                self.fire(at, stage, top, moves);
            }
            (Stage::Firing { .. }, Some(top)) => self.go_on(top, moves),
            (Stage::Firing { .. }, None) => self.resolve(at, terms, moves),
        }
    }

    fn fire(&mut self, at: Timestamp, stage: Stage, (severity, track): (Severity, Track), moves: &mut Vec<Move>) {
        let (episode, what) = match stage {
            Stage::Cooling { episode, .. } => (Episode { relapse: episode.relapse + 1, ..episode }, Move::Relapsed),
            Stage::Pending { started_at } => (Episode { started_at, relapse: 0, cooling_since: None }, Move::Fired),
            Stage::Quiet | Stage::Firing { .. } => {
                (Episode { started_at: at, relapse: 0, cooling_since: None }, Move::Fired)
            }
        };
        self.stage = Stage::Firing { severity, fired_at: at, without_data: track.is_without_data(), episode };
        moves.push(what);
    }

    /// Fires on: maybe at another level, maybe with or without data.
    fn go_on(&mut self, (to, track): (Severity, Track), moves: &mut Vec<Move>) {
        let Stage::Firing { severity, without_data, .. } = &mut self.stage else { return };
        let from = std::mem::replace(severity, to);
        if from != to {
            moves.push(Move::SeverityChanged { from, to });
        }
        let had_none = std::mem::replace(without_data, track.is_without_data());
        match (had_none, *without_data) {
            (false, true) => moves.push(Move::DataLost),
            (true, false) => moves.push(Move::DataBack),
            (true, true) | (false, false) => {}
        }
    }

    /// A cooldown that still runs from an earlier resolve runs on; else it begins here.
    fn resolve(&mut self, at: Timestamp, terms: &Terms, moves: &mut Vec<Move>) {
        let Stage::Firing { severity, fired_at, episode, .. } = self.stage else { return };
        let running = episode.cooling_since.filter(|since| *since + terms.cooldown > at);
        let episode = Episode { cooling_since: Some(running.unwrap_or(at)), ..episode };
        self.stage = Stage::Cooling { severity, fired_at, ended_at: at, episode };
        moves.push(Move::Resolved);
        self.cool_down(at, terms, moves);
    }
}

#[cfg(test)]
mod tests;
