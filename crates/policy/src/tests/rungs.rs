//! Rungs of ladders: which deployments, how many at a time, who has to allow it.

use std::time::Duration;

use super::mistakes::{assert_lines, in_file, with_rule};
use super::{good, mistakes, places};
use crate::Policy;
use crate::ladder::{On, Rung};
use selfheal_model::{Deployment, Severity};
use selfheal_script::Param;

const MINUTE: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = "format: 1
adapters: { local: { type: full } }
receivers: [{ name: a }]
deployments:
  - { id: ci, adapter: local, labels: { tier: ci }, target: { command: [x] } }
  - { id: web, adapter: local, labels: { tier: web }, target: { command: [x] } }
";

const PLAYBOOKS: &str = "{ playbook: restart, steps: [{ action: restart }] }\n---\n\
                         { playbook: rollback, steps: [{ action: rollback }] }\n";

fn policy(rules: &str) -> Policy {
    good(&[("playbooks/p.yaml", PLAYBOOKS), ("rules/a.yaml", rules), ("selfheal.yaml", CONFIGURATION)])
}

fn rungs<'p>(policy: &'p Policy, rule: &str) -> &'p [Rung] {
    &policy.ladders[&(rule.into(), Severity::Warning)].rungs
}

#[test]
fn rungs_are_read_whole() {
    let policy = policy(
        r#"rules:
  - { alert: Sick, when: 'last("x") > 1' }
  - alert: BadRollout
    per: [tier]
    when: 'firing("Sick") / deployments() > 0.3'
    remediate:
      - { playbook: restart, on: ci, approval: required }
      - { playbook: restart, on: "{{ labels.tier }}-ci", if: 'deployments() > 1' }
      - { playbook: rollback, on: { firing: Sick }, batch: 2, pause: 1m, give_up: 10m }
      - { playbook: restart, on: { select: { tier: web } }, batch: 1, repeat: 3m }
"#,
    );
    let [ci, text, firing, select] = rungs(&policy, "BadRollout") else { panic!("four rungs") };
    assert_eq!(ci.on.as_ref().and_then(On::literal), Some("ci".into()));
    assert!(ci.approval && !text.approval);
    assert!(matches!(text.on, Some(On::Deployment(Param::Template(_)))) && text.if_.is_some());
    assert!(matches!(&firing.on, Some(On::Firing(rule)) if rule.as_str() == "Sick"));
    assert_eq!((firing.batch, firing.pause, firing.give_up), (Some(2), MINUTE, 10 * MINUTE));
    let Some(On::Select(selected)) = &select.on else { panic!("a selector") };
    let taken = |one: &&std::sync::Arc<Deployment>| selected.matches(&one.labels);
    assert_eq!(policy.deployments.values().filter(taken).map(|one| one.id.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!((select.batch, select.pause, select.repeat), (Some(1), Duration::ZERO, Some(3 * MINUTE)));
    assert_eq!((ci.batch, ci.repeat, ci.give_up), (None, None, 30 * MINUTE));
    assert!(policy.warnings.is_empty(), "{:?}", places(&policy.warnings));
}

#[test]
fn upkeep_that_is_refused_is_told_sooner() {
    let policy = policy(
        r#"rules:
  - alert: Busy
    routine: true
    when: 'last("x") > 1'
    remediate: [restart, { playbook: rollback, repeat: 3m }, { playbook: restart, give_up: 1h }]
"#,
    );
    let times: Vec<_> = rungs(&policy, "Busy").iter().map(|rung| rung.give_up).collect();
    assert_eq!(times, [15 * MINUTE, 15 * MINUTE, 60 * MINUTE]);
}

#[test]
fn several_rules_can_have_one_named_ladder() {
    let policy = policy(
        r#"ladders: { exhaustion: [restart, { playbook: rollback, on: { firing: A } }] }
rules:
  - { alert: A, when: 'last("x") > 1', remediate: exhaustion }
  - { alert: B, routine: true, when: 'last("y") > 1', remediate: exhaustion }
"#,
    );
    for (rule, give_up) in [("A", 30 * MINUTE), ("B", 15 * MINUTE)] {
        let names: Vec<_> = rungs(&policy, rule).iter().map(|rung| rung.playbook.as_str()).collect();
        assert_eq!(names, ["restart", "rollback"]);
        assert!(rungs(&policy, rule).iter().all(|rung| rung.give_up == give_up));
    }
}

#[test]
fn a_ladder_that_no_rule_has_is_read_for_its_mistakes() {
    let configuration = format!("{CONFIGURATION}ladders: {{ odd: [restart, {{ playbook: rollbak }}] }}\n");
    let found = mistakes(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &configuration)]);
    assert_eq!(places(&found), ["unknown-playbook selfheal.yaml:7:39"]);
}

