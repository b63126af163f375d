//! The judging half as bytes and back.
//!
//! What belongs to a policy is saved by name: a run's playbook is taken from the policy the run is pinned to, a
//! receiver from the live one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::Judge;
use super::alerts::Alerts;
use super::dependents::Dependents;
use super::dispatch::Dispatch;
use super::held::Held;
use super::queries::Queries;
use super::remedy::Remedy;
use super::turn::Turn;
use selfheal_contract::effect::Effect;
use selfheal_contract::saved::RestoreError;
use selfheal_messages::WatchId;
use selfheal_model::Timestamp;
use selfheal_policy::{Policy, PolicyOf};
use selfheal_script::Condition;

#[derive(Serialize)]
pub struct Saving<'a> {
    alerts: &'a Alerts,
    held: &'a Held,
    remedy: &'a Remedy,
    dependents: &'a Dependents,
    dispatch: &'a Dispatch,
    queries: &'a Queries,
}

#[derive(Deserialize)]
pub struct Saved {
    alerts: Alerts,
    #[serde(default)]
    held: Held,
    remedy: Remedy,
    #[serde(default)]
    dependents: Dependents,
    dispatch: Dispatch,
    #[serde(default)]
    queries: Queries,
}

impl Judge {
    pub fn saving(&self) -> Saving<'_> {
        Saving {
            alerts: &self.alerts,
            held: &self.held,
            remedy: &self.remedy,
            dependents: &self.dependents,
            dispatch: &self.dispatch,
            queries: &self.queries,
        }
    }

    /// # Errors
    /// A run that has not ended is pinned to a policy that is not kept.
    pub fn restored(saved: Saved, live: Arc<Policy>, policy_of: &mut PolicyOf<'_>) -> Result<Self, RestoreError> {
        let Saved { alerts, mut held, mut remedy, mut dependents, mut dispatch, mut queries } = saved;
        held.relink(&live);
        remedy.relink(policy_of)?;
        dependents.relink(&live);
        dispatch.relink(&live);
        queries.adopt(remedy.open_watches());
        Ok(Judge { policy: live, alerts, held, remedy, dependents, dispatch, queries })
    }

    /// Of the policies that runs are pinned to and still need.
    pub fn policy_versions(&self) -> BTreeSet<SmolStr> {
        self.remedy.policy_versions()
    }

    /// The conditions of the open watches, as the playbooks of their runs have them: what detect needs to go on with its
    /// watches after a restart.
    pub fn watched_conditions(&self) -> BTreeMap<WatchId, Condition> {
        let condition = |id: &WatchId| Some((id.clone(), self.remedy.watched_condition(id)?));
        self.queries.watches().filter_map(condition).collect()
    }

    /// Delivery attempts and probes under way, and everything there is to show.
    pub fn outstanding(&self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut turn = Turn::new(now, self.policy.clone(), &mut effects);
        self.alerts.show_all(&mut turn);
        self.held.show_silences(&mut turn);
        self.remedy.show_all(&mut turn);
        self.dispatch.release_again(&mut turn);
        effects
    }
}
