//! Operators' words.

use std::sync::Arc;

use super::bench::{Bench, action, playbook, policy, secs};
use selfheal_contract::effect::OperatorAnswer;
use selfheal_contract::input::OperatorCommand;
use selfheal_contract::notification::NewsKind;
use selfheal_model::{FailureClass, Map, RunId, Value};
use selfheal_policy::playbook::{InputKind, InputSpec};

#[test]
fn a_run_by_hand_takes_the_same_way_and_is_done() {
    let mut bench = Bench::new();
    assert_eq!(bench.triggers("restart", "checkout"), Ok(OperatorAnswer::Run("checkout-1".into())));
    assert_eq!(bench.verbs(), ["restart"], "nothing speaks against it, so at once");
    assert_eq!(bench.run("checkout-1").cause, "operator:ana");
    bench.ends_done();
    assert_eq!(bench.verdict("checkout-1"), Some("done"));
    assert_eq!(bench.audit, ["triggered restart on checkout (checkout-1)"]);
}

#[test]
fn a_wrong_word_says_what_was_probably_meant() {
    let mut bench = Bench::new();
    for (playbook, deployment, said) in
        [("restrat", "checkout", "did you mean `restart`?"), ("restart", "chekout", "did you mean `checkout`?")]
    {
        let error = bench.triggers(playbook, deployment).expect_err("there is no such thing");
        assert!(error.contains(said), "{error}");
    }
    let error = bench.operator(OperatorCommand::Resume { reason: String::new() }).expect_err("nothing is paused");
    assert!(error.contains("nothing is paused"));
    let cancel = OperatorCommand::CancelRun { run: RunId::new("checkout-9"), reason: String::new() };
    assert!(bench.operator(cancel).is_err());
    assert!(bench.audit.is_empty(), "what changed nothing is not audited");
}

#[test]
fn inputs_are_typed_and_required() {
    let mut with = policy();
    let mut book = playbook("grow", vec![action("scale")]);
    book.inputs = vec![InputSpec { name: "add".into(), kind: InputKind::Integer, one_of: Vec::new(), default: None }];
    with.playbooks.insert("grow".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    assert!(bench.triggers("grow", "checkout").is_err_and(|error| error.contains("`add`")));
    let with = Map::from_iter([("add".to_owned(), Value::from("2"))]);
    let trigger = OperatorCommand::Trigger {
        playbook: "grow".into(),
        deployment: "checkout".into(),
        with,
        reason: "sale".into(),
        overrides: Vec::new(),
    };
    assert!(bench.operator(trigger).is_ok());
    assert_eq!(bench.verbs(), ["scale"]);
    assert_eq!(bench.run("checkout-1").why.as_deref(), Some("sale"));
}

#[test]
fn a_run_by_hand_that_fails_is_told() {
    let mut bench = Bench::new();
    assert!(bench.triggers("restart", "checkout").is_ok());
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.verdict("checkout-1"), Some("not_cured"));
    assert_eq!(bench.told(NewsKind::NotCured).len(), 1);
}

#[test]
fn a_run_by_hand_that_is_refused_for_long_ends_as_refused() {
    let mut bench = Bench::new();
    bench.pauses();
    assert!(bench.triggers("restart", "checkout").is_ok());
    assert_eq!((bench.run("checkout-1").state.as_str(), bench.refused_by("checkout-1")), ("waiting", Some("pause")));
    bench.pass(secs(1800));
    assert_eq!((bench.verdict("checkout-1"), bench.refused_by("checkout-1")), (Some("refused"), Some("pause")));
    bench.resumes();
    assert!(bench.calls.is_empty());
}

#[test]
fn a_waiting_run_can_be_cancelled_and_an_ended_one_cannot() {
    let mut bench = Bench::new();
    bench.pauses();
    assert!(bench.triggers("restart", "checkout").is_ok());
    let cancel = || OperatorCommand::CancelRun { run: RunId::new("checkout-1"), reason: "no".into() };
    assert_eq!(bench.operator(cancel()), Ok(OperatorAnswer::Ok));
    assert_eq!(bench.verdict("checkout-1"), Some("cancelled"));
    assert!(bench.operator(cancel()).is_err_and(|error| error.contains("ended already")));
}
