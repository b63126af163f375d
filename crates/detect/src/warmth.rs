//! Reading ahead: what the next events and deadlines will look at, a few at a time, each step of the way for all of them
//! before the next step. One after the other they would each wait for memory that a processor can fetch for many at once.
//!
//! Invariant: nothing depends on it. What is remembered here are guesses, and is not saved.

use std::hint::black_box;
use std::ops::BitXor;

use super::Detect;
use super::intake::Found;
use super::plan::MetricIx;
use super::store::{Metric, MetricPlace, NO_PLACE};
use super::subject::Subject;
use super::subjects::SubjectIx;
use selfheal_model::{Event, EventKind, Timestamp};

/// Looked at together: what they read fits into the first cache, and more than a processor fetches at once.
const AHEAD: usize = 32;

/// See the module.
#[derive(Default)]
pub(super) struct Warmth {
    /// By the number of a metric: where the last deployment had it.
    places: Vec<MetricPlace>,
    /// Deadlines of the wheel that were looked at and have not come up.
    deadlines: usize,
}

impl Warmth {
    fn place(&self, number: MetricIx) -> MetricPlace {
        self.places.get(number as usize).copied().unwrap_or(NO_PLACE)
    }

    fn learn(&mut self, number: MetricIx, place: usize) {
        let number = number as usize;
        if self.places.len() <= number {
            self.places.resize(number + 1, NO_PLACE);
        }
        if let (Some(own), Ok(place)) = (self.places.get_mut(number), MetricPlace::try_from(place)) {
            *own = place;
        }
    }
}

impl Detect {
    /// Where the first of these events belong that are samples of known metrics; not all of them are looked at.
    pub(super) fn locate(&mut self, events: &[Event]) -> Vec<Option<Found>> {
        let events = events.get(..AHEAD).unwrap_or(events);
        let metric = |event: &Event| matches!(event.kind, EventKind::Metric { .. });
        let number = |event: &Event| self.subjects.number(&event.deployment).filter(|_| metric(event));
        let subjects: Vec<Option<SubjectIx>> = events.iter().map(number).collect();
        self.touch(subjects.iter().flatten());
        let asked = events.iter().zip(&subjects).map(|(event, subject)| match (&event.kind, *subject) {
            (EventKind::Metric { name, .. }, Some(subject)) => {
                let number = self.world.plan.number(name);
                Some((subject, name, number, number.map_or(NO_PLACE, |number| self.warmth.place(number))))
            }
            _ => None,
        });
        let asked: Vec<_> = asked.collect();
        let guesses = asked.iter().flatten().map(|(subject, _, _, guess)| (*subject, *guess as usize));
        self.touch_metrics(guesses, Metric::touch);
        let mut found = Vec::with_capacity(asked.len());
        for asked in asked {
            let place = asked.and_then(|(subject, name, number, guess)| {
                let series = &self.subjects.at(subject)?.series;
                let Some(number) = number else { return series.place(name) };
                let place = series.place_near(number, guess)?;
                if place != guess as usize {
                    self.warmth.learn(number, place);
                }
                Some(place)
            });
            found.push(asked.zip(place).map(|((subject, ..), place)| Found { subject, place }));
        }
        self.touch_metrics(found.iter().flatten().map(|found| (found.subject, found.place)), Metric::touch_samples);
        found
    }

    /// Takes the first deadline of the wheel that is due at or before `now`.
    pub(super) fn next_of_wheel(&mut self, now: Timestamp) -> Option<(Timestamp, (SubjectIx, MetricPlace))> {
        if self.warmth.deadlines == 0 && self.wheel.next().is_some_and(|next| next <= now) {
            let coming = || self.wheel.coming().take(AHEAD).map(|(number, place)| (*number, *place as usize));
            let subjects: Vec<SubjectIx> = coming().map(|(number, _)| number).collect();
            self.touch(subjects.iter());
            self.touch_metrics(coming(), Metric::touch);
            self.touch_metrics(coming(), Metric::touch_samples);
            self.warmth.deadlines = subjects.len();
        }
        let due = self.wheel.pop_due(now)?;
        self.warmth.deadlines = self.warmth.deadlines.saturating_sub(1);
        Some(due)
    }

    fn touch<'s>(&self, subjects: impl Iterator<Item = &'s SubjectIx>) {
        let read = subjects.filter_map(|number| self.subjects.at(*number)).map(Subject::touch);
        black_box(read.fold(0, BitXor::bitxor));
    }

    fn touch_metrics(&self, places: impl Iterator<Item = (SubjectIx, usize)>, touch: impl Fn(&Metric) -> i64) {
        let metrics = places.filter_map(|(number, place)| self.subjects.at(number)?.series.at(place));
        black_box(metrics.map(touch).fold(0, BitXor::bitxor));
    }
}
