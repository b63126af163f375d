//! Alerts that ended last: a run may report on one after it is over.

use std::collections::{BTreeMap, VecDeque};

use super::entry::Entry;
use crate::model::AlertKey;

/// So many ended alerts stay; what is older is history's.
const KEPT: usize = 1_000;

/// The newest of each key, the oldest dropped first.
#[derive(Default)]
pub(super) struct Ended {
    entries: BTreeMap<AlertKey, Entry>,
    order: VecDeque<AlertKey>,
}

impl Ended {
    pub(super) fn add(&mut self, entry: Entry) {
        let key = entry.alert.key.clone();
        if self.entries.insert(key.clone(), entry).is_some() {
            self.order.retain(|other| *other != key);
        }
        self.order.push_back(key);
        if self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, key: &AlertKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &AlertKey) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }
}
