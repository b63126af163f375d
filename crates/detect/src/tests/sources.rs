//! What sources say besides samples: that a series ended, and that they could not be asked.

use super::*;
use selfheal_model::{Conversion, Source, SourceKind};

fn up(bench: &mut Bench, seconds: i64, value: f64) {
    let kind = EventKind::Metric { name: "up".into(), value, labels: labels(&[("source", "page")]) };
    bench.event(seconds, "shop", seconds, kind, Origin::Watched);
}

fn end(bench: &mut Bench, seconds: i64, own: &[(&str, &str)]) {
    let kind = EventKind::Ended { name: "cpu".into(), labels: labels(own) };
    bench.event(seconds, "shop", seconds, kind, Origin::External);
}

fn source(every: u64) -> Arc<Source> {
    Arc::new(Source {
        name: "page".into(),
        kind: SourceKind::Host,
        every: Duration::from_secs(every),
        timeout: Duration::from_secs(1),
        labels: labels(&[("deployment", "shop")]),
        only: Vec::new(),
    })
}

fn with_source(every: u64, rules: Vec<Rule>) -> Policy {
    let mut policy = policy(vec![deployment("shop", &[])], rules);
    policy.intake.sources = vec![source(every)];
    policy
}

#[test]
fn the_newest_value_of_a_series_that_ended_is_missing_until_it_goes_on() {
    let mut bench = Bench::of(vec![
        rule("Hot", &["deployment"], "last(\"cpu\") > 80"),
        rule("Any", &["deployment"], "last(\"cpu\", \"max\") > 80 && label(\"tier\") == \"web\""),
    ]);
    bench.metric(10, "cpu", 90.0);
    bench.heard();
    end(&mut bench, 20, &[]);
    let said = ["20 Any{deployment=\"shop\"} nodata/nodata", "20 Hot{deployment=\"shop\"} nodata/nodata"];
    assert_eq!(bench.heard(), said);
    bench.restore();
    end(&mut bench, 21, &[]);
    assert_eq!(bench.heard(), [""; 0], "it is said once");
    assert_eq!(bench.truth(22, "avg(\"cpu\", \"1m\") == 90"), "true", "a window still holds what came");
    bench.event(
        25,
        "shop",
        15,
        EventKind::Metric { name: "cpu".into(), value: 95.0, labels: Labels::default() },
        Origin::External,
    );
    assert_eq!(bench.truth(25, "has(last(\"cpu\"))"), "false", "a late sample does not bring it back");
    bench.metric(30, "cpu", 91.0);
    assert_eq!(bench.truth(30, "last(\"cpu\") == 91"), "true");
    end(&mut bench, 40, &[("host", "b")]);
    assert_eq!(bench.truth(40, "last(\"cpu\") == 91"), "true", "that was another series");
    bench.metric_of("shop", 50, "cpu", &[("host", "b")], 99.0);
    end(&mut bench, 51, &[]);
    assert_eq!(bench.truth(52, "last(\"cpu\") == 99"), "true", "one of two is left, and so none is ambiguous");
}

#[test]
fn while_a_source_fails_silence_means_nothing_and_ages_stand_still() {
    let mut bench = Bench::new(with_source(15, vec![rule("Gone", &["deployment"], "absent(\"beat\", \"1m\")")]));
    bench.metric(10, "beat", 1.0);
    up(&mut bench, 30, 0.0);
    bench.until(200);
    assert_eq!(bench.truth(200, "absent(\"beat\", \"1m\")"), "nodata", "nobody could have seen one");
    assert_eq!(bench.truth(200, "age(\"beat\") == 20"), "true");
    assert_eq!(bench.truth(200, "count(\"beat\", \"1m\") == 0"), "nodata");
    assert_eq!(bench.truth(200, "signal(\"x\", \"1m\") == 0"), "true", "what is sent still comes");
    bench.restore();
    up(&mut bench, 230, 1.0);
    bench.until(400);
    assert_eq!(bench.heard(), ["290 Gone{deployment=\"shop\"} true/false"]);
    assert_eq!(bench.truth(400, "age(\"beat\") == 190"), "true", "20 s before and 170 s after");
}

#[test]
fn a_source_that_is_no_longer_asked_blinds_nobody() {
    let gone = || vec![rule("Gone", &["deployment"], "absent(\"beat\", \"1m\")")];
    let mut bench = Bench::new(with_source(15, gone()));
    up(&mut bench, 30, 0.0);
    bench.until(200);
    bench.heard();
    bench.replace(200, policy(vec![deployment("shop", &[])], gone()));
    bench.until(300);
    assert_eq!(bench.truth(300, "absent(\"beat\", \"1m\")"), "true");
}

#[test]
fn a_source_that_is_asked_seldom_goes_stale_late() {
    let hot = || vec![rule("Hot", &["deployment"], "last(\"cpu\") > 80")];
    let mut bench = Bench::new(with_source(600, hot()));
    bench.metric(10, "cpu", 90.0);
    bench.until(3000);
    let said = ["10 Hot{deployment=\"shop\"} true/false", "1810 Hot{deployment=\"shop\"} nodata/nodata"];
    assert_eq!(bench.heard(), said, "after three rounds");
    let mut short = policy(vec![deployment("shop", &[])], hot());
    short.intake.stale_after = Duration::from_secs(20);
    let mut bench = Bench::new(short);
    bench.metric(10, "cpu", 90.0);
    bench.until(3000);
    let said = ["10 Hot{deployment=\"shop\"} true/false", "30 Hot{deployment=\"shop\"} nodata/nodata"];
    assert_eq!(bench.heard(), said);
}

