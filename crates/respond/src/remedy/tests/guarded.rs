//! What holds a run back, and what lets it go.

use std::sync::Arc;

use super::bench::{Bench, action, condition_of, deployment, key, playbook, policy, rule, secs};
use crate::queries::Reply;
use crate::turn::AlertChangeKind;
use selfheal_contract::Gap;
use selfheal_contract::input::OperatorCommand;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_model::{AlertKey, Dependency, FailureClass, Health, Selector, Severity};
use selfheal_policy::Policy;
use selfheal_policy::guards::Mode;
use selfheal_policy::ladder::{Ladder, On, Rung};
use selfheal_policy::playbook::StepKind;
use selfheal_script::{Param, Truth};

#[test]
fn safety_kill_switch() {
    let mut bench = Bench::new();
    bench.pauses();
    assert!(bench.engine.as_ref().is_some_and(|engine| engine.paused.is_some()));
    let alert = bench.down("checkout");
    bench.pass(secs(600));
    assert!(bench.calls.is_empty());
    assert_eq!((bench.state(&alert).as_str(), bench.refused_by("checkout-1")), ("waiting", Some("pause")));
    let refusals = bench.told(NewsKind::Refused);
    assert_eq!(refusals.len(), 2, "the switch itself, and once per guard: {refusals:?}");
    assert_eq!(refusals[0].0, FlushReason::Urgent);
    assert!(refusals[1].1.contains("paused by ana") && refusals[1].1.contains("moving"), "{refusals:?}");
    bench.resumes();
    assert_eq!(bench.verbs(), ["restart"]);
    assert_eq!(bench.audit.len(), 2);
}

#[test]
fn a_pause_in_mid_run_holds_the_next_acting_step_and_cleaning_up_too() {
    let mut book = playbook("restart", vec![action("restart"), action("scale")]);
    book.finally = vec![action("tidy")];
    let mut with = policy();
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    let alert = bench.down("checkout");
    bench.pass(secs(5));
    bench.pauses();
    bench.ends_done();
    assert_eq!(bench.verbs(), ["restart"]);
    assert_eq!(bench.refused_by("checkout-1"), Some("pause"));
    bench.resolves(&alert);
    assert_eq!(bench.verbs(), ["restart"], "only lease and pause hold cleaning up");
    bench.resumes();
    assert_eq!(bench.verbs(), ["restart", "tidy"]);
}

#[test]
fn nothing_old_is_acted_on_after_a_pause() {
    let mut bench = Bench::new();
    bench.pauses();
    bench.down("checkout");
    bench.pass(secs(600));
    bench.evidence_age = secs(600);
    bench.resumes();
    assert!(bench.calls.is_empty());
    assert_eq!(bench.refused_by("checkout-1"), Some("stale"));
    bench.evidence_age = secs(1);
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn a_start_and_a_gap_hold_ladders_back_for_start_grace() {
    let mut with = policy();
    with.guards.start_grace = secs(120);
    let mut bench = Bench::with(with);
    bench.pass(secs(100));
    bench.down("checkout");
    bench.pass(secs(19));
    assert_eq!(bench.refused_by("checkout-1"), Some("start_grace"));
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["restart"]);

    let from = bench.now;
    bench.now = bench.now + secs(1000);
    let to = bench.now;
    bench.turn(|remedy, turn, alerts| remedy.resumed(turn, alerts, from, to, Gap::Blind));
    bench.down("db");
    bench.pass(secs(60));
    assert_eq!(bench.refused_by("db-1"), Some("start_grace"), "again after a gap");
    assert_eq!(bench.run("checkout-1").state, "running", "the step's own time stood still");
    bench.pass(secs(60));
    assert_eq!(bench.verbs(), ["restart", "restart"]);
}

