//! Rules' answers: asked, compared with what was said before, and told where that matters.

use std::collections::VecDeque;

use super::budget::{OPERATIONS_A_SECOND, Pace, SLOW_EVERY, Turn};
use super::evidence::{Reader, Seen as Noted};
use super::scopes::{RuleState, Said, Seen};
use super::{Because, Detect, Due};
use selfheal_messages::{LevelAnswer, RuleAnswer, ToRespond};
use selfheal_model::units::format_duration;
use selfheal_model::{AlertKey, DeploymentId, Labels, RuleName, Timestamp};
use selfheal_script::{Condition, Truth, Vars};

/// What a rule came to for one scope.
pub(super) struct Answered {
    pub levels: Vec<LevelAnswer>,
    pub value: Option<f64>,
    pub seen: Noted,
}

impl Detect {
    /// Asks a rule about a scope now, with nothing up to `cut` seen.
    pub(super) fn ask_rule(
        &self,
        now: Timestamp,
        state: &RuleState,
        name: &Labels,
        scope: Seen<'_>,
        cut: Option<Timestamp>,
    ) -> Answered {
        let rule = &state.rule;
        let Seen { members, labels, .. } = scope;
        let own = name.get("deployment").and_then(|id| self.subjects.of_label(id));
        let settings = own.map_or_else(|| self.policy.settings.clone(), |subject| subject.settings.clone());
        let reader = Reader {
            now,
            cut,
            world: &self.world,
            members,
            scope: name,
            labels: &labels,
            viewer: Some(&rule.name),
            rule_since: state.since,
            seen: Noted::nothing(),
        };
        let mut vars = Vars {
            now,
            deployment: name.get("deployment").map(Into::into),
            labels: labels.clone(),
            settings,
            ..Vars::default()
        };
        let value = rule.value.as_ref().map_or(Ok(None), |value| value.number(&vars, &reader));
        vars.value = value.as_ref().ok().copied().flatten();
        let levels = rule
            .levels
            .iter()
            .map(|level| {
                vars.severity = Some(level.severity);
                let ask = |condition: &Condition| explained(condition.truth(&vars, &reader), &value);
                let when = ask(&level.when);
                let clear = level.clear_when.as_ref().map_or_else(|| contrary(&when), ask);
                LevelAnswer { when, clear }
            })
            .collect();
        Answered { levels, value: vars.value, seen: reader.seen }
    }

    /// Asks a rule about a scope, says what changed, and knows when to ask again.
    pub(super) fn evaluate(
        &mut self,
        now: Timestamp,
        rule: &RuleName,
        name: &Labels,
        because: Because,
        tell_anyway: bool,
        out: &mut VecDeque<ToRespond>,
    ) {
        let due = Due::Ask(rule.clone(), name.clone());
        // what a new text of the rule says is wanted at once
        if !tell_anyway && let Some(Turn::At(later)) = self.rules.get_mut(rule).map(|state| state.budget.ask(now)) {
            return self.timers.set(due, later);
        }
        self.advance_windows(now, rule, name);
        let asked = self.rules.get(rule).and_then(|state| {
            let scope = state.scope(name, &self.subjects)?;
            Some(self.ask_rule(now, state, name, scope, None))
        });
        let Some(Answered { levels, value, seen }) = asked else { return self.timers.clear(&due) };
        match seen.next() {
            Some(next) => self.timers.set(due.clone(), next),
            None => self.timers.clear(&due),
        }
        self.spend(now, rule, seen.operations(), out);
        let loud = levels.iter().any(|level| matches!(level.when, Truth::True | Truth::Error(_)));
        let Some(state) = self.rules.get_mut(rule) else { return };
        let rule_hash = state.rule.hash;
        let Some(scope) = state.kept_mut(name) else { return };
        let before = scope.said.take();
        if before.is_none() && !loud && !(tell_anyway && scope.told) {
            return state.tidy(name);
        }
        let made_by_time = made_by_time(&levels, before.as_deref(), because, now);
        // no data proves nothing either, while it could only have come unseen
        let unseen_until = seen.unseen_until().filter(|_| levels.iter().any(|level| level.when == Truth::NoData));
        let blind = seen.is_blind() || unseen_until.is_some();
        let said = Said { levels, value, made_by_time, blind };
        let is_other =
            |before: &Said| before.levels != said.levels || before.value != said.value || before.blind != said.blind;
        let changed = before.as_deref().is_none_or(is_other);
        if changed || tell_anyway {
            scope.told = true;
            out.push_back(ToRespond::Rule(RuleAnswer {
                key: AlertKey { rule: rule.clone(), scope: name.clone() },
                at: now,
                rule_hash,
                levels: said.levels.clone(),
                value: said.value,
                evidence: evidence(&seen, said.made_by_time, now),
                blind: said.blind,
            }));
        }
        // hysteresis: until every level is known to be clear there may be an alert that waits for it
        let clear = !loud && said.levels.iter().all(|level| level.clear.is_true());
        scope.said = (!clear).then(|| Box::new(said));
        state.tidy(name);
        if let Some(until) = unseen_until {
            self.timers.set(due, seen.next().map_or(until, |next| next.min(until)));
        }
        if state.is_per_deployment() {
            self.note_loudness(rule, name, !clear);
        }
    }

