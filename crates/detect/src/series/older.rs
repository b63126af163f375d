//! What a window holds beyond the samples its series keeps: the oldest of it, drawn together into bunches that leave whole.
//!
//! Invariant: bunches lie on a grid of the window's length over [`SLIDES`], in order of time, so that there are never many more;
//! one leaves with its newest sample. What a bunch brought into the window's figures is what it takes away.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Sample;
use crate::windows::{Spread, Total, grown_between, seconds_between};
use selfheal_model::Timestamp;

/// A window beyond what is kept slides by its length over this.
pub(crate) const SLIDES: i64 = 1_024;
/// Sizes of values told apart in one bunch; one more counts as the nearest of them.
const MAX_SIZES: usize = 128;
/// Bits of a number that tell its size: sign, exponent and six more, which halve an octave six times. The middle of such a
/// size is within 1/128 of everything in it.
const SIZE_BITS: u32 = 18;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Older {
    /// Milliseconds of one place of the grid.
    grain: i64,
    bunches: VecDeque<Bunch>,
    /// Of all bunches.
    #[serde(skip)]
    sizes: BTreeMap<u32, u32>,
    /// Least and greatest of all bunches.
    #[serde(skip)]
    extremes: Option<(f64, f64)>,
}

/// Samples drawn together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bunch {
    pub first: Sample,
    pub last: Sample,
    pub total: Total,
    /// Where somebody reads more than the sum.
    pub more: Option<Box<More>>,
}

/// What a bunch brought into [`super::Figures`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct More {
    pub low: f64,
    pub high: f64,
    /// Times are those after the first of the bunch when it began.
    pub spread: Spread,
    pub start: Timestamp,
    /// From each sample to the next.
    pub grown: Total,
    pub changes: u64,
    sizes: Vec<(u32, u32)>,
}

/// Where a sample stands among the bunches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// Between these two; what is missing behind it is a sample that is kept as it is.
    Between(Option<Sample>, Next),
    /// In the middle of a bunch: what it came after is no longer known.
    Within,
    /// In a bunch whose figures are not known.
    Nowhere,
}

/// What follows a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    Bunch(Option<Sample>),
    Kept,
}

impl Older {
    pub fn new(length_ms: i64) -> Older {
        Older { grain: (length_ms / SLIDES).max(1), bunches: VecDeque::new(), sizes: BTreeMap::new(), extremes: None }
    }

    /// What was not saved.
    pub fn link(&mut self) {
        self.sizes.clear();
        for (size, count) in self.bunches.iter().filter_map(|bunch| bunch.more.as_ref()).flat_map(|more| &more.sizes) {
            *self.sizes.entry(*size).or_default() += count;
        }
        self.find_extremes();
    }

    pub fn is_empty(&self) -> bool {
        self.bunches.is_empty()
    }

    pub fn first(&self) -> Option<&Bunch> {
        self.bunches.front()
    }

    pub fn bunches(&self) -> impl Iterator<Item = &Bunch> {
        self.bunches.iter()
    }

    pub fn extremes(&self) -> Option<(f64, f64)> {
        self.extremes
    }

    /// How many values are told by their size only.
    pub fn sized(&self) -> usize {
        self.sizes.values().map(|count| *count as usize).sum()
    }

    fn slot(&self, at: Timestamp) -> i64 {
        at.as_millis().div_euclid(self.grain)
    }

    /// Where in order a sample of this time belongs, and whether it is to go into the bunch before that.
    fn search(&self, at: Timestamp) -> (usize, bool) {
        let slot = self.slot(at);
        let place = self.bunches.partition_point(|bunch| self.slot(bunch.first.at) <= slot);
        let before = place.checked_sub(1).and_then(|before| self.bunches.get(before));
        (place, before.is_some_and(|bunch| self.slot(bunch.first.at) == slot))
    }

    /// The place of a sample that is about to come in; `more` says whether there are figures beyond the sum.
    pub fn place(&self, at: Timestamp, more: bool) -> Place {
        let (place, joins) = self.search(at);
        let known = |bunch: Option<&Bunch>, of: fn(&Bunch) -> Sample| bunch.filter(|own| own.more.is_some()).map(of);
        let at_place = |place: Option<usize>| place.and_then(|place| self.bunches.get(place));
        let next = |place: usize| match self.bunches.get(place) {
            Some(bunch) => Next::Bunch(known(Some(bunch), |own| own.first)),
            None => Next::Kept,
        };
        let own = at_place(place.checked_sub(1)).filter(|_| joins);
        match own {
            None => Place::Between(known(at_place(place.checked_sub(1)), |own| own.last), next(place)),
            Some(bunch) if bunch.more.is_some() != more => match next(place) {
                Next::Kept => Place::Between(None, Next::Kept),
                Next::Bunch(_) => Place::Nowhere,
            },
            Some(bunch) if at >= bunch.last.at => Place::Between(known(own, |own| own.last), next(place)),
            Some(bunch) if at < bunch.first.at => {
                let before = at_place(place.checked_sub(2));
                Place::Between(known(before, |own| own.last), Next::Bunch(known(own, |own| own.first)))
            }
            Some(_) => Place::Within,
        }
    }

