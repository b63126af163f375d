use std::collections::BTreeSet;

use super::*;
use crate::app::inbox::Inbox;
use selfheal_contract::view::{AlertStateWord, AlertView, Change, EngineView, RefusalView, RunView};
use selfheal_model::{EventKind, Labels, Severity};
use selfheal_source::formats::{Dialect, parse_text};

const DOCUMENTED: &str = include_str!("../../../docs/api.md");

fn page(telemetry: &Telemetry, sources: &[(smol_str::SmolStr, Poll)], refused: Tally) -> String {
    telemetry.render(&Look {
        engine: Some(Figures { deployments: 2, series: 7, refused }),
        lanes: Inbox::new().standing(),
        sources,
        steps_under_way: 1,
        deliveries_under_way: 0,
        history_dropped: 3,
    })
}

fn shows(page: &str, line: &str) -> bool {
    page.lines().any(|own| own == line)
}

/// As they are declared: `selfheal_events_taken`, `counter`.
fn declared(page: &str) -> BTreeSet<(&str, &str)> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

fn source(is_up: bool) -> (smol_str::SmolStr, Poll) {
    ("node".into(), Poll { is_up, took: Duration::from_millis(250), answered: 4, failed: 1 })
}

fn policy() -> EngineView {
    EngineView {
        policy_version: "v1".into(),
        policy_loaded_at: Timestamp::from_millis(1_500),
        policy_errors: Vec::new(),
        rules: 3,
        playbooks: 0,
        paused: None,
        maintenance: Vec::new(),
        guard_mode: "auto".into(),
    }
}

#[test]
fn every_metric_is_readable_has_a_meaning_and_is_documented_with_its_type() {
    let telemetry = Telemetry::default();
    telemetry.shown(None, &Change::Engine(Box::new(policy())), Shows::Everything);
    let page = page(&telemetry, &[source(true)], Tally::default());
    let read = parse_text(&page, Dialect::OpenMetrics);
    assert_eq!(read.errors, Vec::<String>::new());
    assert!(read.samples.len() > 100, "{page}");
    assert!(
        shows(&page, "selfheal_policy_loaded_timestamp_seconds 1.5") && shows(&page, "selfheal_policy_rules 3"),
        "{page}"
    );
    for (name, kind) in declared(&page) {
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no meaning");
        let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let row = DOCUMENTED.lines().find(|line| line.starts_with(&format!("| `{shown}` |")));
        assert!(
            row.is_some_and(|row| row.contains(&format!("| {kind} |"))),
            "docs/api.md has no row for {shown}, {kind}"
        );
    }
    let rows = DOCUMENTED.lines().filter(|line| line.starts_with("| `selfheal_")).count();
    assert_eq!(rows, declared(&page).len(), "docs/api.md has rows for metrics that are not there");
}

#[test]
fn what_becomes_a_series_is_on_the_page_and_documented() {
    let page = page(&Telemetry::default(), &[source(true)], Tally::default());
    let events = own::events(&page, Timestamp::from_millis(1_000));
    let mut names = BTreeSet::new();
    for event in &events {
        assert_eq!(event.deployment.as_str(), selfheal_model::OWN_DEPLOYMENT);
        if let EventKind::Metric { name, .. } = &event.kind {
            names.insert(name.as_str());
        }
    }
    assert_eq!(names, own::SERIES.into(), "each of them, and nothing else");
    assert!(events.len() < 200, "{} series: a deployment has room for 1,000", events.len());
    for name in own::SERIES {
        assert!(DOCUMENTED.contains(&format!("`{name}`")), "docs/api.md does not name {name}");
    }
}

#[test]
fn its_own_series_wait_where_strangers_are_rejected_until_the_policy_lists_it() {
    const BASE: &str = "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n";
    let admitted = |more: &str| {
        let dir = tempfile::TempDir::new().expect("a temporary folder");
        let path = dir.path().to_owned();
        std::fs::write(path.join("selfheal.yaml"), format!("{BASE}{more}")).expect("written");
        let loader = crate::app::policies::PolicyLoader::new(path.clone(), selfheal_adapter::Catalog::new(path));
        own::admitted(&loader.load().expect("it compiles").policy)
    };
    assert!(admitted(""));
    assert!(!admitted("unknown_deployments: reject\n"));
    assert!(admitted("unknown_deployments: reject\ndeployments: [{ id: selfheal }]\n"));
}

