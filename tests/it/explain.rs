//! Why something happened, and why it did not.

use crate::world::{Behaviour, World, mins, secs};
use selfheal_contract::OperatorCommand;
use selfheal_contract::explanation::Explanation;

const POLICY: &str = r#"format: 1
adapters:
  sim: { type: sim }
deployments:
  - { id: web, adapter: sim, labels: { tier: web } }
  - { id: db, adapter: sim, labels: { tier: db } }
receivers:
  - { name: oncall, webhook: [{ url: "http://127.0.0.1:9/hook" }] }
route: { receiver: oncall, group_by: [deployment], group_wait: 1s, group_interval: 10s }
settings: { busy: 80 }
guards: { start_grace: 0s, act_after: 5s }
"#;

const RULE: &str = r#"rules:
  - alert: Busy
    select: { tier: web }
    when: 'last("cpu_percent") > settings.busy && (last("queue") > 3 || last("errors") > 0)'
    for: 30s
    severity: critical
    remediate: [restart]
"#;

const RESTART: &str = "playbook: restart\nsteps:\n  - { id: restart, action: restart, timeout: 30s }\n\
                       verify: { hold: 20s, within: 2m }\n";

fn world() -> World {
    World::new(&[("selfheal.yaml", POLICY), ("rules/busy.yaml", RULE), ("playbooks/restart.yaml", RESTART)])
}

fn parts(explained: &Explanation) -> Vec<(String, String)> {
    let parts = explained.levels.iter().flat_map(|level| &level.parts);
    parts.map(|part| (part.text.clone(), part.comes_to.clone())).collect()
}

fn says(explained: &Explanation, part: &str) -> bool {
    explained.because.iter().any(|sentence| sentence.contains(part))
}

#[test]
fn why_nothing_happened() {
    let mut world = world();
    world.gauge("web", "cpu_percent", 95.0);
    world.gauge("web", "queue", 1.0);
    world.gauge("web", "errors", 0.0);
    world.run(mins(2));
    let quiet = world.explain("Busy", "web");
    assert_eq!(
        parts(&quiet),
        [
            ("last(\"cpu_percent\") > settings.busy".to_owned(), "true".to_owned()),
            ("(last(\"queue\") > 3 || last(\"errors\") > 0)".to_owned(), "false".to_owned()),
        ]
    );
    let reads: Vec<_> = quiet.reads.iter().map(|read| (read.text.as_str(), read.comes_to.as_str())).collect();
    assert_eq!(reads, [("last(\"cpu_percent\")", "95"), ("last(\"queue\")", "1"), ("last(\"errors\")", "0")]);
    assert!(says(&quiet, "its condition is false"), "{quiet:#?}");

    world.no_gauge("web", "cpu_percent");
    world.run(mins(10));
    let blind = world.explain("Busy", "web");
    assert_eq!(parts(&blind)[0].1, "no data");
    assert!(says(&world.explain("Busy", "db"), "does not select db"), "{:#?}", world.explain("Busy", "db"));
}

#[test]
fn why_it_waits_and_what_every_guard_says() {
    let mut world = world();
    world.gauge("web", "cpu_percent", 95.0);
    world.gauge("web", "errors", 2.0);
    world.run(secs(20));
    assert!(says(&world.explain("Busy", "web"), "which is not yet `for`"), "{:#?}", world.explain("Busy", "web"));
    world.operator(OperatorCommand::Pause { reason: "moving racks".to_owned() }).expect("it is taken");
    world.run(mins(1));
    let held = world.explain("Busy", "web");
    assert!(says(&held, "is refused by pause: paused by"), "{held:#?}");
    let ladder = held.ladder.as_ref().expect("it has one");
    assert_eq!((ladder.state.as_str(), ladder.rungs.len(), ladder.rungs[0].current), ("waiting", 1, true));
    let no: Vec<_> = ladder.guards.iter().filter(|guard| !guard.allows).map(|guard| guard.guard.as_str()).collect();
    assert_eq!(no, ["pause"]);
    assert!(
        ladder
            .guards
            .iter()
            .any(|guard| guard.guard.as_str() == "per_deployment" && guard.figures.contains("0 of at most 3"))
    );
    assert!(held.timers.iter().any(|timer| timer.what.contains("asks its guards again")), "{held:#?}");
}

#[test]
fn why_it_was_repaired() {
    let mut world = world();
    world.gauge("web", "cpu_percent", 95.0);
    world.gauge("web", "errors", 2.0);
    world.on("web", "restart", Behaviour::done().set("cpu_percent", 20.0));
    world.run_until("the cure", mins(5), |world| !world.verdicts().is_empty());
    let cured = world.explain("Busy", "web");
    let runs = &cured.ladder.as_ref().expect("it has one").rungs[0].runs;
    assert_eq!(runs[0].verdict.as_deref(), Some("cured"));
    assert!(runs[0].guards.iter().all(|guard| guard.allows), "what allowed it is kept: {runs:#?}");
    assert_eq!(serde_json::to_value(&cured).expect("it is plain")["rule"], "Busy");
}

