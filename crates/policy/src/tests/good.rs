//! Policies that compile, and what they become.

use std::time::Duration;

use serde_json::json;

use super::{good, places};
use crate::guards::{MinHealthy, Mode, Rate};
use crate::playbook::{InputKind, OnFailure, StepKind};
use crate::route::GroupBy;
use crate::rule::{NoData, RuleMode};
use crate::{Policy, UnknownDeployments};
use selfheal_contract::receiver::{Notifier, SmtpTls, WebhookFormat};
use selfheal_model::{AuthFetch, AuthFormat, AuthThen, CheckKind, HealthyWhen, SecretSource, Severity, Verb};
use selfheal_script::Param;

const CONFIGURATION: &str = r#"format: 1
x-common: &web { tier: web, region: no }
server: { listen: "0.0.0.0:9000", external_url: "http://heal.example.com/" }
data_dir: /var/lib/selfheal
unknown_deployments: reject
adapters:
  local: { type: full, endpoint: "${SET}", key: "${SET}", allow: { verbs: [restart, scale, rollback], select: { tier: web } } }
deployments:
  - id: checkout
    adapter: local
    labels: { <<: *web, version: 1.10 }
    depends_on: [db, { id: cache, when: ['alertname="CacheDown"'] }]
    healthy_when: 50%
    target:
      command: [run, "{{ port }}", 8080]
      replicas: 2
      ports: 9100-9119
      env: { MODE: production, PORT: 80 }
      token: "${file:/run/secret}"
      memory: 512MiB
      ready: { http: "http://127.0.0.1:{{ port }}/health", within: 30s }
    checks:
      - { name: http, http: "http://127.0.0.1:{{ port }}/health", every: 10s, timeout: 2s, connect_timeout: 1s,
          retries: 2, retry_delay: 500ms, failure_threshold: 3, success_threshold: 2, start_period: 20s, method: post,
          headers: { A: b }, body: "{}", status: [200, 204], body_matches: "ok|fine", verify: true }
      - { tcp: "127.0.0.1:{{ port }}", every: 10s }
      - { name: script, command: [./check.sh, "{{ replica }}"] }
    auth:
      oauth2:
        grant: client_credentials
        token_url: https://id.example.com/token
        client_id: checkout
        client_secret: "${NOT_SET_NOW}"
        scopes: [a, b]
      deliver: { file: token.json, format: json }
      then: reload
    settings: { response_ms: 900 }
receivers:
  - name: oncall
    email: { to: oncall@example.com }
    webhook:
      - { url: "https://hooks.example.com/x", format: slack, secret: "${HOOK}", headers: { Authorization: "Bearer ${SET}" } }
      - { url: "https://hooks.example.com/y", template: text.j2, timeout: 3s }
    send: [firing, cured]
    rate: 30/1m
    max_age: 2h
  - name: nobody
smtp: { host: smtp.example.com, tls: tls, username: u, password: "${SMTP_PASSWORD}", port: "${PORT}" }
from: Selfheal <selfheal@example.com>
route:
  receiver: oncall
  group_by: [deployment, alertname]
  routes:
    - { matchers: ['severity="critical"'], group_wait: 0s, continue: true }
    - receiver: nobody
      matchers: ['tier=~"db|cache"']
      routes: [{ matchers: ['region="eu"'], group_by: ['...'] }]
guards:
  mode: observe
  max_event_age: 1m
  start_grace: 0s
  act_after: 1s
  grace: 30s
  per_deployment: { rate: 5/30m }
  max_running: 2
  blast_radius: { group_by: [tier, region], min_healthy: 2, max_at_once: 1 }
settings: { cpu_percent: { warning: 70 }, window: "5m", old: 6h, budget: 2GiB, odd: 1500ms, on: true }
"#;

const DEPLOYMENTS: &str = "deployments:\n  - { id: db, labels: { tier: db } }\n  - { id: cache }\n";

const RULES: &str = r#"settings:
  cpu_percent: { warning: 80, critical: 95 }
  response_ms: 500
defaults: { for: 2m, labels: { team: a, area: b }, cooldown: 30m }
ladders:
  exhaustion: [scale, restart]
