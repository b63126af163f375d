//! Attempts, orders and rates.

use std::time::Duration;

use super::bench::*;
use selfheal_contract::Gap;
use selfheal_contract::input::DeliveryResult;
use selfheal_contract::notification::{AlertChangeWord, FlushReason, NewsKind};
use selfheal_contract::receiver::NotifyRate;
use selfheal_model::Severity::Warning;

#[test]
fn a_failing_delivery_is_tried_again_ever_later_under_the_same_id_and_facts() {
    let mut bench = Bench::new();
    bench.peer =
        Box::new(|delivery| Some(if delivery.attempt < 5 { transient(None) } else { DeliveryResult::Delivered }));
    bench.fires("HighCpu", "shop", Warning).at(secs(100));
    let waits: Vec<Duration> = bench.attempts.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    for (wait, full) in waits.iter().zip([1_000, 2_000, 4_000, 8_000].map(Duration::from_millis)) {
        assert!(*wait >= full / 2 && *wait <= full, "{waits:?}");
    }
    assert_eq!(waits.len(), 4);
    let (first, last) = (&bench.attempts[0].1, &bench.attempts[4].1);
    assert_eq!((&first.id, &first.notification), (&last.id, &last.notification));
    assert_eq!(states(&bench, "oncall"), ["delivered"]);
    assert_eq!(bench.views.values().next().map(|view| view.attempts), Some(5));
}

#[test]
fn the_next_waits_until_the_former_ended() {
    let mut bench = Bench::new();
    bench.peer = Box::new(|_| None);
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop").at(secs(1_000));
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.dispatch.waiting(), 2);
    bench.answer(0, DeliveryResult::Delivered);
    assert_eq!(bench.sent()[1..], ["1000s oncall Changed [RESOLVED] HighCpu shop"]);
    // an answer that came already changes nothing
    bench.answer(0, DeliveryResult::Delivered).answer(1, DeliveryResult::Delivered);
    assert_eq!((bench.attempts.len(), bench.dispatch.waiting()), (2, 0));
}

#[test]
fn one_failing_notifier_holds_up_no_other() {
    let mut bench = Bench::new();
    bench.has(receiver("oncall", 2));
    bench.peer = Box::new(|delivery| {
        let first = delivery.id.as_str().contains("/webhook-1/");
        Some(if first { transient(None) } else { DeliveryResult::Delivered })
    });
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop").at(secs(400));
    let second: Vec<_> = bench
        .attempts
        .iter()
        .filter(|(_, delivery)| delivery.id.as_str().contains("/webhook-2/"))
        .map(|(when, _)| *when)
        .collect();
    assert_eq!(second, [secs(10), secs(310)]);
    let mut states = states(&bench, "oncall");
    states.sort();
    assert_eq!(states, ["delivered", "delivered", "pending", "pending"]);
}

#[test]
fn retry_after_is_honoured() {
    let mut bench = Bench::new();
    bench.peer = Box::new(|delivery| {
        Some(if delivery.attempt == 1 { transient(Some(secs(120))) } else { DeliveryResult::Delivered })
    });
    bench.fires("HighCpu", "shop", Warning).at(secs(1_000));
    let when: Vec<_> = bench.attempts.iter().map(|(when, _)| *when).collect();
    assert_eq!(when, [secs(10), secs(130)]);
}

#[test]
fn what_cannot_be_delivered_in_time_is_kept_as_undelivered_and_the_next_goes_on() {
    let mut bench = Bench::new();
    let mut impatient = receiver("oncall", 1);
    impatient.max_age = secs(60);
    bench.has(impatient);
    bench.peer = Box::new(|delivery| {
        let first = delivery.notification.flush == 1;
        Some(if first { transient(None) } else { DeliveryResult::Delivered })
    });
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop").at(secs(1_000));
    let last_try = bench.attempts.iter().rfind(|(_, delivery)| delivery.notification.flush == 1);
    assert_eq!(last_try.map(|(when, _)| *when), Some(secs(70)));
    assert_eq!(states(&bench, "oncall"), ["undelivered", "delivered"]);
    // one that asks for more patience than there is, is not waited for
    bench.peer = Box::new(|_| Some(transient(Some(secs(61)))));
    bench.fires("Slow", "mail", Warning).at(secs(1_010));
    assert!(bench.views.values().any(|view| view.subject.contains("Slow") && view.state == "undelivered"));
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.peer = Box::new(|_| Some(DeliveryResult::Permanent { why: "404 Not Found".to_owned() }));
    bench.fires("HighCpu", "shop", Warning).at(secs(1_000));
    assert_eq!(bench.attempts.len(), 1);
    assert_eq!(bench.views.values().next().and_then(|view| view.error.clone()).as_deref(), Some("404 Not Found"));
}

