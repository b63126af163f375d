//! Alerts that are routed elsewhere, by their severity or by a new policy.

use super::bench::*;
use selfheal_model::Severity::{Critical, Warning};
use selfheal_policy::route::{GroupBy, Route};

fn by_severity(critical: &str) -> Route {
    let mut grave = route("0/0", critical, &["severity=critical"], vec![]);
    grave.group_wait = secs(5);
    route("0", "oncall", &[], vec![grave])
}

#[test]
fn a_severity_that_changes_in_place_is_told_at_the_next_message() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).turns("HighCpu", "shop", Critical).at(secs(2_000));
    assert_eq!(bench.sent()[1..], ["310s oncall Changed [FIRING:1] HighCpu shop (critical)"]);
    bench.turns("HighCpu", "shop", Warning).turns("HighCpu", "shop", Critical).at(secs(4_000));
    assert_eq!(bench.sent().len(), 2, "there and back is no word");
}

#[test]
fn a_rise_reaches_new_receivers_and_those_it_left_hear_that_it_moved() {
    let mut bench = Bench::routed(by_severity("dba"));
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).turns("HighCpu", "shop", Critical);
    bench.at(secs(600)).resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(
        bench.sent(),
        [
            "10s oncall New [FIRING:1] HighCpu shop (warning)",
            "25s dba New [FIRING:1] HighCpu shop (critical)",
            "310s oncall Changed [MOVED] HighCpu shop",
            "625s dba Changed [RESOLVED] HighCpu shop",
        ]
    );
}

#[test]
fn one_that_comes_back_before_it_was_told_to_have_moved_is_no_word() {
    let mut bench = Bench::routed(by_severity("dba"));
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).turns("HighCpu", "shop", Critical);
    bench.at(secs(22)).turns("HighCpu", "shop", Warning).at(secs(2_000));
    assert_eq!(bench.sent(), ["10s oncall New [FIRING:1] HighCpu shop (warning)"]);
}

#[test]
fn a_receiver_that_stays_hears_that_the_severity_changed_and_the_end() {
    let mut bench = Bench::routed(by_severity("oncall"));
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).turns("HighCpu", "shop", Critical).at(secs(100));
    assert_eq!(bench.sent()[1..], ["25s oncall New [FIRING:1] HighCpu shop (critical)"]);
    assert_eq!(bench.last().alerts[0].change, selfheal_contract::notification::AlertChangeWord::SeverityChanged);
    bench.resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(bench.sent()[2..], ["325s oncall Changed [RESOLVED] HighCpu shop"]);
}

#[test]
fn continue_tells_both_and_both_hear_of_the_end() {
    let mut audit = route("0/0", "dba", &["alertname=~\".+\""], vec![]);
    audit.continue_ = true;
    let rest = route("0/1", "oncall", &[], vec![]);
    let mut bench = Bench::routed(route("0", "oncall", &[], vec![audit, rest]));
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop").at(secs(1_000));
    let who: Vec<_> = bench.attempts.iter().map(|(_, delivery)| delivery.receiver.as_str()).collect();
    assert_eq!(who, ["dba", "oncall", "dba", "oncall"]);
}

#[test]
fn a_reload_forgets_no_timer_and_no_word() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(6)).reload();
    // a changed duration counts from where it began
    bench.at(secs(7)).policy.route.group_wait = secs(30);
    bench.reload().at(secs(31));
    assert_eq!(bench.sent(), ["30s oncall New [FIRING:1] HighCpu shop (warning)"]);
    bench.reload();
    bench.policy.route.group_interval = secs(60);
    bench.reload().at(secs(40)).resolves("HighCpu", "shop").at(secs(1_000));
    assert_eq!(bench.sent()[1..], ["90s oncall Changed [RESOLVED] HighCpu shop"]);
}

#[test]
fn a_route_that_moved_in_the_tree_tells_nobody_twice() {
    let mut bench = Bench::routed(route("0", "dba", &[], vec![route("0/0", "oncall", &["alertname=HighCpu"], vec![])]));
    bench.fires("HighCpu", "shop", Warning).at(secs(20));
    let other = route("0/0", "dba", &["alertname=Other"], vec![]);
    let own = route("0/1", "oncall", &["alertname=HighCpu"], vec![]);
    bench.policy.route = route("0", "dba", &[], vec![other, own]);
    bench.reload().at(secs(2_000));
    assert_eq!(bench.sent().len(), 1);
    bench.resolves("HighCpu", "shop").at(secs(4_000));
    assert_eq!(bench.sent()[1..], ["2110s oncall New [RESOLVED] HighCpu shop"]);
}

#[test]
fn grouping_by_all_labels_gives_every_alert_its_own_message() {
    let mut bench = Bench::new();
    bench.policy.route.group_by = GroupBy::All;
    bench.fires("HighCpu", "shop", Warning).fires("Slow", "shop", Warning).at(secs(20));
    assert_eq!(bench.sent().len(), 2);
}

#[test]
fn deliveries_to_a_receiver_that_is_gone_end_with_the_reason() {
    let mut bench = Bench::new();
    bench.peer = Box::new(|_| Some(transient(None)));
    bench.fires("HighCpu", "shop", Warning).at(secs(12));
    bench.policy.receivers.remove("oncall");
    bench.policy.route = route("0", "dba", &[], vec![]);
    bench.reload();
    assert_eq!(states(&bench, "oncall"), ["undelivered"]);
    assert!(bench.views.values().any(|view| view.error.as_deref().is_some_and(|why| why.contains("no longer"))));
    bench.peer = Box::new(|_| Some(selfheal_contract::input::DeliveryResult::Delivered));
    bench.at(secs(100));
    assert_eq!(bench.sent().last().map(String::as_str), Some("22s dba New [FIRING:1] HighCpu shop (warning)"));
}
