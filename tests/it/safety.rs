//! What remediation must never do and what it must always do: one test a requirement, named after its key.

use serde_json::json;

use crate::world::{Behaviour, World, compile, mins, secs};
use selfheal_contract::OperatorCommand;
use selfheal_contract::view::AlertStateWord;
use selfheal_model::{CheckStatus, EventKind, Facts, FailureClass, Outcome};

mod crash;

/// One deployment, one receiver who hears everything, guards that do not wait at the start.
const POLICY: &str = r#"format: 1
adapters:
  sim: { type: sim }
deployments:
  - { id: web, adapter: sim, labels: { tier: web } }
receivers:
  - name: oncall
    webhook: [{ url: "http://127.0.0.1:9/hook" }]
    send: [firing, resolved, severity, started, cured, not_cured, inconclusive, refused, exhausted]
route: { receiver: oncall, group_by: [deployment], group_wait: 1s, group_interval: 10s }
guards: { start_grace: 0s, act_after: 1s, grace: 30s, per_deployment: { rate: 10/1h } }
"#;

const RULE: &str = r#"rules:
  - alert: HighCpu
    value: 'last("cpu_percent")'
    when: 'value > 80'
    severity: critical
    cooldown: 5m
    remediate: [restart]
"#;

const LADDER: &str = r#"rules:
  - alert: HighCpu
    value: 'last("cpu_percent")'
    when: 'value > 80'
    severity: critical
    cooldown: 5m
    remediate: [restart, scale]
"#;

const RESTART: &str = r#"playbook: restart
steps:
  - { id: restart, action: restart, timeout: 30s }
verify: { hold: 20s, within: 2m }
"#;

const SCALE: &str = r#"playbook: scale
steps:
  - { id: scale, action: scale, with: { replicas: 4 }, timeout: 30s }
verify: { hold: 20s, within: 2m }
"#;

fn files<'a>(rule: &'a str, restart: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("selfheal.yaml", POLICY),
        ("rules/cpu.yaml", rule),
        ("playbooks/restart.yaml", restart),
        ("playbooks/scale.yaml", SCALE),
    ]
}

fn sick(rule: &str, restart: &str) -> World {
    let mut world = World::new(&files(rule, restart));
    world.gauge("web", "cpu_percent", 95.0);
    world
}

fn ended(world: &World) -> usize {
    world.verdicts().len()
}

#[test]
fn safety_fail_fast() {
    let restart = "playbook: restart\nsteps:\n  - { id: tidy, action: clean, best_effort: true }\n  \
                   - { id: restart, action: restart }\n  - { id: more, action: scale, with: { replicas: 4 } }\n";
    let mut world = sick(RULE, restart);
    world.on("web", "clean", Behaviour::failed(FailureClass::Permanent, "no such folder"));
    world.on("web", "restart", Behaviour::failed(FailureClass::Permanent, "it does not start"));
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.acted(), ["web clean", "web restart"], "{}", world.told());
    let run = world.runs()[0];
    assert_eq!(run.verdict.as_deref(), Some("not_cured"));
    assert!(run.why.as_deref().is_some_and(|why| why.contains("it does not start")), "{run:#?}");
}