#[test]
fn above_the_rate_notifications_of_a_group_are_merged_into_the_later() {
    let mut bench = Bench::new();
    let mut slow = receiver("oncall", 1);
    slow.rate = NotifyRate { count: 1, window: secs(1_000) };
    bench.has(slow);
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).fires("Slow", "shop", Warning).at(secs(320));
    bench.resolves("HighCpu", "shop").at(secs(900));
    assert_eq!(bench.sent(), ["10s oncall New [FIRING:1] HighCpu shop (warning)"]);
    assert_eq!(bench.dispatch.waiting(), 1);
    bench.at(secs(1_500));
    assert_eq!(bench.sent()[1..], ["1010s oncall Changed [FIRING:1] Slow shop (warning)"]);
    let merged = bench.last();
    assert_eq!((merged.merged, merged.flush), (2, 3));
    let changes: Vec<_> = merged.alerts.iter().map(|alert| (alert.alert.as_str(), alert.change)).collect();
    assert_eq!(changes, [("Slow", AlertChangeWord::New), ("HighCpu", AlertChangeWord::Ended)]);
}

#[test]
fn a_storm_over_many_groups_is_one_message_and_names_every_alert() {
    let mut bench = Bench::new();
    let mut slow = receiver("oncall", 1);
    slow.rate = NotifyRate { count: 2, window: secs(60) };
    bench.has(slow);
    for n in 0..40 {
        bench.fires("HighCpu", &format!("web-{n:02}"), Warning);
    }
    bench.at(secs(250));
    let named: usize = bench.attempts.iter().map(|(_, delivery)| delivery.notification.alerts.len()).sum();
    assert_eq!(named, 40);
    assert!(bench.attempts.len() == 3, "{:?}", bench.sent());
    assert_eq!(bench.dispatch.waiting(), 0);
}

#[test]
fn an_urgent_word_passes_the_gate_first() {
    let mut bench = Bench::new();
    let mut slow = receiver("oncall", 1);
    slow.rate = NotifyRate { count: 1, window: secs(100) };
    bench.has(slow);
    bench.fires("A", "a", Warning).fires("B", "b", Warning).fires("C", "c", Warning).at(secs(20));
    bench.news(NewsKind::Exhausted, FlushReason::Urgent, about("C", "c")).at(secs(120));
    assert_eq!(
        bench.sent(),
        ["10s oncall New [FIRING:1] A a (warning)", "110s oncall Urgent [FIRING:1] C c (warning): exhausted",]
    );
}

#[test]
fn what_piled_up_unwatched_is_one_message() {
    let mut bench = Bench::new();
    bench.peer = Box::new(|_| None);
    bench.policy.route.repeat_interval = secs(1_000);
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).fires("Slow", "shop", Warning);
    bench.at(secs(400)).resolves("Slow", "shop").at(secs(40_000));
    bench.turn(|dispatch, turn, _| dispatch.resumed(turn, at(secs(25)), at(secs(40_000)), Gap::Blind));
    bench.peer = Box::new(|_| Some(DeliveryResult::Delivered));
    bench.answer(0, DeliveryResult::Delivered).at(secs(40_001));
    assert_eq!(bench.sent().len(), 2, "{:?}", bench.sent());
    assert_eq!(bench.last().merged, 2);
    assert_eq!(bench.dispatch.waiting(), 0);
}

#[test]
fn a_group_says_once_that_nobody_watched() {
    let mut bench = Bench::new();
    bench.policy.route.repeat_interval = secs(100_000);
    bench.fires("HighCpu", "shop", Warning).at(secs(600));
    assert_eq!(bench.sent().len(), 1);
    bench.turn(|dispatch, turn, _| dispatch.resumed(turn, at(secs(600)), at(secs(620)), Gap::Blind));
    bench.at(secs(2_000));
    assert_eq!(bench.sent().len(), 1, "a short stop is not worth a message");
    bench.at(secs(5_000));
    bench.turn(|dispatch, turn, _| dispatch.resumed(turn, at(secs(2_000)), at(secs(5_000)), Gap::Blind));
    bench.at(secs(20_000));
    assert_eq!(bench.sent().len(), 2, "{:?}", bench.sent());
    let told = bench.last().unwatched.expect("the gap is named");
    assert_eq!((told.from, told.to), (at(secs(2_000)), at(secs(5_000))));
    bench.resolves("HighCpu", "shop").at(secs(30_000));
    assert_eq!((bench.sent().len(), bench.last().unwatched), (3, None), "only once");
}

#[test]
fn a_lane_that_is_full_merges_its_newest_and_loses_nothing() {
    let mut bench = Bench::new();
    bench.peer = Box::new(|_| None);
    bench.policy.route.group_wait = secs(0);
    bench.policy.route.group_interval = secs(1);
    for n in 0..130 {
        bench.at(secs(n * 10)).fires(&format!("Rule{n:03}"), "shop", Warning);
    }
    bench.at(secs(2_000));
    assert_eq!(bench.dispatch.waiting(), 100);
    bench.peer = Box::new(|_| Some(DeliveryResult::Delivered));
    bench.answer(0, DeliveryResult::Delivered);
    assert_eq!(bench.dispatch.waiting(), 0);
    let last = bench.last();
    assert_eq!((last.merged, last.truncated), (31, 30));
}
