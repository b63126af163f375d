//! Why something happened, and why it did not: for one rule and one scope, all that was looked at, as it is now.
//!
//! Invariant: nothing is changed by asking, and what is shown is what decides: the same conditions, guards and state.

use crate::Engine;
use selfheal_contract::explanation::Explanation;
use selfheal_detect::explain::Scope;
use selfheal_model::{AlertKey, DeploymentId, Labels, RuleName};

impl Engine {
    /// The alert with this short id, if it is known.
    pub fn alert_of(&self, id: &str) -> Option<AlertKey> {
        self.judge.alerts().key_of(id)
    }

    /// The alerts of that name; where there is none, what a rule of it has for its one scope.
    pub fn alerts_named(&self, name: &str) -> Vec<AlertKey> {
        let alerts: Vec<AlertKey> = self.judge.alerts().keys_named(name).cloned().collect();
        let fleet = || {
            let rule = self.policy.rules.get(&RuleName::from(name)).filter(|rule| rule.per.is_empty())?;
            Some(AlertKey { rule: rule.name.clone(), scope: Labels::default() })
        };
        if alerts.is_empty() { fleet().into_iter().collect() } else { alerts }
    }

    /// What the rule says of one deployment: the scope of its own, or the one that its labels are in.
    pub fn scope_of(&self, rule: &RuleName, deployment: &DeploymentId) -> Option<AlertKey> {
        let labels = self.policy.deployments.get(deployment).map(|one| one.labels.clone()).unwrap_or_default();
        self.scope_among(rule, &labels.with_label("deployment", deployment.as_str()))
    }

    /// The scope of the rule that what has these labels is in.
    pub fn scope_among(&self, rule: &RuleName, labels: &Labels) -> Option<AlertKey> {
        let rule = self.policy.rules.get(rule)?;
        let scope = rule.per.iter().filter_map(|name| Some((name.as_str(), labels.get(name)?))).collect();
        Some(AlertKey { rule: rule.name.clone(), scope })
    }

    /// All that was looked at for one rule and scope. `None`: there is no such rule, nor an alert of that name.
    pub fn explain(&self, key: &AlertKey) -> Option<Explanation> {
        let mut explained = Explanation {
            rule: key.rule.clone(),
            scope: key.scope.clone(),
            at: self.now,
            source: None,
            because: Vec::new(),
            levels: Vec::new(),
            reads: Vec::new(),
            value: None,
            alert: self.judge.alerts().view_of(key),
            timers: Vec::new(),
            ladder: None,
        };
        let rule = self.policy.rule_of(key);
        if rule.is_none() && explained.alert.is_none() {
            return None;
        }
        explained.source = rule.map(|rule| format!("{}:{}", rule.source.file, rule.source.line));
        if let Scope::Unknown(why) = self.detect.explain(key, &mut explained) {
            let own = explained.alert.as_ref().filter(|_| self.judge.alerts().is_own(key));
            explained.because.push(own.map_or(why, |view| format!("selfheal raises it itself: {}", view.summary)));
        }
        self.judge.explain(key, &mut explained);
        Some(explained)
    }
}
