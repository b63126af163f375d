use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::super::Truth;
use super::super::condition::{Condition, Expect, Names, Way};
use super::super::fake::Fake;
use super::super::host::ScriptHost;
use super::*;
use selfheal_model::Value;

fn evidence() -> Fake {
    Fake::new()
        .number("last a", 3.0)
        .number("last b", 0.0)
        .number("avg a 5m", 2.5)
        .bool("healthy h", true)
        .bool("unhealthy g", true)
        .text("status h", "healthy")
        .with("fact list", Reading::Json(json!([1, 2.5, 4, 8])))
        .with("fact replicas", Reading::Json(json!([{ "name": "x", "up": true }, { "name": "y", "up": false }])))
        .error("last many", "`many` is ambiguous")
}

fn vars() -> Vars {
    let Value::Object(settings) = json!({ "limit": 3, "names": ["x", "y"], "metric": "a" }) else { panic!("a map") };
    Vars { value: Some(7.0), deployment: Some("web".into()), settings: Arc::new(settings), ..Vars::default() }
}

fn compile(host: &ScriptHost, source: &str, expect: Expect) -> Condition {
    let names = Names { has_value: true, ..Names::default() };
    let settings = vars().settings;
    let names = Names { settings: Some(&settings), ..names };
    match Condition::compile(host, source, expect, &names) {
        Ok((condition, _)) => condition,
        Err(problems) => panic!("{source}: {problems:?}"),
    }
}

