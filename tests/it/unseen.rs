//! Time in which selfheal could not see is not time in which nothing came: no-data and silence stand still.

use std::time::Duration;

use crate::world::{World, mins, secs};
use selfheal_contract::{Intake, Storage};
use selfheal_engine::Input;
use selfheal_model::{CheckStatus, Event, EventKind, Origin};

const POLICY: &str = r#"format: 1
adapters:
  sim: { type: sim }
deployments:
  - { id: web, adapter: sim, labels: { tier: web } }
sources:
  - { name: exporter, type: scrape, url: "http://127.0.0.1:9/metrics", every: 15s, labels: { deployment: web } }
receivers:
  - name: oncall
    webhook: [{ url: "http://127.0.0.1:9/hook" }]
    send: [firing, resolved]
route: { receiver: oncall, group_by: [deployment], group_wait: 1s, group_interval: 10s }
guards: { start_grace: 2m, act_after: 1s }
"#;

const RESTART: &str = "playbook: restart\nsteps: [{ id: restart, action: restart }]\n";

fn world(rule: &str) -> World {
    let rules = format!("rules:\n  - {rule}\n");
    World::new(&[("selfheal.yaml", POLICY), ("rules/one.yaml", &rules), ("playbooks/restart.yaml", RESTART)])
}

fn hot(no_data: &str) -> World {
    world(&format!("{{ alert: Hot, when: 'last(\"cpu\") > 80', no_data: {no_data} }}"))
}

/// The exporter answers or does not.
fn up(world: &mut World, answers: bool) {
    let labels = [("source", "exporter")].into_iter().collect();
    let kind = EventKind::Metric { name: "up".into(), value: f64::from(u8::from(answers)), labels };
    let event = Event { deployment: "web".into(), time: world.wall(), kind, origin: Origin::Watched };
    world.input(Input::Events(vec![event]));
}

fn intake(world: &mut World, intake: Intake) {
    world.input(Input::Intake(intake));
}

#[test]
fn that_nothing_is_known_after_a_gap_resolves_nothing_until_it_could_have_come() {
    let mut world = hot("resolve");
    world.gauge("web", "cpu", 90.0);
    world.run(secs(30));
    world.no_gauge("web", "cpu");
    world.gap(mins(6));
    world.run(mins(4));
    assert!(world.is_firing("Hot"), "it had no time to come\n{}", world.told());
    assert!(world.alert("Hot").is_some_and(|view| view.without_data), "{}", world.told());
    world.run(mins(2));
    assert!(!world.is_firing("Hot"), "five minutes were watched, and nothing came\n{}", world.told());
}

#[test]
fn that_a_source_does_not_answer_resolves_nothing() {
    let mut world = hot("resolve");
    world.metric("web", "cpu", 90.0);
    world.run(secs(10));
    up(&mut world, false);
    world.run(mins(30));
    assert!(world.is_firing("Hot"), "{}", world.told());
    // it answers, and does not have the metric any more
    world.event("web", EventKind::Ended { name: "cpu".into(), labels: Default::default() });
    up(&mut world, true);
    world.run(secs(2));
    assert!(!world.is_firing("Hot"), "{}", world.told());
}

#[test]
fn no_data_is_told_once_it_was_watched_for_and_not_before() {
    let mut world = hot("alert");
    world.gauge("web", "cpu", 90.0);
    world.run(secs(30));
    world.no_gauge("web", "cpu");
    world.gap(mins(6));
    world.run(mins(4));
    assert!(!world.is_firing("NoData"), "{}", world.told());
    world.run(mins(2));
    assert!(world.is_firing("NoData"), "{}", world.told());
}

#[test]
fn safety_blind_is_not_silent_while_events_are_refused() {
    let silent = r#"{ alert: Silent, when: 'absent("beat", "5m")', remediate: [restart] }"#;
    let full = || Input::Storage(Storage::Failing { why: "the disk is full".into() });
    let refusals =
        [(full(), Input::Storage(Storage::Working)), (Input::Intake(Intake::Shedding), Input::Intake(Intake::Whole))];
    for (begin, end) in refusals {
        let mut world = world(silent);
        world.gauge("web", "beat", 1.0);
        world.run(mins(6));
        world.no_gauge("web", "beat");
        world.input(begin);
        world.run(mins(20));
        assert!(!world.is_firing("Silent"), "it may have been sent\n{}", world.told());
        world.input(end);
        world.run(mins(4));
        assert!(!world.is_firing("Silent"), "{}", world.told());
        world.run(mins(2));
        assert!(world.is_firing("Silent"), "five minutes were watched\n{}", world.told());
    }
}

