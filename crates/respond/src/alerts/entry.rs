//! One alert with everything this part keeps of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Alert, texts};
use crate::lifecycle::{Life, Move, OnNoData, Sight, Stage, Terms, Timing};
use crate::turn::AlertChangeKind;
use selfheal_contract::notification::RemediationFacts;
use selfheal_contract::view::{AlertStateWord, AlertView, DependencyView, HeldView};
use selfheal_messages::{LevelAnswer, RuleAnswer};
use selfheal_model::{AlertKey, Labels, Severity, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::rule::{NoData, Rule, RuleMode};
use selfheal_script::Truth;

/// A value that moves with every sample is shown, and its texts are rendered, at most so often.
pub(super) const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// Whose alert it is, and so who hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Kind {
    Live,
    /// For views and `explain` only.
    Shadow,
    /// Raised by the engine itself; has no rule in the policy.
    BuiltIn,
    /// Raised by another system, which posts it here.
    Posted,
}

impl Kind {
    pub(super) fn of(rule: &Rule) -> Kind {
        match rule.mode {
            RuleMode::Live => Kind::Live,
            RuleMode::Shadow => Kind::Shadow,
        }
    }
}

/// Changes that wait for the alert's texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Unsaid {
    /// Nothing was asked.
    #[default]
    Nothing,
    Waiting(Vec<AlertChangeKind>),
}

impl Unsaid {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Unsaid::Waiting(_))
    }

    pub(super) fn push(&mut self, more: Vec<AlertChangeKind>) {
        match self {
            Unsaid::Waiting(changes) => changes.extend(more),
            Unsaid::Nothing => *self = Unsaid::Waiting(more),
        }
    }

    pub(super) fn into_changes(self) -> Vec<AlertChangeKind> {
        match self {
            Unsaid::Nothing => Vec::new(),
            Unsaid::Waiting(changes) => changes,
        }
    }
}

/// One alert.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Entry {
    /// Always as `life` says.
    pub(super) alert: Alert,
    pub(super) life: Life,
    pub(super) terms: Terms,
    pub(super) kind: Kind,
    /// Its labels but for the severity.
    pub(super) base: Labels,
    /// The policy lists its deployment.
    pub(super) listed: bool,
    pub(super) unsaid: Unsaid,
    pub(super) error: Option<String>,
    pub(super) remediation: Option<RemediationFacts>,
    /// What holds it back, if it fires.
    #[serde(default)]
    pub(super) held: Option<HeldView>,
    /// Up to when time stood still for it, while something its rule reads may go on unseen.
    pub(super) blind_since: Option<Timestamp>,
    /// It fired in this episode.
    pub(super) has_fired: bool,
    /// The others were told that it fired, in this episode.
    pub(super) told: bool,
    /// Its rule or scope is gone; how its life stood then, should they come back.
    pub(super) unwatched: Option<Life>,
    /// What was shown last, and when.
    pub(super) shown: Option<(Timestamp, AlertView)>,
}

impl Entry {
    /// A quiet one of a rule.
    pub(super) fn of_rule(policy: &Policy, key: AlertKey, rule: &Rule, at: Timestamp) -> Entry {
        let base = base_labels(policy, &key, Some(rule));
        let listed = is_listed(policy, &key);
        Entry { listed, ..Entry::quiet(key, base, terms_of(rule), Kind::of(rule), at) }
    }

    /// A quiet one of the engine's own.
    pub(super) fn built_in(policy: &Policy, key: AlertKey, severity: Severity, at: Timestamp) -> Entry {
        let base = base_labels(policy, &key, None);
        Entry::quiet(key, base, Terms::immediate(severity), Kind::BuiltIn, at)
    }

