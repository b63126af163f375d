//! Saving a file changes behaviour while events flow; saving a broken one changes nothing and says why.

use serde_json::json;

use crate::harness::{self, write};

const POLICY: &str = r#"format: 1
deployments:
  - { id: checkout }
receivers: [{ name: nobody }]
route: { receiver: nobody }
"#;

fn rule(threshold: u32, hold: &str) -> String {
    format!(
        "rules:\n  - alert: HighCpu\n    when: 'last(\"cpu_percent\") > {threshold}'\n    for: {hold}\n    cooldown: 1h\n"
    )
}

fn sample() -> serde_json::Value {
    json!({ "type": "metric", "deployment": "checkout", "name": "cpu_percent", "value": 70 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_is_live_and_a_broken_one_changes_nothing() {
    let bench = harness::start(&[("selfheal.yaml", POLICY), ("rules/cpu.yaml", &rule(90, "0s"))]).await;
    bench.event(sample()).await;
    assert_eq!(bench.get("/api/v1/alerts").await, json!([]));

    write(&bench.dir, "rules/cpu.yaml", &rule(60, "0s"));
    bench.wait_for_alert("HighCpu", "firing").await;
    let version = bench.get("/api/v1/status").await["policy"]["version"].clone();

    write(&bench.dir, "rules/cpu.yaml", &rule(60, "0s").replace("last(", "lats("));
    let errors = bench
        .wait("the diagnostics", "/api/v1/status", |status| {
            let errors = status["policy"]["errors"].as_array()?;
            (!errors.is_empty()).then(|| errors.clone())
        })
        .await;
    assert_eq!(errors[0]["file"], "rules/cpu.yaml");
    assert_eq!(errors[0]["line"], 3);
    assert!(errors[0]["help"].as_str().is_some_and(|help| help.contains("last")), "{errors:#?}");
    assert_eq!(bench.get("/api/v1/status").await["policy"]["version"], version);
    bench.wait_for_alert("HighCpu", "firing").await;
    bench.wait_for_alert("PolicyInvalid", "firing").await;

    let (status, answer) = bench.post("/-/reload", "").await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["diagnostics"][0]["line"], 3, "{answer:#}");

    write(&bench.dir, "rules/cpu.yaml", &rule(60, "0s"));
    bench.wait_for_alert("PolicyInvalid", "resolved").await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_timers_are_kept_over_an_edit() {
    let bench = harness::start(&[("selfheal.yaml", POLICY), ("rules/cpu.yaml", &rule(60, "1h"))]).await;
    bench.event(sample()).await;
    let pending = bench.wait_for_alert("HighCpu", "pending").await;
    write(&bench.dir, "rules/cpu.yaml", &rule(61, "100ms"));
    let firing = bench.wait_for_alert("HighCpu", "firing").await;
    assert_eq!(firing["started_at"], pending["started_at"]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn safety_bad_policy_keeps_old_of_a_folder() {
    let bench = harness::start(&[("selfheal.yaml", POLICY), ("rules/cpu.yaml", &rule(90, "0s"))]).await;
    bench.event(sample()).await;
    let version = bench.get("/api/v1/status").await["policy"]["version"].clone();

    // beside a bad file a good one is not taken either
    write(&bench.dir, "playbooks/restart.yaml", "playbook: restart\nsteps:\n  - { acton: restart }\n");
    write(&bench.dir, "rules/cpu.yaml", &rule(60, "0s"));
    let (status, answer) = bench.post("/-/reload", "").await;
    assert_eq!((status, &answer["diagnostics"][0]["file"]), (422, &json!("playbooks/restart.yaml")), "{answer:#}");
    bench.event(sample()).await;
    bench.wait_for_alert("PolicyInvalid", "firing").await;
    let alerts = bench.get("/api/v1/alerts").await;
    let names: Vec<_> = alerts.as_array().expect("a list").iter().map(|alert| &alert["alert"]).collect();
    assert_eq!(names, ["PolicyInvalid"], "{alerts:#}");
    assert_eq!(bench.get("/api/v1/status").await["policy"]["version"], version);

    std::fs::remove_file(bench.dir.path().join("playbooks/restart.yaml")).expect("it is there");
    bench.wait_for_alert("HighCpu", "firing").await;
    bench.stop().await;
}
