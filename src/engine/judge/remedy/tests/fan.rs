//! A rung for several deployments, and one that is run again.

use std::sync::Arc;

use super::bench::{Bench, action, key, playbook, policy, rule, secs};
use crate::alert::notification::NewsKind;
use crate::engine::judge::turn::AlertChangeKind;
use crate::model::{AlertKey, FailureClass, Labels, Outcome, Selector, Severity};
use crate::playbook::ladder::{Ladder, On, Rung};
use crate::policy::Policy;

fn fleet() -> AlertKey {
    AlertKey { rule: "BadRollout".into(), scope: Labels::default() }
}

/// `BadRollout` rolls back every web deployment on which `Sick` fires, two at a time; then it restarts `db`.
fn rollout(change: impl FnOnce(&mut Rung)) -> Policy {
    let mut with = policy();
    with.rules.insert("BadRollout".into(), Arc::new(rule("BadRollout")));
    let mut rung = Rung::plain("rollback".into(), Vec::new());
    rung.on = Some(On::Firing("Sick".into()));
    rung.batch = Some(2);
    rung.pause = secs(60);
    change(&mut rung);
    let mut then = Rung::plain("restart".into(), Vec::new());
    then.on = Some(On::Deployment(crate::script::Param::Literal("db".into())));
    let both = Arc::new(Ladder { rungs: vec![rung, then] });
    with.ladders.insert(("BadRollout".into(), Severity::Critical), both);
    with.guards.blast_radius.max_at_once = 10;
    with.guards.blast_radius.min_healthy = crate::playbook::guard::MinHealthy::Count(0);
    with
}

fn begun(with: Policy) -> Bench {
    let mut bench = Bench::with(with);
    for deployment in ["checkout", "cart", "search"] {
        bench.fires(&key("Sick", deployment), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(5));
    bench
}

fn targets(bench: &Bench) -> Vec<&str> {
    bench.calls.iter().map(|call| call.deployment.id.as_str()).collect()
}

/// The call on this deployment ends so.
fn ends(bench: &mut Bench, deployment: &str, outcome: Outcome) {
    let place = bench.calls.iter().rposition(|call| call.deployment.id.as_str() == deployment).expect("it was called");
    let call = bench.calls.remove(place);
    bench.calls.push(call);
    bench.ends(outcome);
}

#[test]
fn a_rung_goes_over_its_targets_in_batches_with_a_pause_between() {
    let mut bench = begun(rollout(|_| {}));
    assert_eq!(targets(&bench), ["cart", "checkout"], "two at a time, in order of their names");
    ends(&mut bench, "cart", Outcome::done("ok"));
    bench.pass(secs(120));
    assert_eq!(bench.calls.len(), 2, "the batch has not ended");
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(59));
    assert_eq!(bench.calls.len(), 2);
    bench.pass(secs(1));
    assert_eq!(bench.calls.len(), 3);
    assert_eq!(bench.verdict("cart-1"), Some("done"), "the alert judges the rung, not the run");
}

#[test]
fn a_target_that_fails_stops_the_rung_and_the_next_one_is_tried() {
    let mut bench = begun(rollout(|_| {}));
    ends(&mut bench, "cart", Outcome::failed(FailureClass::Permanent, "it broke"));
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(61));
    assert_eq!(targets(&bench), ["cart", "checkout", "db"], "search was never touched");
    assert_eq!(bench.verbs()[2], "restart");
}

#[test]
fn the_alert_judges_once_all_have_ended() {
    let mut bench = begun(rollout(|rung| rung.batch = None));
    assert_eq!(bench.calls.len(), 3, "as many as the guards allow");
    for deployment in ["cart", "checkout", "search"] {
        ends(&mut bench, deployment, Outcome::done("ok"));
    }
    assert_eq!(bench.state(&fleet()), "working");
    bench.pass(secs(300));
    assert_eq!(bench.calls.len(), 4, "it still fires: the next rung");

    let mut cured = begun(rollout(|rung| rung.batch = None));
    for deployment in ["cart", "checkout", "search"] {
        ends(&mut cured, deployment, Outcome::done("ok"));
    }
    cured.resolves(&fleet());
    cured.pass(secs(600));
    assert_eq!((cured.calls.len(), cured.state(&fleet()).as_str()), (3, "resting"));
}

