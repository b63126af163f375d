//! Attributes as labels.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::Value;
use smol_str::SmolStr;

use super::message::{AnyValue, KeyValue};
use super::names;
use crate::formats::{ForeignLabels, MAX_LABELS, NAME_LABEL, Shared};

/// Puts attributes to the labels that are there; of two with one name the later wins. The labels are in order after it,
/// and there is room for one more, `le` or `quantile`.
pub(super) fn put(attributes: &[KeyValue], labels: &mut ForeignLabels, shared: &mut Shared) -> Result<(), String> {
    let too_many = || Err(format!("it has over {} attributes", MAX_LABELS - 1));
    if attributes.len() >= MAX_LABELS {
        return too_many();
    }
    for KeyValue { key, value } in attributes {
        let name = names::label(key);
        let text = value.as_ref().map(text).unwrap_or_default();
        if !name.is_empty() && name != NAME_LABEL && !text.is_empty() {
            labels.push((shared.get(&name), shared.get(&text)));
        }
    }
    // Stable, so that of two with one name the later stands behind.
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    if labels.len() >= MAX_LABELS { too_many() } else { Ok(()) }
}

/// Sets one label among those that are there in order.
pub(super) fn set(name: &'static str, value: &str, labels: &mut ForeignLabels, shared: &mut Shared) {
    let place = place_of(name, labels);
    labels[place].1 = shared.get(value);
}

/// Where the label stands; it is put there, empty, if it was not.
pub(super) fn place_of(name: &'static str, labels: &mut ForeignLabels) -> usize {
    labels.binary_search_by(|label| label.0.as_str().cmp(name)).unwrap_or_else(|place| {
        labels.insert(place, (SmolStr::new_static(name), SmolStr::default()));
        place
    })
}

/// Lists are written as JSON, bytes in base64.
fn text(value: &AnyValue) -> Cow<'_, str> {
    match value {
        AnyValue { string_value: Some(text), .. } => Cow::Borrowed(text),
        AnyValue { bool_value: Some(truth), .. } => Cow::Borrowed(if *truth { "true" } else { "false" }),
        AnyValue { int_value: Some(number), .. } => Cow::Owned(number.to_string()),
        AnyValue { double_value: Some(number), .. } => Cow::Owned(number.to_string()),
        AnyValue { bytes_value: Some(bytes), .. } => Cow::Owned(base64(bytes)),
        AnyValue { array_value: None, kvlist_value: None, .. } => Cow::Borrowed(""),
        list => Cow::Owned(json(list).to_string()),
    }
}

fn json(value: &AnyValue) -> Value {
    match value {
        AnyValue { array_value: Some(array), .. } => array.values.iter().map(json).collect(),
        AnyValue { kvlist_value: Some(list), .. } => {
            let pair = |pair: &KeyValue| (pair.key.clone(), pair.value.as_ref().map_or(Value::Null, json));
            Value::Object(list.values.iter().map(pair).collect())
        }
        AnyValue { string_value: Some(text), .. } => text.as_str().into(),
        AnyValue { bool_value: Some(truth), .. } => (*truth).into(),
        AnyValue { int_value: Some(number), .. } => (*number).into(),
        AnyValue { double_value: Some(number), .. } => (*number).into(),
        AnyValue { bytes_value: Some(bytes), .. } => base64(bytes).into(),
        _ => Value::Null,
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
