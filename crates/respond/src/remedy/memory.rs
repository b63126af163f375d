//! What the guards remember besides what each deployment's place has: budgets of playbooks, breakers, cures, storms,
//! who is sick since when, and what people have taken out of automatic repair.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smol_str::SmolStr;

use crate::guard::{Breaker, SensorSituation, StormWatch};
use selfheal_model::{AlertKey, DeploymentId, PlaybookName, Selector, Timestamp};

/// Instants kept of one playbook or alert: a limit beyond so many is none.
const MAX_COUNTED: usize = 1_000;
/// Alerts whose cures are remembered; beyond so many the one cured longest ago is forgotten.
const MAX_CURED_ALERTS: usize = 20_000;

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Memory {
    pub storm: StormWatch<AlertKey>,
    /// When it was last looked at whether there is one: once an instant is enough.
    pub storm_judged_at: Option<Timestamp>,
    pub breakers: BTreeMap<PlaybookName, Breaker>,
    counted: BTreeMap<PlaybookName, VecDeque<Timestamp>>,
    cures: BTreeMap<AlertKey, VecDeque<(Timestamp, PlaybookName)>>,
    /// Deployments that look sick, since when.
    pub sick: BTreeMap<DeploymentId, Timestamp>,
    /// How that looks all together; `None`: to be counted anew.
    pub sensor: Option<SensorSituation>,
    /// People were told that the sensor is suspect, and it still is.
    pub sensor_told: bool,
    pub maintenance: BTreeMap<SmolStr, Maintenance>,
    pub maintenances_begun: u64,
}

/// Deployments that are not repaired for a while, by a person's word.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Maintenance {
    pub select: Selector,
    pub by: String,
    pub reason: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Memory {
    /// The maintenances that are not over.
    pub fn open(&self, now: Timestamp) -> impl Iterator<Item = (&SmolStr, &Maintenance)> {
        self.maintenance.iter().filter(move |(_, one)| now < one.until)
    }

    /// A run of this playbook counts in its budget.
    pub fn count(&mut self, playbook: &PlaybookName, now: Timestamp) {
        push_bounded(self.counted.entry(playbook.clone()).or_default(), now);
    }

    pub fn counted(&self, playbook: &PlaybookName) -> Vec<Timestamp> {
        self.counted.get(playbook).into_iter().flatten().copied().collect()
    }

    pub fn cured(&mut self, key: &AlertKey, playbook: &PlaybookName, now: Timestamp, within: Duration) {
        let cures = self.cures.entry(key.clone()).or_default();
        push_bounded(cures, (now, playbook.clone()));
        while cures.front().is_some_and(|(at, _)| *at + within <= now) {
            cures.pop_front();
        }
        if self.cures.len() > MAX_CURED_ALERTS {
            let oldest = self.cures.iter().min_by_key(|(_, cures)| cures.back().map(|(at, _)| *at));
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.cures.remove(&key);
            }
        }
    }

    /// When this playbook has cured this alert.
    pub fn cures(&self, key: &AlertKey, playbook: &PlaybookName) -> Vec<Timestamp> {
        let cures = self.cures.get(key).into_iter().flatten();
        cures.filter(|(_, name)| name == playbook).map(|(at, _)| *at).collect()
    }
}

pub(super) fn push_bounded<T>(instants: &mut VecDeque<T>, one: T) {
    instants.push_back(one);
    if instants.len() > MAX_COUNTED {
        instants.pop_front();
    }
}