/// A page that gives many deployments.
fn with_page_for_all(rules: Vec<Rule>) -> Policy {
    let mut page = Arc::unwrap_or_clone(source(600));
    page.labels = Labels::default();
    let mut policy = policy(vec![deployment("shop", &[]), deployment("cart", &[])], rules);
    policy.intake.sources = vec![Arc::new(page)];
    policy
}

fn up_of(bench: &mut Bench, deployment: &str, seconds: i64, value: f64) {
    let kind = EventKind::Metric { name: "up".into(), value, labels: labels(&[("source", "page")]) };
    bench.event(seconds, deployment, seconds, kind, Origin::Watched);
}

#[test]
fn only_what_a_source_feeds_stands_for_as_long_as_it_takes() {
    let mut bench = Bench::new(with_page_for_all(vec![rule("Hot", &["deployment"], "last(\"cpu\") > 80")]));
    up_of(&mut bench, "shop", 9, 1.0);
    bench.metric(10, "cpu", 90.0);
    bench.metric_of("cart", 10, "cpu", &[], 90.0);
    bench.heard();
    bench.restore();
    bench.until(3000);
    let said = ["310 Hot{deployment=\"cart\"} nodata/nodata", "1810 Hot{deployment=\"shop\"} nodata/nodata"];
    assert_eq!(bench.heard(), said);
}

#[test]
fn what_a_source_says_of_itself_holds_for_whom_it_feeds_also_after_a_restart() {
    let silent = rule("Silent", &["deployment"], "absent(\"cpu\", \"5m\")");
    let mut bench = Bench::new(with_page_for_all(vec![silent]));
    up_of(&mut bench, "shop", 9, 1.0);
    bench.metric(10, "cpu", 90.0);
    bench.metric_of("cart", 10, "cpu", &[], 90.0);
    bench.restore();
    // it has forgotten whom it feeds
    up_of(&mut bench, "selfheal", 20, 0.0);
    bench.until(3000);
    assert_eq!(bench.heard(), ["310 Silent{deployment=\"cart\"} true/false"], "the other one is not seen");
    up_of(&mut bench, "selfheal", 3000, 1.0);
    bench.until(4000);
    let said = bench.heard();
    assert!(said.contains(&"3300 Silent{deployment=\"shop\"} true/false".to_owned()), "{said:?}");
}

#[test]
fn a_metric_is_renamed_and_recalculated_on_its_way_in() {
    let mut policy = policy(vec![deployment("shop", &[])], vec![]);
    let conversion = Conversion { name: "cpu_percent".into(), times: 100.0 };
    policy.intake.metrics = [("cpu_usage".into(), conversion)].into();
    let mut bench = Bench::new(policy);
    bench.metric(10, "cpu_usage", 0.5);
    assert_eq!(bench.truth(10, "last(\"cpu_percent\") == 50 && !has(last(\"cpu_usage\"))"), "true");
    bench.event(
        11,
        "shop",
        11,
        EventKind::Ended { name: "cpu_usage".into(), labels: Labels::default() },
        Origin::External,
    );
    assert_eq!(bench.truth(12, "has(last(\"cpu_percent\"))"), "false");
}

#[test]
fn a_rule_reads_the_wall_clock_and_is_asked_when_that_shows_something_else() {
    let mut bench = Bench::of(vec![rule("One", &["deployment"], "hour(\"UTC\") == 1")]);
    bench.turn(10, |detect, now, out, _| detect.clock_moved(now, -600_000, out));
    bench.until(4 * 3600);
    let one = "One{deployment=\"shop\"}";
    assert_eq!(bench.heard(), [format!("4200 {one} true/false"), format!("7800 {one} false/true")]);
    assert!(bench.ask(4 * 3600, "in_interval(\"x\")", None).contains("there is no time interval `x`"));
}

#[test]
fn a_trend_that_goes_on_by_itself_is_looked_at_every_second() {
    let mut bench = Bench::of(vec![
        rule("Full", &["deployment"], "predict(\"disk\", \"10m\", \"1m\") > 95"),
        rule("Soon", &["deployment"], "time_to(\"disk\", \"10m\", 95) < 30"),
        rule("Flat", &["deployment"], "time_to(\"flat\", \"10m\", 95) > 1000000"),
    ]);
    for seconds in [0, 10, 20, 30] {
        // half a percent each second
        bench.metric(seconds, "disk", 50.0 + 0.5 * seconds as f64);
        bench.metric(seconds, "flat", 50.0);
    }
    bench.until(200);
    let said = bench.heard();
    // 95 at 90 s: known from 31 s on, a minute ahead; half a minute before from 61 s on
    assert_eq!(said[..2], ["10 Flat{deployment=\"shop\"} true/false", "31 Full{deployment=\"shop\"} true/false"]);
    assert_eq!(said[2], "61 Soon{deployment=\"shop\"} true/false");
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn an_alert_s_times_stand_still_for_what_is_not_seen() {
    let hot = || rule("Hot", &["deployment"], "last(\"cpu\") > 80");
    let mut bench = Bench::new(with_source(15, vec![hot(), rule("Pushed", &["deployment"], "last(\"load\") > 5")]));
    bench.metric(10, "cpu", 90.0);
    bench.metric(10, "load", 9.0);
    bench.metric(25, "load", 9.0);
    bench.heard();
    up(&mut bench, 26, 0.0);
    assert!(bench.blind("Hot") && bench.blind("Pushed"), "neither has been seen since");
    bench.metric(30, "load", 9.0);
    assert!(bench.blind("Hot") && !bench.blind("Pushed"), "what is sent is seen all the same");
    bench.restore();
    bench.metric(50, "cpu", 91.0);
    up(&mut bench, 50, 1.0);
    assert!(!bench.blind("Hot"));
}
