use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::condition::{Condition, Expect};
use crate::evidence::Vars;
use crate::fake_evidence::FakeEvidence;
use crate::host::ScriptHost;
use crate::names::Names;
use crate::{Evidence, Reading, Truth};
use selfheal_model::Value as Json;

fn settings() -> Arc<Map> {
    let Json::Object(settings) = json!({ "limit": 3, "share": 0.5, "name": "x" }) else { panic!("a map") };
    Arc::new(settings)
}

fn compile(source: &str, expect: Expect) -> Option<Condition> {
    let host = ScriptHost::new(&[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let settings = settings();
    let names = Names { has_value: true, settings: Some(&settings), ..Names::default() };
    match Condition::compile(&host, source, expect, &names) {
        Ok((condition, _)) => Some(condition),
        // the generator does not count brackets
        Err(problems) if problems.iter().all(|problem| problem.code == "too-deep") => None,
        Err(problems) => panic!("{source}: {problems:?}"),
    }
}

/// What the program says of the evidence, as a truth value; `None` where it leaves that to the machine.
fn said(quick: &FastPath, vars: &Vars, evidence: &FakeEvidence) -> Option<f64> {
    quick.run(vars.value.unwrap_or(f64::NAN), |index| match evidence.read(&quick.reads()[index]) {
        Ok(Reading::Number(number)) => Some(number),
        Ok(Reading::Missing) => Some(f64::NAN),
        _ => None,
    })
}

fn number() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => prop::sample::select(vec![
            r#"last("a")"#, r#"last("b")"#, r#"avg("c", "5m")"#, r#"sum("nothing", "1m")"#, "value", "settings.share",
        ]).prop_map(str::to_owned),
        1 => (-3..4_i32).prop_map(|whole| format!("({whole}.5)")),
        1 => (0..4_i32).prop_map(|whole| whole.to_string()),
        1 => Just("settings.limit".to_owned()),
        1 => Just(r#"duration("2s")"#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["+", "-", "*", "/", "%", "**"]), inner.clone())
                .prop_map(|(left, op, right)| format!("({left} {op} {right})")),
            inner.clone().prop_map(|inner| format!("(-{inner})")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("({left} ?? {right})")),
        ]
    })
}

fn truth() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        5 => (number(), prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]), number())
            .prop_map(|(left, op, right)| format!("({left} {op} {right})")),
        1 => number().prop_map(|number| format!("has({number})")),
        1 => Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" && "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" || "))),
            inner.clone().prop_map(|inner| format!("!{inner}")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("({left} ?? {right})")),
        ]
    })
}

fn reading() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        Just(None),
        Just(Some(0.0)),
        Just(Some(1e300)),
        (-4..5_i32).prop_map(|whole| Some(f64::from(whole))),
        (-4.0..4.0).prop_map(Some),
    ]
}

/// How many of the conditions were made a program of, of how many.
static MADE: std::sync::Mutex<(u32, u32)> = std::sync::Mutex::new((0, 0));

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_says_what_the_machine_says(
        source in truth(),
        readings in prop::collection::vec(reading(), 4),
    ) {
        let condition = compile(&source, Expect::Bool);
        prop_assume!(condition.is_some());
        let Some(condition) = condition else { return Ok(()) };
        let mut evidence = FakeEvidence::new();
        for (key, value) in ["last a", "last b", "avg c 5m"].iter().zip(&readings) {
            if let Some(value) = value {
                evidence = evidence.number(key, *value);
            }
        }
        let vars = Vars { value: readings[3], settings: settings(), ..Vars::default() };
        let quick = condition.fast_path(&vars.settings);
        let (made, of) = {
            let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            made.0 += u32::from(quick.is_some());
            made.1 += 1;
            *made
        };
        prop_assert!(of < 500 || made * 8 > of, "{made} of {of} conditions prove little");
        if let Some(quick) = quick {
            let expected = condition.truth(&vars, &evidence);
            let said = said(&quick, &vars, &evidence);
            let same = match said {
                None => true,
                Some(number) if number.is_nan() => expected == Truth::NoData,
                Some(number) => expected == if number == 1.0 { Truth::True } else { Truth::False },
            };
            prop_assert!(same, "{}: {:?} is not {:?}", source, said, expected);
        }
    }
}

fn quick(source: &str) -> Option<FastPath> {
    compile(source, Expect::Bool).expect("no deep script").fast_path(&settings())
}

#[test]
fn what_is_no_arithmetic_is_left_to_the_machine() {
    for source in [
        r#"unhealthy("h")"#,
        r#"status("h") == "healthy""#,
        r#"let x = last("a"); x > 3"#,
        r#"if last("a") > 3 { true } else { false }"#,
        r#"settings.name == "x""#,
        r#"absent("a", "5m")"#,
        r#"fact("replicas") > 3"#,
        "1 / 2 > 0",
    ] {
        assert!(quick(source).is_none(), "{source}");
    }
    let deep = (0..20).fold("last(\"a\")".to_owned(), |inner, n| format!("({n}.5 + {inner})"));
    assert!(quick(&format!("{deep} > 1")).is_none(), "deeper than its stack");
    let read_once = quick(r#"last("a") > 3 && last("a") < 9 && avg("c", "5m") > 1"#);
    assert_eq!(read_once.map(|quick| quick.reads().len()), Some(2));
}