    pub(super) fn quiet(key: AlertKey, base: Labels, terms: Terms, kind: Kind, at: Timestamp) -> Entry {
        let severity = terms.levels.keys().next().copied().unwrap_or_default();
        let alert = Alert {
            labels: base.with_label("severity", severity.as_str()),
            deployment: key.deployment(),
            severity,
            firing: false,
            true_now: false,
            value: None,
            summary: texts::built_in(&key),
            annotations: Labels::default(),
            started_at: at,
            fired_at: at,
            ended_at: None,
            relapse: 0,
            without_data: false,
            evidence: at,
            generator_url: String::new(),
            began_at: None,
            ran_out: false,
            key,
        };
        Entry {
            alert,
            life: Life::default(),
            terms,
            kind,
            base,
            listed: false,
            unsaid: Unsaid::Nothing,
            error: None,
            remediation: None,
            held: None,
            blind_since: None,
            has_fired: false,
            told: false,
            unwatched: None,
            shown: None,
        }
    }

    /// Whether `firing(rule)` and people know it.
    pub(super) fn counts(&self) -> bool {
        self.kind == Kind::Live
    }

    pub(super) fn take_answer(&mut self, now: Timestamp, answer: &RuleAnswer, rule: &Rule) -> Vec<Move> {
        let sights: Vec<(Severity, Sight)> = rule
            .levels
            .iter()
            .zip(&answer.levels)
            .map(|(level, seen)| (level.severity, sight_of(seen, answer.blind)))
            .collect();
        self.stand_still(now);
        self.blind_since = answer.blind.then_some(now);
        let moves = self.life.see(now, sights.iter().map(|(severity, sight)| (*severity, sight)), &self.terms);
        self.error = error_of(answer);
        self.alert.evidence = answer.evidence;
        // without data the last figure stands: its texts were made of it
        if answer.value.is_some() || !(self.life.is_without_data() || self.error.is_some()) {
            self.alert.value = answer.value;
        }
        moves
    }

    /// Time up to now proves nothing where something was not seen.
    pub(super) fn stand_still(&mut self, now: Timestamp) {
        if let Some(since) = &mut self.blind_since {
            self.life.skip(now.since(*since));
            *since = now;
        }
    }

    /// Brings `alert` up to what `life` says. Returns what the others may have to be told.
    pub(super) fn take_moves(&mut self, now: Timestamp, moves: &[Move]) -> Vec<AlertChangeKind> {
        let mut changes = Vec::new();
        for what in moves {
            match what {
                Move::Began | Move::Lapsed => {}
                Move::Fired => changes.push(AlertChangeKind::Fired),
                // to people the one that ran out was over
                Move::Relapsed if self.alert.ran_out => changes.push(AlertChangeKind::Fired),
                Move::Relapsed => changes.push(AlertChangeKind::Relapsed),
                Move::SeverityChanged { from, to } => {
                    changes.push(AlertChangeKind::SeverityChanged { from: *from, to: *to });
                }
                Move::DataLost => changes.push(AlertChangeKind::DataLost),
                Move::DataBack => changes.push(AlertChangeKind::DataBack),
                Move::Resolved => {
                    self.alert.ended_at = Some(now);
                    changes.push(AlertChangeKind::Resolved);
                }
                Move::EpisodeOver => changes.push(AlertChangeKind::EpisodeOver),
            }
        }
        match self.life.stage() {
            Stage::Quiet => {}
            Stage::Pending { started_at } => {
                self.alert.started_at = started_at;
                self.alert.fired_at = started_at;
                self.alert.relapse = 0;
                if !moves.contains(&Move::Resolved) {
                    self.alert.ended_at = None;
                    self.has_fired = false;
                }
            }
            Stage::Firing { fired_at, episode, .. } => {
                self.has_fired = true;
                self.alert.started_at = self.alert.began_at.unwrap_or(episode.started_at);
                self.alert.fired_at = fired_at;
                self.alert.relapse = episode.relapse;
                self.alert.ended_at = None;
            }
            Stage::Cooling { ended_at, .. } => self.alert.ended_at = Some(ended_at),
        }
        self.alert.firing = self.life.is_firing();
        self.alert.ran_out &= !self.alert.firing;
        self.alert.true_now = self.life.is_true_now();
        self.alert.without_data = self.life.is_without_data();
        if let Some(severity) = self.life.severity() {
            self.alert.severity = severity;
        }
        self.alert.labels = self.labels();
        changes
    }

