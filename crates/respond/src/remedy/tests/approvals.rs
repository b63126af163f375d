//! Waiting for a person.

use std::sync::Arc;

use super::bench::{Bench, action, key, ladder, playbook, policy, rule, secs, step};
use selfheal_contract::effect::OperatorAnswer;
use selfheal_contract::input::OperatorCommand;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_contract::view::ApprovalState;
use selfheal_model::{Health, RunId, Selector, Severity};
use selfheal_policy::Policy;
use selfheal_policy::guards::{Limit, Mode, Override};
use selfheal_policy::playbook::{Approve, Step, StepKind};
use selfheal_script::Truth;

fn approve(id: &str) -> OperatorCommand {
    OperatorCommand::Approve { approval: id.into(), reason: "go".to_owned() }
}

fn deny(id: &str) -> OperatorCommand {
    OperatorCommand::Deny { approval: id.into(), reason: "no".to_owned() }
}

/// `Down` on checkout; every run needs a person's word.
fn asking() -> Bench {
    let mut with = policy();
    with.guards.mode = Mode::Approve;
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    bench
}

#[test]
fn a_run_waits_for_a_word_and_holds_nothing_meanwhile() {
    let mut bench = asking();
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Waiting);
    assert_eq!(bench.told(NewsKind::Approval).len(), 1);
    assert_eq!(bench.told(NewsKind::Approval)[0].0, FlushReason::Urgent);
    bench.pass(secs(300));
    assert!(bench.verbs().is_empty());
    assert_eq!(bench.told(NewsKind::Approval).len(), 1, "it is asked once");
    bench.triggers("rollback", "checkout").expect("nothing holds the lease");
    assert_eq!(bench.verbs(), ["rollback"]);
}

#[test]
fn once_the_word_is_given_everything_is_asked_again() {
    let mut bench = asking();
    bench.pauses();
    assert_eq!(bench.operator(approve("checkout-1.1")), Ok(OperatorAnswer::Run(RunId::new("checkout-1"))));
    assert!(bench.verbs().is_empty(), "a pause holds it all the same");
    bench.resumes();
    assert_eq!(bench.verbs(), ["restart"]);
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Approved);
    assert_eq!(bench.run("checkout-1").approved_by.as_deref(), Some("ana"));
    assert!(bench.audit.iter().any(|line| line.starts_with("approved checkout-1.1")));
}

#[test]
fn safety_deny_by_default() {
    let mut bench = asking();
    bench.pass(secs(1800));
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Expired);
    assert_eq!(bench.verdict("checkout-1"), Some("denied"));
    assert_eq!(bench.state(&key("Down", "checkout")), "stopped");
    assert!(bench.operator(approve("checkout-1.1")).is_err(), "a word that comes too late does nothing");
    assert!(bench.verbs().is_empty());
}

#[test]
fn a_word_is_taken_once() {
    let mut bench = asking();
    bench.operator(deny("checkout-1.1")).expect("it is open");
    assert_eq!(bench.verdict("checkout-1"), Some("denied"));
    let again = bench.operator(approve("checkout-1.1")).expect_err("it was answered");
    assert!(again.contains("nothing waits for approval checkout-1.1"), "{again}");
}

#[test]
fn retry_lets_a_denied_ladder_go_on() {
    let mut bench = asking();
    bench.operator(deny("checkout-1.1")).expect("it is open");
    let alert = key("Down", "checkout").id();
    bench.operator(OperatorCommand::Retry { alert, reason: String::new() }).expect("it stopped");
    bench.pass(secs(1));
    assert_eq!(bench.asked("checkout-2.1"), ApprovalState::Waiting);
}

#[test]
fn a_question_is_withdrawn_when_the_symptom_goes() {
    let mut bench = asking();
    bench.resolves(&key("Down", "checkout"));
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Withdrawn);
    assert_eq!(bench.verdict("checkout-1"), Some("went_away"));
}

#[test]
fn what_people_ask_for_needs_no_other_word() {
    let mut with = policy();
    with.guards.mode = Mode::Approve;
    let mut bench = Bench::with(with);
    bench.triggers("restart", "checkout").expect("it may run");
    assert_eq!(bench.verbs(), ["restart"]);
}