rules:
  - alert: HighCpu
    description: sustained
    select: ['region=~"eu|us|no"']
    value: 'avg("cpu_percent", "5m")'
    when: |
      value > settings.cpu_percent.warning
    clear_when: 'value < 60'
    keep_firing_for: 1m
    no_data: alert
    severity: critical
    cooldown: null
    labels: { team: ml }
    summary: "{{ deployment }}: {{ value }} %"
    annotations: { runbook_url: "https://example.com/{{ deployment }}" }
    remediate: [{ playbook: restart, with: { grace: 5s }, if: 'value > 90', give_up: 5m }, scale]
    mode: shadow
  - alert: HighMemory
    select: { tier: web }
    value: 'last("memory_percent")'
    levels:
      critical:
        when: 'value > 95'
        clear_when: 'value < 90'
        for: 1m
        remediate: [restart]
      info: 'value > 60'
      warning: 'value > 80'
    remediate: exhaustion
  - { alert: Fleet, per: [], when: 'firing("HighCpu") / deployments() > 0.3' }
  - { alert: Off, enabled: false, when: 'last("x") > 1' }
"#;

const PLAYBOOKS: &str = r#"playbook: restart
description: Restart, and see that it answers again
inputs: { grace: { type: duration, default: 10s }, mode: { type: string, enum: [soft, hard], default: soft } }
steps:
  - { id: logs, action: rollback, with: { to: 1.10 }, best_effort: true, timeout: 10s }
  - id: restart
    action: restart
    with: { grace: "{{ inputs.grace }}" }
    timeout: 60s
    retry: { attempts: 3, backoff: 1s..20s }
    if: 'fact("replicas") > 0'
    undo: { action: scale, with: { replicas: 1 } }
  - wait: 30s
  - wait: { until: 'healthy("http")', within: 1m }
  - { assert: 'last("x") < 5', message: "still {{ last('x') }}" }
  - check: http
  - notify: { receiver: oncall, text: "restarted {{ deployment }}" }
  - signal: { name: restarted, fields: { by: selfheal, count: 3 } }
on_failure: undo
rescue:
  - notify: { receiver: oncall, text: "failed: {{ failed.message }}" }
finally:
  - { id: calm, wait: 1s }
verify: { until: 'healthy("http")', hold: 20s, within: 3m }
---
playbook: scale
mode: observe
steps:
  - { action: scale, with: { replicas: "{{ fact('replicas') + 1 }}", memory: 1GiB } }
"#;

pub(super) fn full() -> Vec<(&'static str, &'static str)> {
    vec![
        ("deployments/more.yaml", DEPLOYMENTS),
        ("playbooks/all.yaml", PLAYBOOKS),
        ("rules/all.yaml", RULES),
        ("rules/functions.rhai", "fn twice(x) { x * 2 }\n"),
        ("selfheal.yaml", CONFIGURATION),
        ("templates/text.j2", "{{ status }}"),
        ("tests/ignored.yaml", "nonsense: [\n"),
    ]
}

#[test]
fn the_configuration_is_read_whole() {
    let policy = good(&full());
    assert_eq!(
        (policy.server.listen.as_str(), policy.server.external_url.as_str()),
        ("0.0.0.0:9000", "http://heal.example.com")
    );
    assert_eq!(policy.data_dir.to_str(), Some("/var/lib/selfheal"));
    assert_eq!(policy.unknown_deployments, UnknownDeployments::Reject);
    let adapter = &policy.adapters["local"];
    assert_eq!(adapter.options["endpoint"], "from-env");
    assert_eq!(adapter.options["key"], "${SET}", "a secret stays a reference");
    assert_eq!(adapter.allow.verbs, Some(["restart", "scale", "rollback"].map(Verb::new).to_vec()));
    let guards = &policy.guards;
    assert_eq!(guards.mode, Mode::Observe);
    assert_eq!(guards.start_grace, Duration::ZERO);
    assert_eq!(guards.per_deployment, Rate { count: 5, window: Duration::from_secs(1800) });
    assert_eq!((guards.max_running, guards.blast_radius.max_at_once), (2, 1));
    assert_eq!(guards.blast_radius.min_healthy, MinHealthy::Count(2));
    assert_eq!(
        json!(*policy.settings),
        json!({
            "cpu_percent": { "warning": 70, "critical": 95 }, "response_ms": 500, "window": "5m", "old": 21600,
            "budget": 2_147_483_648_u64, "odd": 1.5, "on": true
        })
    );
    assert_eq!(policy.settings_for(Some(&"checkout".into()))["response_ms"], 900);
    assert_eq!(policy.version.len(), 16);
}

