//! A rung for several deployments, and one that is run again.

use std::sync::Arc;

use super::super::KEPT_OVER;
use super::super::state::{Fan, LastRun};
use super::bench::{Bench, START, action, deployment, key, playbook, policy, rule, secs};
use crate::turn::AlertChangeKind;
use selfheal_contract::input::OperatorCommand;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_contract::view::ApprovalState;
use selfheal_model::{AlertKey, FailureClass, Health, Labels, Outcome, Selector, Severity};
use selfheal_policy::Policy;
use selfheal_policy::ladder::{Ladder, On, Rung};
use selfheal_script::Truth;

fn fleet() -> AlertKey {
    AlertKey { rule: "BadRollout".into(), scope: Labels::default() }
}

/// `BadRollout` rolls back every web deployment on which `Sick` fires, two at a time; then it restarts `db`. Three more of
/// tier web are well, so that three of the six may be away.
fn rollout(change: impl FnOnce(&mut Rung)) -> Policy {
    let mut with = policy();
    with.rules.insert("BadRollout".into(), Arc::new(rule("BadRollout")));
    let mut rung = Rung::plain("rollback".into(), Vec::new());
    rung.on = Some(On::Firing("Sick".into()));
    rung.batch = Some(2);
    rung.pause = secs(60);
    change(&mut rung);
    let mut then = Rung::plain("restart".into(), Vec::new());
    then.on = Some(On::Deployment(selfheal_script::Param::Literal("db".into())));
    let both = Arc::new(Ladder { rungs: vec![rung, then] });
    with.ladders.insert(("BadRollout".into(), Severity::Critical), both);
    for id in ["well-1", "well-2", "well-3"] {
        with.deployments.insert(id.into(), Arc::new(deployment(id, "web")));
    }
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

/// All three are let wait at once, and only the first may begin: the two that wait are `checkout-1` and `search-1`.
fn one_by_one(change: impl FnOnce(&mut Rung)) -> Bench {
    let mut with = rollout(|rung| {
        rung.batch = None;
        change(rung);
    });
    with.guards.max_running = 1;
    let bench = begun(with);
    assert_eq!(targets(&bench), ["cart"]);
    bench
}

fn withdrawn(bench: &Bench) -> bool {
    ["checkout-1", "search-1"].into_iter().all(|run| {
        let why = bench.run(run).why.clone().unwrap_or_default();
        bench.verdict(run) == Some("went_away") && why.contains("its rung has stopped: the run on cart")
    })
}

#[test]
fn what_still_waits_is_withdrawn_once_one_has_failed() {
    let mut bench = one_by_one(|_| {});
    ends(&mut bench, "cart", Outcome::failed(FailureClass::Permanent, "it broke"));
    bench.pass(secs(600));
    assert_eq!(targets(&bench), ["cart", "db"], "the others were never touched");
    assert!(withdrawn(&bench), "{:?}", bench.runs);
}

#[test]
fn what_still_waits_is_withdrawn_once_a_person_is_needed() {
    let mut cancelled = one_by_one(|_| {});
    let cancel = OperatorCommand::CancelRun { run: "cart-1".into(), reason: "wrong one".into() };
    cancelled.operator(cancel).expect("it is under way");
    ends(&mut cancelled, "cart", Outcome::failed(FailureClass::Permanent, "cancelled"));
    cancelled.pass(secs(600));
    assert_eq!((targets(&cancelled), cancelled.state(&fleet())), (vec!["cart"], "stopped".to_owned()));
    assert!(withdrawn(&cancelled));

    let mut in_doubt = one_by_one(|_| {});
    ends(&mut in_doubt, "cart", Outcome::unknown("timed out"));
    in_doubt.pass(secs(600));
    assert_eq!((targets(&in_doubt), in_doubt.state(&fleet())), (vec!["cart"], "stopped".to_owned()));
    assert!(withdrawn(&in_doubt));
}

#[test]
fn nobody_is_asked_any_more_about_a_rung_that_has_stopped() {
    let mut bench = begun(rollout(|rung| (rung.batch, rung.approval) = (None, true)));
    let approve = OperatorCommand::Approve { approval: "cart-1.1".into(), reason: "go".to_owned() };
    bench.operator(approve).expect("it is asked");
    assert_eq!(targets(&bench), ["cart"]);
    let deny = OperatorCommand::Deny { approval: "checkout-1.1".into(), reason: "no".to_owned() };
    bench.operator(deny).expect("it is asked");
    assert_eq!(bench.asked("search-1.1"), ApprovalState::Withdrawn);
    assert_eq!(bench.verdict("search-1"), Some("went_away"));
    assert_eq!(bench.verdict("cart-1"), None, "what is under way is let end");
    ends(&mut bench, "cart", Outcome::done("ok"));
    assert_eq!(bench.state(&fleet()), "stopped");
}

#[test]
fn a_rung_that_has_failed_does_not_wait_for_those_that_wait() {
    let mut bench = Bench::with(rollout(|rung| rung.batch = None));
    let select = Selector(vec!["deployment=search".parse().unwrap_or_else(|error| panic!("{error}"))]);
    let maintain = OperatorCommand::Maintain { select, for_: secs(36_000), reason: "new disks".to_owned() };
    bench.operator(maintain).expect("it is taken");
    for deployment in ["checkout", "cart", "search"] {
        bench.fires(&key("Sick", deployment), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(5));
    assert_eq!(targets(&bench), ["cart", "checkout"]);
    ends(&mut bench, "cart", Outcome::failed(FailureClass::Permanent, "it broke"));
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(1));
    assert_eq!(targets(&bench)[2..], ["db"]);
}

/// All at once, and each has ended done.
fn treated(change: impl FnOnce(&mut Policy)) -> Bench {
    let mut with = rollout(|rung| rung.batch = None);
    change(&mut with);
    let mut bench = begun(with);
    assert_eq!(bench.calls.len(), 3, "as many as the guards allow");
    for deployment in ["cart", "checkout", "search"] {
        ends(&mut bench, deployment, Outcome::done("ok"));
        bench.pass(secs(1));
    }
    bench
}

#[test]
fn the_alert_judges_once_all_have_ended() {
    let mut bench = treated(|_| {});
    assert_eq!(bench.state(&fleet()), "working");
    assert_eq!(bench.cuts, [Some(START + secs(7))], "by what came after the last act of all");
    bench.pass(secs(298));
    assert_eq!(bench.calls.len(), 3, "not before `within` is over");
    bench.pass(secs(1));
    assert_eq!(targets(&bench)[3..], ["db"], "it is known to be there still: the next rung");
    let [(FlushReason::Changed, text)] = bench.told(NewsKind::NotCured)[..] else { panic!("{:?}", bench.news) };
    assert!(text.contains("rollback on cart, checkout, search has not cured") && text.contains("after 5m"), "{text}");
    assert!(bench.watches.iter().all(|id| !matches!(id, selfheal_messages::WatchId::Rung(_))));
}

#[test]
fn safety_own_evidence_judges_a_rung_for_several() {
    let mut bench = treated(|_| {});
    bench.watch_says(Truth::True);
    bench.pass(secs(29));
    assert_eq!(bench.state(&fleet()), "working", "it must hold");
    bench.pass(secs(1));
    assert_eq!(bench.state(&fleet()), "resting");
    assert!(bench.told(NewsKind::Cured)[0].1.contains("has cured"), "{:?}", bench.news);
    // the alert's own windows still hold what was before: it goes on firing, and nothing more is done
    bench.pass(secs(4));
    assert_eq!(bench.calls.len(), 3);

    let mut back = treated(|_| {});
    back.watch_says(Truth::True);
    back.pass(secs(20));
    back.watch_says(Truth::False);
    back.pass(secs(278));
    assert_eq!(back.calls.len(), 3);
    back.pass(secs(1));
    assert_eq!(targets(&back)[3..], ["db"], "it came back before it had held");
}

#[test]
fn safety_no_data_is_inconclusive_for_a_rung_for_several() {
    let mut bench = treated(|_| {});
    bench.watch_says(Truth::NoData);
    // `no_data: resolve`: the alert is over because nothing is seen any more
    bench.resolves(&fleet());
    bench.says(&fleet(), AlertChangeKind::EpisodeOver);
    bench.pass(secs(298));
    assert!(bench.told(NewsKind::Inconclusive).is_empty());
    bench.pass(secs(1));
    let [(FlushReason::Urgent, text)] = bench.told(NewsKind::Inconclusive)[..] else { panic!("{:?}", bench.news) };
    assert!(text.contains("is not known: there was no data to judge by"), "{text}");

    let mut firing = treated(|_| {});
    firing.watch_says(Truth::NoData);
    firing.pass(secs(299));
    assert_eq!((firing.calls.len(), firing.state(&fleet()).as_str()), (3, "stopped"));
    firing.resolves(&fleet());
    firing.fires(&fleet(), Severity::Critical, AlertChangeKind::Relapsed);
    firing.pass(secs(3600));
    assert_eq!(firing.calls.len(), 3, "automation on it pauses");
}

#[test]
fn what_until_has_proved_on_each_stands_where_the_alert_has_no_data() {
    let proving = |with: &mut Policy| {
        let mut book = playbook("rollback", vec![action("rollback")]);
        book.verify.until = Some(super::bench::condition());
        with.playbooks.insert("rollback".into(), Arc::new(book));
    };
    let mut bench = treated(proving);
    while bench.watches.iter().any(|id| matches!(id, selfheal_messages::WatchId::Verify(_))) {
        bench.watch_says(Truth::True);
        bench.pass(secs(30));
    }
    assert_eq!(bench.verdict("cart-1"), Some("cured"));
    assert_eq!(bench.state(&fleet()), "working");
    bench.watch_says(Truth::NoData);
    bench.pass(secs(300));
    assert_eq!(bench.state(&fleet()), "resting", "{:?}", bench.news);
}

#[test]
fn a_rung_goes_on_being_judged_when_its_alert_comes_and_goes() {
    let mut bench = treated(|_| {});
    bench.resolves(&fleet());
    bench.says(&fleet(), AlertChangeKind::EpisodeOver);
    bench.pass(secs(10));
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(280));
    assert_eq!(bench.calls.len(), 3, "what is under way is not begun anew");
    bench.pass(secs(9));
    assert_eq!(targets(&bench)[3..], ["db"]);
}

