//! An alert's texts: what detect is asked to render, and what stands there when it cannot.

use super::Alert;
use super::entry::Entry;
use selfheal_messages::{Ask, AskId, Context, Question, Reply};
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

/// The question for the alert's texts; `None` where the rule has none.
pub(super) fn ask(entry: &Entry, rule: &Rule) -> Option<Ask> {
    let annotations = rule.annotations.iter().map(|(_, template)| template);
    let questions: Vec<_> = rule.summary.iter().chain(annotations).cloned().map(Question::Text).collect();
    if questions.is_empty() {
        return None;
    }
    let alert = &entry.alert;
    Some(Ask {
        id: AskId::AlertTexts(alert.key.clone()),
        context: Context {
            deployment: alert.deployment.clone(),
            alert: Some(alert.key.clone()),
            labels: alert.labels.clone(),
            value: alert.value,
            severity: Some(alert.severity),
            ..Context::default()
        },
        questions,
    })
}

/// Takes over what was rendered, in the order of [`ask`].
pub(super) fn take(alert: &mut Alert, rule: &Rule, replies: Vec<Reply>) {
    let mut replies = replies.into_iter().map(|reply| match reply {
        Reply::Text(text) => text,
        Reply::Truth { .. } | Reply::Params(_) => Err("it was answered with no text".to_owned()),
    });
    let mut next = || replies.next().unwrap_or_else(|| Err("it was not answered".to_owned()));
    alert.summary = match rule.summary.as_ref().map(|_| next()) {
        None => built_in(&alert.key),
        Some(Ok(text)) => text,
        Some(Err(why)) => format!("{} (its summary failed: {})", built_in(&alert.key), shortened(&why)),
    };
    alert.annotations = rule
        .annotations
        .iter()
        .map(|(name, _)| {
            let text = next().unwrap_or_else(|why| format!("(failed: {})", shortened(&why)));
            (name.as_str(), text)
        })
        .collect::<Labels>();
}

fn shortened(why: &str) -> String {
    if why.chars().count() <= MAX_REASON_CHARS {
        return why.to_owned();
    }
    why.chars().take(MAX_REASON_CHARS).chain(['…']).collect()
}
