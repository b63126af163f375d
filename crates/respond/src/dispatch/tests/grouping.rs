//! When a group speaks, and of what.

use super::bench::*;
use crate::turn::{AlertChangeKind, NewsAbout};
use selfheal_contract::notification::{AlertChangeWord, FlushReason, NewsKind, Notification};
use selfheal_model::Severity::{Critical, Warning};

#[test]
fn a_group_waits_gathers_and_then_speaks_at_its_intervals() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning);
    bench.at(secs(4)).fires("Slow", "shop", Critical).fires("HighCpu", "mail", Warning);
    bench.at(secs(60)).fires("Full", "shop", Warning);
    bench.at(secs(310)).resolves("HighCpu", "shop");
    bench.at(secs(1_000));
    assert_eq!(
        bench.sent(),
        [
            "10s oncall New [FIRING:2] Slow, HighCpu shop (critical)",
            "14s oncall New [FIRING:1] HighCpu mail (warning)",
            "310s oncall Changed [FIRING:3] Full, Slow, HighCpu shop (critical)",
            "610s oncall Changed [FIRING:2] Slow, Full shop (critical)",
        ]
    );
    let changes: Vec<_> = bench.last().alerts.iter().map(|alert| (alert.alert.as_str(), alert.change)).collect();
    assert_eq!(
        changes,
        [("HighCpu", AlertChangeWord::Ended), ("Slow", AlertChangeWord::Same), ("Full", AlertChangeWord::Same)]
    );
}

#[test]
fn what_came_and_went_within_group_wait_is_not_told() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(9)).resolves("HighCpu", "shop");
    bench.at(secs(20)).fires("HighCpu", "shop", Warning).at(secs(29)).resolves("HighCpu", "shop");
    bench.at(secs(10_000));
    assert_eq!(bench.sent(), [""; 0]);
    assert_eq!((bench.dispatch.waiting(), bench.dispatch.next_deadline()), (0, None));
}

#[test]
fn what_was_told_is_repeated_while_it_fires_and_its_end_is_told_once() {
    let mut bench = Bench::new();
    bench.policy.route.repeat_interval = secs(1_000);
    bench.fires("HighCpu", "shop", Warning).at(secs(2_500)).resolves("HighCpu", "shop").at(secs(100_000));
    assert_eq!(
        bench.sent(),
        [
            "10s oncall New [FIRING:1] HighCpu shop (warning)",
            "1010s oncall Repeat [FIRING:1] HighCpu shop (warning)",
            "2010s oncall Repeat [FIRING:1] HighCpu shop (warning)",
            "2610s oncall Changed [RESOLVED] HighCpu shop",
        ]
    );
    let flushes: Vec<_> = bench.attempts.iter().map(|(_, delivery)| delivery.notification.flush).collect();
    assert_eq!(flushes, [1, 2, 3, 4]);
}

#[test]
fn a_group_that_ended_begins_anew_and_no_delivery_has_the_id_of_another() {
    let mut bench = Bench::new();
    for minute in [0, 11, 60] {
        bench.at(secs(minute * 60)).fires("HighCpu", "shop", Warning);
        bench.at(secs(minute * 60 + 20)).resolves("HighCpu", "shop").at(secs(minute * 60 + 400));
    }
    assert_eq!(bench.attempts.len(), 6);
    assert_eq!(bench.views.len(), 6);
    let flushes: Vec<_> = bench.attempts.iter().map(|(_, delivery)| delivery.notification.flush).collect();
    assert_eq!(flushes, [1, 2, 1, 2, 1, 2]);
    assert_eq!(bench.attempts[2].0, secs(670));
}

#[test]
fn an_end_and_a_new_beginning_between_two_messages_are_no_word() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop");
    bench.at(secs(40)).fires("HighCpu", "shop", Warning).at(secs(5_000));
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_receiver_hears_only_what_it_asks_for() {
    let mut bench = Bench::new();
    bench.wants("oncall", &[NewsKind::Firing, NewsKind::Exhausted]);
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).turns("HighCpu", "shop", Critical);
    bench.at(secs(400)).news(NewsKind::NotCured, FlushReason::Urgent, about("HighCpu", "shop"));
    bench.news(NewsKind::Exhausted, FlushReason::Urgent, about("HighCpu", "shop"));
    bench.resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(
        bench.sent(),
        [
            "10s oncall New [FIRING:1] HighCpu shop (warning)",
            "400s oncall Urgent [FIRING:1] HighCpu shop (critical): exhausted",
        ]
    );
}

#[test]
fn one_that_asks_only_for_ends_hears_of_ends() {
    let mut bench = Bench::new();
    bench.wants("oncall", &[NewsKind::Resolved]);
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(bench.sent(), ["310s oncall New [RESOLVED] HighCpu shop"]);
}

#[test]
fn an_alert_that_is_watched_no_more_is_not_called_resolved() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).is_unwatched("HighCpu", "shop").at(secs(2_000));
    assert_eq!(bench.sent()[1..], ["310s oncall Changed [ENDED] HighCpu shop: no longer watched"]);
}

#[test]
fn news_joins_the_next_message_unless_it_is_urgent() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(30));
    bench.news(NewsKind::NotCured, FlushReason::Changed, about("HighCpu", "shop")).at(secs(320));
    bench.news(NewsKind::Inconclusive, FlushReason::Urgent, about("HighCpu", "shop"));
    let labels = [("deployment", "mail")].into_iter().collect();
    bench.news(NewsKind::NotCured, FlushReason::Changed, NewsAbout::Labels(labels)).at(secs(340));
    assert_eq!(
        bench.sent()[1..],
        [
            "310s oncall Changed [FIRING:1] HighCpu shop (warning): not cured",
            "320s oncall Urgent [FIRING:1] HighCpu shop (warning): inconclusive",
            "330s oncall New [NOT CURED] shop: text of not_cured",
        ]
    );
}

#[test]
fn a_playbooks_own_word_goes_straight_to_its_receiver() {
    let mut bench = Bench::new();
    bench.wants("dba", &[]);
    bench.at(secs(5)).news(NewsKind::Started, FlushReason::Playbook, NewsAbout::Receiver("dba".into()));
    assert_eq!(bench.sent(), ["5s dba Playbook [STARTED] shop: text of started"]);
    bench.news(NewsKind::Started, FlushReason::Playbook, NewsAbout::Receiver("gone".into()));
    assert_eq!(states(&bench, "gone"), ["undelivered"]);
}

#[test]
fn a_message_lists_a_bounded_number_of_alerts_and_counts_the_rest() {
    let mut bench = Bench::new();
    for n in 0..Notification::MAX_ALERTS + 7 {
        bench.fires(&format!("Rule{n}"), "shop", Warning);
    }
    bench.at(secs(10));
    assert_eq!((bench.last().alerts.len(), bench.last().truncated), (Notification::MAX_ALERTS, 7));
    assert!(bench.last().subject().starts_with("[FIRING:107]"));
    // those beyond were told of too: their ends are
    let last = Notification::MAX_ALERTS + 6;
    bench.resolves(&format!("Rule{last}"), "shop").at(secs(310));
    assert_eq!(bench.last().alerts[0].change, AlertChangeWord::Ended);
}

#[test]
fn lost_data_is_said_in_the_next_message_only() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(20));
    bench.change(&key("HighCpu", "shop"), AlertChangeKind::DataLost).at(secs(1_000));
    assert_eq!(bench.sent().len(), 1);
}
