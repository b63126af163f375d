//! Timers as plain state: a key is due at one instant, and the same instant fires in order of key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;

/// A set of deadlines, at most one per key.
#[derive(Clone, Debug)]
pub struct Timers<K: Ord + Clone> {
    due: BTreeSet<(Timestamp, K)>,
    at: BTreeMap<K, Timestamp>,
}

impl<K: Ord + Clone + Serialize> Serialize for Timers<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.due)
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>> Deserialize<'de> for Timers<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut timers = Timers::default();
        for (at, key) in Vec::<(Timestamp, K)>::deserialize(deserializer)? {
            timers.set(key, at);
        }
        Ok(timers)
    }
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Self {
        Timers { due: BTreeSet::new(), at: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the key's deadline.
    pub fn set(&mut self, key: K, at: Timestamp) {
        if let Some(before) = self.at.insert(key.clone(), at) {
            self.due.remove(&(before, key.clone()));
        }
        self.due.insert((at, key));
    }

    pub fn clear(&mut self, key: &K) {
        if let Some(at) = self.at.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    pub fn deadline_of(&self, key: &K) -> Option<Timestamp> {
        self.at.get(key).copied()
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first key due at or before `now`.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (at, key) = self.due.pop_first()?;
        self.at.remove(&key);
        Some((at, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_of_instant_then_key() {
        let at = Timestamp::from_millis;
        let mut timers = Timers::default();
        timers.set("b", at(5));
        timers.set("a", at(5));
        timers.set("c", at(1));
        timers.set("c", at(9));
        timers.set("d", at(2));
        timers.clear(&"d");
        assert_eq!(timers.next_deadline(), Some(at(5)));
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(9))).collect();
        assert_eq!(fired, [(at(5), "a"), (at(5), "b"), (at(9), "c")]);
    }
}
