//! The whole path on real sockets and programs: event, rule, alert, run, verification, mail and webhook.

use serde_json::json;

use crate::harness::{self, find, until};

/// A deployment whose "system" is a folder: restart removes the file that says it is stuck.
const ADAPTER: &str = r#"#!/bin/sh
read -r request
case "$request" in
  *'"verb":"describe"'*)
    echo '{"verbs":[{"verb":"restart","effect":"disrupt","idempotent":true,"params":[]}]}' ;;
  *'"verb":"observe"'*) echo '{"outcome":"done","facts":{"replicas":1,"version":"v1"}}' ;;
  *'"verb":"restart"'*) echo "restarting" >&2; echo "$request" > restarted; echo '{"outcome":"done","message":"restarted"}' ;;
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
    webhook:
      - { url: "@WEBHOOK_URL@", secret: "whsec_dGVzdCBrZXkgZm9yIHNpZ25hdHVyZXM=" }
    send: [firing, resolved, severity, cured, not_cured, inconclusive, exhausted]
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

fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("selfheal.yaml", POLICY),
        ("rules/cpu.yaml", RULE),
        ("playbooks/restart.yaml", PLAYBOOK),
        ("ours.sh", ADAPTER),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_becomes_an_alert_a_repair_and_a_mail() {
    let bench = harness::start(&files()).await;
    let cpu = |value: f64| json!({ "type": "metric", "deployment": "checkout", "name": "cpu_percent", "value": value });
    bench.event(cpu(97.5)).await;
    let alert = bench.wait_for_alert("HighCpu", "firing").await;
    assert_eq!(alert["severity"], "critical");
    assert_eq!(alert["summary"], "CPU of checkout at 97.5 %");

    // the repair worked: the next samples are low, and they are evidence from after the action
    bench
        .wait("the restart step to end", "/api/v1/runs", |runs| {
            find(runs, |run| run["playbook"] == "restart" && run["steps"][0]["outcome"] == "done")
        })
        .await;
    let request = std::fs::read_to_string(bench.dir.path().join("restarted")).expect("the adapter was called");
    assert!(request.contains(r#""deployment":"checkout""#), "{request}");
    bench.event(cpu(20.0)).await;

    let run = bench.wait_for_end_of("restart").await;
    assert_eq!(run["verdict"], "cured", "{run:#}");
    assert_eq!(run["steps"][0]["log"].as_str().map(str::trim), Some("restarting"), "{run:#}");
    bench.wait_for_alert("HighCpu", "resolved").await;

    until("a mail about the end", || bench.smtp.mails().iter().any(|mail| mail.subject().contains("RESOLVED"))).await;
    let mails = bench.smtp.mails();
    assert!(mails[0].subject().contains("HighCpu"), "{}", mails[0].subject());
    // the symptom went before the cure was proved, so that word of it may come in a mail of its own
    until("a mail about the cure", || bench.smtp.mails().iter().any(|mail| mail.text().contains("cured"))).await;

    until("a webhook about the end", || {
        bench
            .webhook
            .requests()
            .iter()
            .any(|request| String::from_utf8_lossy(&request.body).contains(r#""status":"resolved""#))
    })
    .await;
    let verifier = standardwebhooks::Webhook::new("whsec_dGVzdCBrZXkgZm9yIHNpZ25hdHVyZXM=").expect("a good key");
    for request in bench.webhook.requests() {
        let old_headers = request
            .headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().parse().expect("a name"), value.as_bytes().try_into().expect("a value"))
            })
            .collect();
        verifier.verify(&request.body, &old_headers).expect("the signature is right");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_repairs_but_not_alerts_and_is_audited() {
    let bench = harness::start(&files()).await;
    let (status, _) = bench.post("/api/v1/pause", json!({ "reason": "moving the database" }).to_string()).await;
    assert_eq!(status, 200);
    bench.event(json!({ "type": "metric", "deployment": "checkout", "name": "cpu_percent", "value": 99 })).await;
    bench.wait_for_alert("HighCpu", "firing").await;
    until("a mail", || !bench.smtp.mails().is_empty()).await;
    let refused = bench
        .wait("a refusal", "/api/v1/alerts", |alerts| find(alerts, |alert| alert["remediation"]["state"] == "waiting"))
        .await;
    assert!(!bench.dir.path().join("restarted").exists(), "it acted while paused: {refused:#}");
    let status = bench.get("/api/v1/status").await;
    assert_eq!(status["paused"]["reason"], "moving the database");

    let (status, _) = bench.post("/api/v1/resume", json!({ "reason": "moved" }).to_string()).await;
    assert_eq!(status, 200);
    bench.event(json!({ "type": "metric", "deployment": "checkout", "name": "cpu_percent", "value": 99 })).await;
    until("the restart", || bench.dir.path().join("restarted").exists()).await;
    let audit = bench.get("/api/v1/audit").await;
    assert!(
        find(&audit, |entry| entry["what"].as_str().is_some_and(|what| what.contains("moving the database"))).is_some()
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_by_hand_takes_the_same_way_and_a_wrong_one_says_why() {
    let bench = harness::start(&files()).await;
    let trigger =
        |playbook: &str, deployment: &str| json!({ "playbook": playbook, "deployment": deployment }).to_string();
    for (playbook, deployment, said) in [("restrat", "checkout", "restrat"), ("restart", "nowhere", "nowhere")] {
        let (status, answer) = bench.post("/api/v1/runs", trigger(playbook, deployment)).await;
        assert_eq!(status, 409, "{answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{answer}");
    }
    let (status, answer) = bench.post("/api/v1/runs", trigger("restart", "checkout")).await;
    assert_eq!(status, 202, "{answer}");
    let run = bench.wait_for_end_of("restart").await;
    assert_eq!(run["verdict"], "done", "{run:#}");
    assert!(run["cause"].as_str().is_some_and(|cause| cause.starts_with("operator:")), "{run:#}");
    bench.stop().await;
}
