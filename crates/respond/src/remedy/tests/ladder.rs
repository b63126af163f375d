//! From an alert to a verdict, rung by rung.

use std::sync::Arc;

use super::bench::{Bench, START, action, key, ladder, playbook, policy, rule, secs};
use crate::turn::AlertChangeKind;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_model::{EventKind, FailureClass, Origin, Outcome, Severity};
use selfheal_policy::Policy;
use selfheal_policy::guards::MinHealthy;
use selfheal_policy::ladder::{Ladder, On, Rung};
use selfheal_script::{Param, Truth};

fn signals(bench: &Bench) -> Vec<&str> {
    bench
        .emitted
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Signal { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// `Down` on checkout has fired, and its first rung is being verified.
fn verifying() -> (Bench, selfheal_model::AlertKey) {
    let mut bench = Bench::new();
    let alert = bench.down("checkout");
    bench.pass(secs(5));
    bench.pass(secs(3));
    bench.ends_done();
    (bench, alert)
}

#[test]
fn an_alert_is_repaired_and_the_cure_is_proved() {
    let mut bench = Bench::new();
    let alert = bench.down("checkout");
    assert!(bench.remedy.is_working(&alert));
    bench.pass(secs(4));
    assert!(bench.calls.is_empty(), "it looks around first: {:?}", bench.verbs());
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["restart"]);
    let call = &bench.calls[0];
    assert_eq!(call.id.as_str(), "checkout-1/restart/1");
    assert!(call.fence > u64::try_from(START.as_millis()).unwrap_or(0));
    assert_eq!(call.not_after, bench.now + secs(120));
    assert_eq!(bench.state(&alert), "working");

    bench.pass(secs(3));
    bench.ends_done();
    assert_eq!(bench.observes, ["checkout".into()]);
    assert_eq!(bench.run("checkout-1").state, "verifying");
    bench.pass(secs(10));
    bench.resolves(&alert);
    bench.watch_says(Truth::True);
    bench.pass(secs(29));
    assert_eq!(bench.verdict("checkout-1"), None, "it must hold");
    bench.pass(secs(1));
    assert_eq!(bench.verdict("checkout-1"), Some("cured"));
    assert_eq!(bench.state(&alert), "resting");
    assert!(!bench.remedy.is_working(&alert));
    assert!(bench.watches.is_empty());
    let [(FlushReason::Changed, text)] = bench.told(NewsKind::Cured)[..] else { panic!("{:?}", bench.news) };
    assert!(text.contains("restart: done in 2.0s"), "{text}");
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn safety_own_evidence() {
    let (bench, _) = verifying();
    assert_eq!(bench.cuts, [Some(START + secs(8))], "windows are cut at the end of the last act");
}

#[test]
fn safety_cured_not_succeeded() {
    let (mut bench, alert) = verifying();
    bench.watch_says(Truth::True);
    bench.pass(secs(20));
    bench.watch_says(Truth::False);
    bench.pass(secs(281));
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"), "it came back before it had held");
    assert_eq!(bench.verbs(), ["restart", "rollback"], "so the next rung is tried");
    assert_eq!(signals(&bench), ["run_not_cured"]);
    let Origin::Run { run, rule, depth } = &bench.emitted[0].origin else { panic!("no provenance") };
    assert_eq!((run.as_str(), rule.as_ref(), *depth), ("checkout-1", Some(&alert.rule), 1));
}

#[test]
fn safety_no_data_is_inconclusive() {
    let (mut bench, alert) = verifying();
    bench.watch_says(Truth::NoData);
    bench.pass(secs(300));
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
    assert_eq!(bench.told(NewsKind::Inconclusive)[0].0, FlushReason::Urgent);
    assert_eq!(bench.state(&alert), "stopped");
    bench.resolves(&alert);
    bench.fires(&alert, Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(3600));
    assert_eq!(bench.verbs(), ["restart"], "automation on it pauses");
    bench.resolves(&alert);
    bench.says(&alert, AlertChangeKind::EpisodeOver);
    bench.down("checkout");
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart", "restart"], "a new episode starts at the first rung");
}

#[test]
fn clear_for_too_short_at_the_end_is_inconclusive() {
    let (mut bench, _) = verifying();
    bench.pass(secs(290));
    bench.watch_says(Truth::True);
    bench.pass(secs(10));
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
}

#[test]
fn safety_ladder_ends_with_people() {
    let (mut bench, alert) = verifying();
    bench.pass(secs(300));
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.verdict("checkout-2"), Some("not_cured"));
    assert_eq!(bench.state(&alert), "exhausted");
    let [(FlushReason::Urgent, story)] = bench.told(NewsKind::Exhausted)[..] else { panic!("{:?}", bench.news) };
    for part in ["restart on checkout (checkout-1): not_cured", "rollback on checkout (checkout-2)", "it broke"] {
        assert!(story.contains(part), "{story}");
    }
    assert_eq!(signals(&bench), ["run_not_cured", "rollback_failed", "run_not_cured"]);
    bench.resolves(&alert);
    bench.fires(&alert, Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(7200));
    assert_eq!(bench.calls.len(), 2, "it does not start over by itself");
}

#[test]
fn a_relapse_goes_on_and_a_new_episode_begins_anew() {
    let (mut bench, alert) = verifying();
    bench.pass(secs(300));
    bench.ends_done();
    bench.resolves(&alert);
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    assert_eq!(bench.verdict("checkout-2"), Some("cured"));
    bench.fires(&alert, Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart", "rollback", "rollback"], "the rung that cured, within its grace");
}

#[test]
fn a_cured_alert_that_never_clears_gets_the_next_rung() {
    let (mut bench, alert) = verifying();
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    assert_eq!(bench.verdict("checkout-1"), Some("cured"));
    bench.pass(secs(4));
    assert_eq!(bench.state(&alert), "resting");
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["restart", "rollback"]);
}

#[test]
fn an_alert_that_clears_before_anything_was_done_counts_nowhere() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        let alert = bench.down("checkout");
        bench.symptom = Truth::False;
        bench.pass(secs(5));
        bench.symptom = Truth::True;
        bench.resolves(&alert);
        bench.says(&alert, AlertChangeKind::EpisodeOver);
    }
    assert_eq!(bench.verdict("checkout-5"), Some("went_away"));
    assert!(bench.calls.is_empty() && bench.news.is_empty(), "{:?}", bench.news);
    bench.down("checkout");
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart"], "no budget was used up");
}

