//! Guards that look at more than one run: the fleet, a playbook's record, what people said.

use std::sync::Arc;

use super::bench::{Bench, action, deployment, key, playbook, policy, secs, step};
use crate::turn::AlertChangeKind;
use selfheal_contract::effect::OperatorAnswer;
use selfheal_contract::input::OperatorCommand;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_model::{FailureClass, Health, Selector, Severity, TimeInterval, Zone};
use selfheal_policy::Policy;
use selfheal_policy::guards::{Freeze, MinHealthy, Rate};
use selfheal_policy::playbook::StepKind;
use selfheal_script::Truth;

/// `web-0` to `web-<count - 1>`, which nothing but what a test is about holds back.
fn fleet(count: usize) -> Policy {
    let mut with = policy();
    with.deployments.clear();
    for index in 0..count {
        let one = deployment(&format!("web-{index}"), "web");
        with.deployments.insert(one.id.clone(), Arc::new(one));
    }
    let guards = &mut with.guards;
    guards.max_running = 1_000;
    guards.blast_radius.max_at_once = 1_000;
    guards.blast_radius.min_healthy = MinHealthy::Count(0);
    guards.velocity.disrupt.count = 1_000;
    guards.per_playbook.count = 1_000;
    with
}

fn urgent<'a>(bench: &'a Bench, part: &str) -> Vec<&'a str> {
    let all = bench.told(NewsKind::Refused).into_iter().filter(|(reason, _)| *reason == FlushReason::Urgent);
    all.map(|(_, text)| text).filter(|text| text.contains(part)).collect()
}

#[test]
fn safety_fail_open() {
    let mut bench = Bench::with(fleet(10));
    for index in 0..8 {
        bench.down(&format!("web-{index}"));
    }
    bench.pass(secs(600));
    assert!(bench.calls.is_empty(), "nearly everything sick at once is a sick sensor");
    assert_eq!(bench.refused_by("web-0-1"), Some("sensor"));
    let told = urgent(&bench, "8 of 10 deployments fell sick");
    assert_eq!(told.len(), 1, "people are told once: {:?}", bench.news);
    bench.resolves(&key("Down", "web-7"));
    bench.pass(secs(5));
    assert_eq!(bench.calls.len(), 7, "with one less it is an outage that can be repaired");
}

#[test]
fn what_fell_sick_one_after_the_other_is_no_sick_sensor() {
    let mut bench = Bench::with(fleet(10));
    for index in 0..9 {
        bench.down(&format!("web-{index}"));
        bench.pass(secs(121));
    }
    assert_eq!(bench.calls.len(), 9);
}

#[test]
fn sickness_that_a_dependency_explains_says_nothing_of_the_sensor() {
    let mut with = fleet(10);
    for index in 1..10 {
        let mut one = deployment(&format!("web-{index}"), "web");
        one.depends_on = vec!["web-0".into()];
        with.deployments.insert(one.id.clone(), Arc::new(one));
    }
    let mut bench = Bench::with(with);
    for index in 0..10 {
        bench.health(&format!("web-{index}"), Health::Unhealthy);
        bench.down(&format!("web-{index}"));
    }
    bench.pass(secs(5));
    let acted: Vec<_> = bench.calls.iter().map(|call| call.deployment.id.as_str()).collect();
    assert_eq!(acted, ["web-0"], "the root is repaired, and nothing that waits for it");
    assert_eq!(bench.refused_by("web-5-1"), Some("dependency"));
}

#[test]
fn safety_storm_hysteresis() {
    let mut with = fleet(100);
    with.guards.sensor.sick = 1.0;
    with.guards.storm.ladders = Rate { count: 10, window: secs(60) };
    let mut bench = Bench::with(with);
    for index in 0..12 {
        bench.down(&format!("web-{index}"));
    }
    bench.pass(secs(5));
    assert!(bench.calls.is_empty());
    assert_eq!(bench.refused_by("web-0-1"), Some("storm"));
    assert_eq!(urgent(&bench, "that is a storm").len(), 1, "{:?}", bench.news);
    // calm from the first minute's end on: ten minutes more
    bench.pass(secs(60 + 600 - 6));
    assert!(bench.calls.is_empty());
    bench.pass(secs(1));
    assert_eq!(bench.calls.len(), 12);
}

#[test]
fn safety_breaker() {
    let mut with = fleet(10);
    with.ladders.insert(("Down".into(), Severity::Critical), super::bench::ladder(&["restart"]));
    let mut bench = Bench::with(with);
    for index in 0..3 {
        bench.down(&format!("web-{index}"));
        bench.pass(secs(5));
        bench.ends_failed(FailureClass::Permanent);
    }
    assert_eq!(urgent(&bench, "restart has failed 3 times").len(), 1);
    bench.down("web-3");
    bench.pass(secs(5));
    assert_eq!((bench.verdict("web-3-1"), bench.refused_by("web-3-1")), (Some("refused"), Some("breaker")));
    bench.pass(secs(1800));
    bench.down("web-4");
    bench.down("web-5");
    bench.pass(secs(5));
    assert_eq!(bench.calls.len(), 4, "one run tries it");
    assert_eq!(bench.refused_by("web-5-1"), Some("breaker"));
    bench.ends_done();
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    bench.down("web-6");
    bench.pass(secs(5));
    assert_eq!(bench.calls.len(), 5, "it cured, and is back in service");
}

