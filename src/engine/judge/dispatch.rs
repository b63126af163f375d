//! Who is told, when: routing, groups and deliveries with their retries and rates.

use super::alerts::Alerts;
use super::remedy::Remedy;
use super::turn::{AlertChange, NewsFor, Turn};
use crate::engine::input::DeliveryResult;
use crate::model::{AlertKey, DeliveryId, Timestamp};

/// Groups and deliveries.
pub struct Dispatch {}

impl Dispatch {
    pub fn new(_start: Timestamp) -> Self {
        todo!()
    }
    pub fn next_deadline(&self) -> Option<Timestamp> {
        todo!()
    }
    pub fn fire(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _remedy: &Remedy) {
        todo!()
    }
    pub fn alert_changed(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _remedy: &Remedy, _change: &AlertChange) {
        todo!()
    }
    pub fn news(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _remedy: &Remedy, _news: NewsFor) {
        todo!()
    }
    /// A ladder moved: what `wait_for_repair` held may go.
    pub fn remediation_moved(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _remedy: &Remedy, _key: &AlertKey) {
        todo!()
    }
    pub fn ended(&mut self, _turn: &mut Turn<'_>, _id: &DeliveryId, _attempt: u32, _result: DeliveryResult) {
        todo!()
    }
    pub fn replace_policy(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, _remedy: &Remedy) {
        todo!()
    }
    pub fn resumed(&mut self, _turn: &mut Turn<'_>, _from: Timestamp, _to: Timestamp) {
        todo!()
    }
    /// Notifications that wait for another try, for their group or for their receiver's rate.
    pub fn waiting(&self) -> usize {
        todo!()
    }
}