    /// Counts what asking a rule took, and slows it down where that is too much.
    fn spend(&mut self, now: Timestamp, rule: &RuleName, operations: u64, out: &mut VecDeque<ToRespond>) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        if state.budget.spend(operations, now) == Pace::Slow {
            let why = format!(
                "{rule} costs too much: over {OPERATIONS_A_SECOND} operations in a second, the last evaluation {operations}. It is \
                 asked every {} only, until it costs less",
                format_duration(SLOW_EVERY)
            );
            self.timers.set(Due::Beat(rule.clone()), now + SLOW_EVERY);
            out.push_back(ToRespond::Slow { rule: rule.clone(), why: Some(why) });
        }
    }

    /// What waits for the end of a rule's slow beat is asked at this very instant; perhaps another begins.
    pub(super) fn beat_ended(&mut self, now: Timestamp, rule: &RuleName, out: &mut VecDeque<ToRespond>) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        match state.budget.beat_ended(now) {
            Some(true) => self.timers.set(Due::Beat(rule.clone()), now + SLOW_EVERY),
            Some(false) => out.push_back(ToRespond::Slow { rule: rule.clone(), why: None }),
            None => {}
        }
    }

    /// Whether the rule is quiet about the deployment of this scope, for [`Detect::sift`].
    pub(super) fn note_loudness(&mut self, rule: &RuleName, scope: &Labels, loud: bool) {
        let id = scope.get("deployment").map(DeploymentId::new);
        let Some(subject) = id.and_then(|id| self.subjects.get_mut(&id)) else { return };
        if loud {
            subject.loud.insert(rule.clone());
        } else {
            subject.loud.remove(rule);
        }
    }

    /// Moves the windows that the rule reads on to `now`, so that their figures count.
    fn advance_windows(&mut self, now: Timestamp, rule: &RuleName, name: &Labels) {
        let Some(state) = self.rules.get(rule) else { return };
        let members: Vec<DeploymentId> = match state.scope(name, &self.subjects) {
            Some(scope) => scope.members.iter().map(|subject| subject.id.clone()).collect(),
            None => return,
        };
        for id in members {
            let Some(subject) = self.subjects.get_mut(&id) else { continue };
            for query in state.metrics() {
                let place = subject.series.place(&query.name);
                if let Some(metric) = place.and_then(|place| subject.series.at_mut(place)) {
                    metric.advance(now);
                }
            }
        }
    }
}

/// When passing time alone made a level true that was not before.
fn made_by_time(levels: &[LevelAnswer], before: Option<&Said>, because: Because, now: Timestamp) -> Option<Timestamp> {
    let was_true =
        |index: usize| before.is_some_and(|said| said.levels.get(index).is_some_and(|level| level.when.is_true()));
    let is_true = |(_, level): &(usize, &LevelAnswer)| level.when.is_true();
    let mut now_true = levels.iter().enumerate().filter(is_true).peekable();
    now_true.peek()?;
    if now_true.any(|(index, _)| !was_true(index)) {
        (because == Because::Time).then_some(now)
    } else {
        before.and_then(|said| said.made_by_time)
    }
}

/// The instant an answer rests on. What reads nothing is as new as can be.
pub(super) fn evidence(seen: &Noted, made_by_time: Option<Timestamp>, now: Timestamp) -> Timestamp {
    seen.newest().max(made_by_time).unwrap_or(now)
}

fn contrary(truth: &Truth) -> Truth {
    match truth {
        Truth::True => Truth::False,
        Truth::False => Truth::True,
        Truth::NoData | Truth::Error(_) => truth.clone(),
    }
}

/// No data because the value's script failed is that failure.
fn explained(truth: Truth, value: &Result<Option<f64>, String>) -> Truth {
    match (truth, value) {
        (Truth::NoData, Err(why)) => Truth::Error(why.into()),
        (truth, _) => truth,
    }
}
