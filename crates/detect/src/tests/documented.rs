//! The table of functions in `docs/rules.md`: every example is asked, with its data and without.

use super::*;
use selfheal_model::{FailureReason, TimeInterval, Zone};

const DOCUMENT: &str = include_str!("../../../../docs/rules.md");
/// 2026-11-25T12:00:30Z, in seconds.
const NOON: i64 = 1_795_608_030;

fn documented_policy() -> Policy {
    // as long as rules read them, samples are kept for their windows
    let rule_of = |(number, row): (usize, &Vec<String>)| {
        rule(&format!("R{number}"), &["deployment"], &format!("has({})", row[0]))
    };
    let rules = rows().iter().enumerate().map(rule_of).collect();
    let mut policy = policy(vec![deployment("shop", &[("tier", "web")])], rules);
    let office = TimeInterval {
        times: vec![(9 * 60, 17 * 60)],
        weekdays: vec![1..=5],
        days_of_month: vec![],
        months: vec![],
        years: vec![],
        location: Zone::utc(),
    };
    policy.time_intervals = Arc::new([("office-hours".into(), vec![office])].into());
    policy
}

/// The minute that ended so many samples before the last.
fn minute(before: usize) -> i64 {
    NOON - 30 - 60 * before as i64
}

/// What the document says came, in order of time.
fn fill(bench: &mut Bench) {
    let listed = DOCUMENT.split("```text\ncpu_percent").nth(1).and_then(|rest| rest.split("```").next());
    let listed = format!("cpu_percent{}", listed.expect("the data of the examples"));
    let series: Vec<(&str, Vec<f64>)> = listed
        .lines()
        .map(|line| {
            let (name, values) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            (name, values.split_whitespace().map(|value| value.parse().unwrap_or_else(|_| panic!("{line}"))).collect())
        })
        .collect();
    assert_eq!(series.len(), 5);
    for before in (0..10_usize).rev() {
        let seconds = minute(before);
        for (name, values) in &series {
            let Some(value) = values.len().checked_sub(before + 1).and_then(|place| values.get(place)) else {
                continue;
            };
            match name.split_once("{mount='") {
                None => bench.metric(seconds, name, *value),
                Some((name, mount)) => {
                    bench.metric_of("shop", seconds, name, &[("mount", mount.trim_end_matches("'}"))], *value);
                }
            }
        }
        let failed = before < 2;
        let kind = EventKind::Health {
            check: "http".into(),
            replica: None,
            status: if failed { CheckStatus::Unhealthy } else { CheckStatus::Healthy },
            latency_ms: Some(if failed { 5012.0 } else { 20.0 }),
            reason: failed.then_some(FailureReason::Timeout),
            message: String::new(),
            confidence: None,
        };
        bench.event(seconds, "shop", seconds, kind, Origin::External);
        for (name, version) in match before {
            5 => vec![("deployment_failed", "v42")],
            2 => vec![("deployment_failed", "v43")],
            1 => vec![("deploy_started", "v44")],
            _ => vec![],
        } {
            let fields = Map::from_iter([("version".to_owned(), Value::from(version))]);
            bench.event(seconds, "shop", seconds, EventKind::Signal { name: name.into(), fields }, Origin::External);
        }
    }
    bench.observed(NOON - 10, &[("replicas", Value::from(2))], &[]);
    bench.firing(NOON - 10, "HighCpu", &[("deployment", "shop")], true);
}

/// The cells of each row, in order.
fn rows() -> Vec<Vec<String>> {
    let table = DOCUMENT.split("| function | gives | unit | answer | without data |").nth(1).expect("the table");
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

/// Whether an example gives what stands beside it.
fn gives(bench: &mut Bench, seconds: i64, example: &str, answer: &str) -> String {
    let is_number = answer.starts_with(|first: char| first.is_ascii_digit());
    match is_number {
        true => bench.truth(seconds, &format!("abs({example} - {answer}) < 0.000001")),
        false => bench.truth(seconds, &format!("{example} == {answer}")),
    }
}

#[test]
fn every_example_of_the_table_gives_what_stands_beside_it() {
    let rows = rows();
    let mut bench = Bench::new(documented_policy());
    fill(&mut bench);
    for row in &rows {
        let [example, _, unit, answer, _] = row.as_slice() else { panic!("{row:?}") };
        assert!(!unit.is_empty(), "{example} has no unit");
        assert_eq!(gives(&mut bench, NOON, example, answer), "true", "{example} is {answer}");
    }
    let named = |row: &Vec<String>| row[0].split('(').next().unwrap_or_default().to_owned();
    let named: BTreeSet<String> = rows.iter().map(named).collect();
    let known: BTreeSet<String> = selfheal_script::function_names().map(str::to_owned).collect();
    assert_eq!(named, known, "every function stands in the table");
}

#[test]
fn every_example_of_the_table_gives_without_data_what_it_says() {
    let mut policy = documented_policy();
    policy.deployments = [("shop".into(), Arc::new(deployment("shop", &[])))].into();
    let policy = Arc::new(policy);
    // begun a minute ago, and long ago
    let bench = |since: i64| {
        let detect = Detect::new(at(since), policy.clone());
        let mut bench = Bench {
            detect,
            said: Vec::new(),
            evidence: Vec::new(),
            effects: Vec::new(),
            blind: BTreeMap::new(),
            now: at(since),
        };
        let policy = policy.clone();
        bench.turn(since, |detect, now, out, effects| detect.replace_policy(now, policy, out, effects));
        bench
    };
    let (mut new, mut old) = (bench(NOON - 60), bench(NOON - 24 * 3600));
    for row in rows() {
        let [example, _, _, _, without] = row.as_slice() else { panic!("{row:?}") };
        let answer = without.split([' ', ',']).next().unwrap_or_default();
        let has = format!("has({example})");
        if answer == "missing" {
            assert_eq!((new.truth(NOON, &has), old.truth(NOON, &has)), ("false".into(), "false".into()), "{example}");
            continue;
        }
        assert_eq!(gives(&mut old, NOON, example, answer), "true", "{example}");
        match without.contains("before that missing") {
            true => assert_eq!(new.truth(NOON, &has), "false", "{example}"),
            false => assert_eq!(gives(&mut new, NOON, example, answer), "true", "{example}"),
        }
    }
}
