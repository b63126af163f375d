//! Alerts that ended last: a run may report on one after it is over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::entry::Entry;
use selfheal_model::{AlertKey, Timestamp};

/// So many ended alerts stay; what is older is history's.
const KEPT: usize = 1_000;
/// A rule or scope that comes back within this goes on with its alerts.
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The newest of each key, the oldest dropped first.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Ended {
    entries: BTreeMap<AlertKey, Entry>,
    order: VecDeque<AlertKey>,
}

impl Ended {
    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter_map(|key| self.entries.get(key))
    }

    pub(super) fn add(&mut self, entry: Entry) {
        let key = entry.alert.key.clone();
        if self.entries.insert(key.clone(), entry).is_some() {
            self.order.retain(|other| *other != key);
        }
        self.order.push_back(key);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    /// One that ended because its rule or scope was gone, not too long ago.
    pub(super) fn take_back(&mut self, key: &AlertKey, now: Timestamp) -> Option<Entry> {
        let entry = self.entries.get(key)?;
        let ended_at = entry.alert.ended_at?;
        if entry.unwatched.is_none() || now >= ended_at + TAKEN_BACK_WITHIN {
            return None;
        }
        self.order.retain(|other| other != key);
        self.entries.remove(key)
    }

    pub(super) fn get(&self, key: &AlertKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &AlertKey) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }
}
