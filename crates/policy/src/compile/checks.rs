//! `checks:` of a deployment: what every check has. What only one kind has is in `kinds`.

mod kinds;

use std::time::Duration;

use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::yaml::Node;
use crate::schema;
use selfheal_model::{Check, CheckKind, CheckName, Confidence};

/// The shortest rhythm of a check.
pub(crate) const MIN_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn read(reader: &Reader<'_>, node: &Node) -> Vec<Check> {
    let mut names = Defined::default();
    reader.list(node, "a list of checks").iter().filter_map(|node| check(reader, node, &mut names)).collect()
}

fn check(reader: &Reader<'_>, node: &Node, names: &mut Defined) -> Option<Check> {
    let keys = Keys::of(reader, &schema::CHECK, node)?;
    let present = keys.alternatives();
    let name = match keys.get("name") {
        Some(node) => reader.text(node),
        None => present.first().map(|kind| (*kind).to_owned()),
    };
    let name = name.filter(|name| {
        let span = keys.section("name").map_or(node.span, |node| node.span);
        names.add(reader, "check", name, span)
    });
    let kind = kinds::read(reader, &keys, &present);
    let every = keys.duration("every");
    if every < MIN_EVERY
        && let Some(node) = keys.section("every")
    {
        reader.error(node.span, "out-of-range", "a check runs every 100ms at most");
    }
    let timeout = keys.duration("timeout");
    let connect_timeout = connect_timeout(reader, &keys, timeout);
    let retries = keys.count("retries");
    let retry_delay = keys.duration("retry_delay");
    let failure_threshold = keys.count("failure_threshold");
    let success_threshold = keys.count("success_threshold");
    let start_period = keys.duration("start_period");
    let longest = timeout * (retries + 1) + retry_delay * retries;
    if longest > every {
        let span = keys.section("timeout").map_or(node.span, |node| node.span);
        let message = format!(
            "one run of this check may take {}, longer than `every: {}`",
            selfheal_model::units::format_duration(longest),
            selfheal_model::units::format_duration(every)
        );
        reader.warn(span, "slow-check", message, None);
    }
    let min_confidence = min_confidence(reader, &keys, kind.as_ref());
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

fn connect_timeout(reader: &Reader<'_>, keys: &Keys<'_>, timeout: Duration) -> Option<Duration> {
    let node = keys.get("connect_timeout")?;
    let span = reader.duration(node)?;
    if span.is_zero() {
        reader.error(node.span, "out-of-range", "`connect_timeout` must be longer than 0s");
        return None;
    }
    if span >= timeout {
        let whole = selfheal_model::units::format_duration(timeout);
        reader.warn(node.span, "no-effect", format!("the whole try ends before this, after `timeout: {whole}`"), None);
    }
    Some(span)
}

fn min_confidence(reader: &Reader<'_>, keys: &Keys<'_>, kind: Option<&CheckKind>) -> Confidence {
    let Some(node) = keys.get("min_confidence") else { return Confidence::NONE };
    let Some(part) = reader.number(node) else { return Confidence::NONE };
    let Some(confidence) = Confidence::new(part) else {
        reader.wrong_type(node, "a number from 0 to 1");
        return Confidence::NONE;
    };
    if let Some(kind) = kind.filter(|kind| !matches!(kind, CheckKind::Command { .. })) {
        let article = kinds::with_article(kind.as_str());
        reader.warn(
            node.span,
            "no-effect",
            format!("{article} check is always sure; only commands say how much"),
            None,
        );
    }
    confidence
}