#[test]
fn safety_blast_radius_of_a_rung_whose_runs_verify_nothing() {
    let mut with = rollout(|rung| rung.batch = None);
    with.guards.sensor.sick = 1.0;
    let mut bench = Bench::with(with);
    for one in ["cart", "checkout", "search", "well-1", "well-2", "well-3"] {
        bench.health(one, Health::Unhealthy);
        bench.fires(&key("Sick", one), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(5));
    assert_eq!(targets(&bench), ["cart"], "below the floor: one at a time");
    ends(&mut bench, "cart", Outcome::done("ok"));
    assert_eq!(bench.verdict("cart-1"), Some("done"));
    bench.pass(secs(600));
    assert_eq!(targets(&bench), ["cart"], "that it was done is no cure: it is as sick as before");
    let refused = bench.run("checkout-1").refused.clone().expect("it waits");
    assert!(refused.figures.contains("the run on cart has not cured it"), "{refused:?}");
    bench.health("cart", Health::Unknown);
    bench.pass(secs(10));
    assert_eq!(bench.calls.len(), 1, "nor is that nothing is known of it");
    bench.health("cart", Health::Unhealthy);
    bench.health("cart", Health::Healthy);
    bench.pass(secs(5));
    assert_eq!(targets(&bench), ["cart", "checkout"], "now it is well");
}

#[test]
fn safety_breaker_counts_a_rung_that_did_not_cure_for_each_it_acted_on() {
    let out = |bench: &Bench| {
        bench.told(NewsKind::Refused).iter().filter(|(_, text)| text.contains("out of service")).count()
    };
    let mut bench = treated(|_| {});
    assert_eq!(out(&bench), 0);
    bench.pass(secs(300));
    assert_eq!(out(&bench), 1, "three of three: {:?}", bench.news);
    bench.triggers("rollback", "well-1").expect("it is taken");
    assert_eq!(bench.refused_by("well-1-1"), Some("breaker"));

    let mut cured = treated(|with| with.guards.velocity.disrupt.count = 100);
    cured.pass(secs(125));
    for one in ["well-1", "well-2"] {
        cured.triggers("rollback", one).expect("it may run");
        ends(&mut cured, one, Outcome::failed(FailureClass::Permanent, "it broke"));
    }
    cured.watch_says(Truth::True);
    cured.pass(secs(120));
    cured.triggers("rollback", "well-3").expect("it may run");
    ends(&mut cured, "well-3", Outcome::failed(FailureClass::Permanent, "it broke"));
    assert_eq!(out(&cured), 0, "one that cured clears what failed before");
}

/// `rollback` is out of service, one run may try it, and `BadRollout` wants it on all three.
fn probing() -> Bench {
    let mut with = rollout(|rung| rung.batch = None);
    with.guards.velocity.disrupt.count = 100;
    with.guards.per_playbook.count = 100;
    let mut bench = Bench::with(with);
    for one in ["well-1", "well-2", "well-3"] {
        bench.triggers("rollback", one).expect("it may run");
        bench.ends_failed(FailureClass::Permanent);
    }
    bench.calls.clear();
    bench.pass(secs(1800));
    for deployment in ["checkout", "cart", "search"] {
        bench.fires(&key("Sick", deployment), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(5));
    bench
}

#[test]
fn safety_breaker_is_tried_on_one_target_at_a_time_and_the_rung_decides() {
    let tried = || {
        let mut bench = probing();
        assert_eq!(targets(&bench), ["cart"], "one tries it");
        assert_eq!((bench.verdict("checkout-1"), bench.refused_by("checkout-1")), (None, Some("breaker")));
        for (nth, deployment) in ["cart", "checkout", "search"].into_iter().enumerate() {
            assert_eq!(targets(&bench).len(), nth + 1);
            ends(&mut bench, deployment, Outcome::done("ok"));
            bench.pass(secs(1));
        }
        assert_eq!(bench.state(&fleet()), "working", "it is judged");
        bench
    };
    let said = |bench: &Bench, part: &str| bench.told(NewsKind::Refused).iter().any(|(_, text)| text.contains(part));
    let mut cured = tried();
    cured.watch_says(Truth::True);
    cured.pass(secs(30));
    assert!(said(&cured, "rollback has cured BadRollout") && said(&cured, "back in service"), "{:?}", cured.news);

    let mut failed = tried();
    failed.pass(secs(300));
    assert_eq!(targets(&failed)[3..], ["db"]);
    failed.pass(secs(1700));
    failed.triggers("rollback", "well-1").expect("it is taken");
    assert_eq!(failed.refused_by("well-1-2"), Some("breaker"), "out of service anew, from when it was judged");
}

#[test]
fn a_probe_that_fails_ends_the_rung_for_the_others() {
    let mut bench = probing();
    ends(&mut bench, "cart", Outcome::failed(FailureClass::Permanent, "it broke"));
    bench.pass(secs(5));
    assert_eq!(targets(&bench), ["cart", "db"]);
    assert!(withdrawn(&bench));
}

#[test]
fn safety_recurrence_of_a_rung_for_several() {
    let mut with = rollout(|rung| rung.batch = None);
    with.guards.per_deployment.count = 100;
    with.guards.per_playbook.count = 100;
    let mut bench = begun(with);
    for nth in 1..=3 {
        assert_eq!(bench.calls.len(), 3 * nth);
        for deployment in ["cart", "checkout", "search"] {
            ends(&mut bench, deployment, Outcome::done("ok"));
        }
        bench.watch_says(Truth::True);
        bench.pass(secs(30));
        assert_eq!(bench.told(NewsKind::Cured).len(), nth, "{:?}", bench.news);
        bench.resolves(&fleet());
        bench.pass(secs(600));
        bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Relapsed);
        bench.pass(secs(5));
    }
    assert_eq!(targets(&bench)[9..], ["db"], "three cures in a day are none: the next rung");
    assert!(bench.told(NewsKind::Refused)[0].1.contains("recurrence"), "{:?}", bench.news);
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.state(&fleet()), "exhausted", "then people");
}