#[test]
fn what_the_engine_lets_go_is_added_once() {
    let telemetry = Telemetry::default();
    telemetry.begin(Figures { refused: Tally { too_late: 10, ..Tally::default() }, ..Figures::default() });
    telemetry.refused(Reason::UnknownDeployment, 2);
    let later = Tally { too_late: 15, unknown_deployments: 1, ..Tally::default() };
    page(&telemetry, &[], later);
    let page = page(&telemetry, &[], later);
    for line in ["{reason=\"too_late\"} 5", "{reason=\"unknown_deployment\"} 3", "{reason=\"too_many_checks\"} 0"] {
        assert!(shows(&page, &format!("selfheal_events_refused_total{line}")), "{line}\n{page}");
    }
}

#[test]
fn a_source_that_is_gone_is_not_shown() {
    let telemetry = Telemetry::default();
    let with = page(&telemetry, &[source(false)], Tally::default());
    assert!(shows(&with, "selfheal_source_up{source=\"node\"} 0"), "{with}");
    assert!(shows(&with, "selfheal_source_duration_seconds{source=\"node\"} 0.25"), "{with}");
    assert!(shows(&with, "selfheal_source_rounds_total{source=\"node\",outcome=\"failed\"} 1"), "{with}");
    assert!(!page(&telemetry, &[], Tally::default()).contains("node"));
}

fn alert(state: AlertStateWord, severity: Severity) -> Change {
    let at = Timestamp::from_millis(1_000);
    let fired = state != AlertStateWord::Pending;
    Change::Alert(Box::new(AlertView {
        id: "a".into(),
        alert: "Hot".to_owned(),
        labels: Labels::default(),
        state,
        suppressed: None,
        held: None,
        severity,
        value: None,
        summary: String::new(),
        annotations: Labels::default(),
        started_at: at,
        fired_at: fired.then_some(at),
        ended_at: None,
        relapse: 0,
        without_data: false,
        error: None,
        generator_url: String::new(),
        remediation: None,
    }))
}

#[test]
fn alerts_are_counted_where_they_stand_and_once_when_they_end() {
    let telemetry = Telemetry::default();
    let moves = [
        alert(AlertStateWord::Pending, Severity::Warning),
        alert(AlertStateWord::Firing, Severity::Warning),
        alert(AlertStateWord::Firing, Severity::Critical),
        alert(AlertStateWord::Resolved, Severity::Critical),
        alert(AlertStateWord::Resolved, Severity::Critical),
    ];
    let mut before = None;
    let mut standing = Vec::new();
    for change in &moves {
        telemetry.shown(before, change, Shows::Changes);
        before = Some(change);
        let page = page(&telemetry, &[], Tally::default());
        standing.push(
            page.lines()
                .filter_map(|line| line.strip_prefix("selfheal_alerts{")?.strip_suffix("} 1"))
                .map(|labels| labels.replace('"', ""))
                .collect::<Vec<_>>()
                .join(";"),
        );
    }
    let expected =
        ["state=pending,severity=warning", "state=firing,severity=warning", "state=firing,severity=critical", "", ""];
    assert_eq!(standing, expected);
    // what ended before a restart is no news after it
    telemetry.shown(None, &moves[3], Shows::Everything);
    let page = page(&telemetry, &[], Tally::default());
    assert!(shows(&page, "selfheal_alerts_ended_total{state=\"resolved\",severity=\"critical\"} 1"), "{page}");
    assert!(shows(&page, "selfheal_alerts_fired_total{severity=\"warning\"} 1"), "{page}");
}

fn refused(by: Option<&str>) -> Change {
    let at = Timestamp::from_millis(1_000);
    let refusal = |guard: &str| RefusalView {
        guard: guard.parse().expect("a guard"),
        figures: "too many".to_owned(),
        may_pass: true,
    };
    Change::Run(Box::new(RunView {
        id: "web-1".into(),
        playbook: "restart".into(),
        deployment: "web".into(),
        alert: None,
        alert_name: None,
        cause: "operator:ana".to_owned(),
        approval: None,
        approved_by: None,
        guards: Vec::new(),
        state: "waiting".into(),
        verdict: None,
        refused: by.map(refusal),
        why: None,
        started_at: at,
        ended_at: None,
        steps: Vec::new(),
        policy: "v1".into(),
    }))
}

#[test]
fn a_run_is_counted_once_for_each_guard_that_refuses_it_in_turn() {
    let telemetry = Telemetry::default();
    let mut before = None;
    for by in [None, Some("storm"), Some("storm"), Some("grace"), None, Some("storm")] {
        let now = refused(by);
        telemetry.shown(before.as_ref(), &now, Shows::Changes);
        before = Some(now);
    }
    telemetry.shown(None, &refused(Some("grace")), Shows::Everything);
    let page = page(&telemetry, &[], Tally::default());
    assert!(shows(&page, "selfheal_runs_refused_total{guard=\"storm\"} 2"), "{page}");
    assert!(shows(&page, "selfheal_runs_refused_total{guard=\"grace\"} 1"), "{page}");
}
