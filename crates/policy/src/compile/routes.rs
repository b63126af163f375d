//! `route:`, the routing tree; what a child leaves out comes from its parent.

use smol_str::SmolStr;

use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::receivers::NOBODY;
use super::yaml::Node;
use crate::TimeIntervals;
use crate::route::{GroupBy, Hours, Route};
use crate::schema;
use selfheal_model::ReceiverName;

/// Depth of the tree: it is walked by recursion.
const MAX_DEPTH: usize = 32;

/// What a route may name.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub receivers: &'a Defined,
    pub intervals: &'a TimeIntervals,
}

pub(crate) fn read(reader: &Reader<'_>, node: &Node, named: &Named<'_>) -> Route {
    let defaults = Route::root(NOBODY);
    let Some(keys) = Keys::of(reader, &schema::ROUTE, node) else { return defaults };
    for key in ["matchers", "continue", "mute_time_intervals", "active_time_intervals"] {
        if let Some(entry) = node.entries().unwrap_or_default().iter().find(|entry| entry.key == key) {
            let message = format!("the root route takes every alert at every time, so it has no `{key}`");
            reader.error_with_help(entry.key_span, "conflict", message, "put it into an entry of `routes:`");
        }
    }
    if !keys.has("receiver") {
        keys.missing("receiver");
    }
    route(reader, &keys, &defaults, "0".to_owned(), named, 0)
}

fn route(reader: &Reader<'_>, keys: &Keys<'_>, parent: &Route, path: String, named: &Named<'_>, depth: usize) -> Route {
    let mut own = parent.clone();
    own.routes.clear();
    own.path = path.as_str().into();
    if let Some(node) = keys.get("receiver")
        && let Some(name) = reader.text(node)
    {
        if !named.receivers.has(&name) {
            reader.unknown(node.span, "unknown-receiver", "receiver", &name, named.receivers.names());
        }
        own.receiver = ReceiverName::from(name);
    }
    if let Some(labels) = keys.section("group_by").and_then(|node| reader.texts(node)) {
        own.group_by = match labels.as_slice() {
            [all] if all == "..." => GroupBy::All,
            labels => GroupBy::Labels(labels.iter().map(Into::into).collect()),
        };
    }
    own.group_wait = keys.duration_or("group_wait", parent.group_wait);
    own.group_interval = keys.duration_or("group_interval", parent.group_interval);
    own.repeat_interval = keys.duration_or("repeat_interval", parent.repeat_interval);
    own.wait_for_repair = keys.duration_or("wait_for_repair", parent.wait_for_repair);
    own.matchers = keys.section("matchers").and_then(|node| reader.selector(node)).unwrap_or_default();
    own.continue_ = keys.boolean("continue");
    // not the parent's: each route says its own
    own.hours = Hours {
        mute: intervals(reader, keys, "mute_time_intervals", named.intervals),
        active: intervals(reader, keys, "active_time_intervals", named.intervals),
    };
    let children = keys.section("routes").map(|node| reader.list(node, "a list of routes")).unwrap_or_default();
    if depth >= MAX_DEPTH && !children.is_empty() {
        reader.error(keys.span, "too-deep", format!("routes lie at most {MAX_DEPTH} deep"));
        return own;
    }
    for (index, child) in children.iter().enumerate() {
        if let Some(keys) = Keys::of(reader, &schema::ROUTE, child) {
            let child = route(reader, &keys, &own, format!("{path}/{index}"), named, depth + 1);
            own.routes.push(child);
        }
    }
    own
}

/// Names of time intervals that are defined.
fn intervals(reader: &Reader<'_>, keys: &Keys<'_>, key: &'static str, known: &TimeIntervals) -> Vec<SmolStr> {
    let items = keys.section(key).map(|node| reader.list(node, "a list of names of time intervals"));
    let mut names = Vec::new();
    for node in items.unwrap_or_default() {
        let Some(name) = reader.text(node) else { continue };
        if !known.contains_key(name.as_str()) {
            let known = known.keys().map(SmolStr::as_str);
            reader.unknown(node.span, "unknown-interval", "time interval", &name, known);
        }
        names.push(SmolStr::from(name));
    }
    names
}
