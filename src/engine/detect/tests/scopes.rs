use super::*;

#[test]
fn scopes_are_the_label_sets_seen_on_the_metrics_read() {
    let mut bench =
        Bench::of(vec![rule("Full", &["deployment", "mount"], "last(\"disk\") > 90 && last(\"cpu\") > 50")]);
    bench.metric(10, "cpu", 60.0);
    bench.metric_of("shop", 20, "disk", &[("mount", "/")], 95.0);
    bench.metric_of("shop", 20, "disk", &[("mount", "/data")], 10.0);
    bench.metric_of("shop", 30, "disk", &[("mount", "/data")], 99.0);
    assert_eq!(
        bench.heard()[0..],
        [
            "20 Full{deployment=\"shop\", mount=\"/\"} true/false",
            "30 Full{deployment=\"shop\", mount=\"/data\"} true/false"
        ],
        "each is narrowed to its own series, what has no mount counts for all"
    );
}

#[test]
fn a_fleet_rule_reads_over_all_it_selects() {
    let mut all = rule("Busy", &[], "avg(\"cpu\", \"5m\") > 50");
    all.select = Selector(vec!["tier=web".parse().unwrap_or_else(|error| panic!("{error}"))]);
    let mut bench = Bench::new(policy(
        vec![deployment("a", &[("tier", "web")]), deployment("b", &[("tier", "web")]), deployment("c", &[])],
        vec![all],
    ));
    bench.metric_of("c", 10, "cpu", &[], 100.0);
    bench.metric_of("a", 10, "cpu", &[], 90.0);
    bench.metric_of("b", 20, "cpu", &[], 0.0);
    assert_eq!(bench.heard(), ["10 Busy true/false", "20 Busy false/true"]);
}

#[test]
fn a_deployment_only_heard_of_is_forgotten_after_a_day() {
    let mut bench = Bench::of(vec![rule("HighCpu", &["deployment"], "max(\"cpu\", \"2d\") > 80")]);
    bench.metric_of("stranger", 10, "cpu", &[], 90.0);
    assert_eq!(bench.heard(), ["10 HighCpu{deployment=\"stranger\"} true/false"]);
    assert_eq!(bench.detect.deployment_views().iter().map(|view| view.listed).collect::<Vec<_>>(), [true, false]);
    let day = 24 * 3600;
    bench.until(day + 9);
    assert_eq!(bench.detect.deployment_views().len(), 2);
    bench.until(day + 10);
    assert_eq!(bench.heard(), [format!("{} gone HighCpu{{deployment=\"stranger\"}}", day + 10)]);
    assert_eq!(bench.detect.deployment_views().len(), 1);
    assert_eq!(bench.detect.figures(), Figures { deployments: 1, ..Figures::default() }, "its series went with it");
    assert!(matches!(bench.effects.last(), Some(Effect::Show(Change::DeploymentGone(_)))));
}

#[test]
fn strangers_are_rejected_and_counted_where_the_policy_says_so() {
    let strict = Policy { unknown_deployments: UnknownDeployments::Reject, ..policy(vec![], vec![]) };
    let mut bench = Bench::new(strict);
    bench.metric_of("stranger", 10, "cpu", &[], 90.0);
    assert!(bench.detect.deployment_views().is_empty());
    assert_eq!(bench.detect.refused(), Refused { deployments: 1, ..Refused::default() });
    let refused = Tally { unknown_deployments: 1, ..Tally::default() };
    assert_eq!(bench.detect.figures(), Figures { deployments: 0, series: 0, refused });
}

#[test]
fn an_idle_series_takes_its_scope_with_it() {
    let mut bench = Bench::of(vec![rule("Full", &["deployment", "mount"], "max(\"disk\", \"1h\") > 90")]);
    bench.metric_of("shop", 10, "disk", &[("mount", "/")], 95.0);
    bench.metric_of("shop", 3000, "disk", &[("mount", "/data")], 10.0);
    bench.until(6 * 3600 + 11);
    let heard = bench.heard();
    assert_eq!(
        heard.last().map(String::as_str),
        Some("21610 gone Full{deployment=\"shop\", mount=\"/\"}"),
        "{heard:?}"
    );
    assert_eq!(bench.detect.deployment_views()[0].metrics, [("disk{mount=\"/data\"}".to_owned(), 10.0)]);
    assert_eq!(bench.detect.figures().series, 1);
}
