//! `checks:` of a deployment.

use std::time::Duration;

use super::config::url;
use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::yaml::{Kind, Node};
use crate::model::{Check, CheckKind, CheckName, Confidence};

const EVERY: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_DELAY: Duration = Duration::from_millis(500);
const FAILURE_THRESHOLD: u32 = 3;
const SUCCESS_THRESHOLD: u32 = 2;
/// Tries inside one run, and verdicts in a row: beyond these a check never comes to an end.
const MAX_RETRIES: u32 = 20;
const MAX_THRESHOLD: u32 = 1000;
/// The shortest rhythm of a check.
const MIN_EVERY: Duration = Duration::from_millis(100);

const KINDS: [&str; 3] = ["http", "tcp", "command"];

pub(super) fn read(reader: &Reader<'_>, node: &Node) -> Vec<Check> {
    let mut names = Defined::default();
    reader.list(node, "a list of checks").iter().filter_map(|node| check(reader, node, &mut names)).collect()
}

fn check(reader: &Reader<'_>, node: &Node, names: &mut Defined) -> Option<Check> {
    let keys = Keys::of(reader, "check", node)?;
    let present: Vec<&str> = KINDS.into_iter().filter(|kind| keys.has(kind)).collect();
    let name = match keys.get("name") {
        Some(node) => reader.text(node),
        None => present.first().map(|kind| (*kind).to_owned()),
    };
    let name = name.filter(|name| {
        let span = keys.section("name").map_or(node.span, |node| node.span);
        names.add(reader, "check", name, span)
    });
    let kind = kind(reader, &keys, &present);
    let every = keys.positive_duration("every", EVERY);
    if every < MIN_EVERY
        && let Some(node) = keys.section("every")
    {
        reader.error(node.span, "out-of-range", "a check runs every 100ms at most");
    }
    let timeout = keys.positive_duration("timeout", TIMEOUT);
    let connect_timeout = keys.get("connect_timeout").and_then(|node| reader.duration(node));
    let retries = keys.count("retries", 0, MAX_RETRIES, 0);
    let retry_delay = keys.duration("retry_delay", RETRY_DELAY);
    let failure_threshold = keys.count("failure_threshold", 1, MAX_THRESHOLD, FAILURE_THRESHOLD);
    let success_threshold = keys.count("success_threshold", 1, MAX_THRESHOLD, SUCCESS_THRESHOLD);
    let start_period = keys.duration("start_period", Duration::ZERO);
    let longest = timeout * (retries + 1) + retry_delay * retries;
    if longest > every {
        let span = keys.section("timeout").map_or(node.span, |node| node.span);
        let message = format!(
            "one run of this check may take {}, longer than `every: {}`",
            crate::model::units::format_duration(longest),
            crate::model::units::format_duration(every)
        );
        reader.warn(span, "slow-check", message, None);
    }
    let min_confidence = keys.get("min_confidence").and_then(|node| confidence(reader, node)).unwrap_or_default();
    keys.finish(&["tls", "dns", "servers", "address", "server_name", "ca_file", "record", "expect"]);
    Some(Check {
        name: CheckName::from(name?),
        kind: kind?,
        every,
        timeout,
        connect_timeout,
        retries,
        retry_delay,
        failure_threshold,
        success_threshold,
        start_period,
        min_confidence,
    })
}

fn confidence(reader: &Reader<'_>, node: &Node) -> Option<Confidence> {
    let confidence = Confidence::new(reader.number(node)?);
    if confidence.is_none() {
        reader.wrong_type(node, "a number from 0 to 1");
    }
    confidence
}

fn kind(reader: &Reader<'_>, keys: &Keys<'_>, present: &[&str]) -> Option<CheckKind> {
    if keys.has("tls") || keys.has("dns") {
        // said by `finish`
        return None;
    }
    if present.len() != 1 {
        let message = match present {
            [] => "a check says what it asks: one of http, tcp, command".to_owned(),
            several => format!("a check is one of {}, not several", several.join(", ")),
        };
        reader.error(keys.span, if present.is_empty() { "missing-key" } else { "conflict" }, message);
    }
    let http = http(reader, keys);
    let tcp = keys.get("tcp").and_then(|node| {
        let address = reader.text(node)?;
        let port = address.rsplit_once(':').map(|(_, port)| port.trim());
        if !port.is_some_and(|port| port.contains("{{") || port.parse::<u16>().is_ok()) && !address.ends_with("}}") {
            reader.wrong_type(node, "host:port");
            return None;
        }
        Some(CheckKind::Tcp { address })
    });
    let command = keys.get("command").and_then(|node| {
        let command = match node.kind {
            Kind::List(_) => reader.texts(node)?,
            _ => {
                reader.wrong_type(node, "a list: the program and its arguments");
                return None;
            }
        };
        if command.is_empty() {
            reader.error(node.span, "empty-value", "`command` names no program");
            return None;
        }
        Some(CheckKind::Command { command })
    });
    match present {
        ["http"] => http,
        ["tcp"] => tcp,
        ["command"] => command,
        _ => None,
    }
}

/// The keys of an http check; all of them are asked for, so that one beside a `tcp:` is told of as what it is.
fn http(reader: &Reader<'_>, keys: &Keys<'_>) -> Option<CheckKind> {
    let address = keys.get("http").and_then(|node| {
        let text = reader.text(node)?;
        url(reader, node, &text).then_some(text)
    });
    if !keys.has("http") {
        return None;
    }
    let method = keys.text("method").unwrap_or_else(|| "GET".to_owned());
    let headers = keys.section("headers").and_then(|node| reader.text_map(node)).unwrap_or_default();
    let body = keys.text("body");
    let status = keys.get("status").and_then(|node| status(reader, node)).unwrap_or_default();
    let body_matches = keys.text("body_matches");
    if let (Some(pattern), Some(node)) = (&body_matches, keys.section("body_matches"))
        && let Err(why) = regex_lite::Regex::new(pattern)
    {
        reader.error(node.span, "wrong-value", format!("this is no regular expression: {why}"));
    }
    let verify = keys.boolean("verify", true);
    if let (false, Some(node)) = (verify, keys.section("verify")) {
        reader.warn(node.span, "unverified", "the server's certificate is not verified: anybody could answer", None);
    }
    Some(CheckKind::Http { url: address?, method: method.to_uppercase(), headers, body, status, body_matches, verify })
}

fn status(reader: &Reader<'_>, node: &Node) -> Option<Vec<u16>> {
    let one = |node: &Node| reader.count(node, 100, 599).and_then(|code| u16::try_from(code).ok());
    match &node.kind {
        Kind::List(items) => items.iter().map(one).collect(),
        _ => one(node).map(|code| vec![code]),
    }
}
