//! What runs when its time comes.

use std::sync::Arc;

use super::bench::{Bench, START, action, playbook, policy, secs};
use selfheal_contract::notification::NewsKind;
use selfheal_contract::view::ApprovalState;
use selfheal_contract::{BuiltInAlert, Gap};
use selfheal_model::{FailureClass, Outcome, Selector, SourceRef};
use selfheal_policy::Policy;
use selfheal_policy::guards::Mode;
use selfheal_policy::schedule::{Schedule, When};

const HOUR: u64 = 3600;

/// `tidy-up` runs `tidy` on every web deployment each hour, one at a time.
fn hourly(verb: &str, change: impl FnOnce(&mut Schedule)) -> Policy {
    let mut schedule = Schedule {
        name: "tidy-up".into(),
        source: SourceRef { file: "selfheal.yaml".into(), line: 1, column: 1 },
        playbook: "tidy".into(),
        with: Vec::new(),
        select: Selector(vec!["tier=web".parse().unwrap_or_else(|error| panic!("{error}"))]),
        when: When::Every(secs(HOUR)),
        jitter: secs(0),
        at_once: 1,
        catch_up: secs(0),
    };
    change(&mut schedule);
    let mut with = policy();
    with.playbooks.insert("tidy".into(), Arc::new(playbook("tidy", vec![action(verb)])));
    with.schedules.insert("tidy-up".into(), Arc::new(schedule));
    with
}

fn begun(with: Policy) -> Bench {
    let mut bench = Bench::with(policy());
    bench.new_policy(with);
    bench
}

/// How long until the schedule comes.
fn wait(with: &Policy) -> std::time::Duration {
    with.schedules["tidy-up"].next_after(START).since(START)
}

fn targets(bench: &Bench) -> Vec<&str> {
    bench.calls.iter().map(|call| call.deployment.id.as_str()).collect()
}

#[test]
fn each_deployment_has_its_run_so_many_at_a_time() {
    let with = hourly("tidy", |_| {});
    let wait = wait(&with);
    let mut bench = begun(with);
    bench.pass(wait - secs(1));
    assert!(bench.calls.is_empty());
    bench.pass(secs(1));
    assert_eq!(targets(&bench), ["cart"]);
    assert_eq!(bench.run("cart-1").cause, "schedule:tidy-up");
    for _ in 0..3 {
        bench.ends_done();
        bench.pass(secs(0));
    }
    assert_eq!(targets(&bench), ["cart", "checkout", "search"]);
    assert_eq!(bench.verdict("search-1"), Some("done"));
    bench.pass(secs(HOUR));
    assert_eq!(bench.calls.len(), 4, "and again an hour later");
}

#[test]
fn one_that_is_not_over_skips_the_next_and_says_so() {
    let with = hourly("tidy", |_| {});
    let wait = wait(&with);
    let mut bench = begun(with);
    bench.pass(wait);
    // nobody reports the end of the first call for long
    bench.pass(secs(60));
    bench.ends(Outcome::done("ok"));
    bench.pass(secs(0));
    assert_eq!(bench.calls.len(), 2);
    bench.ends_done();
    bench.pass(secs(0));
    bench.pauses();
    bench.ends_done();
    bench.pass(secs(HOUR));
    bench.resumes();
    let skipped = bench.told(NewsKind::Refused).into_iter().filter(|(_, text)| text.contains("is skipped")).count();
    assert_eq!(skipped, 0, "all three had their run in time: {:?}", bench.news);
}

#[test]
fn what_was_missed_is_made_up_only_within_catch_up_and_never_where_it_disrupts() {
    for (verb, catch_up, made_up) in [("tidy", 0, false), ("tidy", 2 * HOUR, true), ("restart", 2 * HOUR, false)] {
        let with = hourly(verb, |schedule| schedule.catch_up = secs(catch_up));
        let missed = wait(&with) + secs(600);
        let mut bench = begun(with);
        let from = bench.now;
        bench.now = from + missed;
        let to = bench.now;
        bench.turn(|remedy, turn, alerts| remedy.resumed(turn, alerts, from, to, Gap::Stopped));
        bench.pass(secs(1));
        assert_eq!(!bench.calls.is_empty(), made_up, "{verb} with catch_up {catch_up}");
        let said = bench.told(NewsKind::Refused).iter().any(|(_, text)| text.contains("selfheal was not there then"));
        assert_eq!(said, !made_up, "{:?}", bench.news);
    }
}

#[test]
fn of_several_missed_times_the_newest_is_made_up_and_the_others_are_said() {
    for (verb, made_up) in [("tidy", true), ("restart", false)] {
        let with = hourly(verb, |schedule| schedule.catch_up = secs(1800));
        let first = START + wait(&with);
        let newest = first + secs(3 * HOUR);
        let mut bench = begun(with);
        let from = bench.now;
        bench.now = newest + secs(600);
        let to = bench.now;
        bench.turn(|remedy, turn, alerts| remedy.resumed(turn, alerts, from, to, Gap::Stopped));
        bench.pass(secs(1));
        assert_eq!(!bench.calls.is_empty(), made_up, "{verb}");
        let told = bench.told(NewsKind::Refused);
        let skipped: Vec<_> = told.iter().filter(|(_, text)| text.contains("is skipped")).collect();
        let last = if made_up { first + secs(2 * HOUR) } else { newest };
        let [(_, text)] = skipped[..] else { panic!("{skipped:?}") };
        assert!(text.contains(&format!("of {first} to {last} is skipped")), "{text}");
    }
}

