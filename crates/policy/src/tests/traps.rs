//! What YAML makes of a text without quotes, and files that are no YAML.

use super::{mistakes, places};

const CONFIGURATION: (&str, &str) = ("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\n");

/// A rule whose `when` is written so.
fn with_when(when: &str) -> String {
    format!("rules:\n  - alert: A\n    when: {when}\n    severity: warning\n")
}

#[test]
fn a_trap_of_yaml_is_named_for_what_it_is() {
    for (when, place, word) in [
        ("!healthy(\"http\")", "3:11", "`!`"),
        ("{{ value }} > 3", "3:11", "`{{`"),
        ("{{ value }}", "3:11", "`{{`"),
        ("> 80", "3:11", "`>`"),
        ("\"cpu\" == name", "3:11", "quote"),
        ("'a' + 'b'", "3:11", "quote"),
        ("last: \"cpu\" > 3", "3:15", "`: `"),
        ("last(\"issue\") == 1 #5", "3:30", "` #`"),
        ("`a`", "3:11", "quotes"),
        ("@a", "3:11", "quotes"),
    ] {
        let text = with_when(when);
        let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", &text)]);
        assert_eq!(places(&found), [format!("yaml-trap rules/a.yaml:{place}")], "{when}: {found:#?}");
        assert!(found[0].message.contains(word), "{when}: {}", found[0].message);
        assert!(found[0].help.is_some());
    }
}

#[test]
fn a_comma_inside_braces_is_named() {
    let text = "rules:\n  - { alert: A, when: max(a, b) }\n";
    let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", text)]);
    assert!(places(&found).contains(&"yaml-trap rules/a.yaml:2:30".to_owned()), "{found:#?}");
}

#[test]
fn nothing_where_a_condition_belongs_is_named() {
    for when in ["", "null", "~"] {
        let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", &with_when(when))]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].code.as_str(), found[0].line), ("empty-value", 3));
        assert!(found[0].message.contains("condition"), "{}", found[0].message);
    }
}

#[test]
fn a_file_that_is_no_yaml_does_not_hide_the_mistakes_of_others() {
    let found = mistakes(&[
        ("playbooks/a.yaml", "playbook: restart\nsteps: [\n"),
        ("rules/a.yaml", "rules:\n  - { alert: A, when: 'last(\"x\") > 1', severty: info, remediate: [restart] }\n"),
        CONFIGURATION,
    ]);
    let places = places(&found);
    assert!(places.iter().any(|place| place.starts_with("yaml-syntax playbooks/a.yaml:")), "{places:?}");
    assert!(places.contains(&"unknown-key rules/a.yaml:2:40".to_owned()), "{places:?}");
    assert_eq!(places.len(), 2, "a playbook that may stand in the broken file is not called unknown: {places:?}");
}

#[test]
fn a_half_written_policy_is_told_of_and_never_a_panic() {
    let text = "format: 1\nreceivers:\n  - name: \"oncall\"\n    email: [{ to: [a@b], from: a@b, smtp: { host: h } }]\n\
                guards: { per_deployment: { rate: 3/1h } }\nsettings: { a: { b: 5m } }\n";
    for end in 0..text.len() {
        let _ = super::compiled(&[("selfheal.yaml", &text[..end])]);
    }
}

#[test]
fn mistakes_behind_a_trap_are_found_too() {
    let text = "rules:\n  - alert: A\n    when: > 80\n  - { alert: B, when: avg(\"x\", \"5m\") > 3 }\n  \
                - alert: C\n    when: \"a\" == b\n    severty: info\n  - { alert: D, when: 'last(\"x\") > 1', fro: 1s }\n";
    let found = mistakes(&[CONFIGURATION, ("rules/a.yaml", text)]);
    assert_eq!(
        places(&found),
        [
            "yaml-trap rules/a.yaml:3:11",
            "yaml-trap rules/a.yaml:4:36",
            "yaml-trap rules/a.yaml:6:11",
            "unknown-key rules/a.yaml:7:5",
            "unknown-key rules/a.yaml:8:40",
        ],
        "{found:#?}"
    );
}
