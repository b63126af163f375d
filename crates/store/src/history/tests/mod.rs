//! On real files, with batches as the engine's thread would hand them over.

mod faults;
mod kept;
mod lookup;
mod moves;

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Found, History, Kind, Limits, Page, Query, Start};
use selfheal_contract::view::{
    AlertStateWord, AlertView, AuditEntry, Change, DeliveryView, EngineView, RefusalView, RunView, StepView,
};
use selfheal_model::{Labels, Severity, Timestamp};

/// 2026-11-23T20:00:00Z, and `seconds` later.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_464_000_000 + seconds * 1_000)
}

struct Bench {
    dir: TempDir,
    history: History,
    found: Found,
    sequence: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Limits::default())
    }

    fn with(limits: Limits) -> Bench {
        Bench::over(TempDir::new().expect("a temporary folder"), limits, 0, 0)
    }

    fn over(dir: TempDir, limits: Limits, journal_last: u64, seconds: i64) -> Bench {
        let start = Start { now: at(seconds), journal_last };
        let (history, found) = History::open(&dir.path().join("history.db"), limits, start);
        Bench { dir, history, found, sequence: journal_last }
    }

    /// Stops it, and starts it again with a journal that ends at `journal_last`.
    fn again(self, journal_last: u64, seconds: i64) -> Bench {
        Bench::over(self.stop(), Limits::default(), journal_last, seconds)
    }

    fn stop(self) -> TempDir {
        self.history.close();
        self.dir
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("history.db")
    }

    /// One batch, written when this returns.
    fn take(&mut self, seconds: i64, changes: Vec<Change>) {
        self.sequence += 1;
        self.history.take(self.sequence, at(seconds), changes);
        self.history.flush();
    }

    fn page(&self, query: &Query) -> Page {
        self.history.read(query).unwrap_or_else(|error| panic!("{query:?}: {error}"))
    }

    fn rows(&self, kind: Kind) -> Vec<Value> {
        self.page(&Query::of(kind)).rows
    }

    /// Of the newest episode: `from -> to: why`.
    fn moves(&self) -> Vec<String> {
        let newest = self.rows(Kind::Alerts).remove(0);
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let moves = newest["transitions"].as_array().cloned().unwrap_or_default();
        moves
            .iter()
            .map(|one| format!("{} -> {}: {}", word(&one["from"]), word(&one["to"]), word(&one["why"])))
            .collect()
    }
}

fn alert(rule: &str, deployment: &str, state: AlertStateWord, started: i64) -> AlertView {
    AlertView {
        id: format!("{rule}-{deployment}").into(),
        alert: rule.to_owned(),
        labels: [("deployment", deployment)].into_iter().collect(),
        state,
        suppressed: None,
        held: None,
        severity: Severity::Warning,
        value: Some(91.5),
        summary: "CPU is high".to_owned(),
        annotations: Labels::default(),
        started_at: at(started),
        fired_at: None,
        ended_at: None,
        relapse: 0,
        without_data: false,
        error: None,
        generator_url: String::new(),
        remediation: None,
    }
}

fn show(view: &AlertView) -> Change {
    Change::Alert(Box::new(view.clone()))
}

fn run(id: &str, state: &str, started: i64) -> RunView {
    RunView {
        id: id.into(),
        playbook: "restart".into(),
        deployment: "web".into(),
        alert: Some("HighCpu-web".into()),
        alert_name: Some("HighCpu".to_owned()),
        cause: "rule:HighCpu".to_owned(),
        approval: None,
        approved_by: None,
        guards: Vec::new(),
        state: state.into(),
        verdict: None,
        refused: None,
        why: None,
        started_at: at(started),
        ended_at: None,
        steps: Vec::new(),
        policy: "p1".into(),
    }
}

fn step(id: &str, outcome: &str) -> StepView {
    StepView {
        id: id.to_owned(),
        action: "restart".to_owned(),
        section: "steps".into(),
        outcome: outcome.into(),
        class: None,
        message: None,
        output: None,
        log: Some("stopping\nstarting".to_owned()),
        attempts: 1,
        started_at: at(1),
        ended_at: None,
        seconds: None,
    }
}

fn ended(mut run: RunView, verdict: &str, seconds: i64) -> RunView {
    run.state = "ended".into();
    run.verdict = Some(verdict.into());
    run.ended_at = Some(at(seconds));
    run
}

fn show_run(view: &RunView) -> Change {
    Change::Run(Box::new(view.clone()))
}

fn delivery(id: &str, state: &str, attempts: u32) -> Change {
    Change::Delivery(Box::new(DeliveryView {
        id: id.into(),
        receiver: "oncall".into(),
        notifier: "email".into(),
        subject: "[FIRING] HighCpu".to_owned(),
        deployments: vec!["web".into(), "db".into()],
        rules: vec!["HighCpu".to_owned()],
        state: state.into(),
        attempts,
        error: (state != "delivered" && attempts > 0).then(|| "connection refused".to_owned()),
        created_at: at(0),
        ended_at: (state != "pending").then(|| at(9)),
    }))
}

fn audit(seconds: i64, what: &str) -> Change {
    Change::Audit(AuditEntry { at: at(seconds), who: "ana".to_owned(), what: what.to_owned() })
}

fn policy(version: &str, loaded: i64) -> Change {
    Change::Engine(Box::new(EngineView {
        policy_version: version.into(),
        policy_loaded_at: at(loaded),
        policy_errors: Vec::new(),
        rules: 3,
        playbooks: 2,
        paused: None,
        maintenance: Vec::new(),
        guard_mode: "auto".into(),
    }))
}
