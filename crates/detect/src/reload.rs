//! A new policy over the old state: series, verdicts and answers stay; only what changed is asked again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::plan::Plan;
use super::scopes::{Kept, RuleState};
use super::store::NO_PLACE;
use super::subject::Subject;
use super::{Detect, Dirty, Due};
use selfheal_contract::effect::Effect;
use selfheal_messages::ToRespond;
use selfheal_model::{DeploymentId, Labels, RuleName, Timestamp};
use selfheal_policy::Policy;

impl Detect {
    /// Takes over a policy; says which scopes are gone, and what has to be asked again.
    pub(super) fn follow(
        &mut self,
        now: Timestamp,
        policy: Arc<Policy>,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) -> Dirty {
        self.policy = policy;
        self.world.plan = Plan::of(&self.policy);
        let mut dirty = Dirty { all_watches: true, ..Dirty::default() };
        let changed = self.follow_deployments(now, &mut dirty, out, effects);
        self.follow_rules(now, &changed, &mut dirty, out);
        dirty
    }

    /// Deployments that are something else than before.
    fn follow_deployments(
        &mut self,
        now: Timestamp,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) -> BTreeSet<DeploymentId> {
        let policy = self.policy.clone();
        let dropped = |subject: &&Subject| subject.listed.is_some() && !policy.deployments.contains_key(&subject.id);
        let dropped: Vec<_> = self.subjects.values().filter(dropped).map(|subject| subject.id.clone()).collect();
        for id in dropped {
            self.forget(&id, dirty, out, effects);
        }
        let mut changed = BTreeSet::new();
        for number in self.subjects.numbers() {
            let Some(subject) = self.subjects.at_mut(number) else { continue };
            if subject.follow(&policy, now) {
                changed.insert(subject.id.clone());
            }
            subject.series.follow(|metric| self.world.plan.metric(metric), now);
        }
        for id in policy.deployments.keys() {
            if !self.subjects.contains(id) {
                self.subjects.insert(Subject::new(id, &policy, now));
                changed.insert(id.clone());
            }
            self.timers.clear(&Due::Forget(id.clone()));
        }
        for id in &changed {
            self.tell_health(now, id, out);
        }
        changed
    }

    fn follow_rules(
        &mut self,
        now: Timestamp,
        changed: &BTreeSet<DeploymentId>,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let policy = self.policy.clone();
        let quick: BTreeSet<RuleName> = self.world.plan.quick.iter().map(|rule| rule.name.clone()).collect();
        let mut before = std::mem::take(&mut self.rules);
        let mut edited = BTreeSet::new();
        for (name, rule) in &policy.rules {
            let old = before.remove(name);
            let since = old.as_ref().map_or(now, |old| old.since);
            let mut state = RuleState::new(rule.clone(), since);
            let is_edited = old.as_ref().is_none_or(|old| old.rule.hash != rule.hash);
            match &old {
                Some(old) if !is_edited => state.budget = old.budget.clone(),
                Some(old) if old.budget.is_slow() => out.push_back(ToRespond::Slow { rule: name.clone(), why: None }),
                _ => {}
            }
            if is_edited {
                edited.insert(name.clone());
            }
            let follow = Follow { name, changed, is_edited, is_quick: quick.contains(name) };
            if state.is_per_deployment() {
                self.follow_per_deployment(&follow, &mut state, old.as_ref(), dirty, out);
            } else {
                self.follow_listed(&follow, &mut state, old.as_ref(), dirty, out);
            }
            self.rules.insert(name.clone(), state);
        }
        for (name, old) in before {
            for (scope, told) in old.kept().into_iter().map(|(scope, kept)| (scope, kept.told)).collect::<Vec<_>>() {
                self.scope_gone(&name, scope, told, dirty, out);
            }
        }
        self.follow_metrics(now, changed, &edited, dirty);
    }

