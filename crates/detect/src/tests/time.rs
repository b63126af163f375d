use super::*;

const SHOP: &[&str] = &["deployment"];

fn lines(bench: &mut Bench) -> Vec<String> {
    bench.heard().iter().map(|line| line.replace("{deployment=\"shop\"}", "")).collect()
}

#[test]
fn a_sample_that_leaves_its_window_is_noticed_at_that_instant() {
    let mut bench = Bench::of(vec![rule("Burst", SHOP, "sum(\"errors\", \"1m\") > 5")]);
    bench.metric(100, "errors", 4.0);
    bench.metric(110, "errors", 3.0);
    bench.metric(120, "errors", 1.0);
    assert_eq!(bench.detect.next_deadline(), Some(at(160)));
    bench.until(1000);
    assert_eq!(lines(&mut bench), ["110 Burst true/false", "160 Burst false/true"]);
}

#[test]
fn a_late_sample_counts_while_its_window_is_open() {
    let mut bench = Bench::of(vec![rule("Burst", SHOP, "sum(\"errors\", \"1m\") > 5")]);
    bench.metric(100, "errors", 4.0);
    let late = |value| EventKind::Metric { name: "errors".into(), value, labels: Labels::default() };
    bench.event(120, "shop", 50, late(9.0), Origin::External);
    bench.event(120, "shop", 70, late(3.0), Origin::External);
    bench.until(200);
    assert_eq!(lines(&mut bench), ["120 Burst true/false", "130 Burst false/true"]);
    bench.event(200, "shop", 900, late(8.0), Origin::External);
    bench.until(300);
    assert_eq!(lines(&mut bench), ["200 Burst true/false", "260 Burst nodata/nodata"], "placed at its arrival");
}

#[test]
fn a_newest_value_goes_stale() {
    let mut bench = Bench::of(vec![rule("HighCpu", SHOP, "last(\"cpu\") > 80")]);
    bench.metric(10, "cpu", 90.0);
    bench.until(10_000);
    assert_eq!(lines(&mut bench), ["10 HighCpu true/false", "310 HighCpu nodata/nodata"]);
}

#[test]
fn absence_is_only_known_after_watching_for_its_window() {
    let mut bench = Bench::of(vec![rule("Silent", SHOP, "absent(\"beat\", \"3m\")")]);
    assert_eq!(bench.truth(179, "absent(\"beat\", \"3m\")"), "nodata");
    bench.until(200);
    assert_eq!(lines(&mut bench), ["180 Silent true/false"]);
    assert_eq!(bench.evidence, [at(180)], "the evidence is the silence, whole at that instant");
    bench.metric(300, "beat", 1.0);
    bench.until(600);
    assert_eq!(lines(&mut bench), ["300 Silent false/true", "480 Silent true/false"]);
    assert_eq!(bench.evidence[1..], [at(300), at(480)]);
}

#[test]
fn a_deployment_or_rule_that_is_new_is_watched_from_then_on() {
    let silent = || rule("Silent", SHOP, "absent(\"beat\", \"3m\")");
    let mut bench = Bench::of(vec![]);
    bench.replace(100, policy(vec![deployment("shop", &[])], vec![silent()]));
    bench.metric_of("newcomer", 200, "cpu", &[], 1.0);
    bench.until(400);
    assert_eq!(
        bench.heard(),
        ["280 Silent{deployment=\"shop\"} true/false", "380 Silent{deployment=\"newcomer\"} true/false"]
    );
}

#[test]
fn time_nobody_watched_is_no_silence() {
    let rules = vec![rule("Old", SHOP, "age(\"beat\") > 120"), rule("Silent", SHOP, "absent(\"beat\", \"3m\")")];
    let mut bench = Bench::of(rules);
    bench.metric(100, "beat", 1.0);
    bench.metric(200, "beat", 1.0);
    bench.gap(260, 1260);
    assert_eq!(lines(&mut bench), [""; 0], "not even timers of that span take it for news");
    bench.until(2000);
    assert_eq!(
        lines(&mut bench),
        ["1321 Old true/false", "1440 Silent true/false"],
        "an age stands still in the gap, an absence begins anew"
    );
}

#[test]
fn an_age_is_looked_at_as_it_grows_and_time_is_its_evidence() {
    let mut bench = Bench::of(vec![rule("Old", SHOP, "age(\"beat\") > 30")]);
    bench.metric(100, "beat", 1.0);
    bench.until(140);
    assert_eq!(lines(&mut bench), ["131 Old true/false"]);
    assert_eq!(bench.evidence, [at(131)]);
    bench.metric(150, "beat", 1.0);
    assert_eq!(lines(&mut bench), ["150 Old false/true"]);
}

#[test]
fn counts_of_nothing_are_known_after_watching_for_their_window() {
    let mut bench = Bench::of(vec![rule("Quiet", SHOP, "signal(\"beat\", \"1m\") == 0")]);
    assert_eq!(bench.truth(30, "count(\"cpu\", \"1m\") == 0"), "nodata");
    bench.until(100);
    assert_eq!(lines(&mut bench), ["60 Quiet true/false"]);
    bench.signal(100, "beat", Origin::External);
    bench.until(200);
    assert_eq!(lines(&mut bench), ["100 Quiet false/true", "160 Quiet true/false"]);
    assert_eq!(bench.truth(200, "count(\"cpu\", \"1m\") == 0"), "true");
}

#[test]
fn verdicts_go_stale_and_so_does_health() {
    let mut bench = Bench::of(vec![rule("Down", SHOP, "unhealthy(\"http\")")]);
    bench.verdict(10, None, false);
    bench.until(1000);
    assert_eq!(
        lines(&mut bench),
        ["10 shop is unhealthy", "10 Down true/false", "310 shop is unknown", "310 Down nodata/nodata"]
    );
}
