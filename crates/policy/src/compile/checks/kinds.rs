//! What a check asks: `http`, `tcp`, `tls`, `dns` or `command`, each with keys of its own.
//!
//! Invariant: a text without `{{ }}` that passes here can be asked; one with them is judged once it is filled in.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::compile::config::url;
use crate::compile::keys::Keys;
use crate::compile::reader::Reader;
use crate::compile::yaml::{Kind, Node};
use crate::schema;
use selfheal_model::{CheckKind, DnsRecord, Reach, Trust};

/// Name servers of one check, and answers it expects: every run asks and compares all of them.
const MAX_SERVERS: usize = 16;
const MAX_EXPECTED: usize = 64;
const DNS_PORT: u16 = 53;
/// Of a name and of each part of it, by the rules of DNS.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

pub(super) fn with_article(kind: &str) -> String {
    if kind == "http" { format!("an {kind}") } else { format!("a {kind}") }
}

pub(super) fn read(reader: &Reader<'_>, keys: &Keys<'_>, present: &[&'static str]) -> Option<CheckKind> {
    let [kind] = present else {
        let all = schema::CHECK.one_of.join(", ");
        match present {
            [] => reader.error(keys.span, "missing-key", format!("a check says what it asks: one of {all}")),
            several => {
                let message = format!("a check is one of {}, not several", several.join(", "));
                reader.error(keys.span, "conflict", message);
            }
        }
        return None;
    };
    refuse_others(reader, keys, kind);
    let node = keys.get(kind);
    match *kind {
        "http" => http(reader, keys, node?),
        "tcp" => Some(CheckKind::Tcp { address: host_and_port(reader, node?)?, reach: reach(reader, keys) }),
        "tls" => tls(reader, keys, node?),
        "dns" => dns(reader, keys, node?),
        _ => command(reader, node?),
    }
}

/// A key that belongs to other kinds of check is reported as such.
fn refuse_others(reader: &Reader<'_>, keys: &Keys<'_>, kind: &str) {
    for key in schema::CHECK.keys.iter().filter(|key| !key.only_with.is_empty() && !key.only_with.contains(&kind)) {
        if let Some(entry) = keys.written(key.name) {
            let message = format!("{} check has no key `{}`", with_article(kind), key.name);
            let help = format!("`{}` is a key of {} checks", key.name, key.only_with.join(", "));
            reader.error_with_help(entry.key_span, "unknown-key", message, help);
        }
    }
}

fn http(reader: &Reader<'_>, keys: &Keys<'_>, node: &Node) -> Option<CheckKind> {
    let address = reader.text(node).filter(|text| url(reader, node, text));
    let method = keys.text_or_default("method");
    let headers = keys.section("headers").and_then(|node| reader.text_map(node)).unwrap_or_default();
    let body = keys.text("body");
    let status = keys.get("status").and_then(|node| status(reader, node)).unwrap_or_default();
    let body_matches = keys.text("body_matches");
    if let (Some(pattern), Some(node)) = (&body_matches, keys.section("body_matches"))
        && let Err(why) = regex_lite::Regex::new(pattern)
    {
        reader.error(node.span, "wrong-value", format!("this is no regular expression: {why}"));
    }
    let follow_redirects = keys.boolean("follow_redirects");
    let trust = trust(reader, keys);
    let reach = reach(reader, keys);
    let address = address?;
    if let (Some(fixed), Some(node)) = (&reach.address, keys.section("address")) {
        replaceable(reader, node, &address, fixed);
    }
    if let Some(node) = keys.section("ca_file")
        && address.starts_with("http://")
        && !follow_redirects
    {
        reader.warn(node.span, "no-effect", "this URL is not encrypted: no certificate is shown", None);
    }
    let method = method.to_uppercase();
    Some(CheckKind::Http { url: address, method, headers, body, status, body_matches, follow_redirects, trust, reach })
}

/// `address` stands in for a name and, where the URL has none, for a port.
fn replaceable(reader: &Reader<'_>, node: &Node, url: &str, fixed: &str) {
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or("");
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        let message = "the URL names an address itself; `address` replaces resolving a name";
        reader.error(node.span, "conflict", message);
    } else if port.is_some() && fixed.parse::<SocketAddr>().is_ok() {
        reader.error(node.span, "conflict", "the URL and `address` both name a port; leave it out of one of them");
    }
}