#[test]
fn safety_cured_not_succeeded() {
    let mut world = sick(RULE, RESTART);
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart not_cured"], "every step was done, the symptom stayed\n{}", world.told());

    let mut world = sick(RULE, RESTART);
    world.on("web", "restart", Behaviour::done().set("cpu_percent", 20.0));
    world.run_until("the end of the step", mins(2), |world| !world.acted().is_empty());
    world.run(secs(12));
    assert_eq!(ended(&world), 0, "gone, but not yet for `hold`\n{}", world.told());
    world.run_until("the end of the run", mins(3), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart cured"], "{}", world.told());
}

#[test]
fn safety_no_data_is_inconclusive() {
    let mut world = sick(LADDER, RESTART);
    world.run_until("the step", mins(2), |world| !world.acted().is_empty());
    world.no_gauge("web", "cpu_percent");
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart inconclusive"], "{}", world.told());
    world.run(mins(10));
    assert_eq!(world.acted(), ["web restart"], "the ladder went on without knowing\n{}", world.told());
    assert!(world.news("oncall").iter().any(|news| news.starts_with("inconclusive")), "{}", world.told());
}

#[test]
fn safety_never_on_resolved() {
    let policy = POLICY.replace("act_after: 1s", "act_after: 30s");
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.run_until("the alert", mins(1), |world| world.is_firing("HighCpu"));
    world.run(secs(10));
    world.gauge("web", "cpu_percent", 10.0);
    world.run(mins(10));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());

    // between two acting steps it is asked again
    let restart = "playbook: restart\nsteps:\n  - { id: one, action: restart }\n  - { id: two, action: clean }\n\
                   verify: { hold: 5s, within: 1m }\n";
    let mut world = sick(RULE, restart);
    world.on("web", "restart", Behaviour::done().takes(secs(20)));
    world.run_until("the first step", mins(2), |world| !world.acted().is_empty());
    world.run(secs(2));
    world.gauge("web", "cpu_percent", 10.0);
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
}

