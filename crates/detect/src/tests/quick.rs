//! Rules that arithmetic can tell quiet say what the same rules say when their scripts are asked every time.

use super::*;
use selfheal_model::MetricName;

const CONDITIONS: [&str; 12] = [
    r#"avg("heat", "1m") > 60"#,
    r#"last("heat") > 80 && avg("heat", "30s") > 50"#,
    r#"sum("load", "1m") > 250"#,
    r#"count("heat", "1m") >= 5"#,
    r#"max("heat", "2m") - min("heat", "2m") > 70"#,
    r#"rate("load", "1m") > 3"#,
    r#"delta("heat", "1m") < -40 || last("load", "max") > 95"#,
    r#"!(last("load") < 90)"#,
    r#"zscore("heat", "2m") > 1.2 || changes("load", "1m") > 4"#,
    r#"p90("heat", "2m") > 80 && stddev("heat", "2m") > 20"#,
    r#"slope("heat", "2m") > 0.2 && first("heat", "2m") < 50 && increase("load", "1m") > 90"#,
    r#"has(last("load")) && (avg("nobody", "1m") ?? 0.5) > 0.2 && last("heat") > settings.limit"#,
];

/// The rules of the story; `slow` ones are written so that only their scripts can tell.
fn rules(slow: bool, limit: u32) -> Vec<Rule> {
    let own = |(n, when): (usize, &&str)| {
        let when = when.replace("> 60", &format!("> {limit}"));
        let when = if slow { format!("let own = 0; {when}") } else { when };
        let mut rule = rule(&format!("R{n}"), &["deployment"], &when);
        if n == 0 {
            let clear = r#"avg("heat", "1m") < 40"#;
            let clear = if slow { format!("let own = 0; {clear}") } else { clear.to_owned() };
            rule.levels = vec![level(Severity::Warning, &when, Some(&clear)), level(Severity::Critical, &when, None)];
        }
        if n == 1 {
            rule.select = Selector(vec![selfheal_model::Matcher::equal("tier", "web")]);
        }
        // both ways of writing a rule are one rule here
        rule.hash = selfheal_model::fingerprint([format!("{n} {limit}").as_str()]);
        rule
    };
    CONDITIONS.iter().enumerate().map(own).collect()
}

