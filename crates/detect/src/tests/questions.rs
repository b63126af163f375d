use super::*;

fn watch(bench: &mut Bench, seconds: i64, subject: WatchSubject, context: Context) {
    let id = WatchId::Verify("shop-1".into());
    bench.message(seconds, ToDetect::Watch(Watch { id, generation: Generation(1), context, subject }));
}

#[test]
fn after_a_cut_only_what_came_since_is_seen() {
    let mut bench = Bench::new(policy(vec![checked("shop", 1, 2)], vec![]));
    bench.observed(5, &[("replicas", Value::from(1))], &[0]);
    for seconds in [10, 20] {
        bench.metric(seconds, "cpu", 90.0);
        bench.verdict(seconds, Some(0), true);
        bench.signal(seconds, "deployed", Origin::External);
    }
    for (text, before) in [
        ("last(\"cpu\") > 80", "true"),
        ("avg(\"cpu\", \"5m\") > 80", "true"),
        ("healthy(\"http\")", "true"),
        ("status(\"http\") == \"healthy\"", "true"),
        ("successes(\"http\") == 2", "true"),
        ("signal(\"deployed\", \"1m\") > 0", "true"),
        ("signal_age(\"deployed\") < 60", "true"),
        ("open(\"deployed\", \"undone\")", "true"),
        ("fact(\"replicas\") == 1", "true"),
        ("!absent(\"cpu\", \"1m\")", "true"),
    ] {
        assert_eq!(bench.truth(30, text), before, "{text}");
        assert_eq!(bench.truth_after(30, text, 20), "nodata", "{text}");
    }
    bench.metric(40, "cpu", 50.0);
    bench.verdict(40, Some(0), true);
    assert_eq!(bench.truth_after(40, "avg(\"cpu\", \"5m\") == 50", 20), "true");
    assert_eq!(bench.truth_after(40, "healthy(\"http\")", 20), "nodata", "one success of two");
    bench.verdict(50, Some(0), true);
    assert_eq!(bench.truth_after(50, "healthy(\"http\")", 20), "true");
    assert_eq!(bench.truth_after(79, "absent(\"beat\", \"1m\")", 20), "nodata");
    assert_eq!(bench.truth_after(80, "absent(\"beat\", \"1m\")", 20), "true");
}

#[test]
fn a_watch_speaks_at_once_and_when_its_truth_changes() {
    let mut bench = Bench::of(vec![]);
    bench.metric(10, "cpu", 90.0);
    let context = Context { cut: Some(at(20)), ..context("shop") };
    watch(&mut bench, 20, WatchSubject::Condition(condition("avg(\"cpu\", \"1m\") < 80")), context);
    bench.metric(30, "cpu", 95.0);
    bench.metric(40, "cpu", 90.0);
    bench.metric(50, "cpu", 10.0);
    bench.until(200);
    assert_eq!(
        bench.heard(),
        ["20 watched nodata", "30 watched false", "50 watched true", "110 watched nodata"],
        "also when passing time takes the last sample away"
    );
    let unwatch = |generation| ToDetect::Unwatch { id: WatchId::Verify("shop-1".into()), generation };
    bench.message(200, unwatch(Generation(0)));
    bench.metric(210, "cpu", 10.0);
    assert_eq!(bench.heard(), ["210 watched true"], "another watch was ended");
    bench.message(220, unwatch(Generation(1)));
    bench.metric(230, "cpu", 90.0);
    assert_eq!(bench.heard(), [""; 0]);
}

#[test]
fn clear_is_watched_by_the_rule_s_own_words_or_the_contrary_of_when() {
    let own_words = Rule {
        levels: vec![level(Severity::Warning, "last(\"cpu\") > 80", Some("last(\"cpu\") < 70"))],
        ..rule("Own", &["deployment"], "true")
    };
    for (own, at_75) in [(own_words, "false"), (rule("Contrary", &["deployment"], "last(\"cpu\") > 80"), "true")] {
        let key = AlertKey { rule: own.name.clone(), scope: labels(&[("deployment", "shop")]) };
        let what = WatchSubject::Clear(LevelRef { rule: own.name.clone(), severity: Severity::Warning });
        let mut bench = Bench::of(vec![own]);
        bench.metric(10, "cpu", 90.0);
        let context = Context { cut: Some(at(15)), alert: Some(key), ..context("shop") };
        watch(&mut bench, 20, what, context);
        bench.metric(30, "cpu", 75.0);
        bench.metric(40, "cpu", 60.0);
        let heard = bench.heard();
        let watched: Vec<_> = heard.iter().filter(|line| line.contains("watched")).map(String::as_str).collect();
        match at_75 {
            "true" => assert_eq!(watched, ["20 watched nodata", "30 watched true"]),
            _ => assert_eq!(watched, ["20 watched nodata", "30 watched false", "40 watched true"]),
        }
    }
}

#[test]
fn a_level_is_asked_with_its_newest_evidence() {
    let mut bench = Bench::of(vec![rule("HighCpu", &["deployment"], "last(\"cpu\") > 80")]);
    bench.metric(10, "cpu", 90.0);
    bench.metric(40, "cpu", 91.0);
    bench.heard();
    let query = |rule: &str, severity| Query {
        id: QueryId(1),
        context: Context {
            alert: Some(AlertKey { rule: "HighCpu".into(), scope: labels(&[("deployment", "shop")]) }),
            ..context("shop")
        },
        kind: QueryKind::RetryStep { symptom: LevelRef { rule: rule.into(), severity } },
    };
    bench.message(50, ToDetect::Query(query("HighCpu", Severity::Warning)));
    bench.message(50, ToDetect::Query(query("HighCpu", Severity::Critical)));
    bench.message(50, ToDetect::Query(query("Gone", Severity::Warning)));
    bench.message(50, ToDetect::Query(query("HighCpu", Severity::Info)));
    assert_eq!(
        bench.heard(),
        [
            "50 told true of 40",
            // a level that is no longer there is judged by the one below, else by the lowest
            "50 told true of 40",
            "50 told error(the rule Gone is gone) of 50",
            "50 told true of 40",
        ]
    );
}

#[test]
fn what_the_engine_says_of_itself_is_taken_in_like_any_event() {
    let mut bench = Bench::of(vec![rule("Failed", &["deployment"], "signal(\"run_not_cured\", \"5m\") > 0")]);
    let event = Event {
        deployment: "shop".into(),
        time: at(10),
        kind: EventKind::Signal { name: "run_not_cured".into(), fields: Map::new() },
        origin: Origin::Run { run: "shop-1".into(), rule: None, depth: 0 },
    };
    bench.message(10, ToDetect::Emit(event));
    assert_eq!(bench.heard(), ["10 Failed{deployment=\"shop\"} true/false"]);
}

#[test]
fn the_newest_raw_verdict_of_a_check_is_asked_for_without_its_thresholds() {
    let mut bench = Bench::new(policy(vec![checked("shop", 1, 3)], vec![]));
    bench.observed(5, &[], &[0]);
    assert_eq!(bench.check_healthy(10, "http", None), "10 told nodata");
    bench.verdict(20, Some(0), true);
    assert_eq!(bench.check_healthy(21, "http", None), "21 told true", "one success of three");
    assert_eq!(bench.check_healthy(22, "http", Some(20)), "22 told nodata", "from before the cut");
    bench.verdict(30, Some(0), false);
    assert_eq!(bench.check_healthy(31, "http", None), "31 told false");
    assert_eq!(bench.check_healthy(32, "other", None), "32 told nodata");
}