#[test]
fn what_has_not_begun_does_not_begin_once_the_alert_is_clear() {
    let mut bench = begun(rollout(|_| {}));
    bench.resolves(&fleet());
    ends(&mut bench, "cart", Outcome::done("ok"));
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(600));
    assert_eq!(bench.calls.len(), 2);
    assert_eq!(bench.state(&fleet()), "resting");
}

#[test]
fn safety_empty_target_is_refused_and_never_all() {
    let none = Selector(vec!["tier=cache".parse().unwrap_or_else(|error| panic!("{error}"))]);
    let mut bench = begun(rollout(|rung| rung.on = Some(On::Select(none))));
    bench.pass(secs(5));
    assert_eq!(targets(&bench), ["db"], "the rung is for nobody, so the next one is tried");
    assert!(bench.told(NewsKind::Refused)[0].1.contains("empty_target"), "{:?}", bench.news);
}

#[test]
fn an_unknown_outcome_stops_the_ladder() {
    let mut bench = begun(rollout(|_| {}));
    ends(&mut bench, "cart", Outcome::unknown("timed out"));
    bench.pass(secs(60));
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(600));
    assert_eq!((bench.calls.len(), bench.state(&fleet()).as_str()), (2, "stopped"));
}

#[test]
fn a_rung_is_run_again_while_its_alert_fires() {
    let mut with = policy();
    let mut rung = Rung::plain("scale".into(), Vec::new());
    rung.repeat = Some(secs(180));
    with.ladders.insert(("Busy".into(), Severity::Warning), Arc::new(Ladder { rungs: vec![rung] }));
    with.playbooks.insert("scale".into(), Arc::new(playbook("scale", vec![action("scale")])));
    with.guards.per_deployment.count = 10;
    let mut bench = Bench::with(with);
    let busy = key("Busy", "checkout");
    bench.fires(&busy, Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(5));
    for nth in 1..=3 {
        assert_eq!(bench.calls.len(), nth);
        bench.ends_done();
        assert_eq!(bench.verdict(&format!("checkout-{nth}")), Some("done"));
        bench.pass(secs(180));
    }
    bench.ends_done();
    bench.resolves(&busy);
    bench.pass(secs(600));
    assert_eq!(bench.calls.len(), 4);
}

#[test]
fn a_save_that_changes_the_rung_does_not_reach_the_targets_that_are_left() {
    let mut bench = begun(rollout(|_| {}));
    bench.new_policy(rollout(|rung| rung.playbook = "restart".into()));
    ends(&mut bench, "cart", Outcome::done("ok"));
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(61));
    assert_eq!(targets(&bench), ["cart", "checkout", "cart", "checkout"]);
    assert_eq!(bench.verbs()[2..], ["restart", "restart"], "the rung as it is by now is begun anew, for all it is for");
}

#[test]
fn a_waiting_target_is_withdrawn_when_its_rung_is_another_one() {
    let mut bench = Bench::with(rollout(|_| {}));
    bench.pauses();
    for deployment in ["checkout", "cart", "search"] {
        bench.fires(&key("Sick", deployment), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(5));
    assert_eq!(bench.refused_by("cart-1"), Some("pause"));
    let search = Selector(vec!["deployment=search".parse().unwrap_or_else(|error| panic!("{error}"))]);
    bench.new_policy(rollout(|rung| rung.on = Some(On::Select(search))));
    bench.pass(secs(5));
    assert_eq!((bench.verdict("cart-1"), bench.verdict("checkout-1")), (Some("went_away"), Some("went_away")));
    bench.pass(secs(60));
    bench.resumes();
    assert_eq!(targets(&bench), ["search"]);
}