#[test]
fn safety_breaker_hears_nothing_from_a_run_that_verified_nothing() {
    let mut bench = Bench::with(fleet(10));
    let mut by_hand = |deployment: &str, fails: bool| {
        bench.triggers("restart", deployment).expect("it is taken");
        match fails {
            true => bench.ends_failed(FailureClass::Permanent),
            false => bench.ends_done(),
        }
        urgent(&bench, "is out of service").len()
    };
    assert_eq!((by_hand("web-0", true), by_hand("web-1", true)), (0, 0));
    assert_eq!(by_hand("web-2", false), 0);
    assert_eq!(by_hand("web-3", true), 1, "what was done is no proof that it helps");
    bench.pass(secs(1800));
    bench.triggers("restart", "web-4").expect("one may try it");
    bench.ends_done();
    assert_eq!(bench.verdict("web-4-1"), Some("done"));
    let why = bench.run("web-4-1").why.clone().unwrap_or_default();
    assert!(why.contains("restart stays out of service"), "{why}");
    assert!(urgent(&bench, "back in service").is_empty(), "{:?}", bench.news);
    bench.triggers("restart", "web-5").expect("the next may try it, too");
    bench.ends_failed(FailureClass::Permanent);
    bench.triggers("restart", "web-6").expect("it is taken");
    assert_eq!(bench.refused_by("web-6-1"), Some("breaker"));
}

#[test]
fn a_person_puts_a_playbook_back_into_service() {
    let mut bench = Bench::with(fleet(10));
    for index in 0..3 {
        bench.triggers("restart", &format!("web-{index}")).expect("it may run");
        bench.ends_failed(FailureClass::Permanent);
    }
    let reset = || OperatorCommand::ResetPlaybook { playbook: "restart".into(), reason: "mended".to_owned() };
    bench.triggers("restart", "web-4").expect("it is taken");
    assert_eq!(bench.verdict("web-4-1"), Some("refused"));
    assert_eq!(bench.operator(reset()), Ok(OperatorAnswer::Ok));
    bench.triggers("restart", "web-5").expect("it may run");
    assert_eq!(bench.calls.len(), 4);
    assert!(bench.operator(reset()).is_err(), "it is not out of service");
}

#[test]
fn safety_recurrence() {
    let mut with = fleet(1);
    with.guards.per_deployment.count = 100;
    let mut bench = Bench::with(with);
    for _ in 0..3 {
        let alert = bench.down("web-0");
        bench.pass(secs(130));
        bench.ends_done();
        bench.watch_says(Truth::True);
        bench.resolves(&alert);
        bench.pass(secs(30));
        bench.says(&alert, AlertChangeKind::EpisodeOver);
    }
    bench.down("web-0");
    bench.pass(secs(130));
    assert_eq!(bench.verbs(), ["restart", "restart", "restart", "rollback"], "three cures in a day are none");
    assert_eq!(bench.refused_by("web-0-4"), Some("recurrence"));
}

#[test]
fn safety_velocity() {
    let mut with = fleet(20);
    with.guards.velocity.disrupt = Rate { count: 3, window: secs(600) };
    let mut bench = Bench::with(with);
    for index in 0..5 {
        bench.down(&format!("web-{index}"));
    }
    bench.pass(secs(5));
    assert_eq!(bench.calls.len(), 3);
    assert_eq!(bench.refused_by("web-4-1"), Some("velocity"));
    bench.pass(secs(599));
    assert_eq!(bench.calls.len(), 3);
    bench.pass(secs(1));
    assert_eq!(bench.calls.len(), 5);
}

#[test]
fn budgets_of_a_playbook_hold_over_all_deployments() {
    let mut with = fleet(20);
    with.guards.per_playbook.count = 2;
    let mut bench = Bench::with(with);
    for index in 0..4 {
        bench.down(&format!("web-{index}"));
    }
    bench.pass(secs(5));
    assert_eq!((bench.calls.len(), bench.refused_by("web-3-1")), (2, Some("per_playbook")));
}

#[test]
fn maintenance_holds_what_it_takes_and_ends_by_itself() {
    let mut bench = Bench::with(fleet(3));
    let select = Selector(vec!["deployment=web-0".parse().unwrap_or_else(|error| panic!("{error}"))]);
    let maintain = OperatorCommand::Maintain { select, for_: secs(3600), reason: "new disks".to_owned() };
    let Ok(OperatorAnswer::Id(id)) = bench.operator(maintain) else { panic!("it is taken") };
    bench.down("web-0");
    bench.down("web-1");
    bench.pass(secs(5));
    assert_eq!((bench.calls.len(), bench.refused_by("web-0-1")), (1, Some("pause")));
    assert!(bench.run("web-0-1").refused.as_ref().is_some_and(|no| no.figures.contains("new disks")));
    assert_eq!(bench.operator(OperatorCommand::EndMaintenance { id }), Ok(OperatorAnswer::Ok));
    assert_eq!(bench.calls.len(), 2);
}