    /// One from elsewhere keeps its own words.
    pub(super) fn labels(&self) -> Labels {
        if self.kind == Kind::Posted {
            return self.base.clone();
        }
        self.base.with_label("severity", self.alert.severity.as_str())
    }

    /// Its rule or scope is gone: nothing holds any more. Returns what the others may have to be told.
    pub(super) fn unwatch(&mut self, now: Timestamp) -> Option<AlertChangeKind> {
        let change = match self.life.stage() {
            Stage::Firing { .. } => Some(AlertChangeKind::Ended),
            // it was told as resolved; there is no more to say than that its episode is over
            Stage::Cooling { .. } => Some(AlertChangeKind::EpisodeOver),
            Stage::Quiet | Stage::Pending { .. } => None,
        };
        self.unwatched = Some(std::mem::take(&mut self.life));
        self.alert.firing = false;
        self.alert.true_now = false;
        self.alert.without_data = false;
        self.alert.ended_at.get_or_insert(now);
        change
    }

    /// Its rule or scope is back: it goes on from where it stood, under the rule as it is now.
    pub(super) fn take_up(mut self, policy: &Policy, rule: &Rule, now: Timestamp) -> Entry {
        let fresh = Entry::of_rule(policy, self.alert.key.clone(), rule, now);
        let mut life = self.unwatched.take().unwrap_or_default();
        // nobody hears what became of it while it was gone
        life.adopt(now, &fresh.terms);
        let alert = Alert { labels: fresh.alert.labels, ended_at: None, ..self.alert };
        Entry { alert, life, has_fired: true, remediation: self.remediation, ..fresh }
    }

    /// What the others hear of a change: nothing of shadow alerts, and no end of what they never heard the beginning.
    pub(super) fn telling(&mut self, kind: AlertChangeKind) -> Option<AlertChangeKind> {
        if self.kind == Kind::Shadow {
            return None;
        }
        match kind {
            AlertChangeKind::Fired | AlertChangeKind::Relapsed => {
                let known = std::mem::replace(&mut self.told, true);
                Some(if known { kind } else { AlertChangeKind::Fired })
            }
            AlertChangeKind::EpisodeOver | AlertChangeKind::Ended => {
                std::mem::replace(&mut self.told, false).then_some(kind)
            }
            AlertChangeKind::SeverityChanged { .. }
            | AlertChangeKind::Relabelled
            | AlertChangeKind::DataLost
            | AlertChangeKind::DataBack
            | AlertChangeKind::Resolved => self.told.then_some(kind),
        }
    }

    pub(super) fn view(&self) -> AlertView {
        let state = match self.life.stage() {
            _ if self.unwatched.is_some() => AlertStateWord::Ended,
            Stage::Pending { .. } => AlertStateWord::Pending,
            Stage::Firing { .. } => AlertStateWord::Firing,
            Stage::Cooling { .. } if self.life.is_pending() => AlertStateWord::Pending,
            Stage::Cooling { .. } | Stage::Quiet => AlertStateWord::Resolved,
        };
        AlertView {
            id: self.alert.key.id(),
            alert: self.alert.key.rule.to_string(),
            labels: self.alert.labels.clone(),
            state,
            suppressed: self.suppressed().map(Into::into),
            held: self.held_now().cloned().map(Box::new),
            severity: self.alert.severity,
            value: self.alert.value,
            summary: self.alert.summary.clone(),
            annotations: self.alert.annotations.clone(),
            started_at: self.alert.started_at,
            fired_at: self.has_fired.then_some(self.alert.fired_at),
            ended_at: self.alert.ended_at,
            relapse: self.alert.relapse,
            without_data: self.alert.without_data,
            error: self.error.clone(),
            generator_url: self.alert.generator_url.clone(),
            remediation: self.remediation.clone(),
        }
    }

    fn held_now(&self) -> Option<&HeldView> {
        self.held.as_ref().filter(|_| self.alert.firing && self.kind != Kind::Shadow)
    }

