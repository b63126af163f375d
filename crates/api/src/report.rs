//! `GET /api/v1/report`: what playbooks and rules have come to, so that a person can decide to promote one.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::history::{HistoryKind, HistoryPage, HistoryQuery, NoHistory};
use super::problem::Problem;
use super::{Api, Backend};
use selfheal_model::Timestamp;

const PAGE: usize = 500;
/// Rows of each kind that go into one report, the newest.
const MAX_ROWS: usize = 100_000;
/// A cure of the same alert by the same playbook within so long of the one before is a recurrence.
const RECURS_WITHIN_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    since: Option<String>,
    until: Option<String>,
}

/// What is known of a time span.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// In order of name.
    pub playbooks: Vec<PlaybookReport>,
    /// The noisiest first.
    pub rules: Vec<RuleReport>,
    /// Only the newest rows were counted: there are more than one report takes.
    pub cut_short: bool,
    /// Where history itself misses something.
    pub gaps: Vec<Value>,
}

/// What came of the runs of one playbook.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlaybookReport {
    pub playbook: String,
    /// Those that began.
    pub runs: u32,
    pub cured: u32,
    /// Of the cured: as far as a relaxed check tells.
    pub eased: u32,
    pub done: u32,
    pub not_cured: u32,
    pub inconclusive: u32,
    pub denied: u32,
    pub cancelled: u32,
    pub went_away: u32,
    /// Runs that were refused in the end, by guard; `observe` would have run.
    pub refused: BTreeMap<String, u32>,
    /// From the beginning of a run to the proof of its cure.
    pub median_seconds_to_cure: Option<f64>,
    /// Cures within a day of the one before, of the same alert.
    pub recurrences: u32,
}

/// How much one rule had to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleReport {
    pub rule: String,
    /// Episodes that fired.
    pub fired: u32,
    /// Firings within an episode after its first.
    pub relapses: u32,
    /// Pending ones that never fired.
    pub lapsed: u32,
    /// Runs for its alerts, of all playbooks, that began.
    pub runs: u32,
    pub cured: u32,
}

/// Counts rows of history, newest first.
#[derive(Default)]
struct Counting {
    playbooks: BTreeMap<String, Counted>,
    rules: BTreeMap<String, RuleReport>,
}

#[derive(Default)]
struct Counted {
    report: PlaybookReport,
    seconds: Vec<f64>,
    /// When each alert was cured last, as seen so far: the next row of it is an earlier one.
    cures: BTreeMap<String, i64>,
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn at(row: &Value, name: &str) -> Option<Timestamp> {
    row[name].as_str()?.parse().ok()
}

impl Counting {
    fn run(&mut self, row: &Value) {
        let counted = self.playbooks.entry(text(row, "playbook").to_owned()).or_default();
        let report = &mut counted.report;
        let verdict = text(row, "verdict");
        let is_cured = matches!(verdict, "cured" | "cured(eased)");
        match verdict {
            "cured" => report.cured += 1,
            "cured(eased)" => (report.cured, report.eased) = (report.cured + 1, report.eased + 1),
            "done" => report.done += 1,
            "not_cured" => report.not_cured += 1,
            "inconclusive" => report.inconclusive += 1,
            "denied" => report.denied += 1,
            "cancelled" => report.cancelled += 1,
            "went_away" => report.went_away += 1,
            "refused" => {
                let guard = row["refused"]["guard"].as_str().unwrap_or("unknown");
                *report.refused.entry(guard.to_owned()).or_default() += 1;
            }
            _ => {}
        }
        let began = matches!(verdict, "cured" | "cured(eased)" | "done" | "not_cured" | "inconclusive" | "cancelled");
        report.runs += u32::from(began);
        if let (true, Some(from), Some(to)) = (is_cured, at(row, "started_at"), at(row, "ended_at")) {
            counted.seconds.push(to.since(from).as_secs_f64());
            let later = counted.cures.insert(text(row, "alert").to_owned(), to.as_millis());
            report.recurrences += u32::from(later.is_some_and(|later| later - to.as_millis() < RECURS_WITHIN_MS));
        }
        if let Some(rule) = row["alert_name"].as_str() {
            let rule = self.rules.entry(rule.to_owned()).or_default();
            rule.runs += u32::from(began);
            rule.cured += u32::from(is_cured);
        }
    }