#[test]
fn a_deployment_is_read_whole() {
    let policy = good(&full());
    assert_eq!(policy.deployments.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["cache", "checkout", "db"]);
    let checkout = &policy.deployments["checkout"];
    assert_eq!(checkout.labels.get("region"), Some("no"), "text keeps its spelling");
    assert_eq!(checkout.labels.get("version"), Some("1.10"));
    assert_eq!(checkout.labels.get("tier"), Some("web"));
    assert_eq!(checkout.healthy_when, HealthyWhen::Ratio(0.5));
    let needs: Vec<_> = checkout.depends_on.iter().map(|needs| (needs.on.as_str(), needs.when.is_some())).collect();
    assert_eq!(needs, [("db", false), ("cache", true)]);
    assert_eq!(
        json!(checkout.target),
        json!({
            "command": ["run", "{{ port }}", "8080"], "replicas": 2, "ports": "9100-9119",
            "env": { "MODE": "production", "PORT": "80" }, "token": "${file:/run/secret}", "memory": "512MiB",
            "ready": { "http": "http://127.0.0.1:{{ port }}/health", "within": "30s" }
        })
    );
    let [http, tcp, command] = checkout.checks.as_slice() else { panic!("three checks") };
    assert_eq!((http.retries, http.failure_threshold, http.success_threshold), (2, 3, 2));
    assert_eq!(http.start_period, Duration::from_secs(20));
    assert!(matches!(&http.kind, CheckKind::Http { method, status, .. } if method == "POST" && status == &[200, 204]));
    assert_eq!(tcp.name.as_str(), "tcp");
    assert!(tcp.per_replica() && command.per_replica());
    let auth = checkout.auth.as_ref().expect("it has auth");
    assert_eq!((auth.format, auth.then), (AuthFormat::Json, AuthThen::Reload));
    let AuthFetch::ClientCredentials { client_secret, scopes, .. } = &auth.fetch else { panic!("{:?}", auth.fetch) };
    assert!(client_secret.source() == &SecretSource::Env("NOT_SET_NOW".to_owned()));
    assert_eq!(scopes, &["a", "b"]);
}

#[test]
fn receivers_and_routes_are_read_whole() {
    let policy = good(&full());
    let oncall = &policy.receivers["oncall"];
    let [Notifier::Email(mail), Notifier::Webhook(slack), Notifier::Webhook(own)] = oncall.notifiers.as_slice() else {
        panic!("{:?}", oncall.notifiers)
    };
    assert_eq!((mail.smtp.port, mail.smtp.tls), (2525, SmtpTls::Tls));
    assert_eq!(mail.from, "Selfheal <selfheal@example.com>");
    assert!(mail.smtp.password.as_ref().map(|one| one.source()) == Some(&SecretSource::Env("SMTP_PASSWORD".into())));
    assert_eq!(slack.format, WebhookFormat::Slack);
    assert!(slack.headers[0].1.source() == &SecretSource::Literal("Bearer from-env".to_owned()));
    assert_eq!(own.template.as_ref().map(|named| named.1.as_str()), Some("{{ status }}"));
    assert_eq!((oncall.send.len(), oncall.rate.count, oncall.max_age), (2, 30, Duration::from_secs(7200)));
    let route = &policy.route;
    assert_eq!(route.group_wait, Duration::from_secs(10));
    assert_eq!(route.routes[0].receiver.as_str(), "oncall", "filled in from the parent");
    assert_eq!((route.routes[0].group_wait, route.routes[0].continue_), (Duration::ZERO, true));
    let inner = &route.routes[1].routes[0];
    assert_eq!((inner.path.as_str(), inner.receiver.as_str()), ("0/1/0", "nobody"));
    assert_eq!(inner.group_by, GroupBy::All);
}