#[test]
fn what_an_older_snapshot_has_of_it_is_read() {
    let mut fan = serde_json::to_value(Fan { failed: true, ..Fan::default() }).expect("plain data");
    let fields = fan.as_object_mut().expect("it has fields");
    for newer in ["acted_on", "unproved", "hold"] {
        assert!(fields.remove(newer).is_some());
    }
    assert!(serde_json::from_value::<Fan>(fan).is_ok_and(|fan| fan.failed));
    let last = LastRun { run: "cart-1".into(), ladder: None, ended_at: START, settled: true };
    let mut last = serde_json::to_value(last).expect("plain data");
    let fields = last.as_object_mut().expect("it has fields");
    let settled = fields.remove("settled").expect("it is there");
    fields.insert("cured".to_owned(), settled);
    assert!(serde_json::from_value::<LastRun>(last).is_ok_and(|last| last.settled));

    // one that was being judged, of which it says no more than that
    let unknown = || {
        let mut bench = treated(|_| {});
        bench.remedy.ladders.get_mut(&fleet()).expect("it has one").judging = None;
        bench
    };
    let mut bench = unknown();
    bench.pass(secs(300));
    assert_eq!((bench.state(&fleet()).as_str(), bench.told(NewsKind::Inconclusive).len()), ("stopped", 1));
    let mut over = unknown();
    over.resolves(&fleet());
    over.says(&fleet(), AlertChangeKind::EpisodeOver);
    over.pass(secs(600));
    over.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    over.pass(secs(5));
    assert_eq!(over.calls.len(), 6, "a new episode begins anew");
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

/// `cart` ends so that nobody knows whether it was done, while `checkout` is under way.
fn in_doubt() -> Bench {
    let mut bench = begun(rollout(|_| {}));
    ends(&mut bench, "cart", Outcome::unknown("timed out"));
    bench.pass(secs(60));
    bench
}

#[test]
fn an_unknown_outcome_stops_the_ladder() {
    let mut bench = in_doubt();
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.pass(secs(600));
    assert_eq!((bench.calls.len(), bench.state(&fleet()).as_str()), (2, "stopped"));
}

#[test]
fn safety_ambiguous_is_not_retried_when_the_alert_comes_again() {
    let mut bench = in_doubt();
    bench.resolves(&fleet());
    ends(&mut bench, "checkout", Outcome::done("ok"));
    assert_eq!(bench.state(&fleet()), "stopped");
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(600));
    assert_eq!(targets(&bench), ["cart", "checkout"], "a person has to look at cart first");
    bench.resolves(&fleet());
    bench.says(&fleet(), AlertChangeKind::EpisodeOver);
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.pass(secs(5));
    assert_eq!(bench.calls.len(), 4, "a new episode begins anew");
}

