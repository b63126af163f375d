//! Many deadlines that are set far more often than they are moved: metrics whose samples leave their windows.
//!
//! Invariant: what is taken out comes in order of instant; the order within one instant says nothing. A key may be in here
//! under an instant that no longer counts: whoever takes it out has to ask.

use std::collections::BTreeMap;

use selfheal_model::Timestamp;

/// Deadlines this close together, in milliseconds as a power of two, lie in one slot, unordered until it comes up.
const SLOT_BITS: u32 = 7;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Wheel<K> {
    slots: BTreeMap<i64, Vec<(Timestamp, K)>>,
    /// The earliest slot, in order, the next one last.
    current: Vec<(Timestamp, K)>,
    /// Everything up to this slot goes into `current`.
    up_to: i64,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Wheel { slots: BTreeMap::new(), current: Vec::new(), up_to: i64::MIN }
    }
}

fn slot_of(at: Timestamp) -> i64 {
    at.as_millis() >> SLOT_BITS
}

impl<K> Wheel<K> {
    pub fn push(&mut self, at: Timestamp, key: K) {
        let slot = slot_of(at);
        if slot <= self.up_to && !self.current.is_empty() {
            let place = self.current.partition_point(|(own, _)| *own > at);
            self.current.insert(place, (at, key));
        } else {
            self.slots.entry(slot).or_default().push((at, key));
            self.come_up();
        }
    }

    /// Keeps the earliest slot at hand.
    fn come_up(&mut self) {
        let earlier = |first: i64| self.current.is_empty() || first < self.up_to;
        let Some((first, _)) = self.slots.first_key_value().filter(|(first, _)| earlier(**first)) else { return };
        let first = *first;
        let mut coming = self.slots.remove(&first).unwrap_or_default();
        coming.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let before = std::mem::replace(&mut self.current, coming);
        if !before.is_empty() {
            self.slots.entry(self.up_to).or_default().extend(before);
        }
        self.up_to = first;
    }

    pub fn next(&self) -> Option<Timestamp> {
        self.current.last().map(|(at, _)| *at)
    }

    /// Some that come next, in order.
    pub fn coming(&self) -> impl Iterator<Item = &K> + Clone {
        self.current.iter().rev().map(|(_, key)| key)
    }

    /// Takes the first that is due at or before `now`.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        let due = self.current.pop_if(|(at, _)| *at <= now)?;
        if self.current.is_empty() {
            self.come_up();
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_whenever_it_was_put_in() {
        let at = Timestamp::from_millis;
        let mut wheel = Wheel::default();
        let mut expected = Vec::new();
        // a stride that jumps to and fro between slots
        for n in 0..1_000_i64 {
            let instant = (n * 7_919) % 10_007;
            wheel.push(at(instant), n);
            expected.push(instant);
        }
        expected.sort_unstable();
        let (mut taken, mut now) = (Vec::new(), 0);
        while let Some(next) = wheel.next() {
            assert_eq!(wheel.pop_due(at(next.as_millis() - 1)).map(|(at, _)| at), None);
            now = next.as_millis().max(now);
            let (due, key) = wheel.pop_due(at(now)).expect("it is due");
            taken.push(due.as_millis());
            if key % 10 == 0 && key < 1_000 {
                wheel.push(at(now + 300), key + 1_000);
                expected.push(now + 300);
            }
        }
        expected.sort_unstable();
        assert_eq!(taken, expected);
    }
}
