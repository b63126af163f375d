//! What people hear while a ladder works, and of relapses.

use super::bench::*;
use crate::turn::AlertChangeKind;
use selfheal_contract::notification::{AlertChangeWord, FlushReason, NewsKind};
use selfheal_model::Severity::{Critical, Warning};

fn patient() -> Bench {
    let mut bench = Bench::new();
    bench.policy.route.wait_for_repair = secs(300);
    bench
}

/// Told, resolved and told again; its cooldown runs until 3,000 s.
fn cooling() -> Bench {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).resolves("HighCpu", "shop").at(secs(600));
    bench.world.cooldowns.insert(key("HighCpu", "shop"), at(secs(3_000)));
    assert_eq!(bench.newly_sent().len(), 2);
    bench
}

#[test]
fn cured_while_held_is_one_message_for_those_who_ask() {
    let mut bench = patient();
    bench.wants("oncall", &[NewsKind::Firing, NewsKind::Resolved, NewsKind::Cured]);
    bench.fires("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true).at(secs(60));
    bench.news(NewsKind::Cured, FlushReason::Changed, about("HighCpu", "shop"));
    bench.ladder("HighCpu", "shop", "resting", false).at(secs(90)).resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(bench.sent(), ["90s oncall New [REPAIRED] HighCpu shop"]);
}

#[test]
fn cured_while_held_is_no_message_for_others() {
    let mut bench = patient();
    bench.fires("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true).at(secs(60));
    bench.news(NewsKind::Cured, FlushReason::Changed, about("HighCpu", "shop"));
    bench.ladder("HighCpu", "shop", "resting", false).resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(bench.sent(), [""; 0]);
}

#[test]
fn the_cure_may_be_known_after_the_alert_is_over() {
    let mut bench = patient();
    bench.wants("oncall", &[NewsKind::Firing, NewsKind::Resolved, NewsKind::Cured]);
    bench.fires("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true).at(secs(60));
    bench.resolves("HighCpu", "shop").at(secs(80));
    bench.news(NewsKind::Cured, FlushReason::Changed, about("HighCpu", "shop")).at(secs(2_000));
    assert_eq!(bench.sent(), ["80s oncall New [REPAIRED] HighCpu shop"]);
}

#[test]
fn firing_is_held_at_most_so_long() {
    let mut bench = patient();
    bench.fires("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true).at(secs(2_000));
    assert_eq!(bench.sent(), ["300s oncall New [FIRING:1] HighCpu shop (warning)"]);
}

#[test]
fn a_ladder_that_ends_lets_firing_go_with_its_story() {
    let mut bench = patient();
    bench.fires("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true).at(secs(60));
    bench.news(NewsKind::NotCured, FlushReason::Changed, about("HighCpu", "shop")).at(secs(120));
    bench.news(NewsKind::Exhausted, FlushReason::Urgent, about("HighCpu", "shop"));
    bench.ladder("HighCpu", "shop", "exhausted", false).at(secs(200));
    assert_eq!(bench.sent(), ["120s oncall Urgent [FIRING:1] HighCpu shop (warning): exhausted"]);
    assert_eq!(bench.last().news.len(), 2);
    bench.resolves("HighCpu", "shop").at(secs(2_000));
    assert_eq!(bench.sent()[1..], ["420s oncall Changed [RESOLVED] HighCpu shop"]);
}

#[test]
fn without_a_ladder_at_work_nothing_is_held() {
    let mut bench = patient();
    bench.fires("HighCpu", "shop", Warning).at(secs(100));
    assert_eq!(bench.sent(), ["10s oncall New [FIRING:1] HighCpu shop (warning)"]);
}

#[test]
fn a_relapse_is_told_when_the_cooldown_ends_and_it_still_fires() {
    let mut bench = cooling();
    bench.relapses("HighCpu", "shop", Warning).at(secs(2_999));
    assert_eq!(bench.newly_sent(), [""; 0]);
    bench.at(secs(3_100));
    assert_eq!(bench.sent(), ["3000s oncall New [FIRING:1] HighCpu shop (warning)"]);
    assert_eq!((bench.last().alerts[0].change, bench.last().alerts[0].relapse), (AlertChangeWord::FiringAgain, 1));
}

#[test]
fn a_relapse_that_is_over_before_the_cooldown_is_not_told() {
    let mut bench = cooling();
    bench.relapses("HighCpu", "shop", Warning).at(secs(1_000)).resolves("HighCpu", "shop").at(secs(9_000));
    assert_eq!(bench.newly_sent(), [""; 0]);
    bench.change(&key("HighCpu", "shop"), AlertChangeKind::EpisodeOver);
    bench.fires("HighCpu", "shop", Warning).at(secs(9_010));
    assert_eq!(bench.sent(), ["9010s oncall New [FIRING:1] HighCpu shop (warning)"]);
}

#[test]
fn a_graver_relapse_or_one_whose_ladder_ended_is_told_at_once() {
    let mut bench = cooling();
    bench.relapses("HighCpu", "shop", Critical);
    assert_eq!(bench.newly_sent(), ["600s oncall New [FIRING:1] HighCpu shop (critical)"]);

    let mut bench = cooling();
    bench.relapses("HighCpu", "shop", Warning).at(secs(700)).turns("HighCpu", "shop", Critical);
    assert_eq!(bench.newly_sent(), ["700s oncall New [FIRING:1] HighCpu shop (critical)"]);

    let mut bench = cooling();
    bench.relapses("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true).at(secs(800));
    assert_eq!(bench.newly_sent(), [""; 0]);
    bench.ladder("HighCpu", "shop", "exhausted", false);
    assert_eq!(bench.newly_sent(), ["800s oncall New [FIRING:1] HighCpu shop (warning)"]);
}

#[test]
fn a_relapse_nobody_was_told_the_beginning_of_is_new() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop", Warning).at(secs(5)).resolves("HighCpu", "shop");
    bench.world.cooldowns.insert(key("HighCpu", "shop"), at(secs(3_000)));
    bench.at(secs(20)).relapses("HighCpu", "shop", Warning).at(secs(100));
    assert_eq!(bench.sent(), ["30s oncall New [FIRING:1] HighCpu shop (warning)"]);
    assert_eq!(bench.last().alerts[0].change, AlertChangeWord::New);
}

#[test]
fn an_urgent_word_about_one_alert_lets_go_of_no_other() {
    let mut bench = patient();
    bench.wants("oncall", &[NewsKind::Firing, NewsKind::Cured, NewsKind::Exhausted]);
    bench.fires("HighCpu", "shop", Warning).ladder("HighCpu", "shop", "working", true);
    bench.fires("Slow", "shop", Warning).ladder("Slow", "shop", "working", true).at(secs(50));
    bench.news(NewsKind::Cured, FlushReason::Changed, about("Slow", "shop"));
    bench.news(NewsKind::Exhausted, FlushReason::Urgent, about("HighCpu", "shop"));
    assert_eq!(bench.newly_sent(), ["50s oncall Urgent [FIRING:1] HighCpu shop (warning): exhausted"]);
    bench.at(secs(60)).resolves("Slow", "shop").at(secs(400));
    assert_eq!(bench.sent(), ["350s oncall Changed [FIRING:1] HighCpu shop (warning): repaired"]);
}

#[test]
fn a_ladder_that_begins_a_moment_later_still_holds_the_word() {
    let mut bench = patient();
    bench.policy.route.group_wait = secs(5);
    bench.fires("HighCpu", "shop", Warning).at(secs(4)).ladder("HighCpu", "shop", "working", true).at(secs(100));
    assert_eq!(bench.sent(), [""; 0]);
    // what has been told is not held any more
    let mut bench = patient();
    bench.fires("HighCpu", "shop", Warning).at(secs(20)).ladder("HighCpu", "shop", "working", true);
    bench.resolves("HighCpu", "shop").at(secs(400));
    assert_eq!(bench.sent().len(), 2);
}