#[test]
fn one_that_guards_refuse_is_skipped_unless_it_may_catch_up() {
    for (catch_up, runs) in [(0, 0), (1800, 1)] {
        let with = hourly("tidy", |schedule| schedule.catch_up = secs(catch_up));
        let wait = wait(&with);
        let mut bench = begun(with);
        bench.pauses();
        bench.pass(wait + secs(60));
        bench.resumes();
        bench.pass(secs(5));
        assert_eq!(bench.calls.len(), runs, "catch_up {catch_up}: {:?}", bench.news);
    }
}

#[test]
fn a_run_that_fails_is_an_alert_until_one_succeeds() {
    let with = hourly("tidy", |schedule| {
        schedule.select = Selector(vec!["deployment=cart".parse().unwrap_or_else(|error| panic!("{error}"))]);
    });
    let wait = wait(&with);
    let mut bench = begun(with);
    bench.pass(wait);
    bench.ends_failed(FailureClass::Permanent);
    assert_eq!(bench.said.last().map(|said| said.name), Some(BuiltInAlert::ScheduledRunFailed));
    assert!(bench.said.last().is_some_and(|said| said.summary.as_ref().is_some_and(|text| text.contains("it broke"))));
    bench.pass(secs(HOUR));
    bench.ends_done();
    assert!(bench.said.iter().any(|said| said.name == BuiltInAlert::ScheduledRunFailed && said.summary.is_none()));
}

#[test]
fn those_of_one_schedule_count_for_each_other() {
    let with = hourly("restart", |schedule| schedule.at_once = 10);
    let wait = wait(&with);
    let mut with = with;
    with.guards.blast_radius.max_at_once = 1;
    let mut bench = begun(with);
    bench.pass(wait);
    assert_eq!(targets(&bench), ["cart"], "the others were asked about at the same instant, and refused");
    assert_eq!(bench.refused_by("checkout-1"), Some("blast_radius"));
    assert_eq!(bench.verdict("checkout-1"), Some("refused"), "what disrupts is not made up");
}

#[test]
fn a_time_does_not_come_again_when_the_wall_clock_goes_back() {
    let with = hourly("tidy", |_| {});
    let again = hourly("tidy", |_| {});
    let wait = wait(&with);
    let mut bench = begun(with);
    bench.pass(wait);
    for _ in 0..3 {
        bench.ends_done();
        bench.pass(secs(0));
    }
    bench.turn(|remedy, _, _| remedy.clock_moved(-600_000));
    bench.new_policy(again);
    bench.pass(secs(HOUR - 1));
    assert_eq!(bench.calls.len(), 3, "the same hour, a second time");
    bench.pass(secs(601));
    assert_eq!(bench.calls.len(), 4);
}

#[test]
fn what_waits_runs_what_the_schedule_says_when_it_begins() {
    let with = hourly("tidy", |schedule| schedule.catch_up = secs(HOUR));
    let wait = wait(&with);
    let mut bench = begun(with);
    bench.pauses();
    bench.pass(wait);
    let mut other = hourly("tidy", |schedule| {
        schedule.catch_up = secs(HOUR);
        schedule.playbook = "check".into();
    });
    other.playbooks.insert("check".into(), Arc::new(playbook("check", vec![action("logs")])));
    bench.new_policy(other);
    bench.resumes();
    bench.pass(secs(60));
    assert_eq!(bench.calls[0].verb.as_str(), "logs");
}

/// `tidy-up` asks for a word before it runs on cart.
fn asking() -> (Policy, std::time::Duration) {
    let mut with = hourly("tidy", |schedule| {
        schedule.select = Selector(vec!["deployment=cart".parse().unwrap_or_else(|error| panic!("{error}"))]);
    });
    with.guards.mode = Mode::Approve;
    let wait = wait(&with);
    (with, wait)
}

#[test]
fn safety_deny_by_default_of_a_schedule() {
    let (with, wait) = asking();
    let mut bench = begun(with);
    bench.pass(wait + secs(1799));
    assert_eq!(bench.asked("cart-1.1"), ApprovalState::Waiting);
    bench.pass(secs(1));
    assert_eq!((bench.asked("cart-1.1"), bench.verdict("cart-1")), (ApprovalState::Expired, Some("denied")));
    assert!(bench.calls.is_empty());
}

#[test]
fn who_is_asked_late_has_the_whole_time_to_answer() {
    let (mut with, wait) = asking();
    if let Some(schedule) = with.schedules.get_mut("tidy-up") {
        Arc::make_mut(schedule).catch_up = secs(2400);
    }
    let mut bench = begun(with);
    bench.pauses();
    bench.pass(wait + secs(1200));
    bench.resumes();
    bench.pass(secs(1799));
    assert_eq!(bench.asked("cart-1.1"), ApprovalState::Waiting, "as long as the message says");
    bench.pass(secs(1));
    assert_eq!((bench.asked("cart-1.1"), bench.verdict("cart-1")), (ApprovalState::Expired, Some("denied")));
}
