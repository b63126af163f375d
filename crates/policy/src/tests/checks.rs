//! Checks: each kind read whole, and every mistake with its words.

use super::{good, mistakes};
use selfheal_contract::diagnostic::Level;
use selfheal_model::{Check, CheckKind, Confidence, DnsRecord, Reach, Trust};

fn policy(check: &str) -> String {
    format!("format: 1\nreceivers: [{{ name: a }}]\ndeployments:\n  - id: web\n    checks:\n      - {check}\n")
}

/// The only check of a policy without a mistake, and what is warned of.
fn read(check: &str) -> (Check, Vec<String>) {
    let text = policy(check);
    let policy = good(&[("selfheal.yaml", &text)]);
    let warnings = policy.warnings.iter().filter(|one| one.code != "nobody-is-told");
    let warnings = warnings.map(|one| format!("{}: {}", one.code, one.message)).collect();
    (policy.deployments["web"].checks[0].clone(), warnings)
}

#[test]
fn every_kind_is_read_whole() {
    let (tls, warnings) = read(
        "{ tls: 'shop.test:443', server_name: shop.example.com, ca_file: ca.pem, servers: [10.0.0.1, '[::1]:5353'], connect_timeout: 1s }",
    );
    let servers = vec!["10.0.0.1:53".parse().expect("v4"), "[::1]:5353".parse().expect("v6")];
    let reach = Reach { address: None, servers: servers.clone() };
    let expected = CheckKind::Tls {
        address: "shop.test:443".to_owned(),
        server_name: Some("shop.example.com".to_owned()),
        trust: Trust::Authorities("ca.pem".into()),
        reach: reach.clone(),
    };
    assert_eq!((tls.name.as_str(), tls.kind, warnings), ("tls", expected, vec![]));
    let (dns, warnings) =
        read("{ dns: _sip._tcp.test., record: SRV, expect: '1 2 5060 sip.test', servers: [10.0.0.1, '[::1]:5353'] }");
    let expected = CheckKind::Dns {
        name: "_sip._tcp.test.".to_owned(),
        record: DnsRecord::Srv,
        expect: vec!["1 2 5060 sip.test".to_owned()],
        servers,
    };
    assert_eq!((dns.name.as_str(), dns.kind, warnings), ("dns", expected, vec![]));
    let (http, warnings) =
        read("{ http: 'https://shop.test/', address: '10.0.0.5:8443', ca_file: ca.pem, follow_redirects: true }");
    let CheckKind::Http { follow_redirects, trust, reach, .. } = http.kind else { panic!("{:?}", http.kind) };
    assert_eq!((follow_redirects, trust), (true, Trust::Authorities("ca.pem".into())));
    assert_eq!((reach.address.as_deref(), warnings), (Some("10.0.0.5:8443"), vec![]));
    let (command, warnings) = read("{ command: [x], min_confidence: 0.8 }");
    assert_eq!((Some(command.min_confidence), warnings), (Confidence::new(0.8), vec![]));
    for check in [
        "{ tls: '127.0.0.1:{{ port }}' }",
        "{ tls: 'a:1', server_name: 'r{{ replica }}.test' }",
        "{ tcp: 'a:1', address: '127.0.0.1:{{ port }}' }",
        "{ http: 'http://a', address: '127.0.0.1:{{ port }}' }",
        "{ dns: 'r{{ replica }}.test' }",
    ] {
        assert!(read(check).0.per_replica(), "{check}");
    }
    assert!(!read("{ dns: r.test }").0.per_replica());
    assert!(matches!(read("{ dns: 10.0.0.1, record: PTR }").0.kind, CheckKind::Dns { record: DnsRecord::Ptr, .. }));
}

#[test]
fn what_has_no_effect_or_is_not_safe_is_warned_of() {
    for (check, warning) in [
        ("{ tls: 'a:1', verify: false }", "unverified: the server's certificate is not verified: anybody could answer"),
        ("{ http: 'http://a', ca_file: x }", "no-effect: this URL is not encrypted: no certificate is shown"),
        ("{ tcp: 'a:1', connect_timeout: 5s }", "no-effect: the whole try ends before this, after `timeout: 5s`"),
        (
            "{ http: 'http://a', min_confidence: 1 }",
            "no-effect: an http check is always sure; only commands say how much",
        ),
    ] {
        assert_eq!(read(check).1, [warning], "{check}");
    }
}