#[test]
fn safety_firing_by_keep_alone_starts_nothing() {
    let rule = RULE.replace("    cooldown: 5m\n", "    cooldown: 5m\n    keep_firing_for: 5m\n");
    let policy = POLICY.replace("act_after: 1s", "act_after: 30s");
    let mut files = files(&rule, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.run_until("the alert", mins(1), |world| world.is_firing("HighCpu"));
    world.gauge("web", "cpu_percent", 10.0);
    world.run(mins(3));
    assert!(world.is_firing("HighCpu"), "{}", world.told());
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
}

#[test]
fn safety_stale_event() {
    let mut world = World::new(&files(RULE, RESTART));
    world.pause();
    world.metric("web", "cpu_percent", 95.0);
    world.run(mins(4));
    assert!(world.is_firing("HighCpu"), "{}", world.told());
    world.resume();
    world.run(mins(5));
    assert_eq!(world.acted(), [""; 0], "what was seen before the pause is too old to act on\n{}", world.told());
}

#[test]
fn safety_no_self_trigger() {
    let rule = "rules:\n  - alert: Wanted\n    when: 'signal(\"please_restart\", \"1m\") > 0'\n    clear_when: \
                'signal_age(\"please_restart\") > 60'\n    remediate: [restart]\n";
    let restart = "playbook: restart\nsteps:\n  - { id: restart, action: restart }\n  - signal: { name: please_restart }\n\
                   verify: { until: 'true', hold: 1s, within: 10s }\n";
    let mut world = World::new(&files(rule, restart));
    world.signal("web", "please_restart");
    world.run(mins(30));
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    assert!(!world.is_firing("Wanted"), "the run's own signal keeps its alert alive\n{}", world.told());
}

#[test]
fn safety_one_run_per_deployment() {
    let rules = format!("{RULE}  - alert: AlsoBad\n    when: 'last(\"cpu_percent\") > 90'\n    remediate: [scale]\n");
    let mut world = sick(&rules, RESTART);
    world.on("web", "restart", Behaviour::done().takes(secs(25)));
    world.run_until("the first step", mins(2), |world| !world.acted().is_empty());
    let by_hand = world.trigger("restart", "web");
    world.run(secs(10));
    assert_eq!(world.acted().len(), 1, "a second run acts\n{}", world.told());
    assert!(
        by_hand.is_err() || world.runs().iter().any(|run| run.refused.is_some() || run.state == "waiting"),
        "{by_hand:?}"
    );
    // the world itself holds that no two calls overlap
    world.run(mins(30));
}

#[test]
fn safety_fenced_lease() {
    let mut world = sick(LADDER, RESTART);
    world.run_until("both rungs", mins(15), |world| world.acted().len() == 2);
    assert!(world.calls[1].fence > world.calls[0].fence, "{:#?}", world.calls);
    assert!(world.calls.iter().all(|call| call.fence > 0));
}

#[test]
fn safety_ambiguous_is_not_retried() {
    let restart = RESTART.replace("timeout: 30s", "timeout: 30s, retry: { attempts: 3, backoff: 1s..2s }");
    let mut world = sick(LADDER, &restart);
    world.on("web", "restart", Behaviour::unknown("the connection broke"));
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    assert_eq!(world.verdicts(), ["restart inconclusive"], "{}", world.told());
    world.run(mins(10));
    assert_eq!(world.acted(), ["web restart"], "the ladder went on\n{}", world.told());

    // what may be repeated is what the adapter calls transient
    let mut world = sick(LADDER, &restart);
    world.on("web", "restart", Behaviour::failed(FailureClass::Transient, "busy"));
    world.on("web", "restart", Behaviour::done().set("cpu_percent", 5.0));
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart cured"], "{}", world.told());
    assert_eq!(world.acted(), ["web restart", "web restart"]);
}

#[test]
fn safety_budget_before_act() {
    let policy = POLICY.replace("rate: 10/1h", "rate: 2/1h").replace("grace: 30s", "grace: 1s");
    let rule = RULE.replace("cooldown: 5m", "cooldown: 0s").replace("[restart]", "[restart, restart, restart, scale]");
    let mut files = files(&rule, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.on("web", "restart", Behaviour::failed(FailureClass::Permanent, "no"));
    world.run(mins(40));
    assert_eq!(world.acted().len(), 2, "failed attempts count too\n{}", world.told());
    let refused = world
        .runs()
        .iter()
        .any(|run| run.refused.as_ref().is_some_and(|refused| refused.guard.as_str() == "per_deployment"));
    let told = world.news("oncall").iter().any(|news| news.contains("per_deployment"));
    assert!(refused || told, "{}", world.told());
}

#[test]
fn safety_finite_defaults() {
    let guards =
        compile(&[("selfheal.yaml", "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n")])
            .guards
            .clone();
    assert!((1..=100).contains(&guards.per_deployment.count) && (1..=100).contains(&guards.max_running));
    assert!((1..=100).contains(&guards.blast_radius.max_at_once));
    for span in [guards.max_event_age, guards.start_grace, guards.act_after, guards.grace, guards.per_deployment.window]
    {
        assert!(!span.is_zero() && span <= mins(24 * 60), "{span:?}");
    }
}

#[test]
fn safety_blast_radius() {
    let deployments: String =
        (1..=6).map(|n| format!("  - {{ id: web-{n}, adapter: sim, labels: {{ tier: web }} }}\n")).collect();
    // others stay healthy: were all sick at once, the sensor would be suspect
    let others: String =
        (1..=3).map(|n| format!("  - {{ id: db-{n}, adapter: sim, labels: {{ tier: db }} }}\n")).collect();
    let all = format!("{deployments}{others}");
    let policy = POLICY.replace("  - { id: web, adapter: sim, labels: { tier: web } }\n", &all).replace(
        "per_deployment:",
        "blast_radius: { group_by: [tier], min_healthy: 50%, max_at_once: 2 }, per_deployment:",
    );
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    for n in 1..=6 {
        let id = format!("web-{n}");
        world.gauge(&id, "cpu_percent", 95.0);
        world.on(&id, "restart", Behaviour::done().takes(secs(20)).set("cpu_percent", 5.0));
    }
    let mut most = 0;
    for _ in 0..1800 {
        world.run(secs(1));
        let under_way = world.runs().iter().filter(|run| run.state == "running" || run.state == "verifying").count();
        most = most.max(under_way);
    }
    assert!((1..=2).contains(&most), "{most} at once\n{}", world.told());
    let acted: std::collections::BTreeSet<_> = world.acted().into_iter().collect();
    assert_eq!(acted.len(), 6, "some were never repaired\n{}", world.told());
}

#[test]
fn safety_own_evidence() {
    // no sample comes after the action: the low one from before proves nothing
    let restart = "playbook: restart\nsteps:\n  - { id: restart, action: restart }\nverify: { until: 'last(\"errors\") < 5', \
                   hold: 1s, within: 1m }\n";
    let mut world = sick(RULE, restart);
    world.gauge("web", "errors", 0.0);
    world.run_until("the step", mins(2), |world| !world.acted().is_empty());
    world.no_gauge("web", "errors");
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart inconclusive"], "{}", world.told());
}

#[test]
fn safety_cleanup_runs() {
    let restart = "playbook: restart\nsteps:\n  - { id: restart, action: restart }\n  - { id: more, action: scale, with: { replicas: 3 } }\n\
                   finally:\n  - { id: tidy, action: clean }\nverify: { hold: 5s, within: 1m }\n";
    // on failure
    let mut world = sick(RULE, restart);
    world.on("web", "restart", Behaviour::failed(FailureClass::Permanent, "no"));
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.acted(), ["web restart", "web clean"], "{}", world.told());

    // the symptom goes in mid-run
    let mut world = sick(RULE, restart);
    world.on("web", "restart", Behaviour::done().takes(secs(20)));
    world.run_until("the step", mins(2), |world| !world.acted().is_empty());
    world.gauge("web", "cpu_percent", 10.0);
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.acted(), ["web restart", "web clean"], "{}", world.told());

    // on cancel
    let mut world = sick(RULE, restart);
    world.on("web", "restart", Behaviour::done().takes(secs(25)));
    world.run_until("the step", mins(2), |world| !world.acted().is_empty());
    let run = world.runs()[0].id.clone();
    let answer = world.operator(OperatorCommand::CancelRun { run, reason: "wrong one".to_owned() });
    assert!(answer.is_ok(), "{answer:?}");
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.acted(), ["web restart", "web clean"], "{}", world.told());
    assert_eq!(world.verdicts(), ["restart cancelled"], "{}", world.told());
}