fn status(reader: &Reader<'_>, node: &Node) -> Option<Vec<u16>> {
    let one = |node: &Node| reader.count(node, 100, 599).and_then(|code| u16::try_from(code).ok());
    match &node.kind {
        Kind::List(items) => items.iter().map(one).collect(),
        _ => one(node).map(|code| vec![code]),
    }
}

fn tls(reader: &Reader<'_>, keys: &Keys<'_>, node: &Node) -> Option<CheckKind> {
    let address = host_and_port(reader, node);
    let server_name = keys.get("server_name").and_then(|node| {
        let text = reader.text(node)?;
        if text.contains("{{") || text.parse::<IpAddr>().is_ok() || is_name(&text) {
            return Some(text);
        }
        reader.error(node.span, "wrong-value", format!("`{text}` is no name of a host, such as shop.example.com"));
        None
    });
    let (trust, reach) = (trust(reader, keys), reach(reader, keys));
    Some(CheckKind::Tls { address: address?, server_name, trust, reach })
}

fn dns(reader: &Reader<'_>, keys: &Keys<'_>, node: &Node) -> Option<CheckKind> {
    let words = DnsRecord::ALL.map(|record| (record.as_str(), record));
    let record = if keys.has("record") { keys.word("record", &words) } else { Some(DnsRecord::A) };
    let expect = keys.section("expect").and_then(|node| expected(reader, node, record?)).unwrap_or_default();
    let servers = servers(reader, keys);
    let name = reader.text(node)?;
    let is_address = name.parse::<IpAddr>().is_ok();
    if is_address && record.is_some_and(|record| record != DnsRecord::Ptr) {
        let message = format!("`{name}` is an address; only a PTR record is asked by one");
        reader.error_with_help(node.span, "wrong-value", message, "write `record: PTR`, or a name");
    } else if !is_address && !name.contains("{{") && !is_name(&name) {
        reader.error(node.span, "wrong-value", format!("`{name}` is no name, such as shop.example.com"));
    }
    Some(CheckKind::Dns { name, record: record?, expect, servers })
}

