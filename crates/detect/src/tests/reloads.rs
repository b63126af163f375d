use super::*;

fn desired(bench: &mut Bench) -> Vec<Vec<u32>> {
    let effects = std::mem::take(&mut bench.effects);
    let replicas = |desired: &Desired| {
        desired.deployments.iter().flat_map(|own| &own.replicas).map(|replica| replica.index).collect()
    };
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Desired(desired) => Some(replicas(desired)),
            _ => None,
        })
        .collect()
}

fn shop() -> Vec<Deployment> {
    vec![deployment("shop", &[])]
}

#[test]
fn state_outlives_a_policy_and_only_what_changed_is_asked_again() {
    let cpu = |limit: u32| rule("HighCpu", &["deployment"], &format!("avg(\"cpu\", \"5m\") > {limit}"));
    let mut bench = Bench::new(policy(shop(), vec![cpu(80)]));
    bench.metric(10, "cpu", 70.0);
    bench.replace(20, policy(shop(), vec![cpu(80)]));
    assert_eq!(bench.heard(), [""; 0]);
    bench.replace(30, policy(shop(), vec![cpu(60)]));
    bench.replace(40, policy(shop(), vec![cpu(50)]));
    bench.replace(50, policy(shop(), vec![cpu(50)]));
    bench.replace(60, policy(shop(), vec![cpu(80)]));
    assert_eq!(
        bench.heard(),
        [
            "30 HighCpu{deployment=\"shop\"} true/false",
            "40 HighCpu{deployment=\"shop\"} true/false",
            "60 HighCpu{deployment=\"shop\"} false/true"
        ],
        "samples are still there; an edited rule is told anew"
    );
    bench.until(310);
    assert_eq!(bench.heard(), [""; 0]);
}

#[test]
fn a_rule_or_scope_that_is_gone_is_said_once_where_judge_knew_of_it() {
    let rules = || {
        vec![
            rule("HighCpu", &["deployment"], "last(\"cpu\") > 80"),
            rule("Quiet", &["deployment"], "last(\"cpu\") > 99"),
        ]
    };
    let mut bench = Bench::new(policy(shop(), rules()));
    bench.metric(10, "cpu", 90.0);
    bench.heard();
    bench.replace(20, policy(shop(), vec![]));
    assert_eq!(bench.heard(), ["20 gone HighCpu{deployment=\"shop\"}"]);
    bench.replace(30, policy(shop(), rules()));
    assert_eq!(bench.heard(), ["30 HighCpu{deployment=\"shop\"} true/false"], "taken up again");
    bench.replace(40, policy(vec![], rules()));
    assert_eq!(bench.heard(), ["40 gone HighCpu{deployment=\"shop\"}"]);
    assert!(bench.detect.deployment_views().is_empty());
    bench.until(1000);
    assert_eq!(bench.heard(), [""; 0], "its timers are gone too");
}

#[test]
fn a_label_that_changes_moves_a_deployment_to_another_scope() {
    let rules = || vec![rule("Busy", &["region"], "max(\"cpu\", \"5m\") > 80")];
    let mut bench = Bench::new(policy(vec![deployment("shop", &[("region", "eu")])], rules()));
    bench.metric(10, "cpu", 90.0);
    bench.replace(20, policy(vec![deployment("shop", &[("region", "us")])], rules()));
    assert_eq!(
        bench.heard(),
        ["10 Busy{region=\"eu\"} true/false", "20 gone Busy{region=\"eu\"}", "20 Busy{region=\"us\"} true/false"]
    );
}

#[test]
fn what_should_run_is_sent_at_first_and_when_it_changed() {
    let mut bench = Bench::new(policy(shop(), vec![]));
    assert_eq!(desired(&mut bench).len(), 1);
    bench.replace(10, policy(shop(), vec![rule("R", &["deployment"], "false")]));
    assert_eq!(desired(&mut bench).len(), 0, "rules are no business of the edges");
    bench.observed(20, &[], &[0, 1]);
    bench.observed(30, &[], &[0, 1]);
    assert_eq!(desired(&mut bench), [vec![0, 1]]);
    let adapter = AdapterDef {
        name: AdapterName::from("local"),
        kind: "process".to_owned(),
        options: Map::new(),
        verbs: Vec::new(),
        allow: Allow::default(),
    };
    let run = Deployment { adapter: Some("local".into()), ..deployment("shop", &[]) };
    let mut with_adapter = policy(vec![run], vec![]);
    with_adapter.adapters.insert(adapter.name.clone(), Arc::new(adapter));
    bench.replace(40, with_adapter);
    assert_eq!(desired(&mut bench), [vec![0, 1]], "replicas are still known");
}

#[test]
fn a_view_shows_everything_that_is_known() {
    let mut bench = Bench::new(policy(vec![checked("shop", 1, 1)], vec![]));
    bench.observed(5, &[("replicas", Value::from(1))], &[0]);
    bench.metric_of("shop", 10, "disk", &[("mount", "/")], 50.0);
    bench.verdict(20, Some(0), false);
    let views = bench.detect.deployment_views();
    let view = &views[0];
    assert_eq!((view.health.as_str(), view.listed, view.last_event_at), ("unhealthy", true, Some(at(20))));
    assert_eq!(view.labels, labels(&[("deployment", "shop")]));
    assert_eq!(view.facts, Facts([("replicas".into(), Value::from(1))].into_iter().collect()));
    assert_eq!(view.replicas, [replica(0)]);
    assert_eq!((view.checks[0].replica, view.checks[0].raw.as_str()), (Some(0), "unhealthy"));
    let metrics: Vec<_> = view.metrics.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        metrics,
        [
            "check_latency_ms{check=\"http\", replica=\"0\"}",
            "check_up{check=\"http\", replica=\"0\"}",
            "disk{mount=\"/\"}",
            "fact_replicas"
        ]
    );
}