#[test]
fn a_relapse_goes_on_at_the_rung_after_one_that_failed() {
    let mut bench = begun(rollout(|_| {}));
    ends(&mut bench, "cart", Outcome::failed(FailureClass::Permanent, "it broke"));
    bench.resolves(&fleet());
    ends(&mut bench, "checkout", Outcome::done("ok"));
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(5));
    assert_eq!(targets(&bench)[2..], ["db"]);
}

#[test]
fn a_rung_on_which_nothing_was_done_has_not_failed() {
    let mut bench = Bench::with(rollout(|rung| rung.batch = None));
    for deployment in ["checkout", "cart", "search"] {
        bench.fires(&key("Sick", deployment), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Critical, AlertChangeKind::Fired);
    bench.symptom = Truth::False;
    bench.pass(secs(600));
    bench.symptom = Truth::True;
    bench.pass(secs(10));
    assert_eq!(
        bench.verbs(),
        ["rollback", "rollback", "rollback"],
        "the symptom was gone for a while: no reason for the next rung"
    );
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
fn a_rung_for_several_is_run_again_too_and_nobody_judges_it() {
    let mut with = rollout(|rung| {
        rung.batch = None;
        rung.repeat = Some(secs(180));
    });
    with.guards.velocity.disrupt.count = 100;
    let mut bench = begun(with);
    for nth in 1..=2 {
        assert_eq!(bench.calls.len(), 3 * nth);
        for deployment in ["cart", "checkout", "search"] {
            ends(&mut bench, deployment, Outcome::done("ok"));
        }
        bench.pass(secs(179));
        assert_eq!(bench.calls.len(), 3 * nth);
        bench.pass(secs(1));
    }
    assert_eq!(bench.calls.len(), 9);
    assert!(bench.cuts.is_empty() && bench.told(NewsKind::NotCured).is_empty(), "{:?}", bench.news);
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

/// `db` has not cured; of the second rung `cart` is under way, and `checkout` and `search` wait.
fn at_the_second_rung(rungs: impl FnOnce(&mut Vec<Rung>)) -> (Bench, Policy) {
    let both = || {
        let mut with = rollout(|rung| rung.batch = None);
        with.guards.max_running = 1;
        let mut rungs = with.ladders[&("BadRollout".into(), Severity::Critical)].rungs.clone();
        rungs.reverse();
        (with, rungs)
    };
    let ladder_of = |(mut with, rungs): (Policy, Vec<Rung>)| {
        let key = ("BadRollout".into(), Severity::Critical);
        match rungs.is_empty() {
            true => with.ladders.remove(&key),
            false => with.ladders.insert(key, Arc::new(Ladder { rungs })),
        };
        with
    };
    let mut bench = begun(ladder_of(both()));
    ends(&mut bench, "db", Outcome::failed(FailureClass::Permanent, "it broke"));
    bench.pass(secs(10));
    assert_eq!(targets(&bench), ["db", "cart"]);
    let (with, mut left) = both();
    rungs(&mut left);
    (bench, ladder_of((with, left)))
}

#[test]
fn a_save_that_takes_the_rung_away_is_told_once_and_after_those_under_way_have_ended() {
    let (mut bench, shorter) = at_the_second_rung(|rungs| rungs.truncate(1));
    bench.new_policy(shorter);
    bench.pass(secs(60));
    for run in ["checkout-1", "search-1"] {
        assert_eq!(bench.verdict(run), Some("went_away"));
        assert!(bench.run(run).why.as_ref().is_some_and(|why| why.contains("no longer in the policy")));
    }
    assert!(bench.told(NewsKind::Exhausted).is_empty(), "cart is still at it");
    ends(&mut bench, "cart", Outcome::done("ok"));
    bench.pass(secs(600));
    assert_eq!((targets(&bench), bench.state(&fleet())), (vec!["db", "cart"], "exhausted".to_owned()));
    assert_eq!(bench.told(NewsKind::Exhausted).len(), 1, "{:?}", bench.news);
}

#[test]
fn a_save_that_takes_the_ladder_away_leaves_nothing_behind() {
    let (mut bench, without) = at_the_second_rung(Vec::clear);
    bench.new_policy(without);
    bench.pass(secs(60));
    assert!(bench.remedy.ladders.contains_key(&fleet()), "cart is still at it");
    ends(&mut bench, "cart", Outcome::done("ok"));
    bench.pass(secs(60));
    assert!(!bench.remedy.ladders.contains_key(&fleet()));
    let left: Vec<_> = bench.remedy.runs.values().filter(|run| run.alert() == Some(&fleet())).collect();
    assert!(left.is_empty(), "{:?}", left.iter().map(|run| &run.id).collect::<Vec<_>>());
    assert!(bench.told(NewsKind::Exhausted).is_empty(), "{:?}", bench.news);
}

#[test]
fn a_ladder_that_is_over_and_still_judged_is_forgotten_in_its_turn() {
    let mut bench = treated(|_| {});
    let over = |bench: &mut Bench, alert: &AlertKey| {
        bench.resolves(alert);
        bench.says(alert, AlertChangeKind::EpisodeOver);
        bench.alerts.remove(alert);
    };
    over(&mut bench, &fleet());
    let others = |bench: &mut Bench, names: std::ops::Range<usize>| {
        for nth in names {
            let one = bench.down(&format!("other-{nth}"));
            over(bench, &one);
        }
    };
    others(&mut bench, 0..KEPT_OVER);
    assert!(bench.remedy.ladders.contains_key(&fleet()), "it is being judged");
    bench.pass(secs(600));
    assert!(bench.remedy.ladders[&fleet()].judging.is_none());
    others(&mut bench, KEPT_OVER..KEPT_OVER + 1);
    assert!(!bench.remedy.ladders.contains_key(&fleet()));
    assert_eq!(bench.remedy.over.len(), KEPT_OVER);
}

#[test]
fn a_rung_for_several_is_judged_as_any_other_when_a_rise_came_to_nothing() {
    let mut with = rollout(|rung| rung.batch = None);
    let own = with.ladders[&("BadRollout".into(), Severity::Critical)].clone();
    with.ladders.insert(("BadRollout".into(), Severity::Warning), own);
    with.ladders.insert(("BadRollout".into(), Severity::Critical), super::bench::ladder(&["tidy"]));
    let mut bench = Bench::with(with);
    for deployment in ["checkout", "cart", "search"] {
        bench.fires(&key("Sick", deployment), Severity::Warning, AlertChangeKind::Fired);
    }
    bench.fires(&fleet(), Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(5));
    let rise = AlertChangeKind::SeverityChanged { from: Severity::Warning, to: Severity::Critical };
    bench.fires(&fleet(), Severity::Critical, rise);
    bench.resolves(&fleet());
    for deployment in ["cart", "checkout", "search"] {
        ends(&mut bench, deployment, Outcome::done("ok"));
    }
    bench.fires(&fleet(), Severity::Warning, AlertChangeKind::Relapsed);
    bench.pass(secs(299));
    assert_eq!(bench.calls.len(), 3, "it is judged");
    bench.pass(secs(2));
    assert_eq!(targets(&bench)[3..], ["db"], "the next rung of its own level");
}
