//! Steps, their ends, and what may come between.

use std::sync::Arc;

use super::bench::{Bench, action, condition, key, playbook, policy, secs, step};
use crate::queries::Reply;
use selfheal_contract::input::OperatorCommand;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_model::{
    AuthDef, AuthFetch, AuthFormat, AuthThen, EventKind, FailureClass, Health, Outcome, Selector, Value,
};
use selfheal_policy::guards::Mode;
use selfheal_policy::playbook::{OnFailure, Playbook, Retry, SetCheck, StepKind};
use selfheal_script::{Param, Truth};

/// `Down` on checkout runs this playbook; act_after is over.
fn running(book: Playbook) -> Bench {
    let mut with = policy();
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    bench
}

fn with_retries(attempts: u32) -> Playbook {
    let mut restart = action("restart");
    restart.retry = Retry { attempts, ..Retry::default() };
    playbook("restart", vec![restart])
}

#[test]
fn safety_fail_fast() {
    let mut bench = running(playbook("restart", vec![action("restart"), action("scale")]));
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"));
    assert_eq!(bench.verbs(), ["restart", "rollback"], "the step after it never began");
}

#[test]
fn best_effort_goes_on() {
    let mut logs = action("logs");
    logs.best_effort = true;
    let mut bench = running(playbook("restart", vec![logs, action("restart")]));
    bench.ends(Outcome::unknown("timed out"));
    assert_eq!(bench.verbs(), ["logs", "restart"], "what only looks and is not known has merely failed");
    assert_eq!(bench.run("checkout-1").steps[0].outcome, "failed");
}

#[test]
fn transient_failures_are_tried_again_with_the_same_parameters_under_the_same_lease() {
    let mut bench = running(with_retries(3));
    bench.ends_failed(FailureClass::Transient);
    assert_eq!(bench.calls.len(), 1, "not at once");
    bench.pass(secs(2));
    bench.ends_failed(FailureClass::Transient);
    bench.pass(secs(4));
    bench.ends_failed(FailureClass::Transient);
    bench.pass(secs(60));
    let ids: Vec<_> = bench.calls.iter().take(3).map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["checkout-1/restart/1", "checkout-1/restart/2", "checkout-1/restart/3"]);
    assert!(
        bench.calls[..3].iter().all(|call| call.params == bench.calls[0].params && call.fence == bench.calls[0].fence)
    );
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"));
    let failed = bench.emitted.iter().find_map(|event| match &event.kind {
        EventKind::Signal { name, fields } if name.as_str() == "restart_failed" => Some(fields),
        _ => None,
    });
    assert_eq!(failed.and_then(|fields| fields.get("class")), Some(&Value::from("transient")));
}

#[test]
fn what_holds_an_acting_step_holds_its_next_try_too() {
    let maintain = OperatorCommand::Maintain {
        select: Selector(vec!["tier=web".parse().unwrap_or_else(|error| panic!("{error}"))]),
        for_: secs(600),
        reason: "moving".into(),
    };
    let mut held = running(with_retries(3));
    held.ends_failed(FailureClass::Transient);
    held.operator(maintain).expect("it may");
    held.pass(secs(300));
    assert_eq!((held.calls.len(), held.refused_by("checkout-1")), (1, Some("pause")));
    held.pass(secs(310));
    assert_eq!((held.calls.len(), held.refused_by("checkout-1")), (2, None), "it is over");

    for mode in [Mode::Observe, Mode::Approve] {
        let mut bench = running(with_retries(3));
        bench.ends_failed(FailureClass::Transient);
        let mut moved = policy();
        moved.guards.mode = mode;
        moved.playbooks.insert("restart".into(), Arc::new(with_retries(3)));
        bench.policy = Arc::new(moved);
        bench.pass(secs(60));
        assert_eq!(bench.calls.len(), 1, "{mode:?}");
        assert!(bench.run("checkout-1").why.as_ref().is_some_and(|why| why.contains(mode.as_str())));
        assert_eq!(bench.verdict("checkout-1"), Some("not_cured"), "what has failed and is not tried again has failed");
    }
}

