//! A new policy over the old state: series, verdicts and answers stay; only what changed is asked again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::plan::Plan;
use super::scopes::RuleState;
use super::subject::Subject;
use super::{Detect, Dirty, Due};
use crate::engine::effect::Effect;
use crate::engine::message::ToJudge;
use crate::model::{DeploymentId, Timestamp};
use crate::policy::Policy;

impl Detect {
    /// Takes over a policy; says which scopes are gone, and what has to be asked again.
    pub(super) fn follow(
        &mut self,
        now: Timestamp,
        policy: Arc<Policy>,
        out: &mut VecDeque<ToJudge>,
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
        out: &mut VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) -> BTreeSet<DeploymentId> {
        let policy = self.policy.clone();
        let dropped = |subject: &&Subject| subject.listed.is_some() && !policy.deployments.contains_key(&subject.id);
        let dropped: Vec<_> = self.subjects.values().filter(dropped).map(|subject| subject.id.clone()).collect();
        for id in dropped {
            self.forget(&id, dirty, out, effects);
        }
        let mut changed = BTreeSet::new();
        for subject in self.subjects.values_mut() {
            if subject.follow(&policy, now) {
                changed.insert(subject.id.clone());
            }
        }
        for id in policy.deployments.keys() {
            if !self.subjects.contains_key(id) {
                self.subjects.insert(id.clone(), Subject::new(id, &policy, now));
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
        out: &mut VecDeque<ToJudge>,
    ) {
        let policy = self.policy.clone();
        let mut before = std::mem::take(&mut self.rules);
        for (name, rule) in &policy.rules {
            let old = before.remove(name);
            let since = old.as_ref().map_or(now, |old| old.since);
            let mut state = RuleState::new(rule.clone(), since);
            for subject in self.subjects.values() {
                state.place(subject);
            }
            let edited = old.as_ref().is_none_or(|old| old.rule.hash != rule.hash);
            let mut old_scopes = old.map(|old| old.scopes).unwrap_or_default();
            for (scope, own) in &mut state.scopes {
                let key = (name.clone(), scope.clone());
                let Some(old) = old_scopes.remove(scope) else {
                    dirty.scopes.insert(key);
                    continue;
                };
                let moved = old.members != own.members || own.members.iter().any(|id| changed.contains(id));
                let told = old.told;
                own.said = old.said;
                own.told = told;
                if edited && told {
                    dirty.anew.insert(key);
                } else if edited || moved || old.labels != own.labels {
                    dirty.scopes.insert(key);
                }
            }
            for (scope, old) in old_scopes {
                self.scope_gone(name, scope, old.told, dirty, out);
            }
            self.rules.insert(name.clone(), state);
        }
        for (name, old) in before {
            for (scope, own) in old.scopes {
                self.scope_gone(&name, scope, own.told, dirty, out);
            }
        }
    }
}
