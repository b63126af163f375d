//! Which alerts hold which others back, by the inhibit rules.
//!
//! Of each rule the firing alerts are kept by what both sides must have in common, so that asking for one alert looks
//! at one place of each rule. As in Alertmanager an alert that is on both sides is held back by no other that is, too.

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use selfheal_model::{AlertKey, Labels};
use selfheal_policy::inhibit::InhibitRule;

#[derive(Default)]
pub(super) struct Inhibition {
    rules: Vec<Indexed>,
}

struct Indexed {
    rule: InhibitRule,
    places: BTreeMap<Vec<SmolStr>, Place>,
}

/// The firing alerts of one rule that have the same in common.
#[derive(Default)]
struct Place {
    sources: BTreeSet<AlertKey>,
    /// Sources that are targets, too.
    sources_on_both_sides: BTreeSet<AlertKey>,
    targets: BTreeSet<AlertKey>,
}

impl Place {
    /// Whether there is anything that holds back what is a target only, and what is on both sides.
    fn holds(&self) -> (bool, bool) {
        let alone = !self.sources.is_empty();
        (alone || !self.sources_on_both_sides.is_empty(), alone)
    }

    fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.sources_on_both_sides.is_empty() && self.targets.is_empty()
    }

    fn inhibitor(&self, is_source: bool) -> Option<&AlertKey> {
        let others = self.sources_on_both_sides.iter().take(if is_source { 0 } else { 1 });
        self.sources.iter().take(1).chain(others).next()
    }
}

impl Inhibition {
    pub(super) fn of(rules: &[InhibitRule]) -> Self {
        let indexed = |rule: &InhibitRule| Indexed { rule: rule.clone(), places: BTreeMap::new() };
        Inhibition { rules: rules.iter().map(indexed).collect() }
    }

    /// A firing alert that holds back one with these labels.
    pub(super) fn inhibitor_of(&self, labels: &Labels) -> Option<&AlertKey> {
        self.rules
            .iter()
            .filter(|one| one.rule.target.matches(labels))
            .find_map(|one| one.places.get(&one.rule.common(labels))?.inhibitor(one.rule.source.matches(labels)))
    }

    /// The alert fires with these labels. Returns the alerts that may be held back now.
    pub(super) fn add(&mut self, key: &AlertKey, labels: &Labels) -> Vec<AlertKey> {
        self.change(labels, |set| {
            set.insert(key.clone());
        })
    }

    /// The alert that fired with these labels does so no more. Returns the alerts that may be free now.
    pub(super) fn remove(&mut self, key: &AlertKey, labels: &Labels) -> Vec<AlertKey> {
        self.change(labels, |set| {
            set.remove(key);
        })
    }

    fn change(&mut self, labels: &Labels, change: impl Fn(&mut BTreeSet<AlertKey>)) -> Vec<AlertKey> {
        let mut touched = Vec::new();
        for Indexed { rule, places } in &mut self.rules {
            let (source, target) = (rule.source.matches(labels), rule.target.matches(labels));
            if !source && !target {
                continue;
            }
            let common = rule.common(labels);
            let place = places.entry(common.clone()).or_default();
            let before = place.holds();
            match (source, target) {
                (true, true) => change(&mut place.sources_on_both_sides),
                (true, false) => change(&mut place.sources),
                (false, _) => {}
            }
            if target {
                change(&mut place.targets);
            }
            if place.holds() != before {
                touched.extend(place.targets.iter().cloned());
            }
            if place.is_empty() {
                places.remove(&common);
            }
        }
        touched
    }
}
