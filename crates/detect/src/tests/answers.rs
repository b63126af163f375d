use super::*;

const SHOP: &[&str] = &["deployment"];

#[test]
fn a_quiet_rule_says_nothing_and_a_true_one_says_each_change_once() {
    let mut bench = Bench::of(vec![rule("HighCpu", SHOP, "last(\"cpu\") > 80")]);
    for (seconds, value) in [(10, 20.0), (20, 30.0), (30, 90.0), (40, 91.0), (50, 20.0), (60, 10.0)] {
        bench.metric(seconds, "cpu", value);
    }
    assert_eq!(
        bench.heard(),
        ["30 HighCpu{deployment=\"shop\"} true/false", "50 HighCpu{deployment=\"shop\"} false/true"]
    );
    assert_eq!(bench.evidence, [at(30), at(50)]);
}

#[test]
fn the_value_is_told_as_it_changes_while_there_is_an_alert() {
    let mut hot = rule("HighCpu", SHOP, "value > 80");
    hot.value = Some(script("avg(\"cpu\", \"5m\")", Expect::Number));
    hot.levels = vec![
        level(Severity::Warning, "value > settings.limit", Some("value < 70")),
        level(Severity::Critical, "value > 95", None),
    ];
    let mut bench = Bench::of(vec![hot]);
    for (seconds, value) in [(400, 100.0), (800, 90.0), (801, 90.0), (1200, 75.0), (1600, 60.0), (2000, 50.0)] {
        bench.metric(seconds, "cpu", value);
    }
    let lines: Vec<_> = bench.heard().iter().map(|line| line.replace("HighCpu{deployment=\"shop\"} ", "")).collect();
    assert_eq!(
        lines,
        [
            "400 true,true/false,false 100",
            "700 nodata,nodata/nodata,nodata",
            "800 true,false/false,true 90",
            "1101 nodata,nodata/nodata,nodata",
            "1200 false,false/false,true 75",
            "1500 nodata,nodata/nodata,nodata",
            "1600 false,false/true,true 60",
        ],
        "between the thresholds it is neither, and is told; once it is clear it is quiet"
    );
}

#[test]
fn metrics_of_one_instant_are_judged_together() {
    let mut bench = Bench::of(vec![rule("Errors", SHOP, "last(\"errors\") / last(\"requests\") > 0.5")]);
    let event = |name: &str, value: f64, time: i64| Event {
        deployment: "shop".into(),
        time: at(time),
        kind: EventKind::Metric { name: name.into(), value, labels: Labels::default() },
        origin: Origin::External,
    };
    let events = vec![
        event("errors", 1.0, 10),
        event("requests", 10.0, 10),
        event("errors", 100.0, 20),
        event("requests", 1000.0, 20),
    ];
    bench.turn(20, |detect, now, out, effects| detect.events(now, events, out, effects));
    assert_eq!(bench.heard(), [""; 0], "100 errors of 10 requests never were");
}

#[test]
fn several_series_without_a_fold_are_an_error_that_names_them() {
    let mut bench = Bench::of(vec![rule("Full", SHOP, "last(\"disk\") > 90")]);
    bench.metric_of("shop", 10, "disk", &[("mount", "/")], 50.0);
    bench.metric_of("shop", 10, "disk", &[("mount", "/data")], 95.0);
    let heard = bench.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    for part in ["error(", "ambiguous", "mount=\"/\"", "mount=\"/data\"", "\"max\""] {
        assert!(heard[0].contains(part), "{part} in {heard:?}");
    }
    assert_eq!(bench.truth(10, "last(\"disk\", \"max\") == 95"), "true");
    assert_eq!(bench.truth(10, "last(\"disk{mount='/'}\") == 50"), "true");
    assert_eq!(bench.truth(10, "avg(\"disk\", \"1m\") == 72.5"), "true", "windows run over all samples");
}

#[test]
fn windows_rates_and_gauges_are_taken_over_their_window() {
    let mut bench = Bench::of(vec![]);
    for (seconds, value) in [(10, 100.0), (20, 130.0), (30, 10.0), (40, 40.0)] {
        bench.metric_of("shop", seconds, "requests", &[("replica", "0")], value);
        bench.metric_of("shop", seconds, "requests", &[("replica", "1")], 2.0 * value);
    }
    // each series grew 30 + 10 (after its reset) + 30 in 30 s, the second twice that
    assert_eq!(bench.truth(40, "rate(\"requests\", \"1m\") == 7.0"), "true");
    assert_eq!(bench.truth(40, "rate(\"requests{replica='0'}\", \"25s\") == 2.0"), "true");
    assert_eq!(bench.truth(40, "delta(\"requests{replica='0'}\", \"1m\") == -60"), "true");
    assert_eq!(bench.truth(40, "count(\"requests\", \"30s\") == 6"), "true", "the one at its edge is out");
    assert_eq!(bench.truth(40, "sum(\"requests{replica='0'}\", \"25s\") == 180"), "true");
    assert_eq!(bench.truth(40, "min(\"requests\", \"15s\") == 10 && max(\"requests\", \"15s\") == 80"), "true");
    assert_eq!(bench.truth(40, "rate(\"requests{replica='0'}\", \"5s\") > 0"), "nodata", "one sample is no growth");
    assert_eq!(bench.truth(40, "avg(\"unheard_of\", \"5m\") > 0"), "nodata");
}

