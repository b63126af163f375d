//! The demo's policy folder: the shipped rules and playbooks with their waiting times shortened, around one small
//! service in two releases.

use std::path::Path;

use anyhow::Context;

use crate::Files;

/// Where the demo's peers listen.
pub struct Peers {
    pub smtp_port: u16,
    pub webhook_url: String,
    pub token_url: String,
}

/// Conditions must hold only so long before an alert fires in the demo …
const FOR: &str = "2s";
/// … and a cure is proved by this much quiet instead of the shipped half minute.
const HOLD: &str = "3s";

/// Writes the folder.
///
/// # Errors
/// It cannot be written.
pub fn write(dir: &Path, shipped: &[Files], program: &str, peers: &Peers) -> anyhow::Result<()> {
    for (path, text) in shipped.iter().copied().flatten() {
        put(dir, path, &quicken(text))?;
    }
    put(dir, "playbooks/deploy.yaml", DEPLOY)?;
    put(dir, "shop/releases/v1/release.json", "{}\n")?;
    put(dir, "shop/releases/v2/release.json", "{ \"broken\": \"it cannot find its database\" }\n")?;
    let program = program.replace('\\', "\\\\").replace('"', "\\\"");
    let yaml = SELFHEAL_YAML
        .replace("@PROGRAM@", &program)
        .replace("@SMTP_PORT@", &peers.smtp_port.to_string())
        .replace("@WEBHOOK_URL@", &peers.webhook_url)
        .replace("@TOKEN_URL@", &peers.token_url);
    put(dir, "selfheal.yaml", &yaml)
}

fn put(dir: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let file = dir.join(path);
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Shortens every `for`, `hold` and `cooldown`, so that six faults fit into two minutes. Nothing else differs from
/// what is shipped.
fn quicken(text: &str) -> String {
    let timing = |name: &str, value: &str, text: &str| {
        let pattern = regex_lite::Regex::new(&format!(r"\b{name}: *[0-9][0-9a-z]*")).expect("a fixed pattern compiles");
        pattern.replace_all(text, format!("{name}: {value}")).into_owned()
    };
    let text = timing("for", FOR, text);
    let text = timing("hold", HOLD, &text);
    timing("cooldown", "1s", &text)
}

const DEPLOY: &str = r#"playbook: deploy
description: Put a version live, without waiting for it to be ready
inputs:
  version: { type: string }
steps:
  - id: switch
    action: rollback
    with: { to: "{{ inputs.version }}", force: true }
    timeout: 30s
"#;

const SELFHEAL_YAML: &str = r#"format: 1
server:
  listen: 127.0.0.1:0
  external_url: http://127.0.0.1:9494
data_dir: data
adapters:
  local: { type: process }
deployments:
  - id: shop
    adapter: local
    labels: { tier: web }
    target:
      command: ["@PROGRAM@", demo-service, --port, "{{ port }}"]
      dir: shop
      replicas: 2
      min_replicas: 1
      max_replicas: 4
      ports: 19100-19199
      env: { TOKEN_FILE: "../../token.json" }
      ready: { http: "http://127.0.0.1:{{ port }}/health", within: 5s }
      grace: 2s
      memory: 128MiB
    checks:
      - { name: http, http: "http://127.0.0.1:{{ port }}/health", every: 1s, timeout: 800ms,
          failure_threshold: 2, success_threshold: 1 }
    auth:
      oauth2:
        grant: client_credentials
        token_url: "@TOKEN_URL@"
        client_id: shop
        client_secret: demo
      deliver: { file: shop/token.json, format: json }
      then: nothing
receivers:
  - name: people
    email:
      - to: [oncall@example.com]
        from: selfheal@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none }
    webhook:
      - { url: "@WEBHOOK_URL@", secret: "whsec_c2VsZmhlYWwgZGVtbyBzaWduaW5nIGtleSE=" }
    send: [firing, resolved, severity, cured, not_cured, inconclusive, exhausted]
    rate: 60/1m
route:
  receiver: people
  group_by: [deployment, alertname]
  group_wait: 500ms
  group_interval: 1s
guards:
  start_grace: 0s
  act_after: 1s
  grace: 1s
  per_deployment: { rate: 30/1h }
  per_playbook: { rate: 30/1h }
  velocity: { disrupt: 30/10m }
  recurrence: { cured: 10, within: 24h }
settings:
  cpu_percent: { info: 14, warning: 15, critical: 90 }
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_times_are_shortened() {
        let text = "for: 2m\n{ for: 1m, hold: 30s, within: 5m }\ncooldown: 30m\nbefore: 5m\nkeep_firing_for: 1m";
        assert_eq!(
            quicken(text),
            "for: 2s\n{ for: 2s, hold: 3s, within: 5m }\ncooldown: 1s\nbefore: 5m\nkeep_firing_for: 1m"
        );
    }
}