#[test]
fn a_person_overrules_a_guard_and_says_why() {
    let mut with = fleet(1);
    with.guards.per_deployment = Rate { count: 1, window: secs(3600) };
    let mut bench = Bench::with(with);
    bench.triggers("restart", "web-0").expect("it may run");
    bench.ends_done();
    let trigger = |overrides: &[&str], reason: &str| OperatorCommand::Trigger {
        playbook: "restart".into(),
        deployment: "web-0".into(),
        with: selfheal_model::Map::new(),
        reason: reason.to_owned(),
        overrides: overrides.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert!(bench.operator(trigger(&["per_deployment"], "")).is_err_and(|why| why.contains("needs a reason")));
    assert!(bench.operator(trigger(&["lease"], "now")).is_err_and(|why| why.contains("can never be overruled")));
    assert!(bench.operator(trigger(&["per_deploymnt"], "now")).is_err_and(|why| why.contains("did you mean")));
    bench.operator(trigger(&["per_deployment"], "now")).expect("it is overruled");
    assert_eq!(bench.calls.len(), 2);
    assert!(bench.audit.iter().any(|line| line.contains("without per_deployment")), "{:?}", bench.audit);
    assert!(
        bench.run("web-0-2").guards.iter().any(|guard| guard.overridden && guard.guard.as_str() == "per_deployment")
    );
}

#[test]
fn safety_freeze_holds_the_next_acting_step_too() {
    let mut with = fleet(1);
    let daily = |from: u16, to: u16| TimeInterval {
        times: vec![(from, to)],
        weekdays: Vec::new(),
        days_of_month: Vec::new(),
        months: Vec::new(),
        years: Vec::new(),
        location: Zone::utc(),
    };
    // the bench's clock begins at 13:46:40
    with.guards.freeze =
        vec![Freeze { name: "afternoon".into(), times: Arc::new([daily(13 * 60 + 47, 13 * 60 + 50)]) }];
    let book = playbook("restart", vec![action("scale"), action("restart")]);
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("web-0");
    bench.pass(secs(20));
    bench.ends_done();
    assert_eq!((bench.verbs(), bench.refused_by("web-0-1")), (vec!["scale"], Some("freeze")));
    bench.pass(secs(180));
    assert_eq!(bench.verbs(), ["scale", "restart"]);
}

#[test]
fn safety_stuck_run_alarm() {
    let mut with = fleet(1);
    with.guards.run_deadline = secs(300);
    let book = playbook("restart", vec![action("restart"), step("rest", StepKind::Wait(secs(3000)))]);
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("web-0");
    bench.pass(secs(5));
    bench.ends_done();
    bench.pass(secs(300));
    assert_eq!(bench.verdict("web-0-1"), Some("inconclusive"));
    assert_eq!(bench.said.len(), 1, "{:?}", bench.said);
    assert!(bench.said[0].summary.as_ref().is_some_and(|text| text.contains("longer than 5m")));
}

#[test]
fn safety_deadman() {
    let mut with = fleet(1);
    with.heartbeat = Some(selfheal_policy::Heartbeat { receiver: "deadman".into(), every: secs(60) });
    let mut bench = Bench::with(policy());
    bench.new_policy(with);
    bench.pass(secs(59));
    let beats =
        |bench: &Bench| bench.told(NewsKind::Started).iter().filter(|(_, text)| text.contains("is there")).count();
    assert_eq!(beats(&bench), 0);
    bench.pass(secs(181));
    assert_eq!(beats(&bench), 4, "one a minute, whatever else happens");
    bench.new_policy(policy());
    bench.pass(secs(600));
    assert_eq!(beats(&bench), 4, "it stops with its key");
}

#[test]
fn maintenance_of_the_deployment_a_step_acts_on_holds_that_step() {
    let mut with = fleet(4);
    let mut elsewhere = action("restart");
    if let StepKind::Action { deployment, .. } = &mut elsewhere.kind {
        *deployment = Some("web-3".into());
    }
    with.playbooks.insert("restart".into(), Arc::new(playbook("restart", vec![action("scale"), elsewhere])));
    let mut bench = Bench::with(with);
    bench.down("web-0");
    bench.pass(secs(5));
    let select = Selector(vec!["deployment=web-3".parse().unwrap_or_else(|error| panic!("{error}"))]);
    let maintain = OperatorCommand::Maintain { select, for_: secs(600), reason: "new disks".to_owned() };
    bench.operator(maintain).expect("it is taken");
    bench.ends_done();
    assert_eq!((bench.verbs(), bench.refused_by("web-0-1")), (vec!["scale"], Some("pause")));
    bench.pass(secs(605));
    assert_eq!(bench.verbs(), ["scale", "restart"]);
}