#[test]
fn safety_one_run_per_deployment() {
    let mut bench = Bench::new();
    bench.down("checkout");
    bench.pass(secs(5));
    assert!(bench.triggers("rollback", "checkout").is_ok());
    let slow = key("Slow", "checkout");
    bench.fires(&slow, Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(10));
    assert_eq!(bench.verbs(), ["restart"]);
    assert_eq!(bench.refused_by("checkout-2"), Some("lease"));
    assert_eq!(bench.refused_by("checkout-3"), Some("lease"));
    let first_fence = bench.calls[0].fence;
    bench.ends_done();
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    assert_eq!(bench.verbs(), ["restart", "rollback"], "what people asked for comes first");
    assert!(bench.calls[1].fence > first_fence, "every lease has a greater number");
}

#[test]
fn safety_grace_after_action() {
    let mut bench = Bench::new();
    let down = bench.down("checkout");
    bench.pass(secs(5));
    bench.ends_done();
    bench.resolves(&down);
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    assert_eq!(bench.verdict("checkout-1"), Some("cured"));
    let slow = key("Slow", "checkout");
    bench.fires(&slow, Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(119));
    assert_eq!(bench.refused_by("checkout-2"), Some("grace"));
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["restart", "restart"]);
}

#[test]
fn safety_budget_before_act() {
    let mut with = policy();
    with.guards.grace = secs(0);
    with.guards.recurrence.cured = 100;
    let mut bench = Bench::with(with);
    for _ in 0..3 {
        let alert = bench.down("checkout");
        bench.pass(secs(5));
        // counted before its end is known
        bench.resolves(&alert);
        bench.ends_done();
        bench.watch_says(Truth::True);
        bench.pass(secs(30));
        bench.says(&alert, AlertChangeKind::EpisodeOver);
    }
    assert_eq!(bench.calls.len(), 3);
    bench.down("checkout");
    bench.pass(secs(600));
    assert_eq!((bench.calls.len(), bench.refused_by("checkout-4")), (3, Some("per_deployment")));
    bench.pass(secs(3000));
    assert_eq!(bench.calls.len(), 4, "an hour after the first there is room again");
}

#[test]
fn a_refusal_that_lasts_is_told_to_people_once() {
    let mut bench = Bench::new();
    bench.pauses();
    bench.down("checkout");
    bench.pass(secs(1804));
    let urgent =
        |bench: &Bench| bench.told(NewsKind::Refused).iter().filter(|(r, _)| *r == FlushReason::Urgent).count();
    assert_eq!(urgent(&bench), 1, "the switch");
    bench.pass(secs(1));
    assert_eq!(urgent(&bench), 2);
    bench.pass(secs(7200));
    assert_eq!(urgent(&bench), 2);
    bench.resumes();
    assert_eq!(bench.verbs(), ["restart"], "it goes on asking");
}

#[test]
fn safety_dependency_first() {
    let mut with = policy();
    let mut checkout = deployment("checkout", "web");
    checkout.depends_on = vec!["cart".into()];
    let mut cart = deployment("cart", "web");
    cart.depends_on = vec!["db".into()];
    with.deployments.insert("checkout".into(), Arc::new(checkout));
    with.deployments.insert("cart".into(), Arc::new(cart));
    let mut bench = Bench::with(with);
    bench.health("db", Health::Unhealthy);
    bench.down("checkout");
    let of_db = bench.down("db");
    bench.pass(secs(5));
    assert_eq!(bench.calls.iter().map(|call| call.deployment.id.as_str()).collect::<Vec<_>>(), ["db"]);
    assert_eq!(bench.refused_by("checkout-1"), Some("dependency"));
    bench.health("db", Health::Healthy);
    assert_eq!(bench.calls.len(), 1, "it is still being repaired");
    bench.ends_done();
    bench.watch_says(Truth::True);
    bench.resolves(&of_db);
    bench.pass(secs(30));
    assert_eq!((bench.calls.len(), bench.refused_by("checkout-1")), (1, Some("dependency")));
    let figures = &bench.run("checkout-1").refused.as_ref().expect("it is refused").figures;
    assert!(figures.starts_with("checkout depends on db, which is back since "), "{figures}");
    bench.pass(secs(119));
    assert_eq!(bench.calls.len(), 1, "it may have got well with its root");
    bench.pass(secs(1));
    assert_eq!(bench.calls.len(), 2);
}

