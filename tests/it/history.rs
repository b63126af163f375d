//! What happened is told afterwards: over HTTP, on the command line, and by the next process.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{self, Bench, find};
use selfheal::app::Running;

const ADAPTER: &str = r#"#!/bin/sh
read -r request
case "$request" in
  *'"verb":"describe"'*)
    echo '{"verbs":[{"verb":"restart","effect":"disrupt","idempotent":true,"params":[]}]}' ;;
  *'"verb":"observe"'*) echo '{"outcome":"done","facts":{"replicas":1,"version":"v1"}}' ;;
  *'"verb":"restart"'*) echo "restarting" >&2; echo '{"outcome":"done","message":"restarted"}' ;;
esac
"#;

const POLICY: &str = r#"format: 1
adapters:
  ours: { type: exec, command: [/bin/sh, ours.sh] }
deployments:
  - { id: checkout, adapter: ours, labels: { tier: web } }
receivers:
  - name: oncall
    email:
      - to: [oncall@example.com]
        from: selfheal@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none }
    send: [firing, resolved, cured]
route: { receiver: oncall, group_wait: 100ms, group_interval: 300ms }
guards: { start_grace: 0s, act_after: 100ms, grace: 1s }
"#;

const RULE: &str = r#"rules:
  - alert: HighCpu
    when: 'last("cpu_percent") > 80'
    severity: critical
    cooldown: 30m
    summary: "CPU of {{ deployment }} at {{ last('cpu_percent') }} %"
    remediate: [restart]
"#;

const PLAYBOOK: &str = r#"playbook: restart
steps:
  - { id: restart, action: restart, timeout: 10s }
verify: { hold: 500ms, within: 20s }
"#;

async fn start() -> Bench {
    harness::start(&[
        ("selfheal.yaml", POLICY),
        ("rules/cpu.yaml", RULE),
        ("playbooks/restart.yaml", PLAYBOOK),
        ("ours.sh", ADAPTER),
    ])
    .await
}

fn cpu(value: f64) -> Value {
    json!({ "type": "metric", "deployment": "checkout", "name": "cpu_percent", "value": value })
}

/// An alert fires, is repaired and resolved; all of it is in the history.
async fn live_through(bench: &Bench) {
    bench.post("/api/v1/pause", json!({ "reason": "moving the database" }).to_string()).await;
    bench.post("/api/v1/resume", json!({ "reason": "moved" }).to_string()).await;
    bench.event(cpu(97.5)).await;
    bench
        .wait("the restart step to end", "/api/v1/runs", |runs| find(runs, |run| run["steps"][0]["outcome"] == "done"))
        .await;
    bench.event(cpu(20.0)).await;
    bench.wait_for_end_of("restart").await;
    bench.wait_for_alert("HighCpu", "resolved").await;
    // history is written behind the engine's back
    bench
        .wait("the cure in history", "/api/v1/history?kind=runs&state=cured", |page| find(&page["rows"], |_| true))
        .await;
    bench
        .wait("the end in history", "/api/v1/history?state=resolved&deployment=checkout", |page| {
            find(&page["rows"], |_| true)
        })
        .await;
    bench
        .wait("the mail in history", "/api/v1/history?kind=deliveries&state=delivered", |page| {
            find(&page["rows"], |_| true)
        })
        .await;
}

