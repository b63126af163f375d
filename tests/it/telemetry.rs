//! selfheal's own figures: the page, and the series that rules read.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{self, Bench, find};

const POLICY: &str = r#"format: 1
deployments:
  - { id: checkout, labels: { tier: web } }
receivers: [{ name: nobody }]
route: { receiver: nobody }
"#;

const RULES: &str = r#"rules:
  - { alert: Hot, when: 'last("temperature") > 5', severity: critical }
  - alert: SelfhealSheds
    select: ['deployment="selfheal"']
    when: 'rate("selfheal_events_refused_total", "5m") > 0'
"#;

async fn page(bench: &Bench) -> String {
    let answer = bench.http.get(bench.url("/metrics")).send().await.expect("the API answers");
    let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    answer.text().await.expect("the page is whole")
}

/// The page has all these lines.
#[track_caller]
fn shows(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|own| own == *line), "`{line}` is missing in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_and_refused_is_counted_by_kind_way_and_reason() {
    let strict = POLICY.replace("format: 1", "format: 1\nunknown_deployments: reject");
    let bench = harness::start(&[("selfheal.yaml", &strict), ("rules/a.yaml", RULES)]).await;
    let events = [
        json!({ "type": "metrics", "deployment": "checkout", "values": { "temperature": 7, "load": 1 } }),
        json!({ "type": "health", "deployment": "checkout", "check": "http", "status": "healthy" }),
        json!({ "type": "signal", "deployment": "checkout", "name": "deployed" }),
        json!({ "type": "signal", "deployment": "chekout", "name": "deployed" }),
    ];
    let lines: Vec<String> = events.iter().map(Value::to_string).chain(["no event".to_owned()]).collect();
    assert_eq!(bench.post("/api/v1/events", lines.join("\n")).await.0, 400);
    let text = "load{deployment=\"checkout\"} 2\nload{deployment=\"other\"} 2\nload{\n";
    assert_eq!(bench.post("/api/v1/import/prometheus", text).await.0, 400);
    assert_eq!(bench.post("/api/v1/import/prometheus?wrong=1", "load 1\n").await.0, 400);
    assert_eq!(bench.post("/api/v1/write", "no snappy").await.0, 400);
    let unspoken = bench.http.post(bench.url("/api/v1/events")).header("content-encoding", "br").body("x").send();
    assert_eq!(unspoken.await.expect("an answer").status(), 415);
    let page = page(&bench).await;
    shows(
        &page,
        &[
            "selfheal_events_taken_total{kind=\"metric\",way=\"events\"} 2",
            "selfheal_events_taken_total{kind=\"health\",way=\"events\"} 1",
            "selfheal_events_taken_total{kind=\"signal\",way=\"events\"} 1",
            "selfheal_events_taken_total{kind=\"metric\",way=\"text\"} 1",
            "selfheal_events_taken_total{kind=\"metric\",way=\"otlp\"} 0",
            "selfheal_events_refused_total{reason=\"unknown_deployment\"} 2",
            "selfheal_events_refused_total{reason=\"unreadable\"} 5",
            "selfheal_events_refused_total{reason=\"full\"} 0",
            "selfheal_lane_waiting{lane=\"metrics\"} 0",
            "selfheal_lane_bound{lane=\"metrics\"} 200000",
            "selfheal_alerts{state=\"firing\",severity=\"critical\"} 1",
            "selfheal_alerts_fired_total{severity=\"critical\"} 1",
            "selfheal_deployments 1",
            "selfheal_journal_writable 1",
            "selfheal_policy_refused 0",
            "selfheal_policy_rules 2",
            "selfheal_paused 0",
            "selfheal_engine_answers 1",
            "# EOF",
        ],
    );
    let above_zero = |name: &str| {
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).is_some_and(|n| n > 0.0)
    };
    for name in ["batches_total", "commit_seconds_count", "turn_seconds_count", "process_resident_memory_bytes"] {
        assert!(above_zero(&format!("selfheal_{name}")), "{name}\n{page}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_in_the_engine_and_what_people_switch_is_counted_too() {
    let bench = harness::start(&[("selfheal.yaml", POLICY), ("rules/a.yaml", RULES)]).await;
    let line = |id: usize| json!({ "type": "metric", "deployment": "checkout", "name": "n", "value": 1, "labels": { "id": id.to_string() } });
    let body: Vec<String> = (0..10_005).map(|id| line(id).to_string()).collect();
    assert_eq!(bench.post("/api/v1/events", body.join("\n")).await.0, 202);
    assert_eq!(bench.post("/api/v1/pause", json!({ "reason": "a test" }).to_string()).await.0, 200);
    harness::write(&bench.dir, "rules/a.yaml", "rules: [{ alrt: Hot }]\n");
    assert_eq!(bench.post("/-/reload", "").await.0, 422);
    let page = page(&bench).await;
    shows(
        &page,
        &[
            "selfheal_events_refused_total{reason=\"too_many_series\"} 5",
            "selfheal_series 10000",
            "selfheal_paused 1",
            "selfheal_policy_refused 1",
        ],
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_watches_the_watcher() {
    // where strangers are rejected, selfheal is one of them until it is listed
    let strict = POLICY.replace("format: 1", "format: 1\nunknown_deployments: reject");
    let listed = strict.replace("deployments:\n", "deployments:\n  - { id: selfheal }\n");
    for policy in [POLICY, &listed] {
        let often = |options: &mut selfheal::app::Options| options.own_series_every = Duration::from_millis(100);
        let bench = harness::start_with(&[("selfheal.yaml", policy), ("rules/a.yaml", RULES)], often).await;
        bench
            .wait("a first figure", "/api/v1/deployments", |all| {
                let own = find(all, |deployment| deployment["id"] == "selfheal")?;
                find(&own["metrics"], |metric| metric[0] == "selfheal_events_refused_total{reason=\"unreadable\"}")
            })
            .await;
        assert_eq!(bench.post("/api/v1/events", "no event").await.0, 400);
        let alert = bench.wait_for_alert("SelfhealSheds", "firing").await;
        assert_eq!(alert["labels"]["deployment"], "selfheal", "{alert:#}");
        bench.stop().await;
    }
}