#[test]
fn a_symptom_that_is_gone_for_a_moment_is_looked_at_again_while_the_alert_fires() {
    let mut bench = Bench::new();
    bench.down("checkout");
    bench.symptom = Truth::False;
    bench.pass(secs(6));
    assert_eq!(bench.verdict("checkout-1"), Some("went_away"));
    bench.symptom = Truth::True;
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn on_no_data_nothing_begins() {
    let mut bench = Bench::new();
    let alert = bench.down("checkout");
    bench.symptom = Truth::NoData;
    bench.pass(secs(60));
    assert_eq!((bench.calls.len(), bench.refused_by("checkout-1")), (0, Some("no_data")));
    assert_eq!(bench.state(&alert), "waiting");
    assert_eq!(bench.told(NewsKind::Refused).len(), 1, "once per guard");
    bench.symptom = Truth::True;
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn a_rise_starts_that_levels_own_ladder_once_the_run_under_way_has_ended() {
    let mut own = policy();
    own.ladders.insert(("Slow".into(), Severity::Critical), ladder(&["rollback"]));
    let mut bench = Bench::with(own);
    let alert = key("Slow", "checkout");
    bench.fires(&alert, Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(5));
    let rise = AlertChangeKind::SeverityChanged { from: Severity::Warning, to: Severity::Critical };
    bench.fires(&alert, Severity::Critical, rise);
    bench.pass(secs(20));
    assert_eq!(bench.verbs(), ["restart"], "what is under way goes on");
    bench.ends_done();
    bench.pass(secs(305));
    assert_eq!(bench.verbs(), ["restart", "rollback"]);
    assert!(bench.told(NewsKind::Exhausted).is_empty(), "the lower ladder was left, not ended");
}

#[test]
fn a_level_whose_rungs_differ_only_in_how_they_are_run_has_a_ladder_of_its_own() {
    let rung = || Rung::plain("restart".into(), Vec::new());
    let on_the_database = Some(On::Deployment(Param::Literal("db".into())));
    let (approval, batch) = (Rung { approval: true, ..rung() }, Rung { batch: Some(1), ..rung() });
    for (own, verbs, waits) in [
        (Rung { on: on_the_database, ..rung() }, vec!["restart", "restart"], false),
        (approval, vec!["restart"], true),
        (batch, vec!["restart", "restart"], false),
    ] {
        let mut policy = policy();
        policy.ladders.insert(("Slow".into(), Severity::Critical), Arc::new(Ladder { rungs: vec![own] }));
        let mut bench = Bench::with(policy);
        let alert = key("Slow", "checkout");
        bench.fires(&alert, Severity::Warning, AlertChangeKind::Fired);
        bench.pass(secs(5));
        let rise = AlertChangeKind::SeverityChanged { from: Severity::Warning, to: Severity::Critical };
        bench.fires(&alert, Severity::Critical, rise);
        bench.ends_failed(FailureClass::Permanent);
        bench.pass(secs(5));
        assert_eq!(bench.verbs(), verbs, "the ladder of critical takes over once the run under way has ended");
        assert_eq!(!bench.approvals.is_empty(), waits, "its first rung asks a person where the policy says so");
        assert!(bench.told(NewsKind::Exhausted).is_empty(), "the ladder of warning was left, not exhausted");
    }
}

/// `Slow` restarts at warning and rolls back at critical; it rose to critical while the restart is under way, and resolved.
fn risen_and_resolved() -> (Bench, selfheal_model::AlertKey) {
    let mut own = policy();
    own.ladders.insert(("Slow".into(), Severity::Critical), ladder(&["rollback"]));
    let mut bench = Bench::with(own);
    let alert = key("Slow", "checkout");
    bench.fires(&alert, Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(5));
    let rise = AlertChangeKind::SeverityChanged { from: Severity::Warning, to: Severity::Critical };
    bench.fires(&alert, Severity::Critical, rise);
    bench.resolves(&alert);
    (bench, alert)
}

#[test]
fn a_rise_that_came_to_nothing_is_forgotten() {
    for relapses_before_it_ends in [false, true] {
        let (mut bench, alert) = risen_and_resolved();
        if relapses_before_it_ends {
            bench.fires(&alert, Severity::Warning, AlertChangeKind::Relapsed);
        }
        bench.ends_failed(FailureClass::Permanent);
        if !relapses_before_it_ends {
            bench.fires(&alert, Severity::Warning, AlertChangeKind::Relapsed);
        }
        bench.pass(secs(60));
        assert_eq!(bench.verbs(), ["restart"], "the rung did not cure, and its level has no other");
        assert_eq!(bench.state(&alert), "exhausted");
    }
}

#[test]
fn an_alert_that_comes_back_at_a_higher_level_gets_that_levels_own_ladder() {
    let (mut bench, alert) = risen_and_resolved();
    bench.ends_failed(FailureClass::Permanent);
    bench.fires(&alert, Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart", "rollback"]);
}

#[test]
fn a_rise_without_a_ladder_of_its_own_goes_on_and_a_fall_stops_nothing() {
    let mut bench = Bench::new();
    let alert = key("Slow", "checkout");
    bench.fires(&alert, Severity::Warning, AlertChangeKind::Fired);
    bench.pass(secs(3));
    for (from, to) in [(Severity::Warning, Severity::Critical), (Severity::Critical, Severity::Warning)] {
        bench.fires(&alert, to, AlertChangeKind::SeverityChanged { from, to });
    }
    bench.pass(secs(2));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn a_rule_that_is_gone_stops_its_run_before_the_next_act_and_cleans_up() {
    let mut with_more = policy();
    let mut book = playbook("restart", vec![action("restart"), action("scale")]);
    book.finally = vec![action("tidy")];
    with_more.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with_more);
    let alert = bench.down("checkout");
    bench.pass(secs(5));
    if let Some(gone) = bench.alerts.get_mut(&alert) {
        gone.firing = false;
    }
    bench.says(&alert, AlertChangeKind::Ended);
    assert!(bench.cancelled.is_empty(), "what is under way is let end");
    bench.ends_done();
    assert_eq!(bench.verbs(), ["restart", "tidy"]);
    bench.ends_done();
    assert_eq!(bench.verdict("checkout-1"), Some("cancelled"));
}

#[test]
fn a_run_keeps_the_playbook_it_began_with() {
    let (mut bench, _) = verifying();
    let mut changed = policy();
    changed.version = "2".into();
    let mut book = playbook("restart", vec![action("scale")]);
    book.verify.within = secs(1);
    changed.playbooks.insert("restart".into(), Arc::new(book));
    // the alert's rule is in the policy as far as this test is concerned
    bench.policy = Arc::new(changed);
    bench.pass(secs(299));
    assert_eq!(bench.verdict("checkout-1"), None);
    assert_eq!(bench.run("checkout-1").policy, "1");
}

#[test]
fn a_replaced_policy_is_shown_and_lets_go_of_runs_it_no_longer_knows() {
    let (mut bench, _) = verifying();
    bench.pauses();
    let mut changed = policy();
    changed.version = "2".into();
    bench.new_policy(changed);
    assert_eq!(bench.verdict("checkout-1"), Some("cancelled"), "the policy of this test has no rule for it");
    let engine = bench.engine.as_ref().expect("it is shown");
    assert_eq!(engine.policy_version, "2");
    assert!(engine.paused.is_some(), "no reload lifts the switch");
}

#[test]
fn what_a_verb_found_out_is_passed_on_with_its_provenance() {
    let mut bench = Bench::new();
    bench.down("checkout");
    bench.pass(secs(5));
    let found = selfheal_model::Event {
        deployment: "checkout".into(),
        time: bench.now,
        kind: EventKind::Signal { name: "cache_cleared".into(), fields: selfheal_model::Map::new() },
        origin: Origin::External,
    };
    bench.ends(Outcome::Done { output: "ok".into(), facts: selfheal_model::Facts::default(), events: vec![found] });
    assert_eq!(signals(&bench), ["cache_cleared"]);
    assert!(matches!(bench.emitted[0].origin, Origin::Run { .. }));
}

/// `Down` is repaired by these playbooks, each on that deployment.
fn by(rungs: &[(&str, &str)]) -> Policy {
    let rung = |(playbook, on): &(&str, &str)| Rung {
        on: Some(On::Deployment(Param::Literal((*on).into()))),
        ..Rung::plain((*playbook).into(), Vec::new())
    };
    let mut with = policy();
    with.rules.insert("Down".into(), Arc::new(rule("Down")));
    with.guards.blast_radius.min_healthy = MinHealthy::Count(0);
    let rungs = rungs.iter().map(rung).collect();
    with.ladders.insert(("Down".into(), Severity::Critical), Arc::new(Ladder { rungs }));
    with
}

#[test]
fn a_run_that_waits_does_not_take_another_rungs_playbook_to_its_own_deployment() {
    for saved in [&[("rollback", "cart")][..], &[("rollback", "cart"), ("restart", "db")], &[("restart", "cart")]] {
        let mut bench = Bench::with(by(&[("restart", "db")]));
        bench.pauses();
        let alert = bench.down("checkout");
        bench.pass(secs(5));
        assert_eq!(bench.refused_by("db-1"), Some("pause"));
        bench.new_policy(by(saved));
        bench.resumes();
        bench.pass(secs(5));
        let calls: Vec<_> = bench.calls.iter().map(|call| (call.verb.as_str(), call.deployment.id.as_str())).collect();
        assert_eq!(calls, [saved[0]], "{saved:?}");
        assert_eq!((bench.verdict("db-1"), bench.state(&alert).as_str()), (Some("went_away"), "working"));
    }
}

#[test]
fn a_run_that_waits_takes_what_its_own_rung_says_by_now() {
    let mut bench = Bench::with(by(&[("restart", "db")]));
    bench.pauses();
    bench.down("checkout");
    bench.pass(secs(5));
    let mut changed = by(&[("restart", "db")]);
    changed.playbooks.insert("restart".into(), Arc::new(playbook("restart", vec![action("scale")])));
    bench.new_policy(changed);
    bench.resumes();
    assert_eq!((bench.verbs(), bench.run("db-1").state.as_str()), (vec!["scale"], "running"));
}
