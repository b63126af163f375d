use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::evidence::Reading;
use crate::fake_evidence::{FakeEvidence, key};
use selfheal_model::{Labels, Severity, Value as Json};

fn map(value: Json) -> Map {
    match value {
        Json::Object(map) => map,
        other => panic!("{other} is no map"),
    }
}

fn settings() -> Map {
    map(json!({ "cpu_percent": { "warning": 80, "critical": 95.5 }, "metric": "cpu", "window": 300, "fast": true }))
}

fn host() -> ScriptHost {
    ScriptHost::new(&[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn host_with(text: &str) -> ScriptHost {
    ScriptHost::new(&[("f.rhai".to_owned(), text.to_owned())]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn evidence() -> FakeEvidence {
    FakeEvidence::new()
        .number("last cpu", 90.0)
        .number("avg cpu 5m", 85.0)
        .number("last two", 2.0)
        .number("last zero", 0.0)
        .number("last cpu max", 99.0)
        .bool("healthy http", false)
        .bool("unhealthy http", true)
        .text("status http", "unhealthy")
        .number("firing Down", 3.0)
        .number("deployments", 10.0)
        .bool("open begun ended", true)
        .with("signal_field deploy tags", Reading::Json(json!(["a", "b"])))
        .number("fact replicas", 2.0)
        .error("last many", "`many` is ambiguous")
}

fn vars() -> Vars {
    Vars {
        deployment: Some("checkout".into()),
        labels: Labels::default().with_label("tier", "web"),
        value: Some(85.0),
        severity: Some(Severity::Warning),
        settings: Arc::new(settings()),
        inputs: map(json!({ "add": 1, "note": null })),
        steps: map(json!({ "logs": { "outcome": "done", "output": { "lines": 3 } } })),
        ..Vars::default()
    }
}

/// Compiles where everything exists.
fn compile(
    host: &ScriptHost,
    source: &str,
    expect: Expect,
) -> Result<(Condition, Vec<ScriptProblem>), Vec<ScriptProblem>> {
    let settings = settings();
    let inputs = ["add".to_owned(), "note".to_owned()];
    let steps = ["logs".to_owned()];
    let names = Names {
        settings: Some(&settings),
        inputs: Some(&inputs),
        secret_inputs: &[],
        steps: Some(&steps),
        has_value: true,
        in_rescue: false,
    };
    Condition::compile(host, source, expect, &names)
}

fn compiled(source: &str) -> Condition {
    match compile(&host(), source, Expect::Bool) {
        Ok((condition, _)) => condition,
        Err(problems) => panic!("{source}: {problems:#?}"),
    }
}

fn truth(source: &str) -> Truth {
    compiled(source).truth(&vars(), &evidence())
}

#[test]
fn conditions_come_to_what_they_say() {
    for source in [
        "true",
        "last(\"cpu\") > 80",
        "value > 80 && value < 90.5",
        "avg(\"cpu\", \"5m\") >= 85",
        "avg(settings.metric, settings.window) == 85",
        "last(\"cpu\", \"max\") == 99",
        "7 / 2 == 3.5",
        "1 / 3 * 3 > 0.99",
        "7 % 4 == 3 && 2 ** 3 == 8 && -2 + 3 == 1",
        "9223372036854775807 + 1 > 9000000000000000000",
        "firing(\"Down\") / deployments() > 0.2",
        "!healthy(\"http\") && unhealthy(\"http\")",
        "status(\"http\") == \"unhealthy\"",
        "'x' == \"x\"",
        "deployment == \"checkout\" && labels.tier == \"web\" && severity == \"warning\"",
        "labels[\"tier\"] == \"web\"",
        "settings.cpu_percent.critical > settings.cpu_percent.warning",
        "setting(\"cpu_percent.critical\") == 95.5",
        "setting(\"cpu_percent.\" + \"critical\") == 95.5",
        "steps.logs.outcome == \"done\" && steps.logs.output.lines == 3",
        "inputs.add + 1 == 2",
        "\"b\" in signal_field(\"deploy\", \"tags\")",
        "signal_field(\"deploy\", \"tags\")[0] == \"a\" && signal_field(\"deploy\", \"tags\")[-1] == \"b\"",
        "signal_field(\"deploy\", \"tags\").len() == 2 && signal_field(\"deploy\", \"tags\").len == 2",
        "last(\"none\") ?? 5 == 5",
        "(last(\"none\") ?? last(\"cpu\")) == 90",
        "has(last(\"cpu\")) && !has(last(\"none\"))",
        "max(last(\"cpu\"), 95) == 95 && min(last(\"cpu\"), value) == 85",
        "duration(\"6h\") == 21600 && size(\"2GiB\") == 2147483648",
        "open(\"begun\", \"ended\")",
        "abs(-3) == 3 && round(2.5) == 3 && sqrt(16) == 4",
        "`${deployment}-x` == \"checkout-x\"",
        "[1, 2] == [1, 2] && #{ a: 1 }.a == 1 && 2 in [1, 2]",
        "if value > 80 { true } else { false }",
        "let limit = settings.cpu_percent.warning; let x = value; x > limit",
        "let sum = 0; for i in 0..4 { sum += i; } sum == 6",
        "let n = 0; while n < 5 { n += 1; if n == 3 { break; } } n == 3",
        "let n = 0; loop { n += 1; if n < 4 { continue; } break; } n == 4",
        "let n = 0; do { n += 1; } until n >= 2; n == 2",
        "fn over(x, limit) { x > limit } over(value, 80)",
        "return value > 80;",
        "\"a,b\".split(\",\").len() == 2 && \"Ab\".to_lower() == \"ab\" && \"ab\".contains(\"b\")",
    ] {
        assert_eq!(truth(source), Truth::True, "{source}");
    }
    for source in ["false", "last(\"cpu\") < 80", "1 == 2", "\"a\" > \"b\"", "healthy(\"http\")", "3 in [1]"] {
        assert_eq!(truth(source), Truth::False, "{source}");
    }
}

#[test]
fn what_is_missing_is_unknown() {
    for source in [
        "last(\"none\") > 5",
        "last(\"none\") == last(\"none\")",
        "last(\"none\") != 5",
        "last(\"none\") + 1 > 0",
        "-last(\"none\") < 0",
        "!healthy(\"none\")",
        "healthy(\"none\")",
        "last(\"none\") > 5 && true",
        "true && last(\"none\") > 5",
        "last(\"none\") > 5 || false",
        "false || last(\"none\") > 5",
        "last(\"cpu\") / last(\"zero\") > 1",
        "last(\"cpu\") % 0 > 1",
        "1 / 0 == 1",
        "0 / 0 == 0",
        "10.0 ** 400 > 1",
        "labels.team == \"a\"",
        "inputs.note == \"a\"",
        "signal_field(\"deploy\", \"tags\")[7] == \"a\"",
        "\"x\" + last(\"none\") == \"x\"",
        "`${last(\"none\")}` == \"\"",
        "last(\"none\") in [1]",
        "abs(last(\"none\")) > 1",
        "max(last(\"none\"), 3) > 1",
        "if last(\"none\") > 5 { true } else { false }",
        "if last(\"none\") > 5 { return true; } true",
        "while last(\"none\") > 5 { } true",
        "for x in fact(\"none\") { } true",
        "fn f(x) { if x > 1 { true } else { false } } f(last(\"none\"))",
        "fact(\"none\").a.b == 1",
        "()",
    ] {
        let condition = match compile(&host(), source, Expect::Bool) {
            Ok((condition, _)) => condition,
            Err(problems) if source == "()" => {
                assert_eq!(problems[0].code, "no-answer");
                continue;
            }
            Err(problems) => panic!("{source}: {problems:#?}"),
        };
        assert_eq!(condition.truth(&vars(), &evidence()), Truth::NoData, "{source}");
    }
}

#[test]
fn and_and_or_follow_sql() {
    let (t, f, u) = ("value > 0", "value < 0", "last(\"none\") > 0");
    for (left, right, and, or) in [
        (t, t, Truth::True, Truth::True),
        (t, f, Truth::False, Truth::True),
        (t, u, Truth::NoData, Truth::True),
        (f, t, Truth::False, Truth::True),
        (f, f, Truth::False, Truth::False),
        (f, u, Truth::False, Truth::NoData),
        (u, t, Truth::NoData, Truth::True),
        (u, f, Truth::False, Truth::NoData),
        (u, u, Truth::NoData, Truth::NoData),
    ] {
        assert_eq!(truth(&format!("{left} && {right}")), and, "{left} && {right}");
        assert_eq!(truth(&format!("{left} || {right}")), or, "{left} || {right}");
        let negated = match and {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            other => other,
        };
        assert_eq!(truth(&format!("!({left} && {right})")), negated, "!({left} && {right})");
    }
}

#[test]
fn what_settles_the_answer_stops_the_reading() {
    let evidence = evidence();
    assert_eq!(compiled("value < 0 && last(\"many\") > 1").truth(&vars(), &evidence), Truth::False);
    assert_eq!(compiled("value > 0 || last(\"many\") > 1").truth(&vars(), &evidence), Truth::True);
    assert!(evidence.asked().is_empty(), "{:?}", evidence.asked());
    let list = "let l = signal_field(\"none\", \"x\") ?? []; l.len() > 0 && l[0].x > 1";
    assert_eq!(truth(list), Truth::False);
}

#[test]
fn errors_are_answers_and_say_why() {
    for (source, part) in [
        ("last(\"many\") > 5", "ambiguous"),
        ("fact(\"replicas\") == status(\"http\")", "compare a number with a text"),
        ("signal_field(\"deploy\", \"tags\")[0] + 1 > 2", "compare a text with a number"),
        ("fact(\"replicas\")", "the number 2, not true or false"),
        ("signal_field(\"deploy\", \"tags\") > 1", "a list with a number"),
        ("fact(\"replicas\") && true", "needs true or false, not a number"),
        ("throw \"no way\"", "no way"),
        ("avg(deployment, fact(\"replicas\") - 2) > 1", "longer than zero"),
        ("last(fact(\"replicas\")) > 1", "the name of a metric"),
        ("fn f(x) { x.y } f(value) == 1", "in `f`"),
        ("duration(deployment) > 1", "checkout"),
        ("range(0, 100000) == []", "a range has at most"),
    ] {
        match truth(source) {
            Truth::Error(message) => assert!(message.contains(part), "{source}: {message}"),
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn numbers_are_numbers_or_no_data() {
    let number = |source: &str| {
        let (condition, _) =
            compile(&host(), source, Expect::Number).unwrap_or_else(|found| panic!("{source}: {found:?}"));
        condition.number(&vars(), &evidence())
    };
    assert_eq!(number("last(\"cpu\") - 1"), Ok(Some(89.0)));
    assert_eq!(number("7 / 2"), Ok(Some(3.5)));
    assert_eq!(number("last(\"none\") * 2"), Ok(None));
    assert_eq!(number("1 / last(\"zero\")"), Ok(None));
    assert!(number("if value > 1 { true } else { 5 }").is_err_and(|why| why.contains("not a number")));
    let problems = compile(&host(), "value > 3", Expect::Number).err().unwrap_or_default();
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["not-a-number"]);
}

#[test]
fn runaway_scripts_are_cut_off() {
    for (source, part) in [
        ("loop { }", "operations"),
        ("let n = 0; while true { n += 1; } true", "operations"),
        ("let s = \"xxxxxxxxxxxxxxxx\"; loop { s += s; } true", "a text of bytes"),
        ("let l = [1]; loop { l += l; } true", "a list of items"),
        ("fn f(n) { f(n + 1) } f(0)", "deeper"),
        ("fn f(n) { 1 + (2 + (3 + (4 + f(n + (1 + (1 + 1)))))) } f(0) > 1", "deeper"),
        ("let s = \"aaaaaaaaaaaaaaaa\".replace(\"a\", `${settings}`); loop { s = s.replace(\"a\", s); } true", "long"),
        ("let l = []; loop { for i in 0..1000 { l = [l, l]; } } true", ""),
    ] {
        match truth(source) {
            Truth::Error(message) => assert!(message.contains(part), "{source}: {message}"),
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn constant_reads_are_known_before() {
    let reads = |source: &str| {
        let condition = compiled(source);
        (condition.reads().iter().map(key).collect::<Vec<_>>(), condition.reads_are_static())
    };
    let (found, is_static) =
        reads("last(\"cpu\") > 1 && avg(\"cpu\", \"5m\") > 1 && (last(\"cpu\") > 2 || healthy(\"http\"))");
    assert_eq!(found, ["last cpu", "avg cpu 5m", "healthy http"]);
    assert!(is_static);
    let (found, is_static) = reads("avg(settings.metric, settings.window) > 1");
    assert_eq!(found, ["avg cpu 5m"]);
    assert!(!is_static, "a deployment may override the setting");
    let (found, is_static) = reads("last(\"c\" + \"pu\") > 1 && firing(\"Down\") > 1 && deployments() > 1");
    assert_eq!(found, ["firing Down", "deployments"]);
    assert!(!is_static);
    assert!(reads("value > 5").1 && reads("value > 5").0.is_empty());
    assert!(reads("max(value, 5) > 5").1, "the larger of two numbers reads nothing");
}

#[test]
fn a_deployments_own_settings_are_read() {
    let condition = compiled("avg(settings.metric, settings.window) > settings.cpu_percent.warning");
    let own = map(json!({ "cpu_percent": { "warning": 10 }, "metric": "own", "window": 60 }));
    let evidence = FakeEvidence::new().number("avg own 1m", 11.0);
    assert_eq!(condition.truth(&Vars { settings: Arc::new(own), ..vars() }, &evidence), Truth::True);
    assert_eq!(evidence.asked(), ["avg own 1m"]);
}

#[test]
fn a_policys_functions_use_the_language() {
    let host = host_with(
        "// how busy\nfn busy(metric, limit) { last(metric) > limit && !over() }\nfn over() { last(\"cpu\") > 95 }\n\
         fn tier(name) { label(\"tier\") == name || setting(\"fast\") }",
    );
    let condition = compile(&host, "busy(\"cpu\", 80) && tier(\"web\")", Expect::Bool)
        .map(|(condition, _)| condition)
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(condition.truth(&vars(), &evidence()), Truth::True);
    assert_eq!(condition.reads().iter().map(key).collect::<Vec<_>>(), ["last cpu", "label tier"]);
    assert!(!condition.reads_are_static(), "what `busy` reads is its argument");
    let unknown = compile(&host, "busy(\"none\", 80)", Expect::Bool).map(|(condition, _)| condition);
    assert_eq!(unknown.map(|condition| condition.truth(&vars(), &evidence())), Ok(Truth::NoData));
    let wrong = compile(&host, "busy(\"cpu\")", Expect::Bool).err().unwrap_or_default();
    assert_eq!(wrong[0].code, "wrong-arguments");
}

#[test]
fn hashes_follow_the_source_and_the_functions() {
    let hash =
        |host: &ScriptHost, source: &str| compile(host, source, Expect::Bool).map(|(c, _)| c.hash()).unwrap_or(0);
    let (one, other) = (host_with("fn f() { true }"), host_with("fn f() { false }"));
    assert_eq!(hash(&one, "f()"), hash(&host_with("fn f() { true }"), "f()"));
    assert_ne!(hash(&one, "f()"), hash(&other, "f()"));
    assert_ne!(hash(&one, "f()"), hash(&one, "!f()"));
}

#[test]
fn conditions_go_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    shared(&compiled("value > 1"));
}

/// A stand-in for the whole of [`Names`] in a rule without `value:`.
fn problems_in_rule(source: &str) -> Vec<(&'static str, String)> {
    let settings = settings();
    let names = Names { settings: Some(&settings), ..Names::default() };
    match Condition::compile(&host(), source, Expect::Bool, &names) {
        Ok((_, warnings)) => told_problems(source, warnings),
        Err(problems) => told_problems(source, problems),
    }
}

fn told_problems(source: &str, problems: Vec<ScriptProblem>) -> Vec<(&'static str, String)> {
    problems
        .into_iter()
        .map(|problem| {
            assert!(source.get(problem.span.clone()).is_some(), "{source}: {problem:?}");
            (problem.code, source[problem.span].to_owned())
        })
        .collect()
}

#[test]
fn each_trap_is_told_at_its_place() {
    for (source, expected) in [
        ("last(\"cpu\") >> 5 and true", vec![("not-rhai", ">>"), ("not-rhai", "and")]),
        ("last(\"cpu\") > 5 or not healthy(\"x\")", vec![("not-rhai", "or"), ("not-rhai", "not")]),
        ("status(\"http\") == 'unhealthy'", vec![("not-rhai", "'unhealthy'")]),
        ("healthy(\"x\") ? true : false", vec![("not-rhai", "?")]),
        ("avg(\"cpu\", 5m) > 80", vec![("not-rhai", "5m")]),
        ("last(\"cpu\") > 80%", vec![("not-rhai", "80%")]),
        ("last(\"cpu\") > 80% && healthy(\"x\")", vec![("not-rhai", "80%")]),
        ("last(\"memory_bytes\") > 2GiB", vec![("not-rhai", "2GiB")]),
        ("last(\"cpu\") = 80", vec![("assignment", "=")]),
        ("severity = \"x\"", vec![("assignment", "=")]),
        ("if severity = \"x\" { true } else { false }", vec![("assignment", "=")]),
        ("last(\"cpu\") <> 80", vec![("not-rhai", "<>")]),
        ("{{ last(\"cpu\") }} > 80", vec![("not-rhai", "{{")]),
        ("last(\"cpu\") > 5 and helthy(\"x\")", vec![("not-rhai", "and"), ("unknown-function", "helthy")]),
        ("laast(\"cpu\") > (5", vec![("unknown-function", "laast"), ("syntax", "")]),
        ("True", vec![("unknown-variable", "True")]),
        ("last(\"cpu\") > 5 and True", vec![("not-rhai", "and"), ("not-rhai", "True")]),
        ("last(\"cpu\") == ()", vec![("compare-with-nothing", "(")]),
        ("1 < last(\"cpu\") < 5", vec![("chained-comparison", "<")]),
        ("last(\"cpu\")", vec![("not-a-bool", "last(\"cpu\")")]),
        ("status(\"http\") > 5", vec![("type-mismatch", ">")]),
        ("last(\"cpu\") > \"80\"", vec![("type-mismatch", ">")]),
        ("last(\"cpu\") && true", vec![("not-a-bool", "last")]),
        ("!last(\"cpu\")", vec![("not-a-bool", "last")]),
        ("lst(\"cpu\") > 5 && hasx(3)", vec![("unknown-function", "lst"), ("unknown-function", "hasx")]),
        ("cpu > 5 && sevrity == \"x\"", vec![("unknown-variable", "cpu"), ("unknown-variable", "sevrity")]),
        ("value > 5", vec![("unknown-variable", "value")]),
        ("inputs.x == 1", vec![("unknown-variable", "inputs")]),
        ("last(\"cpu\") > settings.cpu_percent.critcal", vec![("unknown-setting", "critcal")]),
        ("last(\"cpu\") > setting(\"nope\")", vec![("unknown-setting", "\"nope\"")]),
        ("avg(\"cpu\") > 5", vec![("wrong-arguments", "avg")]),
        ("avg(\"cpu\", \"5 minutes\") > 5", vec![("wrong-arguments", "\"5 minutes\"")]),
        ("avg(5, \"5m\") > 5", vec![("wrong-arguments", "5")]),
        ("last(\"cpu\", \"median\") > 5", vec![("wrong-arguments", "\"median\"")]),
        ("eval(\"1\") == 1", vec![("not-rhai", "eval")]),
        ("import \"x\" as y; true", vec![("not-rhai", "import")]),
        ("sleep(5); true", vec![("unknown-function", "sleep")]),
        ("Fn(\"last\").call(\"cpu\") > 1", vec![("unknown-function", "Fn"), ("unknown-function", "call")]),
        ("print(\"x\"); true", vec![("unknown-function", "print")]),
        ("last(severity) > 5", vec![("computed-read", "last")]),
        ("status(\"http\") == \"down\"", vec![("never-equal", "\"down\"")]),
        ("if severity == \"info\" { true }", vec![("no-answer", "if")]),
        ("if severity == \"info\" { true } else if severity == \"x\" { false }", vec![("no-answer", "if")]),
        ("if severity == \"info\" { true } else { false }", vec![]),
        ("let x = 5;", vec![("no-answer", "let x = 5;")]),
        ("", vec![("empty", "")]),
        ("   ", vec![("empty", "   ")]),
    ] {
        let found = problems_in_rule(source);
        let found: Vec<(&str, &str)> = found.iter().map(|(code, text)| (*code, text.as_str())).collect();
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn help_says_what_to_write() {
    let help = |source: &str| {
        let settings = settings();
        let names = Names { settings: Some(&settings), ..Names::default() };
        let found = Condition::compile(&host(), source, Expect::Bool, &names).err().unwrap_or_default();
        found.into_iter().map(|problem| problem.help.unwrap_or_default()).collect::<Vec<_>>().join("; ")
    };
    assert!(help("avg(\"cpu\", 5m) > 80").contains("\"5m\""));
    assert!(help("last(\"cpu\") > 80%").contains("0.8 for a ratio"));
    assert!(help("last(\"x\") > 2GiB").contains("size(\"2GiB\")"));
    assert!(help("status(\"x\") == 'up down'").contains("\"up down\""));
    assert!(help("helthy(\"http\")").contains("healthy(\"http\")"));
    assert!(help("avg(\"cpu\") > 1").contains("avg(\"cpu_percent\", \"5m\")"));
    assert!(help("settings.cpu_percent.critcal > 1").contains("settings.cpu_percent.critical"));
    assert!(help("cpu_percent > 5").contains("settings.cpu_percent"));
    assert!(help("memory > 5").contains("last(\"memory\")"));
    assert!(help("value > 5").contains("no `value:`"));
    assert!(help("last(\"a\") == ()").contains("has(x)"));
}

#[test]
fn functions_files_are_checked_whole() {
    let problems = |files: &[(&str, &str)]| {
        let files: Vec<(String, String)> = files.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect();
        let found = ScriptHost::new(&files).err().unwrap_or_default();
        found.into_iter().map(|(file, problem)| (file, problem.code)).collect::<Vec<_>>()
    };
    let told = |file: &str, code: &'static str| (file.to_owned(), code);
    assert_eq!(problems(&[("a", "fn last(m) { 1 }")]), [told("a", "taken-name")]);
    assert_eq!(problems(&[("a", "fn f(m) { 1 }"), ("b", "fn f(x) { 2 }")]), [told("b", "duplicate-function")]);
    assert_eq!(problems(&[("a", "last(\"x\") > 1")]), [told("a", "only-functions")]);
    assert_eq!(problems(&[("a", "fn f(x) { y }"), ("b", "fn g( {")]).len(), 1);
    assert_eq!(
        problems(&[("a", "fn f(x) { y }"), ("b", "fn g(x) { lst(x) }")]),
        [told("a", "unknown-variable"), told("b", "unknown-function")]
    );
}

#[test]
fn no_input_is_too_strange() {
    let deep = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    let mut sources = vec![
        deep("(", ")", 5_000),
        deep("(", ")", 30),
        deep("[", "]", 30),
        deep("{", "}", 30),
        deep("!", "", 120),
        deep("!", "", 5_000),
        deep("-", "", 5_000),
        deep("if true { ", " }", 30),
        format!("1{} > 0", "+1".repeat(100)),
        format!("1{} > 0", "+1".repeat(9_000)),
        format!("1{} > 0", "**1".repeat(120)),
        format!("value{} > 0", " ?? 1".repeat(120)),
        format!("true{}", " && true".repeat(120)),
        format!("if true {{ 1 }}{}", " else if true { 1 }".repeat(60)),
        format!("labels{}", ".a".repeat(100)),
        format!("labels{}", "[1]".repeat(100)),
        "x".repeat(70_000),
        "let x = 1;".repeat(5_000),
        "`${`${`${1}`}`}`".to_owned(),
        "\u{0}".to_owned(),
        "'\\u{110000}'".to_owned(),
        "1e999999 > 0".to_owned(),
        "99999999999999999999 > 0".to_owned(),
        "fn f() {} fn f() {} true".to_owned(),
        "fn".to_owned(),
        "ä > 1 && \u{1f600}".to_owned(),
        "|x| x > 1".to_owned(),
        "[1].filter(|x| x > 1)".to_owned(),
        "switch value { 1 => true, _ => false }".to_owned(),
        "this.x > 1".to_owned(),
        "a::b(1)".to_owned(),
        "value = ".to_owned(),
        "/* ".to_owned(),
    ];
    let words =
        ["(", ")", "{", "}", "&&", "!", "value", "5m", "'a", "\"", "=", "if", "let", "fn", "..", "?", ",", ";", "`${"];
    for one in words {
        for two in words {
            for three in words {
                sources.push(format!("{one} {two} {three}"));
            }
        }
    }
    let host = host();
    for source in &sources {
        match compile(&host, source, Expect::Bool) {
            Ok((condition, _)) => drop(condition.truth(&vars(), &evidence())),
            Err(problems) => {
                assert!(!problems.is_empty(), "{source}");
                for problem in problems {
                    assert!(source.get(problem.span.clone()).is_some(), "{source}: {problem:?}");
                }
            }
        }
    }
}
