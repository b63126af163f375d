//! Acknowledgements: of an alert's episode, by a person who knows of it.

use super::{Held, is_in_an_episode};
use crate::alerts::Alerts;
use crate::turn::{Turn, Word};
use selfheal_contract::view::AckView;
use selfheal_model::{AlertKey, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Ack {
    pub(super) by: String,
    pub(super) at: Timestamp,
    /// The person has taken it over: nothing is repaired.
    pub(super) take: bool,
    pub(super) comment: String,
}

impl Ack {
    pub(super) fn view(&self) -> AckView {
        AckView { by: self.by.clone(), at: self.at, take: self.take, comment: self.comment.clone() }
    }
}

impl Held {
    /// Holds until the alert's episode is over. A later word replaces an earlier one.
    pub(super) fn acknowledge(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &str,
        ack: Ack,
    ) -> Result<AlertKey, String> {
        let Some(alert) = alerts.find(id) else { return Err(format!("there is no alert `{id}`")) };
        if !is_in_an_episode(alert) {
            return Err(format!("{} does not fire, so there is nothing to acknowledge", alert.key));
        }
        let key = alert.key.clone();
        self.acks.insert(key.clone(), ack);
        turn.say(Word::HeldChanged(key.clone()));
        Ok(key)
    }

    pub(super) fn unacknowledge(&mut self, turn: &mut Turn<'_>, id: &str) -> Result<AlertKey, String> {
        let Some(key) = self.acks.keys().find(|key| key.id() == id).cloned() else {
            return Err(format!("alert `{id}` is not acknowledged"));
        };
        self.acks.remove(&key);
        turn.say(Word::HeldChanged(key.clone()));
        Ok(key)
    }

    /// Its episode is over.
    pub(super) fn forget_ack(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        if self.acks.remove(key).is_some() {
            turn.say(Word::HeldChanged(key.clone()));
        }
    }
}
