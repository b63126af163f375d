//! Steps that are made of steps.

use std::sync::Arc;

use super::bench::{Bench, action, playbook, policy, secs, step};
use selfheal_contract::input::OperatorCommand;
use selfheal_model::{FailureClass, Outcome, PlaybookName};
use selfheal_policy::playbook::{OnFailure, Playbook, StepKind};
use selfheal_script::Truth;

fn sub(id: &str, name: &str) -> selfheal_policy::playbook::Step {
    step(id, StepKind::Playbook { name: PlaybookName::new(name), with: Vec::new() })
}

fn running(book: Playbook, others: Vec<Playbook>) -> Bench {
    let mut with = policy();
    for other in others {
        with.playbooks.insert(other.name.clone(), Arc::new(other));
    }
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    bench
}

fn together(steps: Vec<selfheal_policy::playbook::Step>) -> selfheal_policy::playbook::Step {
    step("both", StepKind::Parallel(steps))
}

#[test]
fn steps_of_parallel_are_under_way_at_the_same_time_and_all_are_waited_for() {
    let both = together(vec![action("restart"), action("scale")]);
    let mut bench = running(playbook("restart", vec![both, action("tidy")]), Vec::new());
    assert_eq!(bench.verbs(), ["restart", "scale"]);
    assert_eq!(bench.calls[0].fence, bench.calls[1].fence, "one lease");
    bench.verb_ends("scale", Outcome::done("ok"));
    assert_eq!(bench.verbs(), ["restart", "scale"]);
    bench.verb_ends("restart", Outcome::done("ok"));
    assert_eq!(bench.verbs(), ["restart", "scale", "tidy"]);
    let steps: Vec<_> =
        bench.run("checkout-1").steps.iter().map(|step| (step.id.clone(), step.outcome.clone())).collect();
    let done = |id: &str| (id.to_owned(), "done".into());
    assert_eq!(steps, [done("both"), done("scale"), done("restart"), ("tidy".to_owned(), "running".into())]);
}

#[test]
fn one_that_fails_fails_the_step_once_the_others_have_ended() {
    let both = together(vec![action("restart"), action("scale")]);
    let mut bench = running(playbook("restart", vec![both, action("tidy")]), Vec::new());
    bench.verb_ends("restart", Outcome::failed(FailureClass::Permanent, "it broke"));
    assert_eq!(bench.run("checkout-1").state, "running");
    bench.verb_ends("scale", Outcome::done("ok"));
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"));
    assert!(bench.run("checkout-1").why.as_ref().is_some_and(|why| why.contains("it broke")));
    assert!(!bench.verbs().contains(&"tidy"));
}

#[test]
fn an_unknown_outcome_of_one_makes_the_run_inconclusive() {
    let both = together(vec![action("restart"), action("scale")]);
    let mut bench = running(playbook("restart", vec![both]), Vec::new());
    bench.verb_ends("scale", Outcome::done("ok"));
    bench.verb_ends("restart", Outcome::unknown("timed out"));
    bench.pass(secs(60));
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
}

#[test]
fn what_was_done_at_the_same_time_is_undone_last_first() {
    let undoable = |verb: &str, undo: &str| {
        let mut step = action(verb);
        step.undo = Some(Box::new(action(undo)));
        step
    };
    let both = together(vec![undoable("restart", "tidy"), undoable("scale", "rollback")]);
    let mut book = playbook("restart", vec![both, action("restart")]);
    book.steps[1].id = "last".into();
    book.on_failure = OnFailure::Undo;
    let mut bench = running(book, Vec::new());
    bench.verb_ends("restart", Outcome::done("ok"));
    bench.verb_ends("scale", Outcome::done("ok"));
    bench.ends_failed(FailureClass::Permanent);
    bench.ends_done();
    bench.ends_done();
    assert_eq!(bench.verbs()[2..5], ["restart", "rollback", "tidy"]);
}

#[test]
fn another_playbook_runs_under_the_same_lease_and_counts_once() {
    let healing = playbook("heal", vec![action("scale"), action("tidy")]);
    let mut bench = running(playbook("restart", vec![sub("heal", "heal"), action("restart")]), vec![healing]);
    bench.ends_done();
    bench.ends_done();
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "tidy", "restart"]);
    assert!(bench.calls.iter().all(|call| call.fence == bench.calls[0].fence));
    let ids: Vec<_> = bench.run("checkout-1").steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["heal", "heal.scale", "heal.tidy", "restart"]);
    assert_eq!(bench.runs.len(), 1, "it is no run of its own");
    bench.watch_says(Truth::True);
    bench.pass(secs(30));
    assert_eq!(bench.verdict("checkout-1"), Some("cured"));
}

#[test]
fn cleaning_up_of_another_playbook_runs_when_the_symptom_goes() {
    let mut healing = playbook("heal", vec![action("scale"), action("restart")]);
    healing.finally = vec![action("tidy")];
    let mut bench = running(playbook("restart", vec![sub("heal", "heal"), action("rollback")]), vec![healing]);
    bench.symptom = Truth::False;
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "tidy"], "the symptom is gone, but what was begun is cleaned up");
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "tidy"]);
    assert_eq!(bench.run("checkout-1").state, "verifying");
}

#[test]
fn cancelling_reaches_every_part() {
    let both = together(vec![action("restart"), step("rest", StepKind::Wait(secs(60)))]);
    let mut bench = running(playbook("restart", vec![both, action("tidy")]), Vec::new());
    let cancel = OperatorCommand::CancelRun { run: "checkout-1".into(), reason: "enough".to_owned() };
    bench.operator(cancel).expect("it runs");
    assert_eq!(bench.cancelled, ["checkout-1/restart/restart/1"].map(|_| bench.calls[0].id.to_string()));
    bench.ends(Outcome::unknown("cancelled"));
    bench.pass(secs(60));
    assert_eq!(bench.verdict("checkout-1"), Some("cancelled"));
    assert_eq!(bench.verbs(), ["restart"]);
}

#[test]
fn a_step_of_parts_may_take_only_so_long() {
    let mut both = together(vec![step("rest", StepKind::Wait(secs(600))), step("short", StepKind::Wait(secs(1)))]);
    both.timeout = secs(20);
    let mut bench = running(playbook("restart", vec![both, action("tidy")]), Vec::new());
    bench.pass(secs(20));
    assert_eq!(bench.verdict("checkout-1"), Some("inconclusive"));
    assert!(bench.verbs().is_empty());
}
