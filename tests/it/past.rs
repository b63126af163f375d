//! Why something happened, asked afterwards: of an engine that is made as it was then, and of history where that cannot be.

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
  *'"verb":"restart"'*) echo '{"outcome":"done","message":"restarted"}' ;;
esac
"#;

const POLICY: &str = r#"format: 1
adapters:
  ours: { type: exec, command: [/bin/sh, ours.sh] }
deployments:
  - { id: checkout, adapter: ours, labels: { tier: web } }
receivers:
  - { name: oncall, webhook: [{ url: "@WEBHOOK_URL@" }], send: [firing, resolved, cured] }
route: { receiver: oncall, group_wait: 100ms, group_interval: 300ms }
guards: { start_grace: 0s, act_after: 100ms, grace: 1s }
"#;

const RULE: &str = r#"rules:
  - alert: HighCpu
    when: 'last("cpu_percent") > 80 && last("queue") > 3'
    severity: critical
    summary: "CPU of {{ deployment }} at {{ last('cpu_percent') }} %"
    remediate: [restart]
"#;

const PLAYBOOK: &str = r#"playbook: restart
steps:
  - { id: restart, action: restart, timeout: 10s }
verify: { hold: 500ms, within: 20s }
"#;

const ASKED: &str = "/api/v1/explain?rule=HighCpu&deployment=checkout";

async fn load(bench: &Bench, cpu: f64, queue: f64) {
    let values = json!({ "cpu_percent": cpu, "queue": queue });
    bench.event(json!({ "type": "metrics", "deployment": "checkout", "values": values })).await;
}

/// Quiet, then firing while a pause refuses the repair, then repaired: what `explain` said on the way, quiet first.
async fn live_through(bench: &Bench) -> (Value, Value) {
    load(bench, 20.0, 9.0).await;
    let quiet = bench.get(ASKED).await;
    bench.post("/api/v1/pause", json!({ "reason": "moving the database" }).to_string()).await;
    load(bench, 97.5, 9.0).await;
    bench.wait("the refusal", "/api/v1/runs", |runs| find(runs, |run| run["refused"]["guard"] == "pause")).await;
    let refused = bench.get(ASKED).await;
    bench.post("/api/v1/resume", json!({ "reason": "moved" }).to_string()).await;
    bench
        .wait("the restart step to end", "/api/v1/runs", |runs| find(runs, |run| run["steps"][0]["outcome"] == "done"))
        .await;
    load(bench, 20.0, 0.0).await;
    bench.wait_for_end_of("restart").await;
    bench.wait_for_alert("HighCpu", "resolved").await;
    for told in ["kind=runs&state=cured", "state=resolved", "kind=deliveries&state=delivered"] {
        let in_history = |page: &Value| find(&page["rows"], |_| true);
        bench.wait(told, &format!("/api/v1/history?{told}"), in_history).await;
    }
    (quiet, refused)
}

/// The same engine's next process; `between` is done to its data folder.
async fn restarted(bench: Bench, between: impl FnOnce(&std::path::Path)) -> Bench {
    let Bench { dir, running, smtp, webhook, http } = bench;
    running.drain().await;
    between(&dir.path().join("data"));
    let running = Running::start(harness::options(dir.path().to_owned())).await.expect("it starts again");
    Bench { dir, running, smtp, webhook, http }
}