#[test]
fn what_was_posted_before_a_time_of_refusals_stands_until_more_could_come() {
    let sick = r#"{ alert: Sick, when: 'unhealthy("page") || last("cpu") > 80', no_data: resolve }"#;
    for posts_health in [true, false] {
        let mut world = world(sick);
        if posts_health {
            let kind = EventKind::Health {
                check: "page".into(),
                replica: None,
                status: CheckStatus::Unhealthy,
                latency_ms: None,
                reason: None,
                message: String::new(),
                confidence: None,
            };
            world.event("web", kind);
        }
        intake(&mut world, Intake::Shedding);
        world.run(secs(5));
        if !posts_health {
            // some of it is taken all the same
            world.metric("web", "cpu", 90.0);
        }
        world.run(mins(20));
        assert!(world.is_firing("Sick"), "{}", world.told());
        intake(&mut world, Intake::Whole);
        world.run(mins(4));
        assert!(world.is_firing("Sick"), "{}", world.told());
        world.run(mins(2));
        assert!(!world.is_firing("Sick"), "{}", world.told());
    }
}

#[test]
fn ages_count_no_time_of_refusals_however_many_there_are_and_whatever_lies_within() {
    let mut world = world(r#"{ alert: Old, when: 'signal_age("backup") > 7200 || age("beat") > 7200' }"#);
    world.signal("web", "backup");
    world.metric("web", "beat", 1.0);
    world.gap(mins(6 * 60));
    for _ in 0..100 {
        intake(&mut world, Intake::Shedding);
        world.run(secs(2));
        intake(&mut world, Intake::Whole);
        intake(&mut world, Intake::Shed);
        world.run(secs(1));
    }
    intake(&mut world, Intake::Shedding);
    world.run(mins(60));
    world.gap(mins(5));
    world.run(mins(60));
    assert!(!world.is_firing("Old"), "{}", world.told());
    intake(&mut world, Intake::Whole);
    world.run(mins(110));
    assert!(!world.is_firing("Old"), "{}", world.told());
    world.run(mins(10));
    assert!(world.is_firing("Old"), "two hours were watched\n{}", world.told());
}

#[test]
fn a_verdict_waits_while_nothing_is_seen() {
    let rule = r#"{ alert: Hot, when: 'last("cpu") > 80', remediate: [restart] }"#;
    let rules = format!("rules:\n  - {rule}\n");
    let restart = "playbook: restart\nsteps: [{ id: restart, action: restart }]\nverify: { hold: 20s, within: 2m }\n";
    let mut world =
        World::new(&[("selfheal.yaml", POLICY), ("rules/one.yaml", &rules), ("playbooks/restart.yaml", restart)]);
    for cures in [true, false] {
        let before = world.verdicts().len();
        world.gauge("web", "cpu", 95.0);
        world.run_until("the repair", mins(60), |world| world.acted().len() == before + 1);
        world.no_gauge("web", "cpu");
        up(&mut world, false);
        world.run(mins(30));
        assert_eq!(world.verdicts().len(), before, "it may be well by now\n{}", world.told());
        world.gauge("web", "cpu", if cures { 20.0 } else { 95.0 });
        up(&mut world, true);
        world.run(mins(3));
        let verdict = if cures { "restart cured" } else { "restart not_cured" };
        assert_eq!(world.verdicts().last().map(String::as_str), Some(verdict), "{}", world.told());
    }
}

#[test]
fn after_a_time_of_refusals_ladders_wait_for_what_comes_since() {
    let rule = r#"{ alert: Hot, when: 'last("cpu") > 80', remediate: [restart] }"#;
    let acted = |refused: Duration| {
        let mut world = world(rule);
        world.run(mins(6));
        intake(&mut world, Intake::Shedding);
        world.run(refused);
        intake(&mut world, Intake::Whole);
        world.gauge("web", "cpu", 95.0);
        world.run(secs(60));
        let early = world.acted().len();
        world.run(mins(2));
        (early, world.acted().len())
    };
    assert_eq!(acted(mins(2)), (0, 1), "within `start_grace` nothing acts");
    assert_eq!(acted(secs(20)), (1, 1), "a short one is none");
}

#[test]
fn an_alert_from_elsewhere_does_not_run_out_while_it_is_posted_in_vain() {
    use selfheal_model::PostedAlert;
    let mut world = hot("keep");
    let wall = world.wall();
    world.input(Input::Posted(vec![PostedAlert {
        labels: [("alertname", "PodDown")].into_iter().collect(),
        annotations: Default::default(),
        starts_at: None,
        ends_at: Some(wall + mins(4)),
        generator_url: String::new(),
    }]));
    world.run(secs(10));
    intake(&mut world, Intake::Shedding);
    world.run(mins(20));
    assert!(world.is_firing("PodDown"), "{}", world.told());
    intake(&mut world, Intake::Whole);
    world.run(mins(3));
    assert!(world.is_firing("PodDown"), "{}", world.told());
    world.run(mins(2));
    assert!(!world.is_firing("PodDown"), "{}", world.told());
}
