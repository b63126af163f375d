//! Alerts from elsewhere: posted, routed, repaired, and ended by whoever raised them.

use std::time::Duration;

use crate::harness;
use crate::world::{Behaviour, World, mins, secs};
use selfheal_contract::Intake;
use selfheal_contract::view::AlertStateWord;
use selfheal_engine::Input;
use selfheal_model::{Labels, PostedAlert, Timestamp};

const POLICY: &str = r#"format: 1
adapters:
  sim: { type: sim }
deployments:
  - { id: web, adapter: sim, labels: { tier: web } }
  - { id: shop, adapter: sim, labels: { tier: web } }
receivers:
  - name: oncall
    webhook: [{ url: "http://127.0.0.1:9/hook" }]
    send: [firing, resolved, severity, started, cured, not_cured, inconclusive, refused, exhausted]
route: { receiver: oncall, group_by: [alertname], group_wait: 1s, group_interval: 10s }
severities: { page: critical }
guards: { start_grace: 0s, act_after: 1s, grace: 30s, per_deployment: { rate: 10/1h } }
remediations:
  - name: pod-down
    matchers: ['alertname="PodDown"', 'severity="page"']
    on: "{{ labels.service }}"
    remediate: [restart, scale]
    cooldown: 5m
"#;

const PLAYBOOKS: &str = r#"playbook: restart
steps:
  - { id: restart, action: restart, timeout: 30s }
verify: { hold: 20s, within: 4m }
---
playbook: scale
steps:
  - { id: scale, action: scale, with: { replicas: 4 }, timeout: 30s }
verify: { hold: 20s, within: 4m }
"#;