#[test]
fn only_transient_failures_are_tried_again() {
    for class in [FailureClass::Permanent, FailureClass::Unsupported, FailureClass::Conflict] {
        let mut bench = running(with_retries(3));
        bench.ends_failed(class);
        assert_eq!(bench.verbs(), ["restart", "rollback"], "{class:?}");
    }
}

#[test]
fn safety_never_on_resolved() {
    let mut bench = running(with_retries(3));
    bench.ends_failed(FailureClass::Transient);
    bench.symptom = Truth::False;
    bench.pass(secs(60));
    assert_eq!(bench.calls.len(), 1, "the symptom went while it waited to try again");
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"), "what has failed and is not tried again has failed");

    let mut two = running(playbook("restart", vec![action("restart"), action("scale")]));
    two.symptom = Truth::False;
    two.ends_done();
    assert_eq!(two.verbs(), ["restart"]);
    assert_eq!(two.run("checkout-1").state, "verifying");
}

#[test]
fn without_data_no_further_acting_step_begins() {
    let mut bench = running(playbook("restart", vec![action("restart"), action("scale")]));
    bench.symptom = Truth::NoData;
    bench.ends_done();
    assert_eq!(bench.verbs(), ["restart"]);
    assert_eq!(bench.run("checkout-1").state, "verifying");
}

#[test]
fn safety_ambiguous_is_not_retried() {
    let mut bench = running(with_retries(5));
    bench.ends(Outcome::unknown("the connection broke"));
    assert_eq!(bench.observes, ["checkout".into()], "it is looked at first");
    assert_eq!(bench.verdict("checkout-1"), None);
    assert!(bench.triggers("restart", "checkout").is_ok());
    assert_eq!(bench.refused_by("checkout-2"), Some("lease"), "the lease stays");
    for _ in 0..3 {
        bench.looked_at("checkout");
        bench.pass(secs(15));
    }
    assert_eq!(bench.verdict("checkout-1"), None, "what is seen does not say, and the system may still be at it");
    bench.pass(secs(15));
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
    assert_eq!(bench.told(NewsKind::Inconclusive)[0].0, FlushReason::Urgent);
    let of_the_first = bench.calls.iter().filter(|call| call.id.as_str().starts_with("checkout-1/")).count();
    assert_eq!(of_the_first, 1);
}

#[test]
fn an_unknown_outcome_settles_at_the_latest_after_the_steps_timeout() {
    let mut bench = running(with_retries(5));
    bench.ends(Outcome::unknown("the connection broke"));
    bench.pass(secs(59));
    assert_eq!(bench.verdict("checkout-1"), None);
    bench.pass(secs(1));
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
}

/// `restart` scales to four replicas, and nobody knows what came of it.
fn scaling_to_four() -> Bench {
    let mut scale = action("scale");
    if let StepKind::Action { with, .. } = &mut scale.kind {
        *with = vec![("replicas".to_owned(), Param::Literal(Value::from(4)))];
    }
    let mut bench = running(playbook("restart", vec![scale, action("tidy")]));
    bench.ends(Outcome::unknown("the connection broke"));
    bench
}

#[test]
fn a_look_that_was_begun_since_and_shows_it_tells_what_happened() {
    let mut bench = scaling_to_four();
    assert_eq!(bench.observes.len(), 1);
    bench.saw("checkout", "replicas", Value::from(4));
    assert_eq!(bench.verbs(), ["scale"], "this one may have been under way already");
    assert_eq!(bench.observes.len(), 2);
    bench.saw("checkout", "replicas", Value::from(2));
    assert_eq!(bench.verbs(), ["scale"], "it may still be on its way there");
    bench.pass(secs(5));
    assert_eq!(bench.observes.len(), 3, "it is looked at again");
    bench.saw("checkout", "replicas", Value::from(4));
    assert_eq!(bench.verbs(), ["scale", "tidy"]);
    let step = &bench.run("checkout-1").steps[0];
    assert_eq!(step.outcome, "done");
    assert!(step.message.as_ref().is_some_and(|message| message.contains("replicas is 4")), "{step:?}");
}

