//! Rules' answers: asked, compared with what was said before, and told where that matters.

use std::collections::VecDeque;

use super::evidence::{Reader, Seen};
use super::scopes::{RuleState, Said, Scope};
use super::{Because, Detect, Due};
use crate::engine::message::{LevelAnswer, RuleAnswer, ToJudge};
use crate::model::{AlertKey, Labels, RuleName, Timestamp};
use crate::script::{Condition, Truth, Vars};

/// What a rule came to for one scope.
pub(super) struct Answered {
    pub levels: Vec<LevelAnswer>,
    pub value: Option<f64>,
    pub seen: Seen,
}

impl Detect {
    /// Asks a rule about a scope now, with nothing up to `cut` seen.
    pub(super) fn ask_rule(
        &self,
        now: Timestamp,
        state: &RuleState,
        name: &Labels,
        scope: &Scope,
        cut: Option<Timestamp>,
    ) -> Answered {
        let rule = &state.rule;
        let members: Vec<_> = scope.members.iter().filter_map(|id| self.subjects.get(id)).collect();
        let own = name.get("deployment").and_then(|id| self.subjects.get(id));
        let settings = own.map_or_else(|| self.policy.settings.clone(), |subject| subject.settings.clone());
        let reader = Reader {
            now,
            cut,
            world: &self.world,
            members,
            scope: name,
            labels: &scope.labels,
            viewer: Some(&rule.name),
            rule_since: state.since,
            seen: Seen::nothing(),
        };
        let mut vars = Vars {
            now,
            deployment: name.get("deployment").map(Into::into),
            labels: scope.labels.clone(),
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
        out: &mut VecDeque<ToJudge>,
    ) {
        let due = Due::Ask(rule.clone(), name.clone());
        let asked = self
            .rules
            .get(rule)
            .and_then(|state| state.scopes.get(name).map(|scope| self.ask_rule(now, state, name, scope, None)));
        let Some(Answered { levels, value, seen }) = asked else { return self.timers.clear(&due) };
        match seen.next() {
            Some(next) => self.timers.set(due, next),
            None => self.timers.clear(&due),
        }
        let Some(scope) = self.rules.get_mut(rule).and_then(|state| state.scopes.get_mut(name)) else { return };
        let before = scope.said.take();
        let loud = levels.iter().any(|level| matches!(level.when, Truth::True | Truth::Error(_)));
        if before.is_none() && !loud && !(tell_anyway && scope.told) {
            return;
        }
        let made_by_time = made_by_time(&levels, before.as_deref(), because, now);
        let said = Said { levels, value, made_by_time };
        let changed = before.as_deref().is_none_or(|before| before.levels != said.levels || before.value != said.value);
        if changed || tell_anyway {
            scope.told = true;
            out.push_back(ToJudge::Answer(RuleAnswer {
                key: AlertKey { rule: rule.clone(), scope: name.clone() },
                at: now,
                levels: said.levels.clone(),
                value: said.value,
                evidence: evidence(&seen, said.made_by_time, now),
            }));
        }
        // hysteresis: until every level is known to be clear there may be an alert that waits for it
        let clear = !loud && said.levels.iter().all(|level| level.clear.is_true());
        scope.said = (!clear).then(|| Box::new(said));
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
pub(super) fn evidence(seen: &Seen, made_by_time: Option<Timestamp>, now: Timestamp) -> Timestamp {
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
