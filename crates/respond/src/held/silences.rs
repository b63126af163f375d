//! Silences: for a while people are not told of the alerts that match.
//!
//! Invariants: a silence always has an end; its times are by the wall clock; one that has expired never comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::Held;
use crate::turn::{Turn, Word};
use selfheal_contract::input::{SilenceAsked, SilenceEnd};
use selfheal_contract::view::{AuditEntry, Change, SilenceState, SilenceView};
use selfheal_model::timers::Timers;
use selfheal_model::{AlertKey, Labels, Matcher, Selector, Timestamp};

/// So many may be pending or active: each is compared with every alert that begins to fire.
const MAX_OPEN: usize = 1_000;
/// So many expired ones stay to be looked at, each so long; both as people need them for a look back.
const MAX_EXPIRED: usize = 1_000;
const EXPIRED_KEPT: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// A longer one is a rule that should be removed.
const MAX_SPAN: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const MAX_MATCHERS: usize = 64;
const MAX_ANNOTATIONS: usize = 64;
const MAX_TEXT: usize = 4 * 1024;

/// The annotation that lets repair go on while people are not told.
const REPAIR: &str = "repair";

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Silence {
    pub(super) id: SmolStr,
    pub(super) matchers: Selector,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) created_by: String,
    pub(super) comment: String,
    pub(super) annotations: Labels,
    pub(super) updated_at: Timestamp,
    /// As the alerts were told.
    state: SilenceState,
}

impl Silence {
    pub(super) fn is_active(&self, wall: Timestamp) -> bool {
        self.state_at(wall) == SilenceState::Active
    }

    pub(super) fn lets_repair(&self) -> bool {
        self.annotations.get(REPAIR) == Some("true")
    }

    fn state_at(&self, wall: Timestamp) -> SilenceState {
        if wall >= self.ends_at {
            SilenceState::Expired
        } else if wall >= self.starts_at {
            SilenceState::Active
        } else {
            SilenceState::Pending
        }
    }

    /// By the wall clock: when it begins, ends or is forgotten.
    fn moves_at(&self) -> Timestamp {
        match self.state {
            SilenceState::Pending => self.starts_at,
            SilenceState::Active => self.ends_at,
            SilenceState::Expired => self.ends_at + EXPIRED_KEPT,
        }
    }

    fn view(&self) -> SilenceView {
        SilenceView {
            id: self.id.clone(),
            state: self.state,
            matchers: self.matchers.0.iter().map(ToString::to_string).collect(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            created_by: self.created_by.clone(),
            comment: self.comment.clone(),
            annotations: self.annotations.clone(),
            updated_at: self.updated_at,
        }
    }
}

/// All silences, those that expired not long ago too.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Silences {
    all: BTreeMap<SmolStr, Silence>,
    /// Those that are active, so that asking passes over all others.
    active: BTreeSet<SmolStr>,
    /// How many were ever made.
    made: u64,
    timers: Timers<SmolStr>,
}

impl Silences {
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<SmolStr> {
        self.timers.pop_due(now).map(|(_, id)| id)
    }

    pub(super) fn ids(&self) -> Vec<SmolStr> {
        self.all.keys().cloned().collect()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Silence> {
        self.all.get(id)
    }

    /// The active ones that match.
    pub(super) fn active_on<'a>(
        &'a self,
        labels: &'a Labels,
        wall: Timestamp,
    ) -> impl Iterator<Item = &'a Silence> + 'a {
        let active = self.active.iter().filter_map(|id| self.all.get(id));
        active.filter(move |silence| silence.is_active(wall) && silence.matchers.matches(labels))
    }

    fn open(&self) -> usize {
        self.all.values().filter(|silence| silence.state != SilenceState::Expired).count()
    }

    /// The expired one that ended first, where there are too many.
    fn one_too_many(&self) -> Option<SmolStr> {
        let expired = || self.all.values().filter(|silence| silence.state == SilenceState::Expired);
        if expired().count() <= MAX_EXPIRED {
            return None;
        }
        expired().min_by_key(|silence| (silence.ends_at, &silence.id)).map(|silence| silence.id.clone())
    }
}

impl Held {
    /// Makes a silence, or changes one that has not expired. Returns its id.
    pub(super) fn silence(&mut self, turn: &mut Turn<'_>, by: &str, asked: SilenceAsked) -> Result<SmolStr, String> {
        let wall = self.wall(turn.now);
        let known = match &asked.id {
            None => None,
            Some(id) => Some(self.open_silence(id)?),
        };
        let starts_at = asked.starts_at.or(known.map(|silence| silence.starts_at)).unwrap_or(wall);
        // one that has begun goes on since then
        let starts_at = match known.filter(|silence| silence.state == SilenceState::Active) {
            Some(silence) => silence.starts_at,
            None => starts_at.max(wall),
        };
        let ends_at = match asked.ends {
            SilenceEnd::At(at) => at,
            SilenceEnd::After(span) => starts_at.max(wall) + span,
        };
        check(&asked, starts_at, ends_at, wall)?;
        if known.is_none() && self.silences.open() >= MAX_OPEN {
            return Err(format!("{MAX_OPEN} silences are pending or active; that is the limit"));
        }
        let id = match asked.id {
            Some(id) => id,
            None => {
                self.silences.made += 1;
                format_smolstr!("s-{}", self.silences.made)
            }
        };
        let silence = Silence {
            id: id.clone(),
            matchers: asked.matchers,
            starts_at,
            ends_at,
            created_by: by.to_owned(),
            comment: asked.comment,
            annotations: asked.annotations,
            updated_at: wall,
            state: SilenceState::Pending,
        };
        self.silences.all.insert(id.clone(), silence);
        self.move_silence(turn, &id);
        Ok(id)
    }