#[test]
fn a_look_that_failed_tells_nothing_and_is_asked_for_again() {
    let mut bench = scaling_to_four();
    for looks in 1..=4 {
        assert_eq!(bench.observes.len(), looks);
        bench.could_not_look("checkout");
        bench.pass(secs(5));
    }
    assert_eq!(bench.verdict("checkout-1"), None);
    bench.pass(secs(60));
    assert_eq!((bench.verdict("checkout-1"), bench.verbs().len()), (Some("inconclusive"), 1));
}

#[test]
fn a_late_word_tells_what_happened() {
    let mut bench = running(with_retries(5));
    bench.pass(secs(70));
    assert_eq!(bench.cancelled, ["checkout-1/restart/1"], "no word came in time");
    bench.ends_done();
    assert_eq!(bench.run("checkout-1").state, "verifying");
    bench.ends_done();
    assert_eq!(bench.run("checkout-1").steps.len(), 1, "a second word changes nothing");
}

#[test]
fn refused_credentials_are_renewed_once_and_the_step_tried_once_more() {
    let mut with = policy();
    let mut checkout = super::bench::deployment("checkout", "web");
    checkout.auth = Some(AuthDef {
        fetch: AuthFetch::Command { command: vec!["token".into()] },
        deliver_to: "token".into(),
        format: AuthFormat::Token,
        then: AuthThen::Nothing,
    });
    with.deployments.insert("checkout".into(), Arc::new(checkout));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    bench.ends_failed(FailureClass::Unauthorized);
    bench.ends_done();
    assert_eq!(bench.verbs(), ["restart", "refresh_auth", "restart"]);
    assert_ne!(bench.calls[0].id, bench.calls[2].id);
    bench.ends_failed(FailureClass::Unauthorized);
    assert_eq!(bench.verbs()[3..], ["rollback"], "not renewed twice");
    let steps: Vec<_> = bench.run("checkout-1").steps.iter().map(|step| step.action.as_str()).collect();
    assert_eq!(steps, ["refresh_auth", "restart"]);
}

#[test]
fn without_credentials_of_its_own_there_is_nothing_to_renew() {
    let mut bench = running(with_retries(1));
    bench.ends_failed(FailureClass::Unauthorized);
    assert_eq!(bench.verbs(), ["restart", "rollback"]);
}

#[test]
fn safety_cleanup_runs() {
    let book = || {
        let mut book = playbook("restart", vec![action("restart"), action("scale")]);
        book.finally = vec![action("tidy")];
        book
    };
    let mut resolved = running(book());
    let alert = super::bench::key("Down", "checkout");
    resolved.resolves(&alert);
    resolved.ends_done();
    assert_eq!(resolved.verbs(), ["restart", "tidy"], "the symptom went");
    resolved.ends_done();
    assert_eq!(resolved.run("checkout-1").state, "verifying");

    let mut failed = running(book());
    failed.ends_failed(FailureClass::Permanent);
    assert_eq!(failed.verbs(), ["restart", "tidy"], "a step failed");

    let mut cancelled = running(book());
    let cancel = OperatorCommand::CancelRun { run: "checkout-1".into(), reason: "wrong one".into() };
    assert!(cancelled.operator(cancel).is_ok());
    assert_eq!(cancelled.cancelled, ["checkout-1/restart/1"]);
    cancelled.ends(Outcome::unknown("cancelled"));
    assert_eq!(cancelled.verbs(), ["restart"], "it may still be at it");
    cancelled.pass(secs(60));
    assert_eq!(cancelled.verbs(), ["restart", "tidy"], "it was cancelled");
    cancelled.ends_done();
    assert_eq!(cancelled.verdict("checkout-1"), Some("cancelled"));
    assert_eq!(cancelled.state(&alert), "stopped");
}

