use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::*;
use crate::condition::{Condition, Expect};
use crate::fake_evidence::FakeEvidence;
use crate::host::ScriptHost;
use crate::names::Names;
use crate::truth::Truth;
use selfheal_model::Value as Json;

fn evidence() -> FakeEvidence {
    FakeEvidence::new()
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
    let Json::Object(settings) = json!({ "limit": 3, "names": ["x", "y"], "metric": "a" }) else { panic!("a map") };
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

const FUNCTIONS: &str = "fn id(x) { x } fn over(list, limit) { list.filter(|x| x > limit) }";

fn truth(source: &str) -> Truth {
    compile(&host(FUNCTIONS), source, Expect::Bool).truth(&vars(), &evidence())
}

/// What Rhai itself answers.
fn rhai(source: &str) -> Result<Value, String> {
    let oracle = Arc::new(Oracle::new([FUNCTIONS].into_iter()));
    let script = oracle.script(source).unwrap_or_else(|| panic!("Rhai cannot read {source}"));
    script.run(&[], &vars(), &evidence())
}

fn is_same(ours: &Truth, rhai: &Result<Value, String>) -> bool {
    match (ours, rhai) {
        (Truth::True, Ok(Value::Bool(true))) | (Truth::False, Ok(Value::Bool(false))) => true,
        (Truth::NoData, Ok(Value::Nothing)) | (Truth::Error(_), Err(_)) => true,
        (Truth::Error(_), Ok(other)) => !matches!(other, Value::Bool(_) | Value::Nothing),
        _ => false,
    }
}

#[test]
fn what_rhai_has_means_here_what_it_means_there() {
    for source in [
        r#"switch status("h") { "healthy" => true, "unhealthy" => false, _ => false }"#,
        "switch value { 1..=5 => false, 6..10 if value > 6.5 => true, _ => false }",
        r#"switch deployment { "db" | "web" => { let x = 1; x == 1 } _ => false }"#,
        r#"switch settings.limit { 2 => false, 3 if value > 9 => false, 1..=3 => true, _ => false }"#,
        r#"switch settings.limit { -3 => false, 3 => true, }"#,
        r#"switch true { false => false, true => true }"#,
        r#"let x = switch deployment { "we\x62" => 2, _ => 1 }; x == 2"#,
        r#"fact("list").filter(|x| x > 2).len() == 3"#,
        r#"filter(fact("list"), |x| x > 2).len() == 3"#,
        r#"let least = 4; fact("list").some(|x| x >= least)"#,
        r#"fact("list").all(|x| x < value + 2)"#,
        r#"fact("list").map(|x| x * 2).reduce(|sum, x| sum + x, 0) == 31"#,
        r#"fact("list").map(|x, i| x * i) == [0, 2.5, 8, 24]"#,
        r#"fact("list").index_of(|x| x > 2) == 1 && fact("list").index_of(|x| x > 90) == -1"#,
        r#"fact("list").find(|x| x > 2) == 2.5 && !has(fact("list").find(|x| x > 90))"#,
        r#"fact("replicas").find_map(|one| if one.up { one.name }) == "x""#,
        r#"fact("replicas").filter(|one| !one.up).map(|one| one.name) == ["y"]"#,
        r#"let n = 0; let l = [1, 2, 3].map(|x| { n += x; n }); n == 6 && l == [1, 3, 6]"#,
        r#"let is_high = |x| x > 2; let low = 0; fact("list").filter(is_high).len() == 3"#,
        r#"[1, 2].map(|x| [3, 4].map(|y| x * y)) == [[3, 4], [6, 8]]"#,
        r#"[1, 2].map(|x| { if x > 1 { return 5; } x }) == [1, 5]"#,
        r#"#{ a: 1, b: 2 }.filter(|name, n| n > 1) == #{ b: 2 }"#,
        r#"#{ a: 1, b: 2 }.map(|name| name + "!") == #{ a: "a!", b: "b!" }"#,
        r#"over(fact("list"), 2).len() == 3"#,
        "let list = [1, 2]; list[0] = 9; list.push(3); list[0] + list[2] == 12",
        "let list = [1, 2]; list[-1] += 5; list == [1, 7]",
        "let list = [[1], [2]]; list[0].push(3); list[1][0] = 4; list == [[1, 3], [4]]",
        "let a = [1]; let b = a; b.push(2); a.len() == 1 && b.len() == 2",
        "let list = [1, 2, 3]; list.pop() == 3 && list.shift() == 1 && list == [2]",
        "let list = [1, 2, 3]; list.remove(1) == 2 && list.remove(9) ?? 0 == 0 && list.len() == 2",
        "let list = [1]; list.insert(0, 5); list.insert(9, 6); list.insert(-1, 7); list == [5, 1, 7, 6]",
        "let list = [1, 2, 3, 4]; list.chop(3); list.truncate(2); list.append([9]); list == [2, 3, 9]",
        "let list = [1]; list.pad(3, 0); list.set(1, 5); list.set(9, 5); list == [1, 5, 0]",
        "let list = [1]; list.clear(); list.is_empty()",
        "[1, 2].pop() == 2",
        r#"let seen = #{}; seen["x"] = 1; seen.y = 2; seen.x + seen.y == 3"#,
        r#"let m = #{ a: #{ n: 1 } }; m.a.n += 2; m.a.list = [1]; m.a.list.push(2); m.a == #{ n: 3, list: [1, 2] }"#,
        r#"let m = #{ a: 1 }; m.mixin(#{ a: 2, b: 3 }); m.fill_with(#{ b: 9, c: 4 }); m == #{ a: 2, b: 3, c: 4 }"#,
        r#"let m = #{ a: 1 }; m.set("b", 2); m.remove("a") == 1 && m.get("b") == 2 && m.len() == 1"#,
        r#"let ok = false; try { throw "no"; } catch (why) { ok = why == "no"; } ok"#,
        r#"let ok = false; try { throw #{ code: 5 }; } catch (why) { ok = why.code == 5; } ok"#,
        r#"fn f() { throw "no" } let ok = false; try { f() } catch (why) { ok = why == "no"; } ok"#,
        r#"let ok = true; try { ok = last("many") > 1; } catch { } ok"#,
        r#"try { last("a") > 1 } catch { }"#,
        r#"let worst = 0; for x in fact("list") { worst = max(worst, x); } worst == 8"#,
        r#"let n = 0; for (x, i) in fact("list") { if i == 1 { continue; } n += x; } n == 13"#,
        r#"let n = 0; for i in 1..=3 { n += i; } let m = 0; while m < 5 { m += 1; } n == 6 && m == 5"#,
        r#"let n = loop { break 5; }; n == 5"#,
        r#"let text = ""; for name in settings.names { text += `${name}-${name.len()} `; } text == "x-1 y-1 ""#,
        r#"2 in [1, 2] && "b" in "abc" && "a" in #{ a: 1 } && 9 !in [1]"#,
        "let half = [1]; half[0] = 1 / 2; half[0] == 0.5",
        r#"let list = [0]; list[0] = 1; list.len() == 1 || last("nothing") > 3"#,
        r#"[last("nothing"), 3].some(|x| x > 2) && ![last("nothing"), 3].all(|x| x > 4)"#,
        r#"[last("nothing"), 3].filter(|x| x > 2) == [3]"#,
    ] {
        assert_eq!(truth(source), Truth::True, "{source}");
        assert_eq!(rhai(source), Ok(Value::Bool(true)), "{source}");
    }
}

/// A `switch` compares as `==` does, so that 3 is 3.0; Rhai compares hashes. The oracle reads `||` as an
/// operator, also before `this`.
#[test]
fn what_the_oracle_cannot_say() {
    for (source, answer) in [
        (r#"fact("list").filter(|| this > 2).len() == 3"#, Truth::True),
        (r##"#{ a: 1, b: 2 }.filter(|| this > 1) == #{ b: 2 }"##, Truth::True),
        (r#"switch last("a") { 3 => true, _ => false }"#, Truth::True),
        (r#"switch value { 7.0 => true, _ => false }"#, Truth::True),
        (r#"switch deployment { 'w' => false, _ => true }"#, Truth::True),
        (r#"switch fact("list") { "x" => true, _ => false }"#, Truth::False),
        (r#"switch last("nothing") { 3 => true, _ => false }"#, Truth::False),
        (r#"switch status("nothing") { () => false, "healthy" => false, _ => true }"#, Truth::False),
        (r#"switch deployment { "db" => true }"#, Truth::NoData),
        (r#"switch deployment { "web" if last("nothing") > 3 => true, _ => false }"#, Truth::NoData),
    ] {
        assert_eq!(truth(source), answer, "{source}");
    }
}

#[test]
fn unknown_stays_unknown_and_errors_are_told() {
    for source in [
        r#"let list = [1]; list[0] = last("nothing"); list[0] > 3"#,
        r#"let list = [1]; list.push(2); if last("nothing") > 3 { true } else { false }"#,
        r#"let list = [1]; list.push(2); last("nothing") > 3 && list.len() == 2"#,
        r#"let list = [1]; list.push(2); !(last("nothing") > 3)"#,
        r#"[1].some(|x| x > last("nothing"))"#,
        r#"try { last("many") > 1 } catch { true }"#,
        r#"[1, 5].all(|x| x > last("nothing"))"#,
        r#"fact("nothing").some(|x| x > 1)"#,
        r#"fact("nothing").filter(|x| x > 1).len() == 0"#,
        r#"[1].map(|x| x + last("nothing"))[0] > 1"#,
        r#"[1].map(|x| if last("nothing") > x { true })[0]"#,
        r#"try { if last("nothing") > 1 { true } else { false } } catch { true }"#,
    ] {
        assert_eq!(truth(source), Truth::NoData, "{source}");
    }
    for (source, said) in [
        (r#"let list = ["x"]; list.push(2); value > list[0]"#, "compare"),
        (r#"let list = [1]; list.push(2); last("many") > 1"#, "ambiguous"),
        (r#"let list = [1]; list.push(2); throw "on purpose""#, "on purpose"),
        ("let list = [1]; list.push(2); list", "a list"),
        ("let list = [1]; list[3] = 1; true", "no element 3 in a list of 1"),
        ("let list = [1]; list.x = 1; true", "no element x in a list"),
        ("let n = 1; n.push(1); true", "`push` needs a list, not a number"),
        (r#"let list = [1]; list[last("nothing")] = 1; true"#, "is missing"),
        ("value.some(|x| x > 1)", "`some` needs a list"),
        ("fact(\"list\").filter(|x| x).len() > 0", "the closure of `filter` needs true or false, not a number"),
        ("let m = #{}; m.append([1]); true", "`append` cannot change a map"),
        ("let l = []; l.append(1); true", "`append` needs a list"),
    ] {
        let host = host(FUNCTIONS);
        let settings = vars().settings;
        let names = Names { has_value: true, settings: Some(&settings), ..Names::default() };
        let why = match Condition::compile(&host, source, Expect::Bool, &names) {
            Ok((condition, _)) => match condition.truth(&vars(), &evidence()) {
                Truth::Error(why) => why.to_string(),
                other => panic!("{source} is no error: {other:?}"),
            },
            Err(problems) => problems.into_iter().map(|problem| problem.message).collect(),
        };
        assert!(why.contains(said), "{source}: {why}");
    }
}

#[test]
fn what_exceeds_a_limit_ends_and_cannot_be_caught() {
    for (source, said) in [
        ("let list = [1]; loop { list[0] += 1; }", "cut off"),
        ("let text = \"x\"; let m = #{}; loop { text += text; m.x = text; }", "a text of bytes"),
        ("fn deep(x) { [1].push(2); deep(x + 1) } deep(1)", "deeper"),
        ("let list = []; loop { list.push(list.len()); }", "a list of items: 1001"),
        ("let list = []; loop { list.push(list); }", "a value of items"),
        ("let list = []; loop { try { list.push(list); } catch { } }", "a value of items"),
        ("let list = [1]; loop { list.append(list); }", "a list of items"),
        ("let list = [1]; list.pad(100000, 1); true", "at most 1000"),
        ("let m = #{}; let n = 0; loop { n += 1; m[`k${n}`] = n; }", "a map of entries: 501"),
        ("let m = #{}; loop { m.x = m; }", "a value of levels"),
        ("let l = range(0, 1000); let m = []; loop { m.push(l); }", "a value of items"),
        ("let l = range(0, 1000); loop { let m = l; m[0] = 1; }", "cut off"),
        ("range(0, 1000).map(|x| range(0, 1000).map(|y| x * y)).len() > 0", "cut off"),
        ("let l = range(0, 1000); l.map(|x| l).len() > 0", "cut off"),
        ("try { loop { } } catch { } true", "cut off"),
        ("try { throw 1 } catch { loop { try { throw 1 } catch { } } } true", "cut off"),
    ] {
        let Truth::Error(why) = truth(source) else { panic!("{source} is no error: {:?}", truth(source)) };
        assert!(why.contains(said), "{source}: {why}");
    }
}

#[test]
fn closures_that_use_closures_do_not_multiply() {
    let mut source = "let l = [1]; let c0 = |x| x > 0;".to_owned();
    for n in 1..40 {
        source += &format!(" let c{n} = |x| l.some(c{0}) && l.some(c{0});", n - 1);
    }
    let told = truth(&(source + " l.some(c39)"));
    assert!(matches!(&told, Truth::Error(why) if why.contains("deeper") || why.contains("cut off")), "{told:?}");
    let nested = (0..6).fold("0".to_owned(), |inner, _| format!("get(l[{inner}], 0)"));
    assert_eq!(truth(&format!("let l = [[0]]; {nested} == 0")), Truth::True);
}

#[test]
fn what_conditions_do_without_is_told_with_what_to_write() {
    let told = |source: &str| {
        let host = host(FUNCTIONS);
        let settings = vars().settings;
        let names = Names { has_value: true, settings: Some(&settings), ..Names::default() };
        let problems = Condition::compile(&host, source, Expect::Bool, &names).err().unwrap_or_default();
        let [problem] = problems.as_slice() else { panic!("{source}: {problems:?}") };
        let help = problem.help.clone().unwrap_or_default();
        format!("{} {} | {} | {help}", &source[problem.span.clone()], problem.code, problem.message)
    };
    for (source, parts) in [
        ("let l = [1]; l.for_each(|x| x + 1); true", ["for_each not-available", "write for x in list"]),
        ("let l = [1]; l.retain(|x| x > 1); true", ["retain not-available", "list.filter"]),
        ("[1].reduce_rev(|a, b| a + b, 0) > 1", ["reduce_rev not-available", "list.reverse().reduce"]),
        ("[1].zip([2], |a, b| a + b).len() > 1", ["zip not-available", "for (x, i) in list"]),
        ("let f = |x| x > 1; f == 1", ["f not-available", "a closure is the argument of map, filter"]),
        ("[1, |x| x].len() == 2", ["| not-available", "a closure is the argument of map, filter"]),
        ("[1].filter(1).len() == 2", ["filter wrong-arguments", "list.filter(|x| x > 80)"]),
        ("[1].filter(|a, b, c| a).len() == 2", ["filter wrong-arguments", "list.filter(|x| x > 80)"]),
        ("[1].reduce(|a| a) == 2", ["reduce wrong-arguments", "|sum, x| sum + x, 0"]),
        ("let l = [1]; l.push(); true", ["push wrong-arguments", "list.push(x)"]),
        ("settings.names.push(\"x\"); true", ["push assignment", "copy it first"]),
        ("switch value { [1] => true, _ => false }", ["true not-available", "a case is a text, a number"]),
        ("switch deployment { 1 => true, _ => false }", ["true type-mismatch", "a text with a number"]),
        ("switch value { 1 => 5, _ => 6 }", ["not-a-bool", "the answer is a number"]),
        ("[1].filter(|x| x > y).len() > 0", ["y unknown-variable", "there is no `y` here"]),
        ("[1].filter(|x| lst(\"a\") > x).len() > 0", ["lst unknown-function", "last"]),
    ] {
        let told = told(source);
        assert!(parts.iter().all(|part| told.contains(part)), "{source}: {told}");
    }
}

#[test]
fn what_it_reads_is_found_also_inside_closures_and_arms() {
    let host = host("fn over(list) { let high = list.filter(|x| x > last(\"b\")); let low = last(\"c\"); high }");
    let of = |source: &str| {
        let condition = compile(&host, source, Expect::Bool);
        let reads: BTreeSet<String> = condition.reads().iter().map(|read| read.subject.to_string()).collect();
        (reads, condition.reads_are_static())
    };
    let (reads, fixed) = of(r#"[1].some(|x| x < last("a")) || switch value { 1 => healthy("h"), _ => false }"#);
    assert!(fixed);
    assert_eq!(reads, ["a".to_owned(), "h".to_owned()].into());
    let (reads, _) = of(r#"over(fact("list")).len() > 0"#);
    assert_eq!(reads, ["b", "c", "list"].map(str::to_owned).into());
    let (_, fixed) = of(r#"settings.names.some(|name| last(name) > 1)"#);
    assert!(!fixed, "what is computed is only known when it runs");
}

#[test]
fn reads_that_are_computed_are_answered_as_they_are_asked_for() {
    let evidence = evidence();
    let condition = compile(
        &host("fn id(x) { x }"),
        r#"["a", "b"].map(|name| last(name)).reduce(|sum, x| sum + x, 0)"#,
        Expect::Number,
    );
    assert_eq!(condition.number(&vars(), &evidence), Ok(Some(3.0)));
    assert_eq!(truth(r#"range(0, 90).map(|n| last("m" + n)).len() == 90"#), Truth::True);
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

/// A script with what an expression cannot have: variables, loops, closures, `switch`, functions.
fn program() -> impl Strategy<Value = String> {
    let list = prop::sample::select(vec![
        r#"fact("list")"#,
        r#"fact("nothing")"#,
        "[1, 5]",
        "[]",
        r#"[value, last("nothing"), 2]"#,
        "range(0, 4)",
        r#"fact("list").map(|x| x - 3)"#,
        r#"over(fact("list"), 2)"#,
    ]);
    let bound =
        prop::sample::select(vec!["2", "limit", r#"last("a")"#, r#"last("nothing")"#, "value", r#"last("many")"#]);
    let operator = prop::sample::select(vec!["<", ">", "==", "!="]);
    let with_closure = (list.clone(), prop::sample::select(vec!["some", "all"]), operator.clone(), bound.clone())
        .prop_map(|(list, function, operator, bound)| format!("{list}.{function}(|x| x {operator} {bound})"));
    let counted = (list.clone(), prop::sample::select(vec!["filter", "map"]), operator.clone(), bound.clone())
        .prop_map(|(list, function, operator, bound)| format!("{list}.{function}(|x| x {operator} {bound}).len() > 1"));
    let found = (list.clone(), operator.clone(), bound.clone())
        .prop_map(|(list, operator, bound)| format!("({list}.find(|x| x {operator} {bound}) ?? 7) > 3"));
    let reduced = (list.clone(), operator.clone(), bound.clone())
        .prop_map(|(list, operator, bound)| format!("{list}.reduce(|sum, x| sum + x, 0) {operator} {bound}"));
    let looped = (list.clone(), operator.clone(), bound.clone()).prop_map(|(list, operator, bound)| {
        format!(
            "{{ let n = 0; for (x, i) in {list} ?? [] {{ if x {operator} {bound} {{ n += i; }} else {{ n -= 1; }} }} n > 0 }}"
        )
    });
    let changed = (list, operator, bound.clone()).prop_map(|(list, operator, bound)| {
        format!(
            "{{ let l = {list} ?? [1, 2]; let m = #{{ n: [0] }}; l.push({bound}); l.insert(0, 4); l[0] += 1; m.n[0] = l.pop(); \
             m.seen = l.len(); m.n[0] {operator} m.seen }}"
        )
    });
    let switched = (
        prop::sample::select(vec!["deployment", r#"status("h")"#, r#"status("nothing")"#, "settings.limit", "value"]),
        bound,
    )
        .prop_map(|(subject, bound)| {
            format!(
                "(switch {subject} {{ \"web\" | \"db\" if {bound} > 2 => true, \"healthy\" => {bound} == 3, 3 => false, \
                 5..8 => {bound} < 9, _ => false }})"
            )
        });
    let part = prop_oneof![with_closure, counted, found, reduced, looped, changed, switched];
    (part.clone(), part, prop::sample::select(vec!["&&", "||", "=="]))
        .prop_map(|(left, right, operator)| format!("let limit = 3; let a = {left}; let b = {right}; a {operator} b"))
}

fn runner() -> TestRunner {
    TestRunner::new_with_rng(
        Config::with_cases(1_500),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
}

/// Runs both and fails where they differ. Returns whether the script could be compiled: what is certainly wrong is
/// refused before it runs.
fn compared(host: &ScriptHost, oracle: &Arc<Oracle>, source: &str) -> Result<bool, TestCaseError> {
    let (vars, evidence) = (vars(), evidence());
    let names = Names { has_value: true, settings: Some(&vars.settings), ..Names::default() };
    let Ok((condition, _)) = Condition::compile(host, source, Expect::Bool, &names) else { return Ok(false) };
    let script = oracle.script(source).expect("Rhai reads what was compiled");
    let ours = condition.truth(&vars, &evidence);
    let whole = script.run(&[], &vars, &evidence);
    // Rhai looks at both sides of && and ||, of which one may fail.
    let other_side_fails = whole.is_err() && (source.contains("&&") || source.contains("||"));
    if is_same(&ours, &whole) || (other_side_fails && !matches!(ours, Truth::Error(_))) {
        return Ok(true);
    }
    Err(TestCaseError::fail(format!("{source}: {ours:?} but {whole:?}")))
}

#[test]
fn expressions_have_the_answer_that_rhai_gives() {
    let (host, oracle) = (host(FUNCTIONS), Arc::new(Oracle::new([FUNCTIONS].into_iter())));
    let count = std::cell::Cell::new(0);
    let outcome = runner().run(&expression(), |source| {
        count.set(count.get() + u32::from(compared(&host, &oracle, &source)?));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(count.get() > 200, "only {} conditions were compared", count.get());
}

#[test]
fn programs_have_the_answer_that_rhai_gives() {
    let (host, oracle) = (host(FUNCTIONS), Arc::new(Oracle::new([FUNCTIONS].into_iter())));
    let count = std::cell::Cell::new(0);
    let outcome = runner().run(&program(), |source| {
        count.set(count.get() + u32::from(compared(&host, &oracle, &source)?));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(count.get() > 1_000, "only {} scripts were compared", count.get());
}
