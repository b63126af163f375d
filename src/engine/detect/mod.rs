//! What is true: series, verdicts, signals and facts, and the rules' answers about them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::effect::Effect;
use super::input::Observation;
use super::message::{ToDetect, ToJudge};
use super::view::DeploymentView;
use crate::model::{DeploymentId, Event, Timestamp};
use crate::policy::Policy;

/// The detecting half.
pub struct Detect {}

impl Detect {
    pub fn new(_start: Timestamp, _policy: Arc<Policy>) -> Self {
        todo!()
    }
    pub fn next_deadline(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Does what is due first, at `at`; one instant's worth at most.
    pub fn fire(&mut self, _at: Timestamp, _out: &mut VecDeque<ToJudge>, _effects: &mut Vec<Effect>) {
        todo!()
    }
    pub fn events(
        &mut self,
        _now: Timestamp,
        _events: Vec<Event>,
        _out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        todo!()
    }
    pub fn observed(
        &mut self,
        _now: Timestamp,
        _deployment: &DeploymentId,
        _observation: Result<Observation, String>,
        _out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        todo!()
    }
    pub fn replace_policy(
        &mut self,
        _now: Timestamp,
        _policy: Arc<Policy>,
        _out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        todo!()
    }
    pub fn resumed(&mut self, _from: Timestamp, _to: Timestamp, _out: &mut VecDeque<ToJudge>) {
        todo!()
    }
    pub fn message(
        &mut self,
        _now: Timestamp,
        _message: ToDetect,
        _out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        todo!()
    }
    /// Every deployment, in order of id; for reads between inputs.
    pub fn deployment_views(&self) -> Vec<DeploymentView> {
        todo!()
    }
}