    /// Ends a silence before its time.
    pub(super) fn expire_silence(&mut self, turn: &mut Turn<'_>, id: &str) -> Result<(), String> {
        let id = self.open_silence(id)?.id.clone();
        let wall = self.wall(turn.now);
        if let Some(silence) = self.silences.all.get_mut(&id) {
            silence.starts_at = silence.starts_at.min(wall);
            silence.ends_at = wall;
            silence.updated_at = wall;
        }
        self.move_silence(turn, &id);
        Ok(())
    }

    /// A playbook does not want people told of this alert for a while; its repair goes on. Said once more, the silence
    /// there is lasts longer.
    pub fn silence_for_repair(
        &mut self,
        turn: &mut Turn<'_>,
        key: &AlertKey,
        span: Duration,
        by: String,
    ) -> Result<SmolStr, String> {
        let own = [("alertname", key.rule.as_str())];
        let matchers = own.into_iter().chain(key.scope.iter()).map(|(name, value)| Matcher::equal(name, value));
        let matchers = Selector(matchers.collect());
        let wall = self.wall(turn.now);
        let is_same = |silence: &&Silence| {
            silence.is_active(wall) && silence.lets_repair() && silence.created_by == by && silence.matchers == matchers
        };
        let same = self.silences.active.iter().filter_map(|id| self.silences.get(id)).find(is_same);
        let ends_at = same.map_or(wall + span, |silence| silence.ends_at.max(wall + span));
        let asked = SilenceAsked {
            id: same.map(|silence| silence.id.clone()),
            matchers,
            starts_at: None,
            ends: SilenceEnd::At(ends_at),
            comment: "a playbook's step".to_owned(),
            annotations: [(REPAIR, "true")].into_iter().collect(),
        };
        let made = self.silence(turn, &by, asked);
        let what = match &made {
            Ok(id) => format!("silenced {key} until {ends_at} ({id}); its repair goes on"),
            Err(why) => format!("could not silence {key}: {why}"),
        };
        turn.show(Change::Audit(AuditEntry { at: turn.now, who: by, what }));
        made
    }

    /// Brings a silence up to what the wall clock says, and tells the alerts it concerns.
    pub(super) fn move_silence(&mut self, turn: &mut Turn<'_>, id: &SmolStr) {
        let wall = self.wall(turn.now);
        let Some(silence) = self.silences.all.get_mut(id) else { return };
        let before = silence.state;
        // what has expired stays so, whatever the clock does
        if before != SilenceState::Expired {
            silence.state = silence.state_at(wall);
        }
        if before == SilenceState::Expired && wall >= silence.moves_at() {
            self.forget_silence(turn, id);
            return;
        }
        turn.show(Change::Silence(Box::new(silence.view())));
        let (state, at) = (silence.state, silence.moves_at());
        let matchers = (state == SilenceState::Active).then(|| silence.matchers.clone());
        let at = self.at_wall(at).max(turn.now);
        self.silences.timers.set(id.clone(), at);
        match state {
            SilenceState::Active => self.silences.active.insert(id.clone()),
            SilenceState::Pending | SilenceState::Expired => self.silences.active.remove(id),
        };
        for (key, standing) in &mut self.standing {
            let holds = matchers.as_ref().is_some_and(|matchers| matchers.matches(&standing.labels));
            let held = match holds {
                true => !standing.silences.insert(id.clone()),
                false => standing.silences.remove(id),
            };
            // also where it held already: it may let repair go on now, or no more
            if holds || held {
                turn.say(Word::HeldChanged(key.clone()));
            }
        }
        while let Some(id) = self.silences.one_too_many() {
            self.forget_silence(turn, &id);
        }
    }

    pub fn show_silences(&self, turn: &mut Turn<'_>) {
        for silence in self.silences.all.values() {
            turn.show(Change::Silence(Box::new(silence.view())));
        }
    }

    fn forget_silence(&mut self, turn: &mut Turn<'_>, id: &SmolStr) {
        self.silences.all.remove(id);
        self.silences.timers.clear(id);
        turn.show(Change::SilenceGone(id.clone()));
    }

    fn open_silence(&self, id: &str) -> Result<&Silence, String> {
        match self.silences.get(id) {
            None => Err(format!("there is no silence `{id}`")),
            Some(silence) if silence.state == SilenceState::Expired => Err(format!("silence {id} has expired")),
            Some(silence) => Ok(silence),
        }
    }
}

fn check(asked: &SilenceAsked, starts_at: Timestamp, ends_at: Timestamp, wall: Timestamp) -> Result<(), String> {
    let SilenceAsked { matchers, comment, annotations, .. } = asked;
    if matchers.0.iter().all(|matcher| matcher.matches(&Labels::default())) {
        return Err("at least one matcher must not match the empty text: this would silence everything".to_owned());
    }
    if matchers.0.len() > MAX_MATCHERS || annotations.len() > MAX_ANNOTATIONS {
        return Err(format!("a silence has at most {MAX_MATCHERS} matchers and {MAX_ANNOTATIONS} annotations"));
    }
    let texts = annotations.iter().flat_map(|(name, value)| [name, value]).chain([comment.as_str()]);
    if texts.map(str::len).max().is_some_and(|length| length > MAX_TEXT) {
        return Err(format!("a text of a silence is at most {MAX_TEXT} bytes long"));
    }
    if ends_at <= wall {
        return Err(format!("it would have ended already, at {ends_at}"));
    }
    if ends_at <= starts_at {
        return Err("it would end before it starts".to_owned());
    }
    if ends_at.since(wall) > MAX_SPAN {
        return Err(format!("a silence ends within {} days", MAX_SPAN.as_secs() / (24 * 60 * 60)));
    }
    Ok(())
}
