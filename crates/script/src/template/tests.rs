use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::evidence::Reading;
use crate::fake_evidence::FakeEvidence;
use selfheal_model::{Labels, Map, Severity};

fn map(value: Json) -> Map {
    match value {
        Json::Object(map) => map,
        other => panic!("{other} is no map"),
    }
}

fn settings() -> Map {
    map(json!({ "cpu_percent": { "critical": 95.0 }, "response_ms": 500 }))
}

fn vars() -> Vars {
    Vars {
        deployment: Some("checkout".into()),
        labels: Labels::default().with_label("tier", "web"),
        value: Some(91.0),
        severity: Some(Severity::Critical),
        settings: Arc::new(settings()),
        inputs: map(json!({ "add": 1, "grace": 90, "nothing": null })),
        steps: map(json!({ "restart": { "outcome": "done", "seconds": 2.5 } })),
        ..Vars::default()
    }
}

fn evidence() -> FakeEvidence {
    FakeEvidence::new()
        .number("fact replicas", 2.0)
        .text("fact version", "v42")
        .number("last cpu", 91.25)
        .number("avg cpu 5m", 0.0531)
        .number("last mem", 1_610_612_736.0)
        .bool("healthy http", true)
        .with("signal_field deploy tags", Reading::Json(json!(["a", "b"])))
        .error("last many", "`many` is ambiguous")
}

fn compile(source: &str) -> Result<Template, Vec<ScriptProblem>> {
    let settings = settings();
    let inputs = ["add".to_owned(), "grace".to_owned(), "nothing".to_owned()];
    let steps = ["restart".to_owned()];
    let names = Names {
        settings: Some(&settings),
        inputs: Some(&inputs),
        secret_inputs: &[],
        steps: Some(&steps),
        has_value: true,
        in_rescue: false,
    };
    Template::compile(source, &names)
}

fn render(source: &str) -> Result<String, String> {
    compile(source).unwrap_or_else(|problems| panic!("{source}: {problems:#?}")).render(&vars(), &evidence())
}

fn value(source: &str) -> Result<Json, String> {
    compile(source).unwrap_or_else(|problems| panic!("{source}: {problems:#?}")).value(&vars(), &evidence())
}

