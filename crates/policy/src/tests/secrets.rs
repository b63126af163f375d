//! `secrets:` and who may be given one.

use super::mistakes::{ADAPTERS, in_file};
use super::{compiled, good, mistakes, places};
use crate::playbook::StepKind;
use selfheal_script::Param;

/// `secrets:` stands in line 5.
fn configuration(secrets: &str) -> String {
    format!(
        "format: 1\n{ADAPTERS}receivers: [{{ name: a }}]\ndeployments: [{{ id: db, adapter: local, target: {{ command: [x] }} }}]\nsecrets: {secrets}\n"
    )
}

const TOKENS: &str = "{ api: \"${API_TOKEN}\", file: \"${file:token}\" }";

#[test]
fn a_secret_is_passed_on_as_a_reference() {
    let rules = "rules: [{ alert: A, when: 'last(\"x\") > 1', remediate: [{ playbook: outer, with: { token: \"{{ secrets.api }}\" } }] }]\n";
    let playbooks = "{ playbook: inner, inputs: { token: { type: secret } }, steps: [\
                     { id: s, action: sign, with: { key: \"{{ inputs.token }}\" } }, \
                     { id: t, action: sign, with: { key: '{{ secrets.file }}' } }] }\n---\n\
                     { playbook: outer, inputs: { token: { type: secret } }, steps: [\
                     { playbook: inner, with: { token: \"{{ inputs.token }}\" } }] }\n";
    let policy =
        good(&[("selfheal.yaml", &configuration(TOKENS)), ("rules/r.yaml", rules), ("playbooks/p.yaml", playbooks)]);
    let ladder = policy.ladders.values().next().expect("there is one");
    assert!(matches!(&ladder.rungs[0].with[0].1, Param::Literal(value) if value == "${API_TOKEN}"));
    let inner = &policy.playbooks["inner"];
    let given = |index: usize| match &inner.steps[index].kind {
        StepKind::Action { with, .. } => with[0].1.clone(),
        _ => panic!("an action"),
    };
    assert!(matches!(given(0), Param::Template(_)));
    assert!(matches!(given(1), Param::Literal(value) if value == "${file:token}"));
    assert_eq!(policy.secrets.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["api", "file"]);
}

#[test]
fn what_is_no_reference_is_refused_and_not_shown() {
    let found = mistakes(&[("selfheal.yaml", &configuration("{ api: hunter2 }"))]);
    assert_eq!(places(&found), [in_file("selfheal.yaml", "wrong-value 5:17")]);
    assert!(!found[0].message.contains("hunter2"), "{}", found[0].message);
}

#[test]
fn text_of_an_event_is_never_taken_for_a_secret() {
    let inputs = "inputs: { token: { type: secret }, note: { type: string, default: x } }";
    for (with, expected) in [
        ("{{ secrets.apj }}", "unknown-secret"),
        ("Bearer {{ secrets.api }}", "not-a-secret"),
        ("{{ labels.token }}", "not-a-secret"),
        ("{{ inputs.note }}", "not-a-secret"),
        ("{{ inputs.token }}{{ inputs.note }}", "not-a-secret"),
        ("{{ steps.a.output }}", "not-a-secret"),
    ] {
        let playbook =
            format!("{{ playbook: p, {inputs}, steps: [{{ action: sign, with: {{ key: \"{with}\" }} }}] }}\n");
        let files = [("selfheal.yaml", configuration(TOKENS)), ("playbooks/p.yaml", playbook)];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let found = compiled(&files).err().unwrap_or_default();
        assert_eq!(found.iter().map(|one| one.code.as_str()).collect::<Vec<_>>(), [expected], "{with}");
    }
    // and nowhere else
    let playbook = "{ playbook: p, steps: [{ signal: { name: s, fields: { key: \"{{ secrets.api }}\" } } }] }\n";
    let found = mistakes(&[("selfheal.yaml", &configuration(TOKENS)), ("playbooks/p.yaml", playbook)]);
    assert_eq!(found[0].code, "unknown-variable");
    assert!(
        found[0].help.as_ref().is_some_and(|help| help.contains("goes whole to a parameter")),
        "{:?}",
        found[0].help
    );
}
