//! Steps that ask, that relax, and that are made of other steps.

use std::time::Duration;

use super::mistakes::{ADAPTERS, assert_lines, in_file};
use super::{Diagnostic, compiled, good, mistakes, places};
use crate::Policy;
use crate::guards::Mode;
use crate::playbook::{Approve, OnFailure, StepKind};
use selfheal_model::Verb;

const MINUTE: Duration = Duration::from_secs(60);

const PLAYBOOKS: &str = r#"playbook: whole
mode: approve
inputs: { to: { type: integer, default: 3 } }
steps:
  - { id: ask, approve: { ask: a, by: admin, timeout: 20m } }
  - { id: again, approve: {} }
  - { id: ease, set_check: { name: tcp, timeout: 120s, failure_threshold: 5, for: 1h } }
  - silence: 30m
  - { id: grow, playbook: grow, with: { to: "{{ inputs.to }}" }, if: 'steps.ask.outcome == "done"' }
  - id: both
    parallel:
      - { id: cold, action: restart, undo: { action: rollback } }
      - { action: rollback, deployment: web }
      - { playbook: grow, with: { to: 2 }, best_effort: true }
  - { assert: 'steps.cold.outcome == "done" && steps.both.outcome == "done"' }
on_failure: undo
finally:
  - parallel: [{ wait: 1s }, { notify: { receiver: a, text: "{{ steps.cold.outcome }}" } }]
---
playbook: grow
inputs: { to: { type: integer } }
steps: [{ action: scale, with: { replicas: "{{ inputs.to }}" } }]
"#;

fn configuration() -> String {
    format!(
        "format: 1\n{ADAPTERS}receivers: [{{ name: a }}]\ndeployments:\n  \
         - {{ id: web, adapter: local, labels: {{ tier: web }}, target: {{ command: [x] }} }}\n  \
         - {{ id: db, adapter: tiny, labels: {{ tier: db }}, checks: [{{ tcp: a:1, every: 20s }}] }}\n"
    )
}

fn policy(playbooks: &str) -> Policy {
    good(&[("playbooks/p.yaml", playbooks), ("selfheal.yaml", &configuration())])
}

fn wrong(playbooks: &str) -> Vec<Diagnostic> {
    mistakes(&[("playbooks/p.yaml", playbooks), ("selfheal.yaml", &configuration())])
}