    /// Takes a sample in; whether there is a place for it.
    pub fn take_in(&mut self, sample: Sample, more: bool, sized: bool) -> bool {
        let (place, joins) = self.search(sample.at);
        let is_newest = place == self.bunches.len();
        let own = place.checked_sub(1).filter(|_| joins);
        let own = match own.and_then(|own| self.bunches.get(own)) {
            Some(bunch) if bunch.more.is_some() != more && is_newest => None,
            Some(bunch) if bunch.more.is_some() != more => return false,
            _ => own,
        };
        let bunch = match own.and_then(|own| self.bunches.get_mut(own)) {
            Some(bunch) => {
                bunch.take_in(sample);
                Some(bunch)
            }
            None => {
                self.bunches.insert(place, Bunch::of(sample, more));
                self.bunches.get_mut(place)
            }
        };
        if let Some(more) = bunch.and_then(|bunch| bunch.more.as_mut()) {
            let (low, high) = self.extremes.unwrap_or((sample.value, sample.value));
            self.extremes = Some((low.min(sample.value), high.max(sample.value)));
            if sized {
                *self.sizes.entry(more.count_size(sample.value)).or_default() += 1;
            }
        }
        true
    }

    /// Takes out the first bunch if nothing of it is after `edge`.
    pub fn leave(&mut self, edge: Timestamp) -> Option<Bunch> {
        self.bunches.front().filter(|bunch| bunch.last.at <= edge)?;
        let gone = self.bunches.pop_front()?;
        if let Some(more) = &gone.more {
            for (size, count) in &more.sizes {
                let Some(left) = self.sizes.get_mut(size) else { continue };
                *left = left.saturating_sub(*count);
                if *left == 0 {
                    self.sizes.remove(size);
                }
            }
            if self.extremes.is_none_or(|(low, high)| more.low <= low || more.high >= high) {
                self.find_extremes();
            }
        }
        Some(gone)
    }

    /// Other figures are read now, which nobody knows of what is here; its sums stay.
    pub fn forget_more(&mut self) {
        for mut bunch in std::mem::take(&mut self.bunches) {
            bunch.more = None;
            let slot = self.slot(bunch.first.at);
            match self.bunches.back_mut().filter(|last| last.first.at.as_millis().div_euclid(self.grain) == slot) {
                Some(last) => {
                    last.last = bunch.last;
                    last.total.join(bunch.total);
                }
                None => self.bunches.push_back(bunch),
            }
        }
        self.sizes.clear();
        self.extremes = None;
    }

    fn find_extremes(&mut self) {
        let both = |(low, high): (f64, f64), more: &More| (low.min(more.low), high.max(more.high));
        let mut known = self.bunches.iter().filter_map(|bunch| bunch.more.as_deref());
        self.extremes = known.next().map(|first| known.fold((first.low, first.high), both));
    }

    /// The value at a place in the order of what is here and of `kept`, which is in order.
    pub fn ranked(&self, kept: &[f64], place: usize) -> Option<f64> {
        let mut before = 0;
        for (size, count) in &self.sizes {
            let value = middle_of(*size);
            let below = kept.partition_point(|own| own.total_cmp(&value).is_lt());
            if place < before + below {
                break;
            }
            if place < before + below + *count as usize {
                return Some(value);
            }
            before += *count as usize;
        }
        kept.get(place.checked_sub(before)?).copied()
    }
}

impl Bunch {
    fn of(sample: Sample, more: bool) -> Bunch {
        let mut bunch = Bunch { first: sample, last: sample, total: Total::default(), more: None };
        bunch.total.add(sample.value);
        if more {
            let mut spread = Spread::default();
            spread.add(0.0, sample.value);
            bunch.more = Some(Box::new(More {
                low: sample.value,
                high: sample.value,
                spread,
                start: sample.at,
                grown: Total::default(),
                changes: 0,
                sizes: Vec::new(),
            }));
        }
        bunch
    }

    fn take_in(&mut self, sample: Sample) {
        let step = if sample.at >= self.last.at {
            Some((std::mem::replace(&mut self.last, sample), sample))
        } else if sample.at < self.first.at {
            Some((sample, std::mem::replace(&mut self.first, sample)))
        } else {
            None
        };
        self.total.add(sample.value);
        let Some(more) = &mut self.more else { return };
        more.low = more.low.min(sample.value);
        more.high = more.high.max(sample.value);
        more.spread.add(seconds_between(more.start, sample.at), sample.value);
        if let Some((from, to)) = step {
            more.grown.add(grown_between(from.value, to.value));
            more.changes += u64::from(from.value != to.value);
        }
    }
}

impl More {
    /// Counts a value among those of its size; says which that is.
    fn count_size(&mut self, value: f64) -> u32 {
        let size = size_of_value(value);
        let place = match self.sizes.binary_search_by_key(&size, |(own, _)| *own) {
            Ok(place) => place,
            Err(place) if self.sizes.len() < MAX_SIZES => {
                self.sizes.insert(place, (size, 0));
                place
            }
            Err(place) => {
                let distance = |place: usize| self.sizes.get(place).map_or(u32::MAX, |(own, _)| own.abs_diff(size));
                let before = place.saturating_sub(1);
                if distance(before) <= distance(place) { before } else { place }
            }
        };
        match self.sizes.get_mut(place) {
            Some((own, count)) => {
                *count += 1;
                *own
            }
            None => size,
        }
    }
}

/// In order of value.
fn size_of_value(value: f64) -> u32 {
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    (ordered >> (64 - SIZE_BITS)) as u32
}

fn middle_of(size: u32) -> f64 {
    let ordered = (u64::from(size) << (64 - SIZE_BITS)) | 1 << (63 - SIZE_BITS);
    let value = f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered });
    if value.is_normal() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_order_and_near_their_values() {
        let mut values: Vec<f64> = (-400..400).map(|n| f64::from(n) / 7.0).collect();
        values.extend([1e300, -1e300, 1e-300, f64::MAX, 1.0 - f64::EPSILON]);
        values.sort_unstable_by(f64::total_cmp);
        assert!(values.is_sorted_by_key(|value| size_of_value(*value)));
        for value in values {
            let near = middle_of(size_of_value(value));
            assert!((near - value).abs() <= value.abs() / 128.0, "{near} for {value}");
        }
    }
}
