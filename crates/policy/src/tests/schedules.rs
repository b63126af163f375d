//! `schedules:`.

use std::time::Duration;

use super::mistakes::{ADAPTERS, assert_lines, in_file};
use super::{compiled, good, mistakes, places};
use crate::schedule::When;
use selfheal_model::{Cron, Zone};
use selfheal_script::Param;

const PLAYBOOKS: &str = "{ playbook: backup, inputs: { keep: { type: integer, default: 7 } }, steps: [{ wait: 1s }] }\n---\n\
                         { playbook: restart, steps: [{ action: restart }] }\n---\n\
                         { playbook: grow, steps: [{ action: scale, with: { replicas: 2 } }] }\n---\n\
                         { playbook: off, enabled: false, steps: [{ wait: 1s }] }\n";

/// `schedules:` stands in line 6.
fn configuration(schedules: &str) -> String {
    format!(
        "format: 1\n{ADAPTERS}receivers: [{{ name: a }}]\ndeployments:\n  \
         - {{ id: db, adapter: tiny, labels: {{ tier: db }} }}\nschedules: {schedules}\n"
    )
}

#[test]
fn schedules_are_read_whole() {
    let text = configuration(
        r#"
  - { name: backup-db, playbook: backup, with: { keep: 3 }, select: { tier: db }, cron: "0 3 * * mon-fri",
      timezone: Europe/Madrid, jitter: 10m, at_once: 2, catch_up: 1h }
  - { name: weekly, playbook: restart, select: ['tier="db"'], every: 7d }
  - { name: plain, playbook: backup, select: {}, cron: 0 3 * * 1 }
  - { name: not-now, enabled: false, playbook: backup, select: { tier: db }, every: 1h }"#,
    );
    let policy = good(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &text)]);
    assert!(policy.warnings.is_empty(), "{:?}", places(&policy.warnings));
    assert_eq!(policy.schedules.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["backup-db", "plain", "weekly"]);
    let backup = &policy.schedules["backup-db"];
    let (cron, zone) = (Cron::parse("0 3 * * 1-5").ok(), Zone::named("Europe/Madrid"));
    assert_eq!(Some(&backup.when), cron.zip(zone).map(|(cron, zone)| When::Cron { cron, zone }).as_ref());
    assert!(matches!(&backup.with[0], (name, Param::Literal(value)) if name == "keep" && value == 3));
    assert_eq!((backup.playbook.as_str(), backup.at_once), ("backup", 2));
    assert_eq!((backup.jitter, backup.catch_up), (Duration::from_secs(600), Duration::from_secs(3600)));
    assert_eq!((backup.source.file.as_ref(), backup.source.line), ("selfheal.yaml", 7));
    let weekly = &policy.schedules["weekly"];
    assert_eq!(weekly.when, When::Every(Duration::from_secs(7 * 24 * 3600)));
    assert_eq!((weekly.jitter, weekly.at_once, weekly.catch_up), (Duration::ZERO, 1, Duration::ZERO));
    let db = &policy.deployments["db"];
    assert!(policy.schedules.values().all(|schedule| schedule.select.matches(&db.labels)));
    assert!(matches!(&policy.schedules["plain"].when, When::Cron { zone, .. } if *zone == Zone::utc()));
}

#[test]
fn mistakes_of_schedules() {
    let mut lines = Vec::new();
    for (schedule, expected) in [
        ("{ playbook: backup, select: {}, every: 1d }", "missing-key 6:15"),
        ("{ name: s, select: {}, every: 1d }", "missing-key 6:15"),
        ("{ name: s, playbook: bakup, select: {}, every: 1d }", "unknown-playbook 6:34"),
        ("{ name: s, playbook: off, select: {}, every: 1d }", "unknown-playbook 6:34"),
        ("{ name: s, playbook: backup, every: 1d }", "missing-key 6:15"),
        ("{ name: s, playbook: backup, select: [tier], every: 1d }", "matcher 6:51"),
        ("{ name: s, playbook: backup, with: { kep: 1 }, select: {}, every: 1d }", "unknown-input 6:50"),
        ("{ name: s, playbook: backup, with: { keep: x }, select: {}, every: 1d }", "wrong-type 6:56"),
        ("{ name: s, playbook: backup, select: {} }", "missing-key 6:13"),
        ("{ name: s, playbook: backup, select: {}, every: 1d, cron: 0 3 * * * }", "conflict 6:13"),
        ("{ name: s, playbook: backup, select: {}, every: 1d, timezone: UTC }", "conflict 6:75"),
        ("{ name: s, playbook: backup, select: {}, every: 1s }", "out-of-range 6:61"),
        ("{ name: s, playbook: backup, select: {}, every: 1000d }", "out-of-range 6:61"),
        ("{ name: s, playbook: backup, select: {}, cron: \"0 3 * * moon\" }", "cron 6:69"),
        ("{ name: s, playbook: backup, select: {}, cron: 0 3 * * }", "cron 6:60"),
        ("{ name: s, playbook: backup, select: {}, cron: \"0 3 31 2 *\" }", "cron 6:65"),
        ("{ name: s, playbook: backup, select: {}, cron: \"@daily\" }", "cron 6:61"),
        ("{ name: s, playbook: backup, select: {}, cron: 0 3 * * *, timezone: Mars }", "wrong-value 6:81"),
        ("{ name: s, playbook: backup, select: {}, every: 1h, jitter: 2h }", "conflict 6:73"),
        ("{ name: s, playbook: backup, select: {}, every: 7d, jitter: 2d }", "out-of-range 6:73"),
        ("{ name: s, playbook: backup, select: {}, every: 7d, at_once: 0 }", "wrong-type 6:74"),
        ("{ name: s, playbook: backup, select: {}, every: 7d, catch_up: 8d }", "out-of-range 6:75"),
        ("{ name: s, playbook: backup, select: {}, every: 7d, catchup: 1d }", "unknown-key 6:65"),
        ("{ name: s, playbook: grow, select: {}, every: 7d }", "missing-verb 6:34"),
        ("{ name: s, enabled: false, playbook: backup, select: {}, every: soon }", "wrong-type 6:77"),
    ] {
        let text = configuration(&format!("[{schedule}]"));
        let found = mistakes(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &text)]);
        lines.push((schedule, in_file("selfheal.yaml", expected), found));
    }
    assert_lines(lines);
    let twice =
        "[{ name: s, playbook: backup, select: {}, every: 1d }, { name: s, playbook: backup, select: {}, every: 1d }]";
    let found = mistakes(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &configuration(twice))]);
    assert_eq!(places(&found), ["duplicate-name selfheal.yaml:6:75"]);
}

#[test]
fn what_a_schedule_says_for_nothing_is_a_warning() {
    for (schedule, place) in [
        ("{ name: s, playbook: backup, select: { tier: web }, every: 1d }", "6:50"),
        ("{ name: s, playbook: restart, select: {}, every: 1d, catch_up: 1h }", "6:76"),
    ] {
        let text = configuration(&format!("[{schedule}]"));
        let policy = compiled(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &text)]);
        let warnings = policy.map(|policy| places(&policy.warnings)).unwrap_or_else(|found| places(&found));
        assert_eq!(warnings, [format!("no-effect selfheal.yaml:{place}")], "{schedule}");
    }
}