#[test]
fn texts_say_what_they_say() {
    for (source, expected) in [
        ("no braces, 100 %", "no braces, 100 %"),
        ("{{ deployment }}: CPU at {{ value }} %", "checkout: CPU at 91 %"),
        ("{{ last('cpu') | round(1) }}", "91.2"),
        ("{{ value / 2 }} {{ value * 2 / 2 }}", "45.5 91"),
        ("{{ labels.tier }} {{ severity }} {{ settings.cpu_percent.critical }}", "web critical 95"),
        ("{{ setting('response_ms') }} {{ inputs.add + 1 }}", "500 2"),
        ("{{ steps.restart.outcome }} in {{ steps.restart.seconds }}", "done in 2.5"),
        ("{{ avg('cpu', '5m') | percent }} {{ 1 | percent }}", "5.3% 100%"),
        ("{{ last('mem') | bytes }} {{ size('512MiB') | bytes }}", "1.5GiB 512MiB"),
        ("{{ inputs.grace | duration }} {{ 2.5 | duration }} {{ duration('6h') }}", "1m30s 2s500ms 21600"),
        ("{% if healthy('http') %}up{% else %}down{% endif %}", "up"),
        ("{% for tag in signal_field('deploy', 'tags') %}{{ loop.index }}{{ tag }}{% endfor %}", "1a2b"),
        ("{% set x = fact('version') %}{{ x | upper }}\n", "V42\n"),
        ("{% macro m(f) %}{{ fact(f) }}{% endmacro %}{{ m('version') }}", "v42"),
        (
            "{{ labels.team | default('nobody') }} {{ has(labels.team) }} {{ has(fact('version')) }}",
            "nobody false true",
        ),
        ("{{ fact('none') | default(0) }} {{ fact('none') is defined }}", "0 false"),
        ("{{ max(value, 95) }} {{ min(1, 2) }}", "95 1"),
        ("{# a note #}{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("<b>{{ '<i>' }}</b>", "<b><i></b>"),
    ] {
        assert_eq!(render(source), Ok(expected.to_owned()), "{source}");
    }
}

#[test]
fn one_expression_keeps_its_type() {
    for (source, expected) in [
        ("{{ fact('replicas') + 1 }}", json!(3)),
        (" {{- fact('replicas') * 1.25 -}} ", json!(2.5)),
        ("{{ healthy('http') }}", json!(true)),
        ("{{ signal_field('deploy', 'tags') }}", json!(["a", "b"])),
        ("{{ settings.cpu_percent }}", json!({ "critical": 95 })),
        ("{{ fact('replicas') }} ", json!(2)),
        ("{{ fact('replicas') }}{{ 1 }}", json!("21")),
        ("{{ '{{' }}", json!("{{")),
        ("plain", json!("plain")),
        ("5", json!("5")),
    ] {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_missing_is_an_error() {
    for (source, part) in [
        ("x {{ labels.team }}", "labels.team"),
        ("{{ fact('none') }}", "fact('none')"),
        ("{{ fact('none') + 1 }}", "fact('none')"),
        ("{{ inputs.nothing }}", "inputs.nothing"),
        ("{{ fact('none') | percent }}", "percent"),
        ("{% if labels.team %}x{% endif %}", "labels.team"),
        ("{{ last('many') }}", "ambiguous"),
        ("{{ last(labels.tier ~ '{') }}", "selector"),
        ("{{ deployment | bytes }}", "needs a number"),
    ] {
        assert!(render(source).is_err_and(|why| why.contains(part)), "{source}: {:?}", render(source));
        assert!(value(source).is_err(), "{source}: {:?}", value(source));
    }
}

#[test]
fn runaway_texts_are_cut_off() {
    for source in [
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}xxxxxxxxxxxxxxxx{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(100) %}{{ last('m' ~ i) | default(0) }}{% endfor %}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
    assert!(value("{{ 'x' * 100000 }}").is_err());
}

#[test]
fn problems_are_told_at_their_place() {
    for (source, expected) in [
        ("a {{ valeu }} b", vec![("unknown-variable", "valeu")]),
        ("{{ lst('cpu') }} {{ nope() }}", vec![("unknown-function", "lst"), ("unknown-function", "nope")]),
        ("{{ value | rond(1) }}", vec![("unknown-filter", "rond")]),
        ("{{ value is numbr }}", vec![("unknown-test", "numbr")]),
        ("{{ value is not defined }}", vec![]),
        ("{{ settings.cpu_percent.critcal }}", vec![("unknown-setting", "critcal")]),
        ("{{ settings['response'] }}", vec![("unknown-setting", "'response'")]),
        ("{{ setting('nope') }}", vec![("unknown-setting", "'nope'")]),
        ("{{ inputs.ad }} {{ steps.restrt.outcome }}", vec![("unknown-input", "ad"), ("unknown-step", "outcome")]),
        ("{{ avg('cpu') }}", vec![("wrong-arguments", "avg")]),
        ("{{ avg('cpu', '5 minutes') }}", vec![("wrong-arguments", "'5 minutes'")]),
        ("{{ deployment.id }}", vec![("unknown-variable", "id")]),
        ("{{ value && true }}", vec![("not-jinja", "&&")]),
        ("{{ value || true }}", vec![("not-jinja", "||")]),
        ("{{ labels.team ?? 'x' }}", vec![("not-jinja", "??")]),
        ("{% include 'x' %}", vec![("not-available", "include")]),
        ("{% for d in labels %}{{ d }} {{ e }}{% endfor %}", vec![("unknown-variable", "e")]),
        ("{% set x = y %}{{ x }}", vec![("unknown-variable", "y")]),
        ("{{ dict(a=value).a }}", vec![]),
        ("{{ failed.message }}", vec![("unknown-variable", "failed")]),
    ] {
        let found = compile(source).err().unwrap_or_default();
        let told: Vec<(&str, &str)> = found.iter().map(|found| (found.code, &source[found.span.clone()])).collect();
        assert_eq!(told, expected, "{source}: {found:#?}");
    }
    for source in ["{{ value", "{{ value }", "{{ }}", "{% if %}", "{% if value %}", "{{ 1 + }}", "{{ 'x }}"] {
        let found = compile(source).err().unwrap_or_default();
        assert!(!found.is_empty(), "{source}");
        assert!(found.iter().all(|found| source.get(found.span.clone()).is_some()), "{source}: {found:?}");
    }
}

#[test]
fn no_text_is_too_strange() {
    let mut sources = vec![
        format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(5_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(5_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(5_000)),
        format!("{{{{ 1{} }}}}", " | abs".repeat(5_000)),
        format!("{{{{ value{} }}}}", ".a".repeat(5_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(3_000)),
        "{% if value %}".repeat(3_000),
        "{{".repeat(20_000),
    ];
    let words = ["{{", "}}", "{%", "%}", "{#", "if", "value", "'", "|", "(", ")", ".", "not", "ä"];
    for one in words {
        for two in words {
            for three in words {
                sources.push(format!("{one} {two} {three}"));
            }
        }
    }
    for source in &sources {
        match compile(source) {
            Ok(template) => drop(template.value(&vars(), &evidence())),
            Err(problems) => {
                for problem in problems {
                    assert!(source.get(problem.span.clone()).is_some(), "{source}: {problem:?}");
                }
            }
        }
    }
}

#[test]
fn parameters_are_rendered_through_and_through() {
    let template = |source: &str| Param::Template(compile(source).unwrap_or_else(|found| panic!("{found:?}")));
    let param = Param::Map(vec![
        ("replicas".to_owned(), template("{{ fact('replicas') + 1 }}")),
        ("names".to_owned(), Param::List(vec![template("{{ deployment }}-x"), Param::Literal(json!(1.5))])),
    ]);
    assert_eq!(param.render(&vars(), &evidence()), Ok(json!({ "replicas": 3, "names": ["checkout-x", 1.5] })));
}
