//! Samples in order of their time, twelve bytes each: most of what the engine remembers are these.
//!
//! Invariant: every time is the base plus what is kept; what is farther from it than can be kept moves the base.

use std::collections::VecDeque;
use std::ops::RangeFrom;

use super::Sample;
use selfheal_model::Timestamp;

/// A sample without its alignment.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Packed {
    value: f64,
    /// Milliseconds after the base: at most 49 days, and no window is longer than 31.
    after: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    base: Timestamp,
    held: VecDeque<Packed>,
}

impl Samples {
    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_full(&self) -> bool {
        self.held.len() == self.held.capacity()
    }

    pub fn reserve_exact(&mut self, more: usize) {
        self.held.reserve_exact(more);
    }

    fn unpacked(&self, packed: Packed) -> Sample {
        let after = packed.after;
        Sample { at: Timestamp::from_millis(self.base.as_millis() + i64::from(after)), value: packed.value }
    }

    pub fn get(&self, place: usize) -> Option<Sample> {
        self.held.get(place).map(|packed| self.unpacked(*packed))
    }

    pub fn front(&self) -> Option<Sample> {
        self.get(0)
    }

    pub fn back(&self) -> Option<Sample> {
        self.held.back().map(|packed| self.unpacked(*packed))
    }

    /// Those from a place on, oldest first.
    pub fn range(&self, from: RangeFrom<usize>) -> impl DoubleEndedIterator<Item = Sample> + Clone + '_ {
        self.held.range(from).map(|packed| self.unpacked(*packed))
    }

    /// The first place whose sample is later than `at`.
    pub fn place_after(&self, at: Timestamp) -> usize {
        self.held.partition_point(|packed| self.unpacked(*packed).at <= at)
    }

    /// Puts a sample at a place that keeps the order.
    pub fn insert(&mut self, place: usize, sample: Sample) {
        let after = match u32::try_from(sample.at.as_millis().saturating_sub(self.base.as_millis())) {
            Ok(after) if !self.held.is_empty() => after,
            _ => self.move_base(sample.at),
        };
        self.held.insert(place.min(self.held.len()), Packed { value: sample.value, after });
    }

    /// Moves the base so that `at` can be kept beside the others; says how it is kept. What is too far from it is kept
    /// as far as that goes.
    fn move_base(&mut self, at: Timestamp) -> u32 {
        let base = self.front().map_or(at, |oldest| oldest.at.min(at));
        let old_base = self.base.as_millis();
        for packed in &mut self.held {
            let own = old_base.saturating_add(i64::from(packed.after));
            packed.after = u32::try_from(own.saturating_sub(base.as_millis())).unwrap_or(u32::MAX);
        }
        self.base = base;
        u32::try_from(at.as_millis().saturating_sub(base.as_millis())).unwrap_or(u32::MAX)
    }

    pub fn pop_front(&mut self) -> Option<Sample> {
        self.held.pop_front().map(|packed| self.unpacked(packed))
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Sample> + Clone + '_ {
        self.range(0..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: i64) -> Sample {
        Sample { at: Timestamp::from_millis(millis), value: millis as f64 / 3.0 }
    }

    #[test]
    fn a_sample_takes_twelve_bytes_and_comes_out_as_it_went_in() {
        assert_eq!(size_of::<Packed>(), 12);
        let mut samples = Samples::default();
        let month = 31 * 24 * 3600 * 1000;
        // later, earlier than all, and so much later that the base has to move
        for millis in [1_795_000_000_123, 1_795_000_001_000, 1_794_999_000_000, 1_795_000_000_000 + month] {
            samples.insert(samples.place_after(sample(millis).at), sample(millis));
        }
        let expected = [1_794_999_000_000, 1_795_000_000_123, 1_795_000_001_000, 1_795_000_000_000 + month].map(sample);
        assert_eq!(samples.iter().collect::<Vec<_>>(), expected);
        assert_eq!(samples.pop_front(), Some(expected[0]));
        samples.insert(3, sample(1_795_000_000_000 + 2 * month - 3_600_000));
        samples.pop_front();
        samples.pop_front();
        samples.insert(2, sample(1_795_000_000_000 + 2 * month));
        assert_eq!(samples.front(), Some(expected[3]), "the base moved on with the oldest");
        assert_eq!(samples.back(), Some(sample(1_795_000_000_000 + 2 * month)));
        assert_eq!((samples.len(), samples.get(3)), (3, None));
        samples.pop_front();
        samples.pop_front();
        samples.pop_front();
        samples.insert(0, sample(-5));
        assert_eq!(samples.iter().collect::<Vec<_>>(), [sample(-5)], "also from nothing");
    }
}