fn expected(reader: &Reader<'_>, node: &Node, record: DnsRecord) -> Option<Vec<String>> {
    let texts = reader.texts(node)?;
    if texts.len() > MAX_EXPECTED {
        reader.error(node.span, "out-of-range", format!("at most {MAX_EXPECTED} answers can be expected"));
    }
    let (what, good): (&str, fn(&str) -> bool) = match record {
        DnsRecord::A => ("an IPv4 address", |text| text.parse::<Ipv4Addr>().is_ok()),
        DnsRecord::Aaaa => ("an IPv6 address", |text| text.parse::<Ipv6Addr>().is_ok()),
        DnsRecord::Mx => ("`PREFERENCE HOST` such as 10 mail.example.com", |text| words(text) == 2),
        DnsRecord::Srv => ("`PRIORITY WEIGHT PORT HOST`", |text| words(text) == 4),
        DnsRecord::Soa => ("`HOST MAILBOX SERIAL REFRESH RETRY EXPIRE MINIMUM`", |text| words(text) == 7),
        DnsRecord::Cname | DnsRecord::Ns | DnsRecord::Ptr => ("a name", |text| words(text) == 1),
        DnsRecord::Txt => ("a text", |_| true),
    };
    for text in texts.iter().filter(|text| !text.contains("{{") && !good(text.trim())) {
        let message = format!("`{text}` is never an answer: {} record holds {what}", article_of(record));
        reader.error(node.span, "wrong-value", message);
    }
    Some(texts)
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn article_of(record: DnsRecord) -> String {
    let word = record.as_str();
    // as the letters are spoken
    let vowel = matches!(
        record,
        DnsRecord::A | DnsRecord::Aaaa | DnsRecord::Mx | DnsRecord::Ns | DnsRecord::Srv | DnsRecord::Soa
    );
    format!("{} {word}", if vowel { "an" } else { "a" })
}

fn command(reader: &Reader<'_>, node: &Node) -> Option<CheckKind> {
    let Kind::List(_) = node.kind else {
        reader.wrong_type(node, "a list: the program and its arguments");
        return None;
    };
    let command = reader.texts(node)?;
    if command.is_empty() {
        reader.error(node.span, "empty-value", "`command` names no program");
        return None;
    }
    Some(CheckKind::Command { command })
}

fn host_and_port(reader: &Reader<'_>, node: &Node) -> Option<String> {
    let address = reader.text(node)?;
    let parts = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = parts.map(|(_, port)| port.trim());
    if port.is_some_and(|port| port.contains("{{") || port.parse::<u16>().is_ok()) || address.ends_with("}}") {
        return Some(address);
    }
    reader.wrong_type(node, "host:port");
    None
}

/// `verify` and `ca_file`.
fn trust(reader: &Reader<'_>, keys: &Keys<'_>) -> Trust {
    let verify = keys.boolean("verify");
    let file = keys.get("ca_file").and_then(|node| reader.text(node));
    if let (false, Some(node)) = (verify, keys.section("verify")) {
        reader.warn(node.span, "unverified", "the server's certificate is not verified: anybody could answer", None);
    }
    match (verify, file, keys.section("ca_file")) {
        (false, Some(_), Some(node)) => {
            let message = "`verify: false` trusts anybody; `ca_file` would never be read";
            reader.error(node.span, "conflict", message);
            Trust::Anybody
        }
        (false, ..) => Trust::Anybody,
        (true, Some(file), Some(node)) if file.trim().is_empty() => {
            reader.error(node.span, "empty-value", "`ca_file` is empty");
            Trust::Platform
        }
        (true, Some(file), _) => Trust::Authorities(PathBuf::from(file)),
        (true, None, _) => Trust::Platform,
    }
}

/// `address` and `servers`.
fn reach(reader: &Reader<'_>, keys: &Keys<'_>) -> Reach {
    let address = keys.get("address").and_then(|node| {
        let text = reader.text(node)?;
        if text.contains("{{") || text.parse::<SocketAddr>().is_ok() || ip(&text).is_some() {
            return Some(text);
        }
        let message = format!("`{text}` is no IP address");
        let help = "write 10.0.0.5 or 10.0.0.5:8443; a name goes where the check says whom it asks";
        reader.error_with_help(node.span, "wrong-value", message, help);
        None
    });
    let servers = servers(reader, keys);
    if let (Some(_), Some(node)) = (&address, keys.section("servers").filter(|_| !servers.is_empty())) {
        reader.error(node.span, "conflict", "with `address` no name is resolved; these would never be asked");
    }
    Reach { address, servers }
}

fn servers(reader: &Reader<'_>, keys: &Keys<'_>) -> Vec<SocketAddr> {
    let Some(node) = keys.section("servers") else { return Vec::new() };
    let nodes: Vec<&Node> = match &node.kind {
        Kind::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    if nodes.len() > MAX_SERVERS {
        reader.error(node.span, "out-of-range", format!("at most {MAX_SERVERS} name servers are asked"));
    }
    let mut servers: Vec<SocketAddr> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(text) = reader.text(node) else { continue };
        let server = text.parse().ok().or_else(|| ip(&text).map(|ip| SocketAddr::new(ip, DNS_PORT)));
        match server.filter(|server| server.port() != 0) {
            None => {
                let message = format!("`{text}` is no address of a name server");
                let help = format!("write an IP address, with its port where that is not {DNS_PORT}: 10.0.0.1:5353");
                reader.error_with_help(node.span, "wrong-value", message, help);
            }
            Some(server) if servers.contains(&server) => {
                reader.error(node.span, "duplicate-name", format!("the name server {server} is listed twice"));
            }
            Some(server) => servers.push(server),
        }
    }
    servers
}

/// Also in the brackets of a URL.
fn ip(text: &str) -> Option<IpAddr> {
    let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    alone.parse().ok()
}

/// Whether it can be asked of a name server; `_` begins the names of services.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let letter = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= MAX_LABEL && label.chars().all(letter);
    name.len() <= MAX_NAME && name.split('.').all(label)
}
