//! Policies kept and compiled again from what was kept alone.

use super::good::full;
use super::{Catalog, files};
use crate::record::{Answers, PolicyRecord, RecordError, Recorded, compile_recording};

/// Literal secrets in every place and every style there is.
const SECRETS: &str = r#"format: 1
adapters:
  local: { type: full, key: planted-1 }
deployments:
  - id: checkout
    adapter: local
    target:
      command: [run]
      token: 'planted-2'
      env: { MODE: "${SET}" }
    auth:
      oauth2:
        grant: client_credentials
        token_url: "http://127.0.0.1:1/token"
        client_id: me
        client_secret: |
          planted-3
      deliver: { file: token }
  - id: other
    adapter: local
    target:
      command: [run, planted-free-text]
      token: >-
        planted-4
receivers:
  - name: oncall
    email:
      - to: [a@example.com]
        from: b@example.com
        smtp: { host: localhost, port: 25, tls: none, username: u, password: &p "planted-5" }
    webhook:
      - url: "http://127.0.0.1:1/x"
        secret: "d2hzZWNfcGxhbnRlZC02cGxhbnRlZC02cGxhbnRlZC02"
        headers: { Authorization: planted-7 }
route: { receiver: oncall }
"#;

fn recorded(texts: &[(&str, &str)], set: Option<&str>) -> Recorded {
    let env = |name: &str| match name {
        "SET" => set.map(str::to_owned),
        "PORT" => Some("2525".to_owned()),
        _ => None,
    };
    let file = |path: &str| (path == "there").then(|| "from-file".to_owned());
    compile_recording(&files(texts), &Catalog, &env, &file)
        .unwrap_or_else(|mistakes| panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)))
}

#[test]
fn what_is_kept_compiles_to_the_same_policy() {
    let Recorded { policy, record, answers } = recorded(&full(), Some("from-env"));
    let record = PolicyRecord::from_bytes(&record.to_bytes()).expect("a record");
    let answers = Answers::from_bytes(&answers.to_bytes()).expect("answers");
    let again = record.compile(&answers).expect("it compiled before");
    assert_eq!(again.version, policy.version);
    assert_eq!(again.deployments, policy.deployments);
    assert_eq!(again.adapters, policy.adapters);
    assert_eq!(again.settings, policy.settings);
    let hashes = |policy: &crate::Policy| -> Vec<u64> { policy.rules.values().map(|rule| rule.hash).collect() };
    assert_eq!(hashes(&again), hashes(&policy));
    let playbooks = |policy: &crate::Policy| -> Vec<u64> { policy.playbooks.values().map(|one| one.hash).collect() };
    assert_eq!(playbooks(&again), playbooks(&policy));
    assert_eq!(again.ladders.keys().collect::<Vec<_>>(), policy.ladders.keys().collect::<Vec<_>>());
}

#[test]
fn what_was_filled_in_is_part_of_the_version() {
    let version = |set: &str| recorded(&full(), Some(set)).policy.version;
    assert_eq!(version("a"), version("a"));
    assert_ne!(version("a"), version("b"));
}

#[test]
fn no_literal_secret_is_kept_and_what_is_left_compiles() {
    let Recorded { policy, record, answers } = recorded(&[("selfheal.yaml", SECRETS)], Some("from-env"));
    let kept = format!("{record:?}{}", zstd_text(&record.to_bytes()));
    for planted in
        ["planted-1", "planted-2", "planted-3", "planted-4", "planted-5", "d2hzZWNf", "planted-7", "from-env"]
    {
        assert!(!kept.contains(planted), "{planted} is in the record: {record:#?}");
    }
    assert!(kept.contains("planted-free-text"), "only secrets are blanked");
    let again = record.compile(&answers).expect("it compiles without its secrets");
    assert_eq!(again.version, policy.version);
    assert_eq!(again.deployments.keys().collect::<Vec<_>>(), policy.deployments.keys().collect::<Vec<_>>());
}

fn zstd_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&zstd::stream::decode_all(&bytes[1..]).expect("compressed")).into_owned()
}

#[test]
fn what_is_no_record_is_refused_with_a_sentence() {
    assert_eq!(PolicyRecord::from_bytes(&[9, 1, 2]), Err(RecordError::Form(9)));
    assert!(matches!(PolicyRecord::from_bytes(&[]), Err(RecordError::Undecodable(_))));
    let Recorded { record, answers, .. } = recorded(&full(), Some("x"));
    let bytes = record.to_bytes();
    assert!(PolicyRecord::from_bytes(&bytes[..bytes.len() / 2]).is_err());
    let gone = Answers::default();
    assert!(matches!(record.compile(&gone), Err(RecordError::Mistakes(why)) if why.contains("SET")));
    assert!(record.compile(&answers).is_ok());
}

#[test]
fn a_record_with_a_rule_that_an_earlier_version_allowed_still_compiles() {
    let rule = |name: &str| format!("rules: [{{ alert: {name}, when: 'last(\"cpu_percent\") > 80' }}]\n");
    let with_rule = |name: &str| {
        let mut texts: Vec<(String, String)> =
            full().into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
        texts.push(("rules/own.yaml".to_owned(), rule(name)));
        texts
    };
    let texts = with_rule("Zebra");
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let Recorded { mut record, answers, .. } = recorded(&texts, Some("from-env"));
    // as a version wrote it that reserved fewer names
    for file in record.files.iter_mut().filter(|file| file.path == "rules/own.yaml") {
        file.text = rule("RunStuck");
    }
    let policy = record.compile(&answers).expect("what was accepted once is accepted by recovery");
    assert!(policy.rules.contains_key(&selfheal_model::RuleName::from("RunStuck")));
    let files: Vec<(&str, &str)> = record.files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let refused = super::mistakes(&files);
    assert!(refused.iter().any(|mistake| mistake.code == "reserved-name"), "{refused:?}");
}
