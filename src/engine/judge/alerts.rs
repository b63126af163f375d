//! Alerts: every answer that is not quiet has one, with its state, episode and texts.

use crate::alert::notification::RemediationFacts;
use crate::engine::message::{Reply, RuleAnswer};
use crate::engine::view::AlertView;
use crate::model::{AlertKey, DeploymentId, Labels, Severity, Timestamp};
use crate::policy::Diagnostic;

use super::turn::Turn;

/// All alerts that are not quiet.
pub struct Alerts {}

/// One alert as the other parts read it.
#[derive(Clone, Debug)]
pub struct Alert {
    pub key: AlertKey,
    /// `alertname`, `severity`, scope, the deployment's and the rule's labels.
    pub labels: Labels,
    pub deployment: Option<DeploymentId>,
    pub severity: Severity,
    pub firing: bool,
    /// Firing and its level's condition is true on data now (not by `keep_firing_for` or `no_data`).
    pub true_now: bool,
    pub value: Option<f64>,
    pub summary: String,
    pub annotations: Labels,
    pub started_at: Timestamp,
    pub fired_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub relapse: u32,
    pub without_data: bool,
    /// Newest evidence its last answer read.
    pub evidence: Timestamp,
}

impl Alerts {
    pub fn new(_start: Timestamp) -> Self {
        todo!()
    }
    pub fn next_deadline(&self) -> Option<Timestamp> {
        todo!()
    }
    pub fn fire(&mut self, _turn: &mut Turn<'_>) {
        todo!()
    }
    pub fn answer(&mut self, _turn: &mut Turn<'_>, _answer: RuleAnswer) {
        todo!()
    }
    pub fn scope_gone(&mut self, _turn: &mut Turn<'_>, _key: &AlertKey) {
        todo!()
    }
    pub fn texts(&mut self, _turn: &mut Turn<'_>, _key: &AlertKey, _replies: Vec<Reply>) {
        todo!()
    }
    /// Raises the built-in alert `PolicyInvalid`; the next good policy ends it.
    pub fn policy_invalid(&mut self, _turn: &mut Turn<'_>, _diagnostics: Vec<Diagnostic>) {
        todo!()
    }
    pub fn replace_policy(&mut self, _turn: &mut Turn<'_>) {
        todo!()
    }
    pub fn resumed(&mut self, _turn: &mut Turn<'_>, _from: Timestamp, _to: Timestamp) {
        todo!()
    }
    /// Shows the alert with where its repair stands.
    pub fn show_remediation(&mut self, _turn: &mut Turn<'_>, _key: &AlertKey, _facts: Option<RemediationFacts>) {
        todo!()
    }
    /// Pending, firing and cooling-down alerts; shadow ones are not found here.
    pub fn get(&self, _key: &AlertKey) -> Option<&Alert> {
        todo!()
    }
    /// Firing alerts of one deployment, in order of key.
    pub fn firing_on<'a>(&'a self, _deployment: &'a DeploymentId) -> Box<dyn Iterator<Item = &'a Alert> + 'a> {
        todo!()
    }
    pub fn views(&self) -> Vec<AlertView> {
        todo!()
    }
}