#[test]
fn steps_are_read_whole() {
    let policy = policy(PLAYBOOKS);
    let whole = &policy.playbooks["whole"];
    assert_eq!((whole.mode, whole.on_failure), (Mode::Approve, OnFailure::Undo));
    let [ask, again, ease, silence, grow, both, _] = whole.steps.as_slice() else { panic!("seven steps") };
    let StepKind::Approve(approve) = &ask.kind else { panic!("it asks") };
    assert_eq!(*approve, Approve { ask: Some("a".into()), by: "admin".into(), timeout: 20 * MINUTE });
    assert_eq!(ask.timeout, 20 * MINUTE);
    assert!(matches!(&again.kind, StepKind::Approve(plain) if *plain == Approve::default()));
    let StepKind::SetCheck(set) = &ease.kind else { panic!("it relaxes") };
    assert_eq!((set.check.as_str(), set.timeout, set.for_), ("tcp", Some(2 * MINUTE), 60 * MINUTE));
    assert_eq!((set.every, set.failure_threshold, set.success_threshold), (None, Some(5), None));
    assert!(matches!(silence.kind, StepKind::Silence(span) if span == 30 * MINUTE));
    assert!(matches!(&grow.kind, StepKind::Playbook { name, with } if name.as_str() == "grow" && with.len() == 1));
    let StepKind::Parallel(branches) = &both.kind else { panic!("several at a time") };
    let ids: Vec<_> = branches.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["cold", "both-2", "both-3"]);
    assert!(both.can_be_undone() && branches[2].best_effort);
    let StepKind::Parallel(cleaning) = &whole.finally[0].kind else { panic!("several at a time") };
    assert_eq!(cleaning[1].id.as_str(), "finally-1-2");
    let verbs: Vec<_> = whole
        .all_steps()
        .filter_map(|(_, step)| match &step.kind {
            StepKind::Action { verb, .. } => Some(verb.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(verbs, ["restart", "rollback", "rollback"].map(Verb::new));
}

/// One playbook with these steps, at `playbooks/p.yaml:1`, and another one.
fn steps(steps: &str) -> String {
    format!(
        "{{ playbook: p, steps: [{steps}] }}\n---\n\
         {{ playbook: grow, inputs: {{ to: {{ type: integer }} }}, steps: [{{ wait: 1s }}] }}\n---\n\
         {{ playbook: off, enabled: false, steps: [{{ wait: 1s }}] }}\n---\n\
         {{ playbook: asks, steps: [{{ approve: {{}} }}] }}\n---\n\
         {{ playbook: far, steps: [{{ playbook: asks }}] }}\n"
    )
}

#[test]
fn mistakes_of_steps() {
    let mut lines = Vec::new();
    for (text, expected) in [
        ("{ approve: { ask: b } }", "unknown-receiver 1:42"),
        ("{ approve: { by: aprover } }", "unknown-role 1:41"),
        ("{ approve: { by: viewer } }", "unknown-role 1:41"),
        ("{ approve: { timeout: 0s } }", "out-of-range 1:46"),
        ("{ approve: { timeout: 8d } }", "out-of-range 1:46"),
        ("{ approve: { timout: 1m } }", "unknown-key 1:37"),
        ("{ approve: {}, timeout: 1m }", "conflict 1:39"),
        ("{ approve: {}, best_effort: true }", "conflict 1:39"),
        ("{ set_check: { for: 1h, timeout: 9s } }", "missing-key 1:39"),
        ("{ set_check: { name: tcp, timeout: 9s } }", "missing-key 1:39"),
        ("{ set_check: { name: tcp, for: 1h } }", "missing-key 1:37"),
        ("{ set_check: { name: tpc, for: 1h, timeout: 9s } }", "unknown-check 1:45"),
        ("{ set_check: { name: tcp, for: 8d, timeout: 9s } }", "out-of-range 1:55"),
        ("{ set_check: { name: tcp, for: 1h, every: 1ms } }", "out-of-range 1:66"),
        ("{ set_check: { name: tcp, for: 1h, failure_threshold: 0 } }", "wrong-type 1:78"),
        ("{ silence: 0s }", "out-of-range 1:35"),
        ("{ silence: 8d }", "out-of-range 1:35"),
        ("{ playbook: gorw }", "unknown-playbook 1:36"),
        ("{ playbook: off }", "unknown-playbook 1:36"),
        ("{ playbook: grow }", "missing-input 1:36"),
        ("{ playbook: grow, with: { to: many } }", "wrong-type 1:54"),
        ("{ playbook: grow, with: { to: 1, too: 2 } }", "unknown-input 1:57"),
        ("{ playbook: p }", "cycle 1:36"),
        ("{ playbook: grow, with: { to: 1 }, retry: { attempts: 2 } }", "conflict 1:59"),
        ("{ check: tcp, with: { a: b } }", "conflict 1:38"),
        ("{ parallel: [] }", "out-of-range 1:36"),
        ("{ parallel: [{ wait: 1s }] }", "out-of-range 1:36"),
        ("{ parallel: { wait: 1s } }", "wrong-type 1:36"),
        ("{ parallel: [{ wait: 1s }, { approve: {} }] }", "conflict 1:53"),
        ("{ parallel: [{ wait: 1s }, { parallel: [{ wait: 1s }, { wait: 1s }] }] }", "conflict 1:53"),
        ("{ parallel: [{ wait: 1s }, { playbook: asks }] }", "conflict 1:63"),
        ("{ parallel: [{ wait: 1s }, { playbook: far }] }", "conflict 1:63"),
        ("{ parallel: [{ id: a, wait: 1s }, { id: a, wait: 1s }] }", "duplicate-name 1:64"),
        ("{ id: a, wait: 1s }, { parallel: [{ wait: 1s }, { id: a, wait: 1s }] }", "duplicate-name 1:78"),
        ("{ parallel: [{ id: a, wait: 1s }, { assert: 'steps.a.seconds < 9' }] }", "unknown-step 1:77"),
        ("{ parallel: [{ wait: 1s }, { action: restrat }] }", "unknown-verb 1:61"),
    ] {
        lines.push((text, in_file("playbooks/p.yaml", expected), wrong(&steps(text))));
    }
    assert_lines(lines);
}

#[test]
fn playbooks_that_run_each_other_in_a_circle_are_named() {
    let found = wrong(
        "{ playbook: a, steps: [{ playbook: b }] }\n---\n\
         { playbook: b, steps: [{ parallel: [{ wait: 1s }, { playbook: c }] }] }\n---\n\
         { playbook: c, steps: [{ wait: 1s }], finally: [{ playbook: a }] }\n",
    );
    assert_eq!(places(&found), ["cycle playbooks/p.yaml:5:61"]);
    assert!(found[0].message.ends_with("a → b → c → a"), "{}", found[0].message);
}

#[test]
fn a_misspelt_playbook_is_suggested() {
    let found = wrong(&steps("{ playbook: gorw }"));
    assert_eq!(found[0].help.as_deref(), Some("did you mean `grow`?"));
    let disabled = wrong(&steps("{ playbook: off }"));
    assert!(disabled[0].message.contains("disabled"), "{}", disabled[0].message);
}

#[test]
fn verbs_of_steps_inside_steps_must_be_possible_too() {
    let rule = "rules:\n  - { alert: A, when: 'last(\"x\") > 1', remediate: [outer] }\n";
    for (outer, fits) in [
        ("{ parallel: [{ wait: 1s }, { action: scale, with: { replicas: 1 } }] }", false),
        ("{ parallel: [{ wait: 1s }, { action: scale, with: { replicas: 1 }, best_effort: true }] }", true),
        ("{ best_effort: true, parallel: [{ wait: 1s }, { action: scale, with: { replicas: 1 } }] }", true),
        ("{ playbook: inner }", false),
        ("{ playbook: inner, best_effort: true }", true),
        ("{ parallel: [{ wait: 1s }, { playbook: middle }] }", false),
    ] {
        let playbooks = format!(
            "{{ playbook: outer, steps: [{outer}] }}\n---\n{{ playbook: middle, steps: [{{ playbook: inner }}] }}\n---\n\
             {{ playbook: inner, steps: [{{ action: scale, with: {{ replicas: 1 }} }}] }}\n"
        );
        let files =
            [("playbooks/p.yaml", playbooks.as_str()), ("rules/a.yaml", rule), ("selfheal.yaml", &configuration())];
        let found = compiled(&files).err().unwrap_or_default();
        let expected: &[&str] = if fits { &[] } else { &["missing-verb rules/a.yaml:2:52"] };
        assert_eq!(places(&found), expected, "{outer}");
    }
}

#[test]
fn rules_that_steps_inside_steps_count_must_be_there() {
    let found = wrong(&steps("{ parallel: [{ wait: 1s }, { assert: 'firing(\"Nothing\") == 0' }] }"));
    assert_eq!(places(&found), ["unknown-rule playbooks/p.yaml:1:70"]);
}