    /// A rule with one scope for each deployment: only what was said is carried over, and a quick rule is asked where
    /// its metrics are.
    fn follow_per_deployment(
        &mut self,
        follow: &Follow<'_>,
        state: &mut RuleState,
        old: Option<&RuleState>,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let Follow { name, changed, is_edited, is_quick } = *follow;
        let relabelled = old.is_some_and(|old| old.rule.labels != state.rule.labels);
        let mut said: BTreeMap<Labels, Kept> = BTreeMap::new();
        for (scope, kept) in old.map(RuleState::kept).unwrap_or_default() {
            if state.scope(&scope, &self.subjects).is_none() {
                self.scope_gone(name, scope, kept.told, dirty, out);
                continue;
            }
            if let Some(own) = state.kept_mut(&scope) {
                *own = kept.clone();
            }
            said.insert(scope, kept.clone());
        }
        for (scope, kept) in &said {
            let key = (name.clone(), scope.clone());
            let moved = scope.get("deployment").is_some_and(|id| changed.contains(&DeploymentId::new(id)));
            if is_edited && kept.told {
                dirty.anew.insert(key);
            } else if is_edited || moved || relabelled {
                dirty.scopes.insert(key);
            }
            state.tidy(scope);
        }
        if !is_edited && changed.is_empty() {
            return;
        }
        // that a quick rule has nothing to say where nothing came was found with the policy's settings
        let may_speak = |subject: &Subject| !is_quick || subject.has_own_settings(&self.policy);
        let concerned = |subject: &&Subject| (is_edited || changed.contains(&subject.id)) && may_speak(subject);
        let scopes = self.subjects.values().filter(concerned).flat_map(|subject| state.of(subject));
        let unheard = scopes.filter(|scope| !said.contains_key(scope));
        dirty.scopes.extend(unheard.map(|scope| (name.clone(), scope)));
    }

    fn follow_listed(
        &mut self,
        follow: &Follow<'_>,
        state: &mut RuleState,
        old: Option<&RuleState>,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let Follow { name, changed, is_edited, .. } = *follow;
        for subject in self.subjects.values() {
            match old {
                Some(old) => state.place_after(subject, old.scopes_of(&subject.id)),
                None => state.place(subject),
            };
        }
        let old_kept = old.map(RuleState::kept).unwrap_or_default();
        for (scope, kept) in &old_kept {
            if state.listed(scope).is_none() {
                self.scope_gone(name, scope.clone(), kept.told, dirty, out);
            }
        }
        let mut old_kept: BTreeMap<Labels, &Kept> = old_kept.into_iter().collect();
        for scope in state.names(&self.subjects) {
            let key = (name.clone(), scope.clone());
            let Some(kept) = old_kept.remove(&scope) else {
                dirty.scopes.insert(key);
                continue;
            };
            let same = match (old.and_then(|old| old.listed(&scope)), state.listed(&scope)) {
                (Some(old), Some(own)) => {
                    let touched = own.members.iter().any(|id| changed.contains(id));
                    old.members == own.members && old.labels == own.labels && !touched
                }
                _ => false,
            };
            if let Some(own) = state.kept_mut(&scope) {
                *own = kept.clone();
            }
            if is_edited && kept.told {
                dirty.anew.insert(key);
            } else if is_edited || !same {
                dirty.scopes.insert(key);
            }
        }
    }

    /// Quick rules are asked about what they read where they, or the deployment, are something else than before.
    fn follow_metrics(
        &mut self,
        now: Timestamp,
        changed: &BTreeSet<DeploymentId>,
        edited: &BTreeSet<RuleName>,
        dirty: &mut Dirty,
    ) {
        for number in self.subjects.numbers() {
            let Some(subject) = self.subjects.at_mut(number) else { continue };
            subject.loud.clear();
            let is_changed = changed.contains(&subject.id);
            let mut places = Vec::new();
            for (place, _, metric) in subject.series.metrics() {
                places.push(place);
                let rules = metric.plan.quick.iter().filter(|rule| {
                    let rule = self.world.plan.quick.get(**rule as usize);
                    rule.is_some_and(|rule| is_changed || edited.contains(&rule.name))
                });
                dirty.quick.extend(rules.map(|rule| (*rule, number, NO_PLACE)));
            }
            for place in places {
                self.arm(now, number, place);
            }
        }
        let loud: Vec<(RuleName, Labels)> = self
            .rules
            .iter()
            .filter(|(_, state)| state.is_per_deployment())
            .flat_map(|(name, state)| state.kept().into_iter().map(move |(scope, kept)| (name, scope, kept)))
            .filter(|(_, _, kept)| kept.said.is_some())
            .map(|(name, scope, _)| (name.clone(), scope))
            .collect();
        for (name, scope) in loud {
            self.note_loudness(&name, &scope, true);
        }
    }
}

/// What is to be known when one rule follows a new policy.
struct Follow<'f> {
    name: &'f RuleName,
    changed: &'f BTreeSet<DeploymentId>,
    /// It is new or decides otherwise.
    is_edited: bool,
    is_quick: bool,
}
