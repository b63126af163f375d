//! What people are told of alerts that are held back, and by routes that are closed.

use std::sync::Arc;

use super::bench::*;
use crate::dispatch::merge::merge;
use crate::turn::NewsAbout;
use selfheal_contract::notification::{DependentsFacts, FlushReason, NewsKind, RootFacts};
use selfheal_model::Severity::{Critical, Warning};
use selfheal_model::{Labels, TimeInterval, Zone};
use selfheal_policy::route::Hours;

#[test]
fn a_muted_alert_is_told_when_the_mute_ends_and_it_still_fires() {
    let mut bench = Bench::new();
    bench.mute("HighCpu", "shop", true).fires("HighCpu", "shop", Warning).fires("Slow", "shop", Warning);
    bench.at(secs(400)).mute("HighCpu", "shop", false).at(secs(2_000));
    assert_eq!(
        bench.sent(),
        [
            "10s oncall New [FIRING:1] Slow shop (warning)",
            "610s oncall Changed [FIRING:2] HighCpu, Slow shop (warning)"
        ]
    );
}

#[test]
fn what_came_and_went_while_muted_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.wants("oncall", &NewsKind::ALL);
    bench.mute("HighCpu", "shop", true).fires("HighCpu", "shop", Warning).at(secs(60));
    bench.news(NewsKind::Started, FlushReason::Changed, about("HighCpu", "shop")).at(secs(400));
    bench.resolves("HighCpu", "shop").at(secs(420));
    bench.news(NewsKind::Cured, FlushReason::Changed, about("HighCpu", "shop")).at(secs(10_000));
    assert_eq!(bench.sent(), [""; 0]);
    assert_eq!((bench.dispatch.waiting(), bench.dispatch.next_deadline()), (0, None));
}

#[test]
fn who_heard_it_fire_hears_its_end_though_it_is_muted_and_no_repeat() {
    let mut bench = Bench::new();
    bench.wants("oncall", &NewsKind::ALL);
    bench.policy.route.repeat_interval = secs(1_000);
    bench.fires("HighCpu", "shop", Warning).at(secs(100)).mute("HighCpu", "shop", true).at(secs(3_000));
    bench.turns("HighCpu", "shop", Critical).at(secs(4_000));
    assert_eq!(bench.newly_sent(), ["10s oncall New [FIRING:1] HighCpu shop (warning)"]);
    bench.news(NewsKind::Cured, FlushReason::Changed, about("HighCpu", "shop")).at(secs(4_900));
    bench.resolves("HighCpu", "shop").at(secs(10_000));
    assert_eq!(bench.newly_sent(), ["5110s oncall Changed [RESOLVED] HighCpu shop: repaired"]);
}

#[test]
fn a_mute_that_ends_goes_on_where_the_receiver_was_left() {
    let mut bench = Bench::new();
    bench.policy.route.repeat_interval = secs(1_000);
    bench.fires("HighCpu", "shop", Warning).at(secs(100)).mute("HighCpu", "shop", true).at(secs(200));
    bench.mute("HighCpu", "shop", false).at(secs(900));
    assert_eq!(bench.newly_sent().len(), 1, "it was told already");
    bench.mute("HighCpu", "shop", true).at(secs(1_500)).mute("HighCpu", "shop", false).at(secs(1_600));
    assert_eq!(bench.newly_sent(), ["1500s oncall Repeat [FIRING:1] HighCpu shop (warning)"]);
}

#[test]
fn what_cannot_wait_goes_past_a_mute_and_is_followed_by_the_end() {
    let mut bench = Bench::new();
    bench.mute("HighCpu", "shop", true).fires("HighCpu", "shop", Warning).fires("Slow", "shop", Warning);
    bench.at(secs(60)).news(NewsKind::Exhausted, FlushReason::Urgent, about("HighCpu", "shop"));
    assert_eq!(
        bench.newly_sent(),
        [
            "10s oncall New [FIRING:1] Slow shop (warning)",
            "60s oncall Urgent [FIRING:2] HighCpu, Slow shop (warning): exhausted"
        ]
    );
    bench.resolves("HighCpu", "shop").at(secs(1_000));
    assert_eq!(bench.newly_sent().len(), 1);
}

#[test]
fn an_acknowledged_alert_is_not_repeated_and_its_end_is_told() {
    let mut bench = Bench::new();
    bench.policy.route.repeat_interval = secs(1_000);
    bench.fires("HighCpu", "shop", Warning).fires("Slow", "shop", Warning).at(secs(20));
    bench.acknowledge("HighCpu", "shop").at(secs(1_500));
    assert_eq!(
        bench.newly_sent(),
        [
            "10s oncall New [FIRING:2] HighCpu, Slow shop (warning)",
            "1010s oncall Repeat [FIRING:1] Slow shop (warning)"
        ]
    );
    bench.resolves("Slow", "shop").at(secs(9_000)).newly_sent();
    bench.turns("HighCpu", "shop", Critical).at(secs(9_500));
    assert_eq!(bench.newly_sent(), ["9110s oncall Changed [FIRING:1] HighCpu shop (critical)"]);
    bench.resolves("HighCpu", "shop").at(secs(20_000));
    assert_eq!(bench.newly_sent(), ["9710s oncall Changed [RESOLVED] HighCpu shop"]);
}