fn world(policy: &str) -> World {
    World::new(&[("selfheal.yaml", policy), ("playbooks/all.yaml", PLAYBOOKS)])
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn pod_down() -> Labels {
    labels(&[("alertname", "PodDown"), ("service", "web"), ("severity", "page"), ("pod", "web-7f")])
}

fn post(world: &mut World, labels: &Labels, is_over: bool) {
    let wall = world.wall();
    post_until(world, labels, if is_over { wall } else { wall + mins(4) });
}

fn post_until(world: &mut World, labels: &Labels, ends_at: Timestamp) {
    let posted = PostedAlert {
        labels: labels.clone(),
        annotations: [("summary", "a pod is down")].into_iter().collect(),
        starts_at: Some(world.wall() - mins(10)),
        ends_at: Some(ends_at),
        generator_url: "http://prometheus/graph?g0".to_owned(),
    };
    world.input(Input::Posted(vec![posted]));
}

/// As Prometheus does: posted again each minute, as long as it stands.
fn posting(world: &mut World, labels: &Labels, span: Duration, until: impl Fn(&World) -> bool) {
    let mut passed = Duration::ZERO;
    while passed < span && !until(world) {
        post(world, labels, false);
        world.run(mins(1));
        passed += mins(1);
    }
}

fn state(world: &World) -> Option<AlertStateWord> {
    world.alert("PodDown").map(|view| view.state)
}

#[test]
fn an_alert_from_elsewhere_is_told_repaired_and_cured_when_it_is_posted_as_over() {
    let mut world = world(POLICY);
    world.on("web", "restart", Behaviour::done().takes(secs(5)));
    posting(&mut world, &pod_down(), mins(5), |world| !world.acted().is_empty());
    let view = world.alert("PodDown").expect("it is there").clone();
    assert_eq!((view.severity.as_str(), view.summary.as_str()), ("critical", "a pod is down"));
    assert_eq!(view.labels, pod_down(), "its labels are its own, `severity` too");
    assert_eq!(view.generator_url, "http://prometheus/graph?g0");
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    assert_eq!(world.verdicts(), [""; 0], "it still stands\n{}", world.told());
    post(&mut world, &pod_down(), true);
    world.run_until("the end of the run", mins(2), |world| !world.verdicts().is_empty());
    assert_eq!(world.verdicts(), ["restart cured"], "{}", world.told());
    assert_eq!(state(&world), Some(AlertStateWord::Resolved));
    world.run(mins(1));
    assert_eq!(world.mails("oncall").len(), 3, "firing, resolved and repaired\n{}", world.told());
}

#[test]
fn what_is_still_posted_after_the_repair_is_not_cured_and_the_next_rung_is_tried() {
    let mut world = world(POLICY);
    posting(&mut world, &pod_down(), mins(30), |world| world.verdicts().len() == 2);
    assert_eq!(world.acted(), ["web restart", "web scale"], "{}", world.told());
    assert_eq!(world.verdicts(), ["restart not_cured", "scale not_cured"], "{}", world.told());
    assert!(world.news("oncall").iter().any(|news| news.starts_with("exhausted")), "{}", world.told());
}

#[test]
fn an_end_from_before_the_action_is_no_cure_of_it() {
    let mut world = world(POLICY);
    world.on("web", "restart", Behaviour::done().takes(secs(5)));
    posting(&mut world, &pod_down(), mins(1), |_| false);
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    let before = world.wall() - mins(2);
    post_until(&mut world, &pod_down(), before);
    assert_eq!(state(&world), Some(AlertStateWord::Resolved), "for people it is over");
    world.run_until("the end of the run", mins(10), |world| !world.verdicts().is_empty());
    assert_eq!(world.verdicts(), ["restart inconclusive"], "{}", world.told());
}

#[test]
fn since_when_it_stands_is_what_whoever_raised_it_says() {
    let mut world = world(POLICY);
    let now = world.now;
    post(&mut world, &pod_down(), false);
    let view = world.alert("PodDown").expect("it is there");
    assert_eq!(view.started_at, now - mins(10));
    assert_eq!(view.fired_at, Some(now));
}

#[test]
fn an_alert_that_runs_out_is_over_for_people_and_no_cure_for_a_run() {
    let mut world = world(POLICY);
    world.on("web", "restart", Behaviour::done().takes(secs(5)));
    posting(&mut world, &pod_down(), mins(1), |_| false);
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    world.run_until("the end of the run", mins(10), |world| !world.verdicts().is_empty());
    assert_eq!(world.verdicts(), ["restart inconclusive"], "silence proves nothing\n{}", world.told());
    assert_eq!(state(&world), Some(AlertStateWord::Resolved), "{}", world.told());
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
}

#[test]
fn an_alert_that_ran_out_and_comes_again_is_told_and_its_ladder_does_not_start_over() {
    // without a cooldown
    let mut world = world(&POLICY.replace("    cooldown: 5m\n", ""));
    posting(&mut world, &pod_down(), mins(1), |_| false);
    world.run_until("the end of the run", mins(10), |world| !world.verdicts().is_empty());
    assert_eq!(world.verdicts(), ["restart inconclusive"], "{}", world.told());
    world.run(mins(5));
    let told = world.mails("oncall").len();
    posting(&mut world, &pod_down(), mins(30), |_| false);
    assert_eq!(world.acted(), ["web restart"], "a person has to look first\n{}", world.told());
    assert_eq!(state(&world), Some(AlertStateWord::Firing));
    assert!(world.mails("oncall").len() > told, "{}", world.told());
    // over for good: the next one is a new episode
    post(&mut world, &pod_down(), true);
    world.run(mins(1));
    posting(&mut world, &pod_down(), mins(5), |world| world.acted().len() == 2);
    assert_eq!(world.acted(), ["web restart", "web restart"], "{}", world.told());
}

#[test]
fn what_was_cured_and_is_still_posted_is_left_alone_for_as_long_as_others_look_back() {
    let playbooks = PLAYBOOKS.replacen(
        "verify: { hold: 20s, within: 4m }",
        "verify: { until: 'last(\"heat\") < 50', hold: 20s, within: 4m }",
        1,
    );
    let mut world = World::new(&[("selfheal.yaml", POLICY), ("playbooks/all.yaml", &playbooks)]);
    world.gauge("web", "heat", 20.0);
    posting(&mut world, &pod_down(), mins(10), |_| false);
    assert_eq!(world.verdicts(), ["restart cured"], "{}", world.told());
    assert_eq!(world.acted(), ["web restart"], "its own window may still hold what was before\n{}", world.told());
    posting(&mut world, &pod_down(), mins(10), |world| world.acted().len() == 2);
    assert_eq!(world.acted(), ["web restart", "web scale"], "the cure has not lasted\n{}", world.told());
}

#[test]
fn what_is_not_posted_again_in_time_starts_nothing() {
    let mut world = world(&POLICY.replace("act_after: 1s", "act_after: 185s"));
    post(&mut world, &pod_down(), false);
    world.run(mins(3) + secs(10));
    assert_eq!(state(&world), Some(AlertStateWord::Firing), "{}", world.told());
    assert!(world.alert("PodDown").is_some_and(|view| view.without_data), "{}", world.told());
    world.run(mins(10));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    // and once it comes again the ladder goes on
    posting(&mut world, &pod_down(), mins(10), |world| !world.acted().is_empty());
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
}

#[test]
fn nothing_is_done_where_no_remediation_matches_and_never_for_an_empty_target() {
    let mut world = world(POLICY);
    let other = labels(&[("alertname", "PodDown"), ("service", "web"), ("severity", "info")]);
    posting(&mut world, &other, mins(3), |_| false);
    assert!(!world.mails("oncall").is_empty(), "{}", world.told());
    assert_eq!(world.runs().len(), 0, "{}", world.told());

    let nobody = labels(&[("alertname", "PodDown"), ("severity", "page")]);
    posting(&mut world, &nobody, mins(5), |_| false);
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    let unlisted = labels(&[("alertname", "PodDown"), ("severity", "page"), ("service", "nobody")]);
    posting(&mut world, &unlisted, mins(5), |_| false);
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    let told = world.news("oncall");
    assert!(
        told.iter().any(|news| news.starts_with("exhausted")),
        "people are told of both: {told:?}\n{}",
        world.told()
    );
    let why = "restart was not tried, by empty_target: ";
    assert!(told.iter().any(|news| news.contains(why) && news.contains("nobody")), "and why: {told:?}");
}

#[test]
fn a_verdict_waits_while_an_alert_may_be_posted_in_vain() {
    let mut world = world(POLICY);
    world.on("web", "restart", Behaviour::done().takes(secs(5)));
    posting(&mut world, &pod_down(), mins(5), |world| !world.acted().is_empty());
    world.input(Input::Intake(Intake::Shedding));
    world.run(mins(20));
    assert_eq!(world.verdicts(), [""; 0], "its end may have been refused\n{}", world.told());
    world.input(Input::Intake(Intake::Whole));
    post(&mut world, &pod_down(), true);
    world.run_until("the end of the run", mins(2), |world| !world.verdicts().is_empty());
    assert_eq!(world.verdicts(), ["restart cured"], "{}", world.told());
}

#[test]
fn the_end_of_what_nobody_heard_of_is_no_news() {
    let mut world = world(POLICY);
    post(&mut world, &pod_down(), true);
    world.run(mins(5));
    assert_eq!(world.alerts().count(), 0);
    assert_eq!(world.mails("oncall"), [""; 0]);
}

#[test]
fn time_in_which_nothing_could_be_posted_ends_no_alert() {
    let mut world = world(&POLICY.replace("act_after: 1s", "act_after: 1h"));
    post(&mut world, &pod_down(), false);
    world.run(secs(5));
    world.gap(mins(30));
    assert_eq!(state(&world), Some(AlertStateWord::Firing), "{}", world.told());
    world.run(mins(3));
    assert_eq!(state(&world), Some(AlertStateWord::Firing), "{}", world.told());
    world.run(mins(2));
    assert_eq!(state(&world), Some(AlertStateWord::Resolved), "it could have come again\n{}", world.told());
}

#[test]
fn it_fires_again_within_its_cooldown_as_a_relapse_and_the_ladder_goes_on() {
    let mut world = world(POLICY);
    posting(&mut world, &pod_down(), mins(5), |world| !world.acted().is_empty());
    post(&mut world, &pod_down(), true);
    world.run_until("the end of the run", mins(2), |world| !world.verdicts().is_empty());
    posting(&mut world, &pod_down(), mins(5), |world| world.acted().len() == 2);
    assert_eq!(world.alert("PodDown").map(|view| view.relapse), Some(1), "{}", world.told());
    assert_eq!(world.acted(), ["web restart", "web restart"], "the rung that cured\n{}", world.told());
}

#[test]
fn a_remediation_that_is_gone_stops_its_run_before_the_next_acting_step() {
    let playbooks = PLAYBOOKS.replace(
        "steps:\n  - { id: restart, action: restart, timeout: 30s }",
        "steps:\n  - { id: one, action: restart }\n  - { id: two, action: restart }",
    );
    let files = [("selfheal.yaml", POLICY), ("playbooks/all.yaml", playbooks.as_str())];
    let mut world = World::new(&files);
    world.on("web", "restart", Behaviour::done().takes(secs(90)));
    posting(&mut world, &pod_down(), mins(1), |_| false);
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    let (policy, _) = POLICY.split_once("remediations:").expect("it has some");
    world.policy(&[("selfheal.yaml", policy), ("playbooks/all.yaml", playbooks.as_str())]);
    posting(&mut world, &pod_down(), mins(5), |world| !world.verdicts().is_empty());
    assert_eq!(world.verdicts(), ["restart cancelled"], "{}", world.told());
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    assert_eq!(state(&world), Some(AlertStateWord::Firing), "people still hear of it");
}

#[test]
fn a_crash_in_the_middle_forgets_no_posted_alert_and_repeats_no_step() {
    for record in 1..60 {
        let mut world = world(POLICY);
        world.on("web", "restart", Behaviour::done().takes(secs(5)));
        world.keep_journal();
        world.crash_after(record, secs(20), true);
        posting(&mut world, &pod_down(), mins(4), |world| !world.acted().is_empty());
        if world.acted().is_empty() {
            // what came from before the crash starts nothing, and start_grace is none here
            posting(&mut world, &pod_down(), mins(4), |world| !world.acted().is_empty());
        }
        post(&mut world, &pod_down(), true);
        world.run_until("the end of the run", mins(6), |world| !world.verdicts().is_empty());
        assert_eq!(world.acted(), ["web restart"], "died after record {record}\n{}", world.told());
        assert_eq!(state(&world), Some(AlertStateWord::Resolved), "died after record {record}\n{}", world.told());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_alerts_are_named_the_good_ones_kept_and_all_are_found_as_alertmanager_shows_them() {
    let bench = harness::start(&[("selfheal.yaml", "format: 1\nreceivers: [{ name: nobody }]\n")]).await;
    let body = r#"[{"labels":{"alertname":"Good","team":"a"},"annotations":{"summary":"so it is"}},
                   {"labels":{"team":"a"}}]"#;
    let (status, answer) = bench.post("/api/v2/alerts", body).await;
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (400, &1.into(), &1.into()), "{answer}");
    assert_eq!(answer["errors"][0]["why"], "alert 2: it has no label `alertname`", "{answer}");
    let (status, answer) = bench.post("/api/v2/alerts", r#"{"labels":{}}"#).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("a list of alerts")), "{answer}");
    let (status, answer) = bench.post("/api/v2/alerts", r#"[{"labels":{"alertname":"Other"}}]"#).await;
    assert_eq!((status, answer), (200, "".into()));

    let found = |path: &'static str| {
        let bench = &bench;
        async move {
            let answer = bench.get(path).await;
            let names = answer.as_array().unwrap_or_else(|| panic!("{path}: {answer}")).iter();
            let mut names: Vec<String> = names.map(|alert| alert["labels"]["alertname"].to_string()).collect();
            names.sort();
            names.join(" ")
        }
    };
    bench.wait_for_alert("Good", "firing").await;
    bench.wait_for_alert("Other", "firing").await;
    assert_eq!(found("/api/v2/alerts").await, r#""Good" "Other""#);
    assert_eq!(found("/api/v2/alerts?filter=team%3D%22a%22").await, r#""Good""#);
    let silence = r#"{"matchers":["alertname=Good"],"for":"1h","comment":"known"}"#;
    assert_eq!(bench.post("/api/v1/silences", silence).await.0, 201);
    bench
        .wait("the silence", "/api/v2/alerts?silenced=false", |alerts| (alerts.as_array()?.len() == 1).then_some(()))
        .await;
    assert_eq!(found("/api/v2/alerts?active=false").await, r#""Good""#);
    let shown = bench.get("/api/v2/alerts?filter=team%3Da").await[0].clone();
    assert_eq!(
        (&shown["status"]["state"], &shown["annotations"]["summary"]),
        (&"suppressed".into(), &"so it is".into())
    );
    for wrong in ["/api/v2/alerts?filter=%3D", "/api/v2/alerts?silenced=perhaps", "/api/v2/alerts?colour=red"] {
        assert_eq!(bench.get(wrong).await["status"], 400, "{wrong}");
    }
    let explained =
        bench.get(&format!("/api/v1/explain?alert={}", shown["fingerprint"].as_str().expect("an id"))).await;
    assert!(explained.to_string().contains("it comes from elsewhere: posted last at"), "{explained:#}");
    bench.stop().await;
}