/// A playbook that acts, asks, and acts again.
fn gated() -> Bench {
    let mut with = policy();
    let ask = step("ask", StepKind::Approve(Approve::default()));
    let mut book = playbook("restart", vec![action("scale"), ask, action("restart")]);
    book.finally = vec![action("tidy")];
    with.playbooks.insert("restart".into(), Arc::new(book));
    with.guards.grace = secs(0);
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    bench.ends_done();
    assert_eq!(bench.run("checkout-1").state, "approving");
    bench
}

#[test]
fn safety_gate_does_not_stop_rollback() {
    let mut bench = gated();
    bench.triggers("rollback", "checkout").expect("the gate holds no lease");
    assert_eq!(bench.verbs(), ["scale", "rollback"]);
    // the word comes while the other run is at it: it waits for the lease
    bench.operator(approve("checkout-1.1")).expect("it is open");
    assert_eq!(bench.refused_by("checkout-1"), Some("lease"));
    bench.verb_ends("rollback", selfheal_model::Outcome::done("ok"));
    assert_eq!(bench.verbs(), ["scale", "rollback", "restart"]);
    assert!(bench.calls[2].fence > bench.calls[1].fence, "it has a lease of its own again");
}

#[test]
fn a_gate_that_is_denied_cleans_up() {
    let mut bench = gated();
    bench.operator(deny("checkout-1.1")).expect("it is open");
    assert_eq!(bench.verbs(), ["scale", "tidy"], "what was begun is cleaned up, under a lease taken for it");
    bench.ends_done();
    assert_eq!(bench.verdict("checkout-1"), Some("denied"));
}

#[test]
fn a_gate_is_left_when_the_symptom_goes() {
    let mut bench = gated();
    bench.symptom = Truth::False;
    bench.health("checkout", Health::Healthy);
    bench.resolves(&key("Down", "checkout"));
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Withdrawn);
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "tidy"]);
}

#[test]
fn a_word_given_for_one_playbook_is_none_for_another() {
    let mut bench = asking();
    let mut other = policy();
    other.guards.mode = Mode::Approve;
    let mut restart = playbook("restart", vec![action("rollback")]);
    restart.hash = 7;
    other.playbooks.insert("restart".into(), Arc::new(restart));
    bench.new_policy(other);
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Withdrawn, "what was shown would not be what is done");
    assert!(bench.operator(approve("checkout-1.1")).is_err());
    bench.operator(approve("checkout-1.2")).expect("it is asked anew");
    assert_eq!(bench.verbs(), ["rollback"]);
}

#[test]
fn a_run_that_is_held_and_then_silenced_keeps_its_rung() {
    let mut bench = Bench::new();
    bench.down("checkout");
    bench.pass(secs(4));
    bench.pauses();
    bench.pass(secs(10));
    let held = crate::guard::HeldBy::Taken { by: "ana".to_owned() };
    let alert = key("Down", "checkout");
    bench.turn(|remedy, turn, alerts| remedy.held_changed(turn, alerts, &alert, Some(held)));
    bench.resumes();
    assert_eq!((bench.state(&alert).as_str(), bench.refused_by("checkout-1")), ("waiting", Some("suppressed")));
}

/// This step, on another deployment.
fn on(deployment: &str, mut step: Step) -> Step {
    if let StepKind::Action { deployment: other, .. } = &mut step.kind {
        *other = Some(deployment.into());
    }
    step
}

/// `restart` restarts `db`, whatever it is run for; what is of tier db has this mode.
fn by_way_of_another(mode: Mode) -> Policy {
    let mut with = policy();
    let select = Selector(vec!["tier=db".parse().unwrap_or_else(|error| panic!("{error}"))]);
    with.guards.overrides = vec![Override { select, limits: vec![Limit::Mode(mode)] }];
    let book = playbook("restart", vec![action("scale"), on("db", action("restart"))]);
    with.playbooks.insert("restart".into(), Arc::new(book));
    with.ladders.insert(("Down".into(), Severity::Critical), ladder(&["restart"]));
    with
}

#[test]
fn the_mode_of_every_deployment_a_run_acts_on_counts() {
    let mut bench = Bench::with(by_way_of_another(Mode::Approve));
    bench.down("checkout");
    bench.pass(secs(60));
    assert!(bench.verbs().is_empty(), "db is restarted by nobody without a word: {:?}", bench.verbs());
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Waiting);
    bench.operator(approve("checkout-1.1")).expect("it is open");
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "restart"]);

    let mut shown = Bench::with(by_way_of_another(Mode::Observe));
    shown.down("checkout");
    shown.pass(secs(400));
    assert!(shown.verbs().is_empty(), "{:?}", shown.verbs());
    assert_eq!(shown.refused_by("checkout-1"), Some("observe"));
}

