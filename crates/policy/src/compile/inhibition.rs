//! `inhibit_rules:`, as Alertmanager writes them.

use super::keys::Keys;
use super::reader::Reader;
use super::yaml::Node;
use crate::inhibit::InhibitRule;
use crate::schema;

/// What says which alerts stand on which side; all but the first two are Alertmanager's old forms.
const SIDES: [&str; 6] =
    ["source_matchers", "target_matchers", "source_match", "source_match_re", "target_match", "target_match_re"];

pub(crate) fn read(reader: &Reader<'_>, node: Option<&Node>) -> Vec<InhibitRule> {
    let items = node.map(|node| reader.list(node, "a list of inhibit rules")).unwrap_or_default();
    items.iter().filter_map(|item| rule(reader, item)).collect()
}

fn rule(reader: &Reader<'_>, node: &Node) -> Option<InhibitRule> {
    let keys = Keys::of(reader, &schema::INHIBIT_RULE, node)?;
    let side = |key| keys.section(key).and_then(|node| reader.selector(node)).unwrap_or_default();
    let (source, target) = (side("source_matchers"), side("target_matchers"));
    let equal = keys.section("equal").and_then(|node| reader.texts(node)).unwrap_or_default();
    // an alert that is on both sides is held back by no other that is, too
    let is_selective = SIDES.iter().any(|key| keys.has(key));
    if !is_selective {
        let message = "without matchers every alert is on both sides, so this inhibits nothing";
        reader.error_with_help(
            node.span,
            "missing-key",
            message,
            "write `source_matchers:` (what holds back) and `target_matchers:` (what is held back)",
        );
    }
    Some(InhibitRule { source, target, equal: equal.into_iter().map(Into::into).collect() })
}