fn host(functions: &str) -> ScriptHost {
    ScriptHost::new(&[("f.rhai".to_owned(), functions.to_owned())]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn truth(source: &str) -> Truth {
    let condition = compile(&host("fn id(x) { x }"), source, Expect::Bool);
    assert_eq!(condition.way(), Way::Rhai, "{source}");
    condition.truth(&vars(), &evidence())
}

#[test]
fn what_the_small_language_does_not_know_is_run_by_rhai() {
    for source in [
        r#"switch status("h") { "healthy" => true, "unhealthy" => false, _ => false }"#,
        "switch value { 1..=5 => false, 6..10 if value > 6.5 => true, _ => false }",
        r#"fact("list").filter(|x| x > 2).len() == 3"#,
        r#"let least = 4; fact("list").some(|x| x >= least)"#,
        r#"fact("list").all(|x| x < value + 2)"#,
        r#"fact("list").map(|x| x * 2).reduce(|sum, x| sum + x, 0) == 31"#,
        r#"fact("replicas").filter(|one| !one.up).map(|one| one.name) == ["y"]"#,
        "let list = [1, 2]; list[0] = 9; list.push(3); list[0] + list[2] == 12",
        r#"let seen = #{}; seen["x"] = 1; seen.y = 2; seen.x + seen.y == 3"#,
        r#"let ok = false; try { throw "no"; } catch (why) { ok = why == "no"; } ok"#,
        r#"let worst = 0; for x in fact("list") { worst = max(worst, x); } switch worst { 8 => true, _ => false }"#,
        // true division, SQL's unknown and the functions of the language are the same here
        "let half = [1]; half[0] = 1 / 2; half[0] == 0.5",
        r#"let list = [0]; list[0] = 1; list.len() == 1 || last("nothing") > 3"#,
    ] {
        assert_eq!(truth(source), Truth::True, "{source}");
    }
}

#[test]
fn unknown_stays_unknown_and_errors_are_told() {
    for source in [
        r#"let list = [1]; list[0] = last("nothing"); list[0] > 3"#,
        r#"let list = [1]; list.push(2); if last("nothing") > 3 { true } else { false }"#,
        r#"let list = [1]; list.push(2); last("nothing") > 3 && list.len() == 2"#,
        r#"let list = [1]; list.push(2); !(last("nothing") > 3)"#,
    ] {
        assert_eq!(truth(source), Truth::NoData, "{source}");
    }
    for (source, said) in [
        (r#"let list = ["x"]; list.push(2); value > list[0]"#, "compare"),
        (r#"let list = [1]; list.push(2); last("many") > 1"#, "ambiguous"),
        (r#"let list = [1]; list.push(2); throw "on purpose""#, "on purpose"),
        ("let list = [1]; loop { list[0] += 1; }", "cut off"),
        (r#"let text = "x"; loop { text += text; [1].push(2); }"#, ""),
        ("fn deep(x) { [1].push(2); deep(x + 1) } deep(1)", ""),
        ("let list = []; loop { list.push(list.len()); }", ""),
        ("let list = [1]; list.push(2); list", "a list"),
    ] {
        let Truth::Error(why) = truth(source) else { panic!("{source} is no error: {:?}", truth(source)) };
        assert!(why.contains(said), "{source}: {why}");
    }
    // a script cannot catch the end of a run that lacks an answer, nor being cut off
    assert_eq!(truth(r#"let x = 0; try { x = last("a"); } catch { x = 99; } x == 3"#), Truth::True);
    assert!(matches!(truth("try { loop { } } catch { } true"), Truth::Error(_)));
}

#[test]
fn what_it_reads_is_found_also_inside_closures_and_arms() {
    let host = host("fn over(list) { list.filter(|x| x > last(\"b\")) }");
    let of = |source: &str| {
        let condition = compile(&host, source, Expect::Bool);
        let reads: BTreeSet<String> = condition.reads().iter().map(|read| read.subject.to_string()).collect();
        (condition.way(), reads, condition.reads_are_static())
    };
    let (way, reads, fixed) = of(r#"[1].some(|x| x < last("a")) || switch value { 1 => healthy("h"), _ => false }"#);
    assert_eq!((way, fixed), (Way::Rhai, true));
    assert_eq!(reads, ["a".to_owned(), "h".to_owned()].into());
    let (way, reads, _) = of(r#"over(fact("list")).len() > 0"#);
    assert_eq!(way, Way::Rhai);
    assert!(reads.contains("b") && reads.contains("list"), "{reads:?}");
    let (_, _, fixed) = of(r#"settings.names.some(|name| last(name) > 1)"#);
    assert!(!fixed, "what is computed is only known when it runs");
    assert_eq!(of(r#"last("a") > 1"#).0, Way::Compiled);
}

#[test]
fn reads_that_are_computed_are_fetched_as_they_are_asked_for() {
    let evidence = evidence();
    let condition = compile(
        &host("fn id(x) { x }"),
        r#"["a", "b"].map(|name| last(name)).reduce(|sum, x| sum + x, 0)"#,
        Expect::Number,
    );
    assert_eq!(condition.number(&vars(), &evidence), Ok(Some(3.0)));
    let many = r#"range(0, 90).map(|n| last("m" + n)).len() > 0"#;
    let told = truth(many);
    assert!(matches!(&told, Truth::Error(why) if why.contains("more than")), "{told:?}");
}

const OPERATORS: [&str; 14] = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "??"];

/// An expression of the small language.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("value".to_owned()),
        Just("last(\"a\")".to_owned()),
        Just("last(\"b\")".to_owned()),
        Just("last(\"nothing\")".to_owned()),
        Just("last(\"many\")".to_owned()),
        Just("avg(\"a\", \"5m\")".to_owned()),
        Just("healthy(\"h\")".to_owned()),
        Just("unhealthy(\"g\")".to_owned()),
        Just("healthy(\"nothing\")".to_owned()),
        Just("status(\"h\")".to_owned()),
        Just("deployment".to_owned()),
        Just("settings.limit".to_owned()),
        Just("settings.nothing".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("\"healthy\"".to_owned()),
        (-3..9_i64).prop_map(|number| format!("({number})")),
        (0..40_u32).prop_map(|number| format!("{}.25", number)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            4 => (inner.clone(), prop::sample::select(&OPERATORS[..]), inner.clone())
                .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
            1 => inner.clone().prop_map(|one| format!("(!{one})")),
            1 => inner.clone().prop_map(|one| format!("has({one})")),
            1 => inner.clone().prop_map(|one| format!("abs({one})")),
            1 => (inner.clone(), inner.clone(), inner)
                .prop_map(|(guard, yes, no)| format!("(if {guard} {{ {yes} }} else {{ {no} }})")),
        ]
    })
}

#[test]
fn both_ways_give_the_same_answer_for_every_input() {
    let host = host("fn id(x) { x }");
    let compared = std::cell::Cell::new(0);
    let mut runner = TestRunner::new_with_rng(
        Config::with_cases(1_500),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let names_settings = vars().settings;
    let outcome = runner.run(&expression(), |source| {
        let names = Names { has_value: true, settings: Some(&names_settings), ..Names::default() };
        // what is certainly wrong is refused before it runs
        let Ok((condition, _)) = Condition::compile(&host, &source, Expect::Bool, &names) else { return Ok(()) };
        prop_assert_eq!(condition.way(), Way::Compiled);
        let script = host.reference.script(&source).expect("Rhai reads what was compiled");
        let (vars, evidence) = (vars(), evidence());
        let small = condition.truth(&vars, &evidence);
        let whole = script.run(&[], &vars, &evidence);
        compared.set(compared.get() + 1);
        match (&small, &whole) {
            (Truth::True, Ok(Data::Bool(true))) | (Truth::False, Ok(Data::Bool(false))) => {}
            (Truth::NoData, Ok(Data::Nothing)) | (Truth::Error(_), Err(_)) => {}
            (Truth::Error(_), Ok(other)) if !matches!(other, Data::Bool(_) | Data::Nothing) => {}
            // Rhai looks at both sides of && and ||, of which one may fail
            (Truth::True | Truth::False | Truth::NoData, Err(_)) if source.contains("&&") || source.contains("||") => {}
            _ => return Err(TestCaseError::fail(format!("{source}: {small:?} but {whole:?}"))),
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(compared.get() > 200, "only {} conditions were compared", compared.get());
}