#[test]
fn what_a_run_did_to_its_own_root_gives_no_grace() {
    let mut with = policy();
    let mut checkout = deployment("checkout", "web");
    checkout.depends_on = vec!["db".into()];
    with.deployments.insert("checkout".into(), Arc::new(checkout));
    let mut of_db = action("scale");
    if let StepKind::Action { deployment, .. } = &mut of_db.kind {
        *deployment = Some("db".into());
    }
    let both = playbook("restart", vec![of_db, action("restart")]);
    with.playbooks.insert("restart".into(), Arc::new(both));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    bench.ends_done();
    bench.ends_failed(FailureClass::Permanent);
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["scale", "restart", "rollback"], "the next rung waits for nothing");
}

#[test]
fn a_root_that_is_out_by_an_alert_its_dependents_name_gives_a_grace_too() {
    let mut with = policy();
    let mut checkout = deployment("checkout", "web");
    let when = Selector(vec!["alertname=Slow".parse().unwrap_or_else(|error| panic!("{error}"))]);
    checkout.depends_on = vec![Dependency { when: Some(when), ..Dependency::from("db") }];
    with.deployments.insert("checkout".into(), Arc::new(checkout));
    with.ladders.remove(&("Slow".into(), Severity::Warning));
    let mut bench = Bench::with(with);
    let slow = key("Slow", "db");
    bench.fires(&slow, Severity::Warning, AlertChangeKind::Fired);
    bench.down("checkout");
    bench.pass(secs(60));
    assert_eq!(bench.refused_by("checkout-1"), Some("dependency"));
    bench.resolves(&slow);
    bench.pass(secs(119));
    assert!(bench.calls.is_empty());
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn safety_blast_radius() {
    let mut bench = Bench::new();
    // two of three are sick: the floor of two is broken, so one at a time, the next only after a cured
    for sick in ["checkout", "cart"] {
        bench.health(sick, Health::Unhealthy);
        bench.down(sick);
    }
    bench.pass(secs(5));
    assert_eq!(bench.calls.iter().map(|call| call.deployment.id.as_str()).collect::<Vec<_>>(), ["cart"]);
    assert_eq!(bench.refused_by("checkout-1"), Some("blast_radius"));
    bench.ends_failed(FailureClass::Permanent);
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.state(&key("Down", "cart")), "exhausted");
    bench.pass(secs(600));
    assert_eq!(bench.calls.len(), 2, "cart was not cured");
    bench.health("cart", Health::Healthy);
    bench.resolves(&key("Down", "cart"));
    assert_eq!(bench.calls.len(), 3, "now it is well");
}

#[test]
fn safety_blast_radius_asks_for_no_cure_of_what_was_well_since() {
    let mut with = policy();
    with.deployments.insert("db-2".into(), Arc::new(deployment("db-2", "db")));
    with.ladders.insert(("Down".into(), Severity::Critical), super::bench::ladder(&["restart"]));
    with.guards.breaker.failures = 100;
    let mut bench = Bench::with(with);
    for one in ["db", "db-2"] {
        let down = bench.down(one);
        bench.pass(secs(5));
        bench.ends_failed(FailureClass::Permanent);
        assert_eq!(bench.state(&down), "exhausted");
        // a person mends it
        bench.resolves(&down);
        bench.says(&down, AlertChangeKind::EpisodeOver);
        bench.pass(secs(3600));
    }
    // and a run that failed where nothing was wrong
    bench.triggers("restart", "db").expect("it may run");
    bench.ends_failed(FailureClass::Permanent);
    bench.pass(secs(3600));
    for one in ["db", "db-2"] {
        bench.down(one);
    }
    bench.pass(secs(5));
    assert_eq!(bench.calls.len(), 4, "neither stands in the way of the other: {:?}", bench.refused_by("db-3"));
    bench.ends_failed(FailureClass::Permanent);
    bench.pass(secs(600));
    assert_eq!(bench.calls.len(), 4, "this one is sick, and its run has not cured it");
}

#[test]
fn runs_at_a_time_are_bounded() {
    let mut with = policy();
    with.guards.max_running = 1;
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.down("db");
    bench.pass(secs(5));
    assert_eq!((bench.calls.len(), bench.refused_by("db-1")), (1, Some("max_running")));
}

