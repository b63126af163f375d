//! The drill's fleet and its policy.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::anyhow;

use selfheal_contract::SourceFile;
use selfheal_model::{AdapterCatalog, AdapterSpec, Effectfulness, Map, VerbSpec};
use selfheal_policy::Policy;

/// Web and API deployments; every third stands in region us.
const WEB: usize = 90;
const API: usize = 80;
const CACHES: usize = 20;
/// Without the one alone and the two of a pair.
const DATABASES: usize = 6;
/// Those of the API that need `db-1`.
pub const DEPENDENTS: usize = 50;
/// All of them, and the one that rolls releases out.
pub const FLEET: usize = WEB + API + CACHES + DATABASES + 3 + 1;

const HEAD: &str = r#"format: 1
adapters:
  sim: { type: sim }
receivers:
  - name: oncall
    webhook: [{ url: "http://127.0.0.1:9/oncall" }]
    send: [firing, resolved, severity, approval, cured, not_cured, inconclusive, refused, exhausted]
route: { receiver: oncall, group_by: [alertname], group_wait: 10s, group_interval: 1m }
guards:
  start_grace: 0s
  blast_radius: { group_by: [tier, cell], min_healthy: 50%, max_at_once: 3 }
  velocity: { disrupt: 5/10m, group_by: [tier] }
deployments:
"#;

const RULES: &str = r#"rules:
  - alert: Down
    when: 'unhealthy("http")'
    clear_when: 'healthy("http")'
    for: 10s
    keep_firing_for: 1m
    severity: critical
    cooldown: 2m
    summary: "{{ deployment }} does not answer"
    remediate: [restart]
  - alert: NewVersionSick
    when: 'last("error_percent") > 20'
    severity: warning
    summary: "{{ deployment }} fails since its new version"
  - alert: BadRollout
    per: [region]
    when: 'firing("NewVersionSick") / deployments() > 0.3'
    clear_when: 'firing("NewVersionSick") / deployments() < 0.02'
    severity: critical
    summary: "a release is bad in {{ labels.region }}"
    remediate:
      - { playbook: roll-back, on: { firing: NewVersionSick }, batch: 2, pause: 15s, give_up: 4h }
  - alert: CacheMisses
    select: { tier: cache }
    when: 'last("miss_percent") > 50'
    severity: warning
    summary: "{{ deployment }} misses too often"
    remediate: [flush]
  - alert: DiskFull
    select: { tier: db }
    when: 'last("disk_percent") > 90'
    severity: warning
    summary: "the disk of {{ deployment }} is {{ value }} % full"
    value: 'last("disk_percent")'
    remediate: [{ playbook: expand, approval: required }]
"#;

const PLAYBOOKS: &str = r#"playbook: restart
steps:
  - { id: restart, action: restart, timeout: 1m }
verify: { until: 'healthy("http")', hold: 20s, within: 3m }
---
playbook: roll-back
steps:
  - { id: rollback, action: rollback, timeout: 1m }
verify: { until: 'last("error_percent") < 5', hold: 10s, within: 2m }
---
playbook: flush
description: It is wrong; that is the point of it
steps:
  - { id: flush, action: flush, timeout: 1m }
verify: { until: 'last("miss_percent") < 10', hold: 20s, within: 1m }
---
playbook: expand
steps:
  - { id: expand, action: expand, timeout: 1m }
"#;

/// One deployment as the drill has it.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub tier: &'static str,
    pub cell: &'static str,
    pub region: &'static str,
    pub needs: Option<&'static str>,
}

/// Every member, in order.
pub fn fleet() -> Vec<Member> {
    let region = |n: usize| if n.is_multiple_of(3) { "us" } else { "eu" };
    let of = |tier: &'static str, count: usize| {
        (1..=count).map(move |n| Member {
            id: format!("{tier}-{n}"),
            tier,
            cell: "main",
            region: region(n),
            needs: (tier == "api" && n <= DEPENDENTS).then_some("db-1"),
        })
    };
    let alone = |id: &str, cell| Member { id: id.to_owned(), tier: "db", cell, region: "eu", needs: None };
    of("web", WEB)
        .chain(of("api", API))
        .chain(of("cache", CACHES))
        .chain(of("db", DATABASES))
        .chain([alone("db-alone", "alone"), alone("db-left", "pair"), alone("db-right", "pair")])
        .chain([Member { id: "ci".to_owned(), tier: "tools", cell: "main", region: "none", needs: None }])
        .collect()
}

/// # Errors
/// The policy of the drill does not compile, which is a defect.
pub fn policy(members: &[Member]) -> anyhow::Result<Arc<Policy>> {
    let mut head = HEAD.to_owned();
    for member in members {
        let Member { id, tier, cell, region, needs } = member;
        let needs = needs.map(|needs| format!(", depends_on: [{needs}]")).unwrap_or_default();
        // a String takes all that is written to it
        let _ = writeln!(
            head,
            "  - {{ id: {id}, adapter: sim, labels: {{ tier: {tier}, cell: {cell}, region: {region} }}{needs},\n      \
             checks: [{{ name: http, tcp: \"127.0.0.1:9\", every: 10s, failure_threshold: 2, success_threshold: 2 }}] }}"
        );
    }
    let files = [("selfheal.yaml", head.as_str()), ("rules/fleet.yaml", RULES), ("playbooks/fleet.yaml", PLAYBOOKS)];
    let files = files.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    let compiled = selfheal_policy::compile(&files, &Simulated, &|_| None, &|_| None);
    compiled
        .map(Arc::new)
        .map_err(|diagnostics| anyhow!("{}", selfheal_contract::diagnostic::render(&diagnostics, false)))
}

/// The drill's only type of adapter.
struct Simulated;

impl AdapterCatalog for Simulated {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["sim"]
    }

    fn describe(&self, _kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        let verb = |name: &str| VerbSpec {
            verb: name.into(),
            params: None,
            effect: Effectfulness::Disrupt,
            idempotent: false,
            settle: None,
        };
        Ok(AdapterSpec {
            options: Vec::new(),
            target: None,
            verbs: ["restart", "rollback", "flush", "expand"].map(verb).to_vec(),
        })
    }
}