#[test]
fn safety_kill_switch() {
    let mut world = World::new(&files(RULE, RESTART));
    world.pause();
    world.gauge("web", "cpu_percent", 95.0);
    world.run(mins(2));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    assert!(
        world.is_firing("HighCpu") && !world.mails("oncall").is_empty(),
        "people are told all the same\n{}",
        world.told()
    );
    world.policy(&files(LADDER, RESTART));
    world.run(mins(2));
    assert_eq!(world.acted(), [""; 0], "a reload lifted it\n{}", world.told());
    let by_hand = world.trigger("restart", "web");
    world.run(secs(5));
    assert_eq!(world.acted(), [""; 0], "{by_hand:?}\n{}", world.told());
    world.resume();
    world.run(mins(1));
    assert_eq!(world.acted().first().map(String::as_str), Some("web restart"), "{}", world.told());
}

#[test]
fn safety_kill_switch_is_told_whatever_a_receiver_asks_for() {
    let send = POLICY.lines().find(|line| line.contains("send:")).expect("the policy has one");
    let policy = POLICY.replace(&format!("{send}\n"), "");
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.pause();
    world.run(secs(5));
    assert!(world.news("oncall").iter().any(|news| news.contains("a test")), "{}", world.told());
}

#[test]
fn safety_pause_holds_a_run_before_its_next_acting_step() {
    let restart = "playbook: restart\nsteps:\n  - { id: one, action: restart }\n  - { id: two, action: clean }\n";
    let mut world = sick(RULE, restart);
    world.on("web", "restart", Behaviour::done().takes(secs(10)));
    world.run_until("the first step", mins(2), |world| !world.acted().is_empty());
    world.pause();
    world.run(mins(3));
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
}

