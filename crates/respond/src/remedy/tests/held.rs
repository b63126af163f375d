//! What silences, inhibition and acknowledgements do to ladders.

use std::sync::Arc;

use super::bench::{Bench, START, action, key, playbook, policy, secs};
use crate::guard::HeldBy;
use crate::turn::AlertChangeKind;
use selfheal_model::Severity;

fn taken() -> HeldBy {
    HeldBy::Taken { by: "ana".to_owned() }
}

fn hold(bench: &mut Bench, held: Option<HeldBy>) {
    let key = key("Down", "checkout");
    bench.turn(|remedy, turn, alerts| remedy.held_changed(turn, alerts, &key, held));
}

#[test]
fn a_ladder_that_is_held_back_begins_when_it_is_free_again() {
    for held in [
        taken(),
        HeldBy::Inhibition { by: "abc".into() },
        HeldBy::Silence { id: "s-1".into(), by: "ana".to_owned(), until: START + secs(3600) },
    ] {
        let mut bench = Bench::new();
        bench.down("checkout");
        hold(&mut bench, Some(held));
        bench.pass(secs(60));
        assert_eq!((bench.calls.len(), bench.refused_by("checkout-1")), (0, Some("suppressed")));
        hold(&mut bench, None);
        assert_eq!(bench.verbs(), ["restart"]);
    }
}

#[test]
fn a_run_under_way_stops_after_its_step_and_cleans_up() {
    let mut with = policy();
    let mut book = playbook("restart", vec![action("scale"), action("restart")]);
    book.finally = vec![action("tidy")];
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    hold(&mut bench, Some(taken()));
    assert_eq!(bench.verbs(), ["scale"]);
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "tidy"]);
    bench.ends_done();
    assert_eq!(bench.run("checkout-1").state, "verifying", "it had acted, so it is judged");
}

#[test]
fn an_inhibition_does_not_stop_what_has_begun() {
    let mut with = policy();
    let book = playbook("restart", vec![action("scale"), action("restart")]);
    with.playbooks.insert("restart".into(), Arc::new(book));
    let mut bench = Bench::with(with);
    bench.down("checkout");
    bench.pass(secs(5));
    hold(&mut bench, Some(HeldBy::Inhibition { by: "abc".into() }));
    bench.ends_done();
    assert_eq!(bench.verbs(), ["scale", "restart"]);
}

#[test]
fn what_held_an_alert_is_forgotten_with_its_end() {
    let mut bench = Bench::new();
    let alert = bench.down("checkout");
    hold(&mut bench, Some(taken()));
    bench.resolves(&alert);
    bench.fires(&alert, Severity::Critical, AlertChangeKind::Relapsed);
    bench.pass(secs(5));
    assert_eq!(bench.verbs(), ["restart"]);
}