#[test]
fn a_message_about_a_root_names_whom_it_explains_as_of_then() {
    let held = |sick: &[&str]| {
        let sick = sick.iter().map(|id| (*id).into()).collect();
        vec![DependentsFacts { root: "db".into(), sick, more: 0 }]
    };
    let mut bench = Bench::new();
    bench.world.held.insert("db".into(), held(&["api"]).remove(0));
    bench.fires("Down", "db", Critical).at(secs(20));
    let first = bench.last().clone();
    assert_eq!(first.dependents, held(&["api"]));
    bench.world.held.insert("db".into(), held(&["api", "shop"]).remove(0));
    bench.fires("Slow", "db", Warning).at(secs(400));
    let second = bench.last().clone();
    assert_eq!(second.dependents, held(&["api", "shop"]));
    assert_eq!(merge(first, second.clone()).dependents, held(&["api", "shop"]), "of one root what was said last");
    bench.resolves("Down", "db").resolves("Slow", "db").at(secs(1_000));
    assert_eq!(bench.last().dependents, [], "it is about nothing that is out");
    assert_eq!(merge(second, bench.last().clone()).dependents, [], "nor are both together");
}

#[test]
fn what_is_told_while_its_root_is_out_names_it() {
    let root = RootFacts { deployment: "db".into(), why: "is unhealthy".to_owned(), since: at(secs(0)) };
    let mut bench = Bench::new();
    bench.world.roots.insert(key("Down", "api"), root.clone());
    bench.fires("Down", "api", Critical).at(secs(20));
    assert_eq!(bench.last().alerts[0].dependency, Some(root));
    bench.resolves("Down", "api").at(secs(400));
    assert_eq!(bench.last().alerts[0].dependency, None);
}

/// The start is 2027-01-15T08:00:00Z, a Friday; the first route is closed until nine.
fn mornings() -> Bench {
    let at_nine = TimeInterval {
        times: vec![(8 * 60, 9 * 60)],
        weekdays: vec![],
        days_of_month: vec![],
        months: vec![],
        years: vec![],
        location: Zone::utc(),
    };
    let mut closed = route("0/0", "oncall", &["deployment=shop"], vec![]);
    closed.hours = Hours { mute: vec!["mornings".into()], active: vec![] };
    let mut bench = Bench::routed(route("0", "dba", &[], vec![closed]));
    bench.policy.time_intervals = Arc::new([("mornings".into(), vec![at_nine])].into_iter().collect());
    bench
}

#[test]
fn a_route_tells_nothing_in_its_closed_hours_and_the_difference_after_them() {
    let mut bench = mornings();
    bench.fires("HighCpu", "shop", Warning).fires("HighCpu", "mail", Warning).at(secs(100));
    bench.fires("Slow", "shop", Warning).at(secs(200)).resolves("Slow", "shop").at(secs(4_000));
    assert_eq!(
        bench.newly_sent(),
        ["10s dba New [FIRING:1] HighCpu mail (warning)", "3600s oncall New [FIRING:1] HighCpu shop (warning)"]
    );
    // told of firing; its end comes in the next morning and is told after it
    let next_morning = 24 * 3600;
    bench.at(secs(next_morning + 60)).newly_sent();
    bench.resolves("HighCpu", "shop").at(secs(next_morning + 4_000));
    assert_eq!(bench.newly_sent(), [format!("{}s oncall Changed [RESOLVED] HighCpu shop", next_morning + 3_600)]);
}

#[test]
fn what_cannot_wait_goes_past_closed_hours_alone() {
    let mut bench = mornings();
    bench.fires("HighCpu", "shop", Warning).fires("Slow", "shop", Warning).at(secs(60));
    bench.news(NewsKind::NotCured, FlushReason::Changed, about("Slow", "shop"));
    bench.news(NewsKind::Approval, FlushReason::Urgent, about("HighCpu", "shop"));
    assert_eq!(bench.newly_sent(), ["60s oncall Urgent [FIRING:1] HighCpu shop (warning): approval"]);
    let labels: Labels = [("deployment", "shop")].into_iter().collect();
    bench.news(NewsKind::Refused, FlushReason::Urgent, NewsAbout::Labels(labels));
    assert_eq!(bench.newly_sent(), ["60s oncall Urgent [REFUSED] shop: text of refused"]);
    bench.at(secs(3_700));
    assert_eq!(bench.newly_sent(), ["3600s oncall Changed [FIRING:2] Slow, HighCpu shop (warning): not cured"]);
}

#[test]
fn a_route_that_is_only_open_in_some_hours_follows_a_new_policy_at_once() {
    let mut bench = mornings();
    bench.policy.route.routes[0].hours = Hours { mute: vec![], active: vec!["mornings".into()] };
    bench.fires("HighCpu", "shop", Warning).at(secs(3_700));
    assert_eq!(bench.newly_sent(), ["10s oncall New [FIRING:1] HighCpu shop (warning)"]);
    bench.fires("Slow", "shop", Warning).at(secs(5_000));
    assert_eq!(bench.newly_sent(), [""; 0]);
    bench.policy.route.routes[0].hours = Hours::default();
    bench.reload().at(secs(5_400));
    assert_eq!(bench.newly_sent(), ["5110s oncall Changed [FIRING:2] Slow, HighCpu shop (warning)"]);
}