#[test]
fn safety_empty_target() {
    let policy = POLICY.replace("{ id: web, adapter: sim,", "{ id: web,");
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.run(mins(5));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    assert!(world.news("oncall").iter().any(|news| news.starts_with("exhausted")), "{}", world.told());
    assert!(world.trigger("restart", "").is_err());
}

#[test]
fn safety_ladder_ends_with_people() {
    let mut world = sick(LADDER, RESTART);
    world.run(mins(40));
    assert_eq!(world.acted(), ["web restart", "web scale"], "it started over by itself\n{}", world.told());
    let news = world.news("oncall");
    let story = news.iter().find(|news| news.starts_with("exhausted")).unwrap_or_else(|| panic!("{}", world.told()));
    assert!(story.contains("restart") && story.contains("scale"), "{story}");
}

#[test]
fn safety_grace_after_action() {
    let rules = format!("{RULE}  - alert: Slow\n    when: 'last(\"response_ms\") > 500'\n    remediate: [scale]\n");
    let policy = POLICY.replace("grace: 30s", "grace: 5m");
    let mut files = files(&rules, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.on("web", "restart", Behaviour::done().set("cpu_percent", 5.0));
    world.run_until("the cure", mins(10), |world| ended(world) > 0);
    let cured_at = world.now;
    world.gauge("web", "response_ms", 900.0);
    world.run_until("the second run", mins(10), |world| world.acted().len() == 2);
    let waited = world.now.since(cured_at);
    assert!(waited >= mins(4), "a new ladder began {waited:?} after the last action\n{}", world.told());
}

#[test]
fn safety_dependency_first() {
    let policy = POLICY.replace(
        "  - { id: web, adapter: sim, labels: { tier: web } }\n",
        "  - { id: db, adapter: sim, labels: { tier: db }, checks: [{ name: tcp, tcp: \"127.0.0.1:9\", every: 5s, failure_threshold: 1 }] }\n  \
         - { id: web, adapter: sim, labels: { tier: web }, depends_on: [db] }\n",
    );
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.check("db", "tcp", CheckStatus::Unhealthy);
    world.run(secs(30));
    world.gauge("web", "cpu_percent", 95.0);
    world.run(mins(5));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    world.check("db", "tcp", CheckStatus::Healthy);
    world.run(mins(3));
    assert_eq!(world.acted().first().map(String::as_str), Some("web restart"), "{}", world.told());

    // nor does its ladder act on another one that is well
    let policy =
        policy.replace("  - { id: web,", "  - { id: ci, adapter: sim, labels: { tier: tools } }\n  - { id: web,");
    let rule = RULE.replace("remediate: [restart]", "remediate: [{ playbook: restart, on: ci }]");
    files[0].1 = &policy;
    files[1].1 = &rule;
    let mut world = World::new(&files);
    world.check("db", "tcp", CheckStatus::Unhealthy);
    world.run(secs(30));
    world.gauge("web", "cpu_percent", 95.0);
    world.run(mins(5));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    world.check("db", "tcp", CheckStatus::Healthy);
    world.run(mins(5));
    assert_eq!(world.acted().first().map(String::as_str), Some("ci restart"), "{}", world.told());
}

#[test]
fn safety_rollback_reconciler() {
    let nobody_knows = "nobody said whether a GitOps reconciler watches web";
    for (output, said) in [
        (json!(null), Some(nobody_knows)),
        (json!({ "reconciler": "could not be paused: forbidden" }), Some("the reconciler of web: could not be paused")),
        (json!({ "reconciler": "paused (Argo CD)" }), Some("the reconciler of web: paused (Argo CD)")),
        (json!({ "reconciler": "none" }), None),
    ] {
        let back = "playbook: restart\nsteps:\n  - { id: back, action: rollback, with: { force: true } }\n\
                    verify: { hold: 5s, within: 1m }\n";
        let mut world = sick(RULE, back);
        let outcome = Outcome::Done { output, facts: Facts::default(), events: Vec::new() };
        world.on("web", "rollback", Behaviour { outcome, ..Behaviour::done() });
        world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
        world.run(mins(1));
        let news = world.news("oncall").join("\n");
        match said {
            Some(said) => assert!(news.contains(said), "{said}: {news}\n{}", world.told()),
            None => assert!(!news.contains("reconciler"), "{news}"),
        }
    }
    // what is not forced makes no such promise
    let back = "playbook: restart\nsteps:\n  - { id: back, action: rollback }\nverify: { hold: 5s, within: 1m }\n";
    let mut world = sick(RULE, back);
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    world.run(mins(1));
    assert!(!world.news("oncall").join("\n").contains("reconciler"), "{}", world.told());
}

#[test]
fn safety_pinned_version() {
    let two = "playbook: restart\nsteps:\n  - { id: one, action: restart }\n  - { id: two, action: clean }\n";
    let mut world = sick(RULE, two);
    world.on("web", "restart", Behaviour::done().takes(secs(20)));
    world.run_until("the first step", mins(2), |world| !world.acted().is_empty());
    let edited = "playbook: restart\nsteps:\n  - { id: one, action: restart }\n  - { id: two, action: scale, with: { replicas: 9 } }\n";
    world.policy(&files(RULE, edited));
    world.run(mins(1));
    assert_eq!(world.acted(), ["web restart", "web clean"], "{}", world.told());
}

#[test]
fn safety_a_run_whose_rule_is_gone_stops() {
    let two = "playbook: restart\nsteps:\n  - { id: one, action: restart }\n  - { id: two, action: clean }\n\
               finally:\n  - { id: last, action: logs }\n";
    let mut world = sick(RULE, two);
    world.on("web", "restart", Behaviour::done().takes(secs(20)));
    world.run_until("the first step", mins(2), |world| !world.acted().is_empty());
    world.policy(&files("rules: []\n", two));
    world.run(mins(2));
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    assert_eq!(world.verdicts(), ["restart cancelled"], "{}", world.told());
    assert!(world.calls.iter().any(|call| call.verb == "logs"), "`finally` did not run\n{}", world.told());
    assert_eq!(world.alert("HighCpu").map(|view| view.state), Some(AlertStateWord::Ended), "{}", world.told());
}

#[test]
fn safety_observe_first() {
    for files in [
        files(RULE, &format!("{RESTART}mode: observe\n").clone())
            .iter()
            .map(|(path, text)| (*path, (*text).to_owned()))
            .collect::<Vec<_>>(),
        files(RULE, RESTART)
            .iter()
            .map(|(path, text)| (*path, text.replace("guards: {", "guards: { mode: observe,")))
            .collect(),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let mut world = World::new(&files);
        world.gauge("web", "cpu_percent", 95.0);
        world.run(mins(10));
        assert_eq!(world.acted(), [""; 0], "{}", world.told());
        let said = world.news("oncall").iter().any(|news| news.contains("restart")) || world.told().contains("observe");
        assert!(said, "nothing says what would be done\n{}", world.told());
    }
}

#[test]
fn safety_blind_is_not_silent() {
    let rule = "rules:\n  - alert: Silent\n    when: 'absent(\"heartbeat\", \"3m\")'\n    remediate: [restart]\n";
    let mut world = World::new(&files(rule, RESTART));
    world.gauge("web", "heartbeat", 1.0);
    world.run(mins(5));
    world.no_gauge("web", "heartbeat");
    world.gap(mins(30));
    world.run(mins(1));
    assert!(!world.is_firing("Silent"), "it was not watched for 3m after the gap\n{}", world.told());
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    world.run(mins(5));
    assert!(world.is_firing("Silent"), "{}", world.told());
}

#[test]
fn safety_a_start_acts_on_nothing_old() {
    let policy = POLICY.replace("start_grace: 0s", "start_grace: 2m");
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.run(secs(110));
    assert!(world.is_firing("HighCpu"));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    world.run(secs(60));
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
}

#[test]
fn safety_look_around() {
    let policy = POLICY.replace("act_after: 1s", "act_after: 20s");
    let mut files = files(RULE, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.run_until("the alert", mins(1), |world| world.is_firing("HighCpu"));
    world.run(secs(18));
    assert_eq!(world.acted(), [""; 0], "{}", world.told());
    world.run(secs(10));
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
}

#[test]
fn safety_one_bad_row() {
    // two series, and the rule does not say which: an error whenever it is asked
    let broken = "rules:\n  - alert: Broken\n    when: 'last(\"disk\") > 5'\n";
    let rules = format!("{broken}{}", RULE.replace("rules:\n", ""));
    let mut world = World::new(&files(&rules, RESTART));
    world.gauge("web", "cpu_percent", 95.0);
    world.run(mins(1));
    assert!(world.is_firing("HighCpu"), "{}", world.told());
    assert_eq!(world.acted(), ["web restart"], "{}", world.told());
    for second in 0..120 {
        let mount = if second % 2 == 0 { "/" } else { "/var" };
        let labels = [("mount", mount)].into_iter().collect();
        world.event("web", EventKind::Metric { name: "disk".into(), value: 50.0, labels });
        world.run(secs(1));
    }
    assert!(world.is_firing("RuleError"), "{}", world.told());
}

#[test]
fn safety_least_privilege() {
    let policy = POLICY.replace("sim: { type: sim }", "sim: { type: sim, allow: { verbs: [logs, scale] } }");
    let mut files = files(LADDER, RESTART);
    files[0].1 = &policy;
    let mut world = World::new(&files);
    world.gauge("web", "cpu_percent", 95.0);
    world.on("web", "scale", Behaviour::done().set("cpu_percent", 5.0));
    world.run(mins(10));
    assert_eq!(world.acted(), ["web scale"], "{}", world.told());
}

#[test]
fn safety_stuck_run_alarm() {
    let restart = "playbook: restart\nsteps:\n  - { id: restart, action: restart, timeout: 30s }\n  \
                   - wait: { until: 'last(\"never\") > 1', within: 3h }\n";
    let mut world = sick(RULE, restart);
    world.run(mins(90));
    assert_eq!(world.verdicts(), ["restart inconclusive"], "{}", world.told());
}

#[test]
fn safety_bad_policy_keeps_old() {
    let mut world = sick(RULE, RESTART);
    world.on("web", "restart", Behaviour::done().takes(secs(20)).set("cpu_percent", 5.0));
    world.run_until("the step", mins(2), |world| !world.acted().is_empty());
    let version = world.engine.policy().version.clone();
    // a save whose other files are good: none of them may be taken, and each would be noticed
    let quicker = RESTART.replace("hold: 20s", "hold: 1s");
    let rule = RULE.replace("value > 80", "value > 1").replace("HighCpu", "AnyCpu");
    let policy = POLICY.replace("guards: {", "guards: { mode: observe,");
    let mut bad = files(&rule, &quicker);
    bad[0].1 = &policy;
    bad[3].1 = "playbook: scale\nsteps:\n  - { id: scale, acton: scale }\n";
    let errors = world.save(&bad);
    assert!(errors.iter().any(|error| error.message.contains("acton")), "{errors:?}");
    assert!(world.is_firing("PolicyInvalid") && world.is_firing("HighCpu"), "{}", world.told());
    assert_eq!(world.engine.policy().version, version);
    world.run_until("the end of the run", mins(5), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart cured"], "a bad save disturbed a run\n{}", world.told());
    // what comes after it follows the old one, too
    world.run(mins(2));
    assert!(!world.is_firing("AnyCpu"), "{}", world.told());
    world.gauge("web", "cpu_percent", 95.0);
    world.run_until("the next repair", mins(10), |world| world.acted().len() == 2);
    assert_eq!(world.save(&files(RULE, RESTART)), []);
    assert!(!world.is_firing("PolicyInvalid"), "{}", world.told());
}