    /// Why people are not told of it, or not told again.
    fn suppressed(&self) -> Option<&'static str> {
        if self.kind == Kind::Shadow {
            return Some("shadow");
        }
        let held = self.held_now()?;
        let reasons = [
            (!held.silenced_by.is_empty(), "silence"),
            (held.inhibited, "inhibition"),
            (held.dependency.as_ref().is_some_and(DependencyView::mutes), "dependency"),
            (held.acknowledged.is_some(), "acknowledgement"),
        ];
        reasons.into_iter().find_map(|(holds, word)| holds.then_some(word))
    }

    /// The view, if it is to be shown now. Remembers that it was.
    pub(super) fn view_if_changed(&mut self, now: Timestamp) -> Option<AlertView> {
        let view = self.view();
        if let Some((at, shown)) = &self.shown {
            if *shown == view {
                return None;
            }
            let mut figures = shown.clone();
            figures.value = view.value;
            figures.summary.clone_from(&view.summary);
            figures.annotations = view.annotations.clone();
            if figures == view && now < *at + FIGURES_EVERY {
                return None;
            }
        }
        self.shown = Some((now, view.clone()));
        Some(view)
    }

    /// The figures moved since they were last shown, long enough ago, and there is something to render it from.
    pub(super) fn wants_new_figures(&self, now: Timestamp) -> bool {
        let has_data = !self.alert.without_data && self.error.is_none();
        has_data && self.stale_since().is_some_and(|at| now >= at + FIGURES_EVERY)
    }

    /// When its next moment comes: its life moves, or newer figures may be shown.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let figures = self.stale_since().map(|at| at + FIGURES_EVERY);
        let moves = if self.blind_since.is_some() { None } else { self.life.deadline(&self.terms) };
        moves.into_iter().chain(figures).min()
    }

    /// When what is shown now was shown, if its figures are no longer right.
    fn stale_since(&self) -> Option<Timestamp> {
        let (at, shown) = self.shown.as_ref()?;
        let alert = &self.alert;
        let is_right =
            shown.value == alert.value && shown.summary == alert.summary && shown.annotations == alert.annotations;
        (!is_right).then_some(*at)
    }
}

fn sight_of(seen: &LevelAnswer, blind: bool) -> Sight {
    Sight { when: seen.when.clone(), clear: seen.clear.clone(), blind }
}

/// The first failure among a rule's scripts.
pub(super) fn error_of(answer: &RuleAnswer) -> Option<String> {
    answer.levels.iter().flat_map(|level| [&level.when, &level.clear]).find_map(|truth| match truth {
        Truth::Error(why) => Some(why.to_string()),
        Truth::True | Truth::False | Truth::NoData => None,
    })
}

pub(super) fn terms_of(rule: &Rule) -> Terms {
    let timing =
        |level: &selfheal_policy::rule::Level| Timing { for_: level.for_, keep_firing_for: level.keep_firing_for };
    let levels: BTreeMap<_, _> = rule.levels.iter().map(|level| (level.severity, timing(level))).collect();
    let on_no_data = match rule.no_data {
        NoData::Resolve => OnNoData::Resolve,
        NoData::Keep | NoData::Alert => OnNoData::Keep,
    };
    Terms { levels, cooldown: rule.cooldown, on_no_data }
}

pub(super) fn is_listed(policy: &Policy, key: &AlertKey) -> bool {
    key.deployment().is_some_and(|id| policy.deployments.contains_key(&id))
}

/// The deployment's labels, the rule's over them, and what identifies the alert over both.
pub(super) fn base_labels(policy: &Policy, key: &AlertKey, rule: Option<&Rule>) -> Labels {
    let deployment = key.deployment().and_then(|id| policy.deployments.get(&id)).map(|it| it.labels.clone());
    let rules = rule.map(|rule| rule.labels.clone());
    deployment
        .unwrap_or_default()
        .with(&rules.unwrap_or_default())
        .with(&key.scope)
        .with_label("alertname", key.rule.as_str())
}
