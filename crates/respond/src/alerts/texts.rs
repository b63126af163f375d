//! An alert's texts: what detect is asked to render, and what stands there when it cannot.

use super::Alert;
use super::entry::Entry;
use crate::queries::Purpose;
use crate::turn::Turn;
use selfheal_messages::{Context, QueryKind, RenderedText};
use selfheal_model::{AlertKey, Labels};
use selfheal_policy::rule::Rule;

/// A text that failed says so in at most so many characters of the reason.
const MAX_REASON_CHARS: usize = 200;

/// The labels of an alert from elsewhere that say where it is, the best first.
const PLACES: [&str; 5] = ["deployment", "instance", "pod", "service", "job"];

/// `HighCpu on checkout`
pub(super) fn built_in(key: &AlertKey) -> String {
    if key.scope.is_empty() {
        return key.rule.to_string();
    }
    if key.is_posted() {
        // all its labels would be no sentence
        let place = PLACES.into_iter().find_map(|name| key.scope.get(name));
        return place.map_or_else(|| key.rule.to_string(), |place| format!("{} on {place}", key.rule));
    }
    let places: Vec<_> = key.scope.iter().map(|(_, value)| value).collect();
    format!("{} on {}", key.rule, places.join(", "))
}

/// What detect rendered for an alert, or why it could not.
pub struct Rendered {
    pub summary: Option<RenderedText>,
    pub annotations: Vec<(String, RenderedText)>,
}

/// Asks detect for the texts of the alert. Returns whether its rule has any.
pub(super) fn ask(turn: &mut Turn<'_>, entry: &Entry, rule: &Rule) -> bool {
    if rule.summary.is_none() && rule.annotations.is_empty() {
        return false;
    }
    let alert = &entry.alert;
    let context = Context {
        deployment: alert.deployment.clone(),
        alert: Some(alert.key.clone()),
        labels: alert.labels.clone(),
        value: alert.value,
        severity: Some(alert.severity),
        ..Context::default()
    };
    let annotations = rule.annotations.iter().map(|(name, template)| (name.to_string(), template.clone())).collect();
    let kind = QueryKind::AlertTexts { summary: rule.summary.clone(), annotations };
    turn.query(Purpose::AlertTexts(alert.key.clone()), context, kind);
    true
}

/// Takes over what was rendered. `None`: detect did not answer, and each text says so.
pub(super) fn take(alert: &mut Alert, rule: &Rule, rendered: Option<Rendered>) {
    let unanswered = || Err("it was not answered".to_owned());
    let Rendered { summary, mut annotations } =
        rendered.unwrap_or_else(|| Rendered { summary: None, annotations: Vec::new() });
    alert.summary = match rule.summary.as_ref().map(|_| summary.unwrap_or_else(unanswered)) {
        None => built_in(&alert.key),
        Some(Ok(text)) => text,
        Some(Err(why)) => format!("{} (its summary failed: {})", built_in(&alert.key), shortened(&why)),
    };
    alert.annotations = rule
        .annotations
        .iter()
        .map(|(name, _)| {
            let place = annotations.iter().position(|(rendered, _)| rendered.as_str() == name.as_str());
            let text = place.map_or_else(unanswered, |place| annotations.swap_remove(place).1);
            (name.as_str(), text.unwrap_or_else(|why| format!("(failed: {})", shortened(&why))))
        })
        .collect::<Labels>();
}

fn shortened(why: &str) -> String {
    if why.chars().count() <= MAX_REASON_CHARS {
        return why.to_owned();
    }
    why.chars().take(MAX_REASON_CHARS).chain(['…']).collect()
}
