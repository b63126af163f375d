//! What is repaired: ladders, guards, leases and runs.

use super::alerts::Alerts;
use super::turn::{AlertChange, Turn};
use crate::alert::notification::RemediationFacts;
use crate::engine::input::{Operator, StepEnd};
use crate::engine::message::{AskId, DeploymentHealth, Reply, WatchId};
use crate::engine::view::RunView;
use crate::model::{AlertKey, DeploymentId, Facts, StepAttemptId, Timestamp};
use crate::script::Truth;

/// Ladders and runs.
pub struct Remedy {}

impl Remedy {
    pub fn new(_start: Timestamp) -> Self {
        todo!()
    }
    pub fn next_deadline(&self) -> Option<Timestamp> {
        todo!()
    }
    pub fn fire(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts) {
        todo!()
    }
    pub fn alert_changed(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _change: &AlertChange) {
        todo!()
    }
    pub fn told(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _id: AskId, _replies: Vec<Reply>) {
        todo!()
    }
    pub fn watched(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _id: WatchId, _at: Timestamp, _truth: Truth) {
        todo!()
    }
    pub fn health(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _health: DeploymentHealth) {
        todo!()
    }
    pub fn facts(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _deployment: &DeploymentId, _facts: Facts) {
        todo!()
    }
    pub fn step_ended(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _end: StepEnd) {
        todo!()
    }
    /// The check a `check` step asked for has run: detect knows its verdict by now.
    pub fn probed(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _attempt: &StepAttemptId) {
        todo!()
    }
    /// An observation of this deployment has arrived, good or not; settles unknown outcomes.
    pub fn observed(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _deployment: &DeploymentId) {
        todo!()
    }
    pub fn operator(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _operator: Operator) {
        todo!()
    }
    pub fn replace_policy(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts) {
        todo!()
    }
    pub fn resumed(&mut self, _turn: &mut Turn<'_>, _from: Timestamp, _to: Timestamp) {
        todo!()
    }
    /// No new acting step begins; steps under way may end.
    pub fn draining(&mut self, _turn: &mut Turn<'_>) {
        todo!()
    }
    /// Where the repair of an alert stands; `None` without a ladder.
    pub fn remediation_of(&self, _key: &AlertKey) -> Option<RemediationFacts> {
        todo!()
    }
    /// A ladder works on it: a run is waiting or under way (what `wait_for_repair` asks).
    pub fn is_working(&self, _key: &AlertKey) -> bool {
        todo!()
    }
    pub fn run_views(&self) -> Vec<RunView> {
        todo!()
    }
}