#[test]
fn safety_empty_target() {
    let mut with = policy();
    let mut checkout = deployment("checkout", "web");
    checkout.adapter = None;
    with.deployments.insert("checkout".into(), Arc::new(checkout));
    let mut bench = Bench::with(with);
    let alert = bench.down("checkout");
    let unlisted = bench.down("somewhere");
    bench.pass(secs(5));
    assert!(bench.calls.is_empty());
    assert_eq!(bench.verdict("checkout-1"), Some("refused"));
    assert_eq!(bench.refused_by("checkout-2"), Some("empty_target"), "the next rung fares no better");
    assert_eq!(bench.refused_by("somewhere-1"), Some("empty_target"));
    assert_eq!((bench.state(&alert).as_str(), bench.state(&unlisted).as_str()), ("exhausted", "exhausted"));
    let error = bench.triggers("restart", "checkout").expect_err("refused");
    assert!(error.contains("empty_target"), "{error}");
}

#[test]
fn a_missing_verb_is_refused_before_anything_is_done() {
    let mut with = policy();
    with.playbooks.insert("restart".into(), Arc::new(playbook("restart", vec![action("restart"), action("defrost")])));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    assert_eq!(bench.refused_by("checkout-1"), Some("verb_missing"));
    assert_eq!(bench.verbs(), ["rollback"]);
}

#[test]
fn safety_observe_first() {
    let mut with = policy();
    with.guards.mode = Mode::Observe;
    let mut bench = Bench::with(with);
    let alert = bench.down("checkout");
    bench.pass(secs(5));
    assert_eq!(bench.run("checkout-1").state, "verifying", "it holds like a real run");
    let would = bench.run("checkout-1").steps[0].message.clone().unwrap_or_default();
    assert!(would.contains("would restart checkout") && would.contains("gently"), "{would}");
    assert!(bench.triggers("restart", "checkout").is_ok());
    assert_eq!(bench.refused_by("checkout-2"), Some("lease"));
    bench.pass(secs(300));
    assert_eq!((bench.verdict("checkout-1"), bench.refused_by("checkout-1")), (Some("refused"), Some("observe")));
    bench.pass(secs(1000));
    assert_eq!(bench.state(&alert), "exhausted");
    assert!(bench.calls.is_empty() && bench.emitted.is_empty(), "{:?}", bench.verbs());
}

#[test]
fn a_shutdown_lets_steps_end_and_begins_none() {
    let mut with = policy();
    with.playbooks.insert("restart".into(), Arc::new(playbook("restart", vec![action("restart"), action("scale")])));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.down("db");
    bench.pass(secs(4));
    bench.turn(|remedy, turn, _| remedy.draining(turn));
    bench.pass(secs(60));
    assert!(bench.calls.is_empty());

    let mut late = Bench::new();
    late.down("checkout");
    late.pass(secs(5));
    late.turn(|remedy, turn, _| remedy.draining(turn));
    late.ends_done();
    assert_eq!(late.run("checkout-1").state, "verifying");
}

/// `Down` reads the check `http` of its deployments, and is repaired on `db`, whatever it is about.
fn repaired_elsewhere() -> Policy {
    let mut with = policy();
    let mut reads = rule("Down");
    reads.levels[0].when = condition_of("success_rate(\"http\", \"5m\") < 0.5");
    with.rules.insert("Down".into(), Arc::new(reads));
    let mut rung = Rung::plain("rollback".into(), Vec::new());
    rung.on = Some(On::Deployment(Param::Literal("db".into())));
    with.ladders.insert(("Down".into(), Severity::Critical), Arc::new(Ladder { rungs: vec![rung] }));
    with
}

/// `Down` of every deployment of a tier.
fn of_tier(tier: &str) -> AlertKey {
    AlertKey { rule: "Down".into(), scope: [("tier", tier)].into_iter().collect() }
}

