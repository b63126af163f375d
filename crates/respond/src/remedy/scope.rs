//! What holds a ladder because of the deployments its alert is about, wherever its rung acts.
//!
//! An alert of one deployment is held by that one. Of an alert of several, what is said of one of them does not hold the
//! rest: a maintenance holds its ladder where it takes all of them, flapping checks where most of those flap that it reads.

use super::Remedy;
use super::fan::is_in;
use super::guards::labels_of;
use super::state::Run;
use crate::alerts::Alerts;
use crate::guard::FlappingCheck;
use selfheal_messages::DeploymentHealth;
use selfheal_model::{AlertKey, CheckName, Deployment, DeploymentId, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::rule::Rule;

/// The listed deployments an alert of several is about. All labels of one from elsewhere are its name, and say of none.
fn members<'p>(policy: &'p Policy, key: &'p AlertKey) -> impl Iterator<Item = &'p Deployment> {
    let all = policy.deployments.values().filter(|_| !key.is_posted());
    all.map(|one| &**one).filter(|one| is_in(&key.scope, &labels_of(one)))
}

/// Whether any condition of the rule asks about this check.
fn reads(rule: &Rule, check: &CheckName) -> bool {
    let conditions = rule.levels.iter().flat_map(|level| std::iter::once(&level.when).chain(&level.clear_when));
    conditions.chain(&rule.value).any(|condition| condition.reads_check(check.as_str()))
}

/// A check of the deployment that the rule reads and that flaps.
fn flapping_on(rule: &Rule, health: &DeploymentHealth) -> Option<FlappingCheck> {
    let flapping = health.flapping.iter().find(|(check, _)| reads(rule, check));
    flapping.map(|(check, changes_percent)| FlappingCheck {
        deployment: health.deployment.clone(),
        check: check.clone(),
        changes_percent: *changes_percent,
    })
}

impl Remedy {
    /// The deployment an alert is about, where it is about one.
    pub(super) fn own_deployment(alerts: &Alerts, key: &AlertKey) -> Option<DeploymentId> {
        alerts.get(key).and_then(|alert| alert.deployment.clone()).or_else(|| key.deployment())
    }

    fn health_at(&self, id: &DeploymentId) -> Option<&DeploymentHealth> {
        self.places.get(id)?.health.as_ref()
    }

    /// A check that the rule of the run's alert reads and that flaps, so that what the alert says is worth nothing.
    pub(super) fn flapping(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        run: &Run,
        key: &AlertKey,
    ) -> Option<FlappingCheck> {
        let rule = policy.rule_of(key)?;
        if let Some(own) = Remedy::own_deployment(alerts, key) {
            return flapping_on(rule, self.health_at(&own)?);
        }
        if !self.places.any_flapping() {
            return None;
        }
        let (mut reading, mut flapping) = (0, Vec::new());
        for health in members(policy, key).filter_map(|one| self.health_at(&one.id)) {
            reading += usize::from(health.checks.iter().any(|(check, _)| reads(rule, check)));
            flapping.extend(flapping_on(rule, health));
        }
        // a target among them is held by its own checks, too
        let target = flapping.iter().position(|one| one.deployment == run.deployment);
        match target {
            Some(place) => Some(flapping.swap_remove(place)),
            None if flapping.len() * 2 > reading => flapping.into_iter().next(),
            None => None,
        }
    }

    /// Who has taken what an alert is about out of automatic repair, as a sentence goes on after "paused".
    pub(super) fn alert_maintained(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        key: &AlertKey,
        now: Timestamp,
    ) -> Option<(Option<DeploymentId>, String)> {
        self.memory.open(now).next()?;
        if let Some(own) = Remedy::own_deployment(alerts, key) {
            let who = self.maintained(policy, &own, now)?;
            return Some((Some(own.clone()), format!("for {own}, {who}")));
        }
        let mut whos = members(policy, key).map(|one| self.maintained(policy, &one.id, now));
        let first = whos.next()??;
        whos.all(|who| who.is_some()).then(|| (None, format!("for all that {key} is about, {first}")))
    }
}
