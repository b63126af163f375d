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

#[test]
fn a_part_of_a_fleet_is_counted_anew_as_members_join_and_vanish() {
    let bad = || vec![rule("Bad", &["region"], "firing(\"Down\") / deployments() > 0.3")];
    let fleet = |ids: &[&str]| ids.iter().map(|id| deployment(id, &[("region", "eu")])).collect::<Vec<_>>();
    let mut bench = Bench::new(policy(fleet(&["a", "b"]), bad()));
    bench.firing(10, "Down", &[("deployment", "a")], true);
    assert_eq!(bench.heard(), ["10 Bad{region=\"eu\"} true/false"], "one of two");
    bench.replace(20, policy(fleet(&["a", "b", "c", "d"]), bad()));
    assert_eq!(bench.heard(), ["20 Bad{region=\"eu\"} false/true"], "one of four: those that joined are well");
    bench.replace(30, policy(fleet(&["a", "b", "c"]), bad()));
    assert_eq!(bench.heard(), ["30 Bad{region=\"eu\"} true/false"], "one of three");
    bench.restore();
    bench.replace(40, policy(fleet(&["b", "c"]), bad()));
    assert_eq!(
        bench.heard(),
        ["40 Bad{region=\"eu\"} false/true"],
        "the sick one vanished, whatever is said of it still"
    );
    bench.firing(41, "Down", &[("deployment", "b")], true);
    assert_eq!(bench.heard(), ["41 Bad{region=\"eu\"} true/false"]);
    let moved = vec![deployment("b", &[("region", "us")]), deployment("c", &[("region", "eu")])];
    bench.replace(50, policy(moved, bad()));
    assert_eq!(bench.heard(), ["50 Bad{region=\"eu\"} false/true", "50 Bad{region=\"us\"} true/false"]);
    bench.replace(60, policy(vec![], bad()));
    assert_eq!(
        bench.heard(),
        ["60 gone Bad{region=\"us\"}", "60 gone Bad{region=\"eu\"}"],
        "nobody is left: that is the end of the scope, no cure"
    );
}

#[test]
fn a_fleet_s_figures_are_those_of_the_members_there_are() {
    let busy = || vec![rule("Busy", &[], "avg(\"cpu\", \"5m\") > 50 && count(\"cpu\", \"5m\") >= 2")];
    let mut bench = Bench::new(policy(vec![deployment("a", &[]), deployment("b", &[])], busy()));
    bench.metric_of("a", 10, "cpu", &[], 90.0);
    bench.metric_of("b", 10, "cpu", &[], 80.0);
    assert_eq!(bench.heard(), ["10 Busy true/false"]);
    // one that nobody listed joins with its first word
    bench.metric_of("late", 20, "cpu", &[], 0.0);
    bench.metric_of("late", 21, "cpu", &[], 0.0);
    assert_eq!(bench.heard(), ["21 Busy false/true"]);
    bench.metric_of("a", 30, "cpu", &[], 95.0);
    assert_eq!(bench.heard(), ["30 Busy true/false"]);
    bench.replace(40, policy(vec![deployment("b", &[])], busy()));
    assert_eq!(bench.heard(), ["40 Busy false/true"], "80, 0 and 0 are left");
}

#[test]
fn whoever_comes_late_finds_no_room_and_ends_no_alert() {
    use crate::scopes::MAX_SCOPES;
    let full = |limit: u32| rule("Full", &["deployment", "mount"], &format!("last(\"disk\") > {limit}"));
    let mut bench = Bench::of(vec![full(90)]);
    let disk = |bench: &mut Bench, seconds, mount: &str, value| {
        bench.metric_of("shop", seconds, "disk", &[("mount", mount)], value);
    };
    for mount in 0..MAX_SCOPES - 1 {
        disk(&mut bench, 10, &format!("m{mount:03}"), 10.0);
    }
    disk(&mut bench, 10, "z", 95.0);
    assert_eq!(bench.heard(), ["10 Full{deployment=\"shop\", mount=\"z\"} true/false"]);
    disk(&mut bench, 20, "a", 95.0);
    disk(&mut bench, 21, "a", 96.0);
    assert_eq!(bench.heard(), [""; 0], "it stands before `z` and is none the less late");
    assert_eq!(bench.detect.figures().refused.too_many_scopes, 1);
    bench.replace(30, policy(vec![deployment("shop", &[("tier", "web")])], vec![full(80)]));
    assert_eq!(bench.heard(), ["30 Full{deployment=\"shop\", mount=\"z\"} true/false"], "nor under another policy");
    // with half of them gone there is room
    for seconds in (60..=25 * 3600).step_by(60) {
        disk(&mut bench, seconds, "a", 97.0);
        disk(&mut bench, seconds, "z", 95.0);
    }
    let said = bench.heard();
    assert!(said.iter().any(|line| line.ends_with("Full{deployment=\"shop\", mount=\"a\"} true/false")), "{said:?}");
}
