//! What keeps people from being told, over the API and in virtual time.

use serde_json::json;

use crate::command_line::{selfheal, text};
use crate::harness::{self, find, until};
use crate::world::{World, mins, secs};
use selfheal_contract::{OperatorAnswer, OperatorCommand, SilenceAsked, SilenceEnd};
use selfheal_model::{Labels, Selector};

const POLICY: &str = r#"format: 1
receivers:
  - name: oncall
    email:
      - to: [oncall@example.com]
        from: selfheal@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none }
route: { receiver: oncall, group_by: [deployment], group_wait: 50ms, group_interval: 200ms }
"#;

const RULES: &str = r#"rules:
  - alert: HighCpu
    when: 'last("cpu_percent") > 80'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_keeps_mail_back_until_it_is_ended() {
    let bench = harness::start(&[("selfheal.yaml", POLICY), ("rules/cpu.yaml", RULES)]).await;
    let url = bench.url("");
    let (status, answer) = bench
        .post(
            "/api/v1/silences",
            json!({ "matchers": ["deployment=~\"check.*\""], "for": "1h", "comment": "moving the database" })
                .to_string(),
        )
        .await;
    assert_eq!((status, &answer), (201, &json!({ "id": "s-1" })));
    for (body, said) in [
        (json!({ "matchers": ["deployment"], "for": "1h", "comment": "x" }), "no matcher"),
        (json!({ "matchers": ["a=b"], "comment": "x" }), "when it ends"),
        (json!({ "matchers": ["a=b"], "for": "1h" }), "comment"),
        (json!({ "matchers": ["a=b"], "for": "1h", "coment": "x" }), "coment"),
    ] {
        let (status, answer) = bench.post("/api/v1/silences", body.to_string()).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{said}: {answer}");
    }
    let (status, _) = bench
        .post("/api/v1/silences", json!({ "matchers": ["a=~\".*\""], "for": "1h", "comment": "x" }).to_string())
        .await;
    assert_eq!(status, 409, "it would silence everything");

    let cpu = |on: &str| json!({ "type": "metric", "deployment": on, "name": "cpu_percent", "value": 99 });
    bench.event(cpu("checkout")).await;
    bench.event(cpu("shop")).await;
    until("a mail about what is not silenced", || !bench.smtp.mails().is_empty()).await;
    let alert = bench
        .wait("the silenced alert", "/api/v1/alerts", |alerts| {
            find(alerts, |alert| alert["labels"]["deployment"] == "checkout" && alert["suppressed"] == "silence")
        })
        .await;
    assert_eq!(alert["held"]["silenced_by"], json!(["s-1"]));
    assert!(bench.smtp.mails().iter().all(|mail| mail.subject().contains("shop")));
    let view = bench.get("/api/v1/silences/s-1").await;
    assert_eq!((&view["state"], &view["comment"]), (&json!("active"), &json!("moving the database")));

    let url_given = url.clone();
    let out = tokio::task::spawn_blocking(move || {
        let list = selfheal(&["silence", "list", "--url", &url_given]);
        let expired = selfheal(&["silence", "expire", "s-1", "--url", &url_given]);
        (list, expired)
    })
    .await
    .expect("it runs");
    assert!(text(&out.0.stdout).contains("moving the database"), "{}", text(&out.0.stdout));
    assert_eq!(out.1.status.code(), Some(0), "{}", text(&out.1.stderr));
    until("the mail that was kept back", || bench.smtp.mails().iter().any(|mail| mail.subject().contains("checkout")))
        .await;
    assert_eq!(bench.get("/api/v1/silences?state=expired").await[0]["id"], "s-1");
    assert_eq!(bench.get("/api/v1/silences?state=active").await, json!([]));

    let id = alert["id"].as_str().expect("an id").to_owned();
    let (status, _) =
        bench.post(&format!("/api/v1/alerts/{id}/ack"), json!({ "take": true, "comment": "mine" }).to_string()).await;
    assert_eq!(status, 200);
    let view = bench.get(&format!("/api/v1/alerts/{id}")).await;
    assert_eq!((&view["suppressed"], &view["held"]["acknowledged"]["take"]), (&json!("acknowledgement"), &json!(true)));
    let undone =
        tokio::task::spawn_blocking(move || selfheal(&["ack", &id, "--undo", "--url", &url])).await.expect("it runs");
    assert_eq!(undone.status.code(), Some(0), "{}", text(&undone.stderr));
    let audit = bench.get("/api/v1/audit").await;
    for what in ["moving the database", "ended silence s-1", "took over", "took back"] {
        let said = find(&audit, |entry| entry["what"].as_str().is_some_and(|text| text.contains(what)));
        assert!(said.is_some(), "{what}: {audit:#}");
    }
    bench.stop().await;
}

const STORY: &str = r#"format: 1
receivers: [{ name: oncall, webhook: [{ url: "http://127.0.0.1:9/hook" }] }, { name: nights }]
time_intervals: [{ name: small-hours, time_intervals: [{ times: [{ start_time: "00:00", end_time: "01:00" }] }] }]
route:
  receiver: oncall
  group_by: [deployment]
  group_wait: 1s
  group_interval: 10s
  routes: [{ matchers: [deployment=mail], mute_time_intervals: [small-hours] }]
inhibit_rules:
  - { source_matchers: [alertname=Down], target_matchers: [alertname=HighCpu], equal: [deployment] }
"#;

const STORY_RULES: &str = r#"rules:
  - { alert: HighCpu, when: 'last("cpu_percent") > 80' }
  - { alert: Down, when: 'last("up") < 1', severity: critical }
"#;

#[test]
fn silences_inhibition_and_closed_hours_survive_every_restart() {
    let mut world = World::new(&[("selfheal.yaml", STORY), ("rules/a.yaml", STORY_RULES)]);
    let silence = SilenceAsked {
        id: None,
        matchers: Selector(vec!["deployment=web".parse().expect("a matcher")]),
        starts_at: None,
        ends: SilenceEnd::After(mins(10)),
        comment: "a test".to_owned(),
        annotations: Labels::default(),
    };
    assert_eq!(world.operator(OperatorCommand::Silence(silence)), Ok(OperatorAnswer::Id("s-1".into())));
    for deployment in ["web", "shop", "mail"] {
        world.gauge(deployment, "cpu_percent", 95.0);
    }
    world.gauge("shop", "up", 0.0);
    world.run(mins(5));
    assert_eq!(world.mails("oncall"), ["[FIRING:1] Down shop (critical)"], "{}", world.told());
    // the silence has ended
    world.run(mins(10));
    assert_eq!(world.mails("oncall")[1..], ["[FIRING:1] HighCpu web (warning)"], "{}", world.told());
    // what inhibits is over
    world.gauge("shop", "up", 1.0);
    world.run(secs(30));
    assert_eq!(world.mails("oncall")[2..], ["[FIRING:1] HighCpu shop (warning)"], "{}", world.told());
    // the hour is over
    world.run(mins(60));
    assert_eq!(world.mails("oncall")[3..], ["[FIRING:1] HighCpu mail (warning)"], "{}", world.told());
}