#[test]
fn mistakes_of_rungs() {
    let mut lines = Vec::new();
    for (rung, expected) in [
        ("approval: require", "wrong-value 2:106"),
        ("approval: true", "wrong-value 2:106"),
        ("batch: 0", "wrong-type 2:103"),
        ("pause: 1m", "conflict 2:103"),
        ("repeat: 0s", "out-of-range 2:104"),
        ("on: wbe", "unknown-deployment 2:100"),
        ("on: { firing: Othr }", "unknown-rule 2:110"),
        ("on: { firing: Off }", "unknown-rule 2:110"),
        ("on: { firing: Fleet }", "ladder-without-deployment 2:110"),
        ("on: { firing: Other, select: { tier: web } }", "conflict 2:100"),
        ("on: { fireing: Other }", "unknown-key 2:102"),
        ("on: {}", "missing-key 2:100"),
        ("on: [web]", "wrong-type 2:100"),
        ("on: { select: [web] }", "matcher 2:111"),
        ("on: \"{{ labls.x }}\"", "unknown-variable 2:104"),
    ] {
        let rule = format!(
            "{{ alert: A, select: {{ tier: web }}, when: 'last(\"x\") > 1', remediate: [{{ playbook: restart, {rung} }}] }}"
        );
        lines.push((rung, in_file("rules/a.yaml", expected), with_rule(&rule)));
    }
    assert_lines(lines);
}

#[test]
fn an_unknown_rule_is_suggested() {
    let rung = "[{ playbook: restart, on: { firing: Othr } }]";
    let found = with_rule(&format!("{{ alert: A, when: 'last(\"x\") > 1', remediate: {rung} }}"));
    let helps: Vec<_> = found.iter().filter_map(|one| one.help.as_deref()).collect();
    assert_eq!(helps, ["did you mean `Other`?"]);
}

#[test]
fn a_rung_of_a_scope_without_a_deployment_says_on_which() {
    let without = |rung: &str| format!("{{ alert: A, per: [], when: 'last(\"x\") > 1', remediate: [{rung}] }}");
    let found = with_rule(&without("{ playbook: restart, on: web }, restart"));
    assert_eq!(places(&found), ["ladder-without-deployment rules/a.yaml:2:60"]);
    assert!(found[0].message.contains("`restart`") && found[0].message.contains("`A`"), "{}", found[0].message);
    let named = "{ alert: A, per: [], when: 'last(\"x\") > 1', remediate: restart-too }";
    assert_eq!(places(&with_rule(named)), ["ladder-without-deployment rules/a.yaml:2:60"]);
}

#[test]
fn a_rung_must_be_possible_where_it_says() {
    for (on, column) in [("db", 86), ("{ select: { tier: db } }", 86), ("{ firing: A }", 86)] {
        let rung = format!("{{ playbook: scale, with: {{ to: 3 }}, on: {on} }}");
        let rule = format!("{{ alert: A, select: {{ tier: db }}, when: 'last(\"x\") > 1', remediate: [{rung}] }}");
        let found = with_rule(&rule);
        assert_eq!(places(&found), [format!("missing-verb rules/a.yaml:2:{column}")], "{on}");
        assert!(found[0].message.contains("scale") && found[0].message.contains("db"), "{}", found[0].message);
    }
    let elsewhere = "[{ playbook: scale, with: { to: 3 }, on: web }]";
    let found = with_rule(&format!("{{ alert: A, nme: x, when: 'last(\"x\") > 1', remediate: {elsewhere} }}"));
    assert_eq!(places(&found), ["unknown-key rules/a.yaml:2:17"], "what the rule selects does not matter then");
}

#[test]
fn what_a_rung_says_for_nothing_is_a_warning() {
    for (rung, place) in [
        ("{ playbook: restart, batch: 2 }", "2:80"),
        ("{ playbook: restart, on: ci, batch: 2 }", "2:88"),
        ("{ playbook: restart, on: { select: { tier: db } } }", "2:87"),
    ] {
        let policy = policy(&format!("rules:\n  - {{ alert: A, when: 'last(\"x\") > 1', remediate: [{rung}] }}\n"));
        assert_eq!(places(&policy.warnings), [format!("no-effect rules/a.yaml:{place}")], "{rung}");
    }
}

#[test]
fn a_rule_for_nobody_is_a_warning() {
    let warnings = |select: &str| {
        let policy = policy(&format!("rules:\n  - {{ alert: A, select: {select}, when: 'last(\"x\") > 1' }}\n"));
        places(&policy.warnings)
    };
    assert_eq!(warnings("{ teir: web }"), ["no-effect rules/a.yaml:2:25"]);
    assert_eq!(warnings("{ deployment: heard-of }"), [""; 0], "it may be known by its events alone");
}