fn maintained(bench: &mut Bench, select: &str) {
    let select = Selector(vec![select.parse().unwrap_or_else(|error| panic!("{error}"))]);
    let maintain = OperatorCommand::Maintain { select, for_: secs(600), reason: "moving".into() };
    bench.operator(maintain).expect("it may");
}

#[test]
fn a_check_that_flaps_holds_the_ladder_wherever_its_rung_acts() {
    let mut bench = Bench::with(repaired_elsewhere());
    bench.flaps("checkout", "http");
    bench.down("checkout");
    bench.pass(secs(60));
    assert_eq!((bench.calls.len(), bench.refused_by("db-1")), (0, Some("flap")));
    bench.health("checkout", Health::Unhealthy);
    assert_eq!(bench.verbs(), ["rollback"]);

    let mut other = Bench::with(repaired_elsewhere());
    other.flaps("db", "http");
    other.down("checkout");
    other.pass(secs(5));
    assert_eq!(other.verbs(), ["rollback"], "its rule reads no check of db");
}

#[test]
fn an_alert_of_several_is_held_where_most_of_the_checks_it_reads_flap() {
    for (flapping, held) in [(vec!["cart"], false), (vec!["cart", "checkout"], true)] {
        let mut bench = Bench::with(repaired_elsewhere());
        for web in ["cart", "checkout", "search"] {
            match flapping.contains(&web) {
                true => bench.flaps(web, "http"),
                false => bench.steady(web, "http"),
            }
        }
        bench.fires(&of_tier("web"), Severity::Critical, AlertChangeKind::Fired);
        bench.pass(secs(5));
        assert_eq!(bench.calls.is_empty(), held, "{flapping:?}");
    }
}

#[test]
fn a_maintenance_of_what_an_alert_is_about_holds_its_ladder_wherever_its_rung_acts() {
    let mut bench = Bench::with(repaired_elsewhere());
    maintained(&mut bench, "deployment=checkout");
    bench.down("checkout");
    bench.fires(&of_tier("web"), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(60));
    assert_eq!(bench.refused_by("db-1"), Some("pause"));
    let figures = &bench.run("db-1").refused.as_ref().expect("it is refused").figures;
    assert!(figures.starts_with("paused for checkout, by ana"), "{figures}");
    assert_eq!(bench.calls.len(), 1, "one of the tier's three is no reason to leave the tier as it is");

    let mut all = Bench::with(repaired_elsewhere());
    maintained(&mut all, "tier=web");
    all.fires(&of_tier("web"), Severity::Critical, AlertChangeKind::Fired);
    all.pass(secs(60));
    assert_eq!((all.calls.len(), all.refused_by("db-1")), (0, Some("pause")));
    all.pass(secs(600));
    assert_eq!(all.verbs(), ["rollback"]);
}

#[test]
fn a_maintenance_of_what_an_alert_is_about_holds_the_next_acting_step_too() {
    let mut with = repaired_elsewhere();
    let book = playbook("rollback", vec![action("scale"), action("rollback")]);
    with.playbooks.insert("rollback".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    maintained(&mut bench, "deployment=checkout");
    bench.ends_done();
    assert_eq!((bench.verbs(), bench.refused_by("db-1")), (vec!["scale"], Some("pause")));
    bench.pass(secs(605));
    assert_eq!(bench.verbs(), ["scale", "rollback"]);
}

#[test]
fn a_run_without_an_answer_about_its_rung_waits_and_asks_again() {
    let mut bench = Bench::new();
    bench.withholds();
    let alert = bench.down("checkout");
    bench.pass(secs(5));
    bench.lets_through(Some(Reply::Unanswered));
    assert_eq!((bench.state(&alert).as_str(), bench.refused_by("checkout-1")), ("waiting", Some("no_data")));
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn an_answer_about_a_rung_of_an_older_policy_begins_nothing_and_the_rung_is_asked_about_again() {
    let mut bench = Bench::new();
    bench.withholds();
    bench.down("checkout");
    bench.pass(secs(5));
    bench.symptom = Truth::False;
    bench.lets_through(Some(Reply::PolicyReplaced));
    assert_eq!(bench.verdict("checkout-1"), Some("went_away"), "the answer of now counts");
}
