//! Alerts as given, without rules behind them, for tests of the parts that read them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::{Entry, Kind};
use super::{Alert, Alerts};
use crate::lifecycle::{Life, Sight, Terms, Timing};
use selfheal_script::Truth;

impl Alerts {
    /// Each fires, cools down or is pending, as its `firing` and `ended_at` say.
    pub(crate) fn with(alerts: Vec<Alert>) -> Alerts {
        let entries = alerts.into_iter().map(|alert| (alert.key.clone(), Entry::as_given(alert))).collect();
        Alerts { entries, ..Alerts::default() }
    }
}

impl Entry {
    /// An alert whose life is what its fields say.
    fn as_given(alert: Alert) -> Entry {
        let terms = Terms::immediate(alert.severity);
        let mut life = Life::default();
        let sight = |holds: bool| {
            let (when, clear) = if holds { (Truth::True, Truth::False) } else { (Truth::False, Truth::True) };
            Sight { when, clear, blind: false }
        };
        if alert.firing || alert.ended_at.is_some() {
            life.see(alert.fired_at, [(alert.severity, &sight(true))], &terms);
        } else {
            let pending = Terms {
                levels: BTreeMap::from([(
                    alert.severity,
                    Timing { for_: Duration::MAX, keep_firing_for: Duration::ZERO },
                )]),
                ..terms.clone()
            };
            life.see(alert.started_at, [(alert.severity, &sight(true))], &pending);
        }
        if let Some(ended_at) = alert.ended_at {
            let cooling = Terms { cooldown: Duration::MAX, ..terms.clone() };
            life.see(ended_at, [(alert.severity, &sight(false))], &cooling);
        }
        let mut entry = Entry::quiet(alert.key.clone(), alert.labels.clone(), terms, Kind::Live, alert.started_at);
        entry.has_fired = alert.firing || alert.ended_at.is_some();
        entry.told = entry.has_fired;
        entry.life = life;
        entry.alert = alert;
        entry
    }
}