#[test]
fn the_mode_of_a_playbook_that_is_run_by_another_counts() {
    for mode in [Mode::Approve, Mode::Observe] {
        let mut with = policy();
        let mut healing = playbook("heal", vec![action("scale")]);
        healing.mode = mode;
        with.playbooks.insert("heal".into(), Arc::new(healing));
        let heal = step("heal", StepKind::Playbook { name: "heal".into(), with: Vec::new() });
        with.playbooks.insert("restart".into(), Arc::new(playbook("restart", vec![heal])));
        let mut bench = Bench::with(with);
        bench.down("checkout");
        bench.pass(secs(60));
        assert!(bench.verbs().is_empty(), "{mode:?}: {:?}", bench.verbs());
        assert_eq!(bench.approvals.contains_key("checkout-1.1"), mode == Mode::Approve);
    }
}

/// `Down` restarts by these steps, in this mode.
fn in_mode(steps: Vec<Step>, mode: Mode) -> Policy {
    let mut with = policy();
    let mut book = playbook("restart", steps);
    book.finally = vec![action("tidy")];
    with.playbooks.insert("restart".into(), Arc::new(book));
    with.rules.insert("Down".into(), Arc::new(rule("Down")));
    with.guards.mode = mode;
    with
}

/// `Down` on checkout runs this under `auto`; its first call has been made, and by now the mode is another one.
fn begun_under_auto(steps: Vec<Step>, mode: Mode) -> Bench {
    let mut bench = Bench::with(in_mode(steps.clone(), Mode::Auto));
    bench.down("checkout");
    bench.pass(secs(5));
    bench.new_policy(in_mode(steps, mode));
    bench
}

fn two() -> Vec<Step> {
    vec![action("scale"), action("restart")]
}

#[test]
fn a_run_that_began_without_a_word_waits_for_one_once_the_mode_wants_it() {
    let mut bench = begun_under_auto(two(), Mode::Approve);
    bench.ends_done();
    assert_eq!((bench.verbs(), bench.run("checkout-1").state.as_str()), (vec!["scale"], "approving"));
    assert_eq!(bench.told(NewsKind::Approval).len(), 1);
    bench.triggers("rollback", "db").expect("it may run");
    bench.operator(approve("checkout-1.1")).expect("it is open");
    assert_eq!(bench.verbs(), ["scale", "rollback", "restart"]);

    let mut denied = begun_under_auto(two(), Mode::Approve);
    denied.ends_done();
    denied.operator(deny("checkout-1.1")).expect("it is open");
    assert_eq!(denied.verbs(), ["scale", "tidy"]);
    denied.ends_done();
    assert_eq!(denied.verdict("checkout-1"), Some("denied"));
}

#[test]
fn a_run_that_waits_for_a_word_goes_on_when_the_mode_wants_none_any_more() {
    let mut bench = begun_under_auto(two(), Mode::Approve);
    bench.ends_done();
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Waiting);
    bench.new_policy(in_mode(two(), Mode::Auto));
    assert_eq!(bench.asked("checkout-1.1"), ApprovalState::Withdrawn);
    assert_eq!(bench.verbs(), ["scale", "restart"]);
}

#[test]
fn among_steps_at_the_same_time_no_word_is_asked_for_and_the_run_goes_no_further() {
    let first = step("first", StepKind::Parallel(vec![action("logs"), action("scale")]));
    let later = step("later", StepKind::Parallel(vec![action("restart"), action("rollback")]));
    let mut bench = begun_under_auto(vec![first, later], Mode::Approve);
    bench.verb_ends("logs", selfheal_model::Outcome::done("ok"));
    bench.verb_ends("scale", selfheal_model::Outcome::done("ok"));
    assert_eq!(bench.verbs(), ["logs", "scale", "tidy"]);
    assert!(bench.approvals.is_empty());
    assert!(bench.run("checkout-1").why.as_ref().is_some_and(|why| why.contains("mode")), "it says why");
}