#[test]
fn rules_and_their_ladders_are_read_whole() {
    let policy = good(&full());
    assert_eq!(policy.rules.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["Fleet", "HighCpu", "HighMemory"]);
    let cpu = &policy.rules["HighCpu"];
    assert_eq!(cpu.levels.len(), 1);
    let level = &cpu.levels[0];
    assert_eq!((level.severity, level.for_), (Severity::Critical, Duration::from_secs(120)));
    assert!(level.clear_when.is_some() && cpu.value.is_some() && cpu.summary.is_some());
    assert_eq!((cpu.no_data, cpu.mode, cpu.cooldown), (NoData::Alert, RuleMode::Shadow, Duration::ZERO));
    assert_eq!((cpu.labels.get("team"), cpu.labels.get("area")), (Some("ml"), Some("b")));
    assert_eq!((cpu.source.file.as_ref(), cpu.source.line), ("rules/all.yaml", 8));
    let memory = &policy.rules["HighMemory"];
    let severities: Vec<_> = memory.levels.iter().map(|level| level.severity).collect();
    assert_eq!(severities, Severity::ALL);
    assert_eq!(memory.levels[2].for_, Duration::from_secs(60));
    assert!(policy.rules["Fleet"].per.is_empty());

    let rungs = |rule: &str, severity| {
        let ladder = policy.ladders.get(&(rule.into(), severity))?;
        Some(ladder.rungs.iter().map(|rung| rung.playbook.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(rungs("HighCpu", Severity::Critical), Some(vec!["restart".into(), "scale".into()]));
    assert_eq!(rungs("HighMemory", Severity::Critical), Some(vec!["restart".into()]));
    assert_eq!(rungs("HighMemory", Severity::Warning), Some(vec!["scale".into(), "restart".into()]));
    assert_eq!(rungs("HighMemory", Severity::Info), None, "info repairs only with its own ladder");
    let rung = &policy.ladders[&("HighCpu".into(), Severity::Critical)].rungs[0];
    assert!(matches!(&rung.with[0], (name, Param::Literal(value)) if name == "grace" && value == "5s"));
    assert!(rung.if_.is_some() && rung.give_up == Duration::from_secs(300));
}

#[test]
fn playbooks_are_read_whole() {
    let policy = good(&full());
    let restart = &policy.playbooks["restart"];
    assert_eq!(restart.inputs[0].kind, InputKind::Duration);
    assert_eq!(restart.inputs[0].default, Some(json!("10s")));
    assert_eq!(restart.inputs[1].one_of, [json!("soft"), json!("hard")]);
    let ids: Vec<_> = restart.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["logs", "restart", "step-3", "step-4", "step-5", "step-6", "step-7", "step-8"]);
    assert_eq!(restart.rescue[0].id.as_str(), "rescue-1");
    let StepKind::Action { with, .. } = &restart.steps[0].kind else { panic!("an action") };
    assert!(matches!(&with[0].1, Param::Literal(value) if value == "1.10"), "text keeps its spelling");
    let step = &restart.steps[1];
    assert!(matches!(&step.kind, StepKind::Action { with, .. } if matches!(with[0].1, Param::Template(_))));
    assert_eq!((step.retry.attempts, step.retry.backoff_max), (3, Duration::from_secs(20)));
    assert!(step.undo.is_some() && step.if_.is_some());
    assert!(matches!(restart.steps[2].kind, StepKind::Wait(span) if span == Duration::from_secs(30)));
    assert!(matches!(&restart.steps[7].kind, StepKind::Signal { fields, .. } if fields.len() == 2));
    assert_eq!(restart.on_failure, OnFailure::Undo);
    assert_eq!((restart.verify.hold, restart.verify.within), (Duration::from_secs(20), Duration::from_secs(180)));
    assert_eq!(policy.playbooks["scale"].mode, Mode::Observe);
    assert_ne!(restart.hash, policy.playbooks["scale"].hash);
}

#[test]
fn what_is_left_out_has_sensible_defaults_and_nobody_told_is_a_warning() {
    let policy = good(&[("selfheal.yaml", "format: 1\n")]);
    assert_eq!(policy.server.listen, "127.0.0.1:9494");
    assert_eq!(places(&policy.warnings), ["nobody-is-told selfheal.yaml:1:1"]);
    assert!(policy.receivers[&policy.route.receiver].notifiers.is_empty());
    let policy = good(&[("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\n# route:\nguards:\n")]);
    assert_eq!(policy.route.receiver.as_str(), "a");
    assert!(policy.warnings.is_empty());
}

#[test]
fn the_empty_policy_is_that_of_the_shortest_file() {
    let (empty, shortest) = (Policy::empty(), good(&[("selfheal.yaml", "format: 1\n")]));
    assert_eq!(empty.server, shortest.server);
    assert_eq!((empty.data_dir, empty.storage), (shortest.data_dir, shortest.storage));
    assert_eq!((empty.receivers, empty.route), (shortest.receivers, shortest.route));
    assert_eq!((empty.guards, empty.intake), (shortest.guards, shortest.intake));
    assert_eq!(empty.unknown_deployments, shortest.unknown_deployments);
    assert!(shortest.rules.is_empty() && shortest.playbooks.is_empty() && shortest.deployments.is_empty());
}

#[test]
fn the_version_follows_every_byte_of_every_file() {
    let version = |text: &str| good(&[("selfheal.yaml", text)]).version;
    assert_eq!(version("format: 1\n"), version("format: 1\n"));
    assert_ne!(version("format: 1\n"), version("format: 1 \n"));
}

#[test]
fn a_rules_hash_changes_with_what_decides_its_answer_only() {
    let hash = |from: &str, to: &str| {
        let mut files = full();
        let rules = RULES.replace(from, to);
        let configuration = CONFIGURATION.replace(from, to);
        for (path, text) in &mut files {
            match *path {
                "rules/all.yaml" => *text = rules.clone().leak(),
                "selfheal.yaml" => *text = configuration.clone().leak(),
                _ => {}
            }
        }
        good(&files).rules["HighCpu"].hash
    };
    let before = hash("", "");
    assert_eq!(before, hash("sustained", "long"));
    assert_eq!(before, hash("runbook_url", "book"));
    assert_ne!(before, hash("'value < 60'", "'value < 50'"));
    assert_ne!(before, hash("eu|us|no", "eu|no"));
    assert_ne!(before, hash("warning: 70", "warning: 75"));
}

#[test]
fn storage_has_defaults_and_bounds() {
    let of = |text: &str| good(&[("selfheal.yaml", &format!("format: 1\n{text}"))]).storage;
    assert_eq!(of(""), crate::StorageRules::default());
    let all = of("storage:\n  durability: 100ms\n  journal: { keep: 1d }\n  history: { max_size: 1GiB }\n");
    assert_eq!(all.durability, crate::Durability::Interval(std::time::Duration::from_millis(100)));
    assert_eq!(all.journal.age, std::time::Duration::from_secs(86_400));
    assert_eq!(all.history.size, selfheal_model::Bytes(1 << 30));
}

#[test]
fn what_holds_people_back_is_read_as_alertmanager_writes_it() {
    let text = r#"format: 1
receivers: [{ name: a }]
time_intervals: [{ name: nights, time_intervals: [{}] }]
mute_time_intervals: [{ name: holidays, time_intervals: [{}] }]
route:
  receiver: a
  routes:
    - matchers: ['tier="web"']
      mute_time_intervals: [nights, holidays]
      routes: [{ active_time_intervals: [holidays] }]
inhibit_rules:
  - { source_matchers: ['severity="critical"'], target_matchers: ['severity="warning"'], equal: [deployment] }
  - { target_matchers: ['tier="db"'] }
"#;
    let policy = good(&[("selfheal.yaml", text)]);
    assert_eq!(policy.time_intervals.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["holidays", "nights"]);
    let web = &policy.route.routes[0];
    assert_eq!((web.hours.mute.len(), web.hours.active.len()), (2, 0));
    assert_eq!((web.routes[0].hours.mute.len(), web.routes[0].hours.active.len()), (0, 1), "hours are not inherited");
    let [first, second] = policy.inhibit_rules.as_slice() else { panic!("two rules") };
    assert_eq!((first.equal.as_slice(), first.source.0.len()), (["deployment".into()].as_slice(), 1));
    assert!(second.source.matches(&Default::default()), "no matchers are everything");
}