async fn explain(bench: &Bench, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal"));
    command.arg("explain").args(args).env("SELFHEAL_URL", bench.url(""));
    let called = tokio::task::spawn_blocking(move || command.output()).await.expect("it is called");
    called.unwrap_or_else(|error| panic!("selfheal does not start: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn at(document: &Value) -> String {
    document["at"].as_str().expect("a time").to_owned()
}

fn says(document: &Value, part: &str) -> bool {
    document["because"].as_array().expect("a list").iter().any(|one| one.as_str().is_some_and(|one| one.contains(part)))
}

/// Without who told it.
fn story(mut document: Value) -> Value {
    document.as_object_mut().expect("a document").remove("told");
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_explained_as_it_was_then() {
    let bench = harness::start(&[
        ("selfheal.yaml", POLICY),
        ("rules/cpu.yaml", RULE),
        ("playbooks/restart.yaml", PLAYBOOK),
        ("ours.sh", ADAPTER),
    ])
    .await;
    let (quiet, refused) = live_through(&bench).await;
    assert_eq!(refused["told"], json!({ "by": "engine" }));
    let id = refused["alert"]["id"].as_str().expect("an id").to_owned();
    let (before, during) = (at(&quiet), at(&refused));

    // of a running engine, out of the segment it writes to
    let then = bench.get(&format!("{ASKED}&at={during}")).await;
    assert_eq!((&then["told"]["by"], &then["told"]["snapshot"]), (&json!("journal"), &Value::Null), "{then:#}");
    assert_eq!(story(then), story(refused.clone()), "the very answer it gave then");
    // of the next process under another policy, and by the alert's id
    let bench = restarted(bench, |data| {
        let another = RULE.replace("> 80", "> 90").replace("summary", "value: 'last(\"queue\")'\n    summary");
        let late = "  - { alert: Late, when: 'last(\"queue\") > 100' }\n";
        std::fs::write(data.with_file_name("rules").join("cpu.yaml"), another + late).expect("written");
    })
    .await;
    let then = bench.get(&format!("/api/v1/explain?alert={id}&at={during}")).await;
    assert_eq!(story(then.clone()), story(refused.clone()));
    assert_eq!(then["levels"][0]["parts"][0]["comes_to"], "true");
    assert_eq!((&then["reads"][0]["comes_to"], &then["alert"]["state"]), (&json!("97.5"), &json!("firing")));
    let guards = then["ladder"]["guards"].as_array().expect("a list");
    let no: Vec<_> = guards.iter().filter(|guard| guard["allows"] == false).map(|guard| &guard["guard"]).collect();
    assert_eq!(no, ["pause"], "{guards:#?}");
    // the alert was not there yet: why nothing had happened
    let then = bench.get(&format!("/api/v1/explain?alert={id}&at={before}")).await;
    assert_eq!(story(then.clone()), story(quiet));
    assert!(says(&then, "its condition is false"), "{then:#}");
    assert_eq!(then["reads"][0]["comes_to"], "20");
    let now = bench.get(ASKED).await;
    assert_eq!(now["told"], json!({ "by": "engine" }));
    assert_eq!(now["levels"][0]["parts"][0]["text"], "last(\"cpu_percent\") > 90", "{now:#}");
    let problem = bench.get(&format!("/api/v1/explain?rule=Late&deployment=checkout&at={during}")).await;
    assert_eq!(problem["detail"], format!("at {during} there was no rule `Late`"));

    let shown = text(&explain(&bench, &["HighCpu", "checkout", "--at", &during]).await.stdout);
    for part in ["the journal's beginning", "last(\"cpu_percent\") > 80  is true", "refused by pause", "THEN", "97.5"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let said = explain(&bench, &[&id, "--at", &during, "--json"]).await;
    let document: Value = serde_json::from_slice(&said.stdout).expect("one JSON document");
    assert_eq!(story(document), story(refused));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_has_forgotten_history_tells() {
    let bench = harness::start(&[
        ("selfheal.yaml", POLICY),
        ("rules/cpu.yaml", RULE),
        ("playbooks/restart.yaml", PLAYBOOK),
        ("ours.sh", ADAPTER),
    ])
    .await;
    let (_, refused) = live_through(&bench).await;
    let id = refused["alert"]["id"].as_str().expect("an id").to_owned();
    let during = at(&refused);

    for (when, code, part) in [
        ("2999-01-01T00:00:00Z", 2, "yet to come"),
        ("1999-01-01T00:00:00Z", 2, "all that selfheal knows begins at"),
        ("yesterday", 64, "neither how long ago"),
    ] {
        let said = explain(&bench, &["HighCpu", "checkout", "--at", when]).await;
        assert_eq!(said.status.code(), Some(code), "{when}");
        assert!(text(&said.stderr).contains(part), "{when}: {}", text(&said.stderr));
    }
    let problem = bench.get(&format!("{ASKED}&at=1999-01-01T00:00:00Z")).await;
    assert_eq!((&problem["status"], &problem["parameter"]), (&json!(400), &json!("at")), "{problem}");
    let problem = bench.get(&format!("/api/v1/explain?alert=00&at={during}")).await;
    assert_eq!(
        (&problem["status"], &problem["detail"]),
        (&json!(404), &json!(format!("at {during} there was no alert `00`")))
    );

    // what the last snapshot does not need is let go
    let bench = restarted(bench, |data| std::fs::remove_dir_all(data.join("journal")).expect("removed")).await;
    let then = bench.get(&format!("{ASKED}&at={during}")).await;
    let told = &then["told"];
    assert_eq!((&told["by"], &told["asked_at"], &then["at"]), (&json!("history"), &json!(during), &json!(during)));
    assert!(told["figures_since"].as_str().is_some_and(|since| *since > *during), "{told:#}");
    for part in ["is kept no more; it reaches back to", "it was firing (critical)", "of restart, came to cured"] {
        assert!(says(&then, part), "{part} is missing in {then:#}");
    }
    assert_eq!((&then["levels"], told["alerts"].as_array().map(Vec::len)), (&json!([]), Some(1)), "{then:#}");
    let run = &told["runs"][0];
    assert_eq!((&run["verdict"], &run["steps"][0]["outcome"]), (&json!("cured"), &json!("done")), "{run:#}");
    assert!(
        run["guards"].as_array().is_some_and(|guards| guards.iter().all(|guard| guard["allows"] == true)),
        "{run:#}"
    );
    assert_eq!(told["deliveries"][0]["state"], "delivered", "{told:#}");
    let of_a_day = bench.get(&format!("{ASKED}&at=1999-01-01T00:00:00Z")).await;
    assert!(says(&of_a_day, "no episode of it that had begun by then"), "{of_a_day:#}");

    // an engine without any memory
    let bench = restarted(bench, |data| {
        for part in ["journal", "snapshot"] {
            std::fs::remove_dir_all(data.join(part)).expect("removed");
        }
    })
    .await;
    let now = bench.get(&format!("/api/v1/explain?alert={id}")).await;
    assert_eq!((&now["told"]["by"], &now["told"]["asked_at"]), (&json!("history"), &Value::Null), "{now:#}");
    assert!(says(&now, "`--at TIME` shows the figures") && says(&now, "it was resolved (critical)"), "{now:#}");
    let shown = text(&explain(&bench, &[&id]).await.stdout);
    for part in ["as history has it", "its condition no longer holds", "restart on checkout", "cured", "RECEIVER"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let problem = bench.get("/api/v1/explain?alert=00").await;
    assert_eq!((&problem["status"], &problem["detail"]), (&json!(404), &json!("there is no alert `00`")));
    bench.stop().await;
}
