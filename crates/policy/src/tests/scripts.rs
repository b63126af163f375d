//! Mistakes inside conditions and texts, at their place in the file; and what the conditions of several rules are to
//! each other.

use super::mistakes::with_rule;
use super::{good, mistakes, places};

const CONFIGURATION: (&str, &str) = (
    "selfheal.yaml",
    "format: 1\nreceivers: [{ name: a }]\nadapters: { local: { type: full } }\nsettings: { cpu: { warning: 80 } }\n",
);

#[test]
fn a_mistake_in_a_script_is_shown_at_its_place_however_it_is_written() {
    for (rules, place) in [
        ("rules:\n  - alert: A\n    when: lats(\"x\") > 1\n", "3:11"),
        ("rules:\n  - alert: A\n    when: 'lats(\"x\") > 1'\n", "3:12"),
        ("rules:\n  - alert: A\n    when: 'last(\"a\") > 1 /* it''s */ || lats(\"x\") > 1'\n", "3:41"),
        ("rules:\n  - alert: A\n    when: \"last(\\\"x\\\") > 1 && lats(\\\"x\\\") > 1\"\n", "3:31"),
        ("rules:\n  - alert: A\n    when: |\n      let a = last(\"x\");\n\n      a > lats(\"x\")\n", "6:11"),
        ("rules:\n  - alert: A\n    when: >-\n      last(\"x\") > 1\n      && lats(\"x\") > 1\n", "5:10"),
        ("rules:\n  - alert: A\n    when: 'last(\"é\") > 1 && lats(\"x\") > 1'\n", "3:29"),
        ("rules:\n  - { alert: A, levels: { critical: { when: 'lats(\"x\") > 1' } } }\n", "2:46"),
    ] {
        let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", rules)]);
        assert_eq!(places(&found), [format!("unknown-function rules/a.yaml:{place}")], "{rules}\n{found:#?}");
        assert!(found[0].help.as_deref().is_some_and(|help| help.contains("last")), "{found:#?}");
    }
}

#[test]
fn a_wrong_name_is_found_wherever_a_script_may_stand() {
    for (file, text) in [
        ("rules/a.yaml", "rules:\n  - { alert: A, when: 'last(\"x\") > settings.cpu.wrning' }\n"),
        ("rules/a.yaml", "rules:\n  - { alert: A, value: 'last(\"x\") + settings.cpo', when: 'value > 1' }\n"),
        ("rules/a.yaml", "rules:\n  - { alert: A, when: 'last(\"x\") > 1', clear_when: 'settings.cpo < 1' }\n"),
        ("playbooks/a.yaml", "{ playbook: p, steps: [{ wait: 1s, if: 'settings.cpo > 1' }] }\n"),
        ("playbooks/a.yaml", "{ playbook: p, steps: [{ assert: 'inputs.x > 1' }] }\n"),
        (
            "playbooks/a.yaml",
            "{ playbook: p, steps: [{ wait: { until: 'steps.later.seconds > 1' } }, { id: later, wait: 1s }] }\n",
        ),
        ("playbooks/a.yaml", "{ playbook: p, steps: [{ wait: 1s }], verify: { until: 'settings.cpo > 1' } }\n"),
    ] {
        let found = mistakes(&[CONFIGURATION, (file, text)]);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        assert_eq!(found[0].file, file, "{found:#?}");
        assert!(found[0].code.starts_with("unknown-"), "{found:#?}");
    }
}

#[test]
fn a_mistake_in_a_function_file_is_shown_there() {
    let found = mistakes(&[CONFIGURATION, ("rules/f.rhai", "fn twice(x) { x * 2 }\nfn broken( {\n")]);
    assert!(found.iter().all(|one| one.file == "rules/f.rhai" && one.line == 2), "{found:#?}");
}

#[test]
fn rules_that_wait_for_each_other_are_an_error_and_so_is_one_that_is_not_there() {
    let rules = "rules:\n  - { alert: A, when: 'firing(\"B\") > 0' }\n  - { alert: B, when: 'firing(\"A\") > 0' }\n  \
                 - { alert: C, when: 'firing(\"D\") > 0' }\n";
    let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", rules)]);
    assert_eq!(places(&found), ["cycle rules/a.yaml:3:32", "unknown-rule rules/a.yaml:4:32"]);
    assert!(found[0].message.contains("A → B → A"), "{}", found[0].message);
    let off = "rules:\n  - { alert: A, enabled: false, when: 'last(\"x\") > 0' }\n  - { alert: B, when: 'firing(\"A\") > 0' }\n";
    let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", off)]);
    assert_eq!(places(&found), ["unknown-rule rules/a.yaml:3:32"]);
}

