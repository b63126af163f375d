//! All entries, found by key, and the firing ones by deployment.
//!
//! Invariant: whether an entry fires, and whose it is, changes only while it is taken out.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Kind};
use selfheal_model::{AlertKey, DeploymentId, Labels, RuleName};

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Entries {
    by_key: BTreeMap<AlertKey, Entry>,
    /// Shadow ones are not among them.
    firing: BTreeMap<DeploymentId, BTreeSet<AlertKey>>,
}

fn counts(entry: &Entry) -> bool {
    entry.kind != Kind::Shadow && entry.alert.firing
}

impl FromIterator<(AlertKey, Entry)> for Entries {
    fn from_iter<I: IntoIterator<Item = (AlertKey, Entry)>>(entries: I) -> Self {
        let mut all = Entries::default();
        entries.into_iter().for_each(|(key, entry)| all.insert(key, entry));
        all
    }
}

impl Entries {
    pub fn insert(&mut self, key: AlertKey, entry: Entry) {
        if let Some(deployment) = entry.alert.deployment.as_ref().filter(|_| counts(&entry)) {
            self.firing.entry(deployment.clone()).or_default().insert(key.clone());
        }
        self.by_key.insert(key, entry);
    }

    pub fn remove(&mut self, key: &AlertKey) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        if let Some(deployment) = &entry.alert.deployment
            && let Some(keys) = self.firing.get_mut(deployment)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.firing.remove(deployment);
            }
        }
        Some(entry)
    }

    pub fn get(&self, key: &AlertKey) -> Option<&Entry> {
        self.by_key.get(key)
    }

    /// For everything but what the invariant names.
    pub fn get_mut(&mut self, key: &AlertKey) -> Option<&mut Entry> {
        self.by_key.get_mut(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &AlertKey> {
        self.by_key.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &Entry> {
        self.by_key.values()
    }

    /// The firing ones of one deployment, in order of key.
    pub fn firing_on(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Entry> {
        self.firing.get(deployment).into_iter().flatten().filter_map(|key| self.by_key.get(key))
    }

    /// The firing ones of one rule, in order of key.
    pub fn firing_of<'a>(&'a self, rule: &'a RuleName) -> impl Iterator<Item = &'a Entry> {
        let from = AlertKey { rule: rule.clone(), scope: Labels::default() };
        let of_rule = self.by_key.range(from..).take_while(move |(key, _)| key.rule == *rule);
        of_rule.map(|(_, entry)| entry).filter(|entry| counts(entry))
    }
}