#[test]
fn a_failed_clean_up_is_told() {
    let mut book = playbook("restart", vec![action("restart")]);
    book.finally = vec![action("tidy")];
    let mut bench = running(book);
    bench.ends_done();
    bench.ends_failed(FailureClass::Permanent);
    assert!(bench.told(NewsKind::NotCured)[0].1.contains("step tidy"), "{:?}", bench.news);
    assert_eq!(bench.run("checkout-1").state, "verifying");
}

#[test]
fn what_was_done_is_undone_backwards() {
    let mut scale = action("scale");
    scale.undo = Some(Box::new(action("tidy")));
    let mut book = playbook("restart", vec![scale, action("restart")]);
    book.on_failure = OnFailure::Undo;
    let mut bench = running(book);
    bench.ends_done();
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.verbs(), ["scale", "restart", "tidy"]);
    assert_eq!(bench.calls[2].id.as_str(), "checkout-1/scale-undo/1");
    assert_eq!(bench.run("checkout-1").steps[2].section, "undo");
    bench.ends_done();
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"));
}

/// `scale`, which `tidy` undoes, is done; `restart`, which has tries left, is under way.
fn undoable() -> (Bench, selfheal_model::AlertKey) {
    let mut scale = action("scale");
    scale.undo = Some(Box::new(action("tidy")));
    let mut restart = action("restart");
    restart.retry = Retry { attempts: 3, ..Retry::default() };
    let mut book = playbook("restart", vec![scale, restart]);
    book.on_failure = OnFailure::Undo;
    let mut bench = running(book);
    bench.ends_done();
    (bench, super::bench::key("Down", "checkout"))
}

#[test]
fn a_step_that_has_failed_and_is_not_tried_again_has_failed() {
    let undone = |mut bench: Bench, what: &str| {
        assert_eq!(bench.verbs()[2..], ["tidy"], "{what}");
        assert_eq!(bench.run("checkout-1").steps[1].class.as_deref(), Some("transient"), "{what}");
        bench.ends_done();
        assert_eq!(bench.verdict("checkout-1"), Some("not_cured"), "{what}");
    };
    let (mut bench, alert) = undoable();
    bench.resolves(&alert);
    bench.ends_failed(FailureClass::Transient);
    undone(bench, "the symptom went while it was under way");

    let (mut bench, alert) = undoable();
    bench.ends_failed(FailureClass::Transient);
    bench.resolves(&alert);
    undone(bench, "while it waited to try again");

    let (mut bench, _) = undoable();
    bench.ends_failed(FailureClass::Transient);
    bench.symptom = Truth::False;
    bench.pass(secs(60));
    undone(bench, "and was seen to have gone before the next try");

    let (mut bench, _) = undoable();
    bench.ends_failed(FailureClass::Transient);
    bench.symptom = Truth::NoData;
    bench.pass(secs(60));
    undone(bench, "nobody knows whether it is there");
}

#[test]
fn undoing_goes_on_trying_where_the_symptom_went() {
    let mut scale = action("scale");
    let undo = selfheal_policy::playbook::Step { retry: Retry { attempts: 3, ..Retry::default() }, ..action("tidy") };
    scale.undo = Some(Box::new(undo));
    let mut book = playbook("restart", vec![scale, action("restart")]);
    book.on_failure = OnFailure::Undo;
    let mut bench = running(book);
    bench.ends_done();
    bench.ends_failed(FailureClass::Permanent);
    bench.resolves(&super::bench::key("Down", "checkout"));
    bench.ends_failed(FailureClass::Transient);
    bench.pass(secs(60));
    assert_eq!(bench.verbs(), ["scale", "restart", "tidy", "tidy"]);
}