async fn selfheal(url: String, args: &'static [&'static str]) -> Output {
    let call = move || {
        Command::new(env!("CARGO_BIN_EXE_selfheal"))
            .args(["history"])
            .args(args)
            .env("SELFHEAL_URL", url)
            .output()
            .unwrap_or_else(|error| panic!("selfheal does not start: {error}"))
    };
    tokio::task::spawn_blocking(call).await.expect("it is called")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_the_whole_story_over_http_and_on_the_command_line() {
    let bench = start().await;
    live_through(&bench).await;

    let page = bench.get("/api/v1/history?rule=HighCpu").await;
    let alert = &page["rows"][0];
    assert_eq!((&page["kind"], &page["next"], &page["gaps"]), (&json!("alerts"), &Value::Null, &json!([])));
    assert_eq!((&alert["alert"], &alert["severity"]), (&json!("HighCpu"), &json!("critical")), "{page:#}");
    let moves: Vec<_> = alert["transitions"].as_array().expect("a list").iter().map(|one| &one["to"]).collect();
    assert_eq!(moves, ["firing", "resolved"], "{page:#}");
    assert_eq!(alert["transitions"][0]["value"], Value::Null, "the rule names no value");
    assert_eq!(alert["transitions"][1]["why"], "its condition no longer holds");

    let of_it = format!("/api/v1/history?kind=runs&alert={}", alert["id"].as_str().expect("an id"));
    let runs = bench.get(&of_it).await;
    assert_eq!((&runs["rows"][0]["verdict"], &runs["rows"][1]), (&json!("cured"), &Value::Null), "{runs:#}");
    assert_eq!(runs["rows"][0]["steps"][0]["log"].as_str().map(str::trim), Some("restarting"));
    let audit = bench.get("/api/v1/history?kind=audit").await;
    assert!(audit["rows"][1]["what"].as_str().is_some_and(|what| what.contains("moving the database")), "{audit:#}");
    let policies = bench.get("/api/v1/history?kind=policies").await;
    assert_eq!(policies["rows"][0]["version"], bench.get("/api/v1/status").await["policy"]["version"]);

    let answer = bench.http.get(bench.url("/api/v1/history?limit=0")).send().await.expect("it answers");
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
        (400, &b"application/problem+json"[..])
    );
    let problem: Value = serde_json::from_str(&answer.text().await.expect("it is whole")).expect("a problem document");
    assert_eq!(problem["parameter"], "limit", "{problem}");
    let problem = bench.get("/api/v1/history?cursor=nonsense").await;
    assert_eq!((&problem["status"], &problem["parameter"]), (&json!(400), &json!("cursor")));

    let said = selfheal(bench.url(""), &["alerts", "--since", "1h", "--state", "resolved", "--json"]).await;
    let document: Value = serde_json::from_slice(&said.stdout).expect("one JSON document");
    assert_eq!(document, page);
    let said = selfheal(bench.url(""), &["runs", "--since", "1h", "--deployment", "checkout"]).await;
    let table = text(&said.stdout);
    assert!(table.contains("VERDICT") && table.contains("cured") && !table.contains('\u{1b}'), "{table}");
    let said = selfheal(bench.url(""), &["runs", "--until", "1h"]).await;
    assert_eq!(text(&said.stdout).lines().count(), 1, "nothing was going on an hour ago");
    let said = selfheal(bench.url(""), &["--since", "yesterday"]).await;
    assert_eq!(said.status.code(), Some(64), "{}", text(&said.stderr));
    let said = selfheal(bench.url(""), &["audit", "--state", "done"]).await;
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stderr).contains("`state`"), "{}", text(&said.stderr));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_goes_on_where_the_last_one_ended() {
    let bench = start().await;
    live_through(&bench).await;
    let before = (bench.get("/api/v1/alerts").await, bench.get("/api/v1/runs").await);
    let Bench { dir, running, smtp, webhook, http } = bench;
    running.drain().await;
    let running = Running::start(harness::options(dir.path().to_owned())).await.expect("it starts again");
    let bench = Bench { dir, running, smtp, webhook, http };
    assert_eq!(bench.get("/api/v1/runs").await, before.1, "the runs are as they were");
    let alerts = bench.get("/api/v1/alerts").await;
    assert_eq!(alerts[0]["fired_at"], before.0[0]["fired_at"], "{alerts:#}");
    let history = bench.get("/api/v1/history").await;
    assert_eq!(history["rows"].as_array().map(Vec::len), Some(1), "{history:#}");
    assert_eq!(history["gaps"], json!([]), "{history:#}");
    let policies = bench.get("/api/v1/history?kind=policies").await;
    assert_eq!(policies["rows"].as_array().map(Vec::len), Some(1), "{policies:#}");
    bench.stop().await;
}