#[test]
fn a_rule_is_not_moved_by_what_its_own_run_made() {
    let rules = vec![
        rule("Own", SHOP, "signal(\"run_not_cured\", \"1m\") > 0"),
        rule("Other", SHOP, "signal(\"run_not_cured\", \"1m\") > 0"),
    ];
    let mut bench = Bench::of(rules);
    bench.signal(100, "run_not_cured", Origin::Run { run: "shop-1".into(), rule: Some("Own".into()), depth: 1 });
    assert_eq!(bench.heard(), ["100 Other{deployment=\"shop\"} true/false"]);
    bench.signal(110, "run_not_cured", Origin::External);
    assert_eq!(bench.heard(), ["110 Own{deployment=\"shop\"} true/false"]);
}

#[test]
fn signals_are_counted_open_and_read() {
    let mut bench = Bench::of(vec![]);
    assert_eq!(bench.truth(10, "open(\"deploy_started\", \"deploy_finished\")"), "false");
    assert_eq!(bench.truth(10, "signal_age(\"deploy_started\") > 5"), "nodata");
    bench.signal(20, "deploy_started", Origin::External);
    assert_eq!(bench.truth(30, "open(\"deploy_started\", \"deploy_finished\")"), "true");
    assert_eq!(bench.truth(30, "signal_age(\"deploy_started\") == 10"), "true");
    assert_eq!(bench.truth(30, "signal_field(\"deploy_started\", \"version\") == \"v2\""), "true");
    assert_eq!(bench.truth(30, "signal_field(\"deploy_started\", \"nothing\") == \"v2\""), "nodata");
    bench.signal(40, "deploy_finished", Origin::External);
    assert_eq!(bench.truth(40, "open(\"deploy_started\", \"deploy_finished\")"), "false");
    assert_eq!(bench.truth(330, "signal_field(\"deploy_started\", \"version\") == \"v2\""), "nodata", "stale");
}

#[test]
fn checks_are_smoothed_and_their_metrics_are_series() {
    let mut bench = Bench::new(policy(vec![checked("shop", 2, 1)], vec![rule("Down", SHOP, "unhealthy(\"http\")")]));
    bench.observed(5, &[], &[0, 1]);
    for (seconds, second_is_well) in [(10, true), (20, false), (30, false), (40, true)] {
        bench.verdict(seconds, Some(0), true);
        bench.verdict(seconds, Some(1), second_is_well);
    }
    assert_eq!(
        bench.heard(),
        [
            "10 shop is healthy",
            "30 shop is unhealthy",
            "30 Down{deployment=\"shop\"} true/false",
            "40 shop is healthy",
            "40 Down{deployment=\"shop\"} false/true",
        ]
    );
    assert_eq!(bench.truth(40, "status(\"http\") == \"healthy\" && healthy(\"http\")"), "true");
    assert_eq!(bench.truth(40, "successes(\"http\") == 1 && failures(\"http\") == 0"), "true");
    assert_eq!(bench.truth(40, "success_rate(\"http\", \"1m\") == 0.75"), "true");
    assert_eq!(bench.truth(40, "last(\"check_latency_ms{check='http'}\", \"max\") == 12"), "true");
}

#[test]
fn facts_are_read_and_numeric_ones_are_metrics() {
    let mut bench = Bench::of(vec![rule("Small", SHOP, "fact(\"replicas\") < 2")]);
    bench.observed(10, &[("replicas", Value::from(1)), ("version", Value::from("v1"))], &[0]);
    assert_eq!(bench.heard(), ["10 Small{deployment=\"shop\"} true/false"]);
    assert_eq!(bench.truth(10, "fact(\"version\") == \"v1\" && last(\"fact_replicas\") == 1"), "true");
    assert_eq!(bench.truth(10, "label(\"tier\") == \"web\""), "true");
    bench.observed(40, &[("version", Value::from("v1"))], &[0]);
    assert_eq!(bench.heard(), ["40 Small{deployment=\"shop\"} nodata/nodata"], "it is no longer among them");
    bench.turn(50, |detect, now, out, effects| {
        detect.observed(now, &"shop".into(), Err("refused".to_owned()), out, effects);
    });
    assert_eq!(bench.detect.deployment_views()[0].observe_error.as_deref(), Some("refused"));
    assert_eq!(bench.truth(339, "fact(\"version\") == \"v1\""), "true", "the last good one still stands");
    assert_eq!(bench.truth(340, "fact(\"version\") == \"v1\""), "nodata", "until it is stale");
}