/// A story with these rules, and a second playbook.
fn told_by(rules: &str) -> World {
    let scale = "playbook: scale\nsteps:\n  - { id: scale, action: scale, with: { replicas: 3 }, timeout: 30s }\n\
                 verify: { hold: 20s, within: 1m }\n";
    let restart = RESTART.replace("within: 2m", "within: 1m");
    let mut world = World::new(&[
        ("selfheal.yaml", POLICY),
        ("rules/busy.yaml", rules),
        ("playbooks/restart.yaml", &restart),
        ("playbooks/scale.yaml", scale),
    ]);
    world.gauge("web", "cpu_percent", 95.0);
    world
}

fn guards_of(explained: &Explanation) -> Vec<String> {
    let guards = explained.ladder.iter().flat_map(|ladder| &ladder.guards);
    guards.filter_map(|guard| guard.of.as_ref().map(ToString::to_string)).collect()
}

#[test]
fn what_the_guards_say_of_a_rung_that_acts_elsewhere() {
    let rule = "rules:\n  - alert: Busy\n    select: { tier: web }\n    when: 'last(\"cpu_percent\") > 80'\n    \
                severity: critical\n    remediate: [{ playbook: restart, on: db }]\n";
    let mut world = told_by(rule);
    // before the rung is due there is no run of it
    world.run_until("the alert", secs(30), |world| world.is_firing("Busy"));
    let of = guards_of(&world.explain("Busy", "web"));
    assert!(!of.is_empty() && of.iter().all(|of| of == "db"), "{of:?}");
}

#[test]
fn what_the_guards_say_of_an_alert_about_several_deployments() {
    for on in ["db", "{ select: { tier: db } }"] {
        let rule = format!(
            "rules:\n  - alert: AllBusy\n    per: []\n    when: 'avg(\"cpu_percent\", \"1m\") > 80'\n    \
             severity: critical\n    remediate: [{{ playbook: restart, on: {on} }}]\n"
        );
        let mut world = told_by(&rule);
        let explained = |world: &World| {
            let key = world.engine.scope_of(&"AllBusy".into(), &"web".into()).expect("the rule is there");
            world.engine.explain(&key).expect("there is something to say")
        };
        world.run_until("the alert", secs(30), |world| world.is_firing("AllBusy"));
        let of = guards_of(&explained(&world));
        assert!(!of.is_empty() && of.iter().all(|of| of == "db"), "{on}: {of:?}");

        world.operator(OperatorCommand::Pause { reason: "moving racks".to_owned() }).expect("it is taken");
        world.run(mins(1));
        let held = explained(&world);
        let no: Vec<_> = held.ladder.iter().flat_map(|ladder| &ladder.guards).filter(|guard| !guard.allows).collect();
        assert_eq!(no.iter().map(|guard| guard.guard.as_str()).collect::<Vec<_>>(), ["pause"], "{held:#?}");
    }
}

#[test]
fn a_run_is_told_under_the_rung_it_was_made_for() {
    let rule = RULE
        .replace("remediate: [restart]", "remediate: [restart, scale, restart]")
        .replace(" && (last(\"queue\") > 3 || last(\"errors\") > 0)", "");
    let mut world = told_by(&rule);
    world.run_until("the second rung", mins(10), |world| world.acted().len() == 2);
    let runs = |world: &World| -> Vec<usize> {
        let explained = world.explain("Busy", "web");
        explained.ladder.iter().flat_map(|ladder| &ladder.rungs).map(|rung| rung.runs.len()).collect()
    };
    assert_eq!(runs(&world), [1, 1, 0], "{}", world.told());
    world.run_until("the third rung", mins(10), |world| world.acted().len() == 3);
    assert_eq!(runs(&world), [1, 1, 1], "{}", world.told());
}

#[test]
fn a_name_says_which_alert_where_there_is_one_of_it() {
    let rules = "rules:\n  - { alert: Fleet, per: [], when: 'firing(\"Hot\") > 9' }\n  - { alert: Hot, when: 'last(\"cpu_percent\") > 80' }\n";
    let mut world =
        World::new(&[("selfheal.yaml", POLICY), ("rules/r.yaml", rules), ("playbooks/restart.yaml", RESTART)]);
    let named = |world: &World, name: &str| world.engine.alerts_named(name).len();
    assert_eq!((named(&world, "Fleet"), named(&world, "Hot"), named(&world, "Nobody")), (1, 0, 0));
    let quiet = world.engine.explain(&world.engine.alerts_named("Fleet")[0]);
    assert!(quiet.is_some(), "a rule of the whole fleet has one scope, which is quiet");
    world.gauge("web", "cpu_percent", 95.0);
    world.run(secs(10));
    assert_eq!(named(&world, "Hot"), 1);
    world.gauge("db", "cpu_percent", 95.0);
    world.run(secs(10));
    assert_eq!(named(&world, "Hot"), 2, "a person has to say which");
}

#[test]
fn what_selfheal_raises_itself_is_explained_by_what_it_says() {
    let mut world = world();
    let errors = world.save(&[("selfheal.yaml", POLICY), ("rules/busy.yaml", "rules:\n  - { alert: Busy, wen: x }\n")]);
    assert!(!errors.is_empty());
    let explained = world.engine.explain(&world.engine.alerts_named("PolicyInvalid")[0]).expect("it fires");
    assert!(says(&explained, "selfheal raises it itself: "), "{explained:#?}");
}