#[test]
fn every_mistake_is_told_once_and_with_a_way_out() {
    for (check, message, help) in [
        ("{ tcp: 'a:1', body: x }", "a tcp check has no key `body`", Some("`body` is a key of http checks")),
        (
            "{ http: 'http://a', server_name: x }",
            "an http check has no key `server_name`",
            Some("`server_name` is a key of tls checks"),
        ),
        (
            "{ dns: a, connect_timeout: 1s }",
            "a dns check has no key `connect_timeout`",
            Some("`connect_timeout` is a key of http, tcp, tls checks"),
        ),
        (
            "{ command: [x], servers: [10.0.0.1] }",
            "a command check has no key `servers`",
            Some("`servers` is a key of http, tcp, tls, dns checks"),
        ),
        ("{ tls: 'a:1', expect: [x] }", "a tls check has no key `expect`", Some("`expect` is a key of dns checks")),
        ("{ dns: a, recrod: MX }", "a check has no key `recrod`", Some("did you mean `record`?")),
        (
            "{ dns: a, record: AAA }",
            "`AAA` is none of A, AAAA, CNAME, MX, TXT, NS, SRV, PTR, SOA",
            Some("did you mean `AAAA`?"),
        ),
        ("{ dns: 'http://a' }", "`http://a` is no name, such as shop.example.com", None),
        (
            "{ dns: 10.0.0.1 }",
            "`10.0.0.1` is an address; only a PTR record is asked by one",
            Some("write `record: PTR`, or a name"),
        ),
        ("{ dns: a, expect: [b.test] }", "`b.test` is never an answer: an A record holds an IPv4 address", None),
        (
            "{ dns: a, record: MX, expect: [b.test] }",
            "`b.test` is never an answer: an MX record holds `PREFERENCE HOST` such as 10 mail.example.com",
            None,
        ),
        ("{ dns: a, record: CNAME, expect: [b c] }", "`b c` is never an answer: a CNAME record holds a name", None),
        (
            "{ dns: a, servers: [10.0.0.300] }",
            "`10.0.0.300` is no address of a name server",
            Some("write an IP address, with its port where that is not 53: 10.0.0.1:5353"),
        ),
        (
            "{ dns: a, servers: ['10.0.0.1:99999'] }",
            "`10.0.0.1:99999` is no address of a name server",
            Some("write an IP address, with its port where that is not 53: 10.0.0.1:5353"),
        ),
        ("{ dns: a, servers: [10.0.0.1, '10.0.0.1:53'] }", "the name server 10.0.0.1:53 is listed twice", None),
        (
            "{ tcp: 'a:1', address: b.test }",
            "`b.test` is no IP address",
            Some("write 10.0.0.5 or 10.0.0.5:8443; a name goes where the check says whom it asks"),
        ),
        (
            "{ tcp: 'a:1', address: 10.0.0.1, servers: [10.0.0.1] }",
            "with `address` no name is resolved; these would never be asked",
            None,
        ),
        (
            "{ http: 'http://u:p@10.0.0.1:80/a@b', address: 10.0.0.2 }",
            "the URL names an address itself; `address` replaces resolving a name",
            None,
        ),
        (
            "{ http: 'http://[::1]/', address: 10.0.0.2 }",
            "the URL names an address itself; `address` replaces resolving a name",
            None,
        ),
        (
            "{ http: 'http://a:80/', address: '10.0.0.2:81' }",
            "the URL and `address` both name a port; leave it out of one of them",
            None,
        ),
        (
            "{ tls: 'a:1', verify: false, ca_file: x }",
            "`verify: false` trusts anybody; `ca_file` would never be read",
            None,
        ),
        ("{ tls: 'a:1', ca_file: '' }", "`ca_file` is empty", None),
        ("{ tls: 'a:1', server_name: 'a b' }", "`a b` is no name of a host, such as shop.example.com", None),
        ("{ tls: a }", "this takes host:port, not `a`", None),
        ("{ tls: ':443' }", "this takes host:port, not `:443`", None),
        ("{ tcp: 'a:1', connect_timeout: 0s }", "`connect_timeout` must be longer than 0s", None),
        ("{ command: [x], min_confidence: 80 }", "this takes a number from 0 to 1, not `80`", None),
        ("{ http: 'http://a', follow_redirects: yes }", "this takes true or false, not `yes`", None),
        ("{ every: 1s }", "a check says what it asks: one of http, tcp, tls, dns, command", None),
        ("{ tls: 'a:1', dns: a, record: X }", "a check is one of tls, dns, not several", None),
    ] {
        let found = mistakes(&[("selfheal.yaml", &policy(check))]);
        let found: Vec<_> = found
            .iter()
            .filter(|one| one.severity == Level::Error)
            .map(|one| (one.message.as_str(), one.help.as_deref()))
            .collect();
        assert_eq!(found, [(message, help)], "{check}");
    }
}
