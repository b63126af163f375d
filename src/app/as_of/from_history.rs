//! An explanation out of history: how the alert moved, what was done about it and who was told, with a sentence for what
//! history does not have.
//!
//! Invariant: an answer without figures says why it has none.

use std::time::Duration;

use serde_json::Value;

use crate::app::history::Lookup;
use selfheal_api::{Explained, HistoryKind, HistoryPage, HistoryQuery, NoHistory, Remembered, Told};
use selfheal_contract::explanation::Explanation;
use selfheal_model::{AlertKey, DeploymentId, Labels, RuleName, Timestamp};

/// Messages and ends of runs come after the alert has ended.
const AFTERWARDS: Duration = Duration::from_secs(3600);
/// Rows of each kind; of an episode with more the newest are shown.
const ROWS: usize = 50;
const AN_INSTANT: Duration = Duration::from_millis(1);

/// What is looked up, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(in crate::app) struct Named {
    /// An alert's short id.
    pub alert: Option<String>,
    pub rule: Option<RuleName>,
    pub deployment: Option<DeploymentId>,
    /// Where the living policy has it.
    pub key: Option<AlertKey>,
}

/// What history has of an alert, to be shown at `now`. `remembered` says already for when it is asked for, and why no
/// engine is. `None`: history has nothing.
///
/// # Errors
/// History cannot be read.
pub(in crate::app) async fn out_of_history(
    history: &Lookup,
    named: &Named,
    mut remembered: Remembered,
    now: Timestamp,
) -> Result<Option<Explained>, NoHistory> {
    let at = remembered.asked_at;
    let until = at.map(|at| at + AN_INSTANT);
    let episodes = HistoryQuery { until, limit: 1, ..named.query(HistoryKind::Alerts) };
    HistoryPage { rows: remembered.alerts, gaps: remembered.gaps, .. } = history.read(episodes).await?;
    let mut because = vec![remembered.why.clone()];
    match remembered.alerts.first() {
        None if named.key.is_none() => return Ok(None),
        None => {
            let text = "history has no episode of it that had begun by then: it was quiet, or that is kept no more";
            because.push(text.to_owned());
        }
        Some(row) => {
            let lasted = Lasted::of(row);
            let named = Named::of(row);
            let by_id = Named { alert: named.alert.clone(), ..Named::default() };
            let runs = history.read(lasted.limit(by_id.query(HistoryKind::Runs))).await?;
            let about_it = Named { alert: None, ..named }.query(HistoryKind::Deliveries);
            let deliveries = history.read(lasted.limit(about_it)).await?;
            because.push(standing(row, at));
            because.push(what_was_done(&runs.rows, at));
            remembered.deliveries = deliveries.rows;
            (remembered.runs, remembered.gaps) = (runs.rows, runs.gaps);
        }
    }
    if !remembered.gaps.is_empty() {
        because.push("history itself misses something of this time: its gaps say what".to_owned());
    }
    let AlertKey { rule, scope } = named.key.clone().unwrap_or_else(|| key_of(remembered.alerts.first()));
    let explanation = Explanation {
        rule,
        scope,
        at: at.unwrap_or(now),
        source: None,
        because,
        levels: Vec::new(),
        reads: Vec::new(),
        value: None,
        alert: None,
        timers: Vec::new(),
        ladder: None,
    };
    Ok(Some(Explained { explanation, told: Told::History(remembered) }))
}

/// The rule and the labels of an alert's last episode.
///
/// # Errors
/// History cannot be read.
pub(in crate::app) async fn labels_of(history: &Lookup, alert: &str) -> Result<Option<(RuleName, Labels)>, NoHistory> {
    let named = Named { alert: Some(alert.to_owned()), ..Named::default() };
    let page = history.read(HistoryQuery { limit: 1, ..named.query(HistoryKind::Alerts) }).await?;
    Ok(page.rows.first().and_then(|row| {
        let labels = serde_json::from_value(row["labels"].clone()).ok()?;
        Some((RuleName::from(row["alert"].as_str()?), labels))
    }))
}

impl Named {
    fn of(row: &Value) -> Named {
        let text = |name: &str| row[name].as_str();
        Named {
            alert: text("id").map(str::to_owned),
            rule: text("alert").map(RuleName::from),
            deployment: text("deployment").map(DeploymentId::from),
            key: None,
        }
    }

    /// An id says all there is to say.
    fn query(&self, kind: HistoryKind) -> HistoryQuery {
        let alert = self.alert.clone().or_else(|| self.key.as_ref().map(|key| key.id().to_string()));
        let (rule, deployment) = match &alert {
            Some(_) => (None, None),
            None => (self.rule.as_ref(), self.deployment.as_ref()),
        };
        HistoryQuery {
            kind,
            since: None,
            until: None,
            deployment: deployment.map(ToString::to_string),
            rule: rule.map(ToString::to_string),
            state: None,
            alert,
            limit: ROWS,
            cursor: None,
        }
    }
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// From when to when an episode was.
struct Lasted {
    from: Option<Timestamp>,
    /// `None`: it goes on.
    to: Option<Timestamp>,
}

impl Lasted {
    fn of(row: &Value) -> Lasted {
        Lasted { from: moment(&row["started_at"]), to: moment(&row["ended_at"]) }
    }

