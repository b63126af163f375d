//! Alerts, runs, notifications and the policy, counted as the engine shows them: each view against the one it replaces.
//!
//! Invariant: what ends is counted once, and what had ended before a restart is not counted again.

use super::{Telemetry, by, seconds, whole};
use selfheal_contract::view::{AlertStateWord, AlertView, Change, DeliveryView, EngineView, RunView};

/// What a batch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// What moved.
    Changes,
    /// Everything there is: ends in it are old.
    Everything,
}

fn alert_word(view: &AlertView) -> &'static str {
    match view.state {
        AlertStateWord::Pending => "pending",
        AlertStateWord::Firing => "firing",
        AlertStateWord::Resolved => "resolved",
        AlertStateWord::Ended => "ended",
    }
}

fn stands(view: &AlertView) -> bool {
    matches!(view.state, AlertStateWord::Pending | AlertStateWord::Firing)
}

impl Telemetry {
    /// Takes in what the engine shows, and what that replaces.
    pub fn shown(&self, before: Option<&Change>, now: &Change, shows: Shows) {
        match (before, now) {
            (Some(Change::Alert(before)), Change::Alert(now)) => self.alert_moved(Some(before), now, shows),
            (_, Change::Alert(now)) => self.alert_moved(None, now, shows),
            (Some(Change::Run(before)), Change::Run(now)) => self.run_moved(Some(before), now, shows),
            (_, Change::Run(now)) => self.run_moved(None, now, shows),
            (Some(Change::Delivery(before)), Change::Delivery(now)) => self.delivery_moved(Some(before), now, shows),
            (_, Change::Delivery(now)) => self.delivery_moved(None, now, shows),
            (_, Change::Engine(view)) => self.engine_shown(view),
            (
                _,
                Change::Deployment(_)
                | Change::DeploymentGone(_)
                | Change::Audit(_)
                | Change::Approval(_)
                | Change::Silence(_)
                | Change::SilenceGone(_),
            ) => {}
        }
    }

    fn alert_moved(&self, before: Option<&AlertView>, now: &AlertView, shows: Shows) {
        let labels =
            |view: &AlertView| [("state", alert_word(view).into()), ("severity", view.severity.as_str().into())];
        let stood = before.filter(|view| stands(view));
        if let Some(before) = stood {
            self.alerts.get_or_create(&labels(before)).dec();
        }
        if stands(now) {
            self.alerts.get_or_create(&labels(now)).inc();
        } else if stood.is_some() && now.fired_at.is_some() {
            self.alerts_ended.get_or_create(&labels(now)).inc();
        }
        let fires = |view: &AlertView| view.state == AlertStateWord::Firing;
        if fires(now) && !before.is_some_and(fires) && shows == Shows::Changes {
            self.alerts_fired.get_or_create(&by("severity", now.severity.as_str())).inc();
        }
    }

    fn run_moved(&self, before: Option<&RunView>, now: &RunView, shows: Shows) {
        // one run may be refused by one guard after the other
        let refused_by = |view: &RunView| view.refused.as_ref().map(|refused| refused.guard);
        if let Some(guard) = refused_by(now).filter(|_| shows == Shows::Changes)
            && before.and_then(refused_by).as_ref() != Some(&guard)
        {
            self.runs_refused.get_or_create(&by("guard", guard.as_str())).inc();
        }
        let under_way = |view: &&RunView| view.ended_at.is_none();
        if let Some(before) = before.filter(under_way) {
            self.runs.get_or_create(&by("state", before.state.to_string())).dec();
        }
        if under_way(&now) {
            self.runs.get_or_create(&by("state", now.state.to_string())).inc();
        } else if is_news(before.map(|before| under_way(&before)), shows)
            && let Some(verdict) = &now.verdict
        {
            self.runs_ended.get_or_create(&by("verdict", verdict.to_string())).inc();
        }
    }

    fn delivery_moved(&self, before: Option<&DeliveryView>, now: &DeliveryView, shows: Shows) {
        let pending = |view: &DeliveryView| view.ended_at.is_none();
        if before.is_some_and(pending) {
            self.notifications_pending.dec();
        }
        if pending(now) {
            self.notifications_pending.inc();
        } else if is_news(before.map(pending), shows) {
            self.notifications_ended.get_or_create(&by("state", now.state.to_string())).inc();
        }
    }

    fn engine_shown(&self, view: &EngineView) {
        self.policy.clear();
        self.policy.get_or_create(&by("version", view.policy_version.to_string())).set(1);
        self.policy_loaded.set(seconds(view.policy_loaded_at));
        self.policy_refused.set(i64::from(!view.policy_errors.is_empty()));
        self.policy_errors.set(whole(view.policy_errors.len()));
        self.policy_rules.set(whole(view.rules));
        self.paused.set(i64::from(view.paused.is_some()));
    }
}

/// Whether an end is one that was not counted yet. `open_before`: whether the view it replaces was still open.
fn is_news(open_before: Option<bool>, shows: Shows) -> bool {
    open_before.unwrap_or(shows == Shows::Changes)
}