#[test]
fn rules_that_count_alerts_are_asked_when_one_begins_or_ends() {
    let mut bench = Bench::new(policy(
        vec![deployment("a", &[("region", "eu")]), deployment("b", &[("region", "eu")]), deployment("c", &[])],
        vec![
            rule("Down", SHOP, "false"),
            rule("Many", &[], "firing(\"Down\") / deployments() > 0.5"),
            rule("Region", &["region"], "firing(\"Down\") == deployments()"),
        ],
    ));
    bench.firing(10, "Down", &[("deployment", "a")], true);
    assert_eq!(bench.heard(), [""; 0]);
    bench.firing(20, "Down", &[("deployment", "c")], true);
    assert_eq!(bench.heard(), ["20 Many true/false"]);
    bench.firing(30, "Down", &[("deployment", "b")], true);
    bench.firing(30, "Down", &[("deployment", "b")], true);
    bench.firing(40, "Down", &[("deployment", "a")], false);
    assert_eq!(bench.heard(), ["30 Region{region=\"eu\"} true/false", "40 Region{region=\"eu\"} false/true"]);
}

#[test]
fn several_series_are_added_thrown_together_or_named() {
    let mut bench = Bench::of(Vec::new());
    for (seconds, a, b) in [(10, 0.0, 100.0), (20, 10.0, 100.0), (30, 20.0, 105.0)] {
        bench.metric_of("shop", seconds, "jobs", &[("q", "a")], a);
        bench.metric_of("shop", seconds, "jobs", &[("q", "b")], b);
    }
    for (asked, expected) in [
        (r#"increase("jobs", "1m") == 25"#, "true"),
        (r#"rate("jobs", "1m") == 1.25"#, "true"),
        (r#"changes("jobs", "1m") == 3"#, "true"),
        (r#"p50("jobs", "1m") == 60"#, "true"),
        (r#"stddev("jobs", "1m") > 45 && stddev("jobs{q='a'}", "1m") < 9"#, "true"),
        (r#"slope("jobs{q='a'}", "1m") == 1"#, "true"),
        (r#"first("jobs{q='b'}", "15s") == 100"#, "true"),
        (r#"zscore("jobs{q='b'}", "1m") > 1.4"#, "true"),
        (r#"p99("nothing", "1m") > 0"#, "nodata"),
        (r#"stddev("jobs{q='c'}", "1m") > 0"#, "nodata"),
    ] {
        assert_eq!(bench.truth(31, asked), expected, "{asked}");
    }
    let told = bench.ask(31, r#"slope("jobs", "1m") > 0"#, None);
    assert!(told.contains("slope(\"jobs\") is ambiguous") && told.contains("q=\"b\""), "{told}");
}

#[test]
fn a_check_tells_its_latency_its_flaps_and_why_it_fails() {
    let mut bench = Bench::new(policy(vec![checked("shop", 1, 1)], Vec::new()));
    for (seconds, healthy) in [(10, true), (20, false), (30, true), (40, true), (50, false)] {
        bench.verdict(seconds, None, healthy);
    }
    assert_eq!(bench.truth(51, r#"flaps("http", "1m") == 3 && latency("http") == 12"#), "true");
    assert_eq!(bench.truth(51, r#"reason("http") == "timeout""#), "nodata", "nobody said why");
    let kind = EventKind::Health {
        check: "http".into(),
        replica: None,
        status: CheckStatus::Unhealthy,
        latency_ms: Some(5_000.0),
        reason: Some(selfheal_model::FailureReason::Timeout),
        message: String::new(),
        confidence: None,
    };
    bench.event(55, "shop", 55, kind, Origin::External);
    assert_eq!(bench.truth(56, r#"reason("http") == "timeout" && latency("http") > 4000"#), "true");
    assert_eq!(bench.truth(900, r#"latency("http") > 0"#), "nodata", "what is old says nothing of now");
}

#[test]
fn what_each_name_server_of_a_check_said_is_no_verdict_of_the_check() {
    let mut bench = Bench::new(policy(vec![checked("shop", 1, 1)], Vec::new()));
    for (seconds, healthy) in [(10, true), (20, false), (30, true), (40, true)] {
        bench.verdict(seconds, None, healthy);
        bench.metric_of("shop", seconds, "check_up", &[("check", "http"), ("server", "10.0.0.1:53")], 0.0);
    }
    assert_eq!(bench.truth(41, r#"success_rate("http", "1m") == 0.75 && flaps("http", "1m") == 2"#), "true");
    assert_eq!(bench.truth(41, "last(\"check_up{check='http', server=''}\") == 1"), "true");
    assert_eq!(bench.truth(41, "last(\"check_up{server='10.0.0.1:53'}\") == 0"), "true");
}