    fn limit(&self, query: HistoryQuery) -> HistoryQuery {
        HistoryQuery { since: self.from, until: self.to.map(|to| to + AFTERWARDS), ..query }
    }
}

/// The rule and, as far as a row tells it, the scope.
fn key_of(row: Option<&Value>) -> AlertKey {
    let text = |name: &str| row.and_then(|row| row[name].as_str());
    let scope: Labels = text("deployment").map(|deployment| ("deployment", deployment)).into_iter().collect();
    AlertKey { rule: RuleName::from(text("alert").unwrap_or_default()), scope }
}

fn began_by(row: &Value, at: Option<Timestamp>) -> bool {
    at.is_none_or(|at| moment(&row["started_at"]).is_some_and(|own| own <= at))
}

/// How the alert stood.
fn standing(row: &Value, at: Option<Timestamp>) -> String {
    let moves = row["transitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = moves.iter().rfind(|one| at.is_none_or(|at| moment(&one["at"]).is_some_and(|own| own <= at)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(last) = last else {
        return "how it had moved until then is kept no more".to_owned();
    };
    let value = last["value"].as_f64().map(|value| format!(" at {value}")).unwrap_or_default();
    let held = last["suppressed"].as_str().map(|by| format!(", held back by {by}")).unwrap_or_default();
    format!(
        "it was {} ({}){value}{held} since {}: {}",
        text(&last["to"]),
        text(&last["severity"]),
        text(&last["at"]),
        text(&last["why"])
    )
}

/// The newest run that had begun; what began later where there was none.
fn what_was_done(runs: &[Value], at: Option<Timestamp>) -> String {
    match (runs.iter().find(|run| began_by(run, at)), runs.last()) {
        (Some(run), _) => format!("the last run for it, {}", sentence(run)),
        (None, Some(later)) => {
            let began = later["started_at"].as_str().unwrap_or_default();
            format!("no run for it had begun by then; at {began} one did: {}", sentence(later))
        }
        (None, None) => "history has no run for it".to_owned(),
    }
}

fn sentence(run: &Value) -> String {
    let text = |name: &str| run[name].as_str().unwrap_or_default();
    let came_to = run["verdict"].as_str().unwrap_or_else(|| text("state"));
    let refused = match (run["refused"]["guard"].as_str(), run["refused"]["figures"].as_str()) {
        (Some(guard), Some(figures)) => format!(", refused by {guard}: {figures}"),
        _ => run["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default(),
    };
    format!("{} of {}, came to {came_to}{refused}", text("id"), text("playbook"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn how_an_alert_stood_is_told_as_of_the_instant() {
        let row = json!({ "transitions": [
            { "at": "2026-11-23T20:00:00Z", "to": "pending", "severity": "warning", "value": 91.5, "suppressed": null,
              "why": "its condition began to hold" },
            { "at": "2026-11-23T20:05:00Z", "to": "firing", "severity": "warning", "value": null, "suppressed": "silence",
              "why": "its condition held long enough" },
        ]});
        assert_eq!(
            standing(&row, Some(at("2026-11-23T20:01:00Z"))),
            "it was pending (warning) at 91.5 since 2026-11-23T20:00:00Z: its condition began to hold"
        );
        let last =
            "it was firing (warning), held back by silence since 2026-11-23T20:05:00Z: its condition held long enough";
        assert_eq!(standing(&row, None), last);
        assert_eq!(standing(&row, Some(at("2026-11-23T20:05:00Z"))), last);
        assert_eq!(
            standing(&row, Some(at("2026-11-23T19:00:00Z"))),
            "how it had moved until then is kept no more",
            "the oldest moves may be gone"
        );
    }

    #[test]
    fn what_was_done_names_the_guard_that_refused_it_and_what_came_later() {
        let cured = json!({ "id": "web-1", "playbook": "restart", "verdict": "cured", "why": "its condition is clear",
                            "started_at": "2026-11-23T20:00:00Z" });
        let told = |run: &Value, then: Option<&str>| what_was_done(std::slice::from_ref(run), then.map(at));
        let last = "the last run for it, web-1 of restart, came to cured: its condition is clear";
        assert_eq!(told(&cured, None), last);
        assert_eq!(told(&cured, Some("2026-11-23T20:00:00Z")), last);
        assert_eq!(
            told(&cured, Some("2026-11-23T19:59:00Z")),
            "no run for it had begun by then; at 2026-11-23T20:00:00Z one did: web-1 of restart, came to cured: its \
             condition is clear"
        );
        let refused = json!({ "id": "web-2", "playbook": "restart", "verdict": "refused", "why": "no",
                              "refused": { "guard": "pause", "figures": "paused by ana" } });
        assert!(told(&refused, None).ends_with("came to refused, refused by pause: paused by ana"));
        let waits =
            json!({ "id": "web-3", "playbook": "restart", "verdict": null, "state": "waiting", "refused": null });
        assert!(told(&waits, None).ends_with("came to waiting"));
        assert_eq!(what_was_done(&[], None), "history has no run for it");
    }
}