fn deployments(web: bool) -> Vec<Deployment> {
    let mut own = deployment("c", &[]);
    own.settings = Map::from_iter([("limit".to_owned(), Value::from(20))]);
    vec![deployment("a", &[("tier", if web { "web" } else { "db" })]), deployment("b", &[("tier", "web")]), own]
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// What was said, and the instants that the answers rest on.
fn lived(seed: u64, slow: bool) -> (Vec<String>, Vec<Timestamp>) {
    let mut dice = Dice(seed);
    let mut bench = Bench::new(policy(deployments(true), rules(slow, 60)));
    let mut now = 0_i64;
    for _ in 0..400 {
        now += i64::try_from(dice.below(12)).expect("small");
        match dice.below(60) {
            0 => now += 200,
            1 => {
                let gap = now + 90;
                bench.gap(now, gap);
                now = gap;
            }
            2 => {
                let limit = u32::try_from(50 + dice.below(20)).expect("small");
                let web = dice.below(2) == 0;
                let replaced = Arc::new(policy(deployments(web), rules(slow, limit)));
                bench.turn(now, |detect, now, out, effects| detect.replace_policy(now, replaced, out, effects));
            }
            3 => bench.restore(),
            _ => {}
        }
        let events: Vec<Event> = (0..1 + dice.below(3))
            .map(|_| {
                let late = if dice.below(6) == 0 { dice.below(80) } else { 0 };
                let labels = if dice.below(40) == 0 { labels(&[("disk", "1")]) } else { Labels::default() };
                let name = MetricName::new(if dice.below(3) == 0 { "load" } else { "heat" });
                Event {
                    deployment: ["a", "b", "c", "new"][usize::try_from(dice.below(4)).expect("small")].into(),
                    time: at(now - i64::try_from(late).expect("small")),
                    kind: EventKind::Metric { name, value: dice.below(100) as f64, labels },
                    origin: Origin::External,
                }
            })
            .collect();
        bench.turn(now, |detect, now, out, effects| detect.events(now, events, out, effects));
    }
    bench.until(now + 2_000);
    (bench.said, bench.evidence)
}

#[test]
fn quick_rules_say_what_their_scripts_would_say() {
    let mut lines = 0;
    for seed in 0..24 {
        let ((quick, quick_evidence), (slow, slow_evidence)) = (lived(seed, false), lived(seed, true));
        for (index, (quick, slow)) in quick.iter().zip(&slow).enumerate() {
            assert_eq!(quick, slow, "seed {seed}, line {index}");
        }
        assert_eq!(quick.len(), slow.len(), "seed {seed}");
        assert_eq!(quick_evidence, slow_evidence, "seed {seed}");
        lines += quick.len();
    }
    assert!(lines > 2_000, "{lines} lines prove little");
}

#[test]
fn the_rules_of_this_story_are_quick() {
    let plan = plan::Plan::of(&policy(deployments(true), rules(false, 60)));
    assert_eq!(plan.quick.len(), CONDITIONS.len());
    let plan = plan::Plan::of(&policy(deployments(true), rules(true, 60)));
    assert_eq!(plan.quick.len(), 0);
}

#[test]
fn a_quiet_rule_and_a_deployment_cost_no_memory_together() {
    let mut bench = Bench::new(policy(deployments(true), rules(false, 60)));
    let metric = |seconds| Event {
        deployment: "a".into(),
        time: at(seconds),
        kind: EventKind::Metric { name: "heat".into(), value: 10.0, labels: Labels::default() },
        origin: Origin::External,
    };
    for second in [1, 2, 3] {
        bench.turn(second, |detect, now, out, effects| detect.events(now, vec![metric(second)], out, effects));
    }
    let kept: usize = bench.detect.rules.values().map(|state| state.kept().len()).sum();
    assert_eq!(kept, 0);
}

#[test]
fn a_rule_that_speaks_of_what_is_missing_is_asked_where_nothing_ever_came() {
    let when = [
        r#"!has(last("heartbeat"))"#,
        r#"(last("ready") ?? 0.0) < 1"#,
        r#"(avg("ready", "1m") ?? settings.limit) > 50"#,
        r#"count("heartbeat", "5m") == 0"#,
        r#"count("heartbeat", "5m") == 0 && count("heartbeat", "1m") < 1"#,
        // and those that do not
        r#"last("heartbeat") < 1"#,
        r#"has(last("heartbeat"))"#,
        r#"(last("ready") ?? 0.0) > settings.limit"#,
    ];
    let rules = when.iter().enumerate().map(|(n, when)| rule(&format!("R{n}"), &["deployment"], when)).collect();
    let mut own = deployment("own", &[]);
    own.settings = Map::from_iter([("limit".to_owned(), Value::from(-1))]);
    let mut bench = Bench::new(policy(vec![deployment("shop", &[]), own], rules));
    bench.until(1_000);
    let mut firing: Vec<String> = bench.heard().into_iter().filter(|line| line.ends_with("true/false")).collect();
    firing.sort();
    let said = |rule: usize, of: &str, at: i64| format!("{at} R{rule}{{deployment=\"{of}\"}} true/false");
    let mut expected: Vec<String> = [(0, 0), (1, 0), (3, 300), (4, 300)]
        .into_iter()
        .flat_map(|(rule, at)| ["shop", "own"].map(|of| said(rule, of, at)))
        .collect();
    // by their own settings
    expected.extend([said(2, "shop", 0), said(7, "own", 0)]);
    expected.sort();
    assert_eq!(firing, expected);
}