#[test]
fn a_cure_that_only_time_can_show_needs_an_until() {
    let playbook = "{ playbook: p, steps: [{ action: restart }] }\n";
    let rule =
        |more: &str| format!("rules:\n  - {{ alert: A, when: 'signal(\"oom\", \"5m\") > 0', remediate: [p]{more} }}\n");
    let found = mistakes(&[CONFIGURATION, ("playbooks/a.yaml", playbook), ("rules/a.yaml", &rule(""))]);
    assert_eq!(places(&found), ["needs-until rules/a.yaml:2:62"]);
    good(&[
        CONFIGURATION,
        ("playbooks/a.yaml", playbook),
        ("rules/a.yaml", &rule(", clear_when: 'healthy(\"http\")'")),
    ]);
    let proved = "{ playbook: p, steps: [{ action: restart }], verify: { until: 'healthy(\"http\")' } }\n";
    good(&[CONFIGURATION, ("playbooks/a.yaml", proved), ("rules/a.yaml", &rule(""))]);
}

#[test]
fn a_unit_that_the_policy_says_counts_like_one_in_the_name() {
    let configuration = "format: 1\nreceivers: [{ name: a }]\n\
        metrics: { error_rate: { unit: ratio }, odd_percent: { unit: points }, cpu: { as: load, unit: percent } }\n";
    for (when, warned) in [
        ("last(\"error_rate\") > 5", true),
        ("last(\"odd_percent\") > 0.5", false),
        ("last(\"load\") > 0.5", true),
        ("last(\"other\") > 5", false),
    ] {
        let rule = format!("rules:\n  - alert: A\n    when: '{when}'\n");
        let policy = super::good(&[("selfheal.yaml", configuration), ("rules/a.yaml", &rule)]);
        assert_eq!(policy.warnings.iter().any(|one| one.code == "unit"), warned, "{when}");
    }
}

#[test]
fn numbers_in_the_wrong_unit_are_a_warning() {
    for (rule, warned) in [
        ("{ alert: A, when: 'last(\"error_ratio\") > 5' }", true),
        ("{ alert: A, when: 'avg(\"cpu_percent\", \"5m\") > 0.8' }", true),
        ("{ alert: A, value: 'last(\"error_ratio\", \"max\")', when: 'value > 5' }", true),
        ("{ alert: A, value: 'last(\"error_ratio\")', levels: { critical: { when: 'value > 5' } } }", true),
        ("{ alert: A, when: 'last(\"error_ratio\") > 0.05' }", false),
        ("{ alert: A, when: 'last(\"cpu_percent\") > 80' }", false),
        ("{ alert: A, value: 'last(\"error_ratio\") * 100', when: 'value > 5' }", false),
        ("{ alert: A, when: 'count(\"error_ratio\", \"5m\") > 5' }", false),
    ] {
        let text = format!("rules:\n  - {rule}\n");
        let warnings = good(&[CONFIGURATION, ("rules/a.yaml", &text)]).warnings;
        assert_eq!(warnings.iter().any(|one| one.code == "unit"), warned, "{rule}: {warnings:#?}");
    }
}

#[test]
fn references_of_a_rule_are_checked_while_the_rule_has_other_mistakes() {
    let found =
        with_rule("{ alert: A, when: 'last(', remediate: [restrat, { playbook: restart, with: { grce: 5s } }] }");
    let codes: Vec<&str> = found.iter().map(|one| one.code.as_str()).collect();
    assert!(codes.contains(&"unknown-playbook") && codes.contains(&"unknown-input"), "{codes:?}");
    assert_eq!(codes.len(), 3, "{codes:?}");
}

#[test]
fn what_a_playbook_takes_is_checked_while_its_steps_have_mistakes() {
    let playbook = "playbook: p\ninputs: { grace: { type: duration } }\nsteps: [{ action: fly }]\n";
    let rules = "rules: [{ alert: A, when: 'last(\"x\") > 1', remediate: [{ playbook: p, with: { grce: 5s } }] }]\n";
    let configuration = "format: 1\nadapters: { local: { type: full } }\nreceivers: [{ name: a }]\n\
                         schedules: [{ name: s, playbook: p, with: { grace: soon }, select: {}, every: 1d }]\n";
    let found = mistakes(&[("playbooks/p.yaml", playbook), ("rules/a.yaml", rules), ("selfheal.yaml", configuration)]);
    let at = |code: &str, file: &str| found.iter().any(|one| one.code == code && one.file == file);
    assert!(at("unknown-verb", "playbooks/p.yaml"), "{:?}", places(&found));
    assert!(at("unknown-input", "rules/a.yaml"), "{:?}", places(&found));
    assert!(at("wrong-type", "selfheal.yaml"), "{:?}", places(&found));
}
