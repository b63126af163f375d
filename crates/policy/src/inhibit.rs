//! Inhibition: alerts that keep others from being told, as Alertmanager means it.

use smol_str::SmolStr;

use selfheal_model::{Labels, Selector};

/// While an alert that `source` selects fires, those that `target` selects are held back, where both have the same
/// values of `equal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InhibitRule {
    pub source: Selector,
    pub target: Selector,
    pub equal: Vec<SmolStr>,
}

impl InhibitRule {
    /// What both sides must have in common. A missing label is the same as an empty one.
    pub fn common(&self, labels: &Labels) -> Vec<SmolStr> {
        self.equal.iter().map(|name| SmolStr::new(labels.get(name).unwrap_or_default())).collect()
    }
}