#[test]
fn a_step_gets_the_newest_facts_and_the_sick_replicas() {
    let mut bench = Bench::new();
    bench.facts("checkout", "replicas", Value::from(2));
    bench.health("checkout", Health::Unhealthy);
    bench.down("checkout");
    bench.pass(secs(5));
    assert_eq!(bench.calls[0].facts.get("replicas"), Some(&Value::from(2)));
    assert_eq!(bench.calls[0].sick_replicas, [1]);
}

#[test]
fn a_wait_ends_early_when_the_symptom_goes() {
    let wait = step("breathe", StepKind::Wait(secs(600)));
    let mut bench = running(playbook("restart", vec![action("restart"), wait, action("scale")]));
    bench.ends_done();
    bench.pass(secs(10));
    assert_eq!(bench.run("checkout-1").state, "running");
    bench.resolves(&super::bench::key("Down", "checkout"));
    assert_eq!(bench.run("checkout-1").state, "verifying");
    bench.pass(secs(200));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn a_wait_goes_on_to_the_next_step() {
    let wait = step("breathe", StepKind::Wait(secs(20)));
    let mut bench = running(playbook("restart", vec![action("restart"), wait, action("scale")]));
    bench.ends_done();
    bench.pass(secs(19));
    assert_eq!(bench.verbs(), ["restart"]);
    bench.pass(secs(1));
    assert_eq!(bench.verbs(), ["restart", "scale"]);
}

#[test]
fn safety_stuck_run_alarm() {
    let wait = step("breathe", StepKind::Wait(secs(100_000)));
    let mut book = playbook("restart", vec![action("restart"), wait]);
    book.finally = vec![action("tidy")];
    let mut bench = running(book);
    bench.ends_done();
    bench.pass(secs(3600));
    assert_eq!(bench.verbs(), ["restart", "tidy"]);
    bench.ends_done();
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
    let told = bench.told(NewsKind::Inconclusive);
    assert!(told[0].0 == FlushReason::Urgent && told[0].1.contains("longer than 1h"), "{told:?}");
}

#[test]
fn a_signal_carries_its_run_and_chains_are_cut() {
    let signal = || step("say", StepKind::Signal { name: "cache_cold".into(), fields: Vec::new() });
    let mut with = policy();
    with.playbooks.insert("say".into(), Arc::new(playbook("say", vec![signal()])));
    let mut bench = Bench::with(with);
    for _ in 0..7 {
        bench.pass(secs(1));
        assert!(bench.triggers("say", "checkout").is_ok());
    }
    assert_eq!(bench.emitted.len(), 5, "depth is capped");
    assert_eq!(bench.verdict("checkout-5"), Some("done"));
    assert_eq!(bench.verdict("checkout-6"), Some("not_cured"));
}

#[test]
fn a_step_whose_if_is_false_is_skipped_and_one_without_data_fails() {
    let mut scale = action("scale");
    scale.if_ = Some(condition());
    let book = playbook("restart", vec![action("restart"), scale]);
    let mut bench = running(book.clone());
    bench.condition = Truth::False;
    bench.ends_done();
    assert_eq!(bench.verbs(), ["restart"]);
    assert_eq!((bench.run("checkout-1").steps[1].outcome.as_str(), bench.verdict("checkout-1")), ("skipped", None));

    for no_answer in [Truth::NoData, Truth::Error("too slow".into())] {
        let mut bench = running(book.clone());
        bench.condition = no_answer;
        bench.ends_done();
        assert_eq!(bench.verdict("checkout-1"), Some("not_cured"));
    }
}

#[test]
fn an_assertion_that_is_false_or_has_no_data_stops_the_run() {
    for (truth, verb) in [(Truth::True, "restart"), (Truth::False, "rollback"), (Truth::NoData, "rollback")] {
        let assertion = step("sure", StepKind::Assert { condition: condition(), message: None });
        let mut with = policy();
        with.playbooks.insert("restart".into(), Arc::new(playbook("restart", vec![assertion, action("restart")])));
        let mut bench = Bench::with(with);
        bench.condition = truth.clone();
        bench.down("checkout");
        bench.pass(secs(5));
        assert_eq!(bench.verbs(), [verb], "{truth:?}");
    }
}

#[test]
fn a_check_step_is_judged_by_what_the_check_says_from_then_on() {
    let check = step("answers", StepKind::Check { check: "http".into() });
    let book = playbook("restart", vec![action("restart"), check]);
    for (truth, state) in [(Truth::True, "verifying"), (Truth::False, "ended"), (Truth::NoData, "ended")] {
        let mut bench = running(book.clone());
        bench.ends_done();
        assert_eq!(bench.probes, ["checkout-1/answers/1"]);
        bench.condition = truth.clone();
        bench.turn(|remedy, turn, alerts| remedy.probed(turn, alerts, &"checkout-1/answers/1".into()));
        assert_eq!(bench.run("checkout-1").state, state, "{truth:?}");
    }
    let mut silent = running(book);
    silent.ends_done();
    silent.pass(secs(60));
    assert_eq!(silent.verdict("checkout-1"), Some("not_cured"), "it gave no verdict in time");
}

#[test]
fn a_wait_for_a_condition_ends_with_it_or_fails_in_time() {
    let wait = step("drained", StepKind::WaitUntil { until: condition(), within: secs(40) });
    let book = playbook("restart", vec![action("restart"), wait, action("scale")]);
    let mut bench = running(book.clone());
    bench.ends_done();
    bench.pass(secs(39));
    bench.watch_says(Truth::True);
    assert_eq!(bench.verbs(), ["restart", "scale"]);
    let mut late = running(book);
    late.ends_done();
    late.pass(secs(40));
    assert_eq!(late.verdict("checkout-1"), Some("not_cured"));
    assert!(late.watches.is_empty());
}

#[test]
fn a_cure_under_a_relaxed_check_is_called_so() {
    let set = SetCheck {
        check: "http".into(),
        every: None,
        timeout: Some(secs(120)),
        failure_threshold: None,
        success_threshold: None,
        for_: secs(3600),
    };
    let book = playbook("restart", vec![step("ease", StepKind::SetCheck(set.clone())), action("restart")]);
    let mut with = policy();
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut checkout = (*with.deployments["checkout"]).clone();
    checkout.checks = vec![super::bench::check("http")];
    with.deployments.insert("checkout".into(), Arc::new(checkout));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    assert_eq!(bench.set, [set]);
    bench.ends_done();
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    assert_eq!(bench.verdict("checkout-1"), Some("cured(eased)"));
    bench.down("cart");
    bench.pass(secs(125));
    assert_eq!(bench.run("cart-1").steps[0].outcome, "failed", "cart has no such check");
}

#[test]
fn a_pause_between_the_query_and_its_answer_holds_the_step() {
    let mut bench = running(playbook("restart", vec![step("look", StepKind::Wait(secs(5))), action("restart")]));
    bench.withholds();
    bench.pass(secs(5));
    bench.pauses();
    bench.lets_through(None);
    assert!(bench.calls.is_empty(), "{:?}", bench.verbs());
    bench.resumes();
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn a_step_without_an_answer_asks_again() {
    let mut bench = running(playbook("restart", vec![step("look", StepKind::Wait(secs(5))), action("restart")]));
    bench.withholds();
    bench.pass(secs(5));
    bench.lets_through(Some(Reply::Unanswered));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn an_answer_for_a_run_that_has_ended_changes_nothing() {
    let mut bench = running(playbook("restart", vec![step("look", StepKind::Wait(secs(5))), action("restart")]));
    bench.withholds();
    bench.pass(secs(5));
    bench.resolves(&key("Down", "checkout"));
    let verdict = bench.verdict("checkout-1").map(str::to_owned);
    assert!(verdict.is_some());
    bench.lets_through(None);
    assert_eq!((bench.calls.len(), bench.verdict("checkout-1").map(str::to_owned)), (0, verdict));
}
