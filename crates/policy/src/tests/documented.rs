//! Every example of `docs/policy.md` compiles, all of them as one policy.

use super::{Diagnostic, files};
use crate::{Policy, compile};
use selfheal_contract::diagnostic;
use selfheal_model::{AdapterCatalog, AdapterSpec, Effectfulness, FieldKind, FieldSpec, Map, Verb, VerbSpec};

pub(super) const DOCUMENT: &str = include_str!("../../../../docs/policy.md");

/// What the examples name and no example defines.
const ELSE: &str = "playbook: scale-up
inputs: { add: { type: integer, default: 1 } }
steps: [{ action: scale, with: { replicas: 3 } }]
---
{ playbook: scale-out, inputs: { add: { type: integer } }, steps: [{ action: scale, with: { replicas: 3 } }] }
---
{ playbook: rollback, steps: [{ action: rollback }] }
---
{ playbook: backup, inputs: { keep: { type: integer, default: 7 } }, steps: [{ wait: 1s }] }
";
const MORE_DEPLOYMENTS: &str =
    "- { id: payments-db, labels: { tier: db } }\n- { id: ci, adapter: local, labels: { tier: ci } }\n";
const MORE_RULES: &str = "rules: [{ alert: NewVersionSick, when: 'unhealthy(\"http\")' }]\n";

/// Takes every option and target: what adapters take is theirs to document.
struct AnyAdapter;

impl AdapterCatalog for AnyAdapter {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["process", "exec"]
    }

    fn describe(&self, _kind: &str, options: &Map) -> Result<AdapterSpec, String> {
        let option = |(name, _): (&String, _)| FieldSpec::optional(name, FieldKind::Any, "anything");
        let verb = |name: &str| VerbSpec {
            verb: Verb::new(name),
            params: None,
            effect: Effectfulness::Change,
            idempotent: false,
            settle: None,
        };
        let verbs = ["restart", "scale", "rollback", "logs"].map(verb).to_vec();
        Ok(AdapterSpec { options: options.iter().map(option).collect(), target: None, verbs })
    }
}

/// The blocks of YAML, each with the heading it stands under.
fn blocks(document: &str) -> Vec<(&str, String)> {
    let (mut heading, mut blocks, mut open) = ("", Vec::<(&str, String)>::new(), false);
    for line in document.lines() {
        match line {
            "```yaml" => {
                open = true;
                blocks.push((heading, String::new()));
            }
            "```" => open = false,
            _ if open => {
                if let Some((_, block)) = blocks.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            _ if line.starts_with("## ") => heading = line,
            _ => {}
        }
    }
    blocks
}

pub(super) fn documented(document: &str) -> Result<Policy, Vec<Diagnostic>> {
    let of = |heading: &str, separator: &str| {
        let blocks = blocks(document).into_iter().filter(|(under, _)| *under == heading).map(|(_, block)| block);
        blocks.collect::<Vec<_>>().join(separator)
    };
    // checks stand in a deployment: an example of them alone becomes one
    let configuration = of("## selfheal.yaml", "\n");
    let (checks, mut whole) = (configuration.find("\nchecks:\n"), configuration.clone());
    let mut deployments = MORE_DEPLOYMENTS.to_owned();
    if let Some(start) = checks {
        let end = configuration[start + 1..].find("\n\n").map_or(configuration.len(), |end| start + 1 + end);
        whole.replace_range(start..end, "");
        let inner: String = configuration[start + 1..end].lines().map(|line| format!("  {line}\n")).collect();
        deployments.push_str(&format!("- id: checked\n{inner}"));
    }
    let mut texts = vec![
        ("deployments/more.yaml".to_owned(), deployments),
        ("playbooks/doc.yaml".to_owned(), of("## Playbooks", "---\n")),
        ("playbooks/else.yaml".to_owned(), ELSE.to_owned()),
        ("rules/else.yaml".to_owned(), MORE_RULES.to_owned()),
        ("selfheal.yaml".to_owned(), whole),
    ];
    let rules = blocks(document).into_iter().filter(|(under, _)| *under == "## Rules");
    texts.extend(rules.enumerate().map(|(number, (_, text))| (format!("rules/doc-{number}.yaml"), text)));
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    compile(&files(&texts), &AnyAdapter, &|_| Some("set".to_owned()), &|_| None)
}

#[test]
fn every_example_of_the_document_compiles() {
    let policy = documented(DOCUMENT).unwrap_or_else(|found| panic!("{}", diagnostic::render(&found, false)));
    assert!(policy.schedules.len() >= 2 && policy.guards.overrides.len() == 1 && policy.playbooks.len() == 6);
}

#[test]
fn an_example_that_is_wrong_would_be_found() {
    for (right, wrong) in [("storm:", "strom:"), ("approval: required", "approval: require"), ("parallel:", "paralel:")]
    {
        assert!(DOCUMENT.contains(right));
        assert!(documented(&DOCUMENT.replace(right, wrong)).is_err(), "{wrong}");
    }
}
