//! `remediations:` and `severities:`.

use std::time::Duration;

use super::mistakes::{ADAPTERS, assert_lines, in_file};
use super::{compiled, good, mistakes, places};
use crate::ladder::On;
use selfheal_model::{AlertKey, Labels, Severity};

const PLAYBOOKS: &str = "{ playbook: restart, steps: [{ action: restart }] }\n---\n\
                         { playbook: grow, steps: [{ action: scale, with: { replicas: 2 } }] }\n";

/// What is tried stands in line 6.
fn configuration(tried: &str) -> String {
    format!(
        "format: 1\n{ADAPTERS}receivers: [{{ name: a }}]\ndeployments:\n  \
         - {{ id: db, adapter: tiny, labels: {{ tier: db }} }}\n{tried}\n"
    )
}

fn key(labels: &[(&str, &str)]) -> AlertKey {
    AlertKey::posted(labels.iter().copied().collect())
}

#[test]
fn remediations_are_read_whole_and_the_first_that_matches_is_the_one() {
    let text = configuration(
        r#"ladders: { often: [restart, restart] }
severities: { page: critical, ticket: warning }
remediations:
  - { name: off, enabled: false, matchers: ['alertname=~".*"'], on: db, remediate: [restart] }
  - { name: one, matchers: ['alertname="PodDown"', 'team!="b"'], on: "{{ labels.pod }}", remediate: [restart], cooldown: 30m }
  - { name: rest, matchers: ['alertname=~".+"'], on: { select: { tier: db } }, remediate: often }
  - { name: own, matchers: ['alertname="Own"'], remediate: [{ playbook: restart, on: db, approval: required }] }"#,
    );
    let policy = good(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &text)]);
    assert!(policy.warnings.is_empty(), "{:?}", places(&policy.warnings));
    let name = |labels: &[(&str, &str)]| policy.remediations.of(&key(labels)).map(|one| one.name.to_string());
    assert_eq!(name(&[("alertname", "PodDown")]).as_deref(), Some("one"));
    assert_eq!(name(&[("alertname", "PodDown"), ("team", "b")]).as_deref(), Some("rest"));
    let own_rule = AlertKey { rule: "PodDown".into(), scope: Labels::default() };
    assert!(policy.remediations.of(&own_rule).is_none(), "a rule's alert has a ladder of its own or none");
    let one = policy.remediations.of(&key(&[("alertname", "PodDown")])).expect("it matches");
    assert_eq!((one.cooldown, one.ladder.rungs.len()), (Duration::from_secs(1800), 1));
    assert!(matches!(&one.ladder.rungs[0].on, Some(On::Deployment(_))));
    let rest = policy.ladder_of(&key(&[("alertname", "X")]), Severity::Info).expect("at every severity");
    assert_eq!(rest.rungs.len(), 2);
    assert!(matches!(&rest.rungs[1].on, Some(On::Select(_))));

    let severity = |word: &str| policy.severities.of(&[("severity", word)].into_iter().collect());
    assert_eq!(["page", "ticket", "critical", "info", "moon"].map(severity), {
        use Severity::{Critical, Info, Warning};
        [Critical, Warning, Critical, Info, Warning]
    });
    assert_eq!(policy.severities.of(&Labels::default()), Severity::Warning);
}

#[test]
fn mistakes_of_remediations() {
    let mut lines = Vec::new();
    for (tried, expected) in [
        ("{ matchers: [a=b], on: db, remediate: [restart] }", "missing-key 6:18"),
        ("{ name: r, on: db, remediate: [restart] }", "missing-key 6:18"),
        ("{ name: r, matchers: [], on: db, remediate: [restart] }", "empty-value 6:37"),
        ("{ name: r, matchers: [a], on: db, remediate: [restart] }", "matcher 6:38"),
        ("{ name: r, matchers: [a=b], remediate: [restart] }", "ladder-without-deployment 6:56"),
        ("{ name: r, matchers: [a=b], on: bd, remediate: [restart] }", "unknown-deployment 6:48"),
        ("{ name: r, matchers: [a=b], on: db }", "missing-key 6:18"),
        ("{ name: r, matchers: [a=b], on: db, remediate: [] }", "empty-value 6:63"),
        ("{ name: r, matchers: [a=b], on: db, remediate: [restrat] }", "unknown-playbook 6:64"),
        ("{ name: r, matchers: [a=b], on: db, remediate: [grow] }", "missing-verb 6:64"),
        ("{ name: r, matchers: [a=b], on: db, remediate: [restart], cooldwon: 1m }", "unknown-key 6:74"),
        ("{ name: r, matchers: [a=b], on: \"{{ lables.x }}\", remediate: [restart] }", "unknown-variable 6:52"),
    ] {
        let text = configuration(&format!("remediations: [{tried}]"));
        lines.push((
            tried,
            in_file("selfheal.yaml", expected),
            mistakes(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &text)]),
        ));
    }
    let twice = "{ name: r, matchers: [a=b], on: db, remediate: [restart] }";
    let text = configuration(&format!("remediations: [{twice}, {twice}]"));
    assert!(compiled(&[("playbooks/p.yaml", PLAYBOOKS), ("selfheal.yaml", &text)]).is_err(), "a name is there once");
    assert_lines(lines);
}

#[test]
fn mistakes_of_severities() {
    for (tried, expected) in [
        ("severities: [page]", "wrong-type 6:13"),
        ("severities: { page: loud }", "wrong-value 6:21"),
        ("severities: { warning: critical }", "conflict 6:15"),
    ] {
        let found = mistakes(&[("selfheal.yaml", &configuration(tried))]);
        assert_eq!(places(&found), [in_file("selfheal.yaml", expected)], "{tried}");
    }
}
