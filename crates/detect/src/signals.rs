//! What happened to a deployment, by name, in order of its own time.
//!
//! Invariant: a name keeps its newest [`MAX_SIGNALS`]; a deployment knows at most [`MAX_NAMES`] names.

use std::collections::{BTreeMap, VecDeque};

use selfheal_model::{Map, RuleName, SignalName, Timestamp};

/// Signals kept of one name.
pub(super) const MAX_SIGNALS: usize = 1024;
/// Names of signals of one deployment.
pub(super) const MAX_NAMES: usize = 256;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Signal {
    pub at: Timestamp,
    pub fields: Map,
    /// The rule whose alert's run made it: that rule does not see it.
    pub made_for: Option<RuleName>,
}

/// The signals of one deployment.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Signals {
    by_name: BTreeMap<SignalName, VecDeque<Signal>>,
    refused: u64,
}

impl Signals {
    /// Whether there was room for it.
    pub fn insert(&mut self, name: &SignalName, signal: Signal) -> bool {
        if !self.by_name.contains_key(name) && self.by_name.len() >= MAX_NAMES {
            self.refused += 1;
            return false;
        }
        let ring = self.by_name.entry(name.clone()).or_default();
        let place = ring.partition_point(|own| own.at <= signal.at);
        ring.insert(place, signal);
        if ring.len() > MAX_SIGNALS {
            ring.pop_front();
        }
        true
    }

    /// Signals refused so far for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Those of a name after `edge` that `viewer` may see, newest first.
    pub fn of<'a>(
        &'a self,
        name: &str,
        edge: Timestamp,
        viewer: Option<&'a RuleName>,
    ) -> impl Iterator<Item = &'a Signal> {
        self.by_name
            .get(name)
            .into_iter()
            .flat_map(|ring| ring.iter().rev())
            .take_while(move |signal| signal.at > edge)
            .filter(move |signal| viewer.is_none() || signal.made_for.as_ref() != viewer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(seconds: i64, made_for: Option<&str>) -> Signal {
        let made_for = made_for.map(RuleName::new);
        Signal { at: Timestamp::from_millis(seconds * 1000), fields: Map::new(), made_for }
    }

    #[test]
    fn a_rule_does_not_see_what_its_own_run_made() {
        let mut signals = Signals::default();
        let name = SignalName::new("run_not_cured");
        assert!(signals.insert(&name, signal(20, Some("Down"))));
        assert!(signals.insert(&name, signal(10, None)));
        let seen = |viewer: Option<&RuleName>| -> Vec<i64> {
            signals.of("run_not_cured", Timestamp::MIN, viewer).map(|signal| signal.at.as_millis() / 1000).collect()
        };
        assert_eq!(seen(None), [20, 10]);
        assert_eq!(seen(Some(&"Other".into())), [20, 10]);
        assert_eq!(seen(Some(&"Down".into())), [10]);
    }

    #[test]
    fn signals_are_bounded_by_name_and_in_names() {
        let mut signals = Signals::default();
        for second in 0..MAX_SIGNALS as i64 + 5 {
            assert!(signals.insert(&"deployed".into(), signal(second, None)));
        }
        assert_eq!(signals.of("deployed", Timestamp::MIN, None).count(), MAX_SIGNALS);
        for number in 1..MAX_NAMES {
            assert!(signals.insert(&SignalName::new(format!("s{number}")), signal(1, None)));
        }
        assert!(!signals.insert(&"one_more".into(), signal(1, None)));
        assert_eq!(signals.refused(), 1);
    }
}
