//! Every mistake with its code and place.

use selfheal_contract::BuiltInAlert;

use super::{Diagnostic, mistakes, places};

/// What a table expects and what came, for one line of it.
pub(super) type Line<'t> = (&'t str, String, Vec<Diagnostic>);

/// Shows every line of a table that is wrong, not only the first.
#[track_caller]
pub(super) fn assert_lines(lines: Vec<Line<'_>>) {
    let wrong: Vec<String> = lines
        .into_iter()
        .filter(|(_, expected, found)| places(found) != [expected.clone()])
        .map(|(text, expected, found)| format!("{text}\n  expected {expected}\n  found {:?}", places(&found)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `code 3:4` in a file as `code file:3:4`.
pub(super) fn in_file(file: &str, expected: &str) -> String {
    let (code, place) = expected.split_once(' ').expect("a code and a place");
    format!("{code} {file}:{place}")
}

pub(super) const ADAPTERS: &str = "adapters: { local: { type: full }, tiny: { type: small } }\n";

/// One configuration below `format: 1` and a receiver.
#[track_caller]
pub(super) fn configuration(cases: &[(&'static str, &str)]) {
    let line = |(text, expected): &(&'static str, &str)| {
        let whole = format!("format: 1\nreceivers: [{{ name: a }}]\n{text}");
        (*text, in_file("selfheal.yaml", expected), mistakes(&[("selfheal.yaml", &whole)]))
    };
    assert_lines(cases.iter().map(line).collect());
}

#[test]
fn of_the_configuration() {
    configuration(&[
        ("recievers: []\n", "unknown-key 3:1"),
        ("data_dir: a\ndata_dir: b\n", "duplicate-key 4:1"),
        ("data_dir:\n", "empty-value 3:1"),
        ("data_dir: [a]\n", "wrong-type 3:11"),
        ("data_dir: ${UNSET}\n", "unset-variable 3:11"),
        ("server: { listen: nowhere }\n", "wrong-type 3:19"),
        ("server: { tls: {} }\n", "not-built-yet 3:11"),
        ("unknown_deployments: refuse\n", "wrong-value 3:22"),
        ("adapters: { a: { type: fulll } }\n", "unknown-adapter-type 3:24"),
        ("adapters: { a: { type: docker } }\n", "not-built-yet 3:24"),
        ("adapters: { a: { type: full, endpiont: x } }\n", "unknown-key 3:30"),
        ("adapters: { a: { type: full, broken: true } }\n", "adapter 3:13"),
        ("adapters: { a: { type: full, allow: { verbs: [fly] } } }\n", "unknown-verb 3:46"),
        ("settings: { a: null }\n", "empty-value 3:16"),
    ]);
}

#[test]
fn of_what_comes_in() {
    configuration(&[
        ("sources: [{ url: http://x }]\n", "missing-key 3:13"),
        ("sources: [{ type: scrap, url: http://x }]\n", "wrong-value 3:19"),
        ("sources: [{ type: scrape }]\n", "missing-key 3:13"),
        ("sources: [{ type: scrape, url: x:9 }]\n", "wrong-type 3:32"),
        ("sources: [{ type: scrape, url: http://x, every: 1ms }]\n", "out-of-range 3:49"),
        ("sources: [{ type: scrape, url: http://x, only: cpu }]\n", "wrong-type 3:48"),
        ("sources: [{ type: scrape, url: http://x }, { type: scrape, url: http://x }]\n", "duplicate-name 3:65"),
        ("sources: [{ type: host }]\n", "missing-key 3:11"),
        ("sources: [{ type: host, url: http://x, labels: { deployment: a } }]\n", "conflict 3:11"),
        ("metrics: { a: {} }\n", "missing-key 3:12"),
        ("metrics: { a: { times: x } }\n", "wrong-type 3:24"),
        ("metrics: { a: { az: b } }\n", "unknown-key 3:17"),
        ("stale_after: 0s\n", "out-of-range 3:14"),
        ("deployment_from: []\n", "empty-value 3:18"),
    ]);
}

#[test]
fn of_time_intervals() {
    configuration(&[
        ("time_intervals: [{ time_intervals: [] }]\n", "missing-key 3:20"),
        ("time_intervals: [{ name: a }]\n", "missing-key 3:20"),
        ("time_intervals: [{ name: a, time_intervals: [{ weekdays: [mon] }] }]\n", "wrong-type 3:59"),
        ("time_intervals: [{ name: a, time_intervals: [{ weekdays: ['friday:monday'] }] }]\n", "wrong-type 3:59"),
        ("time_intervals: [{ name: a, time_intervals: [{ days_of_month: [0] }] }]\n", "wrong-type 3:64"),
        ("time_intervals: [{ name: a, time_intervals: [{ months: [13] }] }]\n", "wrong-type 3:57"),
        ("time_intervals: [{ name: a, time_intervals: [{ location: Mars }] }]\n", "wrong-value 3:58"),
        (
            "time_intervals: [{ name: a, time_intervals: [{ times: [{ start_time: '9:00', end_time: '10:00' }] }] }]\n",
            "wrong-type 3:70",
        ),
        (
            "time_intervals: [{ name: a, time_intervals: [{ times: [{ start_time: '22:00', end_time: '06:00' }] }] }]\n",
            "out-of-range 3:56",
        ),
    ]);
    let rule = "rules:\n  - alert: A\n    when: 'in_interval(\"nihgts\")'\n";
    let intervals = "format: 1\nreceivers: [{ name: a }]\ntime_intervals: [{ name: nights, time_intervals: [{}] }]\n";
    let found = mistakes(&[("selfheal.yaml", intervals), ("rules/a.yaml", rule)]);
    assert_eq!(places(&found), ["unknown-interval rules/a.yaml:3:25"]);
    assert_eq!(found[0].help.as_deref(), Some("did you mean `nights`?"));
}

#[test]
fn of_receivers_and_routes() {
    configuration(&[
        ("route: { receiver: b }\n", "unknown-receiver 3:20"),
        ("route: { group_wait: 1s }\n", "missing-key 3:10"),
        ("route: { receiver: a, matchers: [x=y] }\n", "conflict 3:23"),
        ("route: { receiver: a, routes: [{ matchers: [x] }] }\n", "matcher 3:45"),
        ("route: { receiver: a, routes: [{ recever: a }] }\n", "unknown-key 3:34"),
        ("route: { receiver: a, mute_time_intervals: [] }\n", "conflict 3:23"),
        ("route: { receiver: a, routes: [{ mute_time_intervals: [nights] }] }\n", "unknown-interval 3:56"),
        ("route: { receiver: a, routes: [{ active_time_intervals: [nights] }] }\n", "unknown-interval 3:58"),
        ("inhibit_rules: [{ equal: [a] }]\n", "missing-key 3:17"),
        ("inhibit_rules: [{ source_match: { a: b } }]\n", "not-built-yet 3:19"),
        ("inhibit_rules: [{ source_matchers: [x] }]\n", "matcher 3:37"),
        ("inhibit_rules: [{ target_matchers: [x=y], eqal: [a] }]\n", "unknown-key 3:43"),
        ("from: nobody\n", "wrong-type 3:7"),
        ("smtp: { host: h, tls: maybe }\n", "wrong-value 3:23"),
        ("smtp: { host: h, username: u }\n", "missing-key 3:9"),
    ]);
    let mut lines = Vec::new();
    for (receivers, expected) in [
        ("[{ name: a }, { name: a }]", "duplicate-name 2:34"),
        ("[{ name: a }, { name: b }]", "missing-key 1:1"),
        ("[{ email: [] }]", "missing-key 2:15"),
        ("[{ name: a, email: { to: a@b, from: a@b } }]", "missing-key 2:33"),
        ("[{ name: a, email: { to: a, from: a@b, smtp: { host: h } } }]", "wrong-type 2:37"),
        ("[{ name: a, email: { to: a@b, smtp: { host: h } } }]", "missing-key 2:33"),
        ("[{ name: a, webhook: { url: ftp://x } }]", "wrong-type 2:40"),
        ("[{ name: a, webhook: { url: http://x, format: slak } }]", "wrong-value 2:58"),
        ("[{ name: a, webhook: { url: http://x, template: no.j2 } }]", "unknown-template 2:60"),
        ("[{ name: a, send: [fireing] }]", "wrong-value 2:31"),
    ] {
        let whole = format!("format: 1\nreceivers: {receivers}\n");
        lines.push((receivers, in_file("selfheal.yaml", expected), mistakes(&[("selfheal.yaml", &whole)])));
    }
    assert_lines(lines);
}

#[test]
fn of_deployments() {
    let mut lines = Vec::new();
    for (deployment, expected) in [
        ("{ labels: {} }", "missing-key 4:7"),
        ("{ id: 'a b' }", "wrong-value 4:11"),
        ("{ id: a, adapter: locla }", "unknown-adapter 4:23"),
        ("{ id: a, target: {} }", "missing-key 4:22"),
        ("{ id: a, adapter: local }", "missing-key 4:23"),
        ("{ id: a, adapter: local, target: { command: [x], replicas: two } }", "wrong-type 4:64"),
        ("{ id: a, adapter: local, target: { command: [x], replica: 2 } }", "unknown-key 4:54"),
        ("{ id: a, adapter: local, target: { command: [x], ready: { htp: x } } }", "unknown-key 4:63"),
        ("{ id: a, adapter: local, target: { command: [x], ports: 9-1 } }", "wrong-type 4:61"),
        ("{ id: a, depends_on: [b] }", "unknown-deployment 4:27"),
        ("{ id: a, depends_on: [a] }", "cycle 4:27"),
        ("{ id: a, depends_on: [{ id: b, when: ['alertname=\"Down\"'] }] }", "unknown-deployment 4:33"),
        ("{ id: a, depends_on: [{ id: a }] }", "cycle 4:33"),
        ("{ id: a, depends_on: [{ when: [x=y] }] }", "missing-key 4:29"),
        ("{ id: a, depends_on: [{ id: z, wen: [x=y] }], healthy_when: all }, { id: z }", "unknown-key 4:36"),
        ("{ id: a, depends_on: [{ id: z, when: [] }] }, { id: z }", "empty-value 4:42"),
        ("{ id: a, depends_on: [{ id: z, when: [x] }] }, { id: z }", "matcher 4:43"),
        ("{ id: a, hooks: {} }", "not-built-yet 4:14"),
        ("{ id: a, labels: { a-b: c } }", "wrong-value 4:24"),
        ("{ id: a, labels: { severity: c } }", "reserved-name 4:24"),
        ("{ id: a, healthy_when: some }", "wrong-type 4:28"),
        ("{ id: a, checks: [{ name: x }] }", "missing-key 4:23"),
        ("{ id: a, checks: [{ http: http://x, tcp: a:1 }] }", "conflict 4:23"),
        ("{ id: a, checks: [{ tls: a }] }", "wrong-type 4:30"),
        ("{ id: a, checks: [{ dns: a, tls: a:1, record: MX }] }", "conflict 4:23"),
        ("{ id: a, checks: [{ tcp: a:1, body: x }] }", "unknown-key 4:35"),
        ("{ id: a, checks: [{ tcp: a:1, every: 0s }] }", "out-of-range 4:42"),
        ("{ id: a, checks: [{ http: x }] }", "wrong-type 4:31"),
        ("{ id: a, checks: [{ http: http://x, body_matches: '(' }] }", "wrong-value 4:55"),
        ("{ id: a, checks: [{ http: http://x, failure_threshold: 0 }] }", "wrong-type 4:60"),
        ("{ id: a, checks: [{ tcp: a:1 }, { tcp: a:2 }] }", "duplicate-name 4:37"),
        ("{ id: a, auth: { deliver: { file: x } } }", "missing-key 4:20"),
        ("{ id: a, auth: { command: [x] } }", "missing-key 4:22"),
        ("{ id: a, auth: { command: [x], deliver: { file: x, format: xml } } }", "wrong-value 4:64"),
        ("{ id: a, auth: { http: { url: http://x }, deliver: { file: x }, then: wait } }", "wrong-value 4:75"),
    ] {
        let list = deployment.replace("}, { id: z", "}\n  - { id: z");
        let text = format!("format: 1\n{ADAPTERS}deployments:\n  - {list}\nreceivers: [{{ name: a }}]\n");
        lines.push((deployment, in_file("selfheal.yaml", expected), mistakes(&[("selfheal.yaml", &text)])));
    }
    assert_lines(lines);
    let found = mistakes(&[
        ("deployments/a.yaml", "- { id: a, depends_on: [b] }\n- { id: b, depends_on: [c] }\n"),
        ("deployments/b.yaml", "deployments:\n  - { id: c, depends_on: [a] }\n  - { id: a }\n"),
        ("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\n"),
    ]);
    assert_eq!(places(&found), ["cycle deployments/b.yaml:2:27", "duplicate-name deployments/b.yaml:3:11"]);
}

#[test]
fn a_rule_cannot_have_the_name_of_a_built_in_alert() {
    for alert in BuiltInAlert::ALL {
        let found = with_rule(&format!("{{ alert: {alert}, when: 'last(\"x\") > 1' }}"));
        assert_eq!(places(&found), ["reserved-name rules/a.yaml:2:14"], "{alert}");
    }
}

/// A whole policy with one more rule, at `rules/a.yaml:2`.
pub(super) fn with_rule(rule: &str) -> Vec<Diagnostic> {
    let configuration = format!(
        "format: 1\n{ADAPTERS}receivers: [{{ name: a }}]\ndeployments:\n  \
         - {{ id: web, adapter: local, labels: {{ tier: web }}, target: {{ command: [x] }} }}\n  \
         - {{ id: db, adapter: tiny, labels: {{ tier: db }} }}\n"
    );
    let rules = format!("rules:\n  - {rule}\n{OTHER_RULES}ladders: {{ both: [restart], restart-too: [restart] }}\n");
    mistakes(&[("playbooks/p.yaml", PLAYBOOKS), ("rules/a.yaml", &rules), ("selfheal.yaml", &configuration)])
}

const OTHER_RULES: &str = "  - { alert: Other, select: { tier: web }, when: 'last(\"x\") > 1' }
  - { alert: Fleet, per: [], when: 'last(\"x\") > 1' }
  - { alert: Off, enabled: false, when: 'last(\"x\") > 1' }
";
const PLAYBOOKS: &str = "playbook: restart
inputs: { grace: { type: duration, default: 1s }, how: { type: string, enum: [soft, hard], default: soft } }
steps: [{ action: restart, with: { grace: \"{{ inputs.grace }}\" } }]
---
playbook: scale
inputs: { to: { type: integer } }
steps: [{ action: scale, with: { replicas: \"{{ inputs.to }}\" } }]
---
{ playbook: both, steps: [{ action: restart }] }
---
{ playbook: off, enabled: false, steps: [{ action: restart }] }
";

#[test]
fn of_rules() {
    let mut lines = Vec::new();
    for (rule, expected) in [
        ("{ when: 'last(\"x\") > 1' }", "missing-key 2:7"),
        ("{ alert: A }", "missing-key 2:7"),
        ("{ alert: NoData, when: 'last(\"x\") > 1' }", "reserved-name 2:14"),
        ("{ alert: A, when: 'last(\"x\") > 1', severty: info }", "unknown-key 2:40"),
        ("{ alert: A, when: 'last(\"x\") > 1', severity: bad }", "wrong-value 2:50"),
        ("{ alert: A, when: 'last(\"x\") > 1', was: B }", "not-built-yet 2:40"),
        ("{ alert: A, when: 'last(\"x\") > 1', per: [a-b] }", "wrong-value 2:46"),
        ("{ alert: A, when: 'last(\"x\") > 1', select: { tier: [a] } }", "wrong-type 2:56"),
        ("{ alert: A, when: 'last(\"x\") > 1', select: ['tier'] }", "matcher 2:49"),
        ("{ alert: A, when: 'last(\"x\") > 1', for: 5 }", "wrong-type 2:45"),
        ("{ alert: A, when: 'last(\"x\") > 1', labels: { deployment: x } }", "reserved-name 2:50"),
        ("{ alert: A, when: 'last(\"x\") > 1', levels: { info: 'true' } }", "conflict 2:17"),
        ("{ alert: A, levels: { fatal: 'last(\"x\") > 1' } }", "unknown-key 2:27"),
        ("{ alert: A, levels: { info: { when: 'last(\"x\") > 1', whn: 1 } } }", "unknown-key 2:58"),
        ("{ alert: A, per: [], when: 'last(\"x\") > 1', remediate: [restart] }", "ladder-without-deployment 2:60"),
    ] {
        lines.push((rule, in_file("rules/a.yaml", expected), with_rule(rule)));
    }
    assert_lines(lines);
}

#[test]
fn of_ladders() {
    let mut lines = Vec::new();
    for (remediate, expected) in [
        ("[restat]", "unknown-playbook 2:75"),
        ("[off]", "unknown-playbook 2:75"),
        ("both", "ambiguous-name 2:74"),
        ("[]", "empty-value 2:74"),
        ("[{ playbook: restart, with: { grce: 1s } }]", "unknown-input 2:104"),
        ("[{ playbook: restart, with: { grace: soon } }]", "wrong-type 2:111"),
        ("[{ playbook: restart, with: { how: gently } }]", "wrong-value 2:109"),
        ("[{ playbook: restart, give_up: 0s }]", "out-of-range 2:105"),
        ("[scale]", "missing-input 2:75"),
        ("[{ playbook: scale, with: { to: many } }]", "wrong-type 2:106"),
    ] {
        let rule = format!("{{ alert: A, select: {{ tier: web }}, when: 'last(\"x\") > 1', remediate: {remediate} }}");
        lines.push((remediate, in_file("rules/a.yaml", expected), with_rule(&rule)));
    }
    assert_lines(lines);
}

#[test]
fn a_rung_the_adapter_of_a_selected_deployment_cannot_do_is_named() {
    let rung = "[{ playbook: scale, with: { to: 3 } }]";
    let found = with_rule(&format!("{{ alert: A, when: 'last(\"x\") > 1', remediate: {rung} }}"));
    assert_eq!(places(&found), ["missing-verb rules/a.yaml:2:64"]);
    for word in ["scale", "tiny", "db"] {
        assert!(found[0].message.contains(word), "{}", found[0].message);
    }
}

#[test]
fn of_playbooks() {
    let mut lines = Vec::new();
    for (playbook, expected) in [
        ("{ playbook: p }", "missing-key 1:3"),
        ("{ steps: [{ wait: 1s }] }", "missing-key 1:3"),
        ("{ playbook: p, steps: [] }", "empty-value 1:23"),
        ("{ playbook: p, steps: [{ wait: 1s }], mode: aprove }", "wrong-value 1:45"),
        ("{ playbook: p, steps: [{ action: restrat }] }", "unknown-verb 1:34"),
        ("{ playbook: p, steps: [{ action: restart, with: { grce: 1s } }] }", "unknown-key 1:51"),
        ("{ playbook: p, steps: [{ action: restart, with: { grace: 5 } }] }", "wrong-type 1:58"),
        ("{ playbook: p, steps: [{ action: scale }] }", "missing-key 1:34"),
        ("{ playbook: p, steps: [{ action: restart, deployment: x }] }", "unknown-deployment 1:55"),
        ("{ playbook: p, steps: [{ action: scale, deployment: db, with: { replicas: 1 } }] }", "unknown-verb 1:53"),
        ("{ playbook: p, steps: [{ action: restart, wait: 1s }] }", "conflict 1:24"),
        ("{ playbook: p, steps: [{ timeout: 1s }] }", "missing-key 1:24"),
        ("{ playbook: p, steps: [{ wait: 1s, retry: { attempts: 2 } }] }", "conflict 1:36"),
        ("{ playbook: p, steps: [{ action: restart, retry: { backoff: 9s..1s } }] }", "wrong-type 1:61"),
        ("{ playbook: p, steps: [{ id: a, wait: 1s }, { id: a, wait: 1s }] }", "duplicate-name 1:51"),
        ("{ playbook: p, steps: [{ id: 'a b', wait: 1s }] }", "wrong-value 1:30"),
        ("{ playbook: p, steps: [{ wait: { within: 1s } }] }", "missing-key 1:34"),
        ("{ playbook: p, steps: [{ check: htp }] }", "unknown-check 1:33"),
        ("{ playbook: p, steps: [{ notify: { receiver: b, text: x } }] }", "unknown-receiver 1:46"),
        ("{ playbook: p, steps: [{ signal: { fields: {} } }] }", "missing-key 1:36"),
        ("{ playbook: p, steps: [{ wait: 1s }], on_failure: undo }", "conflict 1:51"),
        ("{ playbook: p, steps: [{ wait: 1s }], verify: { hold: 5m, within: 1m } }", "conflict 1:55"),
        ("{ playbook: p, inputs: { a: { type: text } }, steps: [{ wait: 1s }] }", "wrong-value 1:37"),
        ("{ playbook: p, inputs: { a: { type: integer, default: x } }, steps: [{ wait: 1s }] }", "wrong-type 1:55"),
        ("{ playbook: p, inputs: { a-b: { type: integer } }, steps: [{ wait: 1s }] }", "wrong-value 1:26"),
    ] {
        let configuration = format!(
            "format: 1\n{ADAPTERS}receivers: [{{ name: a }}]\ndeployments: [{{ id: db, adapter: tiny, checks: [{{ tcp: a:1, every: 20s }}] }}]\n"
        );
        lines.push((
            playbook,
            in_file("playbooks/p.yaml", expected),
            mistakes(&[("playbooks/p.yaml", playbook), ("selfheal.yaml", &configuration)]),
        ));
    }
    assert_lines(lines);
}

#[test]
fn names_are_unique_across_files_and_the_first_place_is_named() {
    let rule = "rules:\n  - { alert: A, when: 'last(\"x\") > 1' }\n";
    let found = mistakes(&[
        ("rules/a.yaml", rule),
        ("rules/b.yaml", rule),
        ("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\n"),
    ]);
    assert_eq!(places(&found), ["duplicate-name rules/b.yaml:2:14"]);
    assert!(found[0].message.contains("rules/a.yaml:2"), "{}", found[0].message);
}

#[test]
fn a_setting_set_in_two_rules_files_is_told_of() {
    let found = mistakes(&[
        ("rules/a.yaml", "settings: { cpu: { warning: 1 } }\n"),
        ("rules/b.yaml", "settings: { cpu: { critical: 1, warning: 2 } }\n"),
        ("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\nsettings: { cpu: { warning: 3 } }\n"),
    ]);
    assert_eq!(places(&found), ["duplicate-name rules/b.yaml:1:33"]);
}

#[test]
fn the_format_comes_first() {
    for (text, place) in
        [("", "1:1"), ("# nothing\n", "1:1"), ("data_dir: x\nformat: 1\n", "1:1"), ("format: 2\n", "1:9")]
    {
        let found = mistakes(&[("selfheal.yaml", text)]);
        let expected = format!("format selfheal.yaml:{place}");
        assert!(places(&found).contains(&expected), "{text:?} {found:#?}");
    }
    assert_eq!(places(&mistakes(&[])), ["missing-file selfheal.yaml:1:1"]);
}

#[test]
fn all_mistakes_come_together_in_order_with_suggestions() {
    let found = mistakes(&[
        ("rules/a.yaml", "rules:\n  - alert: A\n    when: 'last(\"x\") > 1'\n    severty: warning\n    fro: 5m\n"),
        ("selfheal.yaml", "format: 1\ndeployment: []\nreceivers: [{ name: a }]\n"),
    ]);
    assert_eq!(
        places(&found),
        ["unknown-key selfheal.yaml:2:1", "unknown-key rules/a.yaml:4:5", "unknown-key rules/a.yaml:5:5"]
    );
    let helps: Vec<_> = found.iter().filter_map(|one| one.help.as_deref()).collect();
    assert_eq!(helps, ["did you mean `deployments`?", "did you mean `severity`?", "did you mean `for`?"]);
    assert_eq!(found[1].length, 7);
}