    fn alert(&mut self, row: &Value) {
        let rule = self.rules.entry(text(row, "alert").to_owned()).or_default();
        if row["fired_at"].is_null() {
            rule.lapsed += 1;
        } else {
            rule.fired += 1;
            rule.relapses += row["relapse"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
        }
    }

    fn finish(self) -> (Vec<PlaybookReport>, Vec<RuleReport>) {
        let playbooks = self.playbooks.into_iter().map(|(name, mut counted)| {
            counted.seconds.sort_unstable_by(f64::total_cmp);
            PlaybookReport { playbook: name, median_seconds_to_cure: median(&counted.seconds), ..counted.report }
        });
        let rules = self.rules.into_iter().map(|(name, rule)| RuleReport { rule: name, ..rule });
        let mut rules: Vec<_> = rules.collect();
        rules.sort_by_key(|rule| std::cmp::Reverse((rule.fired + rule.relapses, rule.lapsed)));
        (playbooks.collect(), rules)
    }
}

/// Of values in order; of an even number the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted.get(half).copied(),
        _ => Some((sorted.get(half.checked_sub(1)?)? + sorted.get(half)?) / 2.0),
    }
}

pub async fn report(State(api): State<Api>, Query(span): Query<Span>) -> Result<Json<Report>, Problem> {
    let instant = |name: &'static str, text: Option<String>| match text.map(|text| text.parse::<Timestamp>()) {
        None => Ok(None),
        Some(Ok(at)) => Ok(Some(at)),
        Some(Err(why)) => Err(Problem::new(StatusCode::BAD_REQUEST, "unreadable query", format!("{name}: {why}"))),
    };
    let (since, until) = (instant("since", span.since)?, instant("until", span.until)?);
    let mut counting = Counting::default();
    let mut report = Report { since, until, ..Report::default() };
    for kind in [HistoryKind::Alerts, HistoryKind::Runs] {
        let mut query = HistoryQuery {
            kind,
            since,
            until,
            deployment: None,
            rule: None,
            state: None,
            alert: None,
            limit: PAGE,
            cursor: None,
        };
        let mut seen = 0;
        loop {
            let HistoryPage { rows, next, gaps } = page(&*api.backend, query.clone()).await?;
            report.gaps = gaps;
            seen += rows.len();
            for row in &rows {
                match kind {
                    HistoryKind::Runs => counting.run(row),
                    _ => counting.alert(row),
                }
            }
            query.cursor = next;
            report.cut_short |= seen >= MAX_ROWS && query.cursor.is_some();
            if query.cursor.is_none() || seen >= MAX_ROWS {
                break;
            }
        }
    }
    (report.playbooks, report.rules) = counting.finish();
    Ok(Json(report))
}

async fn page(backend: &dyn Backend, query: HistoryQuery) -> Result<HistoryPage, Problem> {
    backend.history(query).await.map_err(|error| {
        let (NoHistory::BadCursor(why) | NoHistory::Unavailable(why)) = error;
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no history", why).retry_after()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(playbook: &str, verdict: &str, hour: u8, seconds: u8) -> Value {
        json!({
            "playbook": playbook, "verdict": verdict, "alert": "a1", "alert_name": "Down",
            "refused": if verdict == "refused" { json!({"guard": "observe"}) } else { Value::Null },
            "started_at": format!("2026-11-23T{hour:02}:00:00Z"),
            "ended_at": format!("2026-11-23T{hour:02}:00:{seconds:02}Z"),
        })
    }

    #[test]
    fn runs_are_counted_by_what_came_of_them() {
        let mut counting = Counting::default();
        for row in [
            run("restart", "cured", 9, 50),
            run("restart", "cured(eased)", 8, 10),
            run("restart", "not_cured", 7, 1),
            run("restart", "cured", 1, 20),
            run("restart", "went_away", 0, 0),
            run("rollback", "refused", 0, 0),
        ] {
            counting.run(&row);
        }
        let (playbooks, rules) = counting.finish();
        let [restart, rollback] = &playbooks[..] else { panic!("{playbooks:?}") };
        assert_eq!((restart.runs, restart.cured, restart.eased, restart.not_cured, restart.went_away), (4, 3, 1, 1, 1));
        assert_eq!((restart.median_seconds_to_cure, restart.recurrences), (Some(20.0), 2));
        assert_eq!((rollback.runs, rollback.refused.get("observe")), (0, Some(&1)));
        assert_eq!((rules[0].runs, rules[0].cured), (4, 3));
    }

    #[test]
    fn the_noisiest_rule_comes_first() {
        let mut counting = Counting::default();
        for (rule, relapse) in [("Calm", 0), ("Loud", 3), ("Loud", 0)] {
            counting.alert(&json!({"alert": rule, "fired_at": "2026-11-23T00:00:00Z", "relapse": relapse}));
        }
        counting.alert(&json!({"alert": "Calm", "fired_at": null}));
        let rules = counting.finish().1;
        assert_eq!((rules[0].rule.as_str(), rules[0].fired, rules[0].relapses), ("Loud", 2, 3));
        assert_eq!(rules[1].lapsed, 1);
    }
}
