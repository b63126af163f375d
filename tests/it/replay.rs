//! `selfheal replay` through the real binary: recorded events under one policy and two, and a journal the engine wrote.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{self, Bench};

const POLICY: &str = r#"format: 1
receivers:
  - { name: oncall, webhook: [{ url: "http://127.0.0.1:9/" }] }
route: { receiver: oncall, group_by: [deployment], group_wait: 10s, group_interval: 1m }
"#;
const RULES: &str = "rules:\n  - { alert: Hot, when: 'last(\"heat\") > 80', clear_when: 'last(\"heat\") < 60', for: 30s, summary: \"{{ deployment }} is hot\" }\n";

fn policy(threshold: &str) -> TempDir {
    let dir = TempDir::new().expect("a folder");
    harness::write(&dir, "selfheal.yaml", POLICY);
    harness::write(&dir, "rules/r.yaml", &RULES.replace("80", threshold));
    dir
}

fn replay(args: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal"));
    command.arg("replay");
    let mut paths = paths.iter();
    for arg in args {
        match *arg {
            "@" => command.arg(paths.next().expect("a path for each @")),
            arg => command.arg(arg),
        };
    }
    command.output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A minute of calm, two of heat, calm again; one line in a thousand is late by some seconds.
fn events() -> String {
    let mut lines = String::new();
    for tick in 0..60 {
        let value = if (12..36).contains(&tick) { 90 } else { 20 };
        // two neighbours change places
        let place = if tick % 10 == 4 {
            tick + 1
        } else if tick % 10 == 5 {
            tick - 1
        } else {
            tick
        };
        let time = format!("2026-01-01T00:{:02}:{:02}Z", place * 5 / 60, place * 5 % 60);
        let value = if place == tick {
            value
        } else if (12..36).contains(&place) {
            90
        } else {
            20
        };
        lines +=
            &json!({ "type": "metric", "deployment": "web", "name": "heat", "value": value, "time": time }).to_string();
        lines.push('\n');
    }
    lines
}

#[test]
fn events_under_a_policy_tell_what_would_have_happened() {
    let policy = policy("80");
    let file = policy.path().join("events.ndjson");
    std::fs::write(&file, events() + "{\"type\":\"metric\"}\n").expect("written");
    let output = replay(&["@", "--policy", "@"], &[&file, policy.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("line 61"), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    let story: Vec<&str> = told.lines().take_while(|line| line.starts_with("2026")).collect();
    assert_eq!(
        story,
        [
            "2026-01-01T00:01:00.000Z alert Hot web: pending (warning)",
            "2026-01-01T00:01:30.000Z alert Hot web: firing (warning)",
            "2026-01-01T00:01:40.000Z sent oncall: [FIRING:1] Hot web (warning)",
            "2026-01-01T00:03:00.000Z alert Hot web: resolved (warning)",
            "2026-01-01T00:03:40.000Z sent oncall: [RESOLVED] Hot web",
        ],
        "{told}"
    );
    let again = replay(&["@", "--policy", "@"], &[&file, policy.path()]);
    assert_eq!(again.stdout, output.stdout, "the same inputs, the same outputs");
    assert_eq!(replay(&["@", "--policy", "@", "--strict"], &[&file, policy.path()]).status.code(), Some(1));
    assert_eq!(replay(&["@"], &[&file]).status.code(), Some(2), "events need a policy");
}

#[test]
fn two_policies_are_told_apart() {
    let (old, new) = (policy("80"), policy("95"));
    let file = old.path().join("events.ndjson");
    std::fs::write(&file, events()).expect("written");
    let output = replay(&["@", "--policy", "@", "--against", "@"], &[&file, old.path(), new.path()]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert_eq!(told.lines().count(), 5, "{told}");
    assert!(told.lines().all(|line| line.starts_with("- ")), "the new one does nothing: {told}");
    let same = replay(&["@", "--policy", "@", "--against", "@"], &[&file, old.path(), old.path()]);
    assert_eq!((same.status.code(), text(&same.stdout).as_str()), (Some(0), "no difference\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_tells_what_happened_and_what_another_policy_would_have_made_of_it() {
    let bench =
        harness::start(&[("selfheal.yaml", POLICY), ("rules/r.yaml", &RULES.replace("for: 30s", "for: 0s"))]).await;
    let heat = |value: u32| json!({ "type": "metric", "deployment": "web", "name": "heat", "value": value });
    bench.event(heat(90)).await;
    bench.wait_for_alert("Hot", "firing").await;
    bench.event(heat(20)).await;
    bench.wait_for_alert("Hot", "resolved").await;
    let Bench { dir, running, .. } = bench;
    running.drain().await;
    let data = dir.path().join("data");
    let output = replay(&["@", "--json"], &[&data]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["transcript"]["rules"]["Hot"]["fired"], 1, "{document:#}");
    assert_eq!(document["divergences"], json!([]));
    let other = policy("95");
    let output = replay(&["@", "--policy", "@", "--json"], &[&data, other.path()]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["transcript"]["rules"], json!({}), "nothing is that hot: {document:#}");
}
